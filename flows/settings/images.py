"""What `images_to_qdrant` is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

from bytewax.inputs import Source
from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode
from typing_extensions import Self, override

from flows.settings.engine import Engine, Numbers
from flows.settings.incoming import KEY_FORMAT, Incoming
from flows.settings.models import NONE, OptionalName
from flows.settings.process import PREFIX, Names, OptionalNames, listed
from flows.settings.store import DeadLetters, Store
from operators import (
    FetchImages,
    ImageFolderSource,
    ImageStage,
    Message,
    MultimodalStage,
    MuveraStage,
    Schema,
    VectorSpace,
    Web,
)
from operators.keys import KeyFormat
from operators.spaces import Distance

__all__ = ["ImageSettings", "PictureStage"]

PictureStage: TypeAlias = ImageStage | MultimodalStage | MuveraStage
Folders = Annotated[tuple[Path, ...], NoDecode]


class Pictures(Incoming):
    """How images come in."""

    input_folder: Path | None = Field(None, description="read the images below this folder")
    format: Literal["bytes", "json"] = Field(
        "bytes", description="the value is an image, or a JSON object that leads to one"
    )
    key_field: str | None = Field(None, description="JSON field of the key; else the message's key")
    key_format: KeyFormat = Field("text", description=KEY_FORMAT)
    image_field: str = Field("image", description="JSON field of the image")
    image_as: Literal["base64", "path", "url"] = Field("base64", description="what stands there")
    payload_fields: OptionalNames = Field(
        None, description="fields to store, none may miss; else the whole object"
    )
    max_image_bytes: int = Field(16 << 20, description="larger images become dead letters")
    image_folders: Folders = Field((), description="where paths may lead, with commas")
    image_hosts: Names = Field((), description="hosts that may be asked for URLs; none unless told")
    image_ports: Numbers = Field((), description="other ports of theirs than 443 (80 of http)")
    image_http: bool = Field(default=False, description="allow http:// beside https://")
    image_private: bool = Field(
        default=False, description="allow the own network, but no metadata of clouds"
    )
    image_timeout_s: float = Field(15.0, description="seconds for one image, all tries included")

    # A batch has all its images in memory, and a graph for images is full with few.
    window_records: int = Field(64, description="images of one window")

    _inputs: ClassVar[tuple[str, ...]] = ("kafka_topics", "input_file", "input_folder")
    _split = field_validator(
        "image_folders", "image_hosts", "image_ports", "payload_fields", mode="before"
    )(listed)

    @model_validator(mode="after")
    def _as_it_is_given(self) -> Self:
        if self.input_folder is not None and self.format != "bytes":
            msg = f"{PREFIX}INPUT_FOLDER has images: {PREFIX}FORMAT must be bytes, as by default"
            raise ValueError(msg)
        if self.input_file is not None and self.format != "json":
            msg = f"{PREFIX}INPUT_FILE has lines: {PREFIX}FORMAT must be json"
            raise ValueError(msg)
        if self.format == "json" and self.image_as == "path" and not self.image_folders:
            msg = f"{PREFIX}IMAGE_AS=path: {PREFIX}IMAGE_FOLDERS must say which folders may be read"
            raise ValueError(msg)
        if self.format == "json" and self.image_as == "url" and not self.image_hosts:
            msg = f"{PREFIX}IMAGE_AS=url: {PREFIX}IMAGE_HOSTS must say which hosts may be asked"
            raise ValueError(msg)
        return self

    @property
    @override
    def source(self) -> Source[Message]:
        if self.input_folder is not None:
            return ImageFolderSource(self.input_folder, self.pages, max_bytes=self.max_image_bytes)
        return super().source

    @property
    def schema_(self) -> Schema:
        """How a message is read."""
        if self.format == "bytes":
            return Schema(
                format="bytes", key_format=self.key_format, max_image_bytes=self.max_image_bytes
            )
        return Schema(
            key=self.key_field,
            key_format=self.key_format,
            text=None,
            image=self.image_field,
            image_as=self.image_as,
            payload=self.payload_fields,
            max_image_bytes=self.max_image_bytes,
        )

    @property
    def fetch(self) -> FetchImages:
        """How a text becomes an image."""
        web = None
        if self.image_hosts:
            web = Web(
                hosts=self.image_hosts,
                ports=self.image_ports,
                plain_http=self.image_http,
                private=self.image_private,
                max_bytes=self.max_image_bytes,
                timeout_s=self.image_timeout_s,
            )
        return FetchImages(
            given_as="bytes" if self.format == "bytes" else self.image_as,
            folders=self.image_folders,
            web=web,
            max_bytes=self.max_image_bytes,
        )


class ImageSettings(Store, Engine, Pictures, DeadLetters):
    """Models over one image."""

    model: OptionalName = Field(
        "Qdrant/clip-ViT-B-32-vision", description=f"of the vector `image`; {NONE} leaves it out"
    )
    model_folder: Path | None = Field(None, description="take its files from here")
    distance: Distance = Field("cosine", description="how its vectors compare")
    pages_model: OptionalName = Field(
        None, description="of the multivector `pages`, such as Qdrant/colpali-v1.3-fp16"
    )
    pages_folder: Path | None = Field(None, description="take its files from here")
    muvera: bool = Field(
        default=True, description="write the vector `muvera`, which finds what `pages` rescores"
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.model is None and self.pages_model is None:
            names = f"{PREFIX}MODEL and {PREFIX}PAGES_MODEL"
            msg = f"{names} are both {NONE}; one has to write a vector"
            raise ValueError(msg)
        return self

    def stages(self) -> tuple[PictureStage, ...]:
        """Give what embeds, in the order in which a batch meets it."""
        stages: list[PictureStage] = []
        if self.model is not None:
            image = ImageStage(
                model=self.model,
                folder=self.model_folder,
                fetching=self.fetching,
                runtime=self.runtime,
            )
            stages.append(image)
        if self.pages_model is not None:
            pages = MultimodalStage(
                model=self.pages_model,
                vector="pages",
                folder=self.pages_folder,
                fetching=self.fetching,
                runtime=self.runtime,
            )
            stages += [pages, MuveraStage(of=pages)] if self.muvera else [pages]
        return tuple(stages)

    def spaces(self, stages: tuple[PictureStage, ...]) -> dict[str, VectorSpace]:
        """Tell what the collection has to hold; opens the models."""
        spaces = {stage.vector: stage.space() for stage in stages}
        if "image" in spaces:
            spaces["image"] = replace(spaces["image"], distance=self.distance)
        if "pages" in spaces:
            spaces["pages"] = replace(spaces["pages"], indexed=not self.muvera)
        return spaces

"""fastembed's class for images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal, cast

from typing_extensions import Unpack

from fastembed_stream.families.dense_image import DenseImage
from fastembed_stream.fastembed_api.descriptions import ModelSource
from fastembed_stream.fastembed_api.drop_in import Described, DropIn
from fastembed_stream.fastembed_api.unused import pass_over
from fastembed_stream.kinds import IMAGE
from fastembed_stream.pixels import is_image
from fastembed_stream.values import Floats, ImageInput

__all__ = ["ImageEmbedding", "images_of"]


class ImageEmbedding(DropIn[ImageInput, ImageInput, Floats]):
    """
    Dense vectors for images.

    Beyond fastembed's arguments the constructor takes `upright` and `max_pixels`, the fields of
    `DenseImage`.
    """

    _kind: ClassVar = IMAGE

    def embed(
        self,
        images: ImageInput | Iterable[ImageInput],
        batch_size: int = 16,
        parallel: int | None = None,
        **kwargs: object,
    ) -> Iterator[Floats]:
        """
        Give one vector for each image, in order, as they are ready.

        images      one image, or any iterable of them, read lazily: paths, bytes of files, open
                    files, base64 text, images of Pillow
        batch_size  images that are planned together
        parallel    accepted; lanes use all cores anyway
        kwargs      accepted, with a warning: nothing here takes them
        yields      float32[dim]
        raises      ImageError that names the first image that cannot be read, by its position in
                    `images`; those of the batches before it are answered first
        """
        del parallel
        pass_over(f"{type(self).__name__}.embed", kwargs)
        return self._documents(images_of(images), batch_size)

    @classmethod
    def add_custom_model(
        cls,
        model: str,
        sources: ModelSource,
        dim: int,
        model_file: str = "onnx/model.onnx",
        *,
        pooling: Literal["none", "cls"] = "none",
        normalization: bool = True,
        output_name: str | None = None,
        **told: Unpack[Described],
    ) -> None:
        """
        Make an image model of your own known by name, for this process; fastembed has no such call.

        pooling      'none' where the graph pools by itself, 'cls' for the first patch
        output_name  which output of the graph holds the vectors; the first unless told
        raises       SettingError if the name is taken
        """
        recipe = DenseImage(pooling=pooling, normalize=normalization, output=output_name or 0)
        cls._add(model, recipe, sources, dim=dim, model_file=model_file, **told)


def images_of(images: ImageInput | Iterable[ImageInput]) -> Iterable[ImageInput]:
    """Take one image as a list of one."""
    return (
        [cast("ImageInput", images)] if is_image(images) else cast("Iterable[ImageInput]", images)
    )

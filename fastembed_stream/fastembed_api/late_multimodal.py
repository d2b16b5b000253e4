"""fastembed's class for late interaction over pages and questions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from typing_extensions import Unpack

from fastembed_stream.embedder import Embedder
from fastembed_stream.families.colmodernvbert import ColModernVbert
from fastembed_stream.families.colpali import ColPali
from fastembed_stream.families.page_queries import PageQueries
from fastembed_stream.fastembed_api.descriptions import ModelSource
from fastembed_stream.fastembed_api.drop_in import Described, DropIn, counted, listed
from fastembed_stream.fastembed_api.image import images_of
from fastembed_stream.fastembed_api.unused import pass_over
from fastembed_stream.kinds import LATE_MULTIMODAL
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.values import Floats, ImageInput

__all__ = ["LateInteractionMultimodalEmbedding"]


class LateInteractionMultimodalEmbedding(DropIn[ImageInput, str, Floats]):
    """
    A vector for each patch of images and for each token of texts.

    Beyond fastembed's arguments the constructor takes `upright` and `max_pixels`, the fields of
    `ColPali` and `ColModernVbert`.
    """

    _kind: ClassVar = LATE_MULTIMODAL

    def embed_image(
        self,
        images: ImageInput | Iterable[ImageInput],
        batch_size: int = 2,
        parallel: int | None = None,
        **kwargs: object,
    ) -> Iterator[Floats]:
        """
        Give the vectors of each image, in order, as they are ready.

        images      one image, or any iterable of them, read lazily: paths, bytes of files, open
                    files, base64 text, images of Pillow
        batch_size  images that are planned together
        parallel    accepted; lanes use all cores anyway
        kwargs      accepted, with a warning: nothing here takes them
        yields      float32[n_tokens, dim], no padding among them
        raises      ImageError that names the first image that cannot be read, by its position in
                    `images`; those of the batches before it are answered first
        """
        del parallel
        pass_over(f"{type(self).__name__}.embed_image", kwargs)
        return self._documents(images_of(images), batch_size)

    def embed_text(
        self,
        documents: str | Iterable[str],
        batch_size: int = 256,
        parallel: int | None = None,
        **kwargs: object,
    ) -> Iterator[Floats]:
        """
        Give the vectors of each text, as queries, in order, as they are ready.

        yields  float32[n_tokens, dim], no padding among them
        """
        del parallel
        pass_over(f"{type(self).__name__}.embed_text", kwargs)
        return self._queries(listed(documents), batch_size)

    @classmethod
    def add_custom_model(
        cls,
        model: str,
        recipe: ColPali | ColModernVbert,
        sources: ModelSource,
        dim: int,
        model_file: str = "model.onnx",
        **told: Unpack[Described],
    ) -> None:
        """
        Make a model of your own known by name, for this process; fastembed has no such method.

        recipe  markers, prompts and how pages are cut: `ColPali` or `ColModernVbert`
        raises  SettingError if the name is taken
        """
        cls._add(model, recipe, sources, dim=dim, model_file=model_file, **told)

    def token_count(
        self,
        texts: str | Iterable[str],
        batch_size: int = 1024,
        include_extension: bool = False,  # noqa: FBT001, FBT002  fastembed's signature
        **kwargs: object,
    ) -> int:
        """
        Count the tokens of texts, special tokens included, after truncation.

        include_extension  count also what the model puts around a query
        """
        pass_over(f"{type(self).__name__}.token_count", kwargs)
        queries = self._opened().queries
        extended = queries if include_extension else _bare(queries)
        return counted(extended, listed(texts), batch_size)


def _bare(queries: Embedder[str, Floats]) -> Embedder[str, Floats]:
    match queries:
        case OnnxEmbedder(family=PageQueries() as family):
            return queries.with_family(family.bare())
        case _:
            return queries

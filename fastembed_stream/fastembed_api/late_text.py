"""fastembed's class for late interaction over text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import ClassVar

from fastembed_stream.embedder import Embedder
from fastembed_stream.families.colbert import ColbertFamily
from fastembed_stream.fastembed_api.drop_in import DropIn, counted, listed, prompted, summed
from fastembed_stream.fastembed_api.names import ModelSource
from fastembed_stream.recipes import LATE_TEXT, Colbert, TokenEmbeddings
from fastembed_stream.values import Floats

__all__ = ["LateInteractionTextEmbedding"]


class LateInteractionTextEmbedding(DropIn[str, str, Floats]):
    """A vector for each token of texts."""

    _kind: ClassVar = LATE_TEXT

    def embed(
        self,
        documents: str | Iterable[str],
        batch_size: int = 256,
        parallel: int | None = None,
    ) -> Iterator[Floats]:
        """
        Give the vectors of each document's tokens, in order, as they are ready.

        documents   one text, or any iterable of them, read lazily
        batch_size  texts that are sorted and packed together
        parallel    accepted; lanes use all cores anyway
        yields      float32[n_tokens_kept, dim]
        """
        del parallel
        return self._documents(listed(documents), batch_size)

    def query_embed(
        self, query: str | Iterable[str], batch_size: int = 256, parallel: int | None = None
    ) -> Iterator[Floats]:
        """
        Give the vectors of each query's tokens, its fill of masks included.

        query   one text, or any iterable of them, read lazily
        yields  float32[n_tokens, dim]
        """
        del parallel
        return self._queries(self._prompted(query, self._model.query_prompt), batch_size)

    def passage_embed(
        self, texts: str | Iterable[str], batch_size: int = 256, parallel: int | None = None
    ) -> Iterator[Floats]:
        """Embed passages, as `embed` does."""
        del parallel
        return self._documents(self._prompted(texts, self._model.passage_prompt), batch_size)

    def token_count(
        self,
        texts: str | Iterable[str],
        batch_size: int = 1024,
        is_doc: bool = True,  # noqa: FBT001, FBT002  fastembed's signature
        include_extension: bool = False,  # noqa: FBT001, FBT002  fastembed's signature
    ) -> int:
        """
        Count the tokens, special tokens included, after truncation.

        texts              one text, or any iterable of them
        batch_size         texts that are read together
        is_doc             whether they are documents, and not queries
        include_extension  whether markers, and the masks that fill queries, count too
        """
        opened = self._opened()
        match opened.documents if is_doc else opened.queries:
            case Embedder(family=ColbertFamily() as family):
                count = partial(family.count, include_extension=include_extension)
                return summed(count, listed(texts), batch_size)
            case embeds:
                return counted(embeds, listed(texts), batch_size)

    @classmethod
    def add_custom_model(  # noqa: PLR0917  as in fastembed's other classes
        cls,
        model: str,
        recipe: Colbert | TokenEmbeddings,
        sources: ModelSource,
        dim: int,
        model_file: str = "onnx/model.onnx",
        description: str = "",
        license: str = "",  # noqa: A002  as in fastembed's other classes
        size_in_gb: float = 0.0,
        additional_files: list[str] | None = None,
    ) -> None:
        """
        Make a model of your own known by name, for this process; fastembed has no such method.

        recipe  markers, lengths and what is skipped: `Colbert`; or `TokenEmbeddings`
        raises  SettingError if the name is taken
        """
        cls._add(
            model,
            recipe,
            sources,
            dim=dim,
            model_file=model_file,
            description=description,
            license=license,
            size_in_gb=size_in_gb,
            additional_files=additional_files,
        )

    def _prompted(self, texts: str | Iterable[str], prompt: str) -> Iterable[str]:
        return prompted(texts, prompt) if self._prompts else listed(texts)

"""What fastembed's classes for texts share, dense, sparse and late."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from fastembed_stream.fastembed_api.drop_in import DropIn, counted, listed, prompted
from fastembed_stream.fastembed_api.unused import pass_over

__all__ = ["TextDropIn"]

Answer = TypeVar("Answer")


class TextDropIn(DropIn[str, str, Answer]):
    """A model of texts behind fastembed's methods for them."""

    def embed(
        self,
        documents: str | Iterable[str],
        batch_size: int = 256,
        parallel: int | None = None,
        **kwargs: Any,  # noqa: ANN401  a subclass may take some of them
    ) -> Iterator[Answer]:
        """
        Give the answer for each text, in order, as they are ready.

        documents   one text, or any iterable of them, read lazily
        batch_size  texts that are sorted and packed together
        parallel    accepted; lanes use all cores anyway
        kwargs      accepted, with a warning: nothing here takes them
        yields      float32[dim]; or indices and values; or float32[n_tokens_kept, dim]
        """
        del parallel
        pass_over(f"{type(self).__name__}.embed", kwargs)
        return self._documents(listed(documents), batch_size)

    def query_embed(
        self,
        query: str | Iterable[str],
        batch_size: int = 256,
        parallel: int | None = None,
        **kwargs: object,
    ) -> Iterator[Answer]:
        """Embed queries, in the model's own way for them where it has one."""
        del parallel
        pass_over(f"{type(self).__name__}.query_embed", kwargs)
        return self._queries(self._prompted(query, self._model.query_prompt), batch_size)

    def passage_embed(
        self,
        texts: str | Iterable[str],
        batch_size: int = 256,
        parallel: int | None = None,
        **kwargs: object,
    ) -> Iterator[Answer]:
        """Embed passages, in the model's own way for them where it has one."""
        del parallel
        pass_over(f"{type(self).__name__}.passage_embed", kwargs)
        return self._documents(self._prompted(texts, self._model.passage_prompt), batch_size)

    def token_count(
        self,
        texts: str | Iterable[str],
        batch_size: int = 1024,
        **kwargs: Any,  # noqa: ANN401  a subclass may take some of them
    ) -> int:
        """
        Count the tokens that would be run, special tokens included, after truncation.

        BM25 counts words, stop words included.
        """
        pass_over(f"{type(self).__name__}.token_count", kwargs)
        return counted(self._opened().documents, listed(texts), batch_size)

    def _prompted(self, texts: str | Iterable[str], prompt: str) -> Iterable[str]:
        return prompted(texts, prompt) if self._prompts else listed(texts)

"""fastembed's class for sparse text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from fastembed_stream.errors import SettingError
from fastembed_stream.fastembed_api.drop_in import DropIn, counted, listed
from fastembed_stream.fastembed_api.names import ModelSource
from fastembed_stream.recipes import SPARSE_TEXT, Recipe
from fastembed_stream.values import SparseEmbedding

__all__ = ["SparseTextEmbedding"]


class SparseTextEmbedding(DropIn[str, str, SparseEmbedding]):
    """
    Sparse vectors for texts.

    Options of a model's recipe are arguments too: k, b, avg_len, language, token_max_length,
    disable_stemmer, stemmer, stopwords and tokenizer of BM25; alpha of BM42; k, b and avg_len of
    MiniCOIL.

    >>> model = SparseTextEmbedding("Qdrant/bm25")
    >>> [vector] = model.query_embed("the streams")
    >>> vector.as_dict()
    {771713658: 1.0}
    """

    _kind: ClassVar = SPARSE_TEXT
    _misspelt: ClassVar = {"prithvida/splade_pp_en_v1": "prithivida/Splade_PP_en_v1"}

    def embed(
        self, documents: str | Iterable[str], batch_size: int = 256, parallel: int | None = None
    ) -> Iterator[SparseEmbedding]:
        """
        Give one vector for each text, in order, as they are ready.

        documents   one text, or any iterable of them, read lazily
        batch_size  texts that are sorted and packed together
        parallel    accepted; lanes use all cores anyway
        """
        del parallel
        return self._documents(listed(documents), batch_size)

    def query_embed(
        self, query: str | Iterable[str], batch_size: int = 256, parallel: int | None = None
    ) -> Iterator[SparseEmbedding]:
        """Give one vector for each query; BM25, BM42 and inference-free SPLADE run no graph."""
        del parallel
        return self._queries(listed(query), batch_size)

    def passage_embed(
        self, texts: str | Iterable[str], batch_size: int = 256, parallel: int | None = None
    ) -> Iterator[SparseEmbedding]:
        """Give one vector for each passage, as `embed` does."""
        return self.embed(texts, batch_size, parallel)

    def token_count(self, texts: str | Iterable[str], batch_size: int = 1024) -> int:
        """
        Count the tokens that would be run, special tokens included, after truncation.

        BM25 counts words, stop words included.
        """
        return counted(self._opened().documents, listed(texts), batch_size)

    @classmethod
    def add_custom_model(  # noqa: PLR0917  as in fastembed's other classes
        cls,
        model: str,
        recipe: Recipe,
        sources: ModelSource,
        model_file: str = "onnx/model.onnx",
        description: str = "",
        license: str = "",  # noqa: A002  fastembed's argument
        size_in_gb: float = 0.0,
        additional_files: list[str] | None = None,
    ) -> None:
        """
        Make a model of your own known by name, for this process; fastembed has no such way.

        recipe  Splade, InferenceFreeSplade, Bm25, Bm42 or MiniCoil
        raises  SettingError if the name is taken, or for a recipe of another kind
        """
        if recipe.kind != cls._kind:
            msg = f"{type(recipe).__name__} makes {recipe.kind.name}, not {cls._kind.name}."
            raise SettingError(msg)
        cls._add(
            model,
            recipe,
            sources,
            model_file=model_file,
            description=description,
            license=license,
            size_in_gb=size_in_gb,
            additional_files=additional_files,
        )

"""fastembed's classes for sparse text."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, ClassVar

from typing_extensions import Unpack

from fastembed_stream.fastembed_api.descriptions import ModelSource
from fastembed_stream.fastembed_api.drop_in import Described
from fastembed_stream.fastembed_api.texts import TextDropIn
from fastembed_stream.kinds import SPARSE_TEXT
from fastembed_stream.recipe import Recipe
from fastembed_stream.values import SparseEmbedding
from fastembed_stream.words import Stemmer, token_id

__all__ = ["Bm25", "SparseTextEmbedding"]


class SparseTextEmbedding(TextDropIn[SparseEmbedding]):
    """
    Sparse vectors for texts; queries of BM25, BM42 and inference-free SPLADE run no graph.

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

    @classmethod
    def add_custom_model(
        cls,
        model: str,
        recipe: Recipe,
        sources: ModelSource,
        model_file: str = "onnx/model.onnx",
        **told: Unpack[Described],
    ) -> None:
        """
        Make a model of your own known by name, for this process; fastembed has no such way.

        recipe  Splade, InferenceFreeSplade, Bm25, Bm42 or MiniCoil
        raises  SettingError if the name is taken, or for a recipe of another kind
        """
        cls._add(model, recipe, sources, model_file=model_file, **told)


class Bm25(SparseTextEmbedding):
    """
    BM25 by the name and the arguments that fastembed's class of one model has.

    >>> [vector] = Bm25("Qdrant/bm25", k=2.0).raw_embed(["streams"])
    >>> list(vector.indices) == [Bm25.compute_token_id("stream")]
    True
    """

    def __init__(  # noqa: PLR0917  fastembed's signature
        self,
        model_name: str = "Qdrant/bm25",
        cache_dir: str | None = None,
        k: float = 1.2,
        b: float = 0.75,
        avg_len: float = 256.0,
        language: str = "english",
        token_max_length: int = 40,
        disable_stemmer: bool = False,  # noqa: FBT001, FBT002  fastembed's signature
        specific_model_path: str | None = None,
        stemmer: Stemmer | None = None,
        stopwords: Collection[str] | None = None,
        **options: Any,  # noqa: ANN401  the constructor's own, whatever they are
    ) -> None:
        super().__init__(
            model_name,
            cache_dir,
            specific_model_path=specific_model_path,
            k=k,
            b=b,
            avg_len=avg_len,
            language=language,
            token_max_length=token_max_length,
            disable_stemmer=disable_stemmer,
            stemmer=stemmer,
            stopwords=stopwords,
            **options,
        )

    def raw_embed(self, documents: Iterable[str]) -> list[SparseEmbedding]:
        """Give the vectors of documents at once."""
        return list(self.embed(documents))

    @classmethod
    def compute_token_id(cls, token: str) -> int:
        """Give the dimension of a stem."""
        return token_id(token)

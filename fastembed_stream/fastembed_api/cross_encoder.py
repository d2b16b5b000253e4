"""fastembed's class for reranking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, cast

from fastembed_stream.counts import is_count
from fastembed_stream.families.cross_encoder import CrossEncoder
from fastembed_stream.fastembed_api.descriptions import ModelSource
from fastembed_stream.fastembed_api.drop_in import DropIn, counted, listed
from fastembed_stream.fastembed_api.unused import pass_over
from fastembed_stream.kinds import CROSS_ENCODER
from fastembed_stream.rows import rows_in
from fastembed_stream.values import Pair

__all__ = ["TextCrossEncoder"]

_WINDOW = 1024
"""Rows of a list that are planned together at least: they are here anyway, and a wider choice of
lengths wastes less padding. Memory is bounded by tokens, not by rows."""


class TextCrossEncoder(DropIn[Pair, Pair, float]):
    """
    Scores for queries and documents that are read together.

    The higher a score, the better a document answers the query; scores are the model's own, and
    compare within one model alone.
    """

    _kind: ClassVar = CROSS_ENCODER

    def rerank(
        self,
        query: str,
        documents: Iterable[str],
        batch_size: int = 64,
        parallel: int | None = None,
        **kwargs: object,
    ) -> Iterator[float]:
        """
        Score documents for one query, in order, as they are ready.

        documents   any iterable, read lazily
        batch_size  documents that are sorted and packed together; a list is taken in larger parts
        parallel    accepted; lanes use all cores anyway
        kwargs      accepted, with a warning: nothing here takes them
        yields      a score of float32's precision
        """
        del parallel
        pass_over(f"{type(self).__name__}.rerank", kwargs)
        rows = listed(documents)
        return self._documents(((query, row) for row in rows_in(rows)), _window(rows, batch_size))

    def rerank_pairs(
        self,
        pairs: Iterable[Pair] | Pair,
        batch_size: int = 64,
        parallel: int | None = None,
        **kwargs: object,
    ) -> Iterator[float]:
        """
        Score pairs of a query and a document, in order, as they are ready.

        pairs       any iterable, read lazily; or one pair, as a tuple of two texts
        batch_size  pairs that are sorted and packed together; a list is taken in larger parts
        parallel    accepted; lanes use all cores anyway
        kwargs      accepted, with a warning: nothing here takes them
        yields      a score of float32's precision
        """
        del parallel
        pass_over(f"{type(self).__name__}.rerank_pairs", kwargs)
        rows = _listed_pairs(pairs)
        return self._documents(rows, _window(rows, batch_size))

    def token_count(
        self, pairs: Iterable[Pair] | Pair, batch_size: int = 1024, **kwargs: object
    ) -> int:
        """Count the tokens of pairs that would be run, special ones included, after truncation."""
        pass_over(f"{type(self).__name__}.token_count", kwargs)
        return counted(self._opened().documents, _listed_pairs(pairs), batch_size)

    @classmethod
    def add_custom_model(  # noqa: PLR0917  fastembed's signature
        cls,
        model: str,
        sources: ModelSource,
        model_file: str = "onnx/model.onnx",
        description: str = "",
        license: str = "",  # noqa: A002  fastembed's signature
        size_in_gb: float = 0.0,
        additional_files: list[str] | None = None,
    ) -> None:
        """
        Make a model of your own known by name, for this process.

        raises  SettingError if the name is taken
        """
        cls._add(
            model,
            CrossEncoder(),
            sources,
            model_file=model_file,
            description=description,
            license=license,
            size_in_gb=size_in_gb,
            additional_files=additional_files,
        )


def _listed_pairs(pairs: Iterable[Pair] | Pair) -> Iterable[Pair]:
    """Take one pair as a list of one."""
    if isinstance(pairs, tuple) and len(pairs) > 0 and isinstance(pairs[0], str):
        return [cast("Pair", pairs)]
    return cast("Iterable[Pair]", pairs)


def _window(rows: Iterable[object], batch_size: int) -> int:
    """Plan what is in memory anyway in larger parts; what is wrong stays, and is refused."""
    return (
        max(batch_size, _WINDOW)
        if isinstance(rows, Sequence) and is_count(batch_size)
        else batch_size
    )

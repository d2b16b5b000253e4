"""
A vector for each token of a text, compared token by token: ColBERT and its kin.

A marker after the first token tells queries from documents. Documents lose the vectors of their
punctuation; short queries are filled up with masks, whose vectors say what the query left out.

Source: ColBERT, arXiv 2004.12832; ColBERTv2, arXiv 2112.01488.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from typing_extensions import override

from fastembed_stream.embedder import OpenModel
from fastembed_stream.errors import ModelFilesError, SettingError
from fastembed_stream.families.texts import TextFamily, output_name
from fastembed_stream.families.token_embeddings import token_vectors
from fastembed_stream.graphs import check_graph, of_each_token
from fastembed_stream.kinds import LATE_TEXT
from fastembed_stream.located_model import LocatedModel
from fastembed_stream.onnx_embedder import OnnxEmbedder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastembed_stream.tokens import Reading, Tokens
    from fastembed_stream.values import Feeds, Floats, Ints, Outputs

__all__ = ["Colbert", "ColbertDocuments", "ColbertFamily", "ColbertQueries"]

_KEPT = "kept"
"""Goes along with a group's feeds and into no graph: which tokens get a vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Colbert:
    """
    ColBERT and its kin: a vector for each token, behind a marker of queries or of documents.

    query_marker, document_marker  token ids put after the first token
    mask_token                     fills short queries
    query_length                   tokens a query is filled up to, marker aside; None leaves it
    marker_is_counted              whether the marker takes one token of the stated limit
    attend_to_expansion            whether the fill of a query is attended to
    skip_punctuation               whether a document's punctuation gets no vector
    skip_pad_tokens                whether pad tokens that stand in a document's text get none
    normalize_queries              whether a query's vectors are scaled to length one here
    output                         which output of the graph holds the vectors: a name, or a
                                   position

    Source: ColBERTv2, arXiv 2112.01488; Jina-ColBERT-v2, arXiv 2408.16672; PyLate for LateOn.
    """

    kind: ClassVar = LATE_TEXT
    files: ClassVar[tuple[str, ...]] = ()

    query_marker: int
    document_marker: int
    mask_token: str = "[MASK]"  # noqa: S105  not a secret
    query_length: int | None = 31
    marker_is_counted: bool = True
    attend_to_expansion: bool = False
    skip_punctuation: bool = True
    skip_pad_tokens: bool = True
    normalize_queries: bool = False
    output: str | int = 0

    def open(self, located: LocatedModel) -> OpenModel[str, str, Floats]:
        """
        Bind this recipe to a graph.

        raises  SettingError where the graph lacks the wanted output, ModelFilesError where the
                vocabulary lacks the mask
        """
        tokens = located.tokens(
            reserved=1 if self.marker_is_counted else 0, added=0 if self.marker_is_counted else 1
        )
        sessions = located.sessions()
        outputs = (output_name(self.output, sessions[0].outputs),)
        n_filled = 0 if self.query_length is None else self.query_length + 1
        if tokens.n_positions is not None and n_filled > tokens.n_positions:
            msg = (
                f"query_length={self.query_length} and the marker of {located.model.name!r} are "
                f"{n_filled} tokens, but the model has positions for {tokens.n_positions}."
            )
            raise SettingError(msg)
        documents = ColbertDocuments(
            tokens=tokens,
            outputs=outputs,
            marker=self.document_marker,
            normalize=True,
            skipped=_skipped(tokens, self),
        )
        queries = ColbertQueries(
            tokens=tokens,
            outputs=outputs,
            marker=self.query_marker,
            normalize=self.normalize_queries,
            n_filled=n_filled,
            mask_id=tokens.pad_id if self.query_length is None else _mask_id(tokens, self),
            attend=self.attend_to_expansion,
        )
        check_graph(located, sessions[0], documents, of_each_token(located.model.dim))
        embedder = OnnxEmbedder(documents, sessions, budget=located.runtime.token_budget)
        return OpenModel(
            documents=embedder,
            queries=embedder.with_family(queries),
            max_tokens=tokens.limit + 1,  # the marker is a token of the row
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ColbertFamily(TextFamily):
    """
    Texts behind a marker, and the vectors of the tokens that are kept.

    marker     id that is put after the first token
    normalize  whether vectors leave with length one
    """

    marker: int
    normalize: bool

    @override
    def read(self, rows: Sequence[str]) -> Reading:
        """Turn texts into token ids, the marker among them."""
        reading = self.tokens.read(rows)
        marker = np.array([self.marker])
        return replace(
            reading,
            ids=tuple(np.concatenate((ids[:1], marker, ids[1:])) for ids in reading.ids),
            lengths=reading.lengths + 1,
        )

    def count(self, rows: Sequence[str], *, include_extension: bool) -> int:
        """Count the tokens of texts after truncation, with or without marker and fill."""
        reading = self.read(rows)
        if include_extension:
            return int(self.widths(reading).sum())
        return int(reading.lengths.sum()) - len(rows)

    def finish(self, outputs: Outputs, feeds: Feeds) -> list[Floats]:
        """
        Gather the vectors that are kept of one group, then normalize those alone.

        returns  one float32[n_kept, dim] for each row
        """
        [hidden] = outputs
        return token_vectors(hidden, feeds[_KEPT], normalize=self.normalize)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColbertDocuments(ColbertFamily):
    """
    Documents.

    skipped  int64[n], ids of tokens that get no vector, though others attend to them
    """

    skipped: Ints

    @override
    def pack(self, reading: Reading, rows: Ints) -> Feeds:
        """
        Pad some rows to the longest of them.

        returns  as `TextFamily.pack`, and which tokens are kept, bool[batch, seq]
        """
        feeds = TextFamily.pack(self, reading, rows)
        skipped = np.isin(feeds["input_ids"], self.skipped)
        return feeds | {_KEPT: (feeds["attention_mask"] == 1) & ~skipped}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColbertQueries(ColbertFamily):
    """
    Queries.

    n_filled   tokens that a query is filled up to, marker included; 0 leaves it as it is
    mask_id    fills it
    attend     whether the fill is attended to
    """

    n_filled: int
    mask_id: int
    attend: bool

    @override
    def widths(self, reading: Reading) -> Ints:
        """Give each query's own tokens, its fill included."""
        return np.maximum(reading.lengths, self.n_filled)

    @override
    def pack(self, reading: Reading, rows: Ints) -> Feeds:
        """
        Fill some queries with masks, and pad them to the longest.

        Each query's own width is what it has alone: neither the attention nor the vectors know
        of the padding that longer neighbours bring.

        returns  as `TextFamily.pack`, and which tokens are kept, bool[batch, seq]
        """
        real = reading.lengths[rows, None]
        own = np.maximum(real, self.n_filled)
        place = np.arange(own.max())
        ids = np.where(place < own, self.mask_id, self.tokens.pad_id)
        ids[place < real] = np.concatenate([reading.ids[row] for row in rows])
        attended = place < (own if self.attend else real)
        return {
            "input_ids": ids,
            "attention_mask": attended.astype(np.int64),
            "token_type_ids": np.zeros_like(ids),
            "position_ids": self.tokens.positions((place < own).astype(np.int64)),
            _KEPT: place < own,
        }


def _skipped(tokens: Tokens, recipe: Colbert) -> Ints:
    """Give the first token of each punctuation mark, as ColBERT does, and the pad token."""
    marks = tokens.pieces(string.punctuation) if recipe.skip_punctuation else []
    ids = [int(mark[0]) for mark, _ in marks if len(mark) > 0]
    return np.array(ids + [tokens.pad_id] * recipe.skip_pad_tokens, dtype=np.int64)


def _mask_id(tokens: Tokens, recipe: Colbert) -> int:
    mask_id = tokens.id_of(recipe.mask_token)
    if mask_id is None:
        msg = (
            f"No token {recipe.mask_token!r} in the vocabulary to fill queries with. Name the "
            "model's own as `mask_token`, or set `query_length` to None."
        )
        raise ModelFilesError(msg)
    return mask_id

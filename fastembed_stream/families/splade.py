"""
SPLADE: a weight for each word of the vocabulary, from a transformer.

Sources: https://arxiv.org/abs/2205.04733 (SPLADE++) and https://arxiv.org/abs/2411.04403
(inference-free, with the second logarithm of its v3 models). The most over tokens is taken first
and the logarithm after it, of what is above zero alone: the same numbers, for a share of the work.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from fastembed_stream.device_pooling import pool_on_device
from fastembed_stream.embedder import OpenModel
from fastembed_stream.errors import ModelFilesError, SettingError
from fastembed_stream.families.texts import TextFamily, output_name
from fastembed_stream.graphs import Expected, check_graph
from fastembed_stream.kinds import SPARSE_TEXT
from fastembed_stream.located_model import LocatedModel
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.plain_embedder import PlainEmbedder
from fastembed_stream.values import SparseEmbedding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fastembed_stream.tokens import Reading, Tokens
    from fastembed_stream.values import Feeds, Floats, Ints, Outputs

__all__ = [
    "InferenceFreeQueries",
    "InferenceFreeSplade",
    "Splade",
    "SpladeFamily",
    "most_over_tokens",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Splade:
    """
    SPLADE++: a weight for each word of the vocabulary, log(1 + relu(logit)), the most over tokens.

    output      which output of the graph holds the logits: a name, or a position
    vocab_size  dimensions of the vectors, for information
    """

    kind: ClassVar = SPARSE_TEXT
    files: ClassVar[tuple[str, ...]] = ()
    needs_idf: ClassVar = False

    output: str | int = 0
    vocab_size: int = 30_522

    def open(self, located: LocatedModel) -> OpenModel[str, str, SparseEmbedding]:
        """Bind this recipe to a graph; SettingError where the graph lacks the wanted output."""
        tokens = located.tokens()
        documents = _documents(located, tokens, self.output)
        return OpenModel(documents=documents, queries=documents, max_tokens=tokens.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceFreeSplade:
    """
    SPLADE for documents, log(1 + log(1 + relu(logit))); a query is a look-up of stored weights.

    idf_file    the weights of query tokens, inside the model's folder
    output      which output of the graph holds the logits: a name, or a position
    vocab_size  dimensions of the vectors, for information
    """

    kind: ClassVar = SPARSE_TEXT
    files: ClassVar[tuple[str, ...]] = ()
    needs_idf: ClassVar = False

    idf_file: str = "idf.json"
    output: str | int = 0
    vocab_size: int = 30_522

    def open(self, located: LocatedModel) -> OpenModel[str, str, SparseEmbedding]:
        """
        Bind this recipe to a graph and to the stored weights of query tokens.

        raises  SettingError where the graph lacks the wanted output; ModelFilesError where the
                weights cannot be read
        """
        tokens = located.tokens()
        documents = _documents(
            located, tokens, self.output, logarithms=2, left_out=tokens.special_ids
        )
        weights = _stored_weights(located.folder / self.idf_file, tokens)
        return OpenModel(
            documents=documents,
            queries=PlainEmbedder(InferenceFreeQueries(tokens, weights)),
            max_tokens=tokens.limit,
        )


def most_over_tokens(logits: Floats, mask: Ints) -> list[Floats]:
    """
    Take for each word of the vocabulary the most over a row's real tokens.

    logits   float[batch, seq, vocabulary], or float[batch, vocabulary] that is so reduced already
    mask     int64[batch, seq], 1 on real tokens, which stand side by side
    returns  float[vocabulary] for each row; below zero everywhere for a row without tokens
    raises   SettingError for any other shape
    """
    if logits.ndim == 2:  # noqa: PLR2004
        return list(logits)
    if logits.ndim != 3:  # noqa: PLR2004
        msg = (
            "SPLADE expects the graph to give logits of shape (batch, seq, vocabulary); got "
            f"{logits.shape}. Name another `output`."
        )
        raise SettingError(msg)
    starts, lengths = mask.argmax(axis=1).tolist(), mask.sum(axis=1).tolist()
    # Slices, not a mask: the array is hundreds of megabytes wide and should be read once.
    return [
        row[start : start + length].max(axis=0, initial=-np.inf)
        for row, start, length in zip(logits, starts, lengths, strict=True)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpladeFamily(TextFamily):
    """
    A SPLADE model in use, for documents.

    logarithms  how many times log(1 + x) is applied
    left_out    int64[n], words of the vocabulary that never get a weight
    """

    logarithms: Literal[1, 2]
    left_out: Ints

    def finish(self, outputs: Outputs, feeds: Feeds) -> list[SparseEmbedding]:
        """
        Weigh the vocabulary for one group.

        returns  one vector for each row, its indices ascending; what is not a number stays in it
        """
        [logits] = outputs
        return [self._vector(most) for most in most_over_tokens(logits, feeds["attention_mask"])]

    def _vector(self, most: Floats) -> SparseEmbedding:
        has_weight = ~(most <= 0)
        has_weight[self.left_out] = False
        indices = np.flatnonzero(has_weight)
        values = most[indices].astype(np.float32, copy=False)
        for _ in range(self.logarithms):
            values = np.log1p(values)
        return SparseEmbedding(values=values, indices=indices)


class InferenceFreeQueries:
    """
    Queries to the stored weights of their tokens, without a graph.

    weights  float32[vocabulary], NaN where a token has none
    """

    def __init__(self, tokens: Tokens, weights: Floats) -> None:
        self._tokens = tokens
        self._weights = weights

    def read(self, rows: Sequence[str]) -> Reading:
        """Turn texts into token ids."""
        return self._tokens.read(rows)

    def answers(self, reading: Reading) -> list[SparseEmbedding]:
        """Give the weight of each distinct token, the indices ascending."""
        return [self._vector(np.unique(ids)) for ids in reading.ids]

    def _vector(self, ids: Ints) -> SparseEmbedding:
        weights = self._weights[ids]
        has_weight: NDArray[np.bool_] = ~np.isnan(weights)
        return SparseEmbedding(values=weights[has_weight], indices=ids[has_weight])


def _documents(
    located: LocatedModel,
    tokens: Tokens,
    output: str | int,
    *,
    logarithms: Literal[1, 2] = 1,
    left_out: Ints | None = None,
) -> OnnxEmbedder[str, SparseEmbedding]:
    sessions = located.sessions()
    name = output_name(output, sessions[0].outputs)
    family = SpladeFamily(
        tokens=tokens,
        outputs=(name,),
        logarithms=logarithms,
        left_out=np.zeros(0, dtype=np.int64) if left_out is None else left_out,
    )
    n_words = len(tokens.vocabulary)
    what = "SPLADE expects the graph to give logits of shape (batch, seq, vocabulary)"
    # A tokenizer may have words that the graph does not weigh, and a graph more than there are; but
    # the hidden states of another family are far narrower.
    logits = Expected(
        what=f"{what}, one for each of {n_words} words",
        ranks=(2, 3),
        least=n_words // 2,
        of_vocabulary=True,
    )
    check_graph(located, sessions[0], family, logits)
    sessions = pool_on_device(sessions, name, "max") or sessions
    return OnnxEmbedder(family, sessions, budget=located.runtime.token_budget)


def _stored_weights(path: Path, tokens: Tokens) -> Floats:
    """Read weights by token; special tokens have none, nor has what the tokenizer lacks."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = tokens.vocabulary
        weights = np.full(max(vocabulary.values()) + 1, np.nan, dtype=np.float32)
        for token, weight in stored.items():
            if token in vocabulary:
                weights[vocabulary[token]] = weight
    except (OSError, ValueError, AttributeError, TypeError) as error:
        msg = f"{path} should hold a JSON object of weights by token: {error}. Fetch it again."
        raise ModelFilesError(msg) from error
    weights[tokens.special_ids] = np.nan
    return weights

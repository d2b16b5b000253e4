"""A vector for each token of a text, as a dense text model has them before it pools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastembed_stream.embedder import OpenModel
from fastembed_stream.errors import SettingError
from fastembed_stream.families.texts import TextFamily, output_name
from fastembed_stream.graphs import check_graph, of_each_token
from fastembed_stream.kinds import LATE_TEXT
from fastembed_stream.located_model import LocatedModel
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.pooling import normalized

if TYPE_CHECKING:
    from fastembed_stream.values import Array, Feeds, Floats, Outputs

__all__ = ["TokenEmbeddings", "TokenEmbeddingsFamily", "token_vectors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEmbeddings:
    """
    The vectors of all tokens of a dense text model as they leave the graph.

    output     which output of the graph holds the vectors: a name, or a position
    normalize  whether each leaves with length one, as MaxSim by the dot product wants it
    """

    kind: ClassVar = LATE_TEXT
    files: ClassVar[tuple[str, ...]] = ()

    output: str | int = 0
    normalize: bool = False

    def open(self, located: LocatedModel) -> OpenModel[str, str, Floats]:
        """Bind this recipe to a graph; SettingError where the graph lacks the wanted output."""
        tokens, sessions = located.tokens(), located.sessions()
        family = TokenEmbeddingsFamily(
            tokens=tokens,
            outputs=(output_name(self.output, sessions[0].outputs),),
            normalize=self.normalize,
        )
        check_graph(located, sessions[0], family, of_each_token(located.model.dim))
        embedder = OnnxEmbedder(family, sessions, budget=located.runtime.token_budget)
        return OpenModel(documents=embedder, queries=embedder, max_tokens=tokens.limit)


def token_vectors(hidden: Floats, kept: Array, *, normalize: bool) -> list[Floats]:
    """
    Give the vectors of some tokens of each row, and let go of the rest.

    hidden     float[batch, seq, dim]
    kept       bool[batch, seq], which tokens get a vector
    normalize  whether vectors leave with length one
    returns    one float32[n_kept, dim] for each row, which shares no memory with the others
    raises     SettingError where the graph gives another shape

    >>> hidden = np.float32([[[3, 4], [9, 9]], [[0, 2], [5, 0]]])
    >>> [vectors.tolist() for vectors in token_vectors(
    ...     hidden, np.array([[True, False], [True, True]]), normalize=True
    ... )]
    [[[0.6000000238418579, 0.800000011920929]], [[0.0, 1.0], [1.0, 0.0]]]
    """
    if hidden.ndim != 3:  # noqa: PLR2004
        msg = (
            "A vector for each token expects the graph to give shape (batch, seq, dim); got "
            f"{hidden.shape}. Name another `output`."
        )
        raise SettingError(msg)
    vectors = hidden[kept].astype(np.float32, copy=False)
    if normalize:
        vectors = normalized(vectors)
    ends = kept.sum(axis=1).cumsum()[:-1]
    # A view would keep the vectors of the whole group alive as long as any row's.
    return [row.copy() for row in np.split(vectors, ends)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEmbeddingsFamily(TextFamily):
    """
    A dense text model of which all real tokens are wanted, special ones too.

    normalize  whether vectors leave with length one
    """

    normalize: bool

    def finish(self, outputs: Outputs, feeds: Feeds) -> list[Floats]:
        """
        Take the real tokens of one group.

        returns  one float32[n_tokens, dim] for each row
        """
        [hidden] = outputs
        return token_vectors(hidden, feeds["attention_mask"] == 1, normalize=self.normalize)

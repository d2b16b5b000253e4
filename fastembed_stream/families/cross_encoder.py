"""A score for a query and a document that are read together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastembed_stream.embedder import OpenModel
from fastembed_stream.errors import SettingError
from fastembed_stream.families.texts import TextFamily, output_name
from fastembed_stream.graphs import Expected, check_graph
from fastembed_stream.kinds import CROSS_ENCODER
from fastembed_stream.located_model import LocatedModel
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.pairs import PairReading, Pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastembed_stream.values import Feeds, Ints, Outputs, Pair

__all__ = ["CrossEncoder", "CrossEncoderFamily"]

_SAMPLE = (
    "what does a stream do when the disk is full",
    (
        "When the disk is full the sink is tried again and again, and holds back what comes before "
        "it; nothing is dropped, nothing is written twice, and once there is room the stream goes "
        "on where it stood. Whoever looks after it sees the pressure rise in the metrics long "
        "before that."
    ),
)
"""About as long as a question and a passage, to measure speed with."""

_SHORT = ("a", "b")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEncoder:
    """
    A score for a query and a document that are read together.

    output  which output of the graph holds the scores, in its first column: a name, or a position
    """

    kind: ClassVar = CROSS_ENCODER
    files: ClassVar[tuple[str, ...]] = ()

    output: str | int = 0

    def open(self, located: LocatedModel) -> OpenModel[Pair, Pair, float]:
        """Bind this recipe to a graph; SettingError where the graph lacks the wanted output."""
        tokens, sessions = located.tokens(), located.sessions()
        family = CrossEncoderFamily(
            pairs=Pairs.of(tokens, model_name=located.model.name),
            padding=TextFamily(
                tokens=tokens, outputs=(output_name(self.output, sessions[0].outputs),)
            ),
        )
        what = "A cross-encoder's graph should give scores of shape (batch, labels)"
        scores = Expected(what=what, ranks=(2,))
        check_graph(located, sessions[0], family, scores, row=_SHORT)
        embedder = OnnxEmbedder(family, sessions, budget=located.runtime.token_budget)
        return OpenModel(documents=embedder, queries=embedder, max_tokens=tokens.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEncoderFamily:
    """
    A cross-encoder in use.

    pairs    the model's tokenizer, for pairs
    padding  how rows of token ids are padded
    """

    pairs: Pairs
    padding: TextFamily

    @property
    def outputs(self) -> tuple[str, ...]:
        """Name the output that holds the scores."""
        return self.padding.outputs

    def read(self, rows: Sequence[Pair]) -> PairReading:
        """Turn pairs into token ids."""
        return self.pairs.read(rows)

    def sample(self, n_tokens: int) -> PairReading:
        """Repeat an ordinary pair until there are about so many tokens."""
        [length] = self.read([_SAMPLE]).lengths
        return self.read([_SAMPLE] * max(round(n_tokens / int(length)), 1))

    def widths(self, reading: PairReading) -> Ints:
        """Give each row's own tokens."""
        return reading.lengths

    def pack(self, reading: PairReading, rows: Ints) -> Feeds:
        """
        Pad some rows to the longest of them.

        returns  input_ids, attention_mask, token_type_ids int64[batch, seq]
        """
        feeds = self.padding.pack(reading, rows)
        real = feeds["attention_mask"] == 1
        feeds["token_type_ids"][real] = np.concatenate([reading.types[row] for row in rows])
        return feeds

    def finish(self, outputs: Outputs, feeds: Feeds) -> list[float]:
        """
        Take the score of each pair, as it leaves the graph.

        outputs  one float[batch, n_labels], of which the first column counts
        returns  one float for each row, of float32's precision
        """
        [logits] = outputs
        n_rows = len(feeds["input_ids"])
        if logits.ndim != 2 or len(logits) != n_rows:  # noqa: PLR2004
            msg = (
                f"A cross-encoder's graph should give scores of shape (batch, labels) for {n_rows} "
                f"pairs; got {logits.shape}. Name another `output`."
            )
            raise SettingError(msg)
        scores: list[float] = logits[:, 0].astype(np.float32, copy=False).tolist()
        return scores

"""How texts go into a transformer: what all families over one text a row share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastembed_stream.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastembed_stream.tokens import Reading, Tokens
    from fastembed_stream.values import Feeds, Ints

__all__ = ["TextFamily", "output_name"]

_SAMPLE_SENTENCE = (
    "Whoever takes over a system next year reads first what it promises, then what it does when "
    "the disk is full, the broker is away and the same message arrives for the second time, and "
    "only then how fast it is on an ordinary day with short and long texts in no special order."
)
"""About as long as the median document, to measure speed with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFamily:
    """
    Texts to padded token ids; a family over texts adds `finish`.

    tokens   the model's tokenizer
    outputs  names of the graph's outputs that `finish` takes
    pad_to   width of every group, for models that need a fixed one; None pads to the longest row
    """

    tokens: Tokens
    outputs: tuple[str, ...]
    pad_to: int | None = None

    def read(self, rows: Sequence[str]) -> Reading:
        """Turn texts into token ids."""
        return self.tokens.read(rows)

    def widths(self, reading: Reading) -> Ints:
        """Give each row's own tokens, or the width that all are padded to."""
        return (
            reading.lengths if self.pad_to is None else np.full_like(reading.lengths, self.pad_to)
        )

    def sample(self, n_tokens: int) -> Reading:
        """Repeat an ordinary sentence until there are about so many tokens."""
        [length] = self.widths(self.read([_SAMPLE_SENTENCE]))
        return self.read([_SAMPLE_SENTENCE] * max(round(n_tokens / int(length)), 1))

    def pack(self, reading: Reading, rows: Ints) -> Feeds:
        """
        Pad some rows to the longest of them, or to the width that all have.

        returns  input_ids, attention_mask, token_type_ids, position_ids int64[batch, seq]
        """
        chosen = [reading.ids[row] for row in rows]
        width = self.pad_to or max(*map(len, chosen), 1)
        ids = np.full((len(chosen), width), self.tokens.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for number, row in enumerate(chosen):
            real = slice(width - len(row), width) if self.tokens.pad_left else slice(0, len(row))
            ids[number, real] = row
            mask[number, real] = 1
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
            "position_ids": self.tokens.positions(mask),
        }


def output_name(wanted: str | int, outputs: Sequence[str]) -> str:
    """
    Give the name of the wanted output of a graph.

    wanted   a name, or a position
    outputs  names of all outputs, in the graph's order
    raises   SettingError where there is no such output
    """
    name = outputs[wanted] if isinstance(wanted, int) and wanted < len(outputs) else wanted
    if not isinstance(name, str) or name not in outputs:
        msg = f"Output {wanted!r} is not in the graph; it has {', '.join(outputs)}."
        raise SettingError(msg)
    return name

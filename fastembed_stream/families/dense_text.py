"""One vector for each text, from a transformer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fastembed_stream.errors import SettingError
from fastembed_stream.pooling import POOLS, normalized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastembed_stream.model import DenseText
    from fastembed_stream.session import Session
    from fastembed_stream.tokens import Reading, Tokens
    from fastembed_stream.values import Feeds, Floats, Ints, Outputs

__all__ = ["DenseTextFamily"]

_SAMPLE_SENTENCE = (
    "Whoever takes over a system next year reads first what it promises, then what it does when "
    "the disk is full, the broker is away and the same message arrives for the second time, and "
    "only then how fast it is on an ordinary day with short and long texts in no special order."
)
"""About as long as the median document, to measure speed with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseTextFamily:
    """
    A dense text model in use: its recipe, its tokenizer, and which output holds the vectors.

    task  number fed to models that take one, None for others
    """

    recipe: DenseText
    tokens: Tokens
    outputs: tuple[str, ...]
    task: int | None = None

    @classmethod
    def of(cls, recipe: DenseText, tokens: Tokens, session: Session) -> DenseTextFamily:
        """Bind a recipe to a graph; SettingError where the graph lacks the wanted output."""
        return cls(
            recipe=recipe,
            tokens=tokens,
            outputs=(_output_name(recipe.output, session.outputs),),
            task=dict(recipe.tasks).get(recipe.passage_task or ""),
        )

    def for_task(self, task: str | int) -> DenseTextFamily:
        """Give the family for another task, by name or number."""
        tasks = dict(self.recipe.tasks)
        number = tasks.get(task) if isinstance(task, str) else task
        if number not in tasks.values():
            msg = f"No task {task!r}; this model has {tasks or 'none'}."
            raise SettingError(msg)
        return replace(self, task=number)

    def read(self, rows: Sequence[str]) -> Reading:
        """Turn texts into token ids."""
        return self.tokens.read(rows)

    def widths(self, reading: Reading) -> Ints:
        """Give each row's own tokens, or the limit where the model needs all padded to it."""
        fixed = self.recipe.pad_to_max_tokens
        return np.full_like(reading.lengths, self.tokens.limit) if fixed else reading.lengths

    def sample(self, n_tokens: int) -> Reading:
        """Repeat an ordinary sentence until there are about so many tokens."""
        [length] = self.widths(self.tokens.read([_SAMPLE_SENTENCE]))
        return self.tokens.read([_SAMPLE_SENTENCE] * max(round(n_tokens / int(length)), 1))

    def pack(self, reading: Reading, rows: Ints) -> Feeds:
        """
        Pad some rows to the longest of them, or to the limit where the model needs it.

        returns  input_ids, attention_mask, token_type_ids int64[batch, seq]; the task int64[]
        """
        chosen = [reading.ids[row] for row in rows]
        longest = max(map(len, chosen))
        width = self.tokens.limit if self.recipe.pad_to_max_tokens else max(longest, 1)
        ids = np.full((len(chosen), width), self.tokens.pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for number, row in enumerate(chosen):
            real = slice(width - len(row), width) if self.tokens.pad_left else slice(0, len(row))
            ids[number, real] = row
            mask[number, real] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        if self.recipe.task_input is not None:
            feeds[self.recipe.task_input] = np.array(self.task, dtype=np.int64)
        return feeds

    def finish(self, outputs: Outputs, feeds: Feeds) -> list[Floats]:
        """
        Pool and normalize one group.

        returns  one float32[dim] for each row
        """
        [hidden] = outputs
        vectors = POOLS[self.recipe.pooling](
            hidden.astype(np.float32, copy=False), feeds["attention_mask"]
        )
        return list(normalized(vectors) if self.recipe.normalize else vectors)


def _output_name(wanted: str | int, outputs: Sequence[str]) -> str:
    name = outputs[wanted] if isinstance(wanted, int) and wanted < len(outputs) else wanted
    if not isinstance(name, str) or name not in outputs:
        msg = f"Output {wanted!r} is not in the graph; it has {', '.join(outputs)}."
        raise SettingError(msg)
    return name

"""One vector for each text, from a transformer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, get_args

import numpy as np
from typing_extensions import override

from fastembed_stream.device_pooling import pool_on_device
from fastembed_stream.embedder import OpenModel
from fastembed_stream.errors import SettingError
from fastembed_stream.families.texts import TextFamily, output_name
from fastembed_stream.graphs import Expected, check_graph
from fastembed_stream.kinds import DENSE_TEXT
from fastembed_stream.located_model import LocatedModel
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.pooling import POOLS, Pooling, check_pooling, normalized

if TYPE_CHECKING:
    from fastembed_stream.tokens import Reading
    from fastembed_stream.values import Feeds, Floats, Ints, Outputs

__all__ = ["DenseText", "DenseTextFamily"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseText:
    """
    One vector for each text from a transformer.

    pooling            how token vectors become one
    normalize          whether vectors leave with length one
    output             which output of the graph holds the vectors: a name, or a position
    pad_to_max_tokens  pad every text to the limit, for models that read the last position
    task_input         name of the graph's input that takes a task number, None for most
    tasks              task names and their numbers
    query_task         the task of `query_embed`
    passage_task       the task of `passage_embed`, and of `embed` when none is given
    """

    kind: ClassVar = DENSE_TEXT
    files: ClassVar[tuple[str, ...]] = ()

    pooling: Pooling
    normalize: bool
    output: str | int = 0
    pad_to_max_tokens: bool = False
    task_input: str | None = None
    tasks: tuple[tuple[str, int], ...] = ()
    query_task: str | None = None
    passage_task: str | None = None

    def __post_init__(self) -> None:
        check_pooling(self.pooling, get_args(Pooling))
        names = {name for name, _ in self.tasks}
        for task in (self.query_task, self.passage_task):
            if task is not None and task not in names:
                msg = f"Task {task!r} is not one of {sorted(names)}; add it to `tasks`."
                raise SettingError(msg)
        if self.task_input is not None and self.passage_task is None:
            msg = f"`task_input` {self.task_input!r} needs `tasks` and a `passage_task`; got none."
            raise SettingError(msg)

    def open(self, located: LocatedModel) -> OpenModel[str, str, Floats]:
        """Bind this recipe to a graph; SettingError where the graph lacks the wanted output."""
        tokens, sessions = located.tokens(), located.sessions()
        output = output_name(self.output, sessions[0].outputs)
        tasks = dict(self.tasks)
        family = DenseTextFamily(
            recipe=self,
            tokens=tokens,
            outputs=(output,),
            pad_to=tokens.limit if self.pad_to_max_tokens else None,
            task=tasks.get(self.passage_task or ""),
        )
        check_graph(located, sessions[0], family, _expected(self, located.model.dim))
        if self.pooling != "none" and (pooled := pool_on_device(sessions, output, self.pooling)):
            sessions, family = pooled, replace(family, recipe=replace(self, pooling="none"))
        documents = OnnxEmbedder(family, sessions, budget=located.runtime.token_budget)
        queries = documents
        if self.query_task is not None:
            queries = documents.with_family(family.for_task(self.query_task))
        return OpenModel(documents=documents, queries=queries, max_tokens=tokens.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseTextFamily(TextFamily):
    """
    A dense text model in use.

    task  number fed to models that take one, None for others
    """

    recipe: DenseText
    task: int | None = None

    def for_task(self, task: str | int) -> DenseTextFamily:
        """Give the family for another task, by name or number."""
        tasks = dict(self.recipe.tasks)
        number = tasks.get(task) if isinstance(task, str) else task
        if number not in tasks.values():
            msg = f"No task {task!r}; this model has {tasks or 'none'}."
            raise SettingError(msg)
        return replace(self, task=number)

    @override
    def pack(self, reading: Reading, rows: Ints) -> Feeds:
        """
        Pad some rows, and add the task where the graph takes one.

        returns  as `TextFamily.pack`; the task int64[]
        """
        feeds = TextFamily.pack(self, reading, rows)
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


def _expected(recipe: DenseText, dim: int) -> Expected:
    shapes = f"token vectors of shape (batch, seq, {dim})"
    ranks: tuple[int, ...] = (3,)
    if recipe.pooling == "none":
        shapes, ranks = f"vectors of shape (batch, {dim})", (2,)
    elif recipe.pooling == "cls":
        shapes, ranks = f"{shapes}, or one of (batch, {dim})", (2, 3)
    what = f"Pooling {recipe.pooling!r} expects the graph to give {shapes}"
    return Expected(what=what, ranks=ranks, width=dim)

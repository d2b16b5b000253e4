"""One vector for each text, from a transformer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from fastembed_stream.device_pooling import pool_on_device
from fastembed_stream.embedder import Embedder
from fastembed_stream.errors import SettingError
from fastembed_stream.families.texts import TextFamily, output_name
from fastembed_stream.graphs import Expected, check_graph
from fastembed_stream.opened import Opening, OpenModel
from fastembed_stream.pooling import POOLS, normalized

if TYPE_CHECKING:
    from fastembed_stream.recipes import DenseText
    from fastembed_stream.tokens import Reading
    from fastembed_stream.values import Feeds, Floats, Ints, Outputs

__all__ = ["DenseTextFamily", "open_dense_text"]


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


def open_dense_text(opening: Opening, recipe: DenseText) -> OpenModel[str, str, Floats]:
    """Bind a recipe to a graph; SettingError where the graph lacks the wanted output."""
    tokens, sessions = opening.tokens(), opening.sessions()
    output = output_name(recipe.output, sessions[0].outputs)
    tasks = dict(recipe.tasks)
    family = DenseTextFamily(
        recipe=recipe,
        tokens=tokens,
        outputs=(output,),
        pad_to=tokens.limit if recipe.pad_to_max_tokens else None,
        task=tasks.get(recipe.passage_task or ""),
    )
    check_graph(opening.model, sessions[0], family, _expected(recipe, opening.model.dim))
    if recipe.pooling != "none" and (pooled := pool_on_device(sessions, output, recipe.pooling)):
        sessions, family = pooled, replace(family, recipe=replace(recipe, pooling="none"))
    documents = Embedder(family, sessions, budget=opening.runtime.token_budget)
    queries = documents
    if recipe.query_task is not None:
        queries = documents.with_family(family.for_task(recipe.query_task))
    return OpenModel(documents=documents, queries=queries, max_tokens=tokens.limit)


def _expected(recipe: DenseText, dim: int) -> Expected:
    shapes = f"token vectors of shape (batch, seq, {dim})"
    ranks: tuple[int, ...] = (3,)
    if recipe.pooling == "none":
        shapes, ranks = f"vectors of shape (batch, {dim})", (2,)
    elif recipe.pooling == "cls":
        shapes, ranks = f"{shapes}, or one of (batch, {dim})", (2, 3)
    what = f"Pooling {recipe.pooling!r} expects the graph to give {shapes}"
    return Expected(what=what, ranks=ranks, width=dim)

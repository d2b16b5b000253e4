"""A transformer's rows are padded as it wants, and its tasks and outputs are those it has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastembed_stream import OpenModel, open_model
from fastembed_stream.errors import SettingError
from fastembed_stream.families.dense_text import DenseText, DenseTextFamily
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.runtime import Runtime
from fastembed_stream.values import Floats
from tests.fastembed_stream.tiny_models import Toy, row, write

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)
_TASKS = (("query", 2), ("passage", 3))
TASKED = DenseText(
    pooling="cls", normalize=True, task_input="task_id", tasks=_TASKS, passage_task="passage"
)


def family(embed: OpenModel[str, str, Floats]) -> DenseTextFamily:
    assert isinstance(embed.documents, OnnxEmbedder)
    assert isinstance(embed.documents.family, DenseTextFamily)
    return embed.documents.family


@pytest.mark.parametrize(
    ("side", "ids", "mask"),
    [
        ("right", [[2, 9, 9, 3], [2, 9, 3, 0]], [[1, 1, 1, 1], [1, 1, 1, 0]]),
        ("left", [[2, 9, 9, 3], [0, 2, 9, 3]], [[1, 1, 1, 1], [0, 1, 1, 1]]),
    ],
)
def test_a_group_is_padded_to_its_longest_on_the_side_that_the_model_wants(
    tmp_path: Path, side: str, ids: list[list[int]], mask: list[list[int]]
) -> None:
    folder = write(tmp_path, config={"padding_side": side})
    dense = family(open_model(row(folder), runtime=ON_CPU))
    reading = dense.read(["kafka kafka kafka kafka", "kafka kafka", "kafka"])
    feeds = dense.pack(reading, np.array([1, 2]))
    assert feeds["input_ids"].tolist() == ids
    assert feeds["attention_mask"].tolist() == mask
    assert not feeds["token_type_ids"].any()
    assert {array.dtype for array in feeds.values()} == {np.dtype(np.int64)}


def test_the_fill_is_the_models_own_pad_token(tmp_path: Path) -> None:
    folder = write(tmp_path, model_config={"pad_token_id": 4})
    dense = family(open_model(row(folder), runtime=ON_CPU))
    feeds = dense.pack(dense.read(["kafka kafka", "kafka"]), np.arange(2))
    assert feeds["input_ids"][1].tolist() == [2, 9, 3, 4]


def test_rows_without_tokens_still_have_a_place(tmp_path: Path) -> None:
    dense = family(open_model(row(write(tmp_path, specials=False)), runtime=ON_CPU))
    feeds = dense.pack(dense.read(["", ""]), np.arange(2))
    assert feeds["input_ids"].tolist() == [[0], [0]]
    assert feeds["attention_mask"].tolist() == [[0], [0]]


@pytest.mark.parametrize("wanted", ["sentence_embedding", 1, 9])
def test_an_output_that_the_graph_lacks_is_refused_with_those_it_has(
    tmp_path: Path, wanted: str | int
) -> None:
    recipe = DenseText(pooling="mean", normalize=True, output=wanted)
    with pytest.raises(SettingError, match=r"not in the graph; it has last_hidden_state"):
        open_model(row(write(tmp_path), recipe), runtime=ON_CPU)


def test_a_task_is_chosen_by_name_or_number_and_changes_the_vectors(tmp_path: Path) -> None:
    embed = open_model(row(write(tmp_path, Toy(task=True)), TASKED), runtime=ON_CPU)
    tasked = family(embed)
    assert tasked.task == 3
    assert isinstance(embed.documents, OnnxEmbedder)
    query = embed.documents.with_family(tasked.for_task("query"))
    assert isinstance(query.family, DenseTextFamily)
    assert query.family.task == tasked.for_task(2).task == 2
    assert np.abs(query(["a"])[0] - embed(["a"])[0]).max() > 0.01


@pytest.mark.parametrize("task", ["separation", 0, 9])
def test_a_task_that_the_model_lacks_is_refused_with_those_it_has(
    tmp_path: Path, task: str | int
) -> None:
    embed = open_model(row(write(tmp_path, Toy(task=True)), TASKED), runtime=ON_CPU)
    with pytest.raises(SettingError, match=rf"No task {task!r}; this model has {{'query': 2"):
        family(embed).for_task(task)


def test_a_model_without_tasks_refuses_any(tmp_path: Path) -> None:
    embed = open_model(row(write(tmp_path)), runtime=ON_CPU)
    with pytest.raises(SettingError, match="this model has none"):
        family(embed).for_task(1)


def test_rows_padded_to_the_limit_are_grouped_by_what_they_cost(tmp_path: Path) -> None:
    recipe = DenseText(
        pooling="none", normalize=True, output="pooler_output", pad_to_max_tokens=True
    )
    folder = write(tmp_path, Toy(mask=False, pooled=(("pooler_output", "final"),)))
    padded = family(open_model(row(folder, recipe), runtime=ON_CPU))
    reading = padded.read(["a", "the stream"])
    assert reading.lengths.tolist() == [3, 4]
    assert padded.widths(reading).tolist() == [48, 48]
    assert padded.pack(reading, np.arange(2))["input_ids"].shape == (2, 48)
    assert padded.sample(480).n_rows == 10


def test_a_sample_has_about_as_many_tokens_as_asked(tmp_path: Path) -> None:
    dense = family(open_model(row(write(tmp_path)), runtime=ON_CPU))
    for n_tokens in (128, 1024, 4096):
        assert dense.sample(n_tokens).lengths.sum() == pytest.approx(n_tokens, rel=0.3)
    assert dense.sample(1).n_rows == 1

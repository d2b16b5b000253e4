"""A model opens by name or by row, with the session, the limit and the device that were asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fastembed_stream import OpenModel, fingerprint, located_model, onnx_embedder, open_model
from fastembed_stream.errors import ModelFilesError, SettingError, UnknownModelError
from fastembed_stream.families.dense_text import DenseTextFamily
from fastembed_stream.families.static_text import StaticText
from fastembed_stream.kinds import DENSE_TEXT, SPARSE_TEXT
from fastembed_stream.located_model import LocatedModel
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.plain_embedder import PlainEmbedder
from fastembed_stream.runtime import Runtime
from fastembed_stream.session import Session
from fastembed_stream.shared_sessions import open_session
from fastembed_stream.tokens import Reading
from fastembed_stream.values import Floats
from tests.fastembed_stream.examples import PACKAGED, packaged_model
from tests.fastembed_stream.tiny_models import DIM, row, write, write_static

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)


def family(embed: OpenModel[str, str, Floats]) -> DenseTextFamily:
    assert isinstance(embed.documents, OnnxEmbedder)
    assert isinstance(embed.documents.family, DenseTextFamily)
    return embed.documents.family


def test_a_model_opens_by_name_with_the_files_of_a_folder() -> None:
    embed = open_model(PACKAGED, folder=packaged_model(), runtime=ON_CPU)
    [vector] = embed(["A stream of text"])
    assert vector.shape == (384,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_texts_of_like_meaning_are_near_each_other() -> None:
    embed = open_model(PACKAGED, folder=packaged_model(), runtime=ON_CPU)
    texts = ["A cat sleeps on the sofa", "The kitten naps on a couch", "Interest rates rose again"]
    cat, kitten, rates = embed(texts)
    assert cat @ kitten > 0.5
    assert cat @ rates < 0.3


def test_an_unknown_name_is_refused_before_any_file_is_looked_for() -> None:
    with pytest.raises(UnknownModelError):
        open_model("no/such-model")


def test_a_folder_without_the_graph_is_an_error_that_names_it(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ModelFilesError, match=r"needs 'onnx/model\.onnx'"):
        open_model(row(tmp_path, model_file="onnx/model.onnx"))


def test_a_recipe_of_every_kind_opens_as_its_family(tmp_path: Path) -> None:
    dense = open_model(row(write(tmp_path / "dense")), runtime=ON_CPU)
    folder = write_static(tmp_path / "static")
    static = open_model(row(folder, StaticText(), model_file="model.safetensors"))
    assert isinstance(dense.documents, OnnxEmbedder)
    assert isinstance(static.documents, PlainEmbedder)
    assert dense(["a"])[0].shape == static(["a"])[0].shape == (DIM,)


def test_the_limit_that_is_asked_for_holds(tmp_path: Path) -> None:
    embed = open_model(row(write(tmp_path)), runtime=ON_CPU, max_tokens=5)
    assert family(embed).tokens.limit == 5
    embed(["the stream of text", "the"])
    assert embed.max_tokens == 5
    assert embed.counts.truncated_rows == 1
    assert embed.counts.tokens == 5 + 3


def test_a_worker_takes_one_device_round_robin_and_no_worker_takes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []
    ordinary = open_session

    def noted(graph: Path, runtime: Runtime, *, device_id: int | None = None) -> Session:
        asked.append(device_id)
        return ordinary(graph, runtime, device_id=device_id)

    monkeypatch.setattr(located_model, "open_session", noted)
    model = row(write(tmp_path))
    several = Runtime(device="cpu", threads=1, device_ids=(4, 7))
    for slot in (0, 1, 2, 5):
        open_model(model, runtime=several, slot=slot)
    assert asked == [4, 7, 4, 7]
    asked.clear()
    open_model(model, runtime=several)
    assert asked == [4, 7]
    asked.clear()
    open_model(model, runtime=ON_CPU, slot=3)
    assert asked == [None]


def test_models_opened_alike_share_their_session(tmp_path: Path) -> None:
    model = row(write(tmp_path))
    first, second = (open_model(model, runtime=ON_CPU) for _ in range(2))
    assert isinstance(first.documents, OnnxEmbedder)
    assert isinstance(second.documents, OnnxEmbedder)
    assert first.documents.sessions == second.documents.sessions


def test_the_budget_of_the_runtime_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> int:
        pytest.fail("a budget that is given was measured")

    monkeypatch.setattr(onnx_embedder, "calibrate", never)
    embed = open_model(row(write(tmp_path)), runtime=ON_CPU)
    embed(["the stream of text"] * 4000)
    assert embed.warm_up() == 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Letters:
    """A family of a user's own: how often a letter stands in a text."""

    kind: ClassVar = DENSE_TEXT
    files: ClassVar[tuple[str, ...]] = ()

    letters: str

    def open(self, located: LocatedModel) -> OpenModel[str, str, Floats]:
        assert located.model.dim == len(self.letters)
        embedder = PlainEmbedder(LettersFamily(self.letters))
        return OpenModel(documents=embedder, queries=embedder)


class LettersFamily:
    def __init__(self, letters: str) -> None:
        self.letters = letters

    def read(self, rows: Sequence[str]) -> Reading:
        ids = tuple(np.array([*map(ord, text)], dtype=np.int64) for text in rows)
        lengths = np.array([*map(len, ids)], dtype=np.int64)
        return Reading(ids=ids, lengths=lengths, truncated_rows=0, truncated_tokens=0)

    def answers(self, reading: Reading) -> list[Floats]:
        return [
            np.array([(ids == ord(letter)).sum() for letter in self.letters], dtype=np.float32)
            for ids in reading.ids
        ]


def test_a_family_needs_no_place_in_any_table(tmp_path: Path) -> None:
    model = row(tmp_path, Letters(letters="ae"), dim=2, model_file="")
    embed = open_model(model)
    assert np.stack(embed(["a stream", "eel"])).tolist() == [[2, 1], [0, 2]]
    assert embed.model == model
    assert repr(embed).startswith("<OpenModel tests/tiny: dense-text (Letters), 2 dimensions")
    other = row(tmp_path, Letters(letters="io"), dim=2, model_file="")
    assert fingerprint(model, tmp_path) != fingerprint(other, tmp_path)
    with pytest.raises(SettingError, match="cannot be opened as sparse-text"):
        open_model(model, SPARSE_TEXT)

"""`from fastembed import TextEmbedding` may become `from fastembed_stream import TextEmbedding`."""

from __future__ import annotations

import inspect
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastembed_stream
from fastembed_stream import Device, ModelSource, PoolingType, Runtime, TextEmbedding, catalog
from fastembed_stream.devices import cuda_devices
from fastembed_stream.errors import DeviceError, ModelFilesError, SettingError, UnknownModelError
from fastembed_stream.families.dense_text import DenseText
from fastembed_stream.fastembed_api import drop_in as api_module
from fastembed_stream.kinds import DENSE_TEXT
from fastembed_stream.model import HubRepository, Tarball
from tests.fastembed_stream.examples import MIXED_LENGTHS, PACKAGED, ROOT, packaged_model
from tests.fastembed_stream.tiny_models import DIM, Toy, row, write, write_static

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)
NAME = "tests/tiny"
CUSTOM: dict[str, Any] = {
    "pooling": PoolingType.MEAN,
    "normalization": True,
    "sources": ModelSource(hf="tests/custom"),
    "dim": DIM,
    "model_file": "model.onnx",
}


@pytest.fixture(autouse=True)
def own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a catalog of its own."""
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """Register a tiny model with prompts, and give its name."""
    prompts: dict[str, Any] = {"query_prompt": "kafka: ", "passage_prompt": "text: "}
    catalog.add(row(write(tmp_path), name=NAME, **prompts))
    return NAME


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which models are opened."""
    names: list[str] = []
    ordinary = fastembed_stream.open_model

    def noted(model: Any, kind: Any, **how: Any) -> Any:
        names.append(model.name)
        return ordinary(model, kind, **how)

    monkeypatch.setattr(api_module, "open_model", noted)
    return names


def _parameters(callable_: Callable[..., Any]) -> list[tuple[str, Any]]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        (name, getattr(parameter.default, "value", parameter.default))
        for name, parameter in inspect.signature(callable_).parameters.items()
        if parameter.kind not in kinds
    ]


@pytest.mark.parametrize(
    "method",
    ["__init__", "embed", "query_embed", "passage_embed", "token_count", "add_custom_model"],
)
def test_parameters_have_fastembeds_names_order_and_defaults(method: str) -> None:
    fastembed = pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    theirs = _parameters(getattr(fastembed.TextEmbedding, method))
    ours = _parameters(getattr(TextEmbedding, method))[: len(theirs)]
    if method == "__init__":  # one constructor serves all classes; only this one has a default
        assert theirs.pop(1) == ("model_name", TextEmbedding._default_model)
        assert ours.pop(1) == ("model_name", None)
    assert ours == theirs


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"device_id": 1}, (1,)),
        ({"device_id": 1, "device_ids": [0, 2]}, (0, 2)),
        ({"mmap": False}, ()),
    ],
)
def test_arguments_that_fastembed_takes_by_the_way_are_taken(
    told: dict[str, Any], expected: tuple[int, ...]
) -> None:
    model = TextEmbedding("fastembed-stream/all-MiniLM-L6-v2-int8", lazy_load=True, **told)
    assert model._runtime.device_ids == expected


def test_a_model_is_described_by_fastembeds_keys() -> None:
    fastembed = pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    theirs = {model["model"]: model for model in fastembed.TextEmbedding.list_supported_models()}
    ours = {model["model"]: model for model in TextEmbedding.list_supported_models()}
    assert theirs.keys() <= ours.keys()
    same = ("model", "model_file", "license", "size_in_GB", "additional_files", "dim", "tasks")
    for name, model in theirs.items():
        assert model.keys() <= ours[name].keys()
        assert {key: model[key] or None for key in same} == {
            key: ours[name][key] or None for key in same
        }
        assert ours[name]["sources"]["hf"] == model["sources"]["hf"]


def test_enumerations_have_fastembeds_values() -> None:
    fastembed = pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    from fastembed.common.model_description import PoolingType as TheirPooling
    from fastembed.common.types import Device as TheirDevice

    del fastembed
    for ours, theirs in ((PoolingType, TheirPooling), (Device, TheirDevice)):
        assert [(item.name, item.value) for item in ours] == [
            (item.name, item.value) for item in theirs
        ]


def test_the_list_of_models_is_a_list_of_plain_dictionaries() -> None:
    models = TextEmbedding.list_supported_models()
    assert len(models) == len(catalog.names(DENSE_TEXT))
    assert all(model["dim"] == catalog.find(model["model"]).dim for model in models)


def test_the_size_of_a_vector_is_known_without_opening_anything(opened: list[str]) -> None:
    assert TextEmbedding.get_embedding_size("BAAI/bge-SMALL-en-v1.5") == 384
    assert opened == []
    with pytest.raises(UnknownModelError, match="Did you mean"):
        TextEmbedding.get_embedding_size("BAAI/bge-smal-en-v1.5")


def test_an_unknown_name_is_a_value_error_with_the_name_that_was_meant() -> None:
    with pytest.raises(ValueError, match=r"Did you mean 'BAAI/bge-small-en-v1\.5'"):
        TextEmbedding("BAAI/bge-smal-en-v1.5")


def test_a_real_model_embeds_one_text_and_many() -> None:
    model = TextEmbedding(PACKAGED, specific_model_path=str(packaged_model()), runtime=ON_CPU)
    [one] = model.embed("A stream of text")
    many = list(model.embed(["A stream of text", *MIXED_LENGTHS[:3]], batch_size=2))
    assert model.embedding_size == one.shape[0] == 384
    np.testing.assert_allclose(many[0], one, atol=1e-5)


def test_lazy_load_opens_nothing_until_used(tiny: str, opened: list[str]) -> None:
    model = TextEmbedding(tiny, lazy_load=True, runtime=ON_CPU)
    answers = model.embed(["a"])
    assert model.embedding_size == DIM
    assert opened == []
    assert len(list(answers)) == 1
    list(model.embed(["b"]))
    assert opened == [NAME]


def test_without_lazy_load_the_model_opens_at_once(tiny: str, opened: list[str]) -> None:
    TextEmbedding(tiny, runtime=ON_CPU)
    assert opened == [NAME]


def test_lazy_load_still_misses_files_at_once(tmp_path: Path) -> None:
    catalog.add(row(tmp_path / "absent", name=NAME))
    with pytest.raises(ModelFilesError, match="does not exist"):
        TextEmbedding(NAME, lazy_load=True)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_one_is_refused(tiny: str, batch_size: int) -> None:
    model = TextEmbedding(tiny, runtime=ON_CPU)
    said = f"batch_size must be at least 1; got {batch_size}|at least 1 row; got {batch_size}"
    with pytest.raises(SettingError, match=said):
        model.embed(["a"], batch_size=batch_size)
    with pytest.raises(SettingError, match=said):
        model.token_count(["a"], batch_size=batch_size)
    with pytest.raises(SettingError, match=said):
        list(model.query_embed(["a"], batch_size=batch_size))


def test_texts_are_read_lazily(tiny: str) -> None:
    def endless() -> Iterator[str]:
        return itertools.repeat("a text")

    vectors = TextEmbedding(tiny, runtime=ON_CPU).embed(endless(), batch_size=4)
    assert len(list(itertools.islice(vectors, 10))) == 10


def test_parallel_is_accepted_and_changes_nothing(tiny: str) -> None:
    model = TextEmbedding(tiny, runtime=ON_CPU)
    for parallel in (None, 0, 2):
        np.testing.assert_allclose(
            list(model.embed(MIXED_LENGTHS, parallel=parallel)),
            list(model.embed(MIXED_LENGTHS)),
            atol=1e-6,
        )


def test_prompts_stand_before_texts_on_request_only(tiny: str) -> None:
    plain = TextEmbedding(tiny, runtime=ON_CPU)
    prompted = TextEmbedding(tiny, runtime=ON_CPU, prompts=True)
    for ask, prompt in (("query_embed", "kafka: "), ("passage_embed", "text: ")):
        [with_prompt] = getattr(prompted, ask)("a point")
        [without] = getattr(plain, ask)(["a point"])
        [expected, bare] = plain.embed([f"{prompt}a point", "a point"])
        np.testing.assert_allclose(with_prompt, expected, atol=1e-6)
        np.testing.assert_allclose(without, bare, atol=1e-6)
    np.testing.assert_allclose(
        next(prompted.embed("a point")), next(plain.embed("a point")), atol=1e-6
    )


def test_max_tokens_is_the_limit(tiny: str) -> None:
    text = ["the stream of text " * 40]
    assert TextEmbedding(tiny, runtime=ON_CPU).token_count(text) == 48
    assert TextEmbedding(tiny, runtime=ON_CPU, max_tokens=100).token_count(text) == 100


def test_tokens_of_a_static_model_are_counted_too(tmp_path: Path) -> None:
    folder = str(write_static(tmp_path))
    model = TextEmbedding("minishlab/potion-base-8M", specific_model_path=folder)
    assert model.token_count(["the stream ✓", "of"]) == 4
    assert len(list(model.embed(["the", "of"]))) == 2


@pytest.mark.skipif(cuda_devices() > 0, reason="this machine has a GPU")
@pytest.mark.parametrize("cuda", [True, Device.CUDA, "cuda"])
def test_cuda_without_a_gpu_is_an_error(tiny: str, cuda: Any) -> None:
    with pytest.raises(DeviceError, match="device='cuda', but"):
        TextEmbedding(tiny, cuda=cuda)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, Runtime()),
        ({"cuda": Device.AUTO, "device_ids": [1, 2]}, Runtime(device_ids=(1, 2))),
        ({"cuda": False, "device_ids": [1], "threads": 3}, Runtime(device="cpu", threads=3)),
        ({"cuda": "cpu"}, Runtime(device="cpu")),
        ({"cuda": True, "device_ids": [1]}, Runtime(device="cuda", device_ids=(1,))),
        (
            {"providers": ["A", ("B", {"device_id": 1})], "threads": 2},
            Runtime(providers=(("A", ()), ("B", (("device_id", "1"),))), threads=2),
        ),
        (
            {"enable_cpu_mem_arena": False},
            Runtime(session_options=(("enable_cpu_mem_arena", "0"),)),
        ),
        (
            {"runtime": ON_CPU, "enable_cpu_mem_arena": True},
            Runtime(
                device="cpu",
                threads=1,
                token_budget=64,
                session_options=(("enable_cpu_mem_arena", "1"),),
            ),
        ),
    ],
)
def test_arguments_become_a_runtime(
    tiny: str, arguments: dict[str, Any], expected: Runtime
) -> None:
    assert TextEmbedding(tiny, lazy_load=True, **arguments)._runtime == expected


@pytest.mark.parametrize("cuda", ["gpu", None, 2])
def test_a_device_that_cannot_be_is_refused(tiny: str, cuda: Any) -> None:
    with pytest.raises(SettingError, match="expected True, False, or one of"):
        TextEmbedding(tiny, cuda=cuda, lazy_load=True)


def test_a_model_of_ones_own_is_known_by_name_and_embeds(tmp_path: Path) -> None:
    TextEmbedding.add_custom_model("Tests/Custom", **CUSTOM, description="mine")
    [described] = [m for m in TextEmbedding.list_supported_models() if m["model"] == "Tests/Custom"]
    assert (described["description"], described["sources"]["hf"]) == ("mine", "tests/custom")
    folder = str(write(tmp_path))
    model = TextEmbedding("tests/custom", specific_model_path=folder, runtime=ON_CPU)
    assert np.linalg.norm(next(model.embed("a"))) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ["tests/custom", "TESTS/custom", "BAAI/bge-small-en-v1.5"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    TextEmbedding.add_custom_model("tests/custom", **CUSTOM)
    with pytest.raises(SettingError, match=f"Model {name} is already registered"):
        TextEmbedding.add_custom_model(name, **CUSTOM)


def test_a_model_that_ships_here_and_not_there_may_be_added_as_there() -> None:
    name = "intfloat/multilingual-e5-small"
    settings = {"sources": ModelSource(hf=name), "dim": 384, "model_file": "onnx/model.onnx"}
    before = catalog.find(name)
    TextEmbedding.add_custom_model(name, **(CUSTOM | settings))
    assert catalog.find(name) is before
    with pytest.raises(SettingError, match="already registered"):
        TextEmbedding.add_custom_model(name, **(CUSTOM | settings | {"normalization": False}))


def test_a_custom_model_says_its_pooling_output_and_source() -> None:
    TextEmbedding.add_custom_model(
        "tests/pooled",
        pooling=PoolingType.DISABLED,
        normalization=False,
        sources=ModelSource(url="https://models.example/pooled.tar.gz"),
        dim=3,
        additional_files=["model.onnx_data"],
        output_name="sentence_embedding",
    )
    model = catalog.find("tests/pooled")
    assert model.recipe == DenseText(pooling="none", normalize=False, output="sentence_embedding")
    assert model.source == Tarball(url="https://models.example/pooled.tar.gz")
    assert model.files == ("onnx/model.onnx", "model.onnx_data")


def test_a_source_is_a_repository_or_an_address_and_never_neither() -> None:
    assert ModelSource(hf="a/b", url="https://x.example").source == HubRepository(repo="a/b")
    with pytest.raises(SettingError, match="got neither"):
        ModelSource()


def test_tasks_run_by_number_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, Toy(task=True, external=True), model_file="onnx/model.onnx")
    name = "own/tasks"
    catalog.add(replace(catalog.find("jinaai/jina-embeddings-v3"), name=name, dim=DIM))
    model = TextEmbedding(name, specific_model_path=str(folder), runtime=ON_CPU)
    [other] = model.embed("a", task_id=4)
    [default], [passage] = model.embed("a"), model.passage_embed("a")
    np.testing.assert_allclose(default, passage, atol=1e-6)
    assert np.abs(other - default).max() > 0.01
    with pytest.raises(SettingError, match="No task 9"):
        list(model.embed("a", task_id=9))


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = ("onnxruntime", "tokenizers", "huggingface_hub", "httpx", "qdrant_client", "bytewax")
    code = f"import sys, fastembed_stream; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("size", [0, None, "8", 2.5])
def test_a_batch_size_that_is_no_count_is_refused_at_once(size: Any) -> None:
    model = TextEmbedding(PACKAGED, specific_model_path=str(packaged_model()), lazy_load=True)
    with pytest.raises(SettingError, match=r"batch_size must be at least 1; got"):
        model.embed(["a"], batch_size=size)


@pytest.mark.parametrize("limit", [0, "5", 5.0])
def test_a_limit_that_is_no_count_is_refused_when_the_model_opens(limit: Any) -> None:
    with pytest.raises(SettingError, match=r"max_tokens=.*expected 1 to"):
        TextEmbedding(PACKAGED, specific_model_path=str(packaged_model()), max_tokens=limit)

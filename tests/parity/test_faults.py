"""
What users of fastembed suffer from, and what happens here instead.

Each test is one complaint of fastembed's users; the numbers in its docstring are those of the
issues of qdrant/fastembed. What happens here is checked first, so that it is checked without the
oracle too; then that fastembed 0.9.1 still behaves as the complaint says. Complaints that other
tests answer are not repeated: docs/fastembed-faults.md says where each one is.
"""

from __future__ import annotations

import base64
import logging
import re
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fastembed_stream
from fastembed_stream import (
    CROSS_ENCODER,
    DENSE_TEXT,
    IMAGE,
    LATE_MULTIMODAL,
    LATE_TEXT,
    SPARSE_TEXT,
    Colbert,
    DeviceError,
    Fetching,
    ImageError,
    Model,
    Runtime,
    SettingError,
    TokenEmbeddings,
    catalog,
    open_model,
)
from fastembed_stream.devices import cuda_devices
from fastembed_stream.files.fetching import cache_root
from fastembed_stream.session import Session
from tests.fastembed_stream.examples import ROOT
from tests.fastembed_stream.late_models import write_late
from tests.fastembed_stream.test_own_models import ON_CPU, OWN, TEXTS, numbers
from tests.fastembed_stream.tiny_images import (
    FILES,
    colmodernvbert_row,
    write_colmodernvbert,
    write_image_model,
)
from tests.fastembed_stream.tiny_models import Toy, row, write
from tests.fastembed_stream.tiny_sparse import as_dicts
from tests.parity.oracle import close, fastembed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME = "sentence-transformers/all-MiniLM-L6-v2"
IMAGE_NAME = "Qdrant/resnet50-onnx"
PNG = FILES["odd.png"]
LIMIT = {"model_max_length": 400}


def theirs(folder: Path, **options: Any) -> Any:
    """Open a folder in fastembed, or skip what is left of the test."""
    settings = {"cuda": False, "threads": 1} | options
    return fastembed().TextEmbedding(NAME, specific_model_path=str(folder), **settings)


def ours(folder: Path, **options: Any) -> fastembed_stream.TextEmbedding:
    settings = {"runtime": ON_CPU} | options
    return fastembed_stream.TextEmbedding(NAME, specific_model_path=str(folder), **settings)


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Collect the rows and the padded tokens of each group that runs here."""
    seen: list[tuple[int, int]] = []
    run = Session.run

    def spied(session: Session, outputs: Sequence[str], feeds: Any) -> Any:
        seen.append(feeds["input_ids"].shape)
        return run(session, outputs, feeds)

    monkeypatch.setattr(Session, "run", spied)
    return seen


def shapes_of(model: Any, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Embed with fastembed, and give the rows and the padded tokens of each of its runs."""
    seen = []
    run = model.model._run_model

    def spied(onnx_input: Any, **options: Any) -> Any:
        seen.append(onnx_input["input_ids"].shape)
        return run(onnx_input=onnx_input, **options)

    monkeypatch.setattr(model.model, "_run_model", spied)
    list(model.embed(texts))
    return seen


# Limits, padding, memory


def test_a_text_that_is_cut_is_told_and_the_limit_can_be_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """#689: text beyond a limit far below the card's has no effect, and nobody says so."""
    write(tmp_path)
    short, long = "stream " * 46, "stream " * 46 + "kafka " * 100
    with caplog.at_level(logging.INFO, logger="fastembed_stream"):
        first, second = ours(tmp_path).embed([short, long])
    assert np.array_equal(first, second)
    assert "cut at 48 tokens (tokenizer_config.json); its card says 256" in caplog.text
    raised = ours(tmp_path, max_tokens=256)
    first, second = raised.embed([short, long])
    assert not np.allclose(first, second, atol=1e-3)
    with pytest.raises(SettingError, match="expected 1 to 512"):
        ours(tmp_path, max_tokens=513)

    first, second = theirs(tmp_path, max_tokens=256).embed([short, long])
    assert np.array_equal(first, second)


def test_padding_to_a_fixed_length_in_the_tokenizers_file_costs_nothing(
    tmp_path: Path, shapes: list[tuple[int, int]]
) -> None:
    """#703: text of mixed lengths fails, or short text costs the fixed length; mended in 0.9.1."""
    padding = {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]", "direction": "Right"}
    truncation = {"direction": "Right", "max_length": 64, "strategy": "LongestFirst", "stride": 0}
    shipped = {
        "padding": padding | {"strategy": {"Fixed": 64}, "pad_to_multiple_of": None},
        "truncation": truncation,
    }
    write(tmp_path, shipped=shipped, config=LIMIT)
    texts = ["a", "stream " * 100, "the point", "stream " * 390]
    vectors = list(ours(tmp_path, runtime=replace(ON_CPU, token_budget=128)).embed(texts))
    assert sorted(shapes) == [(1, 102), (1, 392), (2, 4)]
    close(vectors, theirs(tmp_path).embed(texts))


def test_one_long_text_does_not_make_its_neighbours_cost_as_much(
    tmp_path: Path, shapes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch in order of arrival pads 255 short texts to one long; with real models: > 16 GB."""
    write(tmp_path, config=LIMIT)
    texts = ["the stream"] * 100 + ["text " * 398] + ["a point"] * 155
    vectors = list(ours(tmp_path, runtime=replace(ON_CPU, token_budget=512)).embed(texts))
    groups = [n_rows * n_tokens for n_rows, n_tokens in shapes]
    assert max(groups) <= 512
    assert sum(groups) == 255 * 4 + 400

    model = theirs(tmp_path)
    assert shapes_of(model, texts, monkeypatch) == [(256, 400)]
    close(vectors, model.embed(texts))


# Sessions, devices, the cache


@pytest.mark.parametrize(
    "family", ["dense", "splade", "colbert", "image", "colpali", "cross-encoder"]
)
def test_every_class_passes_session_options_on(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """#570: of all session options one is within reach, and the others are dropped in silence."""
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))
    own = OWN[family]
    model = own.model(tmp_path)
    catalog.add(model)
    entry = "session.set_denormal_as_zero"
    options = (("enable_cpu_mem_arena", "0"), ("enable_mem_reuse", "0"), (entry, "1"))
    opened = own.opened(model.name, runtime=replace(ON_CPU, session_options=options))
    [session] = opened._opened().documents.sessions
    told = session.bound.get_session_options()
    assert not told.enable_cpu_mem_arena
    assert not told.enable_mem_reuse
    assert told.get_session_config_entry(entry) == "1"
    assert len(own.ask(opened)) == 2


def test_an_argument_that_means_nothing_is_refused(tmp_path: Path) -> None:
    """#570: a session option, or any slip of the pen, is taken and does nothing."""
    write(tmp_path)
    with pytest.raises(SettingError, match="has no option 'enable_mem_pattern'"):
        ours(tmp_path, enable_mem_pattern=False)

    model = theirs(tmp_path, enable_mem_pattern=False, treads=3)
    assert model.model.model.get_session_options().enable_mem_pattern


@pytest.mark.skipif(cuda_devices() > 0, reason="this machine has a GPU that works")
def test_a_gpu_that_is_asked_for_and_absent_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """#608 #247 #467: who asks for CUDA gets the CPU, with a warning at most."""
    write(tmp_path)
    with pytest.raises(DeviceError, match="device='cuda', but"):
        ours(tmp_path, runtime=Runtime(device="cuda"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(ours(tmp_path, runtime=replace(ON_CPU, device="auto")).embed(TEXTS))) == 2
    assert capfd.readouterr() == ("", "")
    assert not [told for told in caplog.records if told.levelno >= logging.WARNING]

    fastembed()
    ort = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA; fastembed refuses it then, as it should")
    for cuda in (True, "auto"):
        with pytest.warns(RuntimeWarning, match="CUDAExecutionProvider failed"):
            model = theirs(tmp_path, cuda=cuda)
        assert model.model.model.get_providers() == ["CPUExecutionProvider"]
    capfd.readouterr()


def test_the_cache_is_not_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """#569: models are gone after a restart, and a hundred machines fetch them again at once."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for name in ("FASTEMBED_CACHE_PATH", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert not cache_root(Fetching()).is_relative_to(tmp_path / "temporary")

    fastembed()
    from fastembed.common.utils import define_cache_dir

    assert define_cache_dir().is_relative_to(tmp_path / "temporary")


# Models of one's own in other processes


INPUTS: dict[Any, list[Any]] = {
    DENSE_TEXT: TEXTS,
    SPARSE_TEXT: TEXTS,
    LATE_TEXT: TEXTS,
    IMAGE: [PNG, FILES["gray.jpg"]],
    LATE_MULTIMODAL: [PNG, FILES["gray.jpg"]],
    CROSS_ENCODER: [("stream", text) for text in TEXTS],
}


def answers(model: Model) -> list[Any]:
    """Answer a few rows, in this process or another."""
    opened = open_model(model, model.kind, runtime=ON_CPU)
    return [numbers(answer) for answer in opened(INPUTS[model.kind])]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[ProcessPoolExecutor]:
    """Start a process that inherits nothing of this one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("family", [*OWN, "colmodernvbert"])
def test_a_model_of_ones_own_works_in_another_process(
    family: str, tmp_path: Path, elsewhere: ProcessPoolExecutor
) -> None:
    """#713 #515: a model of one's own or a local path is lost in workers; mended for two kinds."""
    if family == "colmodernvbert":
        model = colmodernvbert_row(write_colmodernvbert(tmp_path))
    else:
        model = OWN[family].model(tmp_path)
    there = elsewhere.submit(answers, model).result(timeout=120)
    for got, expected in zip(there, answers(model), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "SparseTextEmbedding",
        "ImageEmbedding",
        "LateInteractionTextEmbedding",
        "LateInteractionMultimodalEmbedding",
    ],
)
def test_four_kinds_take_no_model_of_ones_own_there(name: str) -> None:
    """#713: here every kind does, as tests/fastembed_stream/test_own_models.py shows."""
    with pytest.raises(NotImplementedError):
        getattr(fastembed(), name).add_custom_model()


# Words


@pytest.mark.parametrize("recipe", [Colbert(query_marker=1, document_marker=2), TokenEmbeddings()])
def test_a_text_that_gives_no_numbers_leaves_its_neighbours_alone(
    recipe: Colbert | TokenEmbeddings, tmp_path: Path
) -> None:
    """One bad vector spoils its batch: tests/laws has dense and sparse ones, this the late ones."""
    model = row(write_late(tmp_path, toy=Toy(types=False, nan_word="broken")), recipe)
    embed = open_model(model, LATE_TEXT, runtime=ON_CPU)
    texts = ["a", "the broken point", "", "kafka " * 40]
    together = embed(texts)
    assert [bool(np.isfinite(vectors).all()) for vectors in together] == [True, False, True, True]
    for vectors, text in zip(together, texts, strict=True):
        np.testing.assert_allclose(vectors, embed([text])[0], atol=1e-6)


def test_bm25_needs_neither_hub_nor_cache(tmp_path: Path) -> None:
    """#615 #614 #560: word weights need a download, and fail on a machine without network."""
    options: dict[str, Any] = {"cache_dir": str(tmp_path), "local_files_only": True}
    [vector] = fastembed_stream.SparseTextEmbedding("Qdrant/bm25", **options).embed(["the streams"])
    assert len(vector.indices) == 1
    assert not list(tmp_path.iterdir())

    with pytest.raises(ValueError, match="Could not load model"):
        fastembed().SparseTextEmbedding("Qdrant/bm25", **options)


def split_by(words: Sequence[str]) -> Any:
    """Make a tokenizer that knows these words, and looks at no spaces."""
    return lambda text: [word for word in words if word in text]


@pytest.mark.parametrize(
    ("language", "words"),
    [("thai", ["ข้อมูล", "สตรีม", "ค้นหา"]), ("chinese", ["数据", "流", "搜索"])],
)
def test_bm25_finds_a_word_where_words_have_no_spaces(
    language: str, words: list[str], tmp_path: Path
) -> None:
    """#594 #610: a sentence without spaces is one word, or falls apart at its vowel signs."""
    data, stream, search = words
    texts = [data + stream, search + data]
    options: dict[str, Any] = {
        "language": language,
        "disable_stemmer": True,
        "tokenizer": split_by(words),
        "specific_model_path": str(tmp_path),
    }
    model = fastembed_stream.SparseTextEmbedding("Qdrant/bm25", **options)
    stored = as_dicts(model.embed(texts))
    [(query, _)] = next(iter(model.query_embed(data))).as_dict().items()
    assert [len(vector) for vector in stored] == [2, 2]
    assert all(query in vector for vector in stored)

    model = fastembed().SparseTextEmbedding("Qdrant/bm25", **options)
    stored = as_dicts(model.embed(texts))
    queries = next(iter(model.query_embed(data))).as_dict()
    assert not all(set(queries) <= set(vector) for vector in stored)


# Images


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(PNG, id="bytes"),
        pytest.param(base64.b64encode(PNG).decode(), id="base64"),
        pytest.param("data:image/png;base64," + base64.b64encode(PNG).decode(), id="data URL"),
    ],
)
def test_an_image_need_not_be_a_file(image: bytes | str, tmp_path: Path) -> None:
    """An image that came in a message has to be written to a file, or opened, by the caller."""
    folder = str(write_image_model(tmp_path))
    path = tmp_path / "odd.png"
    path.write_bytes(PNG)
    here = fastembed_stream.ImageEmbedding(IMAGE_NAME, specific_model_path=folder, runtime=ON_CPU)
    close(here.embed([image]), here.embed([path]), within=0)

    there = fastembed().ImageEmbedding(IMAGE_NAME, specific_model_path=folder, cuda=False)
    with pytest.raises((ValueError, OSError), match=r"null byte|File name too long"):
        list(there.embed([image]))


@pytest.mark.parametrize(
    ("parallel", "there_says"), [(None, "truncated"), (1, "Thread unexpectedly terminated")]
)
def test_a_broken_image_is_named(parallel: int | None, there_says: str, tmp_path: Path) -> None:
    """#669 #279: which image is broken is not told, and of a worker not even that one is."""
    folder = str(write_image_model(tmp_path))
    paths = [tmp_path / f"{name}.png" for name in ("whole", "broken", "other")]
    for path in paths:
        path.write_bytes(PNG[:200] if path.stem == "broken" else PNG)
    here = fastembed_stream.ImageEmbedding(IMAGE_NAME, specific_model_path=folder, runtime=ON_CPU)
    with pytest.raises(ImageError, match=r"Image 1 \(.*broken\.png\)") as named:
        list(here.embed(paths, parallel=parallel))
    assert named.value.position == 1

    there = fastembed().ImageEmbedding(IMAGE_NAME, specific_model_path=folder, cuda=False)
    with pytest.raises((OSError, RuntimeError), match=there_says) as unnamed:
        list(there.embed(paths, batch_size=1, parallel=parallel))
    assert "broken.png" not in str(unnamed.value)


# Quantization


def test_a_model_that_looks_at_batch_mates_can_be_kept_from_it(tmp_path: Path) -> None:
    """Activations quantized by the range of the whole batch make a vector depend on its mates."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    source, folder = write(tmp_path / "float"), write(tmp_path / "quantized")
    graph = str(folder / "model.onnx")
    quantization.quantize_dynamic(str(source / "model.onnx"), graph)
    texts = ["a", "the stream of text is broken", "kafka", "point"]
    told = row(folder, batch_invariant=False)
    alone = [open_model(told, runtime=ON_CPU)([text])[0] for text in texts]

    together = open_model(told, runtime=ON_CPU)(texts)
    assert np.abs(np.stack(together) - np.stack(alone)).max() > 1e-4
    each_by_itself = open_model(told, runtime=replace(ON_CPU, token_budget=1))(texts)
    close(each_by_itself, alone, within=0)

    model = theirs(folder)
    singly = [next(model.embed([text])) for text in texts]
    assert np.abs(np.stack(list(model.embed(texts))) - np.stack(singly)).max() > 1e-4


def test_every_row_of_a_dynamically_quantized_file_says_so() -> None:
    """Files of these names come from ONNX Runtime's `quantize_dynamic`."""
    names = ("model_quantized.onnx", "model_int8.onnx")
    quantized = {m.name for m in catalog.models() if m.model_file.endswith(names)}
    assert quantized
    assert quantized == {model.name for model in catalog.models() if not model.batch_invariant}
    told = [
        model
        for drop_in in (own.opened for own in OWN.values())
        for model in drop_in.list_supported_models()
        if not model["batch_invariant"]
    ]
    assert {model["model"] for model in told} == quantized


def test_every_test_that_the_table_of_complaints_names_is_there() -> None:
    table = (ROOT / "docs/fastembed-faults.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+)\.(\w+)`", table)
    assert len(named) > 40
    texts = {
        path.stem: path.read_text(encoding="utf-8")
        for folder in ("fastembed_stream", "laws", "parity")
        for path in (ROOT / "tests" / folder).glob("test_*.py")
    }
    assert [name for name in named if f"def test_{name[1]}(" not in texts.get(name[0], "")] == []

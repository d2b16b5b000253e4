"""Token vectors that are reduced where they were made equal those reduced after a copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from fastembed_stream import DenseText, open_model
from fastembed_stream.device_pooling import PooledSession, Reduction, pool_on_device
from fastembed_stream.devices import cuda_devices
from fastembed_stream.families import dense_text
from fastembed_stream.pooling import POOLS, Pooling
from fastembed_stream.runtime import Runtime
from fastembed_stream.session import Session
from fastembed_stream.shared_sessions import open_session
from tests.fastembed_stream.examples import MIXED_LENGTHS, ODD_TEXTS
from tests.fastembed_stream.reduction_graphs import FOLDER, graphs
from tests.fastembed_stream.tiny_models import row, write

ON_CPU = Runtime(device="cpu", threads=1, token_budget=200)
HIDDEN = np.random.default_rng(3).normal(size=(3, 5, 4)).astype(np.float32)
MASKS = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], dtype=np.int64)


@pytest.mark.parametrize("name", sorted(graphs()))
def test_the_graph_that_ships_is_the_one_that_is_made_here(name: str) -> None:
    assert onnx.load(str(FOLDER / f"{name}.onnx")) == graphs()[name]
    assert {path.stem for path in FOLDER.iterdir()} == set(graphs())


def reduce(name: Reduction, hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(FOLDER / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"hidden": hidden, "mask": mask})
    assert found.dtype == np.float32
    return np.asarray(found)


@pytest.mark.parametrize("pooling", ["cls", "mean", "last_token"])
def test_a_reduction_equals_the_pooling_of_its_name(pooling: Pooling) -> None:
    assert pooling != "none"
    expected = POOLS[pooling](HIDDEN, MASKS)
    np.testing.assert_allclose(reduce(pooling, HIDDEN, MASKS), expected, atol=1e-6)


def test_the_most_is_that_of_the_real_tokens() -> None:
    expected = [vectors[mask > 0].max(axis=0) for vectors, mask in zip(HIDDEN, MASKS, strict=True)]
    np.testing.assert_array_equal(reduce("max", HIDDEN, MASKS), expected)


@pytest.mark.parametrize("name", ["mean", "max"])
def test_padding_that_is_not_a_number_reaches_no_row(name: Reduction) -> None:
    spoilt = np.where(MASKS[..., None] > 0, HIDDEN, np.float32(np.nan))
    np.testing.assert_array_equal(reduce(name, spoilt, MASKS), reduce(name, HIDDEN, MASKS))


def test_on_the_cpu_nothing_is_reduced_beforehand(tmp_path: Path) -> None:
    session = open_session(write(tmp_path) / "model.onnx", ON_CPU)
    assert pool_on_device([session], session.outputs[0], "mean") is None


@pytest.mark.parametrize("pooling", ["cls", "mean", "last_token"])
def test_a_model_whose_vectors_are_pooled_on_the_device_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pooling: Pooling
) -> None:
    model = row(write(tmp_path), DenseText(pooling=pooling, normalize=True))
    texts = [*ODD_TEXTS, *MIXED_LENGTHS]
    expected = open_model(model, runtime=ON_CPU)(texts)
    made: list[Session] = []

    def as_on_a_gpu(sessions: list[Session], output: str, reduction: Reduction) -> list[Session]:
        del output
        made.extend(PooledSession(session, reduction) for session in sessions)
        return made

    monkeypatch.setattr(dense_text, "pool_on_device", as_on_a_gpu)
    np.testing.assert_allclose(open_model(model, runtime=ON_CPU)(texts), expected, atol=1e-6)
    assert made


@pytest.mark.gpu
@pytest.mark.skipif(cuda_devices() == 0, reason="the NVIDIA driver shows no GPU")
def test_on_a_gpu_the_hidden_states_stay_there(tmp_path: Path) -> None:
    session = open_session(write(tmp_path) / "model.onnx", Runtime(device="cuda"))
    reduced = pool_on_device([session], session.outputs[0], "mean")
    assert reduced is not None
    assert all(isinstance(each, PooledSession) for each in reduced)

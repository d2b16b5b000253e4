"""A GPU is used where it works; where it does not, the error or the log line says why."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from fastembed_stream import open_model
from fastembed_stream import providers as providers_module
from fastembed_stream.devices import available_cores, cuda_devices
from fastembed_stream.errors import DeviceError, ModelFilesError
from fastembed_stream.runtime import Runtime
from fastembed_stream.shared_sessions import open_session
from tests.fastembed_stream.examples import MIXED_LENGTHS, PACKAGED, ROOT, packaged_model
from tests.fastembed_stream.tiny_models import write

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
needs_gpu = pytest.mark.skipif(cuda_devices() == 0, reason="the NVIDIA driver shows no GPU")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write(tmp_path) / "model.onnx"


def pretend(monkeypatch: pytest.MonkeyPatch, *, providers: list[str], gpus: int) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: providers)
    monkeypatch.setattr(providers_module, "cuda_devices", lambda: gpus)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)


@pytest.fixture
def cuda_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend a driver that shows GPUs, and a CUDA provider that does not become active."""
    pretend(monkeypatch, providers=[CUDA, CPU], gpus=2)
    ordinary = ort.InferenceSession

    def on_cpu(path: str, options: Any, *, providers: Any, enable_fallback: int) -> Any:
        del providers, enable_fallback
        return ordinary(path, options, providers=[CPU])

    monkeypatch.setattr(ort, "InferenceSession", on_cpu)


def test_cuda_without_a_gpu_is_an_error_that_says_where_to_look(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, providers=[CUDA, CPU], gpus=0)
    with pytest.raises(DeviceError, match=r"shows no GPU\. Check nvidia-smi.*device='auto'"):
        open_session(graph, Runtime(device="cuda"))


def test_cuda_without_its_provider_is_an_error_with_the_command_that_cures_it(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, providers=[CPU], gpus=1)
    with pytest.raises(DeviceError, match=r"no CUDA provider.* pip install onnxruntime-gpu"):
        open_session(graph, Runtime(device="cuda"))


@pytest.mark.usefixtures("cuda_does_not_start")
def test_cuda_that_does_not_become_active_is_an_error_with_what_to_install(graph: Path) -> None:
    with pytest.raises(DeviceError, match=r"active: cpu.*fastembed-stream\[cuda\]"):
        open_session(graph, Runtime(device="cuda"))


@pytest.mark.usefixtures("cuda_does_not_start")
def test_auto_falls_back_to_the_cpu_and_says_so(
    graph: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "fastembed_stream"):
        assert open_session(graph, Runtime(threads=1)).device == "cpu"
    assert "not usable, running on the CPU. CUDA did not become active" in caplog.text


@pytest.mark.usefixtures("cuda_does_not_start")
def test_a_provider_by_name_that_does_not_become_active_is_said(
    graph: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "fastembed_stream"):
        session = open_session(graph, Runtime(providers=((CUDA, ()), (CPU, ())), threads=1))
    assert session.device == "cpu"
    assert f"{CUDA} did not become active" in caplog.text


def test_the_gpu_of_a_session_is_the_one_asked_for(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, providers=[CUDA, CPU], gpus=4)
    asked: list[Any] = []

    class Active:
        def get_inputs(self) -> list[Any]:
            return []

        def get_outputs(self) -> list[Any]:
            return []

        def get_providers(self) -> list[str]:
            return [CUDA, CPU]

        def disable_fallback(self) -> None: ...

    def opened(path: str, options: Any, *, providers: Any, enable_fallback: int) -> Active:
        del path, options
        assert enable_fallback == 0
        asked.extend(providers)
        return Active()

    monkeypatch.setattr(ort, "InferenceSession", opened)
    session = open_session(graph, Runtime(device="cuda", gpu_memory_bytes=1 << 30), device_id=3)
    [(provider, options)] = asked
    assert (session.device, session.lanes) == ("cuda", 2)
    assert (provider, options["device_id"]) == (CUDA, "3")
    assert options["arena_extend_strategy"] == "kSameAsRequested"
    assert options["gpu_mem_limit"] == "1073741824"


def test_a_gpu_number_that_is_not_there_is_an_error_with_the_count(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, providers=[CUDA, CPU], gpus=2)
    with pytest.raises(DeviceError, match=r"no GPU number 2: the NVIDIA driver shows 2, counted"):
        open_session(graph, Runtime(device="cuda", device_ids=(2,)), device_id=2)


@pytest.fixture
def cuda_breaks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pretend a CUDA provider that cannot be made; note each loading of its libraries."""
    pretend(monkeypatch, providers=[CUDA, TENSORRT, CPU], gpus=1)
    ordinary = ort.InferenceSession
    loaded: list[str] = []

    def broken(path: str, options: Any, *, providers: Any, enable_fallback: int) -> Any:
        if providers[0][0] != CPU and Path(path).stat().st_size > 100:
            msg = "CUDA failure 3: initialization error"
            raise RuntimeError(msg)
        return ordinary(path, options, providers=[CPU], enable_fallback=enable_fallback)

    monkeypatch.setattr(ort, "InferenceSession", broken)
    monkeypatch.setattr(ort, "preload_dlls", lambda: loaded.append("all"), raising=False)
    return loaded


@pytest.mark.usefixtures("cuda_breaks")
def test_cuda_that_breaks_while_a_session_is_made_is_an_error_of_the_device(graph: Path) -> None:
    with pytest.raises(DeviceError, match=rf"{CUDA} did not start for .*CUDA failure 3"):
        open_session(graph, Runtime(device="cuda"))


@pytest.mark.usefixtures("cuda_breaks")
def test_auto_falls_back_where_cuda_breaks_without_a_word_on_the_terminal(
    graph: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "fastembed_stream"):
        assert open_session(graph, Runtime(threads=1)).device == "cpu"
    assert "CUDA failure 3" in caplog.text
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("cuda_breaks")
def test_a_damaged_graph_is_an_error_of_its_file_on_a_gpu_too(graph: Path) -> None:
    graph.write_bytes(b"not a graph")
    with pytest.raises(ModelFilesError, match="cannot open"):
        open_session(graph, Runtime(device="cuda"))


@pytest.mark.parametrize(("name", "n_loads"), [(CUDA, 1), (TENSORRT, 1), (CPU, 0)])
def test_the_libraries_of_cuda_and_tensorrt_by_name_are_loaded_first(
    graph: Path, cuda_breaks: list[str], name: str, n_loads: int
) -> None:
    graph.write_bytes(b"")
    with pytest.raises(ModelFilesError):
        open_session(graph, Runtime(providers=((name, ()),)))
    assert len(cuda_breaks) == n_loads


@pytest.mark.skipif(cuda_devices() > 0, reason="this machine has a GPU")
def test_auto_without_a_gpu_runs_on_the_cpu_without_a_word(
    graph: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    ids = np.ones((1, 2), dtype=np.int64)
    feeds = {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids}
    with caplog.at_level(logging.DEBUG, "fastembed_stream"):
        session = open_session(graph, Runtime(device="auto"))
        session.run(session.outputs, feeds)
    assert session.device == "cpu"
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


@pytest.mark.skipif(cuda_devices() > 0, reason="this machine has a GPU")
def test_a_fresh_process_that_counts_gpus_in_vain_is_silent() -> None:
    code = "from fastembed_stream.devices import cuda_devices; assert cuda_devices() == 0"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_gives_the_vectors_of_the_cpu() -> None:
    folder = packaged_model()
    on_cpu = open_model(PACKAGED, folder=folder, runtime=Runtime(device="cpu", token_budget=512))
    on_gpu = open_model(PACKAGED, folder=folder, runtime=Runtime(device="cuda", token_budget=8192))
    np.testing.assert_allclose(on_gpu(MIXED_LENGTHS), on_cpu(MIXED_LENGTHS), atol=1e-3)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Count cores on a pretended machine: its affinity, and its files under /sys/fs/cgroup."""

    def count(affinity: int, **files: str) -> int:
        def read_text(path: Path, encoding: str | None = None) -> str:
            del encoding
            content = files.get(path.name.replace(".", "_"))
            if content is None:
                raise FileNotFoundError(path)
            return content

        with monkeypatch.context() as machine:
            machine.setattr("os.sched_getaffinity", lambda _: set(range(affinity)), raising=False)
            machine.setattr(Path, "read_text", read_text)
            available_cores.cache_clear()
            return available_cores()

    yield count
    available_cores.cache_clear()


@pytest.mark.parametrize(
    ("affinity", "files", "expected"),
    [
        (8, {}, 8),
        (8, {"cpu_max": "max 100000\n"}, 8),
        (8, {"cpu_max": "200000 100000\n"}, 2),
        (2, {"cpu_max": "800000 100000\n"}, 2),
        (8, {"cpu_max": "350000 100000\n"}, 3),
        (8, {"cpu_max": "50000 100000\n"}, 1),
        (8, {"cpu_cfs_quota_us": "400000\n", "cpu_cfs_period_us": "100000\n"}, 4),
        (8, {"cpu_cfs_quota_us": "-1\n", "cpu_cfs_period_us": "100000\n"}, 8),
        (8, {"cpu_max": "", "cpu_cfs_quota_us": "100000\n", "cpu_cfs_period_us": "100000\n"}, 1),
    ],
)
def test_cores_are_those_of_the_affinity_and_of_the_containers_quota(
    cores: Callable[..., int], affinity: int, files: dict[str, str], expected: int
) -> None:
    assert cores(affinity, **files) == expected

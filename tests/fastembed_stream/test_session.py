"""A graph opens once for each set of arguments, and all that a setting says reaches it."""

from __future__ import annotations

import re
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from fastembed_stream import catalog, locate, providers, shared_sessions
from fastembed_stream.errors import DeviceError, ModelFilesError, SettingError
from fastembed_stream.runtime import Runtime
from fastembed_stream.session import Session
from fastembed_stream.shared_sessions import keep, open_session
from fastembed_stream.values import Feeds
from tests.fastembed_stream.tiny_models import Toy, write

ON_CPU = Runtime(device="cpu", threads=2)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pooled = (("first_token", "first"),)
    return write(tmp_path_factory.mktemp("toy"), Toy(pooled=pooled)) / "model.onnx"


def feeds(n_rows: int = 2) -> Feeds:
    ids = np.ones((n_rows, 3), dtype=np.int64)
    return {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids * 0}


def with_options(graph: Path, *options: tuple[str, str]) -> Any:
    runtime = replace(ON_CPU, session_options=options)
    return open_session(graph, runtime).bound.get_session_options()


def test_a_session_tells_what_the_graph_takes_and_gives(graph: Path) -> None:
    session = open_session(graph, ON_CPU)
    assert session.inputs == {"input_ids", "attention_mask", "token_type_ids"}
    assert session.outputs == ("last_hidden_state", "first_token")
    assert session.device == "cpu"


def test_only_the_wanted_outputs_come_back_in_the_wanted_order(graph: Path) -> None:
    session = open_session(graph, ON_CPU)
    pooled, hidden = session.run(["first_token", "last_hidden_state"], feeds())
    np.testing.assert_array_equal(pooled, hidden[:, 0])
    assert len(session.run(["first_token"], feeds())) == 1


def test_what_the_graph_does_not_take_is_left_out(graph: Path) -> None:
    more = feeds() | {"position_ids": np.zeros((2, 3), dtype=np.int64)}
    assert open_session(graph, ON_CPU).run(["first_token"], more)[0].shape == (2, 16)


def test_the_same_arguments_give_the_same_session_and_others_another(graph: Path) -> None:
    first = open_session(graph, ON_CPU)
    assert open_session(graph.parent / "." / graph.name, ON_CPU) is first
    assert open_session(graph, replace(ON_CPU, lanes=1)) is not first
    assert open_session(graph, ON_CPU, device_id=1) is not first


def test_threads_that_open_the_same_graph_at_once_open_it_once(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Session] = []
    ordinary = providers.new_session

    def counted(*arguments: Any) -> Session:
        opened.append(ordinary(*arguments))
        return opened[-1]

    monkeypatch.setattr(shared_sessions, "new_session", counted)
    runtime = replace(ON_CPU, threads=3)
    threads = [threading.Thread(target=open_session, args=(graph, runtime)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("threads", "lanes", "expected"),
    [(4, None, (4, 1)), (4, 2, (2, 2)), (3, 2, (2, 1)), (1, 8, (8, 1))],
)
def test_the_threads_are_shared_out_among_the_lanes(
    graph: Path, threads: int, lanes: int | None, expected: tuple[int, int]
) -> None:
    session = open_session(graph, Runtime(device="cpu", threads=threads, lanes=lanes))
    n_threads = session.bound.get_session_options().intra_op_num_threads
    assert (session.lanes, n_threads) == expected


def test_the_other_layout_is_one_lane_on_all_threads(graph: Path) -> None:
    first = open_session(graph, Runtime(device="cpu", threads=4))
    assert first.other is not None
    other = first.other()
    assert (other.lanes, other.device, other.other) == (1, "cpu", None)
    assert other.bound.get_session_options().intra_op_num_threads == 4
    for ours, others in zip(
        first.run(first.outputs, feeds()), other.run(other.outputs, feeds()), strict=True
    ):
        np.testing.assert_array_equal(ours, others)


@pytest.mark.parametrize(
    ("told", "n_joined"),
    [((), 0), ((("optimization.disable_specified_optimizers", ""),), 12)],
)
def test_on_the_cpu_normalizations_stay_apart_from_additions_unless_told(
    told: tuple[tuple[str, str], ...], n_joined: int, tmp_path: Path
) -> None:
    graph = locate(catalog.find("fastembed-stream/all-MiniLM-L6-v2-int8")) / "model.onnx"
    kept = tmp_path / "as_it_runs.onnx"
    options = (("optimized_model_filepath", str(kept)), *told)
    open_session(graph, replace(ON_CPU, session_options=options))
    nodes = [node.op_type for node in onnx.load(kept).graph.node]
    assert nodes.count("SkipLayerNormalization") == n_joined


@pytest.mark.parametrize("settings", [{"threads": 1}, {"threads": 4, "lanes": 2}])
def test_given_lanes_and_a_single_thread_have_no_other_layout(
    graph: Path, settings: dict[str, int]
) -> None:
    assert open_session(graph, Runtime(device="cpu", **settings)).other is None  # type: ignore[arg-type]  # counts


def test_a_large_graph_is_not_opened_twice(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_CHEAP_TO_OPEN_BYTES", graph.stat().st_size - 1)
    assert open_session(graph, Runtime(device="cpu", threads=6)).other is None


def test_the_layout_that_is_kept_is_given_from_then_on_and_the_loser_is_freed(graph: Path) -> None:
    runtime = Runtime(device="cpu", threads=7)
    loser = open_session(graph, runtime)
    assert loser.other is not None
    winner = loser.other()
    keep(winner, instead_of=loser)
    assert open_session(graph, runtime) is winner
    gone = weakref.ref(loser)
    del loser
    assert gone() is None


def test_onnx_runtime_never_falls_back_by_itself(graph: Path) -> None:
    assert open_session(graph, ON_CPU).bound._enable_fallback is False


def test_without_a_setting_all_cores_of_the_process_are_used(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "available_cores", lambda: 5)
    assert open_session(graph, Runtime(device="cpu", token_budget=77)).lanes == 5


def test_options_reach_onnx_runtime(graph: Path) -> None:
    options = with_options(
        graph,
        ("enable_cpu_mem_arena", "0"),
        ("intra_op_num_threads", "3"),
        ("logid", "of the test"),
        ("graph_optimization_level", "1"),
        ("session.use_env_allocators", "1"),
    )
    assert options.enable_cpu_mem_arena is False
    assert options.intra_op_num_threads == 3
    assert options.logid == "of the test"
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert options.get_session_config_entry("session.use_env_allocators") == "1"


def test_idle_threads_do_not_spin_and_shapes_are_not_kept(graph: Path) -> None:
    options = with_options(graph)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.enable_mem_pattern is False


def test_a_config_entry_of_the_user_wins(graph: Path) -> None:
    options = with_options(graph, ("session.intra_op.allow_spinning", "1"))
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"


@pytest.mark.parametrize("name", ["enable_cpu_arena", "add_session_config_entry"])
def test_an_unknown_option_is_refused_by_name(graph: Path, name: str) -> None:
    with pytest.raises(SettingError, match=f"no attribute '{name}'"):
        with_options(graph, (name, "1"))


def test_an_option_with_a_value_that_cannot_be_is_refused(graph: Path) -> None:
    with pytest.raises(SettingError, match=r"enable_mem_pattern='no': expected a whole number"):
        with_options(graph, ("enable_mem_pattern", "no"))


def test_an_unknown_provider_is_refused_with_the_known_ones(graph: Path) -> None:
    with pytest.raises(SettingError, match=r"'NoSuchProvider' .* it has: .*CPUExecutionProvider"):
        open_session(graph, Runtime(providers=(("NoSuchProvider", ()),)))


def test_a_provider_by_name_runs(graph: Path) -> None:
    runtime = Runtime(providers=(("CPUExecutionProvider", ()),), threads=1)
    assert open_session(graph, runtime).device == "cpu"


@pytest.mark.parametrize("name", ["threads", "lanes", "token_budget"])
@pytest.mark.parametrize("value", [0, -1, "2", 2.0, True])
def test_counts_below_one_and_what_is_no_number_are_refused(name: str, value: object) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(SettingError, match=rf"{name}={value!r}\): expected at least 1"):
        Runtime(**settings)


@pytest.mark.parametrize("device", [{"device": "cuda"}, {"device_ids": (0,)}])
def test_providers_and_a_device_together_are_refused(device: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="give one"):
        Runtime(providers=(("CPUExecutionProvider", ()),), **device)


@pytest.mark.parametrize("content", [b"", b"not a graph", None])
def test_a_graph_that_cannot_be_read_is_an_error_of_its_file(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFilesError, match="cannot open") as error:
        open_session(path, ON_CPU)
    assert str(path) in str(error.value)


class Failing:
    """A session of ONNX Runtime that fails with a given error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def get_inputs(self) -> list[Any]:
        return []

    def get_outputs(self) -> list[Any]:
        return []

    def run(self, *_: Any) -> list[Any]:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("bad"),
        RuntimeError("Failed to allocate memory for requested buffer of size 1099511627776"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA failure 700: an illegal memory access was encountered"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR"),
    ],
)
def test_a_device_that_fails_is_an_outage_and_keeps_its_cause(error: Exception) -> None:
    session = Session(cast("Any", Failing(error)), device="cuda", lanes=1)
    with pytest.raises(DeviceError, match="cuda") as raised:
        session.run([], {})
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    "said",
    [
        "/onnxruntime/core/providers/cuda/tensor/gather.cc:42 indices element out of data bounds",
        "Non-zero status code while running node '/encoder/allocation/cuda_like/tensorrt/Add'",
        "Invalid rank for input: input_ids (allocator of the CUDAExecutionProvider)",
    ],
)
def test_bad_input_is_no_outage_though_its_message_names_a_path_or_a_node(said: str) -> None:
    session = Session(cast("Any", Failing(ValueError(said))), device="cuda", lanes=1)
    with pytest.raises(ValueError, match=re.escape(said)):
        session.run([], {})


def test_input_that_does_not_fit_stays_an_error_of_its_own(graph: Path) -> None:
    wrong = feeds() | {"input_ids": np.full((2, 3), 10**6)}
    with pytest.raises(Exception, match="indices element out of data bounds") as raised:
        open_session(graph, ON_CPU).run(["first_token"], wrong)
    assert not isinstance(raised.value, DeviceError)

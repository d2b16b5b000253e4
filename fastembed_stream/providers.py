"""Which execution provider runs a graph: the one that is asked for, or the best that works."""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from pathlib import Path

from fastembed_stream.devices import available_cores, cuda_devices
from fastembed_stream.errors import DeviceError, ModelFilesError, SettingError
from fastembed_stream.files import graph_identity
from fastembed_stream.installation import (
    no_cuda_provider,
    onnx_runtime,
    warn_of_an_overwritten_gpu_build,
)
from fastembed_stream.runtime import Options, Runtime, session_options
from fastembed_stream.session import Session
from fastembed_stream.threads import native_call

__all__ = ["new_session", "read_identity"]

_LOG = logging.getLogger(__name__)

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_CUDA_LANES = 2
"""Two calls in flight hide the copies of one behind the kernels of the other."""

_PRELOADED = (_CUDA, "TensorrtExecutionProvider")
"""Providers whose libraries come as Python packages, which the loader does not find by itself."""

_FILE_SIGNS = ("load model from", "deserialize tensor")
"""What errors say that blame the file, whatever the device."""

_ON_CPU: Options = (("optimization.disable_specified_optimizers", "SkipLayerNormFusion"),)
"""
Session options that hold on the CPU unless told otherwise. The kernel that joins an addition and a
layer normalization takes eight times as long there as the normalization alone, 8 % of MiniLM.
"""

_CHEAP_TO_OPEN_BYTES = 256 << 20
"""Up to this size a graph is opened once more to compare two layouts of the CPU's threads."""


def new_session(graph: Path, runtime: Runtime, device_id: int | None) -> Session:
    """
    Open a graph on the device that the runtime asks for.

    raises  DeviceError where the wanted device did not become active,
            ModelFilesError where ONNX Runtime cannot read the graph
    """
    match runtime.device:
        case _ if runtime.providers:
            wanted = [(name, dict(options)) for name, options in runtime.providers]
            if any(name in _PRELOADED for name, _ in wanted):
                _preload()
            session = _session(graph, runtime, wanted)
            if session.device != _device_of(wanted[0][0]):
                _LOG.warning(
                    "%s did not become active for %s; it runs on %s. Its libraries are missing, "
                    "or its device is.",
                    wanted[0][0],
                    graph.name,
                    session.device,
                )
            return session
        case "cpu":
            return _session(graph, runtime, [(_CPU, {})])
        case "cuda":
            return _cuda_session(graph, runtime, device_id)
        case "auto":
            warn_of_an_overwritten_gpu_build()
            if cuda_devices() == 0:
                return _session(graph, runtime, [(_CPU, {})])
            try:
                return _cuda_session(graph, runtime, device_id)
            except DeviceError as error:
                _LOG.warning("A GPU is here but not usable, running on the CPU. %s", error)
                return _session(graph, runtime, [(_CPU, {})])


def _cuda_session(graph: Path, runtime: Runtime, device_id: int | None) -> Session:
    ort = onnx_runtime()
    if _CUDA not in ort.get_available_providers():
        msg = f"device='cuda', but {no_cuda_provider()}"
        raise DeviceError(msg)
    if cuda_devices() == 0:
        msg = (
            "device='cuda', but the NVIDIA driver shows no GPU. Check nvidia-smi, "
            "CUDA_VISIBLE_DEVICES, and for a container --gpus all; or choose device='auto'."
        )
        raise DeviceError(msg)
    if not 0 <= (device_id or 0) < cuda_devices():
        msg = (
            f"device='cuda', but there is no GPU number {device_id}: the NVIDIA driver shows "
            f"{cuda_devices()}, counted from 0. Correct `device_ids`."
        )
        raise DeviceError(msg)
    _preload()
    options = {"device_id": str(device_id or 0), "arena_extend_strategy": "kSameAsRequested"}
    if runtime.gpu_memory_bytes is not None:
        options["gpu_mem_limit"] = str(runtime.gpu_memory_bytes)
    session = _session(graph, runtime, [(_CUDA, options)])
    if session.device != "cuda":
        msg = (
            f"CUDA did not become active for {graph.name} (active: {session.device}). Its "
            'libraries are missing or of another version: pip install "fastembed-stream[cuda]"'
        )
        raise DeviceError(msg)
    return session


def _preload() -> None:
    ort = onnx_runtime()
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()


def _session(graph: Path, runtime: Runtime, providers: list[tuple[str, dict[str, str]]]) -> Session:
    ort = onnx_runtime()
    known = ort.get_available_providers()
    for name, _ in providers:
        if name not in known:
            msg = f"Provider {name!r} is not in this ONNX Runtime; it has: {', '.join(known)}."
            raise SettingError(msg)
    on_cpu = providers[0][0] == _CPU
    threads = runtime.threads or available_cores()
    lanes = runtime.lanes or (threads if on_cpu else _CUDA_LANES)
    told = (*(_ON_CPU if on_cpu else ()), *runtime.session_options)
    options = session_options(told, threads=max(threads // lanes, 1) if on_cpu else threads)
    with native_call():
        try:
            # Its own fallback would build the session again on the CPU, here or in a later run, and
            # print a banner. ONNX Runtime 1.20 does not know the keyword, and only heeds the
            # method.
            session = ort.InferenceSession(
                str(graph), options, providers=providers, enable_fallback=0
            )
            session.disable_fallback()
        except Exception as error:  # the binding's errors share no root but Exception
            if on_cpu or any(sign in str(error).lower() for sign in _FILE_SIGNS):
                msg = f"ONNX Runtime cannot open {graph}: {error}"
                raise ModelFilesError(msg) from error
            msg = f"{providers[0][0]} did not start for {graph.name}: {error}"
            raise DeviceError(msg) from error
    reopened = functools.partial(_reopened, graph, read_identity(graph), providers)
    other = None
    if on_cpu and runtime.lanes is None and threads > 1 and _cheap_to_open(graph):
        other = functools.partial(reopened, replace(runtime, threads=threads, lanes=1))
    return Session(
        session,
        device=_device_of(session.get_providers()[0]),
        lanes=lanes,
        other=other,
        reopen=functools.partial(reopened, runtime),
    )


def _reopened(
    graph: Path, identity: bytes, providers: list[tuple[str, dict[str, str]]], runtime: Runtime
) -> Session:
    """Open a graph once more, if its files still hold what they held."""
    session = _session(graph, runtime, providers)
    if read_identity(graph) != identity:
        msg = f"{graph} was replaced since the model was opened. Open the model again."
        raise ModelFilesError(msg)
    return session


def _cheap_to_open(graph: Path) -> bool:
    return graph.stat().st_size <= _CHEAP_TO_OPEN_BYTES


def _device_of(provider: str) -> str:
    return {_CPU: "cpu", _CUDA: "cuda"}.get(provider, provider)


def read_identity(graph: Path) -> bytes:
    """Tell graphs apart by what they hold; ModelFilesError where one cannot be read."""
    try:
        return graph_identity(graph)
    except OSError as error:
        msg = f"ONNX Runtime cannot open {graph}: {error}"
        raise ModelFilesError(msg) from error

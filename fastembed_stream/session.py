"""
ONNX Runtime, and nothing else of it elsewhere: where a graph runs, with how many threads.

On CPU a graph runs on *lanes*: concurrent `session.run` calls, each on few threads. Small groups
on many lanes keep their tensors in cache, which beats one large group on all cores.

A session is shared while somebody holds it, and known by what its files hold. Its memory comes
back when the last holder lets go of it.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import sys
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from fastembed_stream.devices import available_cores, cuda_devices
from fastembed_stream.errors import DeviceError, ModelFilesError, SettingError
from fastembed_stream.files import graph_identity
from fastembed_stream.graphs import input_types
from fastembed_stream.installation import (
    no_cuda_provider,
    onnx_runtime,
    warn_of_an_overwritten_gpu_build,
)
from fastembed_stream.threads import ForkSafeLock, before_exit, native_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import onnxruntime

    from fastembed_stream.values import Feeds, Outputs

__all__ = ["Device", "Runtime", "Session", "keep", "open_session", "outages_told"]

_LOG = logging.getLogger(__name__)

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Options: TypeAlias = tuple[tuple[str, str], ...]

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_CUDA_LANES = 2
"""Two calls in flight hide the copies of one behind the kernels of the other."""

_PRELOADED = (_CUDA, "TensorrtExecutionProvider")
"""Providers whose libraries come as Python packages, which the loader does not find by itself."""

# Whole phrases: messages carry source paths and names of nodes, which may say 'cuda' or 'alloc'.
_DEVICE_SIGNS = (
    "cuda failure",
    "cublas_status",
    "cudnn_status",
    "failed to allocate memory",
    "bad_alloc",
    "out of memory",
)

_FILE_SIGNS = ("load model from", "deserialize tensor")
"""What errors say that blame the file, whatever the device."""

_ON_CPU: Options = (("optimization.disable_specified_optimizers", "SkipLayerNormFusion"),)
"""
Session options that hold on the CPU unless told otherwise. The kernel that joins an addition and a
layer normalization takes eight times as long there as the normalization alone, 8 % of MiniLM.
"""

_CHEAP_TO_OPEN_BYTES = 256 << 20
"""Up to this size a graph is opened once more to compare two layouts of the CPU's threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """
    How graphs run.

    device           'cpu'; 'cuda', which fails where CUDA does not become active; 'auto', which
                     takes a GPU that works and else the CPU
    device_ids       GPUs to use; work is spread over all of them
    providers        execution providers by name and options instead of `device`
    threads          CPU threads altogether; None takes the cores that this process may use
    lanes            concurrent calls for each session, which share `threads`; None takes one for
                     each thread on CPU, unless warm-up finds a single one faster
    token_budget     tokens of one group, padding included; None measures what suits the machine
    gpu_memory_bytes most memory that ONNX Runtime's arena takes of each GPU; None takes what comes
    session_options  attributes of ONNX Runtime's SessionOptions, such as
                     (("enable_cpu_mem_arena", "0"),); a name with a dot is a config entry
    """

    device: Device = "auto"
    device_ids: tuple[int, ...] = ()
    providers: tuple[tuple[str, Options], ...] = ()
    threads: int | None = None
    lanes: int | None = None
    token_budget: int | None = None
    gpu_memory_bytes: int | None = None
    session_options: Options = ()

    def __post_init__(self) -> None:
        for name in ("threads", "lanes", "token_budget", "gpu_memory_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                msg = f"Runtime({name}={value}): expected at least 1, or None to choose."
                raise SettingError(msg)
        if self.device not in get_args(Device):
            names = ", ".join(map(repr, get_args(Device)))
            msg = f"Runtime(device={self.device!r}): expected one of {names}."
            raise SettingError(msg)
        if self.providers and (self.device == "cuda" or self.device_ids):
            msg = "Runtime: `providers` stands instead of device='cuda' and device_ids; give one."
            raise SettingError(msg)


class Session:
    """
    One graph on one device, safe to run from several threads.

    device   'cpu', 'cuda' or the name of another active provider
    lanes    calls that may run at the same time
    inputs   names of the graph's inputs, in its order
    outputs  names of the graph's outputs, in its order
    other    opens the same graph in another layout, one lane on all threads, for warm-up to
             compare; None where the lanes were given or there is nothing to compare
    reopen   opens the same graph once more, for a forked child where this one cannot serve
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        *,
        device: str,
        lanes: int,
        other: Callable[[], Session] | None = None,
        reopen: Callable[[], Session] | None = None,
    ) -> None:
        self._bound = session
        self.device = device
        self.lanes = lanes
        self.other = other
        self._reopen = reopen
        self._is_lost = False
        self._running: set[onnxruntime.RunOptions] = set()
        self.inputs = dict.fromkeys(node.name for node in session.get_inputs()).keys()
        self.outputs = tuple(node.name for node in session.get_outputs())
        self._types = input_types(session)
        _LIVE.add(self)

    def __del__(self) -> None:
        """Free the session, and let the system have its memory."""
        if _STOPPED.is_set():
            return
        with _memory_given_back():
            del self._bound

    @property
    def bound(self) -> onnxruntime.InferenceSession:
        """
        The session as ONNX Runtime has it, usable in this process.

        raises  DeviceError in a forked child where the device does not survive a fork
        """
        if self._is_lost:
            with _LOCK:
                if self._is_lost:
                    self._bound = self._opened_again()
                    self._is_lost = False
        return self._bound

    def run(self, outputs: Sequence[str], feeds: Feeds) -> Outputs:
        """
        Run the graph.

        outputs  names to compute; the rest of the graph is skipped
        feeds    arrays by input name; what the graph does not take is left out
        raises   DeviceError where the device failed, and ONNX Runtime's own error for bad input
        """
        with outages_told(self.device), self.running() as options:
            return cast("Outputs", self.bound.run(list(outputs), self.taken(feeds), options))

    @contextmanager
    def running(self) -> Iterator[onnxruntime.RunOptions]:
        """Give the options of one run, by which the end of the program stops it."""
        import onnxruntime as ort

        options = ort.RunOptions()
        options.terminate = _STOPPED.is_set()
        self._running.add(options)
        try:
            yield options
        finally:
            self._running.discard(options)

    def stop(self) -> None:
        """Let the runs end at their next node, with an error."""
        for options in list(self._running):
            options.terminate = True

    def taken(self, feeds: Feeds) -> Feeds:
        """Leave out what the graph does not take, and give the rest the types that it takes."""
        return {
            name: array.astype(self._types.get(name, array.dtype), copy=False)
            for name, array in feeds.items()
            if name in self.inputs
        }

    def after_fork(self) -> None:
        """
        Be ready to serve in a child that was forked with this session open.

        It goes on where no other thread had a hand in it. Else it is lost, and never touched again,
        not even to be freed: it has threads that do not exist, and would wait for them.
        """
        self._is_lost = self.device != "cpu" or bool(self._running) or self._has_threads()
        self._running = set()
        if self._is_lost:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._bound))

    def _opened_again(self) -> onnxruntime.InferenceSession:
        if self.device != "cpu" or self._reopen is None:
            msg = (
                f"This model was opened on {self.device!r} before the process forked, and does not "
                "survive that. Open it in the child (lazy_load=True waits for its first use), or "
                "start children by 'spawn'."
            )
            raise DeviceError(msg)
        return self._reopen().bound

    def _has_threads(self) -> bool:
        options = self._bound.get_session_options()
        return (options.intra_op_num_threads, options.inter_op_num_threads) != (1, 1)


@contextmanager
def outages_told(device: str) -> Iterator[None]:
    """Tell what a device does wrong from what the input does."""
    try:
        yield
    except MemoryError as error:
        msg = f"Out of memory while running on {device}: {error}"
        raise DeviceError(msg) from error
    except Exception as error:
        text = str(error).lower()
        if any(sign in text for sign in _DEVICE_SIGNS):
            msg = f"The device {device!r} failed: {error}"
            raise DeviceError(msg) from error
        raise


_Key: TypeAlias = "tuple[bytes, Runtime, int | None]"

_LOCK = ForkSafeLock()
_OPEN: weakref.WeakValueDictionary[_Key, Session] = weakref.WeakValueDictionary()
"""The sessions that somebody holds, by what they were made of."""
_LIVE: weakref.WeakSet[Session] = weakref.WeakSet()
_STOPPED = Event()

_M_TRIM_THRESHOLD = -1
"""glibc's name for it, see mallopt(3)."""


def open_session(graph: Path, runtime: Runtime, *, device_id: int | None = None) -> Session:
    """
    Open a graph, or share it with who has it open: same content, same arguments.

    device_id  GPU number; None for the CPU or the first GPU
    raises     DeviceError where the wanted device did not become active,
               ModelFilesError where ONNX Runtime cannot read the graph
    """
    how = replace(runtime, token_budget=None, device_ids=())
    with _LOCK:
        key = (_identity(graph), how, device_id)
        session = _OPEN.get(key)
        while session is None:
            session = _opened(graph, runtime, device_id)
            identity = _identity(graph)
            if identity != key[0]:  # the file was replaced while it was read
                key, session = (identity, how, device_id), None
        _OPEN[key] = session
        return session


def keep(winner: Session, *, instead_of: Session) -> None:
    """Let `open_session` give the winner from now on, and forget the other."""
    with _LOCK:
        for key, known in list(_OPEN.items()):
            if known is instead_of:
                _OPEN[key] = winner


def _identity(graph: Path) -> bytes:
    try:
        return graph_identity(graph)
    except OSError as error:
        msg = f"ONNX Runtime cannot open {graph}: {error}"
        raise ModelFilesError(msg) from error


def _stop_all() -> None:
    _STOPPED.set()
    for session in list(_LIVE):
        session.stop()


@contextmanager
def _memory_given_back() -> Iterator[None]:
    """
    Give the system back what is freed meanwhile: glibc would keep it for whoever comes next.

    It keeps up to 64 MiB at the top of each arena, and each lane may have an arena; from the first
    session that is freed on, it keeps 1 MiB.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "malloc_trim"):
        yield
        return
    libc.mallopt(_M_TRIM_THRESHOLD, 1 << 20)
    yield
    libc.malloc_trim(0)


def _after_fork() -> None:
    for session in list(_LIVE):
        session.after_fork()
    if sys.platform == "linux" and "onnxruntime" in sys.modules:
        # At the very end of a process ONNX Runtime waits for a thread of its own, which a child
        # does not have (seen in 1.31). By then Python has done all that it does at its end.
        libc = ctypes.CDLL(None)
        if hasattr(libc, "on_exit"):
            libc.on_exit(libc["_exit"], None)


before_exit(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _opened(graph: Path, runtime: Runtime, device_id: int | None) -> Session:
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
    options = _session_options(told, threads=max(threads // lanes, 1) if on_cpu else threads)
    try:
        # Its own fallback would build the session again on the CPU, here or in a later run, and
        # print a banner. ONNX Runtime 1.20 does not know the keyword, and only heeds the method.
        with native_call():
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
    reopened = functools.partial(_reopened, graph, _identity(graph), providers)
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
    if _identity(graph) != identity:
        msg = f"{graph} was replaced since the model was opened. Open the model again."
        raise ModelFilesError(msg)
    return session


def _cheap_to_open(graph: Path) -> bool:
    return graph.stat().st_size <= _CHEAP_TO_OPEN_BYTES


def _device_of(provider: str) -> str:
    return {_CPU: "cpu", _CUDA: "cuda"}.get(provider, provider)


def _session_options(told: Options, *, threads: int) -> Any:  # noqa: ANN401  binding, untyped
    ort = onnx_runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Patterns are kept for every shape ever seen: with ragged text that is a leak.
    options.enable_mem_pattern = False
    # Idle threads that spin steal the cores of other lanes and of the stream around them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    for name, value in told:
        if "." in name:
            options.add_session_config_entry(name, value)
            continue
        present = getattr(options, name, None)
        if present is None or callable(present):
            msg = f"SessionOptions has no attribute {name!r}; see ONNX Runtime's documentation."
            raise SettingError(msg)
        try:
            # Flags, numbers and the binding's enumerations are all made from a whole number.
            setattr(options, name, value if isinstance(present, str) else type(present)(int(value)))
        except (TypeError, ValueError) as error:
            msg = (
                f"SessionOptions.{name}={value!r}: expected a whole number as text, such as "
                f"{int(present)!r}; ONNX Runtime says: {error}"
            )
            raise SettingError(msg) from error
    return options

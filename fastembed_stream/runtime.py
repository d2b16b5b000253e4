"""How graphs are to run: on which device, on how many threads, with which options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from fastembed_stream.counts import is_count
from fastembed_stream.errors import SettingError
from fastembed_stream.installation import onnx_runtime

__all__ = ["Device", "Options", "Runtime", "session_options"]

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Options: TypeAlias = tuple[tuple[str, str], ...]


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
            if value is not None and not is_count(value):
                msg = f"Runtime({name}={value!r}): expected at least 1, or None to choose."
                raise SettingError(msg)
        if self.device not in get_args(Device):
            names = ", ".join(map(repr, get_args(Device)))
            msg = f"Runtime(device={self.device!r}): expected one of {names}."
            raise SettingError(msg)
        if self.providers and (self.device == "cuda" or self.device_ids):
            msg = "Runtime: `providers` stands instead of device='cuda' and device_ids; give one."
            raise SettingError(msg)


def session_options(told: Options, *, threads: int) -> Any:  # noqa: ANN401  binding, untyped
    """
    Make ONNX Runtime's options of a session.

    told     what `Runtime.session_options` says; of two values the later one counts
    threads  of one call
    raises   SettingError for an option that it does not have, or another value than it takes
    """
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

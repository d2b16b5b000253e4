"""
Hidden states that become one vector a row on the device that made them.

Copying float32[batch, seq, dim] off a GPU can take longer than computing it, above all where dim
is a vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from typing_extensions import override

from fastembed_stream.installation import onnx_runtime
from fastembed_stream.session import Session, outages_told
from fastembed_stream.threads import native_call

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnxruntime

    from fastembed_stream.values import Feeds, Outputs

__all__ = ["PooledSession", "Reduction", "pool_on_device"]

Reduction: TypeAlias = Literal["cls", "mean", "last_token", "max"]
"""How token vectors become one: the first, the average, the last real one, the most of each."""

_CUDA = "CUDAExecutionProvider"


def pool_on_device(
    sessions: Sequence[Session], output: str, reduction: Reduction
) -> list[Session] | None:
    """
    Return sessions whose `run` pools one output over the tokens; None where that does not pay.

    It pays on a GPU, and only for an output float32[batch, seq, dim].
    """
    for session in sessions:
        [node] = [node for node in session.bound.get_outputs() if node.name == output]
        is_hidden = node.type == "tensor(float)" and len(node.shape) == 3  # noqa: PLR2004
        if session.device != "cuda" or not is_hidden:
            return None
    return [PooledSession(session, reduction) for session in sessions]


class PooledSession(Session):
    """
    A session followed by a small graph on the same device; only the result is copied from there.

    The small graphs are made by the tests: hidden float32[batch, seq, dim] and mask
    int64[batch, seq] to float32[batch, dim].
    """

    def __init__(self, first: Session, reduction: Reduction) -> None:
        super().__init__(first.bound, device=first.device, lanes=first.lanes)
        self._first = first  # held, so that who opens the graph meanwhile shares it
        ort = onnx_runtime()
        graph = files("fastembed_stream") / "data" / "reductions" / f"{reduction}.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 3
        providers = first.bound.get_providers()
        self._place = _place(first.bound)
        devices = [(name, self._place.options if name == _CUDA else {}) for name in providers]
        with native_call():
            self._second = ort.InferenceSession(graph.read_bytes(), options, providers=devices)

    @override
    def run(self, outputs: Sequence[str], feeds: Feeds) -> Outputs:
        """
        Run the graph, and reduce the one output that is asked for over the tokens.

        feeds    has attention_mask int64[batch, seq], and it takes part in the reduction
        returns  one float32[batch, dim]
        """
        [output] = outputs
        with outages_told(self.device), self.running() as options:
            binding = self.bound.io_binding()
            for name, array in self.taken(feeds).items():
                binding.bind_cpu_input(name, array)
            binding.bind_output(output, self._place.name, self._place.number)
            self.bound.run_with_iobinding(binding, options)
            [hidden] = binding.get_outputs()
            second = self._second.io_binding()
            second.bind_ortvalue_input("hidden", hidden)
            second.bind_cpu_input("mask", feeds["attention_mask"])
            second.bind_output("reduced", "cpu")
            self._second.run_with_iobinding(second, options)
            return cast("Outputs", second.copy_outputs_to_cpu())


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a session runs: ONNX Runtime's name and number of the device, and its options."""

    name: str
    number: int
    options: dict[str, str]


def _place(session: onnxruntime.InferenceSession) -> _Place:
    options = session.get_provider_options().get(_CUDA)
    if options is None:
        return _Place("cpu", 0, {})
    number = int(options.get("device_id", 0))
    return _Place("cuda", number, {"device_id": str(number)})

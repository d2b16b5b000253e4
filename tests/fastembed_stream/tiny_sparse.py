"""Sparse models small enough to make in a test, and how sparse vectors are compared."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fastembed_stream.families.bm25 import Bm25
from fastembed_stream.families.bm42 import Bm42
from fastembed_stream.families.minicoil import MiniCoil
from fastembed_stream.families.splade import InferenceFreeSplade, Splade
from fastembed_stream.model import Model, PackageData
from fastembed_stream.values import SparseEmbedding
from tests.fastembed_stream.tiny_models import DIM, VOCABULARY, Toy, graph, row, write_tokenizer

N_MEANINGS = 4
KNOWN = ("stream", "text", "vector", "kafka")
STOP_WORDS = ("the", "a", "is")
IDF = {"stream": 3.5, "kafka": 7.25, "##a": 0.5, "[CLS]": 9.0, "no such token": 1.0}


def write_splade(folder: Path, toy: Toy | None = None, **tokenizer: Any) -> Model:
    """Make a SPLADE, float[batch, seq, vocabulary], and describe it."""
    _write(folder, toy, "logits", **tokenizer)
    return row(folder, Splade(), dim=0)


def write_inference_free(folder: Path, toy: Toy | None = None, **tokenizer: Any) -> Model:
    """Make an inference-free SPLADE with the weights of a few query tokens."""
    _write(folder, toy, "logits", **tokenizer)
    (folder / "idf.json").write_text(json.dumps(IDF), encoding="utf-8")
    return row(folder, InferenceFreeSplade(), dim=0, other_files=("idf.json",))


def write_bm42(folder: Path, toy: Toy | None = None, **tokenizer: Any) -> Model:
    """Make a BM42 with two heads of attention."""
    _write(folder, toy, "attention_6", **tokenizer)
    _write_stop_words(folder)
    return row(folder, Bm42(), dim=0, other_files=("stopwords.txt",))


def write_minicoil(folder: Path, toy: Toy | None = None, **tokenizer: Any) -> Model:
    """Make a MiniCOIL that knows the meanings of a few words."""
    _write(folder, toy, "last_hidden_state", **tokenizer)
    _write_stop_words(folder)
    stems = {"stream": "stream", "text": "text", "vector": "vector", "kafka": "kafka"}
    vocabulary = {"vocab": KNOWN, "stem_mapping": stems}
    names = ("minicoil.triplet.model.npy", "minicoil.triplet.model.vocab")
    (folder / names[1]).write_text(json.dumps(vocabulary), encoding="utf-8")
    matrices = np.random.default_rng(3).normal(size=(len(KNOWN) + 1, DIM, N_MEANINGS))
    np.save(folder / names[0], matrices.astype(np.float32))
    return row(folder, MiniCoil(), dim=0, other_files=("stopwords.txt", *names))


def bm25(**options: Any) -> Model:
    """Describe BM25 with options."""
    return Model(
        name="tests/bm25",
        source=PackageData(folder="stop_words"),
        model_file="",
        recipe=Bm25(**options),
    )


def as_dicts(vectors: Iterable[Any]) -> list[dict[int, float]]:
    """Give values by dimension, of both libraries' vectors."""
    return [vector.as_dict() for vector in vectors]


def same(
    got: Iterable[SparseEmbedding],
    expected: Iterable[Any],
    *,
    within: float = 1e-6,
    unless_zero: bool = False,
) -> None:
    """
    Check that vectors have the same dimensions, each once, and values.

    unless_zero  a dimension may be missing in one where its value is as good as zero
    """
    for number, (one, other) in enumerate(zip(got, as_dicts(expected), strict=True)):
        values = one.as_dict()
        assert len(values) == len(one.indices) == len(one.values)
        assert one.values.dtype == np.float32
        assert one.indices.dtype == np.int64
        if not unless_zero:
            assert values.keys() == other.keys(), number
        keys = sorted(values.keys() | other.keys())
        np.testing.assert_allclose(
            [values.get(key, 0.0) for key in keys],
            [other.get(key, 0.0) for key in keys],
            atol=within,
            rtol=0,
            err_msg=f"row {number}",
        )


def _write(folder: Path, toy: Toy | None, output: str, **tokenizer: Any) -> None:
    write_tokenizer(folder, **tokenizer)
    model = graph(toy or Toy())
    if output == "logits":
        _add_logits(model.graph)
    elif output == "attention_6":
        _add_attention(model.graph)
    onnx.checker.check_model(model)
    onnx.save_model(model, str(folder / "model.onnx"))


def _write_stop_words(folder: Path) -> None:
    (folder / "stopwords.txt").write_text("\n".join(STOP_WORDS) + "\n", encoding="utf-8")


def _add_logits(body: Any) -> None:
    """Score the vocabulary at each token; about one in ten scores is above zero."""
    n_words = len(VOCABULARY)
    table = np.random.default_rng(7).normal(size=(DIM, n_words)).astype(np.float32)
    _constants(body, words=table, shift=np.array([-3.0], np.float32))
    body.node.extend(
        [
            helper.make_node("MatMul", ["hidden", "words"], ["scores"]),
            helper.make_node("Add", ["scores", "shift"], ["logits"]),
        ]
    )
    shape: list[str | int | None] = ["batch", "seq", n_words]
    body.output.insert(0, helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape))


def _add_attention(body: Any) -> None:
    make = helper.make_node
    _constants(body, unreal=np.array([1e4], np.float32), half=np.array([0.5], np.float32))
    body.node.extend(
        [
            make("Transpose", ["hidden"], ["turned"], perm=[0, 2, 1]),
            make("MatMul", ["hidden", "turned"], ["likeness"]),
            make("Sub", ["weight", "one"], ["is_fill"]),
            make("Mul", ["is_fill", "unreal"], ["far_below"]),
            make("Unsqueeze", ["far_below", "along"], ["below"]),
            make("Add", ["likeness", "below"], ["first_head"]),
            make("Mul", ["likeness", "half"], ["halved"]),
            make("Add", ["halved", "below"], ["second_head"]),
        ]
    )
    for head in ("first", "second"):
        body.node.extend(
            [
                make("Softmax", [f"{head}_head"], [f"{head}_soft"], axis=-1),
                make("Unsqueeze", [f"{head}_soft", "along"], [f"{head}_attention"]),
            ]
        )
    heads = ["first_attention", "second_attention"]
    body.node.append(make("Concat", heads, ["attention_6"], axis=1))
    shape: list[str | int | None] = ["batch", 2, "seq", "seq"]
    body.output.append(helper.make_tensor_value_info("attention_6", TensorProto.FLOAT, shape))


def _constants(body: Any, **arrays: Any) -> None:
    body.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())

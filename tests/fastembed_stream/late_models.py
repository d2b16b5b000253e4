"""Model folders of late interaction and of cross-encoders, small enough to make in a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.fastembed_stream.tiny_models import VOCABULARY, Toy, graph, write_tokenizer


def write_late(
    folder: Path,
    *,
    toy: Toy | None = None,
    model_file: str = "model.onnx",
    mask_token: str = "[MASK]",  # noqa: S107  not a secret
    **tokenizer: Any,
) -> Path:
    """
    Make the folder of a late interaction model.

    mask_token  a special token that the vocabulary may lack; it then gets the next id
    """
    toy = toy or Toy(types=False)
    _save(_with_ids_folded(graph(toy)), folder / model_file, external=toy.external)
    write_tokenizer(folder, **tokenizer)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": mask_token}
    (folder / "special_tokens_map.json").write_text(json.dumps(names), encoding="utf-8")
    return folder


def write_cross_encoder(
    folder: Path, *, toy: Toy | None = None, model_file: str = "model.onnx", **tokenizer: Any
) -> Path:
    """Make the folder of a cross-encoder, whose graph has scores and nothing else."""
    toy = toy or Toy(pooled=(("logits", "first"),))
    model = graph(toy)
    del model.graph.output[0]
    _save(model, folder / model_file, external=toy.external)
    return write_tokenizer(folder, **tokenizer)


def _with_ids_folded(model: Any) -> Any:
    """Let the graph take any id, such as markers far outside of a small vocabulary."""
    size = numpy_helper.from_array(np.array(len(VOCABULARY)), "size")
    model.graph.initializer.append(size)
    for node in model.graph.node:
        if node.op_type == "Gather" and list(node.input) == ["table", "input_ids"]:
            node.input[1] = "folded"
    model.graph.node.insert(0, helper.make_node("Mod", ["input_ids", "size"], ["folded"]))
    onnx.checker.check_model(model)
    return model


def _save(model: Any, path: Path, *, external: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=external,
        location=f"{path.name}_data",
        size_threshold=256,
    )

"""Each way to make a vector gives fastembed's numbers, on a toy under a real model's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fastembed_stream.examples import MIXED_LENGTHS, ODD_TEXTS
from tests.fastembed_stream.tiny_models import (
    DIM,
    VOCABULARY,
    Toy,
    safetensors,
    write,
    write_static,
)
from tests.parity.oracle import both, both_static, close

TEXTS = (*ODD_TEXTS, *MIXED_LENGTHS, "broken stream of kafka")
JINA = "jinaai/jina-embeddings-v3"
POTION = "minishlab/potion-base-8M"
LEFT = {"padding_side": "left"}
PADS_LEFT = {
    "strategy": {"Fixed": 128},
    "direction": "Left",
    "pad_to_multiple_of": None,
    "pad_id": 4,
    "pad_type_id": 0,
    "pad_token": "[MASK]",
}


@pytest.mark.parametrize(
    ("name", "model_file", "toy", "tokenizer"),
    [
        ("BAAI/bge-small-en-v1.5", "model_optimized.onnx", Toy(), {}),
        ("jinaai/jina-clip-v1", "onnx/text_model.onnx", Toy(types=False), {}),
        ("sentence-transformers/all-MiniLM-L6-v2", "model.onnx", Toy(), {}),
        ("sentence-transformers/all-MiniLM-L6-v2", "model.onnx", Toy(), {"config": LEFT}),
        ("thenlper/gte-large", "model.onnx", Toy(), {"shipped": {"padding": PADS_LEFT}}),
        ("nomic-ai/nomic-embed-text-v1.5", "onnx/model.onnx", Toy(), {}),
        ("intfloat/multilingual-e5-large", "model.onnx", Toy(external=True), {}),
        (
            "google/embeddinggemma-300m",
            "onnx/model.onnx",
            Toy(types=False, external=True, pooled=(("sentence_embedding", "first"),)),
            {},
        ),
        (
            "ibm-granite/granite-embedding-small-english-r2",
            "onnx/model.onnx",
            Toy(external=True, pooled=(("pooled", "first"), ("third", "final"))),
            {},
        ),
        ("Qwen/Qwen3-Embedding-0.6B", "onnx/model.onnx", Toy(external=True), {"config": LEFT}),
        ("Qwen/Qwen3-Embedding-0.6B-Q", "onnx/model_quantized.onnx", Toy(), {"config": LEFT}),
        ("Qwen/Qwen3-Embedding-0.6B-Q", "onnx/model_quantized.onnx", Toy(), {}),
        (
            "google/siglip2-base-patch16-224",
            "onnx/text_model.onnx",
            Toy(mask=False, types=False, pooled=(("pooler_output", "final"),)),
            {},
        ),
        (
            "google/siglip2-base-patch16-224",
            "onnx/text_model.onnx",
            Toy(types=False, pooled=(("other", "first"), ("pooler_output", "final"))),
            {"config": {"model_max_length": 20}, "specials": False},
        ),
        (
            "google/siglip2-base-patch16-224",
            "onnx/text_model.onnx",
            Toy(mask=False, types=False, pooled=(("pooler_output", "final"),)),
            {"config": LEFT},
        ),
    ],
)
def test_a_family_agrees(
    tmp_path: Path, name: str, model_file: str, toy: Toy, tokenizer: dict[str, Any]
) -> None:
    models = both(name, write(tmp_path, toy, model_file=model_file, **tokenizer))
    models.agree(TEXTS)
    models.agree(TEXTS, batch_size=3)
    assert models.ours.token_count(TEXTS) == models.theirs.token_count(TEXTS)


def test_a_model_that_pools_by_itself_agrees(tmp_path: Path) -> None:
    folder = write(tmp_path, Toy(pooled=(("pooled", "first"),)))
    _drop_first_output(folder / "model.onnx")
    both("Qdrant/clip-ViT-B-32-text", folder).agree(TEXTS)


def test_half_precision_agrees_to_its_own_precision(tmp_path: Path) -> None:
    folder = write(tmp_path, Toy(half=True), model_file="onnx/model.onnx")
    both("nomic-ai/nomic-embed-text-v1", folder).agree(TEXTS, within=2e-3)


@pytest.mark.parametrize("task", [None, 0, 2, 4])
def test_the_task_of_embed_agrees(tmp_path: Path, task: int | None) -> None:
    models = both(JINA, _jina(tmp_path))
    theirs = {} if task is None else {"task_id": task}
    close(models.ours.embed(TEXTS, task_id=task), models.theirs.embed(TEXTS, **theirs))


def test_the_tasks_of_queries_and_passages_agree_and_differ(tmp_path: Path) -> None:
    models = both(JINA, _jina(tmp_path))
    close(models.ours.query_embed(TEXTS), models.theirs.query_embed(TEXTS))
    close(models.ours.passage_embed(TEXTS), models.theirs.passage_embed(TEXTS))
    [query], [passage] = models.ours.query_embed("a"), models.ours.passage_embed("a")
    assert np.abs(query - passage).max() > 0.01


def test_the_task_of_the_constructor_is_the_one_of_embed_alone(tmp_path: Path) -> None:
    folder = _jina(tmp_path)
    models = both(JINA, folder, task_id=3)
    plain = both(JINA, folder)
    close(models.ours.embed(TEXTS), plain.theirs.embed(TEXTS, task_id=3))
    close(models.ours.query_embed(TEXTS), plain.theirs.query_embed(TEXTS))


def _table(n_rows: int, kind: str = "float32") -> Any:
    return np.random.default_rng(5).normal(size=(n_rows, DIM)).astype(kind)


_N = len(VOCABULARY)
_WEIGHTS = np.linspace(0.1, 2, _N)
_MAPPING = np.arange(_N) // 3


@pytest.mark.parametrize(
    "tensors",
    [
        {"embeddings": _table(_N)},
        {"embeddings": _table(_N, "float16")},
        {"embeddings": _table(_N, "float64")},
        {"embeddings": _table(_N), "weights": _WEIGHTS},
        {"embeddings": _table(_N), "weights": _WEIGHTS.astype(np.float32)},
        {"embeddings": _table(_N // 3 + 1), "mapping": _MAPPING},
        {"embeddings": _table(_N // 3 + 1), "mapping": _MAPPING.astype(np.int32)},
        {"embeddings": _table(_N // 3 + 1), "mapping": _MAPPING, "weights": _WEIGHTS},
        {"embeddings": (_table(_N) * 40).astype(np.int8)},
    ],
    ids=lambda tensors: ", ".join(f"{name} {array.dtype}" for name, array in tensors.items()),
)
def test_a_static_model_agrees(tmp_path: Path, tensors: dict[str, Any]) -> None:
    models = both_static(POTION, write_static(tmp_path, tensors))
    texts = [*TEXTS, "ж✓ unknown ✗ tokens", "✓"]
    models.agree(texts)
    for text in texts:
        models.agree([text])
    assert models.ours.token_count(texts) == models.theirs.token_count(texts)


def test_a_static_model_in_bfloat16_agrees(tmp_path: Path) -> None:
    folder = write_static(tmp_path)
    bits = (_table(_N).view(np.uint32) >> 16).astype(np.uint16)
    data = safetensors({"embeddings": bits}, {"embeddings": "BF16"})
    (folder / "model.safetensors").write_bytes(data)
    both_static(POTION, folder).agree(TEXTS)


def _jina(folder: Path) -> Path:
    toy = Toy(task=True, types=False, external=True)
    return write(folder, toy, model_file="onnx/model.onnx")


def _drop_first_output(graph: Path) -> None:
    import onnx

    model = onnx.load(str(graph))
    del model.graph.output[0]
    onnx.save_model(model, str(graph))

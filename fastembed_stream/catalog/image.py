"""The image models that `fastembed` 0.9 has, one row each, in its order."""

from __future__ import annotations

from fastembed_stream.families.dense_image import DenseImage
from fastembed_stream.model import HubRepository, Model

__all__ = ["MODELS"]

MODELS: tuple[Model, ...] = (
    Model(
        name="Qdrant/clip-ViT-B-32-vision",
        dim=512,
        source=HubRepository(repo="Qdrant/clip-ViT-B-32-vision"),
        model_file="model.onnx",
        recipe=DenseImage(),
        license="mit",
        size_gb=0.34,
    ),
    Model(
        name="Qdrant/resnet50-onnx",
        dim=2048,
        source=HubRepository(repo="Qdrant/resnet50-onnx"),
        model_file="model.onnx",
        recipe=DenseImage(),
        license="apache-2.0",
        size_gb=0.1,
    ),
    Model(
        name="Qdrant/Unicom-ViT-B-16",
        dim=768,
        source=HubRepository(repo="Qdrant/Unicom-ViT-B-16"),
        model_file="model.onnx",
        recipe=DenseImage(),
        license="mit",
        size_gb=0.82,
    ),
    Model(
        name="Qdrant/Unicom-ViT-B-32",
        dim=512,
        source=HubRepository(repo="Qdrant/Unicom-ViT-B-32"),
        model_file="model.onnx",
        recipe=DenseImage(),
        license="mit",
        size_gb=0.48,
    ),
    Model(
        name="jinaai/jina-clip-v1",
        dim=768,
        source=HubRepository(repo="jinaai/jina-clip-v1"),
        model_file="onnx/vision_model.onnx",
        recipe=DenseImage(),
        license="apache-2.0",
        size_gb=0.34,
    ),
    Model(
        name="nomic-ai/nomic-embed-vision-v1.5",
        dim=768,
        source=HubRepository(repo="nomic-ai/nomic-embed-vision-v1.5"),
        model_file="onnx/model.onnx",
        recipe=DenseImage(pooling="cls"),
        license="apache-2.0",
        size_gb=0.37,
    ),
    Model(
        name="nomic-ai/nomic-embed-vision-v1.5-Q",
        dim=768,
        source=HubRepository(repo="nomic-ai/nomic-embed-vision-v1.5"),
        model_file="onnx/model_quantized.onnx",
        recipe=DenseImage(pooling="cls"),
        license="apache-2.0",
        size_gb=0.1,
        batch_invariant=False,
    ),
    Model(
        name="google/siglip2-base-patch16-224",
        dim=768,
        source=HubRepository(repo="onnx-community/siglip2-base-patch16-224-ONNX"),
        model_file="onnx/vision_model.onnx",
        recipe=DenseImage(output="pooler_output"),
        license="apache-2.0",
        size_gb=0.37,
    ),
)

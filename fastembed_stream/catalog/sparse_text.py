"""The sparse text models that `fastembed` 0.9 has, one row each, in its order."""

from __future__ import annotations

from fastembed_stream.model import HubRepository, Model
from fastembed_stream.recipes import Bm25, Bm42, InferenceFreeSplade, MiniCoil, Splade

__all__ = ["MODELS"]

MODELS: tuple[Model, ...] = (
    Model(
        name="prithivida/Splade_PP_en_v1",
        source=HubRepository(repo="Qdrant/Splade_PP_en_v1"),
        model_file="model.onnx",
        recipe=Splade(vocab_size=30_522),
        license="apache-2.0",
        size_gb=0.532,
    ),
    Model(
        name="prithvida/Splade_PP_en_v1",
        source=HubRepository(repo="Qdrant/Splade_PP_en_v1"),
        model_file="model.onnx",
        recipe=Splade(vocab_size=30_522),
        license="apache-2.0",
        size_gb=0.532,
    ),
    Model(
        name="Qdrant/bm42-all-minilm-l6-v2-attentions",
        source=HubRepository(repo="Qdrant/all_miniLM_L6_v2_with_attentions"),
        model_file="model.onnx",
        other_files=("stopwords.txt",),
        recipe=Bm42(),
        license="apache-2.0",
        size_gb=0.09,
    ),
    Model(
        name="Qdrant/bm25",
        source=HubRepository(repo="Qdrant/bm25"),
        model_file="config.json",
        other_files=(
            "arabic.txt",
            "danish.txt",
            "dutch.txt",
            "english.txt",
            "finnish.txt",
            "french.txt",
            "german.txt",
            "greek.txt",
            "hungarian.txt",
            "italian.txt",
            "norwegian.txt",
            "portuguese.txt",
            "romanian.txt",
            "russian.txt",
            "spanish.txt",
            "swedish.txt",
            "turkish.txt",
        ),
        recipe=Bm25(),
        license="apache-2.0",
        size_gb=0.01,
    ),
    Model(
        name="Qdrant/minicoil-v1",
        source=HubRepository(repo="Qdrant/minicoil-v1"),
        model_file="onnx/model.onnx",
        other_files=("stopwords.txt", "minicoil.triplet.model.npy", "minicoil.triplet.model.vocab"),
        recipe=MiniCoil(),
        license="apache-2.0",
        size_gb=0.09,
    ),
    Model(
        name="opensearch-project/opensearch-neural-sparse-encoding-doc-v3-gte",
        source=HubRepository(repo="Qdrant/opensearch-neural-sparse-encoding-doc-v3-gte"),
        model_file="model.onnx",
        other_files=("idf.json",),
        recipe=InferenceFreeSplade(),
        license="apache-2.0",
        size_gb=0.55,
    ),
)

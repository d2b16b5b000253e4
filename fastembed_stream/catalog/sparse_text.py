"""
The sparse text models that `fastembed` 0.9 has, one row each, in its order.

Where `recipe.needs_idf` is true, the collection in Qdrant needs `modifier=idf` for the vector.
"""

from __future__ import annotations

from fastembed_stream.families.bm25 import Bm25
from fastembed_stream.families.bm42 import Bm42
from fastembed_stream.families.minicoil import MiniCoil
from fastembed_stream.families.splade import InferenceFreeSplade, Splade
from fastembed_stream.model import HubRepository, Model, PackageData

__all__ = ["MODELS"]

MODELS: tuple[Model, ...] = (
    Model(
        name="prithivida/Splade_PP_en_v1",
        source=HubRepository(repo="Qdrant/Splade_PP_en_v1"),
        model_file="model.onnx",
        recipe=Splade(vocab_size=30_522),
        description="English SPLADE++: documents and queries expanded by a transformer.",
        license="apache-2.0",
        size_gb=0.532,
    ),
    Model(
        name="prithvida/Splade_PP_en_v1",
        source=HubRepository(repo="Qdrant/Splade_PP_en_v1"),
        model_file="model.onnx",
        recipe=Splade(vocab_size=30_522),
        description="prithivida/Splade_PP_en_v1 under a misspelt name, kept for old code.",
        license="apache-2.0",
        size_gb=0.532,
    ),
    Model(
        name="Qdrant/bm42-all-minilm-l6-v2-attentions",
        source=HubRepository(repo="Qdrant/all_miniLM_L6_v2_with_attentions"),
        model_file="model.onnx",
        other_files=("stopwords.txt",),
        recipe=Bm42(),
        description="English words weighed by a transformer's attention; needs modifier=idf.",
        license="apache-2.0",
        size_gb=0.09,
    ),
    Model(
        name="Qdrant/bm25",
        # The lists of the hub's Qdrant/bm25 come with this package; there is nothing else to fetch.
        source=PackageData(folder="stop_words"),
        model_file="",
        recipe=Bm25(),
        description="BM25 for 18 languages, without a network or files; needs modifier=idf.",
        license="apache-2.0",
        size_gb=0.01,
    ),
    Model(
        name="Qdrant/minicoil-v1",
        source=HubRepository(repo="Qdrant/minicoil-v1"),
        model_file="onnx/model.onnx",
        other_files=("stopwords.txt", "minicoil.triplet.model.npy", "minicoil.triplet.model.vocab"),
        recipe=MiniCoil(),
        description="English BM25 that tells the meanings of a word apart; needs modifier=idf.",
        license="apache-2.0",
        size_gb=0.09,
    ),
    Model(
        name="opensearch-project/opensearch-neural-sparse-encoding-doc-v3-gte",
        source=HubRepository(repo="Qdrant/opensearch-neural-sparse-encoding-doc-v3-gte"),
        model_file="model.onnx",
        other_files=("idf.json",),
        recipe=InferenceFreeSplade(),
        description="English SPLADE for documents; a query is a look-up of stored weights.",
        license="apache-2.0",
        size_gb=0.55,
    ),
)

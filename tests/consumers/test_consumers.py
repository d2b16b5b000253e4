"""Libraries that use fastembed work on this engine, and get the numbers that it gives alone."""

from __future__ import annotations

import asyncio
import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastembed_stream import (
    ImageEmbedding,
    LateInteractionMultimodalEmbedding,
    LateInteractionTextEmbedding,
    SparseTextEmbedding,
    TextCrossEncoder,
    TextEmbedding,
)
from tests.fastembed_stream.tiny_images import FILES

pytestmark = pytest.mark.consumers

DENSE = "fastembed-stream/all-MiniLM-L6-v2-int8"
BM25 = "Qdrant/bm25"
TEXTS = [
    "Bread is baked in the morning.",
    "The train leaves at noon.",
    "Rain is on its way.",
]
QUESTION = "when does my train go?"


@pytest.fixture(scope="module")
def vectors() -> list[list[float]]:
    return listed(TextEmbedding(DENSE).embed(TEXTS))


@pytest.fixture(scope="module")
def weights() -> list[dict[int, float]]:
    return [vector.as_dict() for vector in SparseTextEmbedding(BM25).embed(TEXTS)]


def listed(vectors: Iterable[Any]) -> list[Any]:
    return [vector.tolist() for vector in vectors]


def close(got: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.array(got), np.array(expected), atol=1e-5)


def paired(indices: Iterable[int], values: Iterable[float]) -> dict[int, float]:
    return dict(zip(indices, values, strict=True))


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def late_scores(question: str) -> list[float]:
    model = LateInteractionTextEmbedding("tests/late")
    [asked] = map(unit, model.query_embed(question))
    return [float((asked @ unit(each).T).max(axis=1).sum()) for each in model.embed(TEXTS)]


def sparse_scores(question: str) -> list[float]:
    model = SparseTextEmbedding("tests/sparse")
    [asked] = [each.as_dict() for each in model.query_embed(question)]
    answers = [each.as_dict() for each in model.embed(TEXTS)]
    return [sum(asked.get(key, 0) * value for key, value in each.items()) for each in answers]


def picture(tmp_path: Path) -> str:
    path = tmp_path / "picture.png"
    Image.open(io.BytesIO(FILES["odd.png"])).save(path)
    return str(path)


def test_qdrant_client_embeds_documents_of_three_kinds_and_finds_them() -> None:
    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    assert client.get_embedding_size(DENSE) == 384
    late = models.VectorParams(
        size=client.get_embedding_size("tests/late"),
        distance=models.Distance.COSINE,
        multivector_config=models.MultiVectorConfig(
            comparator=models.MultiVectorComparator.MAX_SIM
        ),
    )
    client.create_collection(
        "notes",
        vectors_config={
            "dense": models.VectorParams(size=384, distance=models.Distance.COSINE),
            "late": late,
        },
        sparse_vectors_config={
            "bm25": models.SparseVectorParams(modifier=models.Modifier.IDF),
            "splade": models.SparseVectorParams(),
        },
    )

    def asked(text: str, kind: str) -> models.Document:
        names = {"dense": DENSE, "late": "tests/late", "bm25": BM25, "splade": "tests/sparse"}
        return models.Document(text=text, model=names[kind])

    kinds = ("dense", "late", "bm25", "splade")
    client.upsert(
        "notes",
        [
            models.PointStruct(id=n, vector={kind: asked(text, kind) for kind in kinds})
            for n, text in enumerate(TEXTS)
        ],
    )
    for kind in ("dense", "bm25"):
        found = client.query_points("notes", query=asked(QUESTION, kind), using=kind, limit=1)
        assert [point.id for point in found.points] == [1], kind
    for kind, scores in (("late", late_scores(QUESTION)), ("splade", sparse_scores(QUESTION))):
        found = client.query_points("notes", query=asked(QUESTION, kind), using=kind)
        got = {point.id: point.score for point in found.points}
        assert got == pytest.approx(dict(enumerate(scores)), abs=1e-4), kind
    [point] = client.retrieve("notes", [2], with_vectors=["late", "splade"])
    assert isinstance(point.vector, dict)
    [tokens] = LateInteractionTextEmbedding("tests/late").embed(TEXTS[2])
    close(point.vector["late"], unit(tokens))
    [splade] = SparseTextEmbedding("tests/sparse").embed(TEXTS[2])
    stored = point.vector["splade"]
    assert isinstance(stored, models.SparseVector)
    assert paired(stored.indices, stored.values) == pytest.approx(splade.as_dict(), abs=1e-5)


def test_qdrant_client_embeds_images_pages_and_questions_to_them(tmp_path: Path) -> None:
    from qdrant_client import QdrantClient, models
    from qdrant_client.embed.model_embedder import ModelEmbedder

    embedder = ModelEmbedder()
    path = picture(tmp_path)
    pages = LateInteractionMultimodalEmbedding("tests/pages")
    asked = [
        (models.Image(image=path, model="tests/image"), ImageEmbedding("tests/image").embed(path)),
        (models.Image(image=path, model="tests/pages"), pages.embed_image(path)),
        (models.Document(text="a stream", model="tests/pages"), pages.embed_text("a stream")),
    ]
    for question, expected in asked:
        [got] = embedder.embed_models([question])
        close(got, listed(expected)[0])

    client = QdrantClient(":memory:")
    size = client.get_embedding_size("tests/image")
    client.create_collection(
        "pictures", models.VectorParams(size=size, distance=models.Distance.DOT)
    )
    image = models.Image(image=path, model="tests/image")
    client.upsert("pictures", [models.PointStruct(id=7, vector=image)])
    assert client.query_points("pictures", query=image).points[0].id == 7


def test_qdrant_clients_own_add_and_query_and_its_asynchronous_twin() -> None:
    from qdrant_client import AsyncQdrantClient, QdrantClient, models

    document = models.Document(text=TEXTS[0], model=DENSE)

    async def stored() -> object:
        client = AsyncQdrantClient(":memory:")
        await client.create_collection(
            "notes", models.VectorParams(size=384, distance=models.Distance.COSINE)
        )
        await client.upsert("notes", [models.PointStruct(id=3, vector=document)])
        return (await client.query_points("notes", query=document)).points[0].id

    assert asyncio.run(stored()) == 3
    assert DENSE in QdrantClient.list_text_models()
    assert QdrantClient.list_sparse_models()[BM25]["requires_idf"]


def test_langchain_community_embeds(vectors: list[list[float]]) -> None:
    from langchain_community.embeddings import FastEmbedEmbeddings

    for kind in ("default", "passage"):
        with pytest.warns(UserWarning, match="instead of max_length use `max_tokens`"):
            embeddings = FastEmbedEmbeddings(model_name=DENSE, doc_embed_type=kind, parallel=2)
        close(embeddings.embed_documents(TEXTS), vectors)
        close(embeddings.embed_query(TEXTS[0]), vectors[0])
        close(asyncio.run(embeddings.aembed_query(TEXTS[1])), vectors[1])


def test_langchain_qdrant_finds_by_both_kinds_of_vectors(weights: list[dict[int, float]]) -> None:
    from langchain_community.embeddings import FastEmbedEmbeddings
    from langchain_qdrant import FastEmbedSparse, QdrantVectorStore, RetrievalMode

    sparse = FastEmbedSparse(model_name=BM25, parallel=0)
    got = [paired(one.indices, one.values) for one in sparse.embed_documents(TEXTS)]
    assert got == [pytest.approx(each, abs=1e-6) for each in weights]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dense = FastEmbedEmbeddings(model_name=DENSE)
    for mode in RetrievalMode:
        store = QdrantVectorStore.from_texts(
            TEXTS,
            embedding=dense,
            sparse_embedding=sparse,
            location=":memory:",
            collection_name="notes",
            retrieval_mode=mode,
        )
        [found] = store.similarity_search(QUESTION, k=1)
        assert found.page_content == TEXTS[1], mode


def test_llama_indexs_embeddings_embed(vectors: list[list[float]]) -> None:
    from llama_index.embeddings.fastembed import FastEmbedEmbedding

    with pytest.warns(UserWarning, match="embed_batch_size use `batch_size` of `embed`"):
        embeddings = FastEmbedEmbedding(model_name=DENSE, embed_batch_size=2)
    close(embeddings.get_text_embedding_batch(TEXTS), vectors)
    close(embeddings.get_query_embedding(TEXTS[1]), vectors[1])
    close(asyncio.run(embeddings.aget_text_embedding(TEXTS[2])), vectors[2])
    passages = FastEmbedEmbedding(
        model_name=DENSE, doc_embed_type="passage", providers=["CPUExecutionProvider"]
    )
    close(passages.get_text_embedding(TEXTS[0]), vectors[0])


def test_llama_indexs_sparse_embeddings_embed(weights: list[dict[int, float]]) -> None:
    from llama_index.sparse_embeddings.fastembed import FastEmbedSparseEmbedding

    with pytest.warns(UserWarning, match="instead of max_length"):
        embeddings = FastEmbedSparseEmbedding(model_name=BM25)
    got = embeddings.get_text_embedding_batch(TEXTS)
    assert got == [pytest.approx(each, abs=1e-6) for each in weights]
    [asked] = SparseTextEmbedding(BM25).query_embed(QUESTION)
    assert embeddings.get_query_embedding(QUESTION) == asked.as_dict()


def test_llama_indexs_vector_store_finds_by_both_kinds_of_vectors() -> None:
    from llama_index.core import StorageContext, VectorStoreIndex
    from llama_index.core.schema import TextNode
    from llama_index.embeddings.fastembed import FastEmbedEmbedding
    from llama_index.vector_stores.qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient

    store = QdrantVectorStore(
        collection_name="notes",
        client=QdrantClient(":memory:"),
        enable_hybrid=True,
        fastembed_sparse_model=BM25,
    )
    dense = FastEmbedEmbedding(model_name=DENSE)
    index = VectorStoreIndex(
        [TextNode(text=text) for text in TEXTS],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=dense,
    )
    retriever = index.as_retriever(vector_store_query_mode="hybrid", similarity_top_k=1)
    assert retriever.retrieve(QUESTION)[0].node.get_content() == TEXTS[1]


def test_haystack_embeds_texts_and_documents(
    vectors: list[list[float]], weights: list[dict[int, float]]
) -> None:
    from haystack import Document
    from haystack_integrations.components.embedders import fastembed as embedders

    text = embedders.FastembedTextEmbedder(model=DENSE, progress_bar=False)
    many = embedders.FastembedDocumentEmbedder(model=DENSE, progress_bar=False, parallel=2)
    sparse = embedders.FastembedSparseTextEmbedder(
        model=BM25, progress_bar=False, model_kwargs={"k": 1.2}
    )
    sparse_many = embedders.FastembedSparseDocumentEmbedder(model=BM25, progress_bar=False)
    for each in (text, many, sparse, sparse_many):
        each.warm_up()
    documents = [Document(content=content) for content in TEXTS]
    close(text.run(text=TEXTS[0])["embedding"], vectors[0])
    close([each.embedding for each in many.run(documents=documents)["documents"]], vectors)
    one = sparse.run(text=TEXTS[0])["sparse_embedding"]
    assert paired(one.indices, one.values) == pytest.approx(weights[0], abs=1e-6)
    got = [each.sparse_embedding for each in sparse_many.run(documents=documents)["documents"]]
    assert [paired(each.indices, each.values) for each in got] == [
        pytest.approx(each, abs=1e-6) for each in weights
    ]


def test_haystack_ranks_documents() -> None:
    from haystack import Document
    from haystack_integrations.components.rankers import fastembed as rankers

    documents = [Document(content=content) for content in TEXTS]
    ranker = rankers.FastembedRanker(model_name="tests/cross", parallel=2)
    late = rankers.FastembedLateInteractionRanker(model_name="tests/late", top_k=1)
    for each in (ranker, late):
        each.warm_up()
    ranked = ranker.run(query=QUESTION, documents=documents)["documents"]
    scores = list(TextCrossEncoder("tests/cross").rerank(QUESTION, TEXTS))
    close([each.score for each in ranked], sorted(scores, reverse=True))
    assert ranked[0].content == TEXTS[int(np.argmax(scores))]
    [best] = late.run(query=TEXTS[2], documents=documents)["documents"]
    model = LateInteractionTextEmbedding("tests/late")
    [query] = model.query_embed(TEXTS[2])
    sums = [float((query @ each.T).max(axis=1).sum()) for each in model.embed(TEXTS)]
    assert best.content == TEXTS[int(np.argmax(sums))]


def test_the_mcp_server_of_qdrant_embeds(vectors: list[list[float]]) -> None:
    from mcp_server_qdrant.embeddings.fastembed import FastEmbedProvider

    provider = FastEmbedProvider(DENSE)
    close(asyncio.run(provider.embed_documents(TEXTS)), vectors)
    close(asyncio.run(provider.embed_query(TEXTS[0])), vectors[0])
    assert provider.get_vector_size() == 384
    assert provider.get_vector_name() == "fast-all-minilm-l6-v2-int8"


def test_agno_embeds(vectors: list[list[float]]) -> None:
    from agno.knowledge.embedder.fastembed import FastEmbedEmbedder

    embedder = FastEmbedEmbedder(id=DENSE)
    close(embedder.get_embedding(TEXTS[0]), vectors[0])
    close(asyncio.run(embedder.async_get_embedding(TEXTS[1])), vectors[1])


def test_datapizza_embeds(weights: list[dict[int, float]]) -> None:
    from datapizza.embedders.fastembedder import FastEmbedder

    got = FastEmbedder(BM25).embed(TEXTS)
    assert [paired(each.indices, each.values) for each in got] == [
        pytest.approx(each, abs=1e-6) for each in weights
    ]

"""What is found equals what brute force finds, for each query alone and among others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastembed_stream import SettingError
from operators import (
    Batch,
    Collection,
    Identity,
    Server,
    VectorSpace,
)
from operators.points import point_of
from operators.qdrant import prepare
from operators.retrieval import (
    Fused,
    Nearest,
    Rescored,
    Search,
)
from operators.stages import apply
from tests.operators.qdrant_things import over_rest, put
from tests.operators.retrieval_things import (
    DENSE,
    DIM,
    FAR,
    FEW,
    LATE,
    MEMORY,
    RARE,
    SPACES,
    WORDS,
    Thing,
    asked,
    collection,
    expected,
    fill,
    found,
    query,
    stage_of,
    thing,
)
from tests.servers import running_qdrant

WORD = st.integers(0, 5)
WEIGHT = st.integers(1, 4).map(float)

things = st.builds(
    lambda dense, words, late: Thing(
        dense=np.float32(dense), words=words, late=np.float32(late).reshape(-1, DIM)
    ),
    # Positive, so that each has a direction.
    dense=st.lists(st.integers(1, 5), min_size=DIM, max_size=DIM),
    words=st.dictionaries(WORD, WEIGHT, min_size=1, max_size=4),
    late=st.integers(1, 3).flatmap(
        lambda n: st.lists(st.integers(1, 5), min_size=n * DIM, max_size=n * DIM)
    ),
)


@pytest.fixture(autouse=True)
def _memory() -> Iterator[None]:
    yield
    for one in MEMORY.client().get_collections().collections:
        MEMORY.client().delete_collection(one.name)


@settings(max_examples=30, deadline=None)
@given(
    stored=st.lists(things, min_size=1, max_size=8),
    queries=st.lists(things, min_size=1, max_size=4),
    limit=st.integers(1, 9),
)
@pytest.mark.parametrize("vector", [DENSE, FAR, WORDS, RARE, LATE])
def test_what_is_found_is_what_brute_force_finds(
    vector: str, stored: list[Thing], queries: list[Thing], limit: int
) -> None:
    stage = stage_of(fill(MEMORY, collection(), stored), Nearest(vector=vector), limit=limit)
    records = [query(one, number) for number, one in enumerate(queries)]
    together = asked(stage, *records)
    assert together.failures == ()
    assert [record.key for record in together.records] == [record.key for record in records]
    alone = [asked(stage, record).records[0] for record in records]
    for one, record in zip(queries * 2, [*together.records, *alone], strict=True):
        scores = expected(vector, one, stored)
        best = sorted(scores.values(), reverse=True)[:limit]
        assert [hit.score for hit in record.hits] == pytest.approx(best, rel=1e-5, abs=1e-5)
        for hit in record.hits:
            assert hit.score == pytest.approx(scores[int(hit.id)], rel=1e-5, abs=1e-5)
            assert hit.payload == {"number": hit.id}


@settings(max_examples=30, deadline=None)
@given(stored=st.lists(things, min_size=1, max_size=8), one=things, limit=st.integers(1, 9))
def test_all_candidates_rescored_are_those_of_the_better_vector(
    stored: list[Thing], one: Thing, limit: int
) -> None:
    where = fill(MEMORY, collection(), stored)
    for first in (Nearest(vector=DENSE), Fused(vectors=(DENSE, RARE))):
        search = Rescored(first=first, by=LATE, candidates=len(stored))
        [record] = asked(stage_of(where, search, limit=limit), query(one)).records
        scores = expected(LATE, one, stored)
        best = sorted(scores.values(), reverse=True)[:limit]
        assert [hit.score for hit in record.hits] == pytest.approx(best, rel=1e-5)
        assert all(hit.score == pytest.approx(scores[int(hit.id)], rel=1e-5) for hit in record.hits)


def test_only_the_candidates_are_rescored() -> None:
    where = fill(MEMORY, collection(), FEW)
    one = replace(
        thing(9), late=np.array([[1, 1, 0]], np.float32)
    )  # by dense the last, by late the first
    for candidates, best in ((1, 3), (2, 2), (3, 1)):
        search = Rescored(first=Nearest(vector=DENSE), by=LATE, candidates=candidates)
        assert found(asked(stage_of(where, search, limit=1), query(one))) == [[best]]


def test_at_least_as_many_candidates_come_as_are_asked_for() -> None:
    where = fill(MEMORY, collection(), FEW)
    for search in (
        Rescored(first=Nearest(vector=DENSE), by=LATE, candidates=1),
        Fused(vectors=(DENSE, LATE), candidates=1),
    ):
        assert [len(ids) for ids in found(asked(stage_of(where, search), query(thing(1))))] == [3]


@pytest.mark.parametrize(("k", "weights"), [(None, ()), (1, ()), (60, (3.0, 1.0)), (None, (1, 9))])
def test_ranks_are_fused_as_the_formula_says(k: int | None, weights: tuple[float, ...]) -> None:
    where = fill(MEMORY, collection(), FEW)
    search = Fused(vectors=(DENSE, WORDS), k=k, weights=weights)
    [record] = asked(stage_of(where, search), query(thing(1, 2))).records
    by_dense, by_words = [1, 2, 3], found_by(where, WORDS, thing(1, 2))
    heavy = weights or (1.0, 1.0)
    scores = dict.fromkeys(by_dense, 0.0)
    for ranks, weight in zip((by_dense, by_words), heavy, strict=True):
        for rank, number in enumerate(ranks, 1):
            scores[number] += 1 / (rank / weight + (k or 2) - 1)
    got = {hit.id: hit.score for hit in record.hits}
    assert got == pytest.approx(scores)
    assert [hit.score for hit in record.hits] == sorted(got.values(), reverse=True)


def found_by(where: Collection, vector: str, one: Thing) -> list[Any]:
    return found(asked(stage_of(where, Nearest(vector=vector)), query(one)))[0]


def test_scores_are_fused_on_one_scale() -> None:
    where = fill(MEMORY, collection(), FEW)
    search = Fused(vectors=(DENSE, LATE), fusion="dbsf")
    assert found(asked(stage_of(where, search), query(thing(1)))) == [[1, 2, 3]]


def test_a_query_without_a_word_finds_nothing_by_words_and_the_rest_by_the_rest(
    store_at: Server,
) -> None:
    where = fill(store_at, collection(), FEW)
    silent, loud = query(thing(9), 0), query(thing(9, 1), 1)
    by_words = asked(stage_of(where, Nearest(vector=RARE), store_at), silent, loud)
    assert found(by_words)[0] == []
    assert sorted(found(by_words)[1]) == [1, 2]
    fused = asked(stage_of(where, Fused(vectors=(DENSE, RARE), weights=(2, 1)), store_at), silent)
    assert found(fused) == [[3, 2, 1]]
    nothing = Rescored(first=Nearest(vector=RARE), by=LATE)
    assert found(asked(stage_of(where, nothing, store_at), silent)) == [[]]


def test_every_place_gives_the_same_hits_without_what_is_ours(store_at: Server) -> None:
    where = fill(store_at, collection(), FEW, title="t")
    for search in (
        Nearest(vector=DENSE),
        Fused(vectors=(DENSE, WORDS), k=3, weights=(1, 2)),
        Rescored(first=Fused(vectors=(DENSE, RARE)), by=LATE),
    ):
        stage = stage_of(where, search, store_at)
        batch = asked(stage, *(query(thing(x, 1, 2), n) for n, x in enumerate((1, 9))))
        assert [sorted(ids) for ids in found(batch)] == [[1, 2, 3], [1, 2, 3]]
        [hit, *_] = batch.records[1].hits
        assert hit.payload == {"number": hit.id, "title": "t"}


def test_only_the_payload_that_was_asked_for_comes(store_at: Server) -> None:
    where = fill(store_at, collection(), FEW, title="t", text="long")
    stage = stage_of(where, Nearest(vector=DENSE), store_at, payload=("title",))
    [record] = asked(stage, query(thing(1))).records
    assert [hit.payload for hit in record.hits] == [{"title": "t"}] * 3
    [bare] = asked(replace(stage, payload=()), query(thing(1))).records
    assert [hit.payload for hit in bare.hits] == [{}] * 3


def test_a_query_that_was_not_embedded_or_by_another_model_fails_alone() -> None:
    stage = stage_of(fill(MEMORY, collection(), FEW), Nearest())
    good = query(thing(1), 0)
    bare = replace(query(thing(1), 1), vectors={}, models={})
    other = replace(query(thing(1), 2), models={DENSE: "f2"})
    empty = query(thing(1), 3).with_vector(DENSE, np.zeros((0, 2), np.float32), model="f1")
    batch = asked(stage, good, bare, other, empty)
    assert [record.key for record in batch.records] == ["q0"]
    reasons = [failure.reason for failure in batch.failures]
    assert "has no vector 'dense'; it has none" in reasons[0]
    assert "was made by f2, those of the collection by f1" in reasons[1]
    assert "has no numbers" in reasons[2]


def test_what_the_server_refuses_is_a_failure_of_its_query_alone(store_at: Server) -> None:
    stage = stage_of(fill(store_at, collection(), FEW), Nearest(), store_at)
    queries = [query(thing(1), number) for number in range(5)]
    queries[3] = queries[3].with_vector(DENSE, np.ones(DIM + 1, np.float32), model="f1")
    done = apply(stage, Batch(records=tuple(queries)))
    assert [record.key for record in done.records] == ["q0", "q1", "q2", "q4"]
    assert [failure.origin.offset for failure in done.failures] == [3]


def test_a_vector_that_queries_do_not_bring_is_named_while_the_flow_is_built() -> None:
    where = collection(dense=SPACES[DENSE])
    with pytest.raises(SettingError, match="needs 'late', but queries bring 'dense'"):
        stage_of(where, Rescored(first=Nearest(vector=DENSE)))


def test_all_that_differs_in_the_collection_is_named_when_it_is_opened(store_at: Server) -> None:
    where = fill(store_at, collection(), FEW)
    spaces = {
        "title": SPACES[DENSE],
        WORDS: SPACES[DENSE],
        FAR: VectorSpace(model="big", fingerprint="f1", dim=9),
        DENSE: VectorSpace(model="new", fingerprint="f2", dim=DIM),
        LATE: SPACES[LATE],
    }
    search = Rescored(first=Fused(vectors=("title", WORDS, FAR, DENSE)), by=LATE)
    stage = stage_of(replace(where, vectors=spaces), search, store_at)
    with pytest.raises(SettingError) as refused:
        stage.open()
    told = str(refused.value)
    assert "no vector 'title', it has 'dense', 'far', 'late', 'rare', 'words'" in told
    assert "'words' is sparse there, dense here" in told
    assert "'far' has 3 dimensions, big 9" in told
    assert "'dense' was made by m (f1), the queries by new (f2)" in told
    assert "'late'" not in told.split("it has")[1].partition(";")[2]


def test_a_collection_that_is_not_there_is_named_when_it_is_opened(store_at: Server) -> None:
    where = collection()
    with pytest.raises(SettingError, match=f"Collection '{where.name}' cannot be read"):
        stage_of(where, Nearest(), store_at).open()


def test_a_collection_that_tells_no_model_is_searched_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = stage_of(fill(MEMORY, collection(), FEW, made_by=None), Nearest())
    assert found(asked(stage, query(thing(1)))) == [[1, 2, 3]]
    assert "Nothing tells what made vector 'dense'" in caplog.text


def test_a_server_too_old_for_weights_is_refused() -> None:
    with running_qdrant(server_version="1.16.3") as old:
        server = over_rest(old)
        where = fill(server, collection(), FEW)
        weighed = Fused(vectors=(DENSE, WORDS), weights=(1, 2))
        with pytest.raises(SettingError, match=r"Qdrant 1\.16\.3 cannot weigh .* 1\.17 or newer"):
            stage_of(where, Rescored(first=weighed), server).open()
        stage_of(where, Fused(vectors=(DENSE, WORDS), k=9), server).open()
        server.close()


WRONG_SEARCHES: list[tuple[type[Search], dict[str, Any], str]] = [
    (Nearest, {"vector": ""}, "name of a vector"),
    (Fused, {"vectors": ("a",)}, "at least two names"),
    (Fused, {"vectors": ("a", "a")}, "each once"),
    (Fused, {"fusion": "sum"}, "'rrf' or 'dbsf'"),
    (Fused, {"fusion": "dbsf", "k": 2}, "neither k nor weights"),
    (Fused, {"k": 0}, "at least 1"),
    (Fused, {"weights": (1.0,)}, "2 positive numbers"),
    (Fused, {"weights": (1.0, 0.0)}, "2 positive numbers"),
    (Fused, {"weights": (1.0, float("nan"))}, "2 positive numbers"),
    (Fused, {"candidates": 0}, "at least 1"),
    (Rescored, {"candidates": 0}, "at least 1"),
    (Rescored, {"by": ""}, "name of a vector"),
]


@pytest.mark.parametrize(("search", "how", "told"), WRONG_SEARCHES)
def test_a_search_that_cannot_be_is_refused_at_birth(
    search: type[Search], how: dict[str, Any], told: str
) -> None:
    with pytest.raises(SettingError, match=told):
        search(**how)


@pytest.mark.parametrize(
    "how", [{"limit": 0}, {"limit": 9, "most": 8}, {"payload": ("_stream.x",)}]
)
def test_a_stage_that_cannot_be_is_refused_at_birth(how: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        stage_of(collection(), Nearest(), **how)


def test_what_the_sink_wrote_is_found_by_each_of_its_vectors(store_at: Server) -> None:
    where = collection()
    prepare(store_at, where)
    identity = Identity(collection=where.name)
    records = [replace(query(one, n), key=n) for n, one in enumerate(FEW, 1)]
    put(store_at, where, [tuple(point_of(one, identity, identity.namespace) for one in records)])
    for vector in SPACES:
        stage = stage_of(where, Nearest(vector=vector), store_at, limit=1)
        for number, one in enumerate(FEW, 1):
            [record] = asked(stage, query(one)).records
            best = expected(vector, one, FEW)
            assert record.hits[0].score == pytest.approx(max(best.values()), abs=1e-5)
            assert best[int(record.hits[0].id)] == pytest.approx(best[number], abs=1e-5)

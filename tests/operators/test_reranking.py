"""Hits come in the order of the cross-encoder's scores, and none of them gets lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from fastembed_stream import OpenModel, SettingError, TextCrossEncoder, catalog
from fastembed_stream.embedder import Counts
from fastembed_stream.errors import DeviceError
from fastembed_stream.values import Pair
from operators import Batch, Failures, Hit, Record
from operators.retrieval import RerankStage, rerank
from operators.stages import apply
from tests.fastembed_stream.examples import real_model
from tests.operators.things import EntryPoint, Kept, Lists, record

MODEL = "BAAI/bge-reranker-base"


class Fake:
    """A model whose scores are the numbers that the documents are."""

    counts = Counts(rows=9, truncated_rows=2, truncated_tokens=7)

    def __init__(self) -> None:
        self.calls: list[list[Pair]] = []

    def __call__(self, pairs: Sequence[Pair]) -> list[float]:
        self.calls.append(list(pairs))
        if any("refused" in text for _, text in pairs):
            msg = "no such word"
            raise ValueError(msg)
        return [float(text) for _, text in pairs]


def faked(**how: Any) -> tuple[RerankStage, Fake]:
    """Put a fake model where a stage keeps its own."""
    stage, fake = RerankStage(model=MODEL, **how), Fake()
    scores: Any = fake  # as much of one as the stage asks for
    stage._opened._model = OpenModel(documents=scores, queries=scores)
    return stage, fake


def hits(*texts: object) -> tuple[Hit, ...]:
    """Make hits of falling scores; None stands for one without a text."""
    return tuple(
        Hit(id=n, score=1 - n / 100, payload={} if text is None else {"text": text})
        for n, text in enumerate(texts)
    )


def asked(number: int, *texts: object) -> Record:
    return replace(record(number), hits=hits(*texts))


def order(batch: Batch) -> list[list[Any]]:
    return [[hit.id for hit in one.hits] for one in batch.records]


def unranked() -> float:
    return REGISTRY.get_sample_value("stream_unranked_hits_total", {"stage": "rerank"}) or 0.0


def test_the_best_score_comes_first_and_replaces_the_old_one() -> None:
    stage, _ = faked()
    [one] = stage(Batch(records=(asked(0, "-1", "7.5", "0"),))).records
    assert [(hit.id, hit.score) for hit in one.hits] == [(1, 7.5), (2, 0.0), (0, -1.0)]
    assert one.hits[0].payload == {"text": "7.5"}


def test_the_pairs_of_all_queries_go_into_one_call() -> None:
    stage, fake = faked()
    batch = Batch(records=(asked(0, "1", "2"), asked(1), asked(2, None), asked(3, "3")))
    assert order(stage(batch)) == [[1, 0], [], [0], [0]]
    assert fake.calls == [[("text 0", "1"), ("text 0", "2"), ("text 3", "3")]]


def test_no_call_is_made_for_nothing() -> None:
    stage, fake = faked()
    assert order(stage(Batch(records=(asked(0), asked(1, None))))) == [[], [0]]
    assert fake.calls == []


def test_equal_scores_keep_the_order_of_the_search() -> None:
    stage, _ = faked()
    assert order(stage(Batch(records=(asked(0, "1", "2", "1", "2", "1"),)))) == [[1, 3, 0, 2, 4]]


texts = st.one_of(st.none(), st.integers(-3, 3).map(str), st.just(7))


@given(st.lists(st.lists(texts, max_size=6), max_size=4))
def test_no_hit_is_lost_and_queries_stay_in_order(found: list[list[object]]) -> None:
    stage, _ = faked()
    records = tuple(asked(number, *some) for number, some in enumerate(found))
    before = unranked()
    done = stage(Batch(records=records))
    assert [one.key for one in done.records] == [one.key for one in records]
    for old, new in zip(records, done.records, strict=True):
        assert sorted(hit.id for hit in new.hits) == [hit.id for hit in old.hits]
        unread = [hit for hit in old.hits if not isinstance(hit.payload.get("text"), str)]
        n_read = len(old.hits) - len(unread)
        assert list(new.hits[n_read:]) == unread
        scores = [hit.score for hit in new.hits[:n_read]]
        assert scores == sorted(scores, reverse=True)
        assert stage(Batch(records=(old,))).records == (new,)
    n_unread = sum(not isinstance(text, str) for some in found for text in some)
    assert unranked() - before == 2 * n_unread


def test_only_the_best_stay_where_fewer_are_asked_for() -> None:
    stage, _ = faked(limit=2)
    batch = Batch(records=(asked(0, "1", "3", "2"), asked(1, None, "1", None), asked(2, "1")))
    assert order(stage(batch)) == [[1, 2], [1, 0], [0]]


def test_a_text_inside_of_an_object_is_read() -> None:
    stage, fake = faked(document_field="doc.body")
    payloads: tuple[dict[str, object], ...] = (
        {"doc": {"body": "1"}},
        {"doc.body": "2", "doc": {"body": "9"}},
        {"doc": "3"},
    )
    found = tuple(Hit(id=n, score=0.0, payload=one) for n, one in enumerate(payloads))
    done = stage(Batch(records=(replace(record(0), hits=found),)))
    assert order(done) == [[1, 0, 2]]
    assert [text for _, text in fake.calls[0]] == ["1", "2"]


def test_a_score_that_is_no_number_fails_its_query_alone() -> None:
    stage, _ = faked()
    batch = Batch(records=(asked(0, "1"), asked(1, "2", "nan"), asked(2, "inf"), asked(3, "3")))
    done = stage(batch)
    assert [one.key for one in done.records] == ["k0", "k3"]
    assert [failure.origin.offset for failure in done.failures] == [1, 2]
    assert f"{MODEL} gave 1 of 2 scores that are NaN" in done.failures[0].reason


def test_a_query_without_its_text_fails_alone() -> None:
    stage, _ = faked(query_field="question")
    good = replace(asked(1, "1"), fields={"question": "what"})
    image = replace(asked(2, "1"), fields={"question": b"\xff"})
    done = stage(Batch(records=(asked(0, "1"), good, image)))
    assert [one.key for one in done.records] == ["k1"]
    assert "Field 'question' of query 'k0' is no text; it has text" in done.failures[0].reason
    assert len(done.failures) == 2


def test_a_pair_that_the_model_refuses_fails_its_query_alone() -> None:
    stage, _ = faked()
    done = apply(stage, Batch(records=(asked(0, "1"), asked(1, "refused"), asked(2, "2"))))
    assert [one.key for one in done.records] == ["k0", "k2"]
    assert [failure.reason for failure in done.failures] == ["no such word"]


def test_a_lost_device_is_no_failure_of_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, _ = faked()

    def lost(_: object, pairs: Sequence[Pair]) -> list[float]:
        raise DeviceError(str(len(pairs)))

    monkeypatch.setattr(Fake, "__call__", lost)
    with pytest.raises(DeviceError):
        apply(stage, Batch(records=(asked(0, "1"),)))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"limit": 0}, "expected at least 1"),
        ({"query_field": ""}, "a field of the query"),
        ({"document_field": ""}, "one of the hits"),
        ({"model": "BAAI/bge-reranker-bas"}, "Did you mean 'BAAI/bge-reranker-base'"),
        ({"model": catalog.find("BAAI/bge-small-en")}, "expected a cross-encoder"),
    ],
)
def test_a_stage_that_cannot_be_is_refused_at_birth(how: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        RerankStage(**{"model": MODEL, **how})


def test_hits_are_put_in_order_in_a_flow(entry_point: EntryPoint) -> None:
    stage, _ = faked()
    oks: Kept[Batch] = Kept()
    errs: Kept[Failures] = Kept()
    batches = [Batch(records=(asked(n, "1", "2"), asked(n + 1, "nan"))) for n in (0, 10, 20)]
    flow = Dataflow("reranking")
    lists = {f"p{n}": [(f"0{n % 2}-0", one)] for n, one in enumerate(batches)}
    done = rerank("rerank", op.input("in", flow, Lists(lists)), stage=stage)
    op.output("oks", op.map("batches", done.oks, lambda item: ("", item[1])), oks)
    op.output("errs", op.map("failures", done.errs, lambda item: ("", item[1])), errs)
    entry_point(flow)
    assert sorted(one.key for some in oks.items for one in some.records) == ["k0", "k10", "k20"]
    assert [order(some) for some in oks.items] == [[[1, 0]]] * 3
    assert sorted(one.origin.offset for some in errs.items for one in some) == [1, 11, 21]


def test_the_scores_are_those_of_the_drop_in_class_however_long_a_text() -> None:
    folder = real_model("cross-standin")
    stage = RerankStage(model=MODEL, folder=folder, max_tokens=64)
    stage.open()
    passages = [["a stream", "disk " * 500, ""], ["the sink waits", "nothing"]]
    records = tuple(asked(number, *some) for number, some in enumerate(passages))
    done = stage(Batch(records=records))
    model = TextCrossEncoder(MODEL, specific_model_path=str(folder), max_tokens=64)
    for one, some in zip(done.records, passages, strict=True):
        scores = dict(enumerate(model.rerank(str(one.fields["text"]), some)))
        got = {int(hit.id): hit.score for hit in one.hits}
        assert got == pytest.approx(scores, abs=1e-5)
        assert [hit.score for hit in one.hits] == sorted(got.values(), reverse=True)
    assert REGISTRY.get_sample_value("stream_truncated_texts", {"stage": "rerank"}) == 1

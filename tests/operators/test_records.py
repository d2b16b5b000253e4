"""What travels is whole at birth, never changed, and survives a trip to another process."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from operators import Batch, Failure
from tests.operators.things import failure, floats, message, record


def test_a_message_is_named_by_its_topic_and_partition() -> None:
    assert message(topic="docs", partition=12).source == "docs/12"


def test_a_log_made_again_under_the_same_name_is_another_source() -> None:
    first, second = message(log="one"), message(log="two")
    assert (first.source, second.source) == ("docs/0@one", "docs/0@two")


def test_a_vector_is_added_to_a_copy_and_the_record_stays_as_it_was() -> None:
    before = record(1)
    first = before.with_vector("dense", np.ones(2, np.float32), model="m1")
    both = first.with_vector("title", np.zeros(3, np.float32), model="m2")
    assert before.vectors == {}
    assert before.models == {}
    assert list(first.vectors) == ["dense"]
    assert {name: floats(both, name).size for name in both.vectors} == {"dense": 2, "title": 3}
    assert both.models == {"dense": "m1", "title": "m2"}
    assert both.origin is before.origin


def test_a_failure_keeps_the_type_text_and_place_of_an_error() -> None:
    def broken() -> None:
        msg = "no"
        raise LookupError(msg)

    with pytest.raises(LookupError) as caught:
        broken()
    kept = Failure.of(message(offset=3), "embed", caught.value)
    assert (kept.stage, kept.error_type, kept.reason) == ("embed", "builtins.LookupError", "no")
    assert "in broken" in kept.traceback
    assert kept.origin.offset == 3


def test_an_error_without_text_gives_its_type_as_the_reason() -> None:
    assert Failure.of(message(), "embed", KeyError()).reason == "KeyError"


def failure_of(reason: str) -> Failure:
    return Failure.of(message(), "decode", ValueError(reason))


def test_a_failure_of_half_a_surrogate_pair_can_be_written_as_utf_8() -> None:
    kept = failure_of("the object has \ud800")
    assert kept.reason.encode() == b"the object has \\ud800"
    assert kept.traceback.encode().endswith(b"ValueError: the object has \\ud800\n")


@pytest.mark.parametrize("letter", ["x", "é", "\ud800"])
@pytest.mark.parametrize("n_letters", [1_999, 2_000, 2_001, 5_000_000])
def test_a_failure_is_short_however_long_the_text_of_its_error(letter: str, n_letters: int) -> None:
    kept = failure_of("what: " + letter * n_letters)
    assert kept.reason.startswith("what: ")
    assert len(kept.reason) <= 2_000
    assert len(kept.traceback) <= 8_000
    assert len((kept.reason + kept.traceback).encode()) < 40_000


def test_a_long_traceback_keeps_its_end_where_the_error_is_named() -> None:
    error = LookupError("no")
    error.__cause__ = ValueError("x" * 10_000)
    kept = Failure.of(message(), "embed", error)
    assert kept.traceback.startswith("...x")
    assert kept.traceback.endswith("LookupError: no\n")


def test_a_failure_of_up_to_the_limits_is_kept_whole() -> None:
    assert failure_of("x" * 2_000).reason == "x" * 2_000


@pytest.mark.parametrize("value", [message(), record(1), failure(1), Batch(records=(record(1),))])
def test_nothing_that_travels_can_be_changed(value: object) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(value, next(iter(type(value).__slots__)), None)  # type: ignore[attr-defined]  # all are slotted


@pytest.mark.parametrize("value", [message(None, headers=(("h", None),)), record(1), failure(1)])
def test_what_travels_is_the_same_after_a_trip_to_another_process(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301  our own bytes

"""At start-up a neighbour that is away is waited for; one that refuses is not."""

from __future__ import annotations

import logging
import os
from concurrent.futures import Future

import pytest

from operators import BrokenFlowError, StageLimits
from operators.outages import waited_out
from operators.shutdown import STOP
from operators.stages import StageLogic


def is_transient(error: BaseException) -> bool:
    return isinstance(error, ConnectionError)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(type(STOP), "wait", lambda _, seconds: slept.append(seconds))
    return slept


def test_a_neighbour_is_asked_until_it_answers(
    naps: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    def ask() -> str:
        if len(naps) < 20:
            msg = "refused"
            raise ConnectionError(msg)
        return "here"

    with caplog.at_level(logging.WARNING, "operators.outages"):
        assert waited_out("Kafka topic docs", ask, is_transient) == "here"
    assert len(naps) == 20
    assert max(naps) <= 10
    assert caplog.messages[0] == "Kafka topic docs: not there yet (refused); trying again"


def test_an_error_that_does_not_pass_is_raised_as_it_is(naps: list[float]) -> None:
    def ask() -> str:
        msg = "wrong key"
        raise PermissionError(msg)

    with pytest.raises(PermissionError, match="wrong key"):
        waited_out("Qdrant", ask, is_transient)
    assert naps == []


def test_a_signal_to_stop_ends_the_process_with_success_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Ended(Exception):  # noqa: N818  what stands for the end of the process
        pass

    def end(status: int) -> None:
        assert status == 0
        raise Ended

    def ask() -> str:
        STOP.request()
        raise ConnectionError

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(STOP, "ends_process", True)
    with pytest.raises(Ended):
        waited_out("Qdrant", ask, is_transient)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({}, "stopped before it started"),
        ({"started": True}, "stopped while it waited"),
        ({"started": True, "ends_process": True}, "stopped while it waited"),
    ],
)
def test_a_process_of_someone_else_or_one_that_has_begun_is_never_ended_by_a_wait(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], said: str
) -> None:
    def ask() -> str:
        STOP.request()
        raise ConnectionError

    def end(_: int) -> None:
        pytest.fail("the process would have ended")

    monkeypatch.setattr(os, "_exit", end)
    for name, value in flags.items():
        monkeypatch.setattr(STOP, name, value)
    with pytest.raises(BrokenFlowError, match=said):
        waited_out("Qdrant", ask, is_transient)


def test_the_first_stage_marks_the_process_as_begun() -> None:
    assert not STOP.started
    StageLogic(lambda _: Future(), StageLimits())
    assert STOP.started

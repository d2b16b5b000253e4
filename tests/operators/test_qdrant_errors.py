"""An error of Qdrant's client means one thing: try again, never, split it, or end the flow."""

from __future__ import annotations

import sqlite3

import grpc
import httpx
import pytest
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from operators.qdrant.errors import (
    is_refusal,
    is_server_fault,
    is_too_large,
    is_transient,
    is_worth_halving,
    retry_after_s,
)


class Call(grpc.RpcError, grpc.Call):  # type: ignore[misc]  # grpc has no types
    """What gRPC raises: an error that is also the call."""

    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        super().__init__(details)
        self._told = code, details

    def code(self) -> grpc.StatusCode:
        return self._told[0]

    def details(self) -> str:
        return self._told[1]

    def __getattr__(self, name: str) -> object:
        raise AttributeError(name)


Call.__abstractmethods__ = frozenset()


def answered(status: int, content: bytes = b"", /, **headers: str) -> UnexpectedResponse:
    return UnexpectedResponse(status, "why", content, httpx.Headers(headers))


def broken(source: Exception) -> ResponseHandlingException:
    return ResponseHandlingException(source)


LARGE = "Received message larger than max (9 vs. 4)"
OVER_CAPACITY = (
    "Rate limiting exceeded: Write rate limit exceeded, request larger than rate limiter capacity, "
    "please try to split your request"
)
TRANSIENT = [
    *map(answered, (408, 425, 429, 500, 501, 502, 503, 504, 507, 520, 524, 599)),
    ResourceExhaustedResponse("slow down", 1),
    broken(httpx.ConnectError("refused")),
    broken(httpx.ReadTimeout("slow")),
    broken(httpx.RemoteProtocolError("reset")),
    Call(grpc.StatusCode.UNAVAILABLE),
    Call(grpc.StatusCode.DEADLINE_EXCEEDED),
    Call(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota"),
    Call(grpc.StatusCode.INTERNAL),
    ConnectionResetError(),
    OSError("no space left"),
    sqlite3.OperationalError("database or disk is full"),
]
REFUSALS = [
    answered(400),
    answered(422),
    Call(grpc.StatusCode.INVALID_ARGUMENT),
    ValueError("wrong dimension"),
    TypeError("no vector"),
]
TOO_LARGE = [
    answered(413),
    Call(grpc.StatusCode.RESOURCE_EXHAUSTED, LARGE),
    Call(grpc.StatusCode.OUT_OF_RANGE, LARGE),
    answered(429, OVER_CAPACITY.encode()),
    ResourceExhaustedResponse(OVER_CAPACITY, 1),
    Call(grpc.StatusCode.RESOURCE_EXHAUSTED, OVER_CAPACITY),
]
SERVER_FAULTS = [
    answered(500, b'{"status":{"error":"Service internal error: task panicked"}}'),
    Call(grpc.StatusCode.INTERNAL, "Service internal error: task panicked"),
    Call(grpc.StatusCode.UNKNOWN),
]
SLOW_OR_BROKEN = [
    *map(answered, (408, 502, 504, 520)),
    broken(httpx.ReadTimeout("slow")),
    broken(httpx.RemoteProtocolError("reset")),
    Call(grpc.StatusCode.DEADLINE_EXCEEDED),
]
AWAY = [
    *map(answered, (429, 503, 507)),
    answered(500, b"Service internal error: No space left on device: WAL buffer size exceeds"),
    answered(500, b"The replica set for shard 1 on peer 2 has no active replica"),
    ResourceExhaustedResponse("slow down", 1),
    broken(httpx.ConnectError("refused")),
    broken(httpx.ConnectTimeout("slow")),
    Call(grpc.StatusCode.UNAVAILABLE),
    Call(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota"),
    Call(grpc.StatusCode.INTERNAL, "No space left on device"),
    ConnectionResetError(),
    sqlite3.OperationalError("database or disk is full"),
]
ENDS = [
    answered(401),
    answered(403),
    answered(404),
    answered(409),
    Call(grpc.StatusCode.UNAUTHENTICATED),
    Call(grpc.StatusCode.PERMISSION_DENIED),
    Call(grpc.StatusCode.NOT_FOUND),
    RuntimeError("a bug"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_an_outage_is_tried_again_and_is_nobodys_fault(error: Exception) -> None:
    assert is_transient(error)
    assert not is_refusal(error)
    assert not is_too_large(error)


@pytest.mark.parametrize("error", REFUSALS, ids=repr)
def test_a_refusal_is_a_points_fault_and_not_tried_again(error: Exception) -> None:
    assert is_refusal(error)
    assert not is_transient(error)


@pytest.mark.parametrize("error", TOO_LARGE, ids=repr)
def test_a_request_that_is_too_large_is_not_tried_again_as_it_is(error: Exception) -> None:
    assert is_too_large(error)
    assert not is_transient(error)


@pytest.mark.parametrize("error", SERVER_FAULTS, ids=repr)
def test_a_server_that_fails_at_a_request_may_fail_at_one_point_of_it(error: Exception) -> None:
    assert is_transient(error)
    assert is_worth_halving(error)
    assert is_server_fault(error)


@pytest.mark.parametrize("error", SLOW_OR_BROKEN, ids=repr)
def test_a_request_that_takes_too_long_is_halved_and_no_points_fault(error: Exception) -> None:
    assert is_transient(error)
    assert is_worth_halving(error)
    assert not is_server_fault(error)


@pytest.mark.parametrize("error", AWAY + REFUSALS + TOO_LARGE, ids=repr)
def test_a_server_that_is_away_busy_or_full_is_so_for_half_a_request_too(error: Exception) -> None:
    assert not is_worth_halving(error)
    assert not is_server_fault(error)


@pytest.mark.parametrize("error", ENDS, ids=repr)
def test_anything_else_ends_the_flow(error: Exception) -> None:
    assert not is_transient(error)
    assert not is_refusal(error)
    assert not is_too_large(error)


def test_the_wait_that_a_server_asks_for_is_heard() -> None:
    assert retry_after_s(ResourceExhaustedResponse("slow down", 7)) == 7
    assert retry_after_s(answered(503, **{"retry-after": "3"})) == 3
    assert retry_after_s(answered(503)) is None
    odd = httpx.Headers([(b"retry-after", "²".encode())])
    assert retry_after_s(UnexpectedResponse(503, "why", b"", odd)) is None
    assert retry_after_s(answered(503, **{"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})) == 0.5
    assert retry_after_s(answered(503, **{"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"})) == 300
    assert retry_after_s(OSError()) is None

"""
What an error of Qdrant's client means: try again, never, split the request, or end the flow.

Three ways fail unlike: REST by status, gRPC by code, and the engine in this process by Python's
own errors.
"""

from __future__ import annotations

import sqlite3

import grpc
import httpx
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from fastembed_stream.retry_after import seconds_of

__all__ = [
    "is_refusal",
    "is_server_fault",
    "is_too_large",
    "is_transient",
    "is_worth_halving",
    "retry_after_s",
]

_TRANSIENT_STATUS = frozenset({408, 425, 429})
_SERVER_FAULT_STATUS = 500
_TOO_MANY_STATUS = 429
_AWAY_STATUS = frozenset({_TOO_MANY_STATUS, 503, 507})
"""The server is busy, away or full, whatever it is asked."""
_REFUSAL_STATUS = frozenset({400, 422})
_TOO_LARGE_STATUS = 413

_TRANSIENT_CODES = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    }
)
_SERVER_FAULT_CODES = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
_AWAY_CODES = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE})
_OUTAGES = ("no space left", "active replica", "consensus operation", "out of memory")
"""What a server answers 500 with too, whatever it is asked: a full disk, a node that is away."""
_OVER_CAPACITY = "larger than rate limiter capacity"
"""Of strict mode: a request of more points than the limit of a minute never passes as it is."""
_SHORTEST_WAIT_S = 0.5
"""A server may ask for no wait: who tries for ever would make a storm of requests."""

_REFUSAL_CODES = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE})
_TOO_LARGE_CODES = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OUT_OF_RANGE})


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request can succeed later: an outage."""
    if is_too_large(error):
        return False
    match error:
        case QdrantException():
            # Besides a 429 with whole seconds, one whose Retry-After the client cannot read.
            return isinstance(error, ResourceExhaustedResponse) or "Retry-After" in str(error)
        case UnexpectedResponse(status_code=status):
            # Proxies have statuses of their own above 500, such as 520 to 530.
            return status in _TRANSIENT_STATUS or (status or 0) >= _SERVER_FAULT_STATUS
        case ResponseHandlingException(source=source):
            return isinstance(source, httpx.TransportError)
        case grpc.RpcError():
            return _code(error) in _TRANSIENT_CODES
        case _:
            # The engine in this process tells of a full disk by sqlite's own error.
            return isinstance(error, OSError | sqlite3.OperationalError)


def is_server_fault(error: BaseException) -> bool:
    """
    Tell whether the server failed at this very request: 500, or what gRPC has for it.

    One point may bring that about, at each try; so may an outage, which then befalls all others.
    """
    match error:
        case UnexpectedResponse(status_code=status):
            told = error.content.decode(errors="replace")
            return status == _SERVER_FAULT_STATUS and not _says(told, *_OUTAGES)
        case grpc.RpcError():
            return _code(error) in _SERVER_FAULT_CODES and not _says(_details(error), *_OUTAGES)
        case _:
            return False


def is_worth_halving(error: BaseException) -> bool:
    """
    Tell whether half of a request may pass where the whole fails again and again.

    So it is where the server fails at it, takes too long over it, or breaks the connection; not
    where it is away or asks for patience.
    """
    match error:
        case UnexpectedResponse(status_code=status):
            outage = status in _AWAY_STATUS
            if status == _SERVER_FAULT_STATUS:
                outage = not is_server_fault(error)
            return is_transient(error) and not outage
        case ResponseHandlingException(source=source):
            away = isinstance(source, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            return isinstance(source, httpx.TransportError) and not away
        case grpc.RpcError():
            if _code(error) in _SERVER_FAULT_CODES:
                return is_server_fault(error)
            return is_transient(error) and _code(error) not in _AWAY_CODES
        case _:
            return False


def is_refusal(error: BaseException) -> bool:
    """Tell whether a point of the request can never be stored as it is."""
    match error:
        case UnexpectedResponse(status_code=status):
            return status in _REFUSAL_STATUS
        case grpc.RpcError():
            return _code(error) in _REFUSAL_CODES
        case _:
            return isinstance(error, ValueError | TypeError)


def is_too_large(error: BaseException) -> bool:
    """Tell whether the request has too many bytes or points, whenever it is sent."""
    match error:
        case ResourceExhaustedResponse():
            return _says(str(error), _OVER_CAPACITY)
        case UnexpectedResponse(status_code=status):
            over = status == _TOO_MANY_STATUS and _says(
                error.content.decode(errors="replace"), _OVER_CAPACITY
            )
            return over or status == _TOO_LARGE_STATUS
        case grpc.RpcError():
            return _code(error) in _TOO_LARGE_CODES and _says(
                _details(error), "larger than max", _OVER_CAPACITY
            )
        case _:
            return False


def retry_after_s(error: BaseException) -> float | None:
    """Give the seconds that the server asked to wait, within bounds, if it did."""
    asked: str | None = None
    match error:
        case ResourceExhaustedResponse(retry_after_s=seconds):
            asked = str(seconds)
        case UnexpectedResponse(headers=headers):
            asked = headers.get("retry-after")
        case grpc.Call():
            asked = dict(error.trailing_metadata() or ()).get("retry-after")
    return seconds_of(asked, shortest_s=_SHORTEST_WAIT_S)


def _code(error: grpc.RpcError) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.Call) else None


def _details(error: grpc.RpcError) -> str:
    return (error.details() or "") if isinstance(error, grpc.Call) else ""


def _says(told: str, *words: str) -> bool:
    told = told.lower()
    return any(word in told for word in words)

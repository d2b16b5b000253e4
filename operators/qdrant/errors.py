"""
What an error of Qdrant's client means: try again, never, or end the flow.

Three ways fail unlike: REST by status, gRPC by code, and the engine in this process by Python's
own errors.
"""

from __future__ import annotations

import sqlite3

import grpc
import httpx
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

__all__ = ["is_refusal", "is_too_large", "is_transient", "retry_after_s"]

_TRANSIENT_STATUS = frozenset({408, 425, 429})
_SERVER_FAULT_STATUS = 500
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
_REFUSAL_CODES = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE})


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request can succeed later: an outage."""
    match error:
        case ResourceExhaustedResponse():
            return True
        case QdrantException():
            # A 429 whose Retry-After is a date or a fraction: the client knows whole seconds only.
            return "Retry-After" in str(error)
        case UnexpectedResponse(status_code=status):
            # Proxies have statuses of their own above 500, such as 520 to 530.
            return status in _TRANSIENT_STATUS or (status or 0) >= _SERVER_FAULT_STATUS
        case ResponseHandlingException(source=source):
            return isinstance(source, httpx.TransportError)
        case grpc.RpcError():
            return not _message_too_large(error) and _code(error) in _TRANSIENT_CODES
        case _:
            # The engine in this process tells of a full disk by sqlite's own error.
            return isinstance(error, OSError | sqlite3.OperationalError)


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
    """Tell whether the request had too many bytes."""
    match error:
        case UnexpectedResponse(status_code=status):
            return status == _TOO_LARGE_STATUS
        case grpc.RpcError():
            return _message_too_large(error)
        case _:
            return False


def retry_after_s(error: BaseException) -> float | None:
    """Give the seconds that the server asked to wait, if it did."""
    match error:
        case ResourceExhaustedResponse(retry_after_s=seconds):
            return float(seconds)
        case UnexpectedResponse(headers=headers):
            asked = headers.get("retry-after", "")
            return float(asked) if asked.isdigit() else None
        case _:
            return None


def _code(error: grpc.RpcError) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.Call) else None


def _message_too_large(error: grpc.RpcError) -> bool:
    details = error.details() if isinstance(error, grpc.Call) else None
    return (
        _code(error) in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OUT_OF_RANGE}
        and "larger than max" in (details or "").lower()
    )

"""What a server answers that no waiting mends, at the start of a flow: one sentence about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import grpc
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from fastembed_stream.errors import SettingError
from operators.outages import waited_out
from operators.qdrant.errors import is_transient
from operators.qdrant.server import Server

__all__ = ["asked"]

T = TypeVar("T")

_KEY = "the API key is missing or wrong; check it"
_RIGHTS = "the API key may not do this; use one that may read and write the collection"
_NO_QDRANT = "that is no address of a Qdrant server; check the URL and its port"

_OF_STATUS: Mapping[int, str] = {401: _KEY, 403: _RIGHTS, 404: _NO_QDRANT, 405: _NO_QDRANT}
_OF_CODE: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.UNAUTHENTICATED: _KEY,
    grpc.StatusCode.PERMISSION_DENIED: _RIGHTS,
    grpc.StatusCode.UNIMPLEMENTED: _NO_QDRANT,
}


def asked(server: Server, ask: Callable[[], T]) -> T:
    """
    Ask a server at the start of a flow; wait for one that is away.

    raises  SettingError where it refuses, with what to do
    """
    try:
        return waited_out(f"Qdrant {server.shown}", ask, is_transient)
    except (UnexpectedResponse, ResponseHandlingException, grpc.RpcError) as error:
        msg = f"Qdrant {server.shown} {_said(error)}."
        raise SettingError(msg) from error


def _said(error: Exception) -> str:
    match error:
        case UnexpectedResponse(status_code=status):
            content = error.content.decode(errors="replace")[:300].strip()
            return f"answered {status}: {_OF_STATUS.get(status or 0, content)}"
        case grpc.RpcError() if isinstance(error, grpc.Call):
            code = error.code()
            return f"answered {code.name}: {_OF_CODE.get(code, error.details())}"
        case _:
            return f"did not answer as Qdrant does ({str(error)[:200]}): {_NO_QDRANT}"

"""
Sessions that are open, known by what their files hold.

A session is shared while somebody holds it. Its memory comes back when the last holder lets go.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from fastembed_stream.providers import new_session, read_identity
from fastembed_stream.runtime import Runtime
from fastembed_stream.session import Session
from fastembed_stream.threads import ForkSafeLock

__all__ = ["keep", "open_session"]

_Key: TypeAlias = tuple[bytes, Runtime, int | None]

_LOCK = ForkSafeLock()
_OPEN: weakref.WeakValueDictionary[_Key, Session] = weakref.WeakValueDictionary()
"""The sessions that somebody holds, by what they were made of."""


def open_session(graph: Path, runtime: Runtime, *, device_id: int | None = None) -> Session:
    """
    Open a graph, or share it with who has it open: same content, same arguments.

    device_id  GPU number; None for the CPU or the first GPU
    raises     DeviceError where the wanted device did not become active,
               ModelFilesError where ONNX Runtime cannot read the graph
    """
    how = replace(runtime, token_budget=None, device_ids=())
    with _LOCK:
        key = (read_identity(graph), how, device_id)
        session = _OPEN.get(key)
        while session is None:
            session = new_session(graph, runtime, device_id)
            identity = read_identity(graph)
            if identity != key[0]:  # the file was replaced while it was read
                key, session = (identity, how, device_id), None
        _OPEN[key] = session
        return session


def keep(winner: Session, *, instead_of: Session) -> None:
    """Let `open_session` give the winner from now on, and forget the other."""
    with _LOCK:
        for key, known in list(_OPEN.items()):
            if known is instead_of:
                _OPEN[key] = winner

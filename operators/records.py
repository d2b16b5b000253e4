"""
What travels: a message as it came, a record made of it, records in batches, and what failed.

All are frozen: a step gives new values and changes none, so a replay starts from the same ones.
"""

from __future__ import annotations

import base64
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from bytewax.dataflow import Stream
from numpy.typing import NDArray

from fastembed_stream.redaction import redacted
from fastembed_stream.values import SparseEmbedding

__all__ = [
    "Batch",
    "Batches",
    "DamagedMessage",
    "Failure",
    "Failures",
    "Headers",
    "Hit",
    "Message",
    "Part",
    "Record",
    "Split",
    "Vector",
    "as_text",
    "one_for_each_message",
]

Vector: TypeAlias = NDArray[np.float32] | SparseEmbedding
"""float32[dim], float32[n_tokens, dim] of late interaction, or a sparse one."""

Headers: TypeAlias = tuple[tuple[str, bytes | None], ...]
"""Of a message, in their order; a name may come more than once."""

_LONGEST_REASON = 2_000
_LONGEST_TRACEBACK = 8_000
_READ_AROUND = 4
"""How many times as much is searched for secrets as is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """
    One Kafka message as it came; (source, offset) is also the version of what it says.

    timestamp_ms  milliseconds since 1970 UTC, None where the broker gave none
    headers       names and raw values, repeated names kept
    log           id of the topic's log: one made again under the same name has another; empty
                  where the brokers have no ids
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None = None
    headers: Headers = ()
    log: str = ""

    @property
    def source(self) -> str:
        """Name the log of the partition; offsets can be compared only within one."""
        where = f"{self.topic}/{self.partition}"
        return f"{where}@{self.log}" if self.log else where


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedMessage(Message):
    """
    A message of which not all could be read: what could not is empty, and `decode` refuses it.

    A class of its own, since recovery stores have messages that know no such field.

    damage  what could not be read, and why
    """

    damage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """
    Which part of a document a record is, where long ones are split.

    number  counted from 0
    count   parts that the document has now; a stored one of a higher number is stale
    start   offset of its first character in the document
    end     offset after its last
    """

    number: int
    count: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """
    What was found for a query.

    id       of the stored point
    score    higher is better; what it measures is told by the search
    payload  what is stored with it, without what this project keeps beside
    """

    id: str | int
    score: float
    payload: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """
    One thing to make searchable.

    key      identity at its source; an integer stays the point's id
    fields   what stages read, by name: text as str, images as bytes
    payload  what is stored beside the vectors
    vectors  what stages wrote so far, by vector name
    models   fingerprint of the model that wrote each vector
    origin   the message it came from
    part     which part of a document it is; None where it is the whole
    hits     what was found for it, best first, where it is a query
    """

    key: str | int
    fields: Mapping[str, str | bytes]
    payload: Mapping[str, object]
    origin: Message
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    part: Part | None = None
    hits: tuple[Hit, ...] = ()

    def with_vector(self, name: str, vector: Vector, *, model: str) -> Record:
        """Add one named vector."""
        return replace(
            self, vectors={**self.vectors, name: vector}, models={**self.models, name: model}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """
    One message that can never succeed, on its way to the dead letters.

    stage       which step refused it
    error_type  full name of the exception's class
    reason      what, got, expected, what to do: at most 2,000 characters
    traceback   where it was raised, its last 8,000 characters; empty for a plain refusal
    """

    origin: Message
    stage: str
    error_type: str
    reason: str
    traceback: str = ""

    @classmethod
    def of(cls, origin: Message, stage: str, error: BaseException) -> Failure:
        """
        Keep an exception's type, text and place.

        What a message says may stand in both texts: they are cut, and made such that UTF-8 can
        write them, or one record's names could keep the dead letters from being written for ever.
        Passwords, keys and signed queries are left out of both; the original keeps them.
        """
        kind = type(error)
        return cls(
            origin=origin,
            stage=stage,
            error_type=f"{kind.__module__}.{kind.__qualname__}",
            reason=_start(str(error), _LONGEST_REASON) or kind.__name__,
            traceback=_end("".join(traceback.format_exception(error)), _LONGEST_TRACEBACK),
        )


Failures: TypeAlias = tuple[Failure, ...]


def one_for_each_message(failures: Failures) -> Failures:
    """
    Keep one failure for each message and stage, the first, and count the others in its reason.

    A document's parts are one message: each part's dead letter would have all of it again.
    """
    first: dict[tuple[str, int, str], list[Failure]] = {}
    for failure in failures:
        where = (failure.origin.source, failure.origin.offset, failure.stage)
        first.setdefault(where, []).append(failure)
    return tuple(
        replace(one, reason=f"{one.reason} (and {len(more):,} more of its parts)") if more else one
        for one, *more in first.values()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """
    Records that travel as one item, in order, and what failed among them on the way.

    Keyed steps and sinks cost microseconds for each item: a batch pays them once.
    """

    records: tuple[Record, ...]
    failures: Failures = ()


Batches: TypeAlias = Stream[tuple[str, Batch]]
"""Batches keyed by the shard of the worker that read them."""


@dataclass(frozen=True)
class Split:
    """A step's two ways out: batches that go on, and failures on their way to the dead letters."""

    oks: Batches
    errs: Stream[tuple[str, Failures]]


def as_text(value: bytes | None) -> str | dict[str, str] | None:
    """Give bytes as JSON can carry them: text, or base64 where they are not UTF-8."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}


def _start(text: str, n_characters: int) -> str:
    # Hidden before it is cut: half a secret is not known as one.
    start = _encodable(redacted(text[: _READ_AROUND * n_characters]))
    return start if len(start) <= n_characters else start[: n_characters - 3] + "..."


def _end(text: str, n_characters: int) -> str:
    end = _encodable(redacted(text[-_READ_AROUND * n_characters :]))
    return end if len(end) <= n_characters else "..." + end[3 - n_characters :]


def _encodable(text: str) -> str:
    """Spell out half surrogate pairs, which JSON can carry and UTF-8 cannot."""
    return text.encode(errors="backslashreplace").decode()

"""Bytes to records. What does not parse is a failure, its neighbours unharmed."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Literal, NoReturn, cast

import bytewax.operators as op
from bytewax.dataflow import Stream, operator

from fastembed_stream.errors import SettingError
from operators.keys import KEY_FORMATS, KeyFormat, key_of
from operators.metrics import FAILURES, RECORDS_READ
from operators.numbers import check_numbers
from operators.records import (
    Batch,
    Batches,
    DamagedMessage,
    Failure,
    Failures,
    Message,
    Record,
    Split,
)
from operators.shards import announce, local_shard

__all__ = ["RESERVED", "BadRecordError", "Schema", "decode", "parse", "split"]

RESERVED = "_stream"
"""Payload field in which a point keeps its version and fingerprints."""

_DEEPEST = 24
"""Levels of a payload. gRPC's messages nest 100 deep, and one JSON object takes three of them."""

_AROUND_BASE64 = 200
"""Bytes that 'data:image/...;base64,' and padding may seem to add to an image."""

_LONGEST_PLACE = 8_000
"""Characters of a path or URL."""

_NAMES_TOLD = 10
_LONGEST_NAME = 100
"""Fields of an object that a reason names, and how much of each name."""


class BadRecordError(ValueError):
    """A record that can never succeed as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """
    How a message's value is read.

    format           'json' for an object, 'text' for plain UTF-8, 'bytes' where the whole value is
                     an image's file
    key              field that holds the key; None takes the message's key
    key_format       how the message's key is read: see `operators.keys`
    text             field that holds the text; dots go into nested objects. None reads no text
    image            field that holds an image, or what leads to it; None reads none
    image_as         what stands there: 'base64', which is not stored in the payload, 'path' or
                     'url'. `FetchImages` is told the same
    payload          fields to store beside the vector; None stores the whole object. A value of
                     bytes has no fields: the key is stored, as 'key'
    max_text_bytes   longer texts are refused: they are a mistake more often than a document
    max_image_bytes  larger images are refused; base64 may have a third more characters
    """

    format: Literal["json", "text", "bytes"] = "json"
    key: str | None = None
    key_format: KeyFormat = "text"
    text: str | None = "text"
    image: str | None = None
    image_as: Literal["base64", "path", "url"] = "base64"
    payload: tuple[str, ...] | None = None
    max_text_bytes: int = 1 << 20
    max_image_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        if self.format not in {"json", "text", "bytes"}:
            msg = f"format={self.format!r}: expected 'json', 'text' or 'bytes'."
            raise SettingError(msg)
        if self.key_format not in KEY_FORMATS:
            msg = f"key_format={self.key_format!r}: expected one of {', '.join(KEY_FORMATS)}."
            raise SettingError(msg)
        if self.key is not None and self.key_format != "text":
            msg = (
                f"key={self.key!r} takes the key from the value, key_format={self.key_format!r} "
                "reads the message's key. Leave out one."
            )
            raise SettingError(msg)
        if self.image_as not in {"base64", "path", "url"}:
            msg = f"image_as={self.image_as!r}: expected 'base64', 'path' or 'url'."
            raise SettingError(msg)
        if self.format != "json":
            self._check_without_fields()
        elif self.text is None and self.image is None:
            msg = "A schema of neither text nor image reads nothing; name a field."
            raise SettingError(msg)
        for name in ("max_text_bytes", "max_image_bytes"):
            if getattr(self, name) < 1:
                msg = f"{name}={getattr(self, name)}: expected at least 1."
                raise SettingError(msg)

    def _check_without_fields(self) -> None:
        what = "plain text" if self.format == "text" else "an image"
        if self.key is not None:
            msg = f"key={self.key!r}: {what} has no fields; leave it out to use message keys."
            raise SettingError(msg)
        if self.image is not None or (self.format == "text" and self.text is None):
            msg = f"format={self.format!r}: {what} has no fields; leave out text and image."
            raise SettingError(msg)


@operator
def decode(step_id: str, up: Stream[Message], *, schema: Schema) -> Split:
    """
    Turn messages into records, all that are at hand into one batch.

    Each worker's batches carry a key of its own, so later keyed steps move nothing.

    Delivery: stateless. A crash repeats what the source repeats.
    """
    announce("workers", up)
    return split("split", op.flat_map_batch("parse", up, partial(_parse_all, schema)))


@operator
def split(step_id: str, up: Batches) -> Split:
    """
    Send the records of each batch one way and its failures another.

    Delivery: stateless.
    """
    return Split(
        oks=op.flat_map_batch("oks", up, _records_only),
        errs=op.flat_map_batch("errs", up, _failures_only),
    )


def parse(schema: Schema, message: Message) -> Record:
    """
    Turn one message into a record.

    raises  BadRecordError that says what, got, expected
    """
    if isinstance(message, DamagedMessage):
        msg = f"The message could not be read whole: {message.damage}."
        raise BadRecordError(msg)
    if message.value is None:
        msg = "The value is null (a tombstone); this flow deletes nothing. Expected a document."
        raise BadRecordError(msg)
    if schema.format == "bytes":
        image = _checked_image(message.value, "The value", schema)
        key = _message_key(message, schema)
        return Record(key=key, fields={"image": image}, payload={"key": key}, origin=message)
    try:
        content = message.value.decode()
    except UnicodeDecodeError as error:
        msg = f"The value is not UTF-8: {error.reason} at byte {error.start}."
        raise BadRecordError(msg) from error
    if schema.format == "text":
        text = _checked_text(content, "The value", schema)
        whole = {schema.text or "text": content}
        return Record(
            key=_message_key(message, schema), fields={"text": text}, payload=whole, origin=message
        )
    document = _object(content)
    fields = _fields(document, schema)
    payload = _payload(document, schema.payload)
    if schema.image is not None and schema.image_as == "base64" and schema.payload is None:
        payload = _without(payload, schema.image)
    if content.count("{") + content.count("[") > _DEEPEST:
        _check_depth(payload)
    return Record(
        key=_message_key(message, schema)
        if schema.key is None
        else _field_key(document, schema.key),
        fields=fields,
        payload=payload,
        origin=message,
    )


def _fields(document: dict[str, Any], schema: Schema) -> dict[str, str | bytes]:
    fields: dict[str, str | bytes] = {}
    if schema.text is not None:
        text = _at(document, schema.text)
        fields["text"] = _checked_text(text, f"Field {schema.text!r}", schema)
    if schema.image is not None:
        image = _at(document, schema.image)
        fields["image"] = _checked_image_text(image, f"Field {schema.image!r}", schema)
    return fields


def _parse_all(schema: Schema, messages: list[Message]) -> Iterable[tuple[str, Batch]]:
    records: list[Record] = []
    failures: list[Failure] = []
    for message in messages:
        try:
            record = parse(schema, message)
            _check_numbers(record.payload)
            records.append(record)
        except BadRecordError as error:
            failures.append(Failure.of(message, "decode", error))
    RECORDS_READ.inc(len(messages))
    FAILURES.labels("decode").inc(len(failures))
    return [(local_shard().key, Batch(records=tuple(records), failures=tuple(failures)))]


def _records_only(items: list[tuple[str, Batch]]) -> Iterable[tuple[str, Batch]]:
    for key, batch in items:
        if batch.records:
            yield key, Batch(records=batch.records)


def _failures_only(items: list[tuple[str, Batch]]) -> Iterable[tuple[str, Failures]]:
    return [(key, batch.failures) for key, batch in items if batch.failures]


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


# NaN and Infinity are refused here: a vector store would refuse the point much later.
_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _object(content: str) -> dict[str, Any]:
    try:
        document = _DECODER.decode(content)
    except (ValueError, RecursionError) as error:
        msg = f"The value is not JSON: {error}. It starts with {content[:40]!r}."
        raise BadRecordError(msg) from error
    if not isinstance(document, dict):
        msg = f"The value is a JSON {type(document).__name__}; expected an object."
        raise BadRecordError(msg)
    if RESERVED in document:
        msg = f"Field {RESERVED!r} is reserved for versions and fingerprints; rename it."
        raise BadRecordError(msg)
    return document


def _at(document: dict[str, Any], path: str) -> object:
    """Follow a dotted path; a field whose own name has dots wins."""
    if path in document:
        return document[path]
    value: object = document
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            msg = f"Field {path!r} is missing; the object has {_names(document)}."
            raise BadRecordError(msg)
        value = value[name]
    return value


def _names(document: dict[str, Any]) -> str:
    told = (name[:_LONGEST_NAME] for name in islice(document, _NAMES_TOLD))
    names = ", ".join(told) or "none"
    n_more = len(document) - _NAMES_TOLD
    return f"{names} and {n_more:,} more" if n_more > 0 else names


def _checked_text(value: object, what: str, schema: Schema) -> str:
    if not isinstance(value, str):
        msg = f"{what} is {type(value).__name__}; expected a string."
        raise BadRecordError(msg)
    if not value.strip():
        msg = f"{what} is empty; an empty text would match everything and nothing."
        raise BadRecordError(msg)
    try:
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError as error:
        msg = f"{what} has half a surrogate pair at {error.start}; it is not valid Unicode."
        raise BadRecordError(msg) from error
    if size > schema.max_text_bytes:
        msg = (
            f"{what} has {size:,} bytes, more than max_text_bytes={schema.max_text_bytes:,}. "
            "Split it into documents, or raise the limit."
        )
        raise BadRecordError(msg)
    return value


def _checked_image(value: bytes, what: str, schema: Schema) -> bytes:
    if not value:
        msg = f"{what} is empty; expected an image."
        raise BadRecordError(msg)
    _check_size(len(value), what, schema)
    return value


def _checked_image_text(value: object, what: str, schema: Schema) -> str:
    """Check what leads to an image; whether it does is for whoever fetches it."""
    if not isinstance(value, str):
        msg = f"{what} is {type(value).__name__}; expected a string ({schema.image_as})."
        raise BadRecordError(msg)
    if not value.strip():
        msg = f"{what} is empty; expected an image as {schema.image_as}."
        raise BadRecordError(msg)
    if schema.image_as == "base64":
        _check_size(len(value) * 3 // 4 - _AROUND_BASE64, what, schema)
    elif len(value) > _LONGEST_PLACE:
        msg = f"{what} has {len(value):,} characters; expected a {schema.image_as}."
        raise BadRecordError(msg)
    return value


def _check_size(n_bytes: int, what: str, schema: Schema) -> None:
    if n_bytes > schema.max_image_bytes:
        msg = (
            f"{what} has {n_bytes:,} bytes, more than max_image_bytes={schema.max_image_bytes:,}. "
            "Make the image smaller, or raise the limit."
        )
        raise BadRecordError(msg)


def _message_key(message: Message, schema: Schema) -> str | int:
    try:
        return key_of(message, schema.key_format)
    except ValueError as error:
        raise BadRecordError(str(error)) from error


def _field_key(document: dict[str, Any], path: str) -> str | int:
    key = _at(document, path)
    if isinstance(key, bool) or not isinstance(key, str | int) or key == "":
        # Not its whole repr: it can be megabytes long, or nested deeper than Python goes.
        got = reprlib.repr(key)
        msg = f"Key field {path!r} is {got}; expected a non-empty string or an integer."
        raise BadRecordError(msg)
    return key


def _payload(document: dict[str, Any], chosen: tuple[str, ...] | None) -> dict[str, object]:
    if chosen is None:
        return document
    payload: dict[str, object] = {}
    for path in chosen:
        value = _at(document, path)  # first, since it tells that the places on the way are objects
        *outer, name = [path] if path in document else path.split(".")
        place = payload
        for step in outer:
            place = cast("dict[str, object]", place.setdefault(step, {}))
        place[name] = value
    return payload


def _without(document: Mapping[str, Any], path: str) -> dict[str, object]:
    """Leave out one field, which is there; what holds it is copied."""
    if path in document:
        return {name: value for name, value in document.items() if name != path}
    outer, _, inner = path.partition(".")
    return {**document, outer: _without(document[outer], inner)}


def _check_numbers(payload: Mapping[str, object]) -> None:
    """Refuse what REST would store and gRPC not, or a file not: every place has the same."""
    try:
        check_numbers(payload)
    except ValueError as error:
        raise BadRecordError(str(error)) from None


def _check_depth(payload: dict[str, object]) -> None:
    """Refuse what no later step could write: recovery and the store's client would end the flow."""
    level: list[dict[str, object] | list[object]] = [payload]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    msg = f"The payload nests deeper than {_DEEPEST} levels. Flatten it, or choose payload fields."
    raise BadRecordError(msg)

"""
Keys of messages: bytes that serializers write in their own ways, read as one identity each.

Two keys that mean the same (JSON with other spaces, a UUID in capitals) are one identity, and two
that differ are two.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Literal, NoReturn, TypeAlias, get_args

from operators.records import Message

__all__ = ["KEY_FORMATS", "KeyFormat", "key_of"]

KeyFormat: TypeAlias = Literal["text", "json", "long", "int", "uuid", "base64", "hex", "none"]
"""
How a message's key is read.

text    UTF-8
json    a JSON value, whatever the order of its names and its spaces; of Confluent's serializer too
long    8 bytes, as Kafka's LongSerializer writes them
int     4 bytes, as Kafka's IntegerSerializer writes them
uuid    16 bytes, or their text
base64  any bytes, such as Avro's
hex     any bytes
none    keys are not read: topic, partition and offset are the identity
"""

KEY_FORMATS: tuple[KeyFormat, ...] = get_args(KeyFormat)

_SETTING = "key_format (STREAM_KEY_FORMAT)"
_FITTING: Mapping[int, str] = {4: "int", 8: "long", 16: "uuid"}
"""What keys of so many bytes that are no text mostly are."""

_CONFLUENT_HEADER_BYTES = 5
"""A zero, and the number of a schema; no JSON begins with a zero byte."""

_LONGEST_INTEGER = 300
"""Digits of a whole number that is written with a point or an exponent; no bomb of zeros."""


def key_of(message: Message, key_format: KeyFormat) -> str | int:
    """
    Read a message's key.

    raises  ValueError that says what, got, and which setting reads it
    """
    if key_format == "none":
        return f"{message.topic}/{message.partition}/{message.offset}"
    if message.key is None:
        msg = (
            "The message has no key, so the document has no identity; set a key field, or "
            f"{_SETTING} to 'none' to take topic, partition and offset."
        )
        raise ValueError(msg)
    if not message.key:
        msg = "The message's key is empty; expected an identity."
        raise ValueError(msg)
    return _READERS[key_format](message.key)


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        likely = _FITTING.get(len(key), "base64 or hex")
        msg = (
            f"The message's key is not UTF-8: {_shown(key)}. If keys are numbers or bytes, set "
            f"{_SETTING}; for {len(key)} bytes {likely} fits."
        )
        raise ValueError(msg) from error


def _json(key: bytes) -> str | int:
    content = key[_CONFLUENT_HEADER_BYTES:] if key[0] == 0 else key
    try:
        identity = _identity(_DECODER.decode(content.decode()))
        str(identity).encode()  # half a surrogate pair is no text
    except (ValueError, ArithmeticError, RecursionError) as error:
        msg = f"The message's key is not JSON: {error}. {_got(key, 'json')}"
        raise ValueError(msg) from error
    if identity == "":
        msg = f"The message's key is an empty string; expected an identity. {_got(key, 'json')}"
        raise ValueError(msg)
    return identity


def _identity(value: object) -> str | int:
    match value:
        case bool() | None | _Number():
            return _canonical(value)
        case int():
            return value
        case str():
            # One that is itself JSON, such as '{"id":1}', is not the object that it spells.
            return _canonical(value) if _is_json(value) else value
        case _:
            return _canonical(value)


def _canonical(value: object) -> str:
    match value:
        case _Number():
            return str(value)
        case dict():
            pairs = (f"{_canonical(name)}:{_canonical(value[name])}" for name in sorted(value))
            return f"{{{','.join(pairs)}}}"
        case list():
            return f"[{','.join(map(_canonical, value))}]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def _is_json(text: str) -> bool:
    try:
        return not _is_integer(_DECODER.decode(text))
    except (ValueError, ArithmeticError, RecursionError):
        return False


def _number(n_bytes: int, name: str) -> Callable[[bytes], int]:
    def read(key: bytes) -> int:
        if len(key) != n_bytes:
            msg = f"The message's key has {len(key)} bytes, expected {n_bytes}. {_got(key, name)}"
            raise ValueError(msg)
        return int.from_bytes(key, "big", signed=True)

    return read


def _uuid(key: bytes) -> str:
    try:
        return str(uuid.UUID(bytes=key) if len(key) == _UUID_BYTES else uuid.UUID(key.decode()))
    except ValueError as error:
        msg = f"The message's key is not a UUID of 16 bytes or of text. {_got(key, 'uuid')}"
        raise ValueError(msg) from error


_UUID_BYTES = 16


def _base64(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii")


_READERS: Mapping[KeyFormat, Callable[[bytes], str | int]] = {
    "text": _text,
    "json": _json,
    "long": _number(8, "long"),
    "int": _number(4, "int"),
    "uuid": _uuid,
    "base64": _base64,
    "hex": bytes.hex,
}


def _got(key: bytes, name: KeyFormat | str) -> str:
    return f"Got {_shown(key)}; {_SETTING} is {name!r}."


def _shown(key: bytes) -> str:
    return repr(key[:40]) + ("..." if len(key) > 40 else "")  # noqa: PLR2004


class _Number(str):
    """A number that is not whole, as it is written: two that differ in a digit are two."""

    __slots__ = ()


def _exact(text: str) -> int | _Number:
    sign, digits, exponent = Decimal(text).as_tuple()
    significant = "".join(map(str, digits)).rstrip("0")
    if not isinstance(exponent, int) or not significant.strip("0"):
        return 0
    exponent += len(digits) - len(significant)
    if exponent >= 0 and len(significant) + exponent <= _LONGEST_INTEGER:
        whole = int(significant + "0" * exponent)
        return -whole if sign else whole
    return _Number(Decimal((sign, tuple(map(int, significant)), exponent)))


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


_DECODER = json.JSONDecoder(parse_float=_exact, parse_constant=_no_constant)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

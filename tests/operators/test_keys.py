"""A key of bytes is one identity, whatever serializer wrote it; two that differ are two."""

from __future__ import annotations

import base64
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastembed_stream.errors import SettingError
from operators import Identity, Message, Schema
from operators.decoding import BadRecordError, parse
from operators.keys import KEY_FORMATS, KeyFormat, key_of
from operators.points import point_of

_UUID = uuid.UUID("8b5f4f6a-1c1d-4c5e-9f3a-0a1b2c3d4e5f")
_OTHERS: tuple[KeyFormat, ...] = ("json", "long", "int", "uuid", "base64", "hex")


def message(key: bytes | None, *, offset: int = 7) -> Message:
    value = json.dumps({"text": "a broker keeps its log"}).encode()
    return Message(topic="docs", partition=2, offset=offset, key=key, value=value)


def read(key: bytes, key_format: KeyFormat) -> str | int:
    return key_of(message(key), key_format)


def stamp(
    key: bytes | None, key_format: KeyFormat, *, uuid_as_id: bool = False
) -> tuple[object, object]:
    """Give a point's id, and the key that is stored in it."""
    record = parse(Schema(key_format=key_format), message(key))
    identity = Identity(collection="c", uuid_as_id=uuid_as_id)
    point = point_of(record, identity, identity.namespace)
    stored = point.payload["_stream"]
    assert isinstance(stored, dict)
    return point.id, stored["key"]


@pytest.mark.parametrize(
    ("key", "key_format", "identity"),
    [
        (b"doc-1", "text", "doc-1"),
        ("größe".encode(), "text", "größe"),
        ((5).to_bytes(8, "big"), "long", 5),
        ((-5).to_bytes(8, "big", signed=True), "long", -5),
        ((1 << 62).to_bytes(8, "big"), "long", 1 << 62),
        ((5).to_bytes(4, "big"), "int", 5),
        (b"\xff\xff\xff\xff", "int", -1),
        (_UUID.bytes, "uuid", str(_UUID)),
        (str(_UUID).upper().encode(), "uuid", str(_UUID)),
        (b"\x00\x00\x00\x00\x01\x02\xfe", "base64", "AAAAAAEC/g=="),
        (b"\x00\x00\x00\x00\x01\x02\xfe", "hex", "000000000102fe"),
        (b'"doc-1"', "json", "doc-1"),
        (b"5", "json", 5),
        (b"5.0", "json", 5),
        (b"5e0", "json", 5),
        (b"5.50", "json", "5.5"),
        (b"true", "json", "true"),
        (b"null", "json", "null"),
        (b'{"id":1}', "json", '{"id":1}'),
        (b' { "b" : [ 2.0 , "x" ],\n"a" : {"d":1,"c":"\\u00e9"} } ', "json",
         '{"a":{"c":"é","d":1},"b":[2,"x"]}'),
        (b'\x00\x00\x00\x00\x09{"id": 1}', "json", '{"id":1}'),
        (b"\xff whatever", "none", "docs/2/7"),
    ],
)  # fmt: skip
def test_a_key_is_read_as_its_serializer_wrote_it(
    key: bytes, key_format: KeyFormat, identity: str | int
) -> None:
    assert read(key, key_format) == identity
    assert type(read(key, key_format)) is type(identity)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (b'"5"', b"5"),
        (b'"{\\"id\\":1}"', b'{"id":1}'),
        (b'"true"', b"true"),
        (b'"null"', b"null"),
        (b'"5.5"', b"5.5"),
        (b'"\\"x\\""', b'"x"'),
        (b'{"id":"1"}', b'{"id":1}'),
        (b"0.12345678901234567890", b"0.12345678901234567891"),
        (b"[1]", b"[[1]]"),
        (b"1e400", b"1e401"),
    ],
)
def test_json_keys_that_differ_are_two_identities(left: bytes, right: bytes) -> None:
    assert read(left, "json") != read(right, "json")
    assert stamp(left, "json")[0] != stamp(right, "json")[0]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(_VALUES, _VALUES)
def test_json_keys_are_one_identity_exactly_where_they_say_the_same(
    left: object, right: object
) -> None:
    def identity(value: object, **how: object) -> str | int | None:
        try:
            text = json.dumps(value, **how)  # type: ignore[arg-type]
            return read(text.encode(), "json")
        except ValueError:  # an empty key is none
            return None

    same = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    if identity(left) is not None:
        assert (identity(left) == identity(right)) == same
    assert identity(left) == identity(left, indent=2, sort_keys=True)


@pytest.mark.parametrize(
    ("key", "key_format"),
    [
        (b"\x00\x00\x00\x00\x00\x00\x00\xff", "text"),
        (b"{", "json"),
        (b"NaN", "json"),
        (b"[" * 100_000, "json"),
        (b"1" * 5_000, "json"),
        (b"1e99999999999999999999", "json"),
        (b'"\\ud800"', "json"),
        (b'""', "json"),
        (b"\xff", "json"),
        (b"\x00", "json"),
        (b"1234567", "long"),
        (b"12345678", "int"),
        (b"not a uuid", "uuid"),
        (b"\xff" * 17, "uuid"),
    ],
)
def test_a_key_that_cannot_be_read_is_a_failure_that_names_the_setting(
    key: bytes, key_format: KeyFormat
) -> None:
    with pytest.raises(BadRecordError, match="STREAM_KEY_FORMAT") as caught:
        parse(Schema(key_format=key_format), message(key))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("key", "fitting"),
    [(b"\xff" * 4, "int"), (b"\xff" * 8, "long"), (b"\xff" * 16, "uuid"), (b"\xff" * 9, "base64")],
)
def test_a_key_that_is_no_text_is_told_which_format_fits(key: bytes, fitting: str) -> None:
    with pytest.raises(BadRecordError, match=f"for {len(key)} bytes {fitting}.* fits"):
        parse(Schema(), message(key))


@pytest.mark.parametrize("key_format", ["text", *_OTHERS])
def test_a_message_without_a_key_is_told_how_to_do_without(key_format: KeyFormat) -> None:
    for key in (None, b""):
        with pytest.raises(BadRecordError, match=r"no key.*'none'|is empty"):
            parse(Schema(key_format=key_format), message(key))


def test_without_keys_each_message_is_one_point_and_a_replay_the_same() -> None:
    schema = Schema(key_format="none")
    keys = [parse(schema, message(key, offset=n)).key for n in range(3) for key in (None, b"\xff")]
    assert keys == [f"docs/2/{n}" for n in range(3) for _ in range(2)]


@given(st.binary(min_size=1))
def test_any_bytes_can_be_a_key(key: bytes) -> None:
    text = read(key, "base64")
    assert isinstance(text, str)
    assert base64.b64decode(text) == key
    assert bytes.fromhex(str(read(key, "hex"))) == key


def test_the_key_stands_in_the_point_so_that_its_row_is_found() -> None:
    assert stamp(b"doc-1", "text")[1] == "doc-1"
    assert stamp((5).to_bytes(8, "big"), "long") == (5, 5)
    assert stamp(b'{"b":1,"a":2}', "json")[1] == '{"a":2,"b":1}'
    assert stamp(b"\xff", "none")[1] == "docs/2/7"
    big = str(1 << 64).encode()
    assert stamp(big, "json")[1] == str(1 << 64)  # no store holds such a number


def test_ids_of_text_keys_are_what_they_were() -> None:
    assert stamp(b"doc-1", "text")[0] == "cf78d5d4-4aa9-52c1-af65-afa57392970e"


def test_a_uuid_is_its_points_id_where_that_is_asked_for() -> None:
    text = str(_UUID)
    assert stamp(_UUID.bytes, "uuid", uuid_as_id=True)[0] == text
    assert stamp(text.encode(), "text", uuid_as_id=True)[0] == text
    assert stamp(text.upper().encode(), "text", uuid_as_id=True) == (text, text.upper())
    assert stamp(text.encode(), "text")[0] != text
    for other in (f"{{{text}}}", f"urn:uuid:{text}", text.replace("-", ""), text + "\n", "doc-1"):
        assert stamp(other.encode(), "text", uuid_as_id=True) == stamp(other.encode(), "text")


@pytest.mark.parametrize("key_format", _OTHERS)
def test_a_key_comes_from_one_place(key_format: KeyFormat) -> None:
    with pytest.raises(SettingError, match="Leave out one"):
        Schema(key="id", key_format=key_format)


def test_an_unknown_format_is_refused_while_the_flow_is_built() -> None:
    with pytest.raises(SettingError, match=", ".join(KEY_FORMATS)):
        Schema(key_format="avro")  # type: ignore[arg-type]

"""What parses is a record, what does not a failure that says why; neither harms the other."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from hypothesis import given
from hypothesis import strategies as st

from fastembed_stream import SettingError
from operators import Batch, Failures, Message, Schema, decode
from operators.decoding import BadRecordError, parse
from operators.metrics import FAILURES, RECORDS_READ
from tests.operators.things import (
    EntryPoint,
    Kept,
    Lists,
    document,
    failed,
    message,
    numbers,
    on_workers,
)

GOOD = b'{"text": "hello", "id": 7, "meta": {"title": "T", "tags": ["a"]}}'


def values() -> st.SearchStrategy[object]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    return st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
    )


@given(st.dictionaries(st.text(), values(), max_size=4), st.text(min_size=1))
def test_every_document_with_a_text_and_a_key_becomes_a_record(
    rest: dict[str, object], key: str
) -> None:
    content = {**rest, "text": "hello"}
    content.pop("_stream", None)
    with_infinity = json.loads(json.dumps(content).replace("Infinity", "0"))
    origin = message(json.dumps(with_infinity).encode(), key=key.encode())
    record = parse(Schema(), origin)
    assert record.key == key
    assert record.fields == {"text": "hello"}
    assert record.payload == with_infinity
    assert record.origin is origin


@given(st.binary() | st.text().map(str.encode) | values().map(lambda v: json.dumps(v).encode()))
def test_any_bytes_are_a_record_or_a_reason(value: bytes) -> None:
    for schema in (Schema(), Schema(format="text"), Schema(key="text", text="a.b", payload=("c",))):
        with suppress(BadRecordError):
            parse(schema, message(value))


def test_dots_lead_into_nested_objects_and_a_name_with_dots_wins() -> None:
    nested = message(b'{"a": {"b": {"c": "deep"}}}')
    assert parse(Schema(text="a.b.c"), nested).fields["text"] == "deep"
    both = message(b'{"a": {"b": "deep"}, "a.b": "flat"}')
    assert parse(Schema(text="a.b"), both).fields["text"] == "flat"


def test_a_payload_may_be_as_deep_as_every_store_can_write() -> None:
    assert parse(Schema(), message(NESTED % b"1")).payload["text"] == "a"
    assert parse(Schema(payload=("text",)), message(NESTED % b"[]")).payload == {"text": "a"}


def test_the_payload_is_what_was_chosen_or_the_whole_object() -> None:
    assert parse(Schema(), message(GOOD)).payload == json.loads(GOOD)
    chosen = parse(Schema(payload=("id", "meta.title")), message(GOOD)).payload
    assert chosen == {"id": 7, "meta": {"title": "T"}}
    flat = parse(Schema(payload=("a.b",)), message(b'{"text": "x", "a.b": 1, "a": {"b": 2}}'))
    assert flat.payload == {"a.b": 1}
    assert parse(Schema(payload=()), message(GOOD)).payload == {}


@pytest.mark.parametrize(("field", "key"), [("id", 7), ("text", "hello"), ("meta.title", "T")])
def test_the_key_may_come_from_a_field(field: str, key: str | int) -> None:
    record = parse(Schema(key=field), message(GOOD, key=None))
    assert record.key == key
    assert type(record.key) is type(key)


IMAGE = b'{"text": "a cat", "id": 1, "of": {"data": "aGVsbG8=", "kind": "png"}}'


def test_an_image_field_is_read_beside_the_text_and_base64_is_not_stored() -> None:
    record = parse(Schema(image="of.data"), message(IMAGE))
    assert record.fields == {"text": "a cat", "image": "aGVsbG8="}
    assert record.payload == {"text": "a cat", "id": 1, "of": {"kind": "png"}}
    chosen = parse(Schema(image="of.data", payload=("of.data",)), message(IMAGE))
    assert chosen.payload == {"of": {"data": "aGVsbG8="}}


@pytest.mark.parametrize("image_as", ["path", "url"])
def test_a_path_or_url_of_an_image_is_stored_and_needs_no_text(image_as: Any) -> None:
    told = message(b'{"picture": "cats/1.png"}')
    record = parse(Schema(text=None, image="picture", image_as=image_as), told)
    assert record.fields == {"image": "cats/1.png"}
    assert record.payload == {"picture": "cats/1.png"}


def test_a_value_of_bytes_is_the_image_and_its_key_is_stored() -> None:
    record = parse(Schema(format="bytes"), message(b"\x89PNG\xff", key=b"cats/1.png"))
    assert (record.key, record.fields) == ("cats/1.png", {"image": b"\x89PNG\xff"})
    assert record.payload == {"key": "cats/1.png"}


def test_base64_may_be_as_long_as_an_image_may_be_large() -> None:
    schema = Schema(text=None, image="i", max_image_bytes=3_000_000)
    fits = base64.b64encode(bytes(3_000_000)).decode()
    told = "data:image/png;base64," + fits
    for text in (fits, told):
        content = json.dumps({"i": text}).encode()
        assert parse(schema, message(content)).fields == {"image": text}
    with pytest.raises(BadRecordError, match="more than max_image_bytes=3,000,000"):
        parse(schema, message(json.dumps({"i": told + "A" * 300}).encode()))


def test_plain_text_is_both_text_and_payload() -> None:
    record = parse(Schema(format="text", text="body"), message("grüß".encode(), key=b"7"))
    assert (record.key, record.fields) == ("7", {"text": "grüß"})
    assert record.payload == {"body": "grüß"}


NESTED = b'{"text": "a", "n": ' + b"[" * 23 + b"%s" + b"]" * 23 + b"}"
SMALL = Schema(format="bytes", max_image_bytes=2)
URL = Schema(text=None, image="i", image_as="url")
BAD = {
    "empty image": (message(b""), Schema(format="bytes"), "The value is empty; expected an image"),
    "large image": (message(b"123"), SMALL, "has 3 bytes, more than max_image_bytes=2"),
    "image without key": (message(b"1", key=None), Schema(format="bytes"), "has no key"),
    "missing image": (message(GOOD), Schema(image="i"), "Field 'i' is missing"),
    "image no string": (message(b'{"i": 5}'), URL, "Field 'i' is int; expected a string (url)"),
    "blank image": (message(b'{"i": " "}'), URL, "Field 'i' is empty; expected an image as url"),
    "long URL": (message(b'{"i": "%s"}' % (b"x" * 8_001)), URL, "has 8,001 characters; expected a"),
    "null": (message(None), Schema(), "value is null (a tombstone)"),
    "not UTF-8": (message(b'{"text": "\xff"}'), Schema(), "not UTF-8: invalid start byte at byte"),
    "not JSON": (message(b"text=hello"), Schema(), "not JSON: Expecting value"),
    "cut off": (message(b'{"text": "hel'), Schema(), 'It starts with \'{"text": "hel\''),
    "NaN": (message(b'{"text": "a", "n": NaN}'), Schema(), "NaN is not JSON"),
    "infinity": (message(b'{"text": "a", "n": -Infinity}'), Schema(), "-Infinity is not JSON"),
    "deep": (message(b"[" * 100_000), Schema(), "not JSON: maximum recursion depth"),
    "nested": (message(NESTED % b"[]"), Schema(), "nests deeper than 24 levels. Flatten it"),
    "array": (message(b"[1, 2]"), Schema(), "is a JSON list; expected an object"),
    "string": (message(b'"hello"'), Schema(), "is a JSON str; expected an object"),
    "missing text": (message(b'{"t": 1, "u": 2}'), Schema(), "'text' is missing; the object has t"),
    "empty object": (message(b"{}"), Schema(), "'text' is missing; the object has none"),
    "missing nested": (message(b'{"a": 1}'), Schema(text="a.b"), "Field 'a.b' is missing"),
    "number": (message(b'{"text": 5}'), Schema(), "'text' is int; expected a string"),
    "null text": (message(b'{"text": null}'), Schema(), "'text' is NoneType; expected a string"),
    "empty": (message(b'{"text": ""}'), Schema(), "Field 'text' is empty"),
    "blank": (message(b'{"text": " \\n"}'), Schema(), "Field 'text' is empty"),
    "blank text": (message(b" \n"), Schema(format="text"), "The value is empty"),
    "long": (message(b'{"text": "12345"}'), Schema(max_text_bytes=4), "5 bytes, more than max"),
    "long UTF-8": (message('{"text": "éé"}'.encode()), Schema(max_text_bytes=3), "has 4 bytes"),
    "half a pair": (message(b'{"text": "a\\ud83d"}'), Schema(), "half a surrogate pair at 1"),
    "reserved": (message(b'{"text": "a", "_stream": 1}'), Schema(), "'_stream' is reserved"),
    "no key": (message(GOOD, key=None), Schema(), "has no key, so the document has no identity"),
    "empty key": (message(GOOD, key=b""), Schema(), "key is empty; expected an identity"),
    "key not UTF-8": (message(GOOD, key=b"\xff"), Schema(), "key is not UTF-8: b'\\xff'"),
    "missing key": (message(GOOD), Schema(key="uid"), "Field 'uid' is missing"),
    "boolean key": (message(b'{"text": "a", "id": true}'), Schema(key="id"), "'id' is True"),
    "float key": (message(b'{"text": "a", "id": 1.0}'), Schema(key="id"), "'id' is 1.0; expected"),
    "null key": (message(b'{"text": "a", "id": null}'), Schema(key="id"), "'id' is None; expected"),
    "empty field": (message(b'{"text": "a", "id": ""}'), Schema(key="id"), "a non-empty string or"),
    "payload inside a text": (
        message(b'{"text": "a", "b": "x"}'),
        Schema(payload=("b", "b.c.d")),
        "Field 'b.c.d' is missing",
    ),
    "missing payload": (message(GOOD), Schema(payload=("id", "x")), "Field 'x' is missing"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_message_fails_with_a_reason_that_names_what_is_wrong(name: str) -> None:
    bad, schema, reason = BAD[name]
    with pytest.raises(BadRecordError) as caught:
        parse(schema, bad)
    assert reason in str(caught.value)


def decoded(
    entry_point: EntryPoint, messages: list[Message], schema: Schema
) -> tuple[list[Batch], list[Failures]]:
    oks: Kept[Batch] = Kept()
    errs: Kept[Failures] = Kept()
    flow = Dataflow("decoding")
    split = decode("decode", op.input("in", flow, Lists({"all": messages})), schema=schema)
    op.output("oks", split.oks, oks)
    op.output("errs", split.errs, errs)
    entry_point(flow)
    return oks.items, errs.items


def test_bad_messages_leave_as_failures_and_their_neighbours_go_on_in_order(
    entry_point: EntryPoint,
) -> None:
    bad = [bad for bad, schema, _ in BAD.values() if schema == Schema()]
    mixed: list[Message] = []
    for number, one in enumerate(bad):
        mixed.append(document(2 * number))
        mixed.append(message(one.value, key=one.key, offset=2 * number + 1))
    oks, errs = decoded(entry_point, mixed, Schema())
    assert numbers(oks) == [2 * number for number in range(len(bad))]
    assert failed(errs) == [2 * number + 1 for number in range(len(bad))]
    assert {one.stage for some in errs for one in some} == {"decode"}
    kinds = {one.error_type for some in errs for one in some}
    assert kinds == {"operators.decoding.BadRecordError"}


def test_messages_and_failures_are_counted() -> None:
    read, bad = RECORDS_READ._value.get(), FAILURES.labels("decode")._value.get()
    flow = Dataflow("counting")
    messages = [document(0), message(None), document(1)]
    records = decode("decode", op.input("in", flow, Lists({"all": messages})), schema=Schema())
    kept: Kept[Batch] = Kept()
    op.output("oks", records.oks, kept)
    on_workers(0)(flow)
    assert RECORDS_READ._value.get() - read == 3
    assert FAILURES.labels("decode")._value.get() - bad == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"format": "xml"}, "format='xml': expected 'json', 'text' or 'bytes'"),
        ({"format": "text", "key": "id"}, "plain text has no fields"),
        ({"max_text_bytes": 0}, "expected at least 1"),
        ({"max_image_bytes": 0}, "max_image_bytes=0: expected at least 1"),
        ({"format": "bytes", "key": "id"}, "an image has no fields"),
        ({"format": "bytes", "image": "i"}, "an image has no fields"),
        ({"format": "text", "image": "i"}, "plain text has no fields"),
        ({"format": "text", "text": None}, "plain text has no fields"),
        ({"text": None}, "neither text nor image"),
        ({"image_as": "auto"}, "image_as='auto': expected 'base64', 'path' or 'url'"),
    ],
)
def test_a_schema_that_cannot_be_right_is_refused_at_birth(
    wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        Schema(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_a_missing_field_is_told_with_ten_of_the_names_there_are() -> None:
    content = {f"name{n}": n for n in range(30_000)}
    with pytest.raises(BadRecordError) as refused:
        parse(Schema(), message(json.dumps(content).encode()))
    told = ", ".join(f"name{n}" for n in range(10))
    assert str(refused.value) == (
        f"Field 'text' is missing; the object has {told} and 29,990 more."
    )


def test_a_key_that_is_a_large_object_is_told_in_short() -> None:
    content = {"text": "t", "id": {"name": ["x" * 1_000_000] * 3}}
    with pytest.raises(BadRecordError) as refused:
        parse(Schema(key="id"), message(json.dumps(content).encode()))
    assert len(str(refused.value)) < 300
    assert "expected a non-empty string or an integer" in str(refused.value)

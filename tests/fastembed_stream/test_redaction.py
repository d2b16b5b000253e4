"""No secret stands in a text that `redacted` gives, wherever in it the secret stood."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastembed_stream.errors import ImageError, ModelFilesError, SettingError
from fastembed_stream.redaction import MASK, keep_secret, redacted, shown_options, shown_url

SECRET = "hunter2hunter2"  # noqa: S105  it is the example


@pytest.mark.parametrize(
    "text",
    [
        f"https://me:{SECRET}@example.org/x",
        f"https://{SECRET}@example.org",
        f"cannot reach 'https://me:{SECRET} 2@example.org/x' now",
        f"(http://me:a@{SECRET}@example.org:6333/x)",
        f"http://me:a/{SECRET}@example.org/x",
        f"http://me:a?{SECRET}@example.org/x",
        f"http://me:a#{SECRET}@example.org/x",
        f"http://me:{SECRET}:/2@example.org/x",
        f"http://me:{SECRET}]#2@example.org/x",
        f"http://me:a@/{SECRET}@example.org/x",
        f"http://me:a@b/{SECRET}@example.org/x",
        f"HTTPS://h/x?X-Amz-Signature={SECRET}&X-Amz-Date=1",
        f"https://h/x?sv=1&sig={SECRET}",
        f"https://h/x?a='{SECRET}'",
        f"\"https://h/x?a='{SECRET}'\"",
        repr(f"https://h/x?a='{SECRET}\"'{SECRET}"),
        f'{{\\"url\\": \\"https://h/x?a={SECRET}\\"}}',
        f"https://h/x#access_token={SECRET}",
        f"redirects to //me:{SECRET}@h/x",
        f"me:{SECRET}@broker:9092 is away",
        f"sasl.password={SECRET}",
        f"'sasl.password': '{SECRET}'",
        f'{{"ssl.key.password": "{SECRET}", "x": 1}}',
        f'"sasl.jaas.config": "Plain user=\\"me\\" pass=\\"{SECRET}\\";"',
        f"STREAM_QDRANT_API_KEY={SECRET}",
        f"api_key='{SECRET}'",
        f'{{\\"sasl.password\\": \\"{SECRET}\\"}}',
        f"{{'api-key': '{SECRET}'}}",
        f"api-key: {SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"{{'authorization': 'Basic {SECRET}'}}",
        f"with Bearer {SECRET} sent",
        f"access_token={SECRET}",
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"Set-Cookie: session={SECRET}; Path=/",
    ],
)
def test_a_secret_is_hidden_by_where_it_stands(text: str) -> None:
    assert SECRET not in redacted(text)
    assert SECRET not in redacted(f"before {text} after")
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "Field 'text' is missing; the object has a, b.",
        "http://localhost:6333/collections/docs",
        "Chunks(max_tokens=512, token_budget=256)",
        "kafka.example.org:9092",
        "STREAM_QDRANT_API_KEY: Input should be a valid string",
        "https://example.org/@user/file",
        "7 // 2",
        "'file:/etc/passwd': scheme 'file'; expected https or http.",
        "at 12:30, 5 of 10",
        "Tokenizer(pad_token='[PAD]', unk_token_id=100, special_tokens_map={'a': 1})",
        "no input token_type_ids=[1]; max_token=5",
        "tokenizer=bert-base-uncased",
        "401: Basic authentication failed; bearer authorization is expected",
    ],
)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


def test_a_known_secret_is_hidden_in_any_text() -> None:
    keep_secret("correct horse/battery", "x", None, "")
    for text in (
        "broker says: correct horse/battery is wrong",
        "GET /correct%20horse%2Fbattery",
        "correct+horse%2Fbattery",
    ):
        assert "horse" not in redacted(text)
    assert redacted("x marks") == "x marks"
    assert "horse" not in shown_url("https://h/correct%20horse%2Fbattery/x")


@given(st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_the_user_and_query_of_any_url_are_hidden(text: str) -> None:
    secret = f"S3CRET{text}S3CRET"
    for url in (f"https://me:{secret}@example.org/x", f"https://example.org/x?k={secret}"):
        shown = shown_url(url)
        assert "S3CRET" not in shown
    assert "S3CRET" not in redacted(repr(f"https://example.org/x?k={secret}"))


def test_options_show_their_names_and_what_is_no_secret() -> None:
    options = {"sasl.username": "me", "sasl.password": SECRET, "ssl.key.pem": SECRET, "a": 1}
    assert shown_options(options) == {
        "sasl.username": "me",
        "sasl.password": MASK,
        "ssl.key.pem": MASK,
        "a": 1,
    }


def test_errors_of_this_project_are_clean_from_their_birth() -> None:
    url = f"https://me:{SECRET}@example.org/x?sig={SECRET}"
    for error in (SettingError(url), ModelFilesError(f"{url} is away"), ImageError(url, 1, url)):
        assert SECRET not in f"{error} {error!r} {error.args}"


@pytest.mark.parametrize(
    "part", ["a", "//", "'//", "a:", "password", "api_key=", "\"'", "@", "b:c@", "//a?", "token"]
)
def test_a_long_text_takes_time_in_proportion_to_its_length(part: str) -> None:
    started = time.process_time()
    redacted(part * (200_000 // len(part)))
    assert time.process_time() - started < 20  # a square of it would be hours

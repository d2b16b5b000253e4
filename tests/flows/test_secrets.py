"""No secret shows in any place that prints one: errors, logs, reprs, metrics, dead letters."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from prometheus_client import generate_latest

from fastembed_stream import DenseText, Fetching, Model, SettingError, Tarball, locate
from flows.local_broker import free_port
from flows.telling import RedactingFormatter
from operators import BrokenFlowError, Cluster, Failure, Message, Server, Web
from operators.dead_letter import as_line, as_message
from operators.fetching import fetched

ROOT = Path(__file__).parents[2]
SECRET = "hunter2hunter2"  # noqa: S105  it is the example
SIGNED = f"https://img.example.org/cat.png?X-Amz-Signature={SECRET}"
OWNED = f"https://me:{SECRET}@img.example.org/cat.png"
RECIPE = DenseText(pooling="mean", normalize=True)
OPTIONS = {"sasl.username": "me", "sasl.password": SECRET}


def chained(text: str) -> Exception:
    """Give an error whose causes, too, tell the text."""
    try:
        try:
            httpx.Response(404, request=httpx.Request("GET", text)).raise_for_status()
        except httpx.HTTPStatusError as error:
            msg = f"cannot fetch {text}"
            raise ValueError(msg) from error
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("url", [SIGNED, OWNED])
def test_a_dead_letter_says_why_without_secrets_and_keeps_the_original(url: str) -> None:
    origin = Message(topic="t", partition=0, offset=0, key=b"k", value=url.encode())
    failure = Failure.of(origin, "fetch", chained(url))
    assert "img.example.org" in failure.reason
    assert "HTTPStatusError" in failure.traceback
    assert SECRET not in failure.reason + failure.traceback + failure.error_type
    letter = as_message(failure, "dead", "step", 1 << 20)
    assert letter.value == url.encode()
    assert all(SECRET.encode() not in (text or b"") for _, text in letter.headers)
    assert as_line(failure).count(SECRET.encode()) == 1  # in its value, to be read again


@pytest.mark.parametrize("n_before", range(1_970, 2_010, 3))
def test_a_reason_is_cut_after_its_secrets_are_hidden(n_before: int) -> None:
    origin = Message(topic="t", partition=0, offset=0, key=b"k", value=None)
    failure = Failure.of(origin, "fetch", ValueError(f"{'x' * n_before} {SIGNED} more"))
    assert SECRET[:5] not in failure.reason + failure.traceback
    assert len(failure.reason) <= 2_000


def _answer(url: str, addresses: Sequence[str] = ()) -> str:
    def resolve(_: str, __: int) -> Sequence[str]:
        if not addresses:
            msg = f"{url} has no address"
            raise OSError(msg)
        return addresses

    web = Web(hosts=("img.example.org",), resolve=resolve, attempts=1, timeout_s=2, private=True)
    [answer] = fetched(web, [url]).values()
    return repr(answer)


@pytest.mark.parametrize(
    "url",
    [
        SIGNED,
        OWNED,
        SIGNED.replace("https", "ftp"),
        SIGNED.replace("img.", "other."),
        SIGNED.replace(".org/", ".org:9/"),
        f"https://me:a/{SECRET}@img.example.org/x",
        f"https://me:{SECRET}:9@img.example.org:x/x",
        f"https://img.example.org/x#{SECRET}",
        f"https://img.example.org/x?a='{SECRET}'",
        f"https://img.example.org/x?{SECRET * 1_000}",
        f"https://img.example.org:{SECRET}/x?{SECRET}@",
    ],
)
def test_a_url_of_an_image_is_refused_without_what_is_secret_in_it(url: str) -> None:
    assert SECRET not in _answer(url)
    assert SECRET not in _answer(url, ["127.0.0.1"])


def test_a_tarballs_password_is_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastembed_stream.files.transfer.sleep", lambda _: None)
    monkeypatch.setenv("NO_PROXY", "*")
    url = f"http://me:{SECRET}@127.0.0.1:{free_port()}/tiny.tar.gz?sig={SECRET}"
    source = Tarball(url=url)
    model = Model(name="a/b", dim=2, source=source, model_file="m.onnx", recipe=RECIPE)
    with caplog.at_level(logging.DEBUG), pytest.raises(Exception, match="Cannot reach") as caught:
        locate(model, fetching=Fetching(cache_dir=tmp_path, attempts=2))
    assert SECRET not in caplog.text + f"{model!r} {caught.value} {caught.value!r}"
    offline = Fetching(cache_dir=tmp_path, offline=True)
    with pytest.raises(Exception, match="not complete in the cache") as caught:
        locate(model, fetching=offline)
    assert SECRET not in str(caught.value)
    assert all(SECRET not in str(path) for path in tmp_path.rglob("*"))


def test_what_is_made_of_secrets_does_not_show_them() -> None:
    shown = [
        Cluster(brokers="a:1", options=OPTIONS),
        Server(url=OWNED, api_key=SECRET),
        Server(url=SIGNED, api_key=SECRET),
        Tarball(url=OWNED),
    ]
    for one in shown:
        assert SECRET not in f"{one} {one!r}"
    with pytest.raises(SettingError) as caught:
        Server(url=OWNED, memory=True, api_key=SECRET)
    assert SECRET not in str(caught.value)
    with pytest.raises(TypeError) as wrong:
        replace(shown[1], nothing=1)  # type: ignore[type-var]
    assert SECRET not in str(wrong.value)


@pytest.mark.parametrize("kind", [SettingError, BrokenFlowError])
def test_errors_that_repeat_what_a_neighbour_said_do_not_repeat_a_secret(
    kind: Callable[[str], Exception],
) -> None:
    Cluster(brokers="a:1", options=OPTIONS)
    error = kind(f"the broker says: login of me with {SECRET} failed")
    assert SECRET not in "".join(traceback.format_exception(error))


def test_a_line_of_the_log_has_no_secret_whoever_wrote_it() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter("%(message)s"))
    log = logging.getLogger("someone's")
    log.addHandler(handler)
    log.warning("GET %s with %s", SIGNED, {"api-key": SECRET})
    try:
        raise chained(OWNED)
    except ValueError:
        log.exception("failed")
    assert "HTTPStatusError" in stream.getvalue()
    assert SECRET not in stream.getvalue()


def test_metrics_have_no_secret() -> None:
    Cluster(brokers="a:1", options=OPTIONS)
    assert SECRET.encode() not in generate_latest()


@pytest.mark.parametrize(
    "raised",
    [
        f"ValueError('at {SIGNED}')",
        f"SettingError('at {OWNED}')",
        f"KafkaException('sasl.password={SECRET}')",
    ],
)
def test_the_error_that_ends_a_process_is_told_without_secrets(raised: str) -> None:
    code = (
        "from confluent_kafka import KafkaException\n"
        "from fastembed_stream.errors import SettingError\n"
        "from flows.telling import tell_errors_in_a_sentence\n"
        "tell_errors_in_a_sentence()\n"
        "try:\n"
        f"    raise {raised}\n"
        "except Exception as error:\n"
        "    raise RuntimeError('Bytewax wraps it') from error\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    printed = [line for line in ended.stderr.splitlines() if not line.startswith("    raise")]
    assert SECRET not in "\n".join(printed)
    assert ("Traceback" in ended.stderr) == ("SettingError" not in raised)

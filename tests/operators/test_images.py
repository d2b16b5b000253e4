"""Images are taken from where they may be; whatever else a text asks for is refused, and why."""

from __future__ import annotations

import base64
import errno
import ipaddress
import os
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
import trustme
from bytewax.dataflow import Dataflow
from hypothesis import given
from hypothesis import strategies as st

from fastembed_stream import SettingError
from operators import Batch, Failures, FetchImages, Record, Web, fetch_images
from operators.addresses import refusal, resolved
from operators.fetching import FetchError, fetched
from operators.images import from_base64
from operators.stages import apply
from tests.operators.things import EntryPoint, Kept, Lists, failed, numbers, record
from tests.servers.image_server import PICTURE, ImageServer, image_server


def pictured(number: int, image: str | bytes) -> Record:
    return replace(record(number), fields={"image": image})


def got(stage: FetchImages, image: str | bytes) -> bytes:
    done = apply(stage, Batch(records=(pictured(0, image),)))
    [one] = done.records
    content = one.fields["image"]
    assert isinstance(content, bytes)
    return content


def refused(stage: FetchImages, image: str | bytes) -> str:
    done = apply(stage, Batch(records=(pictured(0, image),)))
    assert done.records == ()
    [failure] = done.failures
    assert failure.stage == "fetch image"
    return failure.reason


class TestBase64:
    stage = FetchImages(given_as="base64", max_bytes=1_000)

    @given(
        st.binary(min_size=1, max_size=1_000),
        st.sampled_from(["", "data:image/png;base64,"]),
        st.sampled_from("= "),
    )
    def test_base64_comes_back_as_it_was_with_or_without_prefix_and_padding(
        self, image: bytes, prefix: str, padding: str
    ) -> None:
        text = base64.b64encode(image).decode().replace("=", padding)
        assert from_base64(prefix + text, 1_000) == image

    def test_line_breaks_of_mail_are_no_harm(self) -> None:
        assert got(self.stage, base64.encodebytes(bytes(300)).decode()) == bytes(300)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("/etc/passwd!", "not base64"),
            ("http://a/b.png", "not base64"),
            ("data:text/html;base64,aGk=", "starts with 'data:text/html"),
            ("data:image/png,aGk=", "starts with 'data:image/png,"),
            ("data:image/png;base64,", "is empty"),
            ("A" * 1_340, "has 1,005 bytes, more than max_bytes=1,000"),
            ("ä", "not base64"),
            ("A", "not base64"),
        ],
    )
    def test_what_is_no_base64_of_an_image_is_refused(self, text: str, said: str) -> None:
        assert said in refused(self.stage, text)

    def test_a_text_is_never_read_as_what_was_not_told(self, tmp_path: Path) -> None:
        (tmp_path / "cat").write_bytes(PICTURE)
        path = str(tmp_path / "cat")
        assert "is text; expected an image as bytes" in refused(FetchImages(given_as="bytes"), path)
        assert "not base64" in refused(self.stage, path)


def test_bytes_pass_as_they_are_within_the_limit() -> None:
    stage = FetchImages(given_as="bytes", max_bytes=4)
    assert got(stage, b"1234") == b"1234"
    assert "has 5 bytes, more than max_bytes=4" in refused(stage, b"12345")
    assert "is empty" in refused(stage, b"")


def test_a_record_without_the_field_fails_alone() -> None:
    done = apply(
        FetchImages(given_as="bytes"), Batch(records=(record(0), pictured(1, b"x"), record(2)))
    )
    assert (numbers([done]), failed([done.failures])) == ([1], [0, 2])
    assert "is nothing; expected an image as bytes" in done.failures[0].reason


class TestPaths:
    @pytest.fixture
    def stage(self, tmp_path: Path) -> FetchImages:
        for name in ("in/cat.png", "in/deep/dog.png", "also/owl.png", "out/secret", "inside/x"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
        (tmp_path / "in" / "link").symlink_to(tmp_path / "out" / "secret")
        (tmp_path / "in" / "way").symlink_to(tmp_path / "out")
        (tmp_path / "in" / "fine").symlink_to(tmp_path / "also" / "owl.png")
        (tmp_path / "in" / "loop").symlink_to(tmp_path / "in" / "loop")
        os.mkfifo(tmp_path / "in" / "pipe")
        (tmp_path / "in" / "large").write_bytes(bytes(101))
        folders = (tmp_path / "in", tmp_path / "also")
        return FetchImages(given_as="path", folders=folders, max_bytes=100)

    def test_files_below_the_folders_are_read(self, stage: FetchImages, tmp_path: Path) -> None:
        assert got(stage, "cat.png") == b"in/cat.png"
        assert got(stage, "deep/../deep/dog.png") == b"in/deep/dog.png"
        assert got(stage, str(tmp_path / "also" / "owl.png")) == b"also/owl.png"
        assert got(stage, "fine") == b"also/owl.png", "a link from one folder into another"

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            ("../out/secret", "leads out of the folders"),
            ("../inside/x", "leads out of the folders"),
            ("/etc/passwd", "leads out of the folders"),
            ("link", "leads out of the folders"),
            ("way/secret", "leads out of the folders"),
            ("file:///etc/passwd", "is not the path of a file"),
            ("http://127.0.0.1/", "is not the path of a file"),
            ("cat.png\0.jpg", "is not the path of a file"),
            ("", "is not the path of a file"),
            (".", "is not a file"),
            ("pipe", "is not a file"),
            ("none.png", "There is no file 'none.png'"),
            ("large", "has 101 bytes, more than max_bytes=100"),
            ("x" * 5_000, "File name too long"),
        ],
    )
    def test_whatever_is_no_file_below_them_is_refused(
        self, stage: FetchImages, path: str, said: str
    ) -> None:
        assert said in refused(stage, path)

    def test_a_link_that_leads_to_itself_is_refused(self, stage: FetchImages) -> None:
        assert refused(stage, "loop")

    def test_a_folder_that_is_gone_is_an_outage(self, stage: FetchImages, tmp_path: Path) -> None:
        (tmp_path / "in").rename(tmp_path / "unmounted")
        with pytest.raises(ConnectionError, match="is gone: is its disk mounted"):
            apply(stage, Batch(records=(pictured(0, "cat.png"),)))

    def test_a_disk_that_fails_is_an_outage(
        self, stage: FetchImages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> int:
            raise OSError(errno.EIO, "the disk fails")

        monkeypatch.setattr(os, "open", fail)
        with pytest.raises(OSError, match="the disk fails"):
            stage(Batch(records=(pictured(0, "cat.png"),)))


@pytest.fixture(scope="module")
def _server() -> Iterator[ImageServer]:
    with image_server() as server:
        yield server


@pytest.fixture
def server(_server: ImageServer) -> ImageServer:
    _server.requests.clear()
    _server.busy_left = 2
    _server.most = 0
    return _server


def loopback(host: str, port: int) -> Sequence[str]:
    del host, port
    return ["127.0.0.1"]


@pytest.fixture
def web(server: ImageServer) -> Web:
    return Web(
        hosts=("img.test", ".cdn.test", "bücher.test"),
        plain_http=True,
        private=True,
        ports=(server.port,),
        max_bytes=100_000,
        timeout_s=5,
        resolve=loopback,
    )


def at(server: ImageServer, path: str, host: str = "img.test") -> str:
    return f"http://{host}:{server.port}{path}"


def one(web: Web, url: str) -> bytes | FetchError:
    [(asked, answer)] = fetched(web, [url]).items()
    assert asked == url
    return answer


def why(web: Web, url: str) -> str:
    answer = one(web, url)
    assert isinstance(answer, FetchError), answer
    return str(answer)


class TestWeb:
    def test_an_image_comes_from_an_allowed_host_by_its_name(
        self, server: ImageServer, web: Web
    ) -> None:
        assert one(web, at(server, "/cat.png?size=9")) == PICTURE
        [(path, headers)] = server.requests
        assert path == "/cat.png?size=9"
        assert headers["host"] == f"img.test:{server.port}"
        assert headers["accept-encoding"] == "identity"
        assert one(web, at(server, "/untyped", "a.b.cdn.test")) == PICTURE
        assert one(web, at(server, "/cat.png", "IMG.Test.")) == PICTURE

    def test_a_name_of_other_letters_is_asked_for_in_ascii(
        self, server: ImageServer, web: Web
    ) -> None:
        for host in ("bücher.test", "BÜCHER.test", "xn--bcher-kva.test"):
            assert one(web, at(server, "/cat.png", host)) == PICTURE
        assert {headers["host"] for _, headers in server.requests} == {
            f"xn--bcher-kva.test:{server.port}"
        }

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("file:///etc/passwd", "scheme 'file'; expected https or http"),
            ("ftp://img.test/a", "scheme 'ftp'"),
            ("gopher://img.test/a", "scheme 'gopher'"),
            ("data:image/png;base64,aGk=", "scheme 'data'"),
            ("//img.test/cat.png", "scheme ''"),
            ("cat.png", "scheme ''"),
            ("", "scheme ''"),
            ("http://user:secret@img.test/a", "has a user name or password"),
            ("http://user@img.test/a", "has a user name or password"),
            ("http://evil.test/a", "host 'evil.test' is not allowed; allowed are img.test"),
            ("http://img.test.evil.test/a", "is not allowed"),
            ("http://evilimg.test/a", "is not allowed"),
            ("http://cdn.test/a", "is not allowed"),
            ("http://evil.test#@img.test/a", "is not allowed"),
            ("http://img.test\\@evil.test/a", ""),
            ("http://127.0.0.1/a", "is not allowed"),
            ("http://2130706433/a", "is not allowed"),
            ("http://[::1]/a", "is not allowed"),
            ("http:///a", "is not allowed"),
            ("http://img.test:22/a", "port 22 is not allowed"),
            ("https://img.test:80/a", "port 80 is not allowed"),
            ("http://img.test:99999/a", ""),
            ("http://img.test/" + "a" * 8_000, "a URL of 8,016 characters"),
            ("http://img.test/a\nHost: evil", "not a URL"),
            ("http://xn--\udcff/", ""),
        ],
    )
    def test_a_url_that_is_not_allowed_is_refused_before_anyone_is_asked(
        self, server: ImageServer, web: Web, url: str, said: str
    ) -> None:
        def never(host: str, port: int) -> Sequence[str]:
            raise AssertionError(host, port)

        assert said in why(replace(web, resolve=never), url)
        assert server.requests == []

    def test_plain_http_is_refused_unless_it_is_allowed(
        self, server: ImageServer, web: Web
    ) -> None:
        safe = replace(web, plain_http=False)
        assert "scheme 'http'; expected https" in why(safe, at(server, "/cat.png"))

    def test_a_reason_keeps_the_query_secret(self, web: Web) -> None:
        told = why(web, "http://u:pass1@evil.test/a?token=abc#frag")
        assert "http://evil.test/a" in told
        assert "abc" not in told
        assert "pass1" not in told
        assert "frag" not in told

    @pytest.mark.parametrize(
        ("addresses", "kind"),
        [
            (["127.0.0.1"], "loopback"),
            (["93.184.215.14", "10.0.0.1"], "private address 10.0.0.1"),
            (["10.0.0.1", "93.184.215.14"], "private address 10.0.0.1"),
            (["::1"], "loopback"),
            (["fd00::1"], "private"),
            (["169.254.169.254"], "link-local"),
            (["::ffff:127.0.0.1"], "IPv4 in IPv6"),
            (["fe80::1%eth0"], "link-local"),
        ],
    )
    def test_a_name_that_leads_anywhere_private_is_refused_and_nobody_is_asked(
        self, server: ImageServer, web: Web, addresses: list[str], kind: str
    ) -> None:
        public = replace(web, private=False, resolve=lambda *_: addresses)
        told = why(public, at(server, "/cat.png"))
        assert kind in told
        assert "which is not allowed" in told
        assert server.requests == []

    def test_an_address_is_asked_for_once_and_the_checked_one_is_connected_to(
        self, server: ImageServer, web: Web
    ) -> None:
        answers = iter([["127.0.0.1"], ["169.254.169.254"]])
        assert one(replace(web, resolve=lambda *_: next(answers)), at(server, "/cat.png"))
        assert server.asked("/cat.png") == 1
        assert next(answers) == ["169.254.169.254"], "a second answer was not asked for"

    def test_a_second_address_is_tried_where_the_first_takes_no_connection(
        self, server: ImageServer, web: Web
    ) -> None:
        both = replace(web, resolve=lambda *_: ["::1", "127.0.0.1"])
        assert one(both, at(server, "/cat.png")) == PICTURE

    def test_redirects_are_followed_within_their_number(
        self, server: ImageServer, web: Web
    ) -> None:
        server.redirect("/one", "/two", 301)
        server.redirect("/two", at(server, "/cat.png", "a.cdn.test"), 307)
        assert one(web, at(server, "/one")) == PICTURE
        assert "more than max_redirects=1" in why(replace(web, max_redirects=1), at(server, "/one"))

    def test_a_loop_of_redirects_ends(self, server: ImageServer, web: Web) -> None:
        server.redirect("/loop", "/loop")
        assert "more than max_redirects=3" in why(web, at(server, "/loop"))
        assert server.asked("/loop") == 4

    @pytest.mark.parametrize(
        ("location", "said"),
        [
            ("http://127.0.0.1:{port}/cat.png", "host '127.0.0.1' is not allowed"),
            ("http://evil.test/", "host 'evil.test' is not allowed"),
            ("file:///etc/passwd", "scheme 'file'"),
            ("http://img.test:25/", "port 25 is not allowed"),
            ("http://a:b@img.test/", "user name or password"),
            ("http://a:b:c/", "Invalid URL in location header"),
        ],
    )
    def test_a_redirect_is_checked_like_the_first_url(
        self, server: ImageServer, web: Web, location: str, said: str
    ) -> None:
        server.redirect("/away", location.format(port=server.port))
        assert said in why(web, at(server, "/away"))
        assert server.asked("/cat.png") == 0

    def test_a_redirect_to_a_name_that_leads_to_this_machine_is_refused(
        self, server: ImageServer, web: Web
    ) -> None:
        server.redirect("/away", at(server, "/cat.png", "evil.cdn.test"))
        inner = replace(
            web,
            resolve=lambda host, _: ["127.0.0.1"] if host == "img.test" else ["169.254.169.254"],
        )
        assert "link-local address 169.254.169.254" in why(inner, at(server, "/away"))
        assert server.asked("/cat.png") == 0

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            ("/none", "answers 404; expected 200"),
            ("/gone", "answers 404; expected 200"),
            ("/partial", "answers 206; expected 200"),
            ("/page", "is text/html; expected an image"),
            ("/empty", "is empty (0 bytes)"),
            ("/gzip", "is packed (gzip), though this was not asked"),
            ("/huge", "has 1,000,000,000,000 bytes, more than max_bytes=100,000"),
            ("/endless", "has more than max_bytes=100,000"),
            ("/both", "has more bytes than the 4 that it told"),
        ],
    )
    def test_an_answer_that_is_no_image_of_the_size_is_refused_at_once(
        self, server: ImageServer, web: Web, path: str, said: str
    ) -> None:
        assert said in why(web, at(server, path))
        assert server.asked(path) == 1

    def test_what_follows_the_length_that_was_told_is_not_read(
        self, server: ImageServer, web: Web
    ) -> None:
        assert one(web, at(server, "/surplus")) == PICTURE

    @pytest.mark.parametrize("path", ["/two-lengths", "/odd-length", "/gzip-transfer"])
    def test_a_length_that_cannot_be_known_fails_the_image(
        self, server: ImageServer, web: Web, path: str
    ) -> None:
        assert "RemoteProtocolError" in why(replace(web, attempts=1), at(server, path))

    @pytest.mark.parametrize("path", ["/drip", "/drip-header", "/silent"])
    def test_the_time_limit_is_for_the_whole_image(
        self, server: ImageServer, web: Web, path: str
    ) -> None:
        started = time.monotonic()
        told = why(replace(web, timeout_s=0.3), at(server, path))
        assert "it is not there after timeout_s=0.3 s" in told or "Timeout" in told
        assert time.monotonic() - started < 3

    def test_a_resolver_that_hangs_holds_nothing_up(self, server: ImageServer, web: Web) -> None:
        done = threading.Event()

        def hang(host: str, port: int) -> Sequence[str]:
            done.wait(20)
            return loopback(host, port)

        slow = replace(web, timeout_s=0.2, resolve=hang)
        started = time.monotonic()
        assert "not there after timeout_s=0.2 s" in why(slow, at(server, "/cat.png"))
        assert time.monotonic() - started < 5
        done.set()

    def test_a_busy_host_is_asked_again_and_then_gives_the_image(
        self, server: ImageServer, web: Web
    ) -> None:
        assert one(web, at(server, "/busy")) == PICTURE
        assert server.asked("/busy") == 3

    def test_a_host_that_stays_broken_fails_the_image_after_so_many_tries(
        self, server: ImageServer, web: Web
    ) -> None:
        told = why(replace(web, attempts=2), at(server, "/broken"))
        assert "answers 503 (2 tries)" in told
        assert server.asked("/broken") == 2

    def test_a_host_that_asks_to_wait_an_hour_gets_no_more_than_the_time_limit(
        self, server: ImageServer, web: Web
    ) -> None:
        told = why(replace(web, timeout_s=0.3), at(server, "/wait"))
        assert "not there after timeout_s=0.3 s" in told
        assert "answers 429" in told

    def test_an_answer_that_is_cut_is_asked_for_again_and_never_taken(
        self, server: ImageServer, web: Web
    ) -> None:
        assert "RemoteProtocolError" in why(replace(web, attempts=2), at(server, "/cut"))
        assert server.asked("/cut") == 2

    def test_a_dead_host_or_an_unknown_one_fails_the_image(self, web: Web) -> None:
        dead = replace(web, ports=(9,), attempts=1)
        assert "ConnectError" in why(dead, "http://img.test:9/a")

        def unknown(host: str, port: int) -> Sequence[str]:
            raise OSError(-2, f"no {host} {port}")

        assert "host 'img.test' is not found" in why(
            replace(web, resolve=unknown, attempts=1), "http://img.test/"
        )
        nowhere = replace(web, resolve=lambda *_: [], attempts=1)
        assert "has no address" in why(nowhere, "http://img.test/")

    def test_whatever_a_url_brings_about_fails_its_record_and_no_neighbour(
        self, server: ImageServer, web: Web
    ) -> None:
        def odd(host: str, port: int) -> Sequence[str]:
            return ["no address"] if host == "a.cdn.test" else loopback(host, port)

        urls = [at(server, "/cat.png", "a.cdn.test"), at(server, "/cat.png")]
        first, second = fetched(replace(web, resolve=odd), urls).values()
        assert "'no address' does not appear to be an IPv4 or IPv6 address" in str(first)
        assert second == PICTURE

    def test_trouble_of_this_machine_is_an_outage(self, web: Web) -> None:
        def full(host: str, port: int) -> Sequence[str]:
            raise OSError(errno.EMFILE, f"too many open files for {host}:{port}")

        stage = FetchImages(given_as="url", web=replace(web, resolve=full))
        with pytest.raises(OSError, match="too many open files"):
            apply(stage, Batch(records=(pictured(0, "http://img.test/a"),)))

    def test_a_url_of_several_records_is_fetched_once_and_no_more_at_a_time_than_allowed(
        self, server: ImageServer, web: Web
    ) -> None:
        urls = [at(server, f"/slow?{n % 12}") for n in range(24)]
        answers = fetched(replace(web, at_once=3), urls)
        assert set(answers.values()) == {PICTURE}
        assert len(server.requests) == 12
        assert 1 < server.most <= 3

    def test_cookies_are_not_kept(self, server: ImageServer, web: Web) -> None:
        server.redirect("/again", "/cat.png")
        fetched(replace(web, at_once=1), [at(server, "/cookie"), at(server, "/again")])
        assert all("cookie" not in headers for _, headers in server.requests)

    def test_proxies_of_the_environment_are_not_used(
        self, server: ImageServer, web: Web, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert one(web, at(server, "/cat.png")) == PICTURE


class TestTls:
    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def ca_file(self, authority: trustme.CA, tmp_path: Path) -> Path:
        path = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(path))
        return path

    def test_a_certificate_is_checked_against_the_name_and_not_the_address(
        self, authority: trustme.CA, ca_file: Path
    ) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("img.test").configure_cert(tls)
        names: list[str | None] = []
        tls.sni_callback = lambda _, name, __: names.append(name)
        with image_server(tls) as server:
            web = Web(
                hosts=("img.test", "other.test"),
                private=True,
                ports=(server.port,),
                ca_file=ca_file,
                attempts=1,
                resolve=loopback,
            )
            assert one(web, f"https://img.test:{server.port}/cat.png") == PICTURE
            assert "CERTIFICATE_VERIFY" in why(web, f"https://other.test:{server.port}/cat.png")
            unknown = replace(web, ca_file=None)
            assert "CERTIFICATE_VERIFY" in why(unknown, f"https://img.test:{server.port}/cat.png")
        assert names == ["img.test", "other.test", "img.test"]
        assert server.asked("/cat.png") == 1


ADDRESSES = {
    "93.184.215.14": ("", ""),
    "2606:4700::1111": ("", ""),
    "127.0.0.1": ("loopback", ""),
    "::1": ("loopback", ""),
    "10.1.2.3": ("private", ""),
    "172.16.0.1": ("private", ""),
    "192.168.1.1": ("private", ""),
    "100.64.0.1": ("private", ""),
    "fd12::1": ("private", ""),
    "fec0::1": ("private", ""),
    "169.254.169.254": ("link-local", "link-local"),
    "fe80::1": ("link-local", "link-local"),
    "0.0.0.0": ("unspecified", "unspecified"),  # noqa: S104  an example
    "::": ("unspecified", "unspecified"),
    "224.0.0.1": ("multicast", "multicast"),
    "ff02::1": ("multicast", "multicast"),
    "240.0.0.1": ("reserved", "reserved"),
    "255.255.255.255": ("reserved", "reserved"),
    "::ffff:93.184.215.14": ("IPv4 in IPv6", "IPv4 in IPv6"),
    "2002:7f00:1::": ("IPv4 in IPv6", "IPv4 in IPv6"),
    "2001:0:7f00:1::": ("IPv4 in IPv6", "IPv4 in IPv6"),
    "64:ff9b::7f00:1": ("loopback", "loopback"),
    "64:ff9b::a9fe:a9fe": ("link-local", "link-local"),
    "64:ff9b::5db8:d70e": ("", ""),
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_is_public_or_is_told_what_it_is(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert (refusal(address, private=False), refusal(address, private=True)) == ADDRESSES[text]


def test_the_system_resolves_names() -> None:
    assert resolved("127.0.0.1", 80) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"hosts": ()}, "expected names"),
        ({"hosts": ("https://a.test",)}, "without scheme"),
        ({"hosts": ("a.test:80",)}, "expected names"),
        ({"hosts": (".",)}, "expected names"),
        ({"hosts": ("*",)}, "expected names"),
        ({"hosts": ("a.test",), "max_bytes": 0}, "max_bytes=0"),
        ({"hosts": ("a.test",), "attempts": 0}, "attempts=0"),
        ({"hosts": ("a.test",), "max_redirects": -1}, "max_redirects=-1"),
        ({"hosts": ("a.test",), "ca_file": Path("/none.pem")}, "cannot be read"),
    ],
)
def test_a_web_that_cannot_be_right_is_refused_at_birth(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        Web(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"given_as": "auto"}, "expected one of 'bytes', 'base64', 'path', 'url'"),
        ({"given_as": "path"}, "which folders may be read"),
        ({"given_as": "url"}, "which hosts may be asked"),
        ({"given_as": "path", "folders": (Path("/none"),)}, "/none is not a folder"),
        ({"given_as": "bytes", "max_bytes": 0}, "max_bytes=0"),
        ({"given_as": "bytes", "reads": ""}, "expected the name"),
    ],
)
def test_a_stage_that_cannot_be_right_is_refused_at_birth(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        FetchImages(**wrong)


def test_images_are_fetched_in_a_flow_and_the_refused_leave_alone(
    entry_point: EntryPoint, server: ImageServer, web: Web
) -> None:
    urls = [
        at(server, "/cat.png"),
        "file:///etc/passwd",
        at(server, "/gone"),
        at(server, "/cookie"),
    ]
    records = tuple(pictured(n, url) for n, url in enumerate(urls))
    oks: Kept[Batch] = Kept()
    errs: Kept[Failures] = Kept()
    flow = Dataflow("fetching")
    source = op.input("in", flow, Lists({"all": [("k", Batch(records=records))]}))
    split = fetch_images("fetch", source, stage=FetchImages(given_as="url", web=web))
    op.output("oks", split.oks, oks)
    op.output("errs", split.errs, errs)
    entry_point(flow)
    assert (numbers(oks.items), failed(errs.items)) == ([0, 3], [1, 2])
    assert {one.fields["image"] for one in oks.items[0].records} == {PICTURE}
    assert [one.error_type for one in errs.items[0]] == ["operators.fetching.FetchError"] * 2

"""A machine without network fails no record; a host that is gone by itself fails its own."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import bytewax.operators as op
import httpx
import pytest
from bytewax.dataflow import Dataflow

from operators import Batch, Failures, FetchImages, Record, Web, fetch_images
from operators.fetching import FetchError, fetched
from operators.outages import MACHINE_ERRNOS, WAY_ERRNOS, is_os_outage
from operators.reach import NameWait
from operators.stages import apply, is_outage
from tests.operators.things import EntryPoint, Kept, Lists, failed, numbers, record
from tests.servers.image_server import PICTURE, ImageServer, image_server

OUTAGES = (
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOBUFS,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.EADDRNOTAVAIL,
)
OF_THE_RECORD = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)
NAMES_AWAY = (socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_MEMORY, socket.EAI_SYSTEM)
NO_SUCH_NAME = (socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_FAMILY)


@pytest.fixture(scope="module")
def server() -> Iterator[ImageServer]:
    with image_server() as running:
        yield running


@pytest.fixture
def web(server: ImageServer) -> Web:
    return Web(
        hosts=("img.test", ".cdn.test"),
        plain_http=True,
        private=True,
        ports=(server.port,),
        attempts=2,
        resolve=lambda *_: ["127.0.0.1"],
    )


def at(server: ImageServer, host: str = "img.test") -> str:
    return f"http://{host}:{server.port}/cat.png"


def pictured(number: int, image: str) -> Record:
    return replace(record(number), fields={"image": image})


def failing(error: Exception) -> Web:
    def resolve(host: str, port: int) -> Sequence[str]:
        del host, port
        raise error

    return Web(hosts=("img.test",), attempts=2, resolve=resolve)


class Line:
    """Connections to some addresses fail; the rest go through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broken: dict[str, int] = {}
        self.tries: list[str] = []
        through = httpx.AsyncClient.send

        async def send(
            client: httpx.AsyncClient, request: httpx.Request, **how: Any
        ) -> httpx.Response:
            self.tries.append(request.url.host)
            number = self.broken.get(request.url.host)
            if number is None:
                return await through(client, request, **how)
            error = httpx.ConnectError("All connection attempts failed")
            error.__cause__ = OSError(number, "told by the system")
            raise error

        monkeypatch.setattr(httpx.AsyncClient, "send", send)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setattr("operators.fetching._BACK_OFF", lambda _: 0.0)
    return Line(monkeypatch)


def seen(web: Web, server: ImageServer, host: str = "img.test") -> None:
    """Let the web remember that the server answered, as if it stood elsewhere."""
    web.witness.answered(host, "198.51.100.7", server.port)
    one = vars(web.witness)
    one["_seen"] = replace(one["_seen"], address="127.0.0.1")


@pytest.mark.parametrize("number", OUTAGES, ids=errno.errorcode.get)
def test_no_way_out_of_this_machine_is_an_outage(web: Web, line: Line, number: int) -> None:
    line.broken["127.0.0.1"] = number
    stage = FetchImages(given_as="url", web=web)
    with pytest.raises(OSError, match="told by the system") as outage:
        apply(stage, Batch(records=(pictured(0, f"http://img.test:{web.ports[0]}/cat.png"),)))
    assert is_outage(outage.value)
    assert outage.value.errno == number


@pytest.mark.parametrize("number", OF_THE_RECORD, ids=errno.errorcode.get)
def test_a_host_that_refuses_is_the_records_fault(
    web: Web, line: Line, server: ImageServer, number: int
) -> None:
    line.broken["127.0.0.1"] = number
    [answer] = fetched(web, [at(server)]).values()
    assert isinstance(answer, FetchError)
    assert "ConnectError" in str(answer)
    assert "(2 tries)" in str(answer)


@pytest.mark.parametrize("number", NAMES_AWAY)
def test_name_servers_that_are_away_are_an_outage(line: Line, number: int) -> None:
    error = socket.gaierror(number, "told by the system")
    stage = FetchImages(given_as="url", web=failing(error))
    with pytest.raises(socket.gaierror) as outage:
        apply(stage, Batch(records=(pictured(0, "https://img.test/a"),)))
    assert outage.value is error
    assert is_outage(error)
    assert line.tries == []


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("no word"),
        OSError(errno.ENETUNREACH, "no way to the name server"),
        ConnectionRefusedError(errno.ECONNREFUSED, "the name server is down"),
        OSError(socket.EAI_AGAIN, "as some resolvers say it"),
    ],
    ids=repr,
)
@pytest.mark.usefixtures("line")
def test_a_resolver_without_network_is_an_outage(error: OSError) -> None:
    with pytest.raises(OSError, match=re.escape(error.args[-1])) as outage:
        fetched(failing(error), ["https://img.test/a"])
    assert is_outage(outage.value)


@pytest.mark.parametrize("number", NO_SUCH_NAME)
@pytest.mark.usefixtures("line")
def test_a_host_that_does_not_exist_is_the_records_fault(number: int) -> None:
    error = socket.gaierror(number, "no such host")
    [answer] = fetched(failing(error), ["https://img.test/a"]).values()
    assert "host 'img.test' is not found" in str(answer)
    assert not is_outage(error)


def test_the_numbers_of_names_are_not_those_of_files() -> None:
    for number in MACHINE_ERRNOS | WAY_ERRNOS:
        assert is_os_outage(OSError(number, "the system's"))
        assert not is_os_outage(socket.gaierror(number, "a resolver's"))


class TestWitness:
    """Another host that answered tells whether it is the network or the one host."""

    def test_a_host_without_a_way_fails_alone_while_another_is_in_reach(
        self, web: Web, line: Line, server: ImageServer
    ) -> None:
        line.broken["10.9.9.9"] = errno.EHOSTUNREACH
        both = replace(
            web, resolve=lambda host, _: ["10.9.9.9" if host == "a.cdn.test" else "127.0.0.1"]
        )
        seen(both, server)
        gone, there = fetched(both, [at(server, "a.cdn.test"), at(server)]).values()
        assert "a.cdn.test (10.9.9.9): ConnectError" in str(gone)
        assert there == PICTURE

    def test_nobody_answers_any_more_and_that_is_an_outage(
        self, web: Web, line: Line, server: ImageServer
    ) -> None:
        line.broken["127.0.0.1"] = errno.ENETUNREACH
        seen(web, server)
        one = vars(web.witness)
        one["_seen"] = replace(one["_seen"], port=9)
        with pytest.raises(OSError, match="told by the system"):
            fetched(web, [at(server)])

    def test_a_host_on_this_machine_is_no_witness(
        self, web: Web, line: Line, server: ImageServer
    ) -> None:
        assert list(fetched(web, [at(server)]).values()) == [PICTURE]
        line.broken["127.0.0.1"] = errno.ENETUNREACH
        with pytest.raises(OSError, match="told by the system"):
            fetched(web, [at(server)])

    def test_a_host_that_answers_is_remembered(self, web: Web, line: Line) -> None:
        del line
        web.witness.answered("img.test", "93.184.215.14", 443)
        assert vars(web.witness)["_seen"].address == "93.184.215.14"
        web.witness.answered("img.test", "::1", 443)
        assert vars(web.witness)["_seen"].address == "93.184.215.14"

    @pytest.mark.usefixtures("line")
    def test_a_name_that_no_server_knows_fails_alone_while_others_are_found(
        self, web: Web, server: ImageServer
    ) -> None:
        asked: list[str] = []

        def resolve(host: str, port: int) -> Sequence[str]:
            del port
            asked.append(host)
            if host == "lame.cdn.test":
                raise socket.gaierror(socket.EAI_AGAIN, "SERVFAIL")
            raise socket.gaierror(socket.EAI_NONAME, "no such host")

        lame = replace(web, resolve=resolve)
        seen(lame, server)
        [answer] = fetched(lame, [at(server, "lame.cdn.test")]).values()
        assert "host 'lame.cdn.test' is not found" in str(answer)
        assert re.fullmatch(r"[0-9a-f]{16}\.img\.test", asked[-1]), "a name that no cache has"

    @pytest.mark.usefixtures("line")
    def test_names_that_nobody_finds_are_an_outage_though_the_network_works(
        self, web: Web, server: ImageServer
    ) -> None:
        def resolve(host: str, port: int) -> Sequence[str]:
            raise socket.gaierror(socket.EAI_AGAIN, f"no word about {host}:{port}")

        silent = replace(web, resolve=resolve)
        seen(silent, server)
        with pytest.raises(socket.gaierror, match=r"no word about img\.test"):
            fetched(silent, [at(server)])

    def test_the_second_of_two_addresses_is_tried_where_no_way_leads_to_the_first(
        self, web: Web, line: Line, server: ImageServer
    ) -> None:
        line.broken["10.9.9.9"] = errno.ENETUNREACH
        two = replace(web, resolve=lambda *_: ["10.9.9.9", "127.0.0.1"])
        assert list(fetched(two, [at(server)]).values()) == [PICTURE]
        assert line.tries == ["10.9.9.9", "127.0.0.1"]

    def test_one_address_that_refuses_shows_that_the_network_works(
        self, web: Web, line: Line, server: ImageServer
    ) -> None:
        line.broken |= {"10.9.9.9": errno.ECONNREFUSED, "10.9.9.8": errno.ENETUNREACH}
        for order in (["10.9.9.9", "10.9.9.8"], ["10.9.9.8", "10.9.9.9"]):
            two = replace(web, resolve=lambda *_, order=order: order)
            [answer] = fetched(two, [at(server)]).values()
            assert isinstance(answer, FetchError)


class TestSilence:
    """Resolvers that hang do not say so: the time that they took does."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [0.0]

        class Loop:
            def time(self) -> float:
                return now[0]

        monkeypatch.setattr("asyncio.get_running_loop", Loop)
        return now

    def test_name_servers_are_silent_after_five_seconds(self, clock: list[float]) -> None:
        waiting = NameWait(15.0)
        assert waiting.silence() is None
        waiting.begin("img.test")
        clock[0] = 4.9
        assert waiting.silence() is None
        clock[0] = 5.1
        silence = waiting.silence()
        assert silence is not None
        assert is_os_outage(silence)
        waiting.end()
        assert waiting.silence() is None

    @pytest.mark.parametrize(("timeout_s", "silent_s"), [(60.0, 5.0), (4.0, 2.0), (0.2, 1.0)])
    def test_a_short_time_limit_shortens_it_down_to_a_second(
        self, clock: list[float], timeout_s: float, silent_s: float
    ) -> None:
        waiting = NameWait(timeout_s)
        waiting.begin("img.test")
        clock[0] = silent_s - 0.01
        assert waiting.silence() is None
        clock[0] = silent_s
        assert waiting.silence() is not None


def test_records_wait_for_the_network_and_none_is_a_dead_letter(
    web: Web, server: ImageServer, entry_point: EntryPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operators.fetching._BACK_OFF", lambda _: 0.0)
    monkeypatch.setattr("operators.stages._nap", lambda _: None)
    errors = [
        socket.gaierror(socket.EAI_AGAIN, "no name server"),
        OSError(errno.ENETUNREACH, "no network"),
        OSError(errno.EMFILE, "no sockets"),
        TimeoutError("no word"),
    ]

    def resolve(host: str, port: int) -> Sequence[str]:
        del host, port
        if errors:
            raise errors.pop()
        return ["127.0.0.1"]

    records = tuple(pictured(n, at(server)) for n in range(3))
    oks: Kept[Batch] = Kept()
    errs: Kept[Failures] = Kept()
    flow = Dataflow("waiting")
    source = op.input("in", flow, Lists({"all": [("k", Batch(records=records))]}))
    stage = FetchImages(given_as="url", web=replace(web, attempts=1, resolve=resolve))
    split = fetch_images("fetch", source, stage=stage)
    op.output("oks", split.oks, oks)
    op.output("errs", split.errs, errs)
    entry_point(flow)
    assert (numbers(oks.items), failed(errs.items)) == ([0, 1, 2], [])
    assert errors == []

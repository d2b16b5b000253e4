"""
Images from the web, without doors into the own network.

A URL in a message is a stranger's wish. Only hosts that were named are asked; what a name resolves
to is checked, and that very address is connected to; redirects are checked like the first URL;
size and time have limits that no server can stretch.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from fastembed_stream.redaction import redacted, shown_url
from fastembed_stream.retry_after import seconds_of
from operators.addresses import is_metadata, refusal
from operators.metrics import RETRIES
from operators.reach import NameWait, is_of_names, machine_trouble, way_error
from operators.stages import is_outage
from operators.web import Web

if TYPE_CHECKING:
    import httpx

__all__ = ["FetchError", "fetched"]

_LOG = logging.getLogger(__name__)

_PORTS = {"https": 443, "http": 80}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may be others in a while."""

_MOST_ADDRESSES = 4
_LONGEST_URL = 8_000
_LONGEST_TOLD = 200


class FetchError(ValueError):
    """An image that is not fetched: refused, not there, or not to be had in the time given."""

    def __init__(self, reason: str) -> None:
        super().__init__(redacted(reason))


class _LaterError(Exception):
    """
    What may pass: a host that is away, busy or broken.

    after_s  seconds that the host asked to wait; None where it said nothing
    """

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class _AwayError(_LaterError):
    """
    No way to a host, or no word from name servers: the host's fault or this machine's network.

    cause  what the system said
    names  whether it is about names
    """

    def __init__(self, reason: str, cause: OSError, *, names: bool) -> None:
        super().__init__(reason)
        self.cause = cause
        self.names = names


@dataclass(frozen=True, slots=True)
class _Away:
    """An image that is not there, as long as it is not known whose fault that is."""

    reason: FetchError
    error: _AwayError


def fetched(web: Web, urls: Iterable[str]) -> dict[str, bytes | FetchError]:
    """
    Fetch images, each once, several at a time.

    returns  for each URL its bytes, or why there are none
    raises   OSError where this machine is in trouble: no sockets, no memory, no network, no names

    | what is said of a host                              | whose fault it is                   |
    | --------------------------------------------------- | ----------------------------------- |
    | EMFILE, ENFILE, ENOMEM, ENOBUFS, ENETDOWN           | this machine's: an outage           |
    | ENETUNREACH, EHOSTUNREACH, EHOSTDOWN, ENETRESET,    | an outage, unless another host, one |
    | EADDRNOTAVAIL                                       | that answered before, is in reach   |
    | EAI_AGAIN, EAI_FAIL, EAI_MEMORY, EAI_SYSTEM, name   | an outage, unless another host is   |
    | servers that stay silent for 5 s and to the end     | in reach and other names are found  |
    | EAI_NONAME, EAI_NODATA and the like, no address     | the record's                        |
    | refused, reset, silent, TLS, any answer of HTTP     | the record's                        |
    """
    return asyncio.run(_all(web, list(dict.fromkeys(urls))))


async def _all(web: Web, urls: list[str]) -> dict[str, bytes | FetchError]:
    import httpx

    # A connection for each request: one to an address may not serve another name that shares it.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    turn = asyncio.Semaphore(web.at_once)
    async with httpx.AsyncClient(
        verify=web.tls,
        trust_env=False,
        follow_redirects=False,
        limits=limits,
        cookies=no_cookies,
        timeout=web.timeout_s,
    ) as client:
        answers = await asyncio.gather(*(_one(web, client, turn, url) for url in urls))
    away = [answer.error for answer in answers if isinstance(answer, _Away)]
    if away and not await _is_theirs(web, away):
        _LOG.warning("images cannot be fetched, and no other host is in reach: %s", away[0])
        raise away[0].cause
    known = [answer.reason if isinstance(answer, _Away) else answer for answer in answers]
    return dict(zip(urls, known, strict=True))


async def _is_theirs(web: Web, away: list[_AwayError]) -> bool:
    """Tell whether hosts are out of reach by themselves, while others are not."""
    if not await web.witness.is_reached():
        return False
    return not any(error.names for error in away) or await web.witness.is_named(web.resolver.ask)


async def _one(
    web: Web, client: httpx.AsyncClient, turn: asyncio.Semaphore, url: str
) -> bytes | FetchError | _Away:
    asking = NameWait(web.timeout_s)
    last: list[BaseException] = []

    def remember(state: RetryCallState) -> None:
        RETRIES.labels("images").inc()
        if state.outcome is not None and (error := state.outcome.exception()) is not None:
            last.append(error)

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(_LaterError),
        stop=stop_after_attempt(web.attempts),
        wait=_wait,
        before_sleep=remember,
        sleep=asyncio.sleep,
        reraise=True,
    )
    async with turn:
        try:
            return await asyncio.wait_for(
                retrying(_followed, web, client, url, asking), web.timeout_s
            )
        except FetchError as error:
            return error
        except _LaterError as error:
            last.append(error)
            why = f"{error} ({web.attempts} tries)"
        except asyncio.TimeoutError:
            if (silence := asking.silence()) is not None:
                last.append(_AwayError(str(silence), silence, names=True))
            why = f"it is not there after timeout_s={web.timeout_s:g} s"
            why += f" (before that: {last[-1]})" if last else ""
        except Exception as error:  # whatever else a stranger's URL can bring about
            if is_outage(error):
                raise
            why = f"{type(error).__name__}: {error}"
            last.clear()
    reason = FetchError(f"{_told(url)}: {why}.")
    away = last[-1] if last else None
    return _Away(reason, away) if isinstance(away, _AwayError) else reason


_BACK_OFF = wait_random_exponential(multiplier=0.2, max=5)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.after_s if isinstance(error, _LaterError) else None
    return asked if asked is not None else _BACK_OFF(state)


async def _followed(web: Web, client: httpx.AsyncClient, text: str, asking: NameWait) -> bytes:
    """Fetch what a URL leads to; each step on the way is checked anew."""
    url = _url(text)
    for _ in range(web.max_redirects + 1):
        _check(web, url)
        addresses = await _addresses(web, url, asking)
        answer = await _answer(web, client, url, addresses)
        if isinstance(answer, bytes):
            return answer
        url = _joined(url, answer)
    msg = f"{_told(text)}: more than max_redirects={web.max_redirects} redirects."
    raise FetchError(msg)


def _url(text: str) -> httpx.URL:
    import httpx

    if len(text) > _LONGEST_URL:
        msg = f"{_told(text)}: a URL of {len(text):,} characters; at most {_LONGEST_URL:,}."
        raise FetchError(msg)
    try:
        return httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        # Of one with a password it may name a piece as the port.
        why = "it has a user name or password" if "@" in text else str(error)
        msg = f"{_told(text)}: not a URL: {why}."
        raise FetchError(msg) from error


def _joined(url: httpx.URL, location: str) -> httpx.URL:
    import httpx

    try:
        return url.join(location)
    except (httpx.InvalidURL, ValueError) as error:
        msg = f"{_told(str(url))}: redirects to {_told(location)}, which is not a URL: {error}."
        raise FetchError(msg) from error


def _check(web: Web, url: httpx.URL) -> None:
    allowed = ("https", "http") if web.plain_http else ("https",)
    told = _told(str(url))
    if url.scheme not in allowed:
        msg = f"{told}: scheme {url.scheme!r}; expected {' or '.join(allowed)}."
        raise FetchError(msg)
    if url.userinfo:
        msg = f"{told}: has a user name or password; expected none."
        raise FetchError(msg)
    if is_metadata(url.raw_host.decode("ascii")):
        msg = f"{told}: host {url.host!r} gives a cloud's credentials, and is never allowed."
        raise FetchError(msg)
    if not web.allows(url.raw_host.decode("ascii")):
        msg = f"{told}: host {url.host!r} is not allowed; allowed are {', '.join(web.hosts)}."
        raise FetchError(msg)
    port = url.port or _PORTS[url.scheme]
    if port != _PORTS[url.scheme] and port not in web.ports:
        msg = f"{told}: port {port} is not allowed. Leave it out, or allow it in ports."
        raise FetchError(msg)


async def _addresses(web: Web, url: httpx.URL, asking: NameWait) -> list[str]:
    """
    Resolve a host; all its addresses must be allowed.

    One that is not makes the whole answer suspect: who mixes public and private ones tries doors.
    """
    host, port = url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme]
    asking.begin(host)
    try:
        found = await web.resolver.ask(host, port)
    except (OSError, UnicodeError) as error:
        asking.end()
        _raise_own_trouble(error)
        msg = f"host {host!r} is not found: {error}"
        if isinstance(error, OSError) and is_of_names(error):
            raise _AwayError(msg, error, names=True) from error
        raise _LaterError(msg) from error
    asking.end()
    for text in found:
        kind = refusal(ipaddress.ip_address(text), private=web.private)
        if kind:
            msg = f"{_told(str(url))}: leads to the {kind} address {text}, which is not allowed."
            raise FetchError(msg)
    if not found:
        msg = f"host {host!r} has no address"
        raise _LaterError(msg)
    return list(found)[:_MOST_ADDRESSES]


async def _answer(
    web: Web, client: httpx.AsyncClient, url: httpx.URL, addresses: list[str]
) -> bytes | str:
    """Ask the first address that takes a connection; give the image, or where it has moved to."""
    import httpx

    is_heard = False  # whether an address fails in a way that has nothing to do with the network
    for at, address in enumerate(addresses):
        try:
            return await _asked(web, client, url, address)
        except httpx.TransportError as error:
            _raise_own_trouble(error)
            unreached = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
            no_way = way_error(error) if unreached else None
            is_heard = is_heard or no_way is None
            if unreached and at + 1 < len(addresses):
                continue
            msg = f"{url.host} ({address}): {type(error).__name__} {error}".rstrip()
            if no_way is not None and not is_heard:
                raise _AwayError(msg, no_way, names=False) from error
            raise _LaterError(msg) from error
    raise AssertionError  # there is at least one address


async def _asked(web: Web, client: httpx.AsyncClient, url: httpx.URL, address: str) -> bytes | str:
    request = client.build_request(
        "GET",
        url.copy_with(host=address, fragment=None),
        headers={
            "Host": url.netloc.decode("ascii"),
            "Accept": "image/*",
            # What is packed can be a thousand times as large; images are packed already.
            "Accept-Encoding": "identity",
            "User-Agent": "fastembed-stream",
        },
        extensions={"sni_hostname": url.raw_host.decode("ascii").rstrip(".")},
    )
    response = await client.send(request, stream=True)
    web.witness.answered(url.host, address, url.port or _PORTS[url.scheme])
    try:
        if response.status_code in _REDIRECTS and "Location" in response.headers:
            return response.headers["Location"]
        _check_answer(web, url, response)
        return await _body(web, url, response)
    finally:
        await response.aclose()


def _check_answer(web: Web, url: httpx.URL, response: httpx.Response) -> None:
    told, status, headers = _told(str(url)), response.status_code, response.headers
    if status in _LATER:
        msg = f"{told} answers {status}"
        raise _LaterError(msg, seconds_of(headers.get("Retry-After")))
    if status != 200:  # noqa: PLR2004  OK
        msg = f"{told} answers {status}; expected 200."
        raise FetchError(msg)
    if headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        msg = f"{told} is packed ({headers['Content-Encoding'][:40]}), though this was not asked."
        raise FetchError(msg)
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind.startswith(("text/", "application/json", "application/xml", "multipart/")):
        msg = f"{told} is {kind[:80]}; expected an image."
        raise FetchError(msg)
    length = _length(response)
    if length is not None and length > web.max_bytes:
        msg = f"{told} has {length:,} bytes, more than max_bytes={web.max_bytes:,}."
        raise FetchError(msg)


def _length(response: httpx.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdecimal() else None


async def _body(web: Web, url: httpx.URL, response: httpx.Response) -> bytes:
    body = bytearray()
    length = _length(response)
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > web.max_bytes:
            msg = f"{_told(str(url))} has more than max_bytes={web.max_bytes:,}."
            raise FetchError(msg)
        if length is not None and len(body) > length:
            msg = f"{_told(str(url))} has more bytes than the {length:,} that it told."
            raise FetchError(msg)
    if not body:
        msg = f"{_told(str(url))} is empty (0 bytes); expected an image."
        raise FetchError(msg)
    return bytes(body)


def _raise_own_trouble(error: BaseException) -> None:
    if (trouble := machine_trouble(error)) is not None:
        raise trouble


def _told(url: str) -> str:
    """Shorten a URL for a message, without its query and user, which may hold secrets."""
    told = shown_url(url)
    return repr(told if len(told) <= _LONGEST_TOLD else told[:_LONGEST_TOLD] + "...")

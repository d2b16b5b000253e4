"""
One file over HTTP: limited in time, retried with back-off, resumed, verified, put in place whole.

The hub's own client is asked what a repository holds, but the bytes come this way: it has no time
limit for reading that a caller can set, retries inside of retries, does not resume across
processes, and does not compare hashes.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from fastembed_stream.errors import ModelFilesError
from fastembed_stream.files.fetching import Fetching
from fastembed_stream.redaction import redacted, shown_url
from fastembed_stream.retry_after import seconds_of

if TYPE_CHECKING:
    import httpx
    import tenacity

__all__ = [
    "Digest",
    "OutageError",
    "Remote",
    "check_status",
    "difference",
    "download",
    "patiently",
    "reason_of",
    "shown",
]

log = logging.getLogger(__name__)

sleep: Callable[[float], None] = time.sleep
"""What waits between tries; tests put their own here."""

T = TypeVar("T")

_BLOCK = 1 << 20
_MOST_BYTES = 64 << 30
"""Of a file whose size nobody knows before it is here."""

_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS, _SERVER_ERROR = 408, 429, 500
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
_PARTIAL, _RANGE_NOT_SATISFIABLE, _BAD_REQUEST = 206, 416, 400


class OutageError(Exception):
    """
    What may pass by itself: a lost connection, a time limit, 429, 5xx. Never leaves this package.

    retry_after_s  how long the server asks to be left alone, if it says
    """

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class _SurplusError(Exception):
    """More bytes than the file has; they are not read. Never leaves this module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What the content must hash to: SHA-256, or git's SHA-1 of a blob."""

    kind: Literal["sha256", "git"]
    hex: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """
    A file on a server, and what is known of it before it is here.

    size     in bytes, None if not known
    digest   None if not known
    headers  sent along to that server only, not to where it redirects; never shown
    """

    url: str
    size: int | None = None
    digest: Digest | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def download(remote: Remote, target: Path, fetching: Fetching) -> None:
    """
    Bring a file to `target`, which it takes in one step once it is whole.

    The bytes gather in `target` + '.part', where a later call goes on after an interruption. What
    arrives damaged is fetched once more. The caller holds the lock of `target`.

    Raises ModelFilesError if it stays damaged, is refused, or out of reach.
    """
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    problem: str | None = None
    for _ in range(2):
        log.info("fetching %s to %s", shown(remote.url), target)
        bring = partial(_stream, remote, part, fetching)
        try:
            patiently(bring, remote.url, fetching, progress=partial(_size, part))
            problem = difference(part, remote.size, remote.digest)
        except _SurplusError as error:
            problem = str(error)
        if problem is None:
            part.replace(target)
            return
        part.unlink(missing_ok=True)
        log.warning("%s arrived damaged: it %s", shown(remote.url), problem)
    msg = (
        f"{target.name} from {shown(remote.url)} arrived damaged twice: it {problem}. A proxy or "
        "mirror on the way may change it; fetch it by another route, or try later."
    )
    raise ModelFilesError(msg)


def difference(path: Path, size: int | None, digest: Digest | None) -> str | None:
    """Say in what a file differs from what it should be: 'has 3 bytes instead of 5'; else None."""
    n_bytes = path.stat().st_size
    if size is not None and n_bytes != size:
        return f"has {n_bytes} bytes instead of {size}"
    if digest is not None and (found := _hash(path, digest.kind)) != digest.hex.lower():
        return f"has the {digest.kind} hash {found} instead of {digest.hex}"
    return None


def patiently(
    call: Callable[[], T],
    url: str,
    fetching: Fetching,
    *,
    progress: Callable[[], int] = lambda: 0,
) -> T:
    """
    Call until no outage stands in the way, and give the answer.

    progress  bytes here so far: only tries that bring nothing new count against `attempts`, so
              that a large file arrives even over a line that breaks every few minutes

    Raises ModelFilesError with the URL once `attempts` tries in a row brought nothing.
    """
    import tenacity

    tries = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(OutageError),
        stop=_stalled(fetching.attempts, progress),
        wait=_pause,
        sleep=_wait,
        before_sleep=partial(_say_again, url),
        reraise=True,
    )
    try:
        return tries(call)
    except OutageError as error:
        msg = (
            f"Cannot reach {shown(url)}: {error} (tried {fetching.attempts} times, "
            f"{fetching.timeout_s:g} s each). Check the network, proxies and HF_ENDPOINT, or use "
            "a filled cache with HF_HUB_OFFLINE=1."
        )
        raise ModelFilesError(msg) from error


def check_status(url: str, status: int, headers: Mapping[str, str]) -> None:
    """
    Raise for a status that is not a success.

    Raises OutageError for what may pass (408, 429, 5xx), ModelFilesError for what will not.
    """
    if status < _BAD_REQUEST:
        return
    if status in {_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS} or status >= _SERVER_ERROR:
        msg = f"the server answered {status}"
        raise OutageError(msg, seconds_of(headers.get("Retry-After")))
    if status in {_UNAUTHORIZED, _FORBIDDEN}:
        cure = (
            "it is private, gated, or does not exist under this name: accept its terms on its "
            "page if it asks for that, and set HF_TOKEN to a token that may read it"
        )
    elif status == _NOT_FOUND:
        cure = "check the names of the repository, the revision and the file"
    else:
        cure = "the server will not give it"
    msg = f"{shown(url)} answered {status}: {cure}."
    raise ModelFilesError(msg)


def shown(url: str) -> str:
    """
    Give a URL as it may stand in a log, without user name, password and signed query.

    >>> shown("https://me:secret@example.org/model.tar.gz")
    'https://example.org/model.tar.gz'
    """
    return shown_url(url)


def reason_of(error: Exception) -> str:
    """Give an error's type and text; some have no text, and the type says it: ReadTimeout."""
    return redacted(f"{type(error).__name__}: {error}".removesuffix(": "))


def _stream(remote: Remote, part: Path, fetching: Fetching) -> None:
    """Bring the bytes that `part` still lacks; what came before an interruption stays there."""
    import httpx

    if remote.size is not None and _size(part) > remote.size:
        part.unlink()
    n_have = _size(part)
    if n_have and n_have == remote.size:
        return
    headers = {**remote.headers, "Accept-Encoding": "identity"}
    if n_have:
        headers["Range"] = f"bytes={n_have}-"
    try:
        with httpx.stream(
            "GET", remote.url, headers=headers, timeout=fetching.timeout_s, follow_redirects=True
        ) as response:
            _append(response, remote, part, fetching)
    except httpx.UnsupportedProtocol as error:
        msg = f"{shown(remote.url)} is not a web address: {error}"
        raise ModelFilesError(msg) from error
    except httpx.TransportError as error:
        raise OutageError(reason_of(error)) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        msg = f"Cannot fetch {shown(remote.url)}: {reason_of(error)}"
        raise ModelFilesError(msg) from error


def _append(response: httpx.Response, remote: Remote, part: Path, fetching: Fetching) -> None:
    n_have = _size(part)
    if response.status_code == _RANGE_NOT_SATISFIABLE and n_have:
        # What was kept is longer than what the server now has: begin again.
        part.unlink()
        msg = "the file has changed on the server while it was fetched"
        raise OutageError(msg)
    check_status(remote.url, response.status_code, response.headers)
    start = response.headers.get("Content-Range", "")
    goes_on = response.status_code == _PARTIAL and start.startswith(f"bytes {n_have}-")
    # A server that ignores the range sends all of it, so what is here is written over.
    n_here = n_have if goes_on else 0
    length = response.headers.get("Content-Length", "")
    is_told = length.isascii() and length.isdecimal()
    n_total = n_here + int(length) if is_told else remote.size
    n_most = remote.size if remote.size is not None else _MOST_BYTES
    if n_total is not None:
        _check_surplus(n_total, n_most)
        n_most = n_total
    with part.open("ab" if goes_on else "wb") as file:
        # Raw: what a server packs on the way could unpack to any size, and was not asked for.
        for block in response.iter_raw():
            _check_surplus(n_here + len(block), n_most)
            file.write(block)
            n_here += len(block)
            if fetching.watch is not None:
                fetching.watch(part.name.removesuffix(".part"), n_here, n_total)


def _check_surplus(n_bytes: int, n_most: int) -> None:
    if n_bytes > n_most:
        msg = f"has {n_bytes:,} bytes or more instead of {n_most:,}"
        raise _SurplusError(msg)


def _wait(seconds: float) -> None:
    # `sleep` is looked up at each call, so that a test can put its own in its place.
    sleep(seconds)


def _stalled(
    attempts: int, progress: Callable[[], int]
) -> Callable[[tenacity.RetryCallState], bool]:
    n_seen, n_idle = progress(), 0

    def stop(_: tenacity.RetryCallState) -> bool:
        nonlocal n_seen, n_idle
        n_now = progress()
        n_idle = 1 if n_now > n_seen else n_idle + 1
        n_seen = max(n_seen, n_now)
        return n_idle >= attempts

    return stop


def _pause(state: tenacity.RetryCallState) -> float:
    import tenacity

    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, OutageError) and error.retry_after_s is not None:
        return error.retry_after_s
    # The jitter keeps many workers that failed together from coming back together.
    return tenacity.wait_exponential_jitter(initial=1, max=30, jitter=1)(state)


def _say_again(url: str, state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    pause_s = state.next_action.sleep if state.next_action is not None else 0.0
    log.warning("%s: %s; trying again in %.1f s", shown(url), error, pause_s)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _hash(path: Path, kind: Literal["sha256", "git"]) -> str:
    if kind == "git":
        state = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()

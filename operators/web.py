"""
Which hosts of the web images may come from, and at what price.

A URL in a message is a stranger's wish: nothing is asked that was not named here.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from fastembed_stream.errors import SettingError
from fastembed_stream.threads import Threads
from operators.addresses import is_metadata, resolved
from operators.reach import Witness

__all__ = ["Resolve", "Web"]

Resolve: TypeAlias = typing.Callable[[str, int], typing.Sequence[str]]
"""Addresses of a host, as text; raises OSError where there are none."""


class _Resolver:
    """Threads that resolve: one that hangs holds neither a batch nor the end of the process."""

    def __init__(self, resolve: Resolve, n_threads: int) -> None:
        self._resolve = resolve
        self._n_threads = n_threads
        self._lock = threading.Lock()
        self._threads: Threads | None = None

    async def ask(self, host: str, port: int) -> typing.Sequence[str]:
        """Resolve a host without holding up the loop."""
        with self._lock:
            if self._threads is None:
                self._threads = Threads(self._n_threads, "resolve")
        asked = self._threads.submit(lambda _: self._resolve(host, port), None)
        return await asyncio.wrap_future(asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """
    Where images may be fetched from, and at what price.

    hosts          names that may be asked: 'img.example.com' itself, '.example.com' all below it
    plain_http     whether http:// is allowed beside https://
    private        whether names may lead into the own network or to this machine; never do they
                   lead to where clouds keep credentials
    ports          other ports than 443 (and 80 for http) that may be asked
    max_bytes      of one image
    max_redirects  of one image
    timeout_s      seconds for one image, all tries and waits included
    attempts       tries for one image while its host is away, busy (429) or broken (5xx)
    at_once        images of one batch that are fetched at a time
    ca_file        certificates to trust, PEM; None takes those of Mozilla (`certifi`)
    resolve        how names become addresses
    tls, resolver  what is made of these: trust, and threads that resolve
    witness        the host that answered last: while it is in reach, so is this machine's network

    Proxies of the environment are not used: what they connect to could not be checked.
    """

    hosts: tuple[str, ...]
    plain_http: bool = False
    private: bool = False
    ports: tuple[int, ...] = ()
    max_bytes: int = 16 << 20
    max_redirects: int = 3
    timeout_s: float = 15.0
    attempts: int = 3
    at_once: int = 16
    ca_file: Path | None = None
    resolve: Resolve = resolved
    tls: ssl.SSLContext = field(init=False, repr=False, compare=False)
    resolver: _Resolver = field(init=False, repr=False, compare=False)
    witness: Witness = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("max_bytes", "timeout_s", "attempts", "at_once"):
            if getattr(self, name) <= 0:
                msg = f"Web({name}={getattr(self, name)}): expected more than 0."
                raise SettingError(msg)
        if self.max_redirects < 0:
            msg = f"Web(max_redirects={self.max_redirects}): expected 0 or more."
            raise SettingError(msg)
        if not self.hosts or any(not _is_name(host) for host in self.hosts):
            msg = (
                f"Web(hosts={list(self.hosts)}): expected names such as 'img.example.com', or "
                "'.example.com' for all below it, without scheme, port or path."
            )
            raise SettingError(msg)
        if metadata := [host for host in self.hosts if is_metadata(host)]:
            msg = (
                f"Web(hosts): {metadata[0]!r} gives a cloud's credentials, and is never asked. "
                "Leave it out."
            )
            raise SettingError(msg)
        object.__setattr__(self, "tls", _tls(self.ca_file))
        object.__setattr__(self, "resolver", _Resolver(self.resolve, self.at_once))
        object.__setattr__(self, "witness", Witness())

    def allows(self, host: str) -> bool:
        """Tell whether a host, in ASCII, may be asked."""
        name = _ascii(host)
        return any(
            name.endswith(allowed) if allowed.startswith(".") else name == allowed
            for allowed in map(_ascii, self.hosts)
        )


def _ascii(host: str) -> str:
    """Give a host as it is asked for: IDN in ASCII, lower case, without the root's dot."""
    import httpx

    dot = "." if host.startswith(".") else ""
    name = host.removeprefix(".").rstrip(".")
    return dot + httpx.URL(scheme="https", host=name).raw_host.decode("ascii").lower()


def _is_name(host: str) -> bool:
    import httpx

    if not host.strip(".") or any(char in host for char in "/:@*? #"):
        return False
    try:
        return bool(_ascii(host))
    except (httpx.InvalidURL, ValueError):
        return False


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    import httpx

    try:
        if ca_file is None:
            return httpx.create_ssl_context(trust_env=False)
        return ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:
        msg = f"Web(ca_file={str(ca_file)!r}) cannot be read: {error}. Expected certificates, PEM."
        raise SettingError(msg) from error

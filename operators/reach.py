"""
Whether this machine reaches anybody, where one host cannot be reached.

An address that nothing leads to, or a name that no name server knows about, is told in the same
words whether the host is gone or this machine's network is. The one is the fault of the record
that names it, the other an outage. So a host that has answered before is asked whether it still
takes a connection; until one has answered, nobody can tell, and that is an outage.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import typing
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from operators.outages import MACHINE_ERRNOS, WAY_ERRNOS, is_os_outage

__all__ = ["NameWait", "Witness", "is_of_names", "machine_trouble", "way_error"]

_LIMIT_S = 5.0
"""How long a resolver waits for a name server, unless told; a witness gets as long."""

_LEAST_SILENCE_S = 1.0


Lookup: typing.TypeAlias = typing.Callable[[str, int], typing.Awaitable[typing.Sequence[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    host: str
    address: str
    port: int


class Witness:
    """The host that answered last, which is asked where another is out of reach."""

    def __init__(self) -> None:
        self._seen: _Seen | None = None

    def answered(self, host: str, address: str, port: int) -> None:
        """Remember a host; one on this machine proves nothing about a network."""
        if not ipaddress.ip_address(address).is_loopback:
            self._seen = _Seen(host=host, address=address, port=port)

    async def is_reached(self) -> bool:
        """Tell whether the host takes a connection now; nothing is asked of it."""
        seen = self._seen
        if seen is None:
            return False
        with suppress(OSError, asyncio.TimeoutError):
            connecting = asyncio.open_connection(seen.address, seen.port)
            _, writer = await asyncio.wait_for(connecting, _LIMIT_S)
            writer.close()
            return True
        return False

    async def is_named(self, lookup: Lookup) -> bool:
        """
        Tell whether names are found.

        A name is asked for that nobody has asked for before, below that of the host: an answer
        for it comes from no cache, and that there is none is an answer.
        """
        seen = self._seen
        if seen is None or _is_address(seen.host):
            return False
        try:
            await asyncio.wait_for(
                lookup(f"{secrets.token_hex(8)}.{seen.host}", seen.port), _LIMIT_S
            )
        except socket.gaierror as error:
            return not is_os_outage(error)
        except (OSError, asyncio.TimeoutError, UnicodeError):
            return False
        return True


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


class NameWait:
    """Whether somebody waits for name servers, and for how long already."""

    def __init__(self, timeout_s: float) -> None:
        self._silence_s = max(min(_LIMIT_S, timeout_s / 2), _LEAST_SILENCE_S)
        self._host: str | None = None
        self._since = 0.0

    def begin(self, host: str) -> None:
        """Start to wait for the addresses of a host."""
        self._host, self._since = host, asyncio.get_running_loop().time()

    def end(self) -> None:
        """Stop waiting: there is an answer, or an error."""
        self._host = None

    def silence(self) -> OSError | None:
        """Give the error for name servers that have been silent for long; None where not so."""
        waited_s = asyncio.get_running_loop().time() - self._since
        if self._host is None or waited_s < self._silence_s:
            return None
        told = f"no word from name servers about host {self._host!r} in {waited_s:.0f} s"
        return socket.gaierror(socket.EAI_AGAIN, told)


def machine_trouble(error: BaseException) -> OSError | None:
    """Give what this machine lacks, out of an error and its causes; None where it is not that."""
    found = (cause for cause in _os_errors(error) if not isinstance(cause, socket.gaierror))
    return next((cause for cause in found if cause.errno in MACHINE_ERRNOS), None)


def way_error(error: BaseException) -> OSError | None:
    """Give what says that there is no way to a host, out of an error and its causes."""
    return next((cause for cause in _os_errors(error) if cause.errno in WAY_ERRNOS), None)


def is_of_names(error: OSError) -> bool:
    """Tell what name servers are to blame for, also where a resolver of its own kind says it."""
    return isinstance(error, (ConnectionError, TimeoutError)) or is_os_outage(error)


def _os_errors(error: BaseException) -> Iterator[OSError]:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            yield cause
        cause = cause.__cause__ or cause.__context__

"""Which addresses of the network a stranger's URL may lead to."""

from __future__ import annotations

import ipaddress
import socket
from typing import TypeAlias

__all__ = ["Address", "refusal", "resolved"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: an IPv4 address in the last 32 bits, which a gateway of the network unpacks."""

_LOW_32 = 0xFFFFFFFF


def resolved(host: str, port: int) -> list[str]:
    """Ask the system for a host's addresses, in its order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def refusal(address: Address, *, private: bool) -> str:
    """
    Tell why nobody may connect to an address; empty where one may.

    private  whether addresses of the own network and of this machine are allowed. Never are those
             of the link, where clouds keep their credentials, and those that are no host's

    >>> refusal(ipaddress.ip_address("169.254.169.254"), private=True)
    'link-local'
    >>> refusal(ipaddress.ip_address("::ffff:8.8.8.8"), private=False)
    'IPv4 in IPv6'
    """
    never = {
        "multicast": address.is_multicast,
        "unspecified": address.is_unspecified,
        "link-local": address.is_link_local,
    }
    for kind, found in never.items():
        if found:
            return kind
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return inner
    if address.is_loopback:
        return "" if private else "loopback"
    if address.is_reserved:
        return "reserved"
    if address.is_private or not address.is_global or getattr(address, "is_site_local", False):
        return "" if private else "private"
    return ""


def _inner(address: ipaddress.IPv6Address) -> str | None:
    """Judge an address that only packs an IPv4 one; None for any other."""
    if address.ipv4_mapped is not None or address.sixtofour is not None or address.teredo:
        return "IPv4 in IPv6"
    if address in _NAT64:
        packed = ipaddress.IPv4Address(int(address) & _LOW_32)
        # A gateway's network has no other way to the public; it leads nowhere else.
        return refusal(packed, private=False)
    return None

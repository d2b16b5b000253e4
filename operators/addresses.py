"""Which addresses of the network a stranger's URL may lead to."""

from __future__ import annotations

import ipaddress
import socket
from typing import TypeAlias

from operators.special_networks import METADATA_NAMES, NETWORKS

__all__ = ["Address", "is_metadata", "refusal", "resolved"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_IPV6 = 6
_LOW_32 = 0xFFFFFFFF

_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})
"""RFC 5214: below any prefix, these 32 bits say that an IPv4 address of the own site follows."""

_OWN = frozenset({"loopback", "private"})


def resolved(host: str, port: int) -> list[str]:
    """Ask the system for a host's addresses, in its order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_metadata(host: str) -> bool:
    """
    Tell the name of a cloud's metadata, whatever addresses it has.

    >>> is_metadata("Metadata.Google.Internal.")
    True
    """
    return host.rstrip(".").lower() in METADATA_NAMES


def refusal(address: Address, *, private: bool) -> str:
    """
    Tell why nobody may connect to an address; empty where one may.

    private  whether addresses of the own network and of this machine are allowed. Never are those
             where clouds keep their credentials, those of the link, and those that are no host's

    >>> refusal(ipaddress.ip_address("169.254.169.254"), private=True)
    'link-local'
    >>> refusal(ipaddress.ip_address("100.100.100.200"), private=True)
    'cloud metadata'
    >>> refusal(ipaddress.ip_address("::ffff:8.8.8.8"), private=False)
    'IPv4 in IPv6'
    """
    if address.version == _IPV6 and int(address) >> 32 & _LOW_32 in _ISATAP:
        return "IPv4 in IPv6"
    kind = next(kind for network, kind in NETWORKS if address in network)
    if kind == "NAT64":
        # A gateway's network has no other way to the public; it leads nowhere else.
        return refusal(ipaddress.IPv4Address(int(address) & _LOW_32), private=False)
    if kind == "public" or (private and kind in _OWN):
        return ""
    return kind

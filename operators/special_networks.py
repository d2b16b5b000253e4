"""
Networks that are not the public internet, as data: the same answers on each Python.

`ipaddress` knows them too, but its tables changed between 3.10, 3.12 and 3.13, and within their
patch releases. The table follows these sources, and is to be compared with them now and then:

- IANA IPv4 Special-Purpose Address Registry (RFC 6890, RFC 8190),
  https://www.iana.org/assignments/iana-ipv4-special-registry
- IANA IPv6 Special-Purpose Address Registry,
  https://www.iana.org/assignments/iana-ipv6-special-registry
- IANA IPv6 Address Space: all that may be public lies in 2000::/3
- RFC 4291 (IPv4-compatible), RFC 2765 (IPv4-translated), RFC 3879 (site-local)
- the documentation of each cloud for the addresses of its metadata

The smallest network that holds an address decides.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Literal, TypeAlias

__all__ = ["METADATA_NAMES", "NETWORKS", "Kind", "Network"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

Kind: TypeAlias = Literal[
    "public",
    "loopback",
    "private",
    "link-local",
    "multicast",
    "unspecified",
    "reserved",
    "cloud metadata",
    "IPv4 in IPv6",
    "NAT64",
]
"""
What an address is. 'loopback' and 'private' may be allowed, all others but 'public' never.
'NAT64' packs an IPv4 address, which decides.
"""

_TABLE: Mapping[Kind, tuple[str, ...]] = {
    "public": (
        "0.0.0.0/0",
        "2000::/3",
        "192.0.0.9/32",  # Port Control Protocol anycast, RFC 7723
        "192.0.0.10/32",  # Traversal Using Relays around NAT anycast, RFC 8155
        "192.31.196.0/24",  # AS112-v4, RFC 7535
        "192.52.193.0/24",  # AMT, RFC 7450
        "192.175.48.0/24",  # Direct Delegation AS112 Service, RFC 7534
        "2001:1::1/128",  # Port Control Protocol anycast, RFC 7723
        "2001:1::2/128",  # TURN anycast, RFC 8155
        "2001:1::3/128",  # DNS-SD Service Registration Protocol anycast, RFC 9665
        "2001:3::/32",  # AMT, RFC 7450
        "2001:4:112::/48",  # AS112-v6, RFC 7535
        "2001:20::/28",  # ORCHIDv2, RFC 7343
        "2001:30::/28",  # Drone Remote ID, RFC 9374
        "2620:4f:8000::/48",  # Direct Delegation AS112 Service, RFC 7534
    ),
    "unspecified": ("0.0.0.0/32", "::/128"),
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": (
        "0.0.0.0/8",  # "This network", RFC 791
        "10.0.0.0/8",  # Private-Use, RFC 1918
        "100.64.0.0/10",  # Shared Address Space, RFC 6598
        "172.16.0.0/12",  # Private-Use, RFC 1918
        "192.0.0.0/24",  # IETF Protocol Assignments, RFC 6890
        "192.0.2.0/24",  # TEST-NET-1, RFC 5737
        "192.88.99.0/24",  # Deprecated 6to4 Relay Anycast, RFC 7526
        "192.168.0.0/16",  # Private-Use, RFC 1918
        "198.18.0.0/15",  # Benchmarking, RFC 2544
        "198.51.100.0/24",  # TEST-NET-2, RFC 5737
        "203.0.113.0/24",  # TEST-NET-3, RFC 5737
        "2001::/23",  # IETF Protocol Assignments, RFC 2928
        "2001:2::/48",  # Benchmarking, RFC 5180
        "2001:10::/28",  # Deprecated ORCHID, RFC 4843
        "2001:db8::/32",  # Documentation, RFC 3849
        "3fff::/20",  # Documentation, RFC 9637
        "5f00::/16",  # Segment Routing SIDs, RFC 9602
        "fc00::/7",  # Unique-Local, RFC 4193
        "fec0::/10",  # Site-Local, deprecated by RFC 3879
    ),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "reserved": (
        "240.0.0.0/4",  # Reserved, RFC 1112, with the limited broadcast 255.255.255.255
        "::/0",  # not allocated, or for no use that is known here
        "100::/64",  # Discard-Only, RFC 6666
        "100:0:0:1::/64",  # Dummy IPv6 Prefix, RFC 9780
    ),
    "cloud metadata": (
        "100.100.100.200/32",  # Alibaba Cloud
        "168.63.129.16/32",  # Azure: the wire server, in Microsoft's public space
        "192.0.0.192/32",  # Oracle Cloud Classic
        "fd00:ec2::/32",  # Amazon: 254 is metadata, 23 EKS credentials, 253 names, 123 time
        "fd20:ce::/32",  # Google Cloud: 254
        "fd00:c1::/32",  # Oracle Cloud: a9fe:a9fe
        "fd00:42::/32",  # Scaleway: 42
        "fd00:a9fe:a9fe::/48",  # Akamai (Linode): 1
    ),
    "IPv4 in IPv6": (
        "::/96",  # IPv4-compatible, deprecated by RFC 4291
        "::ffff:0:0/96",  # IPv4-mapped, RFC 4291
        "::ffff:0:0:0/96",  # IPv4-translated, RFC 2765
        "64:ff9b:1::/48",  # NAT64 of the own network, RFC 8215
        "2001::/32",  # Teredo, RFC 4380
        "2002::/16",  # 6to4, RFC 3056
    ),
    "NAT64": ("64:ff9b::/96",),  # RFC 6052
}

NETWORKS: tuple[tuple[Network, Kind], ...] = tuple(
    sorted(
        (
            (ipaddress.ip_network(text), kind)
            for kind, networks in _TABLE.items()
            for text in networks
        ),
        key=lambda row: row[0].prefixlen,
        reverse=True,
    )
)
"""All of them, the smallest first."""

METADATA_NAMES = frozenset(
    {
        "instance-data",
        "instance-data.ec2.internal",
        "metadata",
        "metadata.azure.internal",
        "metadata.goog",
        "metadata.google.internal",
        "metadata.packet.net",
        "metadata.platformequinix.com",
        "metadata.tencentyun.com",
    }
)
"""Hosts that give a machine's credentials to whoever asks from it."""

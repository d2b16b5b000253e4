"""Which addresses may be connected to: the answers are listed, and the same on each Python."""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastembed_stream import SettingError
from operators import Web
from operators.addresses import is_metadata, refusal
from operators.fetching import FetchError, fetched
from operators.special_networks import METADATA_NAMES, NETWORKS

ROOT = Path(__file__).parents[2]

NEVER: dict[str, tuple[str, ...]] = {
    "cloud metadata": (
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "fd00:a9fe:a9fe::1",
    ),
    "link-local": ("169.254.169.254", "169.254.170.2", "169.254.0.1", "fe80::1", "fe80::a9fe:a9fe"),
    "IPv4 in IPv6": (
        "::ffff:169.254.169.254",
        "::ffff:100.100.100.200",
        "::ffff:8.8.8.8",
        "::169.254.169.254",
        "::8.8.8.8",
        "::ffff:0:169.254.169.254",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
        "2606:4700::5efe:a9fe:a9fe",
        "2606:4700::200:5efe:10.0.0.1",
    ),
    "multicast": ("224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"),
    "reserved": (
        "240.0.0.1",
        "255.255.255.255",
        "100::1",
        "100:0:0:1::1",
        "200::1",
        "4000::1",
        "fe00::1",
        "64:ff9b:2::1",
    ),
    "unspecified": ("0.0.0.0", "::"),  # noqa: S104  an example
}
OWN: dict[str, tuple[str, ...]] = {
    "loopback": ("127.0.0.1", "127.255.255.255", "::1"),
    "private": (
        "0.0.0.1",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.100.100.199",
        "100.100.100.201",
        "100.127.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.0.11",
        "192.0.0.170",
        "192.0.0.193",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "2001:1::4",
        "2001:2::1",
        "2001:5::1",
        "2001:10::1",
        "2001:100::1",
        "2001:db8::1",
        "3fff::1",
        "3fff:fff::1",
        "5f00::1",
        "fc00::1",
        "fd00::1",
        "fd12:3456::1",
        "fec0::1",
    ),
}
PUBLIC = (
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.0.9",
    "192.0.0.10",
    "192.0.1.0",
    "192.31.196.1",
    "192.52.193.1",
    "192.175.48.1",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:1::1",
    "2001:1::2",
    "2001:1::3",
    "2001:3::1",
    "2001:4:112::1",
    "2001:20::1",
    "2001:30::1",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "2620:4f:8000::1",
    "3ffe::1",
    "64:ff9b::8.8.8.8",
)
GATEWAY = {
    "64:ff9b::127.0.0.1": "loopback",
    "64:ff9b::10.0.0.1": "private",
    "64:ff9b::169.254.169.254": "link-local",
    "64:ff9b::100.100.100.200": "cloud metadata",
    "64:ff9b::168.63.129.16": "cloud metadata",
}
"""NAT64 leads to the public alone."""

LISTED: dict[str, tuple[str, str]] = (
    {text: (kind, kind) for kind, texts in NEVER.items() for text in texts}
    | {text: (kind, "") for kind, texts in OWN.items() for text in texts}
    | dict.fromkeys(PUBLIC, ("", ""))
    | {text: (kind, kind) for text, kind in GATEWAY.items()}
)
"""Why an address is refused, and why where private ones are allowed."""


@pytest.mark.parametrize("text", LISTED)
def test_an_address_is_what_the_registries_say(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert (refusal(address, private=False), refusal(address, private=True)) == LISTED[text]


def _interpreters() -> list[str]:
    """Find other Pythons that run: a shim of a version manager may lead nowhere."""
    named = (f"python3.{minor}" for minor in range(10, 15))
    elsewhere = Path.home().glob(".pyenv/versions/3.1*/bin/python")
    found = dict.fromkeys([*filter(None, map(shutil.which, named)), *map(str, elsewhere)])
    told = "import sys; sys.exit(sys.version_info < (3, 10))"
    return [
        path
        for path in found
        if not subprocess.run([path, "-c", told], check=False, capture_output=True).returncode
    ]


def test_each_python_gives_the_same_answers() -> None:
    # Only these two modules: another Python lacks what the package needs.
    code = f"""
import importlib.util, ipaddress, json, sys, types
package = types.ModuleType("operators"); package.__path__ = [{str(ROOT / "operators")!r}]
sys.modules["operators"] = package
from operators.addresses import refusal
addresses = map(ipaddress.ip_address, json.load(sys.stdin))
print(json.dumps([[refusal(one, private=own) for own in (False, True)] for one in addresses]))
"""
    for python in {sys.executable, *_interpreters()}:
        done = subprocess.run(
            [python, "-c", code],
            input=json.dumps(list(LISTED)),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert json.loads(done.stdout) == [list(told) for told in LISTED.values()], python


def test_nothing_of_ipaddress_that_changes_with_its_version_is_asked() -> None:
    source = (ROOT / "operators/addresses.py").read_text("utf-8")
    for name in ("is_private", "is_global", "is_reserved", "is_link_local", "is_multicast"):
        assert name not in source


def test_each_address_is_in_a_network() -> None:
    rows = {str(network) for network, _ in NETWORKS}
    assert {"0.0.0.0/0", "::/0"} <= rows
    assert len(rows) == len(NETWORKS), "none is listed twice"


def test_the_address_of_metadata_is_refused_whatever_its_name() -> None:
    for address in (*NEVER["cloud metadata"], "169.254.169.254", "::ffff:169.254.169.254"):
        web = Web(
            hosts=("img.test",),
            private=True,
            attempts=1,
            resolve=lambda *_, address=address: [address],
        )
        [answer] = fetched(web, ["https://img.test/latest/meta-data/"]).values()
        assert isinstance(answer, FetchError)
        assert f"address {address}, which is not allowed" in str(answer)


@pytest.mark.parametrize("name", sorted(METADATA_NAMES))
def test_a_name_of_metadata_is_never_asked(name: str) -> None:
    with pytest.raises(SettingError, match="gives a cloud's credentials"):
        Web(hosts=("img.test", name))
    assert is_metadata(name.upper() + ".")
    if "." not in name:
        return

    def never(host: str, port: int) -> list[str]:
        raise AssertionError(host, port)

    below = Web(hosts=("." + name.partition(".")[2],), private=True, resolve=never)
    for host in (name, name.upper(), f"{name}."):
        [answer] = fetched(below, [f"https://{host}/computeMetadata/v1/"]).values()
        assert "gives a cloud's credentials, and is never allowed" in str(answer)

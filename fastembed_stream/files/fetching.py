"""How model files are looked up, where they are kept, and who may write there."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastembed_stream.errors import ModelFilesError, SettingError
from fastembed_stream.model import Model

__all__ = [
    "Fetching",
    "cache_root",
    "is_offline",
    "locked",
    "offline_error",
    "own_folder",
    "safe_name",
    "writing_to",
]

log = logging.getLogger(__name__)

_TRUE = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching:
    """
    How model files are looked up.

    cache_dir  where fetched files are kept. None: FASTEMBED_CACHE_PATH; else the hub's own cache
               if HF_HUB_CACHE or HF_HOME is set; else the user's cache folder of this platform
    offline    never open a socket; the environment's HF_HUB_OFFLINE=1 has the same effect
    timeout_s  the longest wait for a connection, and for the next bytes of an answer
    attempts   tries in a row that bring nothing before giving up
    watch      is told a file's name, how many of its bytes are here, and how many it has, None
               where the server does not say; on the thread that fetches, several times a second
    """

    cache_dir: Path | None = None
    offline: bool = False
    timeout_s: float = 30.0
    attempts: int = 5
    watch: Callable[[str, int, int | None], None] | None = field(
        default=None, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            msg = f"`timeout_s` must be above 0 seconds; got {self.timeout_s}."
            raise SettingError(msg)
        if self.attempts < 1:
            msg = f"`attempts` must be at least 1; got {self.attempts}."
            raise SettingError(msg)


def is_offline(fetching: Fetching) -> bool:
    """Whether no socket may be opened, by the settings or by HF_HUB_OFFLINE as it stands now."""
    return fetching.offline or os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in _TRUE


def cache_root(fetching: Fetching) -> Path:
    """Give the cache folder, which need not exist yet; repositories lie in it as in the hub's."""
    if fetching.cache_dir is not None:
        return Path(fetching.cache_dir).expanduser()
    if path := os.environ.get("FASTEMBED_CACHE_PATH"):
        return Path(path).expanduser()
    if path := os.environ.get("HF_HUB_CACHE"):
        return Path(path).expanduser()
    if path := os.environ.get("HF_HOME"):
        return Path(path).expanduser() / "hub"
    # Imported here, as everything in this package that is not needed to open a cached model.
    from platformdirs import user_cache_path

    return user_cache_path("fastembed_stream", appauthor=False)


def own_folder(fetching: Fetching) -> Path:
    """Give the folder inside the cache whose whole content was made by this package."""
    return cache_root(fetching) / "fastembed_stream"


def safe_name(text: str) -> str:
    """
    Turn a name into one path component.

    >>> safe_name("BAAI/bge-small-en-v1.5")
    'BAAI--bge-small-en-v1.5'
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", text.replace("/", "--")).lstrip(".") or "_"


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses (read-only, full, a file in the way) into a ModelFilesError."""
    try:
        yield
    except OSError as error:
        msg = (
            f"Cannot write to the model cache {folder}: {error}. Point FASTEMBED_CACHE_PATH, or "
            "`cache_dir`, at a writable folder with room, or fill the cache beforehand with "
            "`fastembed-stream fetch`."
        )
        raise ModelFilesError(msg) from error


@contextmanager
def locked(name: str, fetching: Fetching) -> Iterator[None]:
    """Let one process or thread at a time fetch `name` into this cache; the others wait."""
    from filelock import FileLock, Timeout

    path = own_folder(fetching) / "locks" / f"{safe_name(name)}.lock"
    lock = FileLock(path)
    with writing_to(cache_root(fetching)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            # The holder's own time limits bound this wait, and a dead holder lets go.
            log.info("waiting for another process that fetches %s", name)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def offline_error(model: Model, lack: str, origin: str, fetching: Fetching) -> ModelFilesError:
    """Say which file is not in the cache, where it would come from, and how to get it there."""
    msg = (
        f"Model {model.name!r} is not complete in the cache {cache_root(fetching)}: {lack}. It "
        f"would come from {origin}, but fetching is off (`offline`, or HF_HUB_OFFLINE). Run "
        f"`fastembed-stream fetch {model.name}` where there is a network and bring the cache "
        "here, or allow fetching."
    )
    return ModelFilesError(msg)

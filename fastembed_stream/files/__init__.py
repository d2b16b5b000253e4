"""
Where a model's files come from: a hub repository, a tarball, a folder, an installed package.

This is the only part of the engine that fetches. `locate` gives a folder in which every file that
the row names is there and whole; what is already in the cache is used without touching a socket.

- `fetching`  the settings, the cache folder, locks
- `transfer`  one file over HTTP: time limits, back-off, resume, verification
- `folders`   folders that are whole or absent, and the links that ONNX Runtime accepts
- `hub`, `tarball`, `package`  one source each
- `identity`  what the files hold: the fingerprint of a model, the identity of a graph
"""

from __future__ import annotations

from pathlib import Path

from typing_extensions import assert_never

from fastembed_stream.files.fetching import Fetching
from fastembed_stream.files.folders import check_folder, in_one_folder
from fastembed_stream.files.hub import locate_repository
from fastembed_stream.files.identity import fingerprint, graph_identity
from fastembed_stream.files.package import locate_package
from fastembed_stream.files.tarball import locate_tarball
from fastembed_stream.model import (
    HubRepository,
    InstalledPackage,
    LocalFolder,
    Model,
    PackageData,
    Tarball,
)

__all__ = ["Fetching", "fingerprint", "graph_identity", "locate"]

_DEFAULTS = Fetching()
_DATA = Path(__file__).parents[1] / "data"


def locate(model: Model, *, folder: Path | None = None, fetching: Fetching = _DEFAULTS) -> Path:
    """
    Give the folder that holds the model's files, fetching them first if needed.

    model     the row: its source, and the files that must be there
    folder    the user's own folder (fastembed's `specific_model_path`); wins over the source and
              is never written to
    fetching  cache folder, offline, time limits
    returns   a folder laid out like a hub repository, with every file of `model.files`

    Nothing is fetched, and no socket opened, when the cache already has the files. Many processes
    may ask at once: one fetches, the others wait for it.

    Raises ModelFilesError if a file is missing, damaged or out of reach, with what to do.
    """
    return in_one_folder(model, _locate(model, folder, fetching), fetching)


def _locate(model: Model, folder: Path | None, fetching: Fetching) -> Path:
    if folder is not None:
        return check_folder(model, folder)
    match model.source:
        case LocalFolder(path=path):
            return check_folder(model, path)
        case HubRepository() as source:
            return locate_repository(model, source, fetching)
        case Tarball() as source:
            return locate_tarball(model, source, fetching)
        case InstalledPackage() as source:
            return locate_package(model, source, fetching)
        case PackageData(folder=name):
            return check_folder(model, _DATA / name)
        case never:
            assert_never(never)

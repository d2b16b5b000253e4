"""
Model files from a repository of the Hugging Face hub.

The cache has the layout of the hub's own client (`models--ORGANIZATION--NAME/snapshots/COMMIT`), so
what that client, or `fastembed`, fetched before is used as it is. What is fetched here are plain
files, not links to blobs, and their sizes are recorded beside the snapshots.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastembed_stream.errors import ModelFilesError
from fastembed_stream.files.fetching import (
    Fetching,
    cache_root,
    is_offline,
    locked,
    offline_error,
    writing_to,
)
from fastembed_stream.files.folders import SIDE_FILES, first_damage, read_sizes, write_sizes
from fastembed_stream.files.transfer import (
    Digest,
    OutageError,
    Remote,
    check_status,
    difference,
    download,
    patiently,
    reason_of,
)
from fastembed_stream.model import HubRepository, Model

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

__all__ = ["hub_endpoint", "locate_repository"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
# One of these beside the graph tells a snapshot of another tool that is whole from one that a
# download of single files left; only then is it used without asking the hub.
_SIGNS_OF_A_WHOLE = ("tokenizer.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """What a repository holds: its commit, and what is known of each file."""

    commit: str
    files: Mapping[str, RepoSibling]


def locate_repository(model: Model, source: HubRepository, fetching: Fetching) -> Path:
    """
    Give the snapshot folder of a repository, fetching first what the cache lacks.

    A cached branch or tag stands for the commit it had when it was fetched: the hub is not asked
    whether it moved. One lock for each repository, since several models may share one.

    Raises ModelFilesError.
    """
    lack = _lack(model, source, fetching)
    if lack is not None:
        if is_offline(fetching):
            raise offline_error(model, lack, f"the repository {source.repo!r}", fetching)
        with locked(f"models/{source.repo}", fetching):
            # Another process may have brought it while this one waited for the lock.
            if _lack(model, source, fetching) is not None:
                _fetch(model, source, fetching)
    return _snapshot(source, _cached_commit(source, fetching), fetching)


def _lack(model: Model, source: HubRepository, fetching: Fetching) -> str | None:
    """Say what the cache lacks of this model, None if nothing; reads the disk only."""
    commit = _cached_commit(source, fetching)
    if not commit:
        return f"revision {_revision(source)!r} was never fetched ({model.model_file} is missing)"
    folder = _snapshot(source, commit, fetching)
    recorded = read_sizes(_record(source, commit, fetching))
    wanted = {name: recorded.get(name) for name in model.files}
    wanted |= {name: recorded[name] for name in SIDE_FILES if name in recorded}
    lack = first_damage(folder, wanted)
    if lack is None and not recorded and not is_offline(fetching):
        signs = [name for name in _SIGNS_OF_A_WHOLE if (folder / name).is_file()]
        return None if signs else f"{_SIGNS_OF_A_WHOLE[0]} is missing"
    return lack


def _fetch(model: Model, source: HubRepository, fetching: Fetching) -> None:
    """Bring every file of the model that is missing or damaged, then let the revision name it."""
    listing = _ask_hub(source, fetching)
    _check_names(model, source, listing)
    folder = _snapshot(source, listing.commit, fetching)
    record = _record(source, listing.commit, fetching)
    sizes = read_sizes(record)
    side_files = [name for name in SIDE_FILES if name in listing.files]
    with writing_to(cache_root(fetching)):
        for name in dict.fromkeys([*model.files, *side_files]):
            remote = _remote(source, listing, name)
            if name not in sizes or first_damage(folder, {name: sizes[name]}) is not None:
                _bring(remote, folder / name, fetching)
                sizes[name] = (folder / name).stat().st_size
        write_sizes(record, sizes)
        # Last, so that the revision never names a snapshot that is still on its way.
        _name_commit(source, listing.commit, fetching)


def _bring(remote: Remote, target: Path, fetching: Fetching) -> None:
    known = remote.size is not None or remote.digest is not None
    # Brought by another tool, or by a run that was killed before it wrote the record.
    if known and target.is_file() and difference(target, remote.size, remote.digest) is None:
        return
    download(remote, target, fetching)


def _ask_hub(source: HubRepository, fetching: Fetching) -> _Listing:
    """Ask which commit the revision is, and what it holds; one request."""
    url = f"{hub_endpoint()}/api/models/{source.repo}/revision/{quote(_revision(source), safe='')}"
    info = patiently(lambda: _model_info(source, url, fetching), url, fetching)
    commit = info.sha or ""
    # The commit becomes the name of a folder, so it must be nothing but a hash.
    if not _COMMIT.fullmatch(commit):
        msg = f"{url} gave {commit!r} instead of a commit hash. Check HF_ENDPOINT."
        raise ModelFilesError(msg)
    return _Listing(commit=commit, files={file.rfilename: file for file in info.siblings or ()})


def _model_info(source: HubRepository, url: str, fetching: Fetching) -> ModelInfo:
    """Ask once, and sort what can go wrong; the client uses requests before 1.0, then httpx."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi(endpoint=hub_endpoint(), library_name="fastembed_stream")
    try:
        return api.model_info(
            source.repo,
            revision=_revision(source),
            timeout=fetching.timeout_s,
            files_metadata=True,
        )
    except HfHubHTTPError as error:
        check_status(url, error.response.status_code, error.response.headers)
        raise
    except OfflineModeIsEnabled as error:
        msg = f"{error} It was read when huggingface_hub was imported; start the process anew."
        raise ModelFilesError(msg) from error
    except (ValueError, httpx.UnsupportedProtocol) as error:
        msg = f"{url} did not answer as the hub does ({error}). Check the name and HF_ENDPOINT."
        raise ModelFilesError(msg) from error
    except (OSError, httpx.TransportError) as error:
        raise OutageError(reason_of(error)) from error


def _check_names(model: Model, source: HubRepository, listing: _Listing) -> None:
    for name in model.files:
        if name in listing.files:
            continue
        near = get_close_matches(name, listing.files, n=3, cutoff=0.4)
        hint = f"Near it are {', '.join(near)}" if near else f"It has {len(listing.files)} others"
        msg = (
            f"The repository {source.repo!r} at {_revision(source)!r} ({hub_endpoint()}) has no "
            f"file {name!r}, which model {model.name!r} needs. {hint}. Correct `model_file`, "
            "`other_files` or the revision."
        )
        raise ModelFilesError(msg)


def _remote(source: HubRepository, listing: _Listing, name: str) -> Remote:
    from huggingface_hub import hf_hub_url

    # Exported there without being listed, in every version.
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    known, digest = listing.files[name], None
    if known.lfs is not None:
        digest = Digest(kind="sha256", hex=known.lfs.sha256)
    elif known.blob_id is not None:
        digest = Digest(kind="git", hex=known.blob_id)
    return Remote(
        url=hf_hub_url(source.repo, name, revision=listing.commit, endpoint=hub_endpoint()),
        size=known.size,
        digest=digest,
        headers=build_hf_headers(library_name="fastembed_stream"),
    )


def hub_endpoint() -> str:
    """Give the hub's address."""
    from huggingface_hub import constants

    # The client reads it once, when it is imported; here it counts as it stands now.
    return (os.environ.get("HF_ENDPOINT") or str(constants.ENDPOINT)).rstrip("/")


def _revision(source: HubRepository) -> str:
    return source.revision or "main"


def _repository(source: HubRepository, fetching: Fetching) -> Path:
    return cache_root(fetching) / f"models--{source.repo.replace('/', '--')}"


def _snapshot(source: HubRepository, commit: str, fetching: Fetching) -> Path:
    return _repository(source, fetching) / "snapshots" / commit


def _record(source: HubRepository, commit: str, fetching: Fetching) -> Path:
    return _repository(source, fetching) / "fastembed_stream" / f"{commit}.json"


def _cached_commit(source: HubRepository, fetching: Fetching) -> str:
    """Give the commit that the cache has for the revision; empty if it has none."""
    revision = _revision(source)
    if _COMMIT.fullmatch(revision):
        return revision
    try:
        return (_repository(source, fetching) / "refs" / revision).read_text("utf-8").strip()
    except OSError:
        return ""


def _name_commit(source: HubRepository, commit: str, fetching: Fetching) -> None:
    revision = _revision(source)
    if _COMMIT.fullmatch(revision):
        return
    ref = _repository(source, fetching) / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    part = ref.with_name(ref.name + ".part")
    part.write_text(commit, "utf-8")
    part.replace(ref)

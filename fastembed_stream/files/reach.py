"""Whether the servers of model files can be reached at all, told within seconds."""

from __future__ import annotations

import threading
from urllib.parse import urlsplit

from fastembed_stream.errors import ModelFilesError
from fastembed_stream.files.hub import hub_endpoint
from fastembed_stream.files.transfer import reason_of
from fastembed_stream.model import HubRepository, Model, Tarball
from fastembed_stream.redaction import shown_url

__all__ = ["check_reach"]

_WITHIN_S = 4.0


def check_reach(model: Model, *, within_s: float = _WITHIN_S) -> None:
    """
    Ask the server of a model's files for any answer, once.

    A fetch itself is patient: it tries again for a minute and more. Whoever waits at a terminal is
    told at once that there is no network. A thread asks, since a name that is being resolved
    cannot be given up.

    raises  ModelFilesError where none comes in time
    """
    url = _server_of(model)
    if url is None:
        return
    found: list[Exception] = []
    asked = threading.Thread(target=_ask, args=(url, within_s, found), daemon=True)
    asked.start()
    asked.join(within_s)
    if asked.is_alive():
        why = f"no answer within {within_s:g} s"
    elif found:
        why = reason_of(found[0])
    else:
        return
    msg = (
        f"Cannot reach {shown_url(url)} for model {model.name!r}: {why}. Is there a network? Check "
        "it, proxies and HF_ENDPOINT, or bring a filled cache."
    )
    raise ModelFilesError(msg)


def _ask(url: str, within_s: float, found: list[Exception]) -> None:
    import httpx

    try:
        httpx.head(url, timeout=within_s)  # any answer will do, and proxies of the environment hold
    except Exception as error:  # noqa: BLE001  told by the thread that waits
        found.append(error)


def _server_of(model: Model) -> str | None:
    match model.source:
        case HubRepository():
            return hub_endpoint()
        case Tarball(url=url):
            parts = urlsplit(url)
            return f"{parts.scheme}://{parts.netloc}"
        case _:
            return None

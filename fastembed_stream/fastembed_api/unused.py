"""Arguments that fastembed takes in vain: taken here too, with a warning that says what helps."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping

__all__ = ["IGNORED", "pass_over", "warn_outside"]

_PACKAGE = f"{__name__.partition('.')[0]}."

_PER_CALL = "`batch_size` of `embed`"
_LANES = "`threads` or `device_ids`, all of which the lanes use"
_WATCH = "a progress bar around the iterator that comes back"

IGNORED: Mapping[str, str] = {
    "batch_size": _PER_CALL,
    "cache_folder": "`cache_dir`",
    "callback_manager": "",
    "device": "`cuda`",
    "doc_embed_type": "`passage_embed` or `embed`",
    "embed_batch_size": _PER_CALL,
    "embeddings_cache": "",
    "gpu": "`cuda`",
    "log_severity_level": "`runtime=Runtime(session_options=...)`",
    "max_length": "`max_tokens`",
    "max_seq_length": "`max_tokens`",
    "model_dir": "`specific_model_path`",
    "model_path": "`specific_model_path`",
    "num_workers": _LANES,
    "parallel": _LANES,
    "progress_bar": _WATCH,
    "provider_options": "`providers=[(name, options)]`",
    "rate_limiter": "",
    "session_options": "`runtime=Runtime(session_options=...)`",
    "show_download_progress": "",
    "show_progress": _WATCH,
    "show_progress_bar": _WATCH,
    "trust_remote_code": "",
    "use_cuda": "`cuda`",
}
"""What public code hands to fastembed's constructors in vain, and what does it here."""


def pass_over(where: str, given: Mapping[str, object]) -> None:
    """Warn once of arguments that change nothing; say nothing where there are none."""
    if not given:
        return
    msg = f"{where} takes {', '.join(given)} as fastembed does, and does nothing with it."
    cures = [f"instead of {name} use {IGNORED[name]}" for name in given if IGNORED.get(name)]
    if cures:
        msg = f"{msg} Here, {'; '.join(cures)}."
    warn_outside(msg)


def warn_outside(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called into this package, however deep it is by now."""
    level = 2
    frame = sys._getframe(1)  # noqa: SLF001  the way of `warnings` itself
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)

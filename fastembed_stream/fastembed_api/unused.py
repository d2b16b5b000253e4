"""Arguments that fastembed takes in vain: taken here too, with a warning that says what helps."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping

__all__ = ["IGNORED", "pass_over", "warn_outside"]

_PACKAGE = f"{__name__.partition('.')[0]}."

_CURES: Mapping[str, str] = {
    "`max_tokens`": "max_length max_seq_length max_sequence_length",
    "`batch_size` of `embed`": "batch_size embed_batch_size",
    "`threads` or `device_ids`, all of which the lanes use": "num_workers parallel",
    "`cuda`": "device gpu use_cuda",
    "`providers=[(name, options)]`": "provider_options",
    "`runtime=Runtime(session_options=...)`": "log_severity_level session_options",
    "`cache_dir`": "cache_folder",
    "`specific_model_path`": "model_dir model_path",
    "`passage_embed` or `embed`": "doc_embed_type",
    "a progress bar around what comes back": "progress_bar show_progress show_progress_bar",
    "": "callback_manager embeddings_cache rate_limiter show_download_progress trust_remote_code",
}
IGNORED: Mapping[str, str] = {
    name: cure for cure, names in _CURES.items() for name in names.split()
}
"""What public code hands to fastembed's constructors in vain, and what to use here."""


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

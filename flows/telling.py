"""How a process tells of itself: logs without secrets, and an error as one sentence."""

from __future__ import annotations

import atexit
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from types import TracebackType

from typing_extensions import override

from fastembed_stream.errors import FastembedStreamError
from fastembed_stream.redaction import redacted
from flows.leaving import leave

__all__ = ["RedactingFormatter", "log_to_stderr", "tell_errors_in_a_sentence"]

_LOG = logging.getLogger(__name__)


class RedactingFormatter(logging.Formatter):
    """The last door of a log: what a library put into a line or a traceback is hidden here."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def log_to_stderr(level: int | str, template: str) -> None:
    """Log to the standard error, unless the process does something else with its logs already."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter(template))
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(capture=True)
    warnings.formatwarning = _in_one_line  # type: ignore[assignment]  # it needs less


def tell_errors_in_a_sentence() -> None:
    """
    End the process with a sentence where an error of this project ends it.

    Bytewax wraps an error in a traceback for each of its layers. Whoever reads the log at night
    needs the sentence; the rest is there at the log level DEBUG. The exit code is 1 even where
    threads are still at work: their libraries would abort the process while it is taken down.
    """

    def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        _tell(kind, error, trace)
        atexit._run_exitfuncs()  # noqa: SLF001  stores are closed
        leave(1)

    sys.excepthook = end


def _in_one_line(message: Warning | str, *_: object) -> str:
    return str(message)


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    own = next((one for one in _chain(error) if isinstance(one, FastembedStreamError)), None)
    if own is None:
        whole = traceback.format_exception(kind, error, trace)
        sys.stderr.write(redacted("".join(whole)))
        return
    _LOG.debug("%s", own, exc_info=(kind, error, trace))
    sys.stderr.write(f"error: {own}\n")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__

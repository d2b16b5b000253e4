"""The command `fastembed-stream`: it can be interrupted from its first moment on."""

from __future__ import annotations

from flows.ending import end_on_signals

__all__ = ["main"]


def main() -> None:
    """Run the command line, and end the process."""
    end_on_signals()
    from flows.cli import app

    app()

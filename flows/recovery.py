"""Where Bytewax keeps what a flow resumes from."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

__all__ = ["recovery_folder"]


def recovery_folder() -> Path | None:
    """Find the folder that `python -m bytewax.run` was told, as it reads it; None without one."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    told = os.environ.get("BYTEWAX_RECOVERY_DIRECTORY")
    parser.add_argument("-r", "--recovery-directory", default=told)
    try:
        folder = parser.parse_known_args(sys.argv[1:])[0].recovery_directory
    except argparse.ArgumentError:
        return None
    return Path(folder) if folder else None

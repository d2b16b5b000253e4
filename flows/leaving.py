"""
How a flow's process leaves with a code of its own.

Bytewax ends with 0 wherever no error came out of it, and threads that are still inside a library
would abort the process while Python takes it down. So it leaves at once, its last words written:

- 0   all is read, or a signal asked for the end
- 1   an error, told in a sentence; or more records failed than may
- 75  start the flow again: partitions were added, or a topic was made again
"""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

__all__ = ["leave"]


def leave(code: int) -> NoReturn:
    """End the process now, with what it has said written."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

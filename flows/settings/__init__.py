"""
What flows are told from outside, by environment variables that start with STREAM_.

Every setting has a default or says at once that it is missing; a STREAM_ variable that is not one
of a flow's is a typing error, and is refused before the first message is read.
"""

from flows.settings.hybrid import HybridSettings
from flows.settings.images import ImageSettings
from flows.settings.process import PREFIX, Process
from flows.settings.queries import QuerySettings
from flows.settings.text import TextSettings

__all__ = [
    "PREFIX",
    "HybridSettings",
    "ImageSettings",
    "Process",
    "QuerySettings",
    "TextSettings",
]

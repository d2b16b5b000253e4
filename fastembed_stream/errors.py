"""
What can go wrong in the engine, by the phase in which it shows.

A wrong name or setting is raised while things are described, a missing or damaged file when it
is opened, a lost device while it works. Each message says what, got, expected, and what to do.
"""

__all__ = [
    "DeviceError",
    "FastembedStreamError",
    "ModelFilesError",
    "SettingError",
    "UnknownModelError",
]


class FastembedStreamError(Exception):
    """The root of all errors that this project raises on purpose."""


class SettingError(FastembedStreamError, ValueError):
    """A setting, an argument or a model row that cannot be right; raised before any work."""


class UnknownModelError(SettingError):
    """A model name that the catalog does not have."""


class ModelFilesError(FastembedStreamError, ValueError):
    """A model file that is missing, damaged, out of reach, or not what its row says."""


class DeviceError(FastembedStreamError, RuntimeError):
    """A device that is absent, lost or out of memory: an outage, never the fault of a row."""

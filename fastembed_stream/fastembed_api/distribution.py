"""fastembed as `importlib.metadata` sees it where this package stands for it."""

from __future__ import annotations

from importlib.metadata import Distribution
from os import PathLike
from pathlib import Path

from typing_extensions import override

from fastembed_stream.fastembed_api.paths import VERSION

__all__ = ["Fastembed"]


class Fastembed(Distribution):
    """
    A distribution without files.

    distribution  'fastembed', or 'fastembed-gpu', which some ask for in its place
    """

    def __init__(self, distribution: str) -> None:
        self._texts = {
            "METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {VERSION}\n",
            "top_level.txt": "fastembed\n",
        }

    @override
    def read_text(self, filename: str) -> str | None:
        return self._texts.get(filename)

    @override
    def locate_file(self, path: str | PathLike[str]) -> Path:
        return Path(__file__).parents[2] / path

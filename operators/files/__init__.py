"""Files in the place of Kafka: lines and images in, lines out."""

from operators.files.folder import ImageFolderSource
from operators.files.lines import JsonLinesSource
from operators.files.reading import Pages
from operators.files.sink import JsonLinesSink, described

__all__ = ["ImageFolderSource", "JsonLinesSink", "JsonLinesSource", "Pages", "described"]

"""Points into Qdrant: a server, its collection, and the sink that writes to it."""

from operators.qdrant.collection import Collection, check_name, prepare
from operators.qdrant.requests import Writing
from operators.qdrant.server import Server
from operators.qdrant.sink import QdrantSink

__all__ = [
    "Collection",
    "QdrantSink",
    "Server",
    "Writing",
    "check_name",
    "prepare",
]

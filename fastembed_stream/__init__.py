"""
Text to vectors, by the names of `fastembed` and several times faster.

`open_model` gives a callable; `TextEmbedding` is the drop-in class. Neither ONNX Runtime nor a
tokenizer is imported before a model opens.
"""

from fastembed_stream import catalog
from fastembed_stream.embedder import Embedder
from fastembed_stream.errors import (
    DeviceError,
    FastembedStreamError,
    ModelFilesError,
    SettingError,
    UnknownModelError,
)
from fastembed_stream.fastembed_api import Device, ModelSource, PoolingType, TextEmbedding
from fastembed_stream.files import Fetching, fingerprint, locate
from fastembed_stream.model import (
    DenseText,
    HubRepository,
    InstalledPackage,
    LocalFolder,
    Model,
    StaticText,
    Tarball,
)
from fastembed_stream.opening import open_model
from fastembed_stream.session import Runtime

__all__ = [
    "DenseText",
    "Device",
    "DeviceError",
    "Embedder",
    "FastembedStreamError",
    "Fetching",
    "HubRepository",
    "InstalledPackage",
    "LocalFolder",
    "Model",
    "ModelFilesError",
    "ModelSource",
    "PoolingType",
    "Runtime",
    "SettingError",
    "StaticText",
    "Tarball",
    "TextEmbedding",
    "UnknownModelError",
    "catalog",
    "fingerprint",
    "locate",
    "open_model",
]

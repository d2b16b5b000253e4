"""
Text to vectors, by the names of `fastembed` and several times faster.

`open_model` gives a callable; `TextEmbedding` is the drop-in class. Neither ONNX Runtime nor a
tokenizer is imported before a model opens.
"""

import sys

from fastembed_stream import catalog
from fastembed_stream.embedder import Embedder, OpenModel
from fastembed_stream.errors import (
    DeviceError,
    FastembedStreamError,
    ImageError,
    ModelFilesError,
    RowError,
    SettingError,
    UnknownModelError,
)
from fastembed_stream.families.bm25 import Bm25
from fastembed_stream.families.bm42 import Bm42
from fastembed_stream.families.colbert import Colbert
from fastembed_stream.families.colmodernvbert import ColModernVbert
from fastembed_stream.families.colpali import ColPali
from fastembed_stream.families.cross_encoder import CrossEncoder
from fastembed_stream.families.dense_image import DenseImage
from fastembed_stream.families.dense_text import DenseText
from fastembed_stream.families.minicoil import MiniCoil
from fastembed_stream.families.splade import InferenceFreeSplade, Splade
from fastembed_stream.families.static_text import StaticText
from fastembed_stream.families.token_embeddings import TokenEmbeddings
from fastembed_stream.fastembed_api import (
    Device,
    ImageEmbedding,
    LateInteractionMultimodalEmbedding,
    LateInteractionTextEmbedding,
    ModelSource,
    PoolingType,
    SparseTextEmbedding,
    TextCrossEncoder,
    TextEmbedding,
)
from fastembed_stream.fastembed_api.paths import Paths, install_as_fastembed
from fastembed_stream.files import Fetching, fingerprint, locate
from fastembed_stream.kinds import (
    CROSS_ENCODER,
    DENSE_TEXT,
    IMAGE,
    LATE_MULTIMODAL,
    LATE_TEXT,
    SPARSE_TEXT,
    Kind,
)
from fastembed_stream.loader import open_model
from fastembed_stream.model import (
    HubRepository,
    InstalledPackage,
    LocalFolder,
    Model,
    PackageData,
    Tarball,
)
from fastembed_stream.muvera import Muvera
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.progress import watched
from fastembed_stream.runtime import Runtime
from fastembed_stream.values import SparseEmbedding

__all__ = [
    "CROSS_ENCODER",
    "DENSE_TEXT",
    "IMAGE",
    "LATE_MULTIMODAL",
    "LATE_TEXT",
    "SPARSE_TEXT",
    "Bm25",
    "Bm42",
    "ColModernVbert",
    "ColPali",
    "Colbert",
    "CrossEncoder",
    "DenseImage",
    "DenseText",
    "Device",
    "DeviceError",
    "Embedder",
    "FastembedStreamError",
    "Fetching",
    "HubRepository",
    "ImageEmbedding",
    "ImageError",
    "InferenceFreeSplade",
    "InstalledPackage",
    "Kind",
    "LateInteractionMultimodalEmbedding",
    "LateInteractionTextEmbedding",
    "LocalFolder",
    "MiniCoil",
    "Model",
    "ModelFilesError",
    "ModelSource",
    "Muvera",
    "OnnxEmbedder",
    "OpenModel",
    "PackageData",
    "PoolingType",
    "RowError",
    "Runtime",
    "SettingError",
    "SparseEmbedding",
    "SparseTextEmbedding",
    "Splade",
    "StaticText",
    "Tarball",
    "TextCrossEncoder",
    "TextEmbedding",
    "TokenEmbeddings",
    "UnknownModelError",
    "catalog",
    "fingerprint",
    "install_as_fastembed",
    "locate",
    "open_model",
    "watched",
]

__version__ = "0.1.0"

# fastembed's paths below this package; first, or an empty folder of that name would hide one.
if (_PATHS := Paths(__name__)) not in sys.meta_path:  # it may be loaded again
    sys.meta_path.insert(0, _PATHS)

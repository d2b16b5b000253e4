"""
`fastembed`'s classes, by its names: change the import and keep the rest.

The numbers are the same. `batch_size` is how many rows are sorted and packed together, not how
many run at once: memory is bounded by tokens. `parallel` is accepted and needs nothing, since
lanes use all cores (and all `device_ids`) of this process.
"""

from fastembed_stream.fastembed_api.cross_encoder import TextCrossEncoder
from fastembed_stream.fastembed_api.descriptions import (
    BaseModelDescription,
    DenseModelDescription,
    ModelSource,
    PoolingType,
    SparseModelDescription,
)
from fastembed_stream.fastembed_api.image import ImageEmbedding
from fastembed_stream.fastembed_api.late_multimodal import LateInteractionMultimodalEmbedding
from fastembed_stream.fastembed_api.late_text import LateInteractionTextEmbedding
from fastembed_stream.fastembed_api.names import (
    Device,
    NumpyArray,
    OnnxProvider,
    PathInput,
    define_cache_dir,
)
from fastembed_stream.fastembed_api.sparse import Bm25, SparseTextEmbedding
from fastembed_stream.fastembed_api.text import JinaEmbedding, TextEmbedding
from fastembed_stream.muvera import Muvera
from fastembed_stream.values import ImageInput, SparseEmbedding

__all__ = [
    "BaseModelDescription",
    "Bm25",
    "DenseModelDescription",
    "Device",
    "ImageEmbedding",
    "ImageInput",
    "JinaEmbedding",
    "LateInteractionMultimodalEmbedding",
    "LateInteractionTextEmbedding",
    "ModelSource",
    "Muvera",
    "NumpyArray",
    "OnnxProvider",
    "PathInput",
    "PoolingType",
    "SparseEmbedding",
    "SparseModelDescription",
    "SparseTextEmbedding",
    "TextCrossEncoder",
    "TextEmbedding",
    "define_cache_dir",
]

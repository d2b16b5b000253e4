"""
Bytewax operators that make streams of text searchable.

Import names from here: `from operators import embed_dense`. (Never `import operators`: the name is
one letter from the standard library's.)
"""

from operators.chunking import ChunkStage, chunk
from operators.dead_letter import DeadLetterFile, DeadLetterTopic
from operators.decoding import Schema, decode, split
from operators.embedding import (
    DenseStage,
    EmbedStage,
    ImageStage,
    LateStage,
    MultimodalStage,
    SparseStage,
    embed_dense,
    embed_image,
    embed_late,
    embed_multimodal,
    embed_sparse,
)
from operators.files import ImageFolderSource, JsonLinesSink, JsonLinesSource, Pages, described
from operators.images import FetchImages, fetch_images
from operators.kafka import Cluster, KafkaSink, KafkaSource, Outgoing, Reading
from operators.muvera import MuveraStage, muvera
from operators.outages import BrokenFlowError
from operators.points import Identity, Point, Points, PointSplit, to_points
from operators.qdrant import Collection, QdrantSink, Server, Writing
from operators.records import (
    Batch,
    Batches,
    DamagedMessage,
    Failure,
    Failures,
    Hit,
    Message,
    Part,
    Record,
    Split,
)
from operators.retrieval import (
    AnswerSplit,
    Asking,
    Fused,
    Nearest,
    RerankStage,
    Rescored,
    RetrieveStage,
    Search,
    answer_of,
    answered,
    as_lines,
    rerank,
    retrieve,
    to_answers,
)
from operators.shutdown import STOP, drain_on_signals
from operators.spaces import VectorSpace
from operators.stages import Stage, StageLimits, run_stages
from operators.under_way import UNDER_WAY
from operators.web import Web
from operators.window import WindowLimits, window

__all__ = [
    "STOP",
    "UNDER_WAY",
    "AnswerSplit",
    "Asking",
    "Batch",
    "Batches",
    "BrokenFlowError",
    "ChunkStage",
    "Cluster",
    "Collection",
    "DamagedMessage",
    "DeadLetterFile",
    "DeadLetterTopic",
    "DenseStage",
    "EmbedStage",
    "Failure",
    "Failures",
    "FetchImages",
    "Fused",
    "Hit",
    "Identity",
    "ImageFolderSource",
    "ImageStage",
    "JsonLinesSink",
    "JsonLinesSource",
    "KafkaSink",
    "KafkaSource",
    "LateStage",
    "Message",
    "MultimodalStage",
    "MuveraStage",
    "Nearest",
    "Outgoing",
    "Pages",
    "Part",
    "Point",
    "PointSplit",
    "Points",
    "QdrantSink",
    "Reading",
    "Record",
    "RerankStage",
    "Rescored",
    "RetrieveStage",
    "Schema",
    "Search",
    "Server",
    "SparseStage",
    "Split",
    "Stage",
    "StageLimits",
    "VectorSpace",
    "Web",
    "WindowLimits",
    "Writing",
    "answer_of",
    "answered",
    "as_lines",
    "chunk",
    "decode",
    "described",
    "drain_on_signals",
    "embed_dense",
    "embed_image",
    "embed_late",
    "embed_multimodal",
    "embed_sparse",
    "fetch_images",
    "muvera",
    "rerank",
    "retrieve",
    "run_stages",
    "split",
    "to_answers",
    "to_points",
    "window",
]

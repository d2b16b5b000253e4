"""
Bytewax operators that make streams of text searchable.

Import names from here: `from operators import embed_dense`. (Never `import operators`: the name is
one letter from the standard library's.)
"""

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
from operators.kafka import Cluster, KafkaSink, KafkaSource, Outgoing, Reading
from operators.muvera import MuveraStage, muvera
from operators.outages import BrokenFlowError
from operators.points import Identity, Point, Points, PointSplit, to_points
from operators.qdrant import Collection, QdrantSink, Server, Writing
from operators.records import (
    Batch,
    Batches,
    Failure,
    Failures,
    Hit,
    Message,
    Part,
    Record,
    Split,
)
from operators.shutdown import STOP, drain_on_signals
from operators.spaces import VectorSpace
from operators.stages import Stage, StageLimits, run_stages
from operators.window import WindowLimits, window

__all__ = [
    "STOP",
    "Batch",
    "Batches",
    "BrokenFlowError",
    "Cluster",
    "Collection",
    "DeadLetterFile",
    "DeadLetterTopic",
    "DenseStage",
    "EmbedStage",
    "Failure",
    "Failures",
    "Hit",
    "Identity",
    "ImageStage",
    "KafkaSink",
    "KafkaSource",
    "LateStage",
    "Message",
    "MultimodalStage",
    "MuveraStage",
    "Outgoing",
    "Part",
    "Point",
    "PointSplit",
    "Points",
    "QdrantSink",
    "Reading",
    "Record",
    "Schema",
    "Server",
    "SparseStage",
    "Split",
    "Stage",
    "StageLimits",
    "VectorSpace",
    "WindowLimits",
    "Writing",
    "decode",
    "drain_on_signals",
    "embed_dense",
    "embed_image",
    "embed_late",
    "embed_multimodal",
    "embed_sparse",
    "muvera",
    "run_stages",
    "split",
    "to_points",
    "window",
]

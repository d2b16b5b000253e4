"""
Bytewax operators that make streams of text searchable.

Import names from here: `from operators import embed_dense`. (Never `import operators`: the name is
one letter from the standard library's.)
"""

from operators.dead_letter import DeadLetterFile, DeadLetterTopic
from operators.decoding import Schema, decode, split
from operators.embedding import DenseStage, embed_dense
from operators.kafka import Cluster, KafkaSink, KafkaSource, Outgoing, Reading
from operators.outages import BrokenFlowError
from operators.points import Identity, Point, Points, PointSplit, to_points
from operators.qdrant import Collection, QdrantSink, Server, VectorSpace, Writing
from operators.records import Batch, Batches, Failure, Failures, Message, Record, Split
from operators.shutdown import STOP, drain_on_signals
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
    "Failure",
    "Failures",
    "Identity",
    "KafkaSink",
    "KafkaSource",
    "Message",
    "Outgoing",
    "Point",
    "PointSplit",
    "Points",
    "QdrantSink",
    "Reading",
    "Record",
    "Schema",
    "Server",
    "Split",
    "Stage",
    "StageLimits",
    "VectorSpace",
    "WindowLimits",
    "Writing",
    "decode",
    "drain_on_signals",
    "embed_dense",
    "run_stages",
    "split",
    "to_points",
    "window",
]

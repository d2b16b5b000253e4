"""fastembed's path: `from fastembed.rerank.cross_encoder import …` changes its first word alone."""

from fastembed_stream.fastembed_api.cross_encoder import TextCrossEncoder

__all__ = ["TextCrossEncoder"]

"""fastembed's path: `from fastembed.postprocess import Muvera` changes its first word alone."""

from fastembed_stream.muvera import Muvera

__all__ = ["Muvera"]

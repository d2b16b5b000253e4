"""What a named vector is: how long, how compared, and what makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from fastembed_stream.errors import SettingError

__all__ = ["Distance", "Quantization", "Shape", "VectorSpace"]

Distance: TypeAlias = Literal["cosine", "dot", "euclid", "manhattan"]
Shape: TypeAlias = Literal["dense", "sparse", "multi"]
"""One vector, a sparse one, or one for each token or patch (compared by MaxSim)."""
Quantization: TypeAlias = Literal["none", "scalar", "binary"]
"""How the server keeps a second, smaller copy to search in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSpace:
    """
    One named vector of a collection.

    model         name of the model that makes it
    fingerprint   of that model: files, pooling, limits
    shape         'dense', 'sparse' or 'multi'
    dim           length of one vector; 0 for sparse ones, which have none
    distance      how two are compared; sparse ones always by the dot product
    needs_idf     whether the server weighs a sparse vector's dimensions by how rare they are
    indexed       False leaves out the HNSW graph, for vectors that only rescore
    quantization  whether the server keeps a smaller copy to search in: 'scalar' has 8 bits for each
                  number, 'binary' has 1; it stays in memory
    on_disk       whether the server keeps it on disk; of a sparse one, its index
    """

    model: str
    fingerprint: str
    shape: Shape = "dense"
    dim: int = 0
    distance: Distance = "cosine"
    needs_idf: bool = False
    indexed: bool = True
    quantization: Quantization = "none"
    on_disk: bool = False

    def __post_init__(self) -> None:
        if self.dim < 0 or (self.dim == 0) != (self.shape == "sparse"):
            msg = f"A {self.shape} vector of {self.model} cannot have {self.dim} dimensions."
            raise SettingError(msg)
        if self.needs_idf and self.shape != "sparse":
            msg = f"Only sparse vectors are weighed by idf; those of {self.model} are {self.shape}."
            raise SettingError(msg)
        if self.quantization != "none" and self.shape == "sparse":
            msg = (
                f"quantization={self.quantization!r}: the server cannot quantize sparse vectors, "
                f"as those of {self.model} are; leave it out."
            )
            raise SettingError(msg)

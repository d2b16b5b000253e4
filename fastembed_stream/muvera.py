"""
MUVERA: one vector for a whole multivector, whose dot products approximate late interaction.

Random hyperplanes sort the tokens into clusters, each cluster's tokens are added up and projected,
and several repetitions of it stand one after another.

Source: MUVERA, arXiv 2405.19504. The random numbers are drawn as fastembed draws them, so vectors
of both may stand in one collection.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from fastembed_stream.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastembed_stream.values import Array, Floats, Ints

__all__ = ["Multivectors", "Muvera"]

_TOKENS_AT_ONCE = 512
"""Tokens that are projected in one go: enough for a fast product, little enough for the cache."""

_FLOAT32 = np.finfo(np.float32)


class Multivectors(Protocol):
    """A model whose answers are multivectors, such as `LateInteractionTextEmbedding`."""

    @property
    def embedding_size(self) -> int:
        """Length of one of its vectors."""


@dataclass(frozen=True, slots=True)
class Muvera:
    """
    Fixed dimensional encodings of multivectors.

    dim          length of one token's vector
    k_sim        hyperplanes of a repetition: they make 2**k_sim clusters
    dim_proj     length of a cluster's vector, `dim` at most, which leaves vectors as they are
    r_reps       repetitions
    random_seed  of the hyperplanes and the projections
    raises       SettingError for numbers that cannot be

    >>> muvera = Muvera(dim=4, k_sim=1, dim_proj=2, r_reps=3)
    >>> muvera.process_document(np.eye(4, dtype=np.float32)).shape, muvera.embedding_size
    ((12,), 12)
    """

    dim: int
    k_sim: int = 5
    dim_proj: int = 16
    r_reps: int = 20
    random_seed: int = 42
    _planes: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    _planes_float32: Floats = field(init=False, repr=False, compare=False)
    _rounding: float = field(init=False, repr=False, compare=False)
    _projection: NDArray[np.float64] | None = field(init=False, repr=False, compare=False)
    _projection_float32: Floats | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, least in (("dim", 1), ("k_sim", 0), ("dim_proj", 1), ("r_reps", 1)):
            if getattr(self, name) < least:
                msg = f"Muvera({name}={getattr(self, name)}): expected at least {least}."
                raise SettingError(msg)
        if self.dim_proj > self.dim:
            msg = (
                f"Muvera(dim_proj={self.dim_proj}) cannot be more than dim={self.dim}: a "
                "projection makes vectors shorter. Choose dim_proj up to dim."
            )
            raise SettingError(msg)
        random = np.random.default_rng(self.random_seed)
        planes = [random.normal(size=(self.dim, self.k_sim)) for _ in range(self.r_reps)]
        signs = random.choice([-1, 1], size=(self.r_reps, self.dim, self.dim_proj))
        scaled = signs.transpose(1, 0, 2).reshape(self.dim, -1) / np.sqrt(self.dim_proj)
        projection = scaled if self.dim_proj < self.dim else None
        every_plane = np.concatenate(planes, axis=1)
        object.__setattr__(self, "_planes", every_plane)
        object.__setattr__(self, "_planes_float32", every_plane.astype(np.float32))
        # eps is 2 u: twice the bound of `_clusters`, which makes up for its own rounding.
        rounding = (self.dim + 2) * float(_FLOAT32.eps) * np.abs(every_plane).sum(axis=0)
        object.__setattr__(self, "_rounding", float(rounding.max(initial=0)))
        object.__setattr__(self, "_projection", projection)
        rounded = None if projection is None else projection.astype(np.float32)
        object.__setattr__(self, "_projection_float32", rounded)

    @override
    def __reduce__(self) -> tuple[type[Muvera], tuple[int, ...]]:
        settings = (self.dim, self.k_sim, self.dim_proj, self.r_reps, self.random_seed)
        return type(self), settings

    @classmethod
    def from_multivector_model(
        cls,
        model: Multivectors,
        k_sim: int = 5,
        dim_proj: int = 16,
        r_reps: int = 20,
        random_seed: int = 42,
    ) -> Muvera:
        """Take the length of vectors from a model."""
        return cls(model.embedding_size, k_sim, dim_proj, r_reps, random_seed)

    @property
    def embedding_size(self) -> int:
        """Length of an encoding."""
        return self.r_reps * self.n_clusters * self.dim_proj

    @property
    def n_clusters(self) -> int:
        """Clusters of one repetition."""
        return 1 << self.k_sim

    def process_document(self, vectors: Array) -> Array:
        """
        Encode a document: clusters are means, empty ones take their nearest neighbour's vector.

        vectors  float[n_tokens, dim]
        returns  float[embedding_size]: float64 for float64, and else float32
        raises   SettingError for another shape, no tokens, or what is not a number
        """
        return self.process(vectors, fill_empty_clusters=True, normalize_by_count=True)

    def process_query(self, vectors: Array) -> Array:
        """
        Encode a query: clusters are sums, empty ones are zero.

        vectors  float[n_tokens, dim]
        returns  float[embedding_size]: float64 for float64, and else float32
        raises   SettingError for another shape, no tokens, or what is not a number
        """
        return self.process(vectors, fill_empty_clusters=False, normalize_by_count=False)

    def process(
        self,
        vectors: Array,
        fill_empty_clusters: bool = True,  # noqa: FBT001, FBT002  fastembed's signature
        normalize_by_count: bool = True,  # noqa: FBT001, FBT002  fastembed's signature
    ) -> Array:
        """
        Encode one multivector.

        vectors              float[n_tokens, dim]
        fill_empty_clusters  whether an empty cluster takes the first vector of the nearest one
        normalize_by_count   whether a cluster is the mean of its vectors, and not the sum
        returns              float[embedding_size]: float64 for float64, and else float32
        raises               SettingError for another shape, no tokens, or what is not a number
        """
        encoded: Array = self._encoded([vectors], fill_empty_clusters, normalize_by_count)[0]
        return encoded

    def process_documents(self, documents: Sequence[Array]) -> Array:
        """
        Encode documents together, which is faster than one by one.

        documents  one float[n_tokens, dim] for each
        returns    float[n_documents, embedding_size]: float64 where any is, and else float32
        raises     as `process_document`; the message tells which
        """
        return self._encoded(documents, fill=True, normalize=True)

    def process_queries(self, queries: Sequence[Array]) -> Array:
        """
        Encode queries together, which is faster than one by one.

        queries  one float[n_tokens, dim] for each
        returns  float[n_queries, embedding_size]: float64 where any is, and else float32
        raises   as `process_query`; the message tells which
        """
        return self._encoded(queries, fill=False, normalize=False)

    def _encoded(self, multivectors: Sequence[Array], fill: bool, normalize: bool) -> Array:  # noqa: FBT001  private
        given = [_checked(vectors, self.dim, n) for n, vectors in enumerate(multivectors)]
        shape = (len(given), self.r_reps, self.n_clusters, self.dim_proj)
        is_double = any(vectors.dtype == np.float64 for vectors in given)
        encoded = np.empty(shape, dtype=np.float64 if is_double else np.float32)
        for first, chunk in _chunks(given):
            tokens = chunk[0] if len(chunk) == 1 else np.concatenate(chunk)
            start = 0
            clusters, projected = self._clusters(tokens), self._projected(tokens)
            for number, vectors in enumerate(chunk, start=first):
                of_this = slice(start, start + len(vectors))
                start = of_this.stop
                _gather(
                    clusters[of_this],
                    projected[of_this],
                    encoded[number],
                    fill=fill,
                    normalize=normalize,
                )
        return encoded.reshape(len(given), self.embedding_size)

    def _clusters(self, tokens: Array) -> Ints:
        """
        Tell the cluster of each token: the bits are the sides of the hyperplanes it lies on.

        The products are made in float32. Where one is nearer to zero than its rounding error, the
        token's are made again in float64, so a sign is always float64's. The error is at most
        n u / (1 - n u) times the sum of |x_i p_i| (Higham, Accuracy and Stability of Numerical
        Algorithms, section 3.1), with n = dim + 2 for the rounding of x and p themselves; and
        that sum is at most the largest |x_i| times the sum of |p_i|.

        tokens   float[n_tokens, dim]
        returns  int64[n_tokens, r_reps]
        """
        rounded = tokens.astype(np.float32, copy=False)
        products = rounded @ self._planes_float32
        positive = products > 0
        # Below the smallest normal number an error is absolute.
        error = float(np.abs(rounded).max()) * self._rounding + float(_FLOAT32.tiny)
        unsure = np.flatnonzero((np.abs(products) <= np.float32(error)).any(axis=1))
        if len(unsure) > 0:
            positive[unsure] = tokens[unsure].astype(np.float64) @ self._planes > 0
        sides = positive.reshape(len(tokens), self.r_reps, self.k_sim)
        ids: Ints = sides @ (1 << np.arange(self.k_sim))
        return ids

    def _projected(self, tokens: Array) -> Array:
        """
        Project each token for each repetition: the sum of projections is that of the sum.

        returns  float[n_tokens, r_reps, dim_proj]: float64 for float64, and else float32
        """
        is_double = tokens.dtype == np.float64
        floats = tokens if is_double else tokens.astype(np.float32, copy=False)
        projection = self._projection if is_double else self._projection_float32
        if projection is None:
            unchanged: Array = np.broadcast_to(
                floats[:, None], (len(tokens), self.r_reps, self.dim)
            )
            return unchanged
        projected: Array = floats @ projection
        return projected.reshape(len(tokens), self.r_reps, self.dim_proj)


def _gather(
    clusters: Ints, projected: Array, encoded: Array, *, fill: bool, normalize: bool
) -> None:
    """
    Add up one multivector's tokens by cluster, all repetitions at once.

    clusters   int64[n_tokens, r_reps]
    projected  float[n_tokens, r_reps, dim_proj]
    encoded    float[r_reps, n_clusters, dim_proj], where the answer goes
    """
    n_tokens, r_reps = clusters.shape
    n_clusters = encoded.shape[1]
    belongs = np.zeros((r_reps, n_clusters, n_tokens), dtype=np.bool_)
    belongs[np.arange(r_reps), clusters, np.arange(n_tokens)[:, None]] = True
    np.matmul(belongs.astype(projected.dtype), projected.transpose(1, 0, 2), out=encoded)
    if not (fill or normalize):
        return
    numbered = clusters + np.arange(r_reps) * n_clusters
    count = np.bincount(numbered.ravel(), minlength=r_reps * n_clusters)
    count = count.reshape(r_reps, n_clusters)
    if normalize:
        encoded /= np.maximum(count, 1).astype(encoded.dtype)[..., None]
    if fill:
        repetition, empty = np.nonzero(count == 0)
        nearest = nearest_occupied(count > 0)[repetition, empty]
        first = belongs[repetition, nearest].argmax(axis=-1)
        encoded[repetition, empty] = projected[first, repetition]


def nearest_occupied(occupied: NDArray[np.bool_]) -> Ints:
    """
    Find for each cluster the occupied one that differs in the fewest bits, the lowest among equals.

    A distance and a number make one key, which spreads bit by bit: after each, a cluster knows
    the best of those that differ in the bits so far. So it takes k_sim steps, and no table of all
    pairs.

    occupied  bool[n_repetitions, 2**k_sim], at least one in each repetition
    returns   int64[n_repetitions, 2**k_sim]

    >>> nearest_occupied(np.array([[False, True, True, False]])).tolist()
    [[1, 1, 2, 1]]
    """
    n_clusters = occupied.shape[1]
    ids = np.arange(n_clusters)
    n_bits = n_clusters.bit_length() - 1
    keys = np.where(occupied, ids, (n_bits + 1) * n_clusters)
    for bit in range(n_bits):
        keys = np.minimum(keys, keys[:, ids ^ (1 << bit)] + n_clusters)
    nearest: Ints = keys % n_clusters
    return nearest


def _checked(vectors: Array, dim: int, number: int) -> Array:
    floats = np.asarray(vectors)
    if floats.ndim != 2 or floats.shape[1] != dim:  # noqa: PLR2004
        msg = f"Multivector {number}: expected shape (n_tokens, {dim}); got {floats.shape}."
        raise SettingError(msg)
    if len(floats) == 0:
        msg = f"Multivector {number} is empty; one token's vector is the least to encode."
        raise SettingError(msg)
    if not np.isfinite(floats).all():
        msg = f"Multivector {number} holds what is not a finite number; see how it was made."
        raise SettingError(msg)
    return floats


def _chunks(multivectors: Sequence[Array]) -> Iterator[tuple[int, list[Array]]]:
    """Give neighbours with so many tokens together, and the number of the first."""
    start = n_tokens = 0
    for number, vectors in enumerate(multivectors):
        if number > start and n_tokens + len(vectors) > _TOKENS_AT_ONCE:
            yield start, list(multivectors[start:number])
            start, n_tokens = number, 0
        n_tokens += len(vectors)
    if multivectors:
        yield start, list(multivectors[start:])

"""
Recipes: how a family of models is used, as data.

A recipe is what two models of one family may differ by. `Kind` says what goes in and comes out,
whatever the recipe: it is what a drop-in class, `open_model` and a stage are made for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar

from fastembed_stream.errors import SettingError
from fastembed_stream.values import Floats, ImageInput, Pair, SparseEmbedding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "CROSS_ENCODER",
    "DENSE_TEXT",
    "IMAGE",
    "KINDS",
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
    "InferenceFreeSplade",
    "Kind",
    "MiniCoil",
    "Pooling",
    "Recipe",
    "Splade",
    "StaticText",
    "Stemmer",
    "TokenEmbeddings",
]

Document_co = TypeVar("Document_co", covariant=True)
Query_co = TypeVar("Query_co", covariant=True)
Answer_co = TypeVar("Answer_co", covariant=True)

Pooling: TypeAlias = Literal["cls", "mean", "last_token", "none"]
"""How token vectors become one: the first, the average, the last real one, or already done."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[Document_co, Query_co, Answer_co]):
    """What a model takes as a document and as a query, and what it answers for each."""

    name: str


DENSE_TEXT: Kind[str, str, Floats] = Kind("dense-text")
"""Texts to float32[dim]."""
SPARSE_TEXT: Kind[str, str, SparseEmbedding] = Kind("sparse-text")
"""Texts to sparse vectors."""
LATE_TEXT: Kind[str, str, Floats] = Kind("late-text")
"""Texts to float32[n_tokens, dim]."""
IMAGE: Kind[ImageInput, ImageInput, Floats] = Kind("image")
"""Images to float32[dim]."""
LATE_MULTIMODAL: Kind[ImageInput, str, Floats] = Kind("late-multimodal")
"""Images as documents, texts as queries, to float32[n_tokens, dim]."""
CROSS_ENCODER: Kind[Pair, Pair, float] = Kind("cross-encoder")
"""A query and a document to a score."""

KINDS: tuple[Kind[object, object, object], ...] = (
    DENSE_TEXT,
    SPARSE_TEXT,
    LATE_TEXT,
    IMAGE,
    LATE_MULTIMODAL,
    CROSS_ENCODER,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseText:
    """
    One vector for each text from a transformer.

    pooling            how token vectors become one
    normalize          whether vectors leave with length one
    output             which output of the graph holds the vectors: a name, or a position
    pad_to_max_tokens  pad every text to the limit, for models that read the last position
    task_input         name of the graph's input that takes a task number, None for most
    tasks              task names and their numbers
    query_task         the task of `query_embed`
    passage_task       the task of `passage_embed`, and of `embed` when none is given
    """

    kind: ClassVar = DENSE_TEXT

    pooling: Pooling
    normalize: bool
    output: str | int = 0
    pad_to_max_tokens: bool = False
    task_input: str | None = None
    tasks: tuple[tuple[str, int], ...] = ()
    query_task: str | None = None
    passage_task: str | None = None

    def __post_init__(self) -> None:
        names = {name for name, _ in self.tasks}
        for task in (self.query_task, self.passage_task):
            if task is not None and task not in names:
                msg = f"Task {task!r} is not one of {sorted(names)}; add it to `tasks`."
                raise SettingError(msg)
        if self.task_input is not None and self.passage_task is None:
            msg = f"`task_input` {self.task_input!r} needs `tasks` and a `passage_task`; got none."
            raise SettingError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticText:
    """One vector for each text as the mean of its tokens' stored vectors (model2vec), no ONNX."""

    kind: ClassVar = DENSE_TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Splade:
    """
    SPLADE++: a weight for each word of the vocabulary, log(1 + relu(logit)), the most over tokens.

    vocab_size  dimensions of the vectors, for information
    """

    kind: ClassVar = SPARSE_TEXT
    needs_idf: ClassVar = False

    vocab_size: int = 30_522


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceFreeSplade:
    """
    SPLADE for documents, log(1 + log(1 + relu(logit))); a query is a look-up of stored weights.

    idf_file    the weights of query tokens, inside the model's folder
    vocab_size  dimensions of the vectors, for information
    """

    kind: ClassVar = SPARSE_TEXT
    needs_idf: ClassVar = False

    idf_file: str = "idf.json"
    vocab_size: int = 30_522


class Stemmer(Protocol):
    """Anything that reduces a lower-case word to its stem; an empty stem drops the word."""

    def stem_word(self, word: str) -> str:
        """Give the stem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bm25:
    """
    BM25's weights of the words of a document; a query's words weigh one, the server adds IDF.

    k, b, avg_len     BM25's saturation, its share of the length, and the corpus' mean length
    language          of the stemmer and the stop words
    token_max_length  longer words are left out
    disable_stemmer   neither stem nor drop stop words
    stemmer           instead of the language's Snowball stemmer
    stopwords         instead of the language's
    tokenizer         splits a text into words, instead of at what is no letter or digit
    """

    kind: ClassVar = SPARSE_TEXT
    needs_idf: ClassVar = True

    k: float = 1.2
    b: float = 0.75
    avg_len: float = 256.0
    language: str = "english"
    token_max_length: int = 40
    disable_stemmer: bool = False
    stemmer: Stemmer | None = None
    stopwords: frozenset[str] | None = None
    tokenizer: Callable[[str], Sequence[str]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bm42:
    """
    BM42: words weighed by the attention that the first token pays them; a query's weigh one.

    alpha       exponent on log(1 + attention)
    language    of the stemmer
    vocab_size  of the tokenizer, for information
    """

    kind: ClassVar = SPARSE_TEXT
    needs_idf: ClassVar = True

    alpha: float = 0.5
    language: str = "english"
    vocab_size: int = 30_522


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniCoil:
    """
    MiniCOIL: BM25's weights, each times a few numbers that tell the meanings of a word apart.

    k, b, avg_len  as in BM25
    language       of the stemmer
    vocab_size     words that have meanings, for information
    """

    kind: ClassVar = SPARSE_TEXT
    needs_idf: ClassVar = True

    k: float = 1.2
    b: float = 0.75
    avg_len: float = 150.0
    language: str = "english"
    vocab_size: int = 19_125


@dataclass(frozen=True, slots=True, kw_only=True)
class Colbert:
    """
    ColBERT and its kin: a vector for each token, behind a marker of queries or of documents.

    query_marker, document_marker  token ids put after the first token
    mask_token                     fills short queries
    query_length                   tokens a query is filled up to, marker aside; None leaves it
    marker_is_counted              whether the marker takes one token of the stated limit
    attend_to_expansion            whether the fill of a query is attended to
    skip_punctuation               whether a document's punctuation gets no vector
    normalize_queries              whether a query's vectors are scaled to length one here
    """

    kind: ClassVar = LATE_TEXT

    query_marker: int
    document_marker: int
    mask_token: str = "[MASK]"  # noqa: S105  not a secret
    query_length: int | None = 31
    marker_is_counted: bool = True
    attend_to_expansion: bool = False
    skip_punctuation: bool = True
    normalize_queries: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEmbeddings:
    """The vectors of all tokens of a dense text model as they leave the graph."""

    kind: ClassVar = LATE_TEXT

    output: str | int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseImage:
    """
    One vector for each image; how pixels are made stands in preprocessor_config.json.

    pooling    'none' where the graph pools by itself, 'cls' for the first patch
    normalize  whether vectors leave with length one
    output     which output of the graph holds the vectors: a name, or a position
    """

    kind: ClassVar = IMAGE

    pooling: Literal["none", "cls"] = "none"
    normalize: bool = True
    output: str | int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ColPali:
    """ColPali: a vector for each patch of a page and for each token of a query."""

    kind: ClassVar = LATE_MULTIMODAL


@dataclass(frozen=True, slots=True, kw_only=True)
class ColModernVbert:
    """ColModernVBERT: as ColPali, with pages split into tiles in the manner of Idefics3."""

    kind: ClassVar = LATE_MULTIMODAL


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEncoder:
    """A score for a query and a document that are read together."""

    kind: ClassVar = CROSS_ENCODER


Recipe: TypeAlias = (
    DenseText
    | StaticText
    | Splade
    | InferenceFreeSplade
    | Bm25
    | Bm42
    | MiniCoil
    | Colbert
    | TokenEmbeddings
    | DenseImage
    | ColPali
    | ColModernVbert
    | CrossEncoder
)

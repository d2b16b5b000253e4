"""
Recipes: how a family of models is used, as data.

A recipe is what two models of one family may differ by. `Kind` says what goes in and comes out,
whatever the recipe: it is what a drop-in class, `open_model` and a stage are made for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar, get_args

from typing_extensions import override

from fastembed_stream.errors import SettingError
from fastembed_stream.values import Floats, ImageInput, Pair, SparseEmbedding

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = [
    "CROSS_ENCODER",
    "DENSE_TEXT",
    "IMAGE",
    "KINDS",
    "LATE_MULTIMODAL",
    "LATE_TEXT",
    "SNOWBALL_LANGUAGES",
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


ImagePooling: TypeAlias = Literal["none", "cls"]
"""How vectors of patches become one: already done, or the first."""


def _check_pooling(pooling: str, names: Sequence[str]) -> None:
    if pooling not in names:
        meant = {"avg": "mean", "average": "mean", "last": "last_token", "first": "cls"}
        meant |= {"disabled": "none", "none": "none"}
        wanted = str(getattr(pooling, "value", pooling)).lower()
        near = meant.get(wanted, wanted)
        hint = f" Did you mean {near!r}?" if near in names else ""
        msg = f"No pooling {pooling!r}; there are {', '.join(map(repr, names))}.{hint}"
        raise SettingError(msg)


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
        _check_pooling(self.pooling, get_args(Pooling))
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

    output      which output of the graph holds the logits: a name, or a position
    vocab_size  dimensions of the vectors, for information
    """

    kind: ClassVar = SPARSE_TEXT
    needs_idf: ClassVar = False

    output: str | int = 0
    vocab_size: int = 30_522


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceFreeSplade:
    """
    SPLADE for documents, log(1 + log(1 + relu(logit))); a query is a look-up of stored weights.

    idf_file    the weights of query tokens, inside the model's folder
    output      which output of the graph holds the logits: a name, or a position
    vocab_size  dimensions of the vectors, for information
    """

    kind: ClassVar = SPARSE_TEXT
    needs_idf: ClassVar = False

    idf_file: str = "idf.json"
    output: str | int = 0
    vocab_size: int = 30_522


SNOWBALL_LANGUAGES = (
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
)
"""Languages that have a Snowball stemmer."""


def _check_bm25(k: float, b: float, avg_len: float) -> None:
    if not (k >= 0 and 0 <= b <= 1 and avg_len > 0):
        msg = f"BM25 needs k of 0 or more, b in 0 to 1, avg_len above 0; got {k}, {b}, {avg_len}."
        raise SettingError(msg)


class Stemmer(Protocol):
    """Anything that reduces a lower-case word to its stem; an empty stem drops the word."""

    def stem_word(self, word: str) -> str:
        """Give the stem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bm25:
    """
    BM25's weights of the words of a document; a query's words weigh one, the server adds IDF.

    k, b, avg_len     BM25's saturation, its share of the length, and the corpus' mean length
    language          of the stemmer and the stop words; one of `SNOWBALL_LANGUAGES`, or any word
                      where `stemmer` or `disable_stemmer` is given
    token_max_length  longer words are left out
    disable_stemmer   neither stem nor drop the language's stop words
    stemmer           instead of the language's Snowball stemmer
    stopwords         words instead of the language's, kept in lower case
    tokenizer         splits a text into words, instead of at what is no letter or digit
    raises            SettingError

    Source: Robertson and Zaragoza, 2009, The Probabilistic Relevance Framework: BM25 and Beyond.
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
    stopwords: Collection[str] | None = None
    tokenizer: Callable[[str], Sequence[str]] | None = None

    def __post_init__(self) -> None:
        _check_bm25(self.k, self.b, self.avg_len)
        if self.disable_stemmer and self.stemmer is not None:
            msg = "`stemmer` and disable_stemmer=True contradict each other; give one of them."
            raise SettingError(msg)
        is_known = self.language in SNOWBALL_LANGUAGES
        if not is_known and self.stemmer is None and not self.disable_stemmer:
            msg = (
                f"No stemmer for language {self.language!r}; there are those for "
                f"{', '.join(SNOWBALL_LANGUAGES)}. Pass stemmer= or disable_stemmer=True, and "
                "stopwords= if you have them."
            )
            raise SettingError(msg)
        if isinstance(self.stopwords, str):
            msg = f"`stopwords` takes several words; got the text {self.stopwords!r}."
            raise SettingError(msg)
        if self.stopwords is not None:
            lower = frozenset(word.lower() for word in self.stopwords)
            object.__setattr__(self, "stopwords", lower)

    @property
    def files(self) -> tuple[str, ...]:
        """Name the list of stop words that has to be there; none where none is used."""
        is_listed = self.language in SNOWBALL_LANGUAGES and self.language != "tamil"
        if self.stopwords is not None or self.disable_stemmer or not is_listed:
            return ()
        return (f"{self.language}.txt",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bm42:
    """
    BM42: words weighed by the attention that the first token pays them; a query's weigh one.

    alpha       exponent on log(1 + attention)
    output      name of the graph's output float[batch, heads, seq, seq] with the attention
    language    of the stemmer
    vocab_size  of the tokenizer, for information
    """

    kind: ClassVar = SPARSE_TEXT
    needs_idf: ClassVar = True

    alpha: float = 0.5
    output: str = "attention_6"
    language: str = "english"
    vocab_size: int = 30_522


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniCoil:
    """
    MiniCOIL: BM25's weights, each times a few numbers that tell the meanings of a word apart.

    k, b, avg_len  as in BM25
    output         which output of the graph holds the token vectors: a name, or a position
    language       of the stemmer
    vocab_size     words that have meanings, for information
    """

    kind: ClassVar = SPARSE_TEXT
    needs_idf: ClassVar = True

    k: float = 1.2
    b: float = 0.75
    avg_len: float = 150.0
    output: str | int = 0
    language: str = "english"
    vocab_size: int = 19_125

    def __post_init__(self) -> None:
        _check_bm25(self.k, self.b, self.avg_len)


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
    skip_pad_tokens                whether pad tokens that stand in a document's text get none
    normalize_queries              whether a query's vectors are scaled to length one here
    output                         which output of the graph holds the vectors: a name, or a
                                   position

    Source: ColBERTv2, arXiv 2112.01488; Jina-ColBERT-v2, arXiv 2408.16672; PyLate for LateOn.
    """

    kind: ClassVar = LATE_TEXT

    query_marker: int
    document_marker: int
    mask_token: str = "[MASK]"  # noqa: S105  not a secret
    query_length: int | None = 31
    marker_is_counted: bool = True
    attend_to_expansion: bool = False
    skip_punctuation: bool = True
    skip_pad_tokens: bool = True
    normalize_queries: bool = False
    output: str | int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEmbeddings:
    """
    The vectors of all tokens of a dense text model as they leave the graph.

    output     which output of the graph holds the vectors: a name, or a position
    normalize  whether each leaves with length one, as MaxSim by the dot product wants it
    """

    kind: ClassVar = LATE_TEXT

    output: str | int = 0
    normalize: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfImages:
    """
    How image files are read, whatever comes of them.

    upright     whether an image is turned as its EXIF orientation says; fastembed does not
    max_pixels  most pixels of one image, known before it is decoded: 89 million, which is where
                Pillow starts to warn
    """

    upright: bool = False
    max_pixels: int = 89_478_485

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            msg = f"`max_pixels` must be at least 1; got {self.max_pixels}."
            raise SettingError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseImage(_OfImages):
    """
    One vector for each image; how pixels are made stands in preprocessor_config.json.

    pooling     'none' where the graph pools by itself, 'cls' for the first patch
    normalize   whether vectors leave with length one
    output      which output of the graph holds the vectors: a name, or a position
    upright     whether an image is turned as its EXIF orientation says; fastembed does not
    max_pixels  most pixels of one image, known before it is decoded
    """

    kind: ClassVar = IMAGE

    pooling: ImagePooling = "none"
    normalize: bool = True
    output: str | int = 0

    @override
    def __post_init__(self) -> None:
        _OfImages.__post_init__(self)
        _check_pooling(self.pooling, get_args(ImagePooling))


@dataclass(frozen=True, slots=True, kw_only=True)
class ColPali(_OfImages):
    """
    ColPali: a vector for each patch of a page and for each token of a query.

    upright     whether a page is turned as its EXIF orientation says; fastembed does not
    max_pixels  most pixels of one page, known before it is decoded
    """

    kind: ClassVar = LATE_MULTIMODAL


@dataclass(frozen=True, slots=True, kw_only=True)
class ColModernVbert(_OfImages):
    """
    ColModernVBERT: as ColPali, with pages split into tiles in the manner of Idefics3.

    upright     whether a page is turned as its EXIF orientation says; fastembed does not
    max_pixels  most pixels of one page, known before it is decoded
    """

    kind: ClassVar = LATE_MULTIMODAL


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEncoder:
    """
    A score for a query and a document that are read together.

    output  which output of the graph holds the scores, in its first column: a name, or a position
    """

    kind: ClassVar = CROSS_ENCODER

    output: str | int = 0


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

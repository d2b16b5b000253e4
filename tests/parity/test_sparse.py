"""Sparse vectors have fastembed's dimensions to the bit, and its values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastembed_stream
from fastembed_stream import SPARSE_TEXT, Runtime, catalog, locate
from fastembed_stream.words import SNOWBALL_LANGUAGES, split
from tests.fastembed_stream.examples import MIXED_LENGTHS, ODD_TEXTS, real_model, texts
from tests.fastembed_stream.tiny_models import Toy
from tests.fastembed_stream.tiny_sparse import (
    KNOWN,
    same,
    write_bm42,
    write_inference_free,
    write_minicoil,
    write_splade,
)
from tests.parity.oracle import fastembed

BM25 = "Qdrant/bm25"
BM42 = "Qdrant/bm42-all-minilm-l6-v2-attentions"
INFERENCE_FREE = "opensearch-project/opensearch-neural-sparse-encoding-doc-v3-gte"
MINICOIL = "Qdrant/minicoil-v1"
SPLADE = "prithivida/Splade_PP_en_v1"
TEXTS = (*ODD_TEXTS, *MIXED_LENGTHS)
SENTENCES = {
    "arabic": "الكتب التي قرأتها في المدرسة كانت مفيدة للطلاب",
    "danish": "Bøgerne, som børnene læste i skolen, var ikke kedelige.",
    "dutch": "De kinderen lazen de boeken die op de tafels lagen.",
    "english": "The children's books weren't lying on the tables; they were running away.",
    "finnish": "Lapset eivät lukeneet kirjoja, jotka olivat pöydillä.",
    "french": "Les enfants n'ont pas lu les livres qui étaient sur les tables.",
    "german": "Die Kinder lasen die Bücher nicht, die auf den Tischen lagen. Straße, ẞ.",
    "greek": "Τα παιδιά διάβασαν τα βιβλία που ήταν στα τραπέζια. ΟΔΥΣΣΕΥΣ.ΑΣ'Α",
    "hungarian": "A gyerekek nem olvasták el az asztalokon lévő könyveket.",
    "italian": "I bambini non hanno letto i libri che erano sulle tavole dell'aula.",
    "norwegian": "Barna leste ikke bøkene som lå på bordene.",
    "portuguese": "As crianças não leram os livros que estavam nas mesas.",
    "romanian": "Copiii nu au citit cărțile care erau pe mese.",
    "russian": "Дети не читали книги, которые лежали на столах.",
    "spanish": "Los niños no leyeron los libros que estaban sobre las mesas.",
    "swedish": "Barnen läste inte böckerna som låg på borden.",
    "tamil": "குழந்தைகள் புத்தகங்களைப் படித்தார்கள்",
    "turkish": "Çocuklar masaların üzerindeki kitapları okumadı. İSTANBUL İİ ığı",
}
WORDS = [word for sentence in SENTENCES.values() for word in sentence.split()]
word_lists = st.lists(st.sampled_from([*WORDS, "_", "__", "a_b", "9°9", "🙂"]), max_size=30)
anything = st.one_of(texts, st.text(max_size=60), word_lists.map(" ".join))


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """One model, opened by both libraries."""

    theirs: Any
    ours: fastembed_stream.SparseTextEmbedding
    within: float

    def agree(self, several: Any) -> None:
        """Check documents, queries and the count of tokens."""
        rows = list(several)
        same(self.ours.embed(rows), self.theirs.embed(rows), within=self.within)
        same(self.ours.query_embed(rows), self.theirs.query_embed(rows), within=self.within)
        assert self.ours.token_count(rows) == self.theirs.token_count(rows)


def both(name: str, folder: Path, *, within: float = 1e-4, **options: Any) -> Both:
    path = str(folder)
    return Both(
        theirs=fastembed().SparseTextEmbedding(
            name, specific_model_path=path, cuda=False, threads=2, **options
        ),
        ours=fastembed_stream.SparseTextEmbedding(
            name,
            specific_model_path=path,
            runtime=Runtime(device="cpu", threads=2, token_budget=256),
            **options,
        ),
        within=within,
    )


def bm25(**options: Any) -> Both:
    # The oracle reads the lists that ship here; ours finds them without being told.
    folder = str(locate(catalog.find(BM25, SPARSE_TEXT)))
    return Both(
        theirs=fastembed().SparseTextEmbedding(BM25, specific_model_path=folder, **options),
        ours=fastembed_stream.SparseTextEmbedding(BM25, **options),
        within=1e-6,
    )


REAL = {SPLADE: "splade-tiny", BM42: "minilm", MINICOIL: "minicoil-standin"}


@pytest.fixture(scope="module", params=REAL)
def model(request: pytest.FixtureRequest) -> Both:
    return both(request.param, real_model(REAL[request.param]))


def test_texts_of_mixed_lengths_and_every_oddity_agree(model: Both) -> None:
    model.agree(TEXTS)
    for text in ODD_TEXTS:
        model.agree([text])


@settings(max_examples=8)
@given(st.lists(anything, min_size=1, max_size=4))
def test_any_texts_agree(model: Both, several: list[str]) -> None:
    model.agree(several)


def test_texts_that_are_cut_agree(model: Both) -> None:
    model.agree(["streams over the limit of many tokens " * 90, "short"])


def test_one_text_and_passages_agree(model: Both) -> None:
    same(model.ours.embed("one text"), model.theirs.embed("one text"), within=1e-4)
    same(model.ours.passage_embed(["a", "b"]), model.theirs.passage_embed(["a", "b"]), within=1e-4)
    same(model.ours.query_embed("a query"), model.theirs.query_embed("a query"), within=1e-4)


@pytest.mark.parametrize("alpha", [0.25, 1.0, 2.0])
def test_bm42_agrees_for_any_exponent(alpha: float) -> None:
    both(BM42, real_model("minilm"), alpha=alpha).agree(TEXTS)


def test_minicoil_agrees_for_other_constants_and_words_with_signs() -> None:
    signs = ["first° time", "first time°first the°", "time time° 9°9 9°", "°", "x°y°x"]
    model = both(MINICOIL, real_model("minicoil-standin"), k=2.0, b=0.3, avg_len=20.0)
    model.agree([*TEXTS, *signs])


@pytest.mark.parametrize("toy", [Toy(), Toy(types=False, seed=4)], ids=["types", "no types"])
def test_toys_of_every_family_agree(tmp_path: Path, toy: Toy) -> None:
    for name, write in (
        (SPLADE, write_splade),
        (INFERENCE_FREE, write_inference_free),
        (BM42, write_bm42),
        (MINICOIL, write_minicoil),
    ):
        folder = tmp_path / write.__name__
        write(folder, toy)
        if name == MINICOIL:
            (folder / "onnx").mkdir()
            (folder / "model.onnx").rename(folder / "onnx/model.onnx")
        both(name, folder, within=2e-5).agree([*TEXTS, "the kafka is kafkas", "[CLS] a [SEP]"])


@settings(max_examples=40)
@given(
    st.lists(
        st.sampled_from(["stream", "streams", "streaming", "kafka", "the", "a", "9°9", "x_y", "é"]),
        max_size=20,
    ).map(" ".join)
)
def test_minicoils_known_unknown_and_stopped_words_agree(hidden_words: Both, text: str) -> None:
    hidden_words.agree([text])


@pytest.fixture(scope="module")
def hidden_words(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Give a model with a stop word among its known words, and a stem that has another stem."""
    folder = tmp_path_factory.mktemp("minicoil")
    write_minicoil(folder)
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx/model.onnx")
    (folder / "stopwords.txt").write_text("the\nstream\n", encoding="utf-8")
    stems = {"streams": "vector", "stream": "stream", "kafka": "kafka"}
    vocabulary = json.dumps({"vocab": KNOWN, "stem_mapping": stems})
    (folder / "minicoil.triplet.model.vocab").write_text(vocabulary, encoding="utf-8")
    return both(MINICOIL, folder)


def test_bm25_agrees_in_every_language() -> None:
    assert tuple(SENTENCES) == SNOWBALL_LANGUAGES
    for language in SNOWBALL_LANGUAGES:
        bm25(language=language).agree([*SENTENCES.values(), *TEXTS])


@pytest.fixture(scope="module")
def english() -> Both:
    return bm25()


@settings(max_examples=150)
@given(st.lists(anything, min_size=1, max_size=4))
def test_bm25_agrees_on_any_texts(english: Both, several: list[str]) -> None:
    english.agree(several)


@settings(max_examples=150)
@given(anything)
def test_texts_are_split_as_fastembed_splits_them(text: str) -> None:
    fastembed()
    from fastembed.common.utils import remove_non_alphanumeric
    from fastembed.sparse.utils.tokenizer import SimpleTokenizer

    assert split(text) == SimpleTokenizer.tokenize(remove_non_alphanumeric(text))


class Halves:
    """A stemmer of the user's own: it drops some words."""

    def stem_word(self, word: str) -> str:
        return word[: len(word) // 2]


@pytest.mark.parametrize(
    "options",
    [
        {"k": 2.0, "b": 0.1, "avg_len": 40.0},
        {"token_max_length": 4},
        {"disable_stemmer": True},
        {"disable_stemmer": True, "stopwords": {"The", "STREAM"}},
        {"stopwords": {"The", "STREAM"}},
        {"stopwords": set()},
        {"stemmer": Halves()},
        {"stemmer": Halves(), "language": "polish"},
        {"language": "polish", "disable_stemmer": True},
        {"language": "german", "stopwords": {"die"}},
    ],
    ids=", ".join,
)
def test_bm25_agrees_for_all_options(options: dict[str, Any]) -> None:
    bm25(**options).agree([*SENTENCES.values(), *TEXTS])


def test_options_that_contradict_each_other_are_value_errors_in_both() -> None:
    for options in ({"language": "polish"}, {"disable_stemmer": True, "stemmer": Halves()}):
        for library in (fastembed(), fastembed_stream):
            with pytest.raises(ValueError, match=r"polish|stemmer"):
                library.SparseTextEmbedding(BM25, **options)

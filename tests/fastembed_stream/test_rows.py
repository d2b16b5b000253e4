"""Whatever holds rows is read once, and a row that cannot be read is named by its position."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastembed_stream import (
    CROSS_ENCODER,
    IMAGE,
    LATE_MULTIMODAL,
    LATE_TEXT,
    Colbert,
    CrossEncoder,
    DenseImage,
    DenseText,
    ImageEmbedding,
    RowError,
    Runtime,
    SparseEmbedding,
    SparseTextEmbedding,
    TextCrossEncoder,
    TextEmbedding,
    TokenEmbeddings,
    catalog,
    open_model,
)
from fastembed_stream.embedder import Embedder
from fastembed_stream.errors import FastembedStreamError, ImageError
from fastembed_stream.families.static_text import StaticText
from fastembed_stream.kinds import SPARSE_TEXT
from tests.fastembed_stream.late_models import write_cross_encoder, write_late
from tests.fastembed_stream.tiny_images import (
    FILES,
    colmodernvbert_row,
    write_colmodernvbert,
    write_image_model,
)
from tests.fastembed_stream.tiny_models import row, write, write_static
from tests.fastembed_stream.tiny_sparse import (
    bm25,
    write_bm42,
    write_inference_free,
    write_minicoil,
    write_splade,
)
from tests.fastembed_stream.tiny_sparse import same as same_sparse

TEXTS = ["the stream of text", "kafka", "a vector"]
ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)


def _dense(folder: Path) -> Any:
    return open_model(row(write(folder)), runtime=ON_CPU)


def _static(folder: Path) -> Any:
    model = row(write_static(folder), StaticText(), model_file="model.safetensors")
    return open_model(model, runtime=ON_CPU)


def _sparse(make: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda folder: open_model(make(folder), SPARSE_TEXT, runtime=ON_CPU)


def _late(folder: Path) -> Any:
    recipe = Colbert(query_marker=1, document_marker=2)
    return open_model(row(write_late(folder), recipe), LATE_TEXT, runtime=ON_CPU)


def _tokens(folder: Path) -> Any:
    return open_model(row(write(folder), TokenEmbeddings()), LATE_TEXT, runtime=ON_CPU)


def _pages(folder: Path) -> Any:
    model = colmodernvbert_row(write_colmodernvbert(folder))
    return open_model(model, LATE_MULTIMODAL, runtime=ON_CPU)


def _cross(folder: Path) -> Any:
    model = row(write_cross_encoder(folder), CrossEncoder(), dim=0)
    return open_model(model, CROSS_ENCODER, runtime=ON_CPU)


def _images(folder: Path) -> Any:
    return open_model(row(write_image_model(folder), DenseImage()), IMAGE, runtime=ON_CPU)


OPENS: dict[str, Callable[[Path], Any]] = {
    "dense": _dense,
    "static": _static,
    "SPLADE": _sparse(write_splade),
    "inference-free SPLADE": _sparse(write_inference_free),
    "BM25": _sparse(lambda _: bm25()),
    "BM42": _sparse(write_bm42),
    "MiniCOIL": _sparse(write_minicoil),
    "ColBERT": _late,
    "token embeddings": _tokens,
}
CALLS: dict[str, Callable[[Any], Embedder[Any, Any]]] = {
    "model": lambda model: model,
    "documents": lambda model: model.documents,
    "queries": lambda model: model.queries,
}
CASES = [
    *((name, call) for name in OPENS for call in ("model", "queries")),
    ("pages", "queries"),
]


@pytest.fixture
def embed(request: pytest.FixtureRequest, tmp_path: Path) -> Embedder[Any, Any]:
    name, call = request.param
    return CALLS[call]({**OPENS, "pages": _pages}[name](tmp_path))


over_all_families = pytest.mark.parametrize("embed", CASES, indirect=True, ids=" ".join)


class Series:
    """A column of a table: iterates over its values, and has no truth of its own."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, label: int) -> Any:
        return {7 + n: value for n, value in enumerate(self._values)}[label]

    def __bool__(self) -> bool:
        msg = "The truth value of a Series is ambiguous."
        raise ValueError(msg)


HOLDERS: dict[str, Callable[[list[str]], Any]] = {
    "generator": lambda rows: (text for text in rows),
    "iterator": iter,
    "map": lambda rows: map(str, rows),
    "tuple": tuple,
    "keys": lambda rows: dict.fromkeys(rows).keys(),
    "values": lambda rows: dict(enumerate(rows)).values(),
    "array": np.array,
    "array of objects": lambda rows: np.array(rows, dtype=object),
    "series": Series,
    "lines": lambda rows: (text.rstrip("\n") for text in io.StringIO("\n".join(rows))),
}


def same(got: Any, expected: Any) -> None:
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        if isinstance(ours, SparseEmbedding):
            same_sparse([ours], [theirs])
        else:
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


@over_all_families
def test_whatever_holds_rows_is_read_once(embed: Embedder[Any, Any]) -> None:
    expected = embed(TEXTS)
    for hold in HOLDERS.values():
        same(embed(hold(TEXTS)), expected)
        same(list(embed.stream(hold(TEXTS), window=2)), expected)
        assert embed.count_tokens(hold(TEXTS)) == embed.count_tokens(TEXTS)
    same(embed({TEXTS[0]}), expected[:1])
    assert len(embed(frozenset(TEXTS))) == 3
    before = embed.counts.rows
    embed(iter(TEXTS))
    assert embed.counts.rows == before + 3


@over_all_families
def test_no_rows_have_no_answers(embed: Embedder[Any, Any]) -> None:
    empty: list[Any] = [[], (), iter(()), np.array([], dtype=str), Series([]), {}.keys(), set()]
    for nothing in empty:
        assert embed(nothing) == []
    assert embed.count_tokens(iter(())) == 0
    assert list(embed.stream((), window=3)) == []


@over_all_families
@pytest.mark.parametrize(
    ("alone", "told"),
    [
        ("hello", r"one row alone, the str 'hello'.*Put it in a list: \['hello'\]"),
        ("", r"one row alone, the str ''"),
        (np.str_("hello"), r"one row alone"),
        (b"hello", r"one row alone, the bytes b'hello'"),
        (Path("hello"), r"one row alone"),
        (io.BytesIO(b"hello"), r"one row alone, of type BytesIO"),
        (None, r"got None; expected a list"),
        (7, r"got 7 of type int"),
        (np.array("hello"), r"of type ndarray; expected a list"),
    ],
)
def test_one_row_alone_is_an_error_that_says_so(
    embed: Embedder[Any, Any], alone: Any, told: str
) -> None:
    for call in (embed, embed.count_tokens, lambda rows: list(embed.stream(rows, window=2))):
        with pytest.raises(RowError, match=rf"^Rows: got .*{told.removeprefix('got ')}") as failed:
            call(alone)
        assert failed.value.position is None


def test_a_table_is_refused_since_it_gives_the_names_of_its_columns(tmp_path: Path) -> None:
    class DataFrame(Series):
        columns = ("text",)
        iloc = None

    with pytest.raises(RowError, match=r"a DataFrame, which gives the names of its columns"):
        _dense(tmp_path)(DataFrame(["text"]))


BAD: list[tuple[Any, str]] = [
    (None, "it is None; expected str"),
    (float("nan"), "it is nan of type float; .* missing value"),
    (np.float32("nan"), "of type float32; .* missing value"),
    (2.5, r"it is 2.5 of type float; expected str\.$"),
    (b"text", r"it is b'text' of type bytes; expected str. Decode it"),
    (7, "it is 7 of type int"),
    (["a", "b"], "of type list"),
    (("a", "b"), "of type tuple"),
    ({"text": "a"}, "of type dict"),
    ("half \ud800 of", r"half a surrogate pair, '\\ud800', at character 5"),
    ("\udfff", r"at character 0"),
    ("é\ud83d", r"at character 1"),
]


@over_all_families
@pytest.mark.parametrize(("bad", "told"), BAD)
def test_a_bad_text_is_named_by_its_position_and_type(
    embed: Embedder[Any, Any], bad: Any, told: str
) -> None:
    rows = [*TEXTS, "日本語", bad, *TEXTS]
    for call in (embed, embed.count_tokens):
        with pytest.raises(RowError, match=f"^Text 4: .*{told}") as failed:
            call(rows)
        assert failed.value.position == 4
    expected = embed(rows[:4])
    answered = []
    with pytest.raises(RowError, match=f"^Text 4: .*{told}"):  # noqa: PT012  what came before counts
        for answer in embed.stream(iter(rows), window=2):
            answered.append(answer)  # noqa: PERF402  the stream fails in between
    same(answered, expected)


def test_a_bad_row_is_an_error_of_ours_and_what_callers_wait_for(tmp_path: Path) -> None:
    embed = _dense(tmp_path)
    for kind in (FastembedStreamError, ValueError, TypeError):
        with pytest.raises(kind):
            embed(["a", None])
    with pytest.raises(RowError) as failed:
        embed(["a", None])
    for error in (failed.value, ImageError("it is empty.", 3, "cat.jpg")):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301  our own
        assert (type(again), str(again), again.position) == (
            type(error),
            str(error),
            error.position,
        )


PAIRS = [("a stream", "the text"), ("kafka", "a vector")]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (("query", None), "its document is None"),
        ((None, "document"), "its query is None"),
        (("query", float("nan")), "its document is nan of type float"),
        ((b"query", "document"), "its query is b'query' of type bytes"),
        (("query", "half \ud800"), "its document has half a surrogate pair"),
        (("query", 7), "its document is 7 of type int"),
        (("query",), "a tuple of two texts"),
        (("a", "b", "c"), "a tuple of two texts"),
        ("ab", "it is 'ab' of type str; expected a tuple of two texts"),
        (b"ab", "of type bytes; expected a tuple"),
        ({"a", "b"}, "of type set; expected a tuple"),
        (None, "it is None; expected a tuple"),
    ],
)
def test_a_bad_pair_is_named_by_its_position_and_side(tmp_path: Path, bad: Any, told: str) -> None:
    score = _cross(tmp_path)
    for call in (score, score.queries, score.count_tokens):
        with pytest.raises(RowError, match=f"^Pair 2: {told.replace('(', '.')}|{told}") as failed:
            call([*PAIRS, bad])
        assert failed.value.position == 2
    with pytest.raises(RowError) as failed:
        list(score.stream(iter([*PAIRS * 2, bad]), window=2))
    assert failed.value.position == 4


def test_lists_and_arrays_are_pairs_too(tmp_path: Path) -> None:
    score = _cross(tmp_path)
    expected = score(PAIRS)
    assert score(list(map(list, PAIRS))) == pytest.approx(expected)
    assert score(np.array(PAIRS)) == pytest.approx(expected)
    assert score(zip(*np.array(PAIRS).T, strict=True)) == pytest.approx(expected)
    assert score(pair for pair in PAIRS) == pytest.approx(expected)
    assert score([]) == score(iter(())) == []


@pytest.mark.parametrize("alone", [("a query", "a text"), ["a query", "a text"]])
def test_one_pair_alone_is_an_error_that_says_so(tmp_path: Path, alone: Any) -> None:
    score = _cross(tmp_path)
    for call in (score, score.count_tokens, lambda rows: list(score.stream(rows, window=5))):
        with pytest.raises(RowError, match=r"^Rows: got one pair alone, 'a query' and 'a text'"):
            call(alone)


@pytest.mark.parametrize("alone", [FILES["odd.png"], Path("cat.jpg"), io.BytesIO(FILES["odd.png"])])
def test_one_image_alone_is_an_error_that_says_so(tmp_path: Path, alone: Any) -> None:
    from PIL import Image

    embed = _images(tmp_path)
    picture = Image.open(io.BytesIO(FILES["odd.png"]))
    for one in (alone, bytearray(b"x"), memoryview(b"x"), picture):
        with pytest.raises(RowError, match=r"^Rows: got one row alone"):
            embed(one)


def test_the_classes_count_positions_from_the_first_row_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))
    for folder in ("dense", "cross", "image"):
        (tmp_path / folder).mkdir()
    dense = row(write(tmp_path / "dense"), DenseText(pooling="cls", normalize=True), name="own/d")
    cross = row(write_cross_encoder(tmp_path / "cross"), CrossEncoder(), dim=0, name="own/c")
    image = row(write_image_model(tmp_path / "image"), DenseImage(), name="own/i")
    for model in (dense, cross, image):
        catalog.add(model)
    rows = [*TEXTS * 2, None]
    for prompts in (False, True):
        texts: Any = TextEmbedding("own/d", runtime=ON_CPU, prompts=prompts)
        for call in (texts.embed, texts.query_embed, texts.passage_embed):
            with pytest.raises(RowError, match=r"^Text 6: it is None"):
                list(call(rows, batch_size=2))
        with pytest.raises(RowError, match=r"^Text 6: it is None"):
            texts.token_count(rows, batch_size=4)
    words: Any = SparseTextEmbedding("Qdrant/bm25")
    for call in (words.embed, words.query_embed):
        with pytest.raises(RowError, match=r"^Text 6: it is None"):
            list(call(rows, batch_size=2))
    pairs: Any = TextCrossEncoder("own/c", runtime=ON_CPU)
    with pytest.raises(RowError, match=r"^Pair 6: its document is None"):
        list(pairs.rerank("a query", iter(rows), batch_size=4))
    images: Any = ImageEmbedding("own/i", runtime=ON_CPU)
    with pytest.raises(ImageError, match=r"^Image 5: it is empty"):
        list(images.embed([FILES["odd.png"]] * 5 + [b""], batch_size=2))

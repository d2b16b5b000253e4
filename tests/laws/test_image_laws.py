"""An image's vectors are a matter of the image alone: not of its neighbours or the speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastembed_stream import ColModernVbert, ColPali, DenseImage, OpenModel, Runtime, open_model
from fastembed_stream.errors import ImageError
from fastembed_stream.model import LocalFolder, Model
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.values import Floats
from tests.fastembed_stream.examples import MIXED_LENGTHS, ODD_TEXTS, real_model, texts
from tests.fastembed_stream.tiny_images import (
    CONFIGS,
    FILES,
    IMAGES,
    PAGE_DIM,
    TILED,
    picture,
    write_colmodernvbert,
    write_colpali,
    write_image_model,
)
from tests.fastembed_stream.tiny_models import DIM, row

PICTURES = (*IMAGES, *(picture(64, 20 + 7 * n, seed=n) for n in range(5)), IMAGES[0])
TEXTS = (*ODD_TEXTS, *MIXED_LENGTHS)
LEFT = {"padding_side": "left"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """
    A model to try the laws on.

    write      makes the folder
    recipe     how the folder is used
    tolerance  by how much two answers for one row may differ, absolute
    """

    write: Callable[[Path], Path]
    recipe: DenseImage | ColPali | ColModernVbert
    dim: int = DIM
    tolerance: float = 2e-6

    def model(self, folder: Path) -> Model:
        """Write the folder once, and describe it."""
        path = folder if (folder / "preprocessor_config.json").exists() else self.write(folder)
        return row(path, self.recipe, dim=self.dim, source=LocalFolder(path=path))

    def open(self, folder: Path, **runtime: Any) -> OpenModel[Any, Any, Floats]:
        """Open the model, with two threads unless told."""
        model = self.model(folder)
        how: dict[str, Any] = {"device": "cpu", "threads": 2, "token_budget": 600} | runtime
        kind: Any = model.kind
        return open_model(model, kind, runtime=Runtime(**how))


def _dense(name: str, *, recipe: DenseImage | None = None, **how: Any) -> Kind:
    return Kind(
        write=lambda folder: write_image_model(folder, CONFIGS[name], **how),
        recipe=recipe or DenseImage(),
    )


def _trained(folder: Path) -> Path:
    del folder
    return real_model("image-efficientnet-lite0")


def _pages(recipe: ColPali | ColModernVbert, write: Callable[..., Path], *how: Any) -> Kind:
    return Kind(write=lambda folder: write(folder, *how), recipe=recipe, dim=PAGE_DIM)


def _left(folder: Path) -> Path:
    return write_colmodernvbert(folder, config=LEFT)


_SHORT_ONLY = {key: value for key, value in CONFIGS["CLIP"].items() if "crop" not in key}

KINDS: dict[str, Kind] = {
    "pooled by the graph": _dense("CLIP"),
    "first patch": _dense("SigLIP", shape="patches", recipe=DenseImage(pooling="cls")),
    "named output, not normalized": _dense(
        "ConvNeXT", recipe=DenseImage(output="pooler_output", normalize=False)
    ),
    "one by one": _dense("Jina CLIP", shape="point"),
    "images of unlike size": Kind(
        write=lambda folder: write_image_model(folder, _SHORT_ONLY), recipe=DenseImage()
    ),
    "EfficientNet": Kind(write=_trained, recipe=DenseImage(), dim=1280, tolerance=1e-5),
    "ColPali": _pages(ColPali(), write_colpali),
    "ColModernVBERT": _pages(ColModernVbert(), write_colmodernvbert),
    "ColModernVBERT, not resized": _pages(
        ColModernVbert(), write_colmodernvbert, TILED["Idefics3, not resized"]
    ),
    "ColModernVBERT, padded left": _pages(ColModernVbert(), _left),
}
_WITH_TEXTS = [name for name in KINDS if name.startswith("Col")]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def folder(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    del kind  # one folder for each
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def embed(kind: Kind, folder: Path) -> Iterator[OpenModel[Any, Any, Floats]]:
    embedder = kind.open(folder)
    yield embedder
    embedder.close()


@pytest.fixture(scope="module")
def alone(embed: OpenModel[Any, Any, Floats]) -> list[Floats]:
    """Embed each image in a call of its own."""
    return [embed([image])[0] for image in PICTURES]


def close(kind: Kind, got: Sequence[Floats], expected: Sequence[Floats]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=kind.tolerance, rtol=0)


def test_a_vector_is_float32_and_has_the_dimension_of_the_row(
    kind: Kind, alone: list[Floats]
) -> None:
    assert {vectors.dtype for vectors in alone} == {np.dtype(np.float32)}
    assert {vectors.shape[-1] for vectors in alone} == {kind.dim}
    assert all(np.isfinite(vectors).all() for vectors in alone)


def test_different_images_have_different_vectors(kind: Kind, alone: list[Floats]) -> None:
    del kind
    means = np.stack([vectors.reshape(-1, vectors.shape[-1]).mean(axis=0) for vectors in alone])
    gaps = np.abs(means[:-1, None] - means[None, :-1]).max(axis=-1)
    assert gaps[~np.eye(len(gaps), dtype=bool)].min() > 1e-5


def test_an_image_alone_equals_the_image_in_a_batch(
    kind: Kind, embed: OpenModel[Any, Any, Floats], alone: list[Floats]
) -> None:
    close(kind, embed(PICTURES), alone)


@settings(max_examples=4)
@given(st.permutations(range(len(PICTURES))))
def test_order_in_is_order_out(
    kind: Kind, embed: OpenModel[Any, Any, Floats], alone: list[Floats], order: list[int]
) -> None:
    close(kind, embed([PICTURES[n] for n in order]), [alone[n] for n in order])


@settings(max_examples=6)
@given(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(0, 9)), max_size=5))
def test_any_images_alone_equal_themselves_in_a_batch(
    kind: Kind, embed: OpenModel[Any, Any, Floats], sizes: list[tuple[int, int, int]]
) -> None:
    images = [picture(width, height, seed=seed) for width, height, seed in sizes]
    close(kind, embed(images), [embed([image])[0] for image in images])


@pytest.mark.parametrize("window", [1, 2, 5, 1000])
def test_a_stream_gives_the_same_whatever_the_window(
    kind: Kind, embed: OpenModel[Any, Any, Floats], alone: list[Floats], window: int
) -> None:
    close(kind, list(embed.stream(iter(PICTURES), window=window)), alone)


@pytest.mark.parametrize("budget", [1, 1500, 100_000])
def test_the_budget_changes_no_vector(
    kind: Kind, folder: Path, alone: list[Floats], budget: int
) -> None:
    embedder = kind.open(folder, token_budget=budget)
    close(kind, embedder(PICTURES), alone)
    embedder.close()


@pytest.mark.parametrize("lanes", [1, 3])
def test_the_lanes_change_no_vector(
    kind: Kind, folder: Path, alone: list[Floats], lanes: int
) -> None:
    embedder = kind.open(folder, lanes=lanes, token_budget=2000)
    close(kind, embedder(PICTURES), alone)
    embedder.close()


def test_what_warm_up_chooses_changes_no_vector(
    kind: Kind, folder: Path, alone: list[Floats]
) -> None:
    embedder = kind.open(folder, token_budget=None)
    assert embedder.warm_up() >= 1
    close(kind, embedder(PICTURES), alone)
    embedder.close()


def test_threads_that_call_at_once_get_their_own_answers(
    kind: Kind, embed: OpenModel[Any, Any, Floats], alone: list[Floats]
) -> None:
    parts = [range(n, len(PICTURES), 3) for n in range(3)]
    with ThreadPoolExecutor(3) as callers:
        answers = list(callers.map(lambda part: embed([PICTURES[n] for n in part]), parts))
    for part, answer in zip(parts, answers, strict=True):
        close(kind, answer, [alone[n] for n in part])


def test_one_image_object_may_stand_in_many_rows(
    kind: Kind, embed: OpenModel[Any, Any, Floats], alone: list[Floats], tmp_path: Path
) -> None:
    path = tmp_path / "landscape.jpg"
    path.write_bytes(FILES["landscape.jpg"])
    with Image.open(path) as undecoded:
        close(kind, embed([undecoded] * 12), [alone[0]] * 12)


def test_a_broken_image_fails_by_its_position_and_its_neighbours_are_as_ever(
    kind: Kind, embed: OpenModel[Any, Any, Floats], alone: list[Floats]
) -> None:
    broken = [*PICTURES[:7], FILES["landscape.jpg"][:200], *PICTURES[7:]]
    with pytest.raises(ImageError, match="Image 7: ") as failed:
        embed(broken)
    assert failed.value.position == 7
    del broken[failed.value.position]
    close(kind, embed(broken), alone)


def test_the_windows_before_a_broken_image_are_answered_first(
    kind: Kind, embed: OpenModel[Any, Any, Floats], alone: list[Floats]
) -> None:
    stream = embed.stream([*PICTURES[:7], b"", *PICTURES[7:]], window=3)
    close(kind, [next(stream) for _ in range(6)], alone[:6])
    with pytest.raises(ImageError, match="Image 7: it is empty"):
        next(stream)


@pytest.mark.parametrize("name", _WITH_TEXTS)
def test_a_query_alone_equals_the_query_in_a_batch(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    for budget in (1, 1500, 100_000):
        queries = kind.open(tmp_path, token_budget=budget).queries
        alone = [queries([text])[0] for text in TEXTS]
        assert len({len(vectors) for vectors in alone}) > 5
        close(kind, queries(TEXTS), alone)
        close(kind, queries(TEXTS[::-1]), alone[::-1])
        close(kind, list(queries.stream(TEXTS, window=3)), alone)


@settings(max_examples=10)
@given(st.lists(texts, min_size=1, max_size=5))
def test_any_queries_alone_equal_themselves_in_a_batch(
    embed: OpenModel[Any, Any, Floats], kind: Kind, several: list[str]
) -> None:
    if isinstance(kind.recipe, DenseImage):
        return
    close(kind, embed.queries(several), [embed.queries([text])[0] for text in several])


@pytest.mark.parametrize("name", _WITH_TEXTS)
def test_pages_and_queries_share_sessions_and_lanes(tmp_path: Path, name: str) -> None:
    model = KINDS[name].open(tmp_path)
    pages, queries = model.documents, model.queries
    assert isinstance(pages, OnnxEmbedder)
    assert isinstance(queries, OnnxEmbedder)
    assert pages.sessions == queries.sessions
    with ThreadPoolExecutor(2) as callers:
        both = callers.submit(pages, PICTURES), callers.submit(queries, TEXTS)
    assert [len(answers.result()) for answers in both] == [len(PICTURES), len(TEXTS)]

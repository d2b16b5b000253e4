"""Pages and questions about them give fastembed's vectors, on graphs with the real ones' inputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastembed_stream
from fastembed_stream import Runtime
from fastembed_stream.values import Floats
from tests.fastembed_stream.examples import MIXED_LENGTHS, ODD_TEXTS
from tests.fastembed_stream.tiny_images import (
    TILED,
    picture,
    saved,
    write_colmodernvbert,
    write_colpali,
    write_files,
)
from tests.parity.oracle import fastembed

TEXTS = (*ODD_TEXTS, *MIXED_LENGTHS)
PALI, VBERT = "Qdrant/colpali-v1.3-fp16", "Qdrant/colmodernvbert"


@pytest.fixture(autouse=True)
def _oracle() -> None:
    fastembed()


def both(
    name: str, folder: Path
) -> tuple[Any, fastembed_stream.LateInteractionMultimodalEmbedding]:
    path = str(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # theirs tells of their model's new version
        theirs = fastembed().LateInteractionMultimodalEmbedding(
            name, specific_model_path=path, cuda=False, threads=2
        )
    ours = fastembed_stream.LateInteractionMultimodalEmbedding(
        name, specific_model_path=path, runtime=Runtime(device="cpu", threads=2)
    )
    return theirs, ours


def colmodernvbert(folder: Path, *splitting: dict[str, Any], **tokenizer: Any) -> Path:
    """Make a model under the file name that fastembed expects."""
    return write_colmodernvbert(folder, *splitting, model_file="model_v2.onnx", **tokenizer)


def agree(got: Iterable[Floats], expected: Iterable[Any], *, within: float = 2e-6) -> None:
    """Compare rows of unlike length, in order."""
    for our, their in zip(list(got), list(expected), strict=True):
        np.testing.assert_allclose(our, their, atol=within, rtol=0)


def pages(folder: Path) -> Sequence[str]:
    """Write pages of all kinds, and of as many shapes as a page is split into."""
    paths = write_files(folder)
    for width, height in ((300, 100), (100, 300), (200, 190), (64, 20), (20, 64)):
        path = folder / f"{width}_by_{height}.png"
        path.write_bytes(saved(picture(width, height, seed=width), "PNG"))
        paths.append(str(path))
    return paths


def test_colpalis_pages_agree(tmp_path: Path) -> None:
    theirs, ours = both(PALI, write_colpali(tmp_path / "model"))
    paths = pages(tmp_path / "pages")
    agree(ours.embed_image(paths, batch_size=7), theirs.embed_image(paths, batch_size=7))


@pytest.mark.parametrize("side", ["right", "left"])
def test_colpalis_queries_agree_with_each_alone(tmp_path: Path, side: str) -> None:
    folder = write_colpali(tmp_path, config={"padding_side": side})
    theirs, ours = both(PALI, folder)
    alone = [next(iter(theirs.embed_text(text))) for text in TEXTS]
    agree(ours.embed_text(TEXTS), alone)


@pytest.mark.parametrize("name", TILED)
@pytest.mark.parametrize("side", ["right", "left"])
def test_colmodernvberts_pages_agree(tmp_path: Path, name: str, side: str) -> None:
    folder = colmodernvbert(tmp_path / "model", TILED[name], config={"padding_side": side})
    theirs, ours = both(VBERT, folder)
    paths = pages(tmp_path / "pages")
    agree(ours.embed_image(paths, batch_size=8), theirs.embed_image(paths, batch_size=1))
    agree(ours.embed_image(paths), theirs.embed_image(paths, batch_size=5))


@pytest.mark.parametrize("side", ["right", "left"])
def test_colmodernvberts_queries_agree(tmp_path: Path, side: str) -> None:
    theirs, ours = both(VBERT, colmodernvbert(tmp_path, config={"padding_side": side}))
    agree(ours.embed_text(TEXTS), theirs.embed_text(TEXTS))


def test_a_prompt_that_is_cut_agrees(tmp_path: Path) -> None:
    folder = colmodernvbert(tmp_path / "model", config={"model_max_length": 40})
    theirs, ours = both(VBERT, folder)
    paths = pages(tmp_path / "pages")
    agree(ours.embed_image(paths), theirs.embed_image(paths))


@pytest.mark.parametrize("name", [PALI, VBERT])
@pytest.mark.parametrize("extended", [True, False])
def test_tokens_are_counted_alike(
    tmp_path: Path,
    name: str,
    extended: bool,  # noqa: FBT001
) -> None:
    write = write_colpali if name == PALI else colmodernvbert
    theirs, ours = both(name, write(tmp_path))
    for text in (*TEXTS, list(TEXTS)):
        expected = theirs.token_count(text, include_extension=extended)
        assert ours.token_count(text, include_extension=extended) == expected
    assert ours.token_count(TEXTS, 3, extended) == ours.token_count(TEXTS, 100, extended)

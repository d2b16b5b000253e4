"""fastembed's class for pages and questions keeps its names, and embeds both with one graph."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastembed_stream import (
    LATE_MULTIMODAL,
    LateInteractionMultimodalEmbedding,
    Runtime,
    catalog,
)
from fastembed_stream.errors import ImageError, SettingError
from fastembed_stream.model import HubRepository
from tests.fastembed_stream.examples import ROOT
from tests.fastembed_stream.tiny_images import (
    FILES,
    IMAGES,
    PAGE_DIM,
    write_colmodernvbert,
    write_colpali,
)

FACTS = ROOT / "../shared/facts/models.json"
ON_CPU = Runtime(device="cpu", threads=2)
PALI, VBERT = "Qdrant/colpali-v1.3-fp16", "Qdrant/colmodernvbert"


def opened(name: str, folder: Path, **options: Any) -> LateInteractionMultimodalEmbedding:
    if name == PALI:
        write_colpali(folder)
    else:
        write_colmodernvbert(folder, model_file="model_v2.onnx")
    return LateInteractionMultimodalEmbedding(
        name, specific_model_path=str(folder), runtime=ON_CPU, **options
    )


def _parameters(callable_: Callable[..., Any]) -> list[tuple[str, Any]]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        (name, getattr(parameter.default, "value", parameter.default))
        for name, parameter in inspect.signature(callable_).parameters.items()
        if parameter.kind not in kinds
    ]


@pytest.mark.parametrize("method", ["embed_text", "embed_image", "token_count"])
def test_parameters_have_fastembeds_names_order_and_defaults(method: str) -> None:
    fastembed = pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    theirs = getattr(fastembed.LateInteractionMultimodalEmbedding, method)
    ours = getattr(LateInteractionMultimodalEmbedding, method)
    assert _parameters(ours) == _parameters(theirs)


@pytest.mark.skipif(not FACTS.is_file(), reason="the facts about the oracle's models are not here")
def test_the_rows_that_ship_are_as_is_known_of_the_oracles() -> None:
    rows = json.loads(FACTS.read_text(encoding="utf-8"))
    facts = [row for row in rows if row["family"] == "late-multimodal"]
    assert [row["name"] for row in facts] == [m.name for m in catalog.models(LATE_MULTIMODAL)]
    for known in facts:
        model = catalog.find(known["name"], LATE_MULTIMODAL)
        told = (model.dim, model.license, model.size_gb, model.model_file, model.source)
        expected = tuple(known[key] for key in ("dim", "license", "size_gb", "model_file"))
        assert told == (*expected, HubRepository(repo=known["hf"]))
        assert list(model.other_files) == known["additional_files"]
        assert type(model.recipe).__name__.lower() == known["fastembed_class"].lower()


@pytest.mark.parametrize("name", [PALI, VBERT])
def test_one_page_and_one_question_are_taken_alone(tmp_path: Path, name: str) -> None:
    model = opened(name, tmp_path)
    [page] = model.embed_image(FILES["odd.png"])
    [question] = model.embed_text("a stream of text")
    assert page.shape[1] == question.shape[1] == model.embedding_size == PAGE_DIM == 128
    [first, *_] = model.embed_image([FILES["odd.png"], *IMAGES], batch_size=100)
    np.testing.assert_allclose(first, page, atol=2e-6)
    assert len(list(model.embed_text(["a", "b", "c"], batch_size=2))) == 3


@pytest.mark.parametrize("name", [PALI, VBERT])
def test_tokens_are_counted_with_and_without_what_the_model_adds(tmp_path: Path, name: str) -> None:
    model = opened(name, tmp_path)
    [vectors] = model.embed_text("a stream of text")
    assert model.token_count("a stream of text") == 4
    assert model.token_count("a stream of text", include_extension=True) == len(vectors) > 13
    assert model.token_count([]) == 0
    with pytest.raises(SettingError, match="batch_size"):
        model.token_count(["a"], 0)


@pytest.mark.parametrize("name", [PALI, VBERT])
def test_a_broken_page_is_named_by_its_position_among_all(tmp_path: Path, name: str) -> None:
    model = opened(name, tmp_path)
    answered = []
    stream = model.embed_image([*IMAGES[:5], b"no page", *IMAGES[5:]])
    answered.extend([next(stream) for _ in range(4)])
    with pytest.raises(ImageError, match="Image 5: it starts with the bytes b'no page'"):
        next(stream)


def test_how_pages_are_read_is_told_by_the_constructor(tmp_path: Path) -> None:
    model = opened(VBERT, tmp_path, upright=True, max_pixels=3500)
    [page] = model.embed_image(FILES["turned.jpg"])
    assert len(page) > 0
    with pytest.raises(ImageError, match=r"Image 1: .* at most 3,500"):
        list(model.embed_image([FILES["turned.jpg"], FILES["portrait.jpg"]]))

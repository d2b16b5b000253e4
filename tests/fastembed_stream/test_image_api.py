"""`fastembed`'s class for images keeps its names, and takes an image in more forms."""

from __future__ import annotations

import base64
import inspect
import io
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastembed_stream import IMAGE, ImageEmbedding, ModelSource, Runtime, catalog
from fastembed_stream.errors import ImageError, SettingError, UnknownModelError
from fastembed_stream.families.dense_image import DenseImage
from fastembed_stream.model import HubRepository
from tests.fastembed_stream.examples import ROOT
from tests.fastembed_stream.tiny_images import (
    FILES,
    IMAGES,
    image_row,
    write_files,
    write_image_model,
)
from tests.fastembed_stream.tiny_models import DIM

FACTS = ROOT / "../shared/facts/models.json"
ON_CPU = Runtime(device="cpu", threads=2)
CLIP = "Qdrant/clip-ViT-B-32-vision"
NAME = "tests/tiny-images"


@pytest.fixture(autouse=True)
def own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a catalog of its own."""
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))


@pytest.fixture
def model(tmp_path: Path) -> ImageEmbedding:
    catalog.add(image_row(write_image_model(tmp_path / "model"), name=NAME))
    return ImageEmbedding(NAME, runtime=ON_CPU)


def _parameters(callable_: Callable[..., Any]) -> list[tuple[str, Any]]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        (name, getattr(parameter.default, "value", parameter.default))
        for name, parameter in inspect.signature(callable_).parameters.items()
        if parameter.kind not in kinds
    ]


def test_parameters_have_fastembeds_names_order_and_defaults() -> None:
    fastembed = pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    theirs = _parameters(fastembed.ImageEmbedding.embed)
    assert _parameters(ImageEmbedding.embed) == theirs
    theirs = _parameters(fastembed.ImageEmbedding.__init__)
    assert [name for name, _ in _parameters(ImageEmbedding.__init__)] == [n for n, _ in theirs]


def test_a_model_is_described_by_fastembeds_keys() -> None:
    fastembed = pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    theirs = {model["model"]: model for model in fastembed.ImageEmbedding.list_supported_models()}
    ours = {model["model"]: model for model in ImageEmbedding.list_supported_models()}
    assert theirs.keys() <= ours.keys()
    for name, model in theirs.items():
        assert model.keys() <= ours[name].keys()
        for key in ("model", "model_file", "license", "size_in_GB", "additional_files", "dim"):
            assert ours[name][key] == model[key]
        assert ours[name]["sources"]["hf"] == model["sources"]["hf"]


@pytest.mark.skipif(not FACTS.is_file(), reason="the facts about the oracle's models are not here")
def test_the_rows_that_ship_are_as_is_known_of_the_oracles() -> None:
    rows = json.loads(FACTS.read_text(encoding="utf-8"))
    facts = [row for row in rows if row["family"] == "image"]
    assert [row["name"] for row in facts] == [model.name for model in catalog.models(IMAGE)]
    for known in facts:
        model = catalog.find(known["name"], IMAGE)
        told = (model.dim, model.license, model.size_gb, model.model_file, model.source)
        expected = tuple(known[key] for key in ("dim", "license", "size_gb", "model_file"))
        assert told == (*expected, HubRepository(repo=known["hf"]))
        recipe = DenseImage(
            pooling=known["pooling"], normalize=known["normalize"], output=known.get("output", 0)
        )
        assert model.recipe == recipe


def test_the_size_of_a_vector_is_known_by_name() -> None:
    assert ImageEmbedding.get_embedding_size("qdrant/Unicom-vit-b-16") == 768
    with pytest.raises(UnknownModelError, match="Did you mean"):
        ImageEmbedding.get_embedding_size("Qdrant/clip-ViT-B-32-visio")


def test_one_image_is_taken_in_every_form(model: ImageEmbedding, tmp_path: Path) -> None:
    [path, *_] = write_files(tmp_path / "images")
    content = FILES["landscape.jpg"]
    one: list[Any] = [path, Path(path), content, Image.open(io.BytesIO(content))]
    one += [packed := base64.b64encode(content).decode(), f"data:image/jpeg;base64,{packed}"]
    [expected] = model.embed([content])
    for image in one:
        [vector] = model.embed(image)
        assert np.array_equal(vector, expected)
    assert model.embedding_size == expected.size == DIM


def test_images_are_answered_as_they_come(model: ImageEmbedding) -> None:
    endless = model.embed(itertools.cycle(IMAGES), batch_size=4)
    vectors = list(itertools.islice(endless, len(IMAGES)))
    np.testing.assert_allclose(vectors, list(model.embed(IMAGES, parallel=0)), atol=2e-6)
    assert list(model.embed([])) == []


def test_a_wrong_batch_size_fails_at_the_call(model: ImageEmbedding) -> None:
    with pytest.raises(SettingError, match="batch_size must be at least 1"):
        model.embed(IMAGES, batch_size=0)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 16, 100])
def test_a_broken_image_is_named_by_its_position_among_all(
    model: ImageEmbedding, tmp_path: Path, batch_size: int
) -> None:
    paths = write_files(tmp_path / "images")
    Path(paths[9]).write_bytes(FILES["transparent.png"][:300])
    expected = [next(model.embed(path)) for path in paths[:9]]
    with pytest.raises(ImageError, match=r"Image 9 \(.*transparent\.png\): Pillow") as failed:
        list(model.embed(iter(paths), batch_size))
    assert (failed.value.position, failed.value.path) == (9, paths[9])
    assert failed.value.__cause__ is not None
    n_before = 9 // batch_size * batch_size
    stream = model.embed(iter(paths), batch_size)
    answers = [next(stream) for _ in range(n_before)]
    np.testing.assert_allclose(answers, expected[:n_before], atol=2e-6)
    with pytest.raises(ImageError):
        next(stream)


def test_how_files_are_read_is_told_by_the_constructor(tmp_path: Path) -> None:
    catalog.add(replace(catalog.find(CLIP, IMAGE), name="own/clip", dim=DIM))
    folder = str(write_image_model(tmp_path))
    turned = FILES["turned.jpg"]
    plain = ImageEmbedding("own/clip", specific_model_path=folder, runtime=ON_CPU)
    upright = ImageEmbedding("own/clip", specific_model_path=folder, runtime=ON_CPU, upright=True)
    assert np.abs(next(plain.embed(turned)) - next(upright.embed(turned))).max() > 0.01
    small = ImageEmbedding("own/clip", specific_model_path=folder, runtime=ON_CPU, max_pixels=100)
    with pytest.raises(ImageError, match="at most 100"):
        next(small.embed(turned))
    with pytest.raises(SettingError, match=r"no option 'rotate'; it has upright, max_pixels"):
        ImageEmbedding(CLIP, specific_model_path=folder, rotate=True)


def test_a_model_of_ones_own_is_known_by_name(tmp_path: Path) -> None:
    folder = str(write_image_model(tmp_path, shape="patches"))
    ImageEmbedding.add_custom_model(
        "tests/own",
        ModelSource(hf="tests/own"),
        DIM,
        "model.onnx",
        pooling="cls",
        normalization=False,
    )
    model = ImageEmbedding("tests/own", specific_model_path=folder, runtime=ON_CPU)
    [vector] = model.embed(IMAGES[0])
    assert vector.shape == (DIM,)
    assert "tests/own" in [known["model"] for known in ImageEmbedding.list_supported_models()]
    with pytest.raises(SettingError, match="already registered"):
        ImageEmbedding.add_custom_model("tests/own", ModelSource(hf="tests/own"), DIM)

"""Images give fastembed's numbers: the pixels of each kind of preprocessing, and the vectors."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastembed_stream
from fastembed_stream import Runtime
from fastembed_stream.pixels import ImageReader, Preprocessing
from tests.fastembed_stream.examples import real_model
from tests.fastembed_stream.tiny_images import (
    CONFIGS,
    FILES,
    IMAGES,
    TILED,
    picture,
    write_files,
    write_image_model,
)
from tests.parity.oracle import close, fastembed

READER = ImageReader(upright=False, max_pixels=10_000_000)
SIZES = ((33, 32), (32, 33), (31, 64), (65, 30), (100, 101), (7, 200), (224, 37))


@pytest.fixture(autouse=True)
def _oracle() -> None:
    fastembed()


def theirs_of(config: dict[str, Any], image: Image.Image) -> Any:
    from fastembed.image.transform.operators import Compose

    [made] = Compose.from_config(config)([image])
    return made


def ours_of(folder: Path, config: dict[str, Any]) -> Preprocessing:
    (folder / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
    return Preprocessing.open(folder, READER)


def both(name: str, folder: Path) -> tuple[Any, fastembed_stream.ImageEmbedding]:
    path = str(folder)
    return (
        fastembed().ImageEmbedding(name, specific_model_path=path, cuda=False, threads=2),
        fastembed_stream.ImageEmbedding(
            name, specific_model_path=path, runtime=Runtime(device="cpu", threads=2)
        ),
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_pixels_agree_for_each_kind_of_preprocessing(tmp_path: Path, name: str) -> None:
    ours = ours_of(tmp_path, CONFIGS[name])
    for content in IMAGES:
        expected = theirs_of(CONFIGS[name], Image.open(io.BytesIO(content)))
        np.testing.assert_allclose(ours.pixels(content), expected, atol=1e-6, rtol=0)
    for width, height in SIZES:
        image = picture(width, height, seed=width)
        expected = theirs_of(CONFIGS[name], image)
        np.testing.assert_allclose(ours.pixels(image), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", TILED)
def test_tiles_agree_for_each_kind_of_splitting(tmp_path: Path, name: str) -> None:
    ours = ours_of(tmp_path, TILED[name])
    sizes = (*SIZES, (16, 16), (15, 17), (64, 64), (63, 64), (16, 48))
    images: list[Any] = [*IMAGES, *(picture(*size, seed=size[0]) for size in sizes)]
    for image in images:
        opened = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else image
        expected = theirs_of(TILED[name], opened)
        np.testing.assert_allclose(ours.tiles(image), np.stack(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "model_file", "shape", "dim"),
    [
        ("Qdrant/clip-ViT-B-32-vision", "model.onnx", "vector", 16),
        ("Qdrant/resnet50-onnx", "model.onnx", "point", 16),
        ("Qdrant/Unicom-ViT-B-16", "model.onnx", "vector", 16),
        ("jinaai/jina-clip-v1", "onnx/vision_model.onnx", "vector", 16),
        ("nomic-ai/nomic-embed-vision-v1.5", "onnx/model.onnx", "patches", 768),
        ("nomic-ai/nomic-embed-vision-v1.5-Q", "onnx/model_quantized.onnx", "patches", 768),
        ("google/siglip2-base-patch16-224", "onnx/vision_model.onnx", "patches", 16),
    ],
)
def test_each_model_takes_the_output_that_fastembed_takes(
    tmp_path: Path, name: str, model_file: str, shape: str, dim: int
) -> None:
    folder = write_image_model(tmp_path / "model", shape=shape, dim=dim, model_file=model_file)
    paths = write_files(tmp_path / "images")
    theirs, ours = both(name, folder)
    close(ours.embed(paths), theirs.embed(paths))


@pytest.mark.parametrize("name", ["CLIP", "SigLIP", "ConvNeXT", "Jina CLIP"])
def test_vectors_agree_for_paths_and_for_images_of_pillow(tmp_path: Path, name: str) -> None:
    folder = write_image_model(tmp_path / "model", CONFIGS[name])
    paths = [Path(path) for path in write_files(tmp_path / "images")]
    theirs, ours = both("Qdrant/clip-ViT-B-32-vision", folder)
    close(ours.embed(paths, batch_size=4), theirs.embed(paths, batch_size=4))
    close(
        ours.embed([Image.open(path) for path in paths]),
        theirs.embed([Image.open(path) for path in paths]),
    )


def test_a_graph_in_half_precision_agrees(tmp_path: Path) -> None:
    folder = write_image_model(tmp_path / "model", half=True)
    paths = write_files(tmp_path / "images")
    theirs, ours = both("Qdrant/clip-ViT-B-32-vision", folder)
    close(ours.embed(paths), theirs.embed(paths), within=1e-3)


def test_a_trained_model_agrees(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "images")
    theirs, ours = both("Qdrant/resnet50-onnx", real_model("image-efficientnet-lite0"))
    close(ours.embed(paths), theirs.embed(paths), within=1e-5)


def test_one_image_is_taken_as_fastembed_takes_it(tmp_path: Path) -> None:
    folder, paths = write_image_model(tmp_path / "model"), write_files(tmp_path / "images")
    theirs, ours = both("Qdrant/clip-ViT-B-32-vision", folder)
    for image in (paths[0], Path(paths[0]), Image.open(paths[0])):
        close(ours.embed(image), theirs.embed(image))
    close(ours.embed(FILES["landscape.jpg"]), theirs.embed(paths[0]))


def test_an_image_that_fastembed_makes_white_keeps_its_shades(tmp_path: Path) -> None:
    config = CONFIGS["SigLIP"] | {"do_normalize": False}
    deep = Image.fromarray(np.linspace(0, 65_535, 1024).reshape(32, 32).astype(np.uint16))
    assert (theirs_of(config, deep) == 1).mean() > 0.9
    assert (ours_of(tmp_path, config).pixels(deep) == 1).mean() < 0.1

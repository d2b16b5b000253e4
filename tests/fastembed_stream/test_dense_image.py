"""An image goes in under the graph's own name for it, and the wanted output comes out."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastembed_stream import IMAGE, DenseImage, OpenModel, Runtime, open_model
from fastembed_stream.errors import ImageError, ModelFilesError, SettingError
from fastembed_stream.families.dense_image import DenseImageFamily
from fastembed_stream.families.images import TOKENS_PER_IMAGE
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.values import Floats, ImageInput
from tests.fastembed_stream.tiny_images import (
    CONFIGS,
    EDGE,
    FILES,
    IMAGES,
    TILED,
    image_row,
    picture,
    write_files,
    write_image_model,
)
from tests.fastembed_stream.tiny_models import DIM

Model = OpenModel[ImageInput, ImageInput, Floats]


def opened(folder: Path, recipe: DenseImage | None = None, **runtime: Any) -> Model:
    how: dict[str, Any] = {"threads": 2, "lanes": 2, "token_budget": 8 * TOKENS_PER_IMAGE} | runtime
    return open_model(image_row(folder, recipe), IMAGE, runtime=Runtime(device="cpu", **how))


def family(model: Model) -> DenseImageFamily:
    assert isinstance(model.documents, OnnxEmbedder)
    assert isinstance(model.documents.family, DenseImageFamily)
    return model.documents.family


def test_pixels_go_in_under_the_name_of_the_graphs_first_input(tmp_path: Path) -> None:
    dense = family(opened(write_image_model(tmp_path)))
    feeds = dense.pack(dense.read(IMAGES[:3]), np.arange(1, 3))
    [(name, pixels)] = feeds.items()
    assert name == "picture"
    assert pixels.dtype == np.float32
    assert pixels.shape == (2, 3, EDGE, EDGE)


def test_reading_decodes_nothing(tmp_path: Path) -> None:
    dense = family(opened(write_image_model(tmp_path)))
    reading = dense.read([b"no image", "nowhere.jpg"])
    assert reading.lengths.tolist() == dense.widths(reading).tolist() == [TOKENS_PER_IMAGE] * 2
    assert (reading.n_rows, reading.truncated_rows, reading.truncated_tokens) == (2, 0, 0)


def test_a_budget_in_tokens_means_so_many_images(tmp_path: Path) -> None:
    dense = family(opened(write_image_model(tmp_path)))
    for n_images in (1, 2, 8):
        assert dense.sample(n_images * TOKENS_PER_IMAGE).n_rows == n_images
    assert dense.sample(1).n_rows == 1
    assert len(dense.pixels(dense.sample(2 * TOKENS_PER_IMAGE), np.arange(2))) == 2


def test_images_that_become_of_unlike_size_never_share_a_group(tmp_path: Path) -> None:
    config = CONFIGS["CLIP"] | {"do_center_crop": False}
    dense = family(opened(write_image_model(tmp_path, config)))
    assert dense.widths(dense.read(IMAGES[:2])).min() > 65_536
    assert dense.sample(100_000).n_rows == 1


@pytest.mark.parametrize(
    ("shape", "size"), [("vector", DIM), ("point", DIM), ("patches", 16 * DIM)]
)
def test_whatever_shape_comes_out_is_one_flat_vector(tmp_path: Path, shape: str, size: int) -> None:
    model = image_row(write_image_model(tmp_path, shape=shape), dim=size)
    [vector] = open_model(model, IMAGE, runtime=Runtime(device="cpu"))([IMAGES[0]])
    assert vector.shape == (size,)
    assert np.linalg.norm(vector) == pytest.approx(1)


def test_the_first_patch_is_the_vector_where_the_recipe_says_so(tmp_path: Path) -> None:
    folder = write_image_model(tmp_path, shape="patches")
    flat = image_row(folder, DenseImage(normalize=False), dim=16 * DIM)
    [all_patches] = open_model(flat, IMAGE, runtime=Runtime(device="cpu"))([IMAGES[0]])
    [first] = opened(folder, DenseImage(pooling="cls", normalize=False))([IMAGES[0]])
    assert np.array_equal(first, all_patches[:DIM])


def test_an_output_is_chosen_by_name_or_position(tmp_path: Path) -> None:
    folder = write_image_model(tmp_path)
    named, second = (
        opened(folder, DenseImage(output=output))([IMAGES[0]])[0] for output in ("pooler_output", 1)
    )
    assert np.array_equal(named, second)
    assert np.abs(named - opened(folder)([IMAGES[0]])[0]).max() > 0.01
    with pytest.raises(SettingError, match=r"'hidden' is not in the graph; it has out, pooler"):
        opened(folder, DenseImage(output="hidden"))


def test_a_turned_image_is_upright_where_the_recipe_says_so(tmp_path: Path) -> None:
    folder, turned = write_image_model(tmp_path), FILES["turned.jpg"]
    [as_fastembed], [upright] = (
        opened(folder, recipe)([turned]) for recipe in (DenseImage(), DenseImage(upright=True))
    )
    assert np.abs(as_fastembed - upright).max() > 0.01


def test_the_limit_of_pixels_is_a_matter_of_the_recipe(tmp_path: Path) -> None:
    folder = write_image_model(tmp_path)
    with pytest.raises(ImageError, match=r"Image 1: .* 64 x 48 pixels; at most 3,000"):
        opened(folder, DenseImage(max_pixels=3000))([IMAGES[2], IMAGES[0]])
    assert DenseImage().max_pixels == 89_478_485
    with pytest.raises(SettingError, match="max_pixels"):
        DenseImage(max_pixels=0)


def test_tiles_are_refused_by_a_model_of_one_vector(tmp_path: Path) -> None:
    folder = write_image_model(tmp_path, TILED["Idefics3"])
    with pytest.raises(ModelFilesError, match=r"splits images into tiles, but .* DenseImage"):
        opened(folder)


def test_a_broken_file_is_named_by_its_position_and_path(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "images")
    Path(paths[4]).write_bytes(b"")
    model = opened(write_image_model(tmp_path / "model"), token_budget=1)
    with pytest.raises(ImageError, match=r"Image 4 \(.*point\.png\): it is empty") as failed:
        model(paths)
    assert (failed.value.position, failed.value.path) == (4, paths[4])
    assert failed.value.__cause__ is not None


@pytest.mark.parametrize("threads", [2, 4])
def test_images_of_a_group_are_decoded_at_once_where_lanes_are_few(
    tmp_path: Path, threads: int
) -> None:
    folder = write_image_model(tmp_path)
    lane_alone, one_lane = family(opened(folder)), family(opened(folder, lanes=1, threads=threads))
    assert lane_alone.decoding.threads is None
    together = threading.Barrier(threads, timeout=30)  # passes when so many decode at a time

    class Slow(bytes):
        __slots__ = ()

    def wait(image: ImageInput) -> Floats:
        together.wait()
        return np.zeros(int(len(str(image)) > 0), dtype=np.float32)

    rows = [Slow(IMAGES[0])] * threads
    made = one_lane.decoding._made(wait, rows, np.arange(threads))
    assert len(made) == threads


def test_decoders_give_what_lanes_give_and_fail_by_the_first_broken_image(tmp_path: Path) -> None:
    folder = write_image_model(tmp_path)
    pictures: list[ImageInput] = [*IMAGES, *(picture(40, 30 + n, seed=n) for n in range(8))]
    expected = opened(folder)(pictures)
    model = opened(folder, lanes=1, threads=3)
    np.testing.assert_allclose(np.stack(model(pictures)), np.stack(expected), atol=2e-6)
    with pytest.raises(ImageError, match="Image 2: "):
        model([*pictures[:2], b"", b"", *pictures])

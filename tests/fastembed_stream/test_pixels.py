"""Any image becomes the right numbers, and what is no image is refused by what is wrong with it."""

from __future__ import annotations

import base64
import errno
import json
import os
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastembed_stream.errors import FastembedStreamError, ImageError, ModelFilesError
from fastembed_stream.pixels import ImageReader, Preprocessing, path_of
from fastembed_stream.pixels import sources as sources_module
from fastembed_stream.pixels.steps import CenterCrop, Fill, LongestEdge, Resize, ShortestEdge
from fastembed_stream.pixels.tiles import WHOLE, Tiling
from tests.fastembed_stream.tiny_images import (
    CONFIGS,
    DEEP,
    FILES,
    IMAGES,
    TILED,
    picture,
    saved,
    write_files,
)

READER = ImageReader(upright=False, max_pixels=1_000_000)
UPRIGHT = ImageReader(upright=True, max_pixels=1_000_000)
JPEG = FILES["landscape.jpg"]
BASE64 = base64.b64encode(JPEG).decode()
IN_BASE64 = ("landscape.jpg", "odd.png", "animated.gif", "lossy.webp", "lossless.tiff")


def opened(folder: Path, config: dict[str, Any], **reader: Any) -> Preprocessing:
    (folder / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
    how: dict[str, Any] = {"upright": False, "max_pixels": 1_000_000} | reader
    return Preprocessing.open(folder, ImageReader(**how))


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.mode == other.mode == "RGB" and np.array_equal(np.asarray(one), np.asarray(other))


def test_pillow_is_not_imported_with_the_package() -> None:
    code = "import fastembed_stream, sys; print('PIL' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "False"


@pytest.mark.parametrize("name", FILES)
def test_an_image_is_the_same_from_wherever_it_comes(tmp_path: Path, name: str) -> None:
    write_files(tmp_path)
    path, content = tmp_path / name, FILES[name]
    packed = base64.b64encode(content).decode()
    expected = READER.rgb(path)
    ways: list[Any] = [str(path), content, f"data:image/any;base64,{packed}", Image.open(path)]
    ways.append(f"DATA:;base64,{packed[:60]}\n{packed[60:]}")
    assert all(same(READER.rgb(way), expected) for way in ways)
    assert [READER.size(way) for way in ways] == [expected.size] * len(ways)


@pytest.mark.parametrize("name", IN_BASE64)
def test_base64_without_a_prefix_is_known_by_how_it_starts(name: str) -> None:
    packed = base64.b64encode(FILES[name]).decode()
    assert path_of(packed) is None
    lines = "\n".join(packed[n : n + 76] for n in range(0, len(packed), 76)) + "\n"
    for text in (packed, packed.rstrip("="), lines):
        assert same(READER.rgb(text), READER.rgb(FILES[name]))


@pytest.mark.parametrize("text", ["/9j/cat", "/9j/" + "a" * 60 + ".jpg", "UklGR.png", "R0lGOD", ""])
def test_a_path_that_starts_like_base64_is_a_path(text: str) -> None:
    assert path_of(text) == text
    with pytest.raises(ImageError):
        READER.rgb(text)


def test_text_too_long_for_a_path_is_not_told_as_one() -> None:
    assert path_of("Qk" + "A" * 100_000) is None
    assert path_of("cat.bmp") == str(path_of(Path("cat.bmp"))) == "cat.bmp"


def test_an_image_of_pillow_stays_open_and_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    path.write_bytes(FILES["palette.png"])
    with Image.open(path) as image:
        READER.rgb(image)
        assert (image.mode, image.size) == ("P", (44, 33))
        assert same(READER.rgb(image), READER.rgb(path))


def test_one_undecoded_image_may_be_read_by_many_threads(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(saved(picture(700, 600), "JPEG"))
    expected = READER.rgb(path)
    for _ in range(5):
        with Image.open(path) as image, ThreadPoolExecutor(8) as threads:
            assert all(same(each, expected) for each in threads.map(READER.rgb, [image] * 16))


def test_an_image_is_turned_upright_only_on_request() -> None:
    turned = FILES["turned.jpg"]
    assert READER.rgb(turned).size == READER.size(turned) == (60, 40)
    assert UPRIGHT.rgb(turned).size == UPRIGHT.size(turned) == (40, 60)
    corner = np.asarray(READER.rgb(turned))[-1, 0]
    assert np.array_equal(np.asarray(UPRIGHT.rgb(turned))[0, 0], corner)
    assert same(UPRIGHT.rgb(JPEG), READER.rgb(JPEG))


def test_grayscale_of_16_bits_keeps_its_shades() -> None:
    shades = np.asarray(READER.rgb(DEEP))
    assert len(np.unique(shades)) == 256
    assert (shades[0, 0] == 0).all()
    assert (shades[-1, -1] == 255).all()
    wide = Image.fromarray(np.array([[0, 256, 65_535]], dtype=np.int32))
    assert np.asarray(READER.rgb(wide))[0, :, 0].tolist() == [0, 1, 255]


def test_of_an_animation_the_first_frame_counts() -> None:
    first = Image.open(sources_module._file(FILES["animated.gif"]))
    assert same(READER.rgb(FILES["animated.gif"]), first.convert("RGB"))


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (b"", r"it is empty \(0 bytes\); expected an image file"),
        (b"hello, no image", r"starts with the bytes b'hello, n'"),
        (JPEG[: len(JPEG) // 2], r"image file is truncated.*send it again"),
        (FILES["odd.png"][:-400], r"Pillow cannot read it"),
        (FILES["odd.png"][:60] + b"\0" * 900, r"Pillow cannot read it"),
        (JPEG[:2], r"of the format JPEG, but damaged or cut off.*its 2 bytes"),
        ("nowhere/cat.jpg", r"no such file"),
        (Path("nowhere"), r"no such file"),
        ("a" * 5000 + ".jpg", r"opened: File name too long\. Text that holds"),
        ("nul\0.jpg", r"null (byte|character)"),
        (Path("/"), r"cannot be opened: Is a directory"),
        ("https://example.org/cat.jpg", r"a URL, which is not fetched here"),
        ("data:image/png,rawtext", r"expected 'data:image/\.\.\.;base64,'"),
        ("data:image/png;base64,", r"it is empty"),
        ("data:image/png;base64,A", r"not base64"),
        (f"data:;base64,{BASE64[:400]}", r"Pillow cannot read it|truncated"),
        (None, r"of type NoneType; expected a path, bytes"),
        (7, r"of type int"),
        (np.zeros((4, 4, 3)), r"of type ndarray"),
        (Image.new("RGB", (0, 5)), r"it is 0 x 5 pixels"),
        (Image.new("La", (5, 5)), r"Pillow cannot read it \(ValueError: conversion"),
        (Image.new("RGB", (1001, 1000)), r"1001 x 1000 pixels; at most 1,000,000"),
        (saved(Image.new("1", (1001, 1000)), "PNG"), r"at most 1,000,000 are read.*max_pixels"),
    ],
)
def test_what_cannot_be_used_is_refused_by_what_is_wrong_with_it(image: Any, told: str) -> None:
    with pytest.raises(ImageError, match=told) as failed:
        READER.rgb(image)
    assert isinstance(failed.value, FastembedStreamError | ValueError)
    assert len(str(failed.value)) < 700


def test_a_program_is_no_image() -> None:
    postscript = saved(picture(8, 8), "EPS")
    assert postscript.startswith(b"%!PS")
    with pytest.raises(ImageError, match="expected an image file, one of"):
        READER.rgb(postscript)


def test_any_damage_to_a_file_is_an_image_error_or_an_image() -> None:
    random = np.random.default_rng(0)
    for content in IMAGES:
        for _ in range(25):
            damaged = bytearray(content)
            for place in random.integers(0, len(damaged), 8):
                damaged[place] = random.integers(0, 256)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow tells of odd metadata
                with suppress(ImageError):
                    assert READER.rgb(bytes(damaged)).mode == "RGB"


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = saved(Image.new("1", (30_000, 30_000)), "PNG")
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"could be decompression bomb DOS attack"):
        ImageReader(upright=False, max_pixels=10**10).rgb(bomb)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match=r"30000 x 30000 pixels; at most 1,000,000"):
        READER.rgb(bomb)


def test_a_thin_image_is_refused_where_resizing_would_blow_it_up(tmp_path: Path) -> None:
    config = CONFIGS["CLIP"] | {"size": {"shortest_edge": 224}}
    thin = saved(Image.new("L", (60_000, 1)), "PNG")
    with pytest.raises(ImageError, match=r"resized to, 13440000 x 224 pixels"):
        opened(tmp_path, config).pixels(thin)
    tiled = opened(tmp_path, TILED["Idefics3, not resized"], max_pixels=1000)
    for refused in (tiled.grid, tiled.tiles):
        with pytest.raises(ImageError, match=r"resized to, 176 x 16 pixels"):
            refused(picture(170, 2))


def test_lack_of_memory_and_outages_are_not_the_images_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(error: Exception) -> None:
        def failing(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(Image, "open", failing)

    for error in (MemoryError(), OSError(errno.EMFILE, "Too many"), OSError(errno.EIO, "I/O")):
        fails(error)
        with pytest.raises(type(error)) as failed:
            READER.rgb(tmp_path / "a.jpg")
        assert failed.value is error
    fails(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    with pytest.raises(ImageError, match="cannot be opened: Permission denied"):
        READER.rgb(tmp_path / "a.jpg")


def test_an_error_travels_between_processes_with_its_place() -> None:
    error = ImageError("it is empty.").at(4, "cat.jpg")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  our own
    assert str(copy) == str(error) == "Image 4 (cat.jpg): it is empty."
    assert (copy.reason, copy.position, copy.path) == ("it is empty.", 4, "cat.jpg")
    assert str(ImageError("it is empty.")) == "Image: it is empty."
    assert copy.at(9).path == "cat.jpg"


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (31, 33), (1, 90), (200, 3), (33, 33)])
@pytest.mark.parametrize(
    "step",
    [
        Resize(width=9, height=12, resample=2),
        ShortestEdge(edge=20, resample=3),
        LongestEdge(edge=33, resample=1),
        CenterCrop(width=31, height=34),
        Fill(edge=32, color=0),
        Tiling(edge=16, resample=1, split=True),
        Tiling(edge=16, resample=1, split=False),
    ],
)
def test_a_step_tells_beforehand_the_size_that_it_gives(step: Any, size: tuple[int, int]) -> None:
    made = step(picture(*size))
    if isinstance(step, Tiling):
        width, height = step.size(size)
        rows, columns = step.grid(size)
        assert len(made) == step.n_tiles((rows, columns)) == rows * columns + 1
        assert {tile.size for tile in made} == {(16, 16)}
        assert (width, height) == (16 * max(columns, 1), 16 * max(rows, 1))
        return
    assert made.size == step.size(size)
    assert not step.gives_one_size or step.size(size) == step.size((100, 7))


def test_a_crop_of_a_smaller_image_is_black_around_it() -> None:
    cropped = np.asarray(CenterCrop(width=6, height=5)(Image.new("RGB", (3, 2), "white")))
    assert cropped[..., 0].tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 255, 255, 255, 0],
        [0, 0, 255, 255, 255, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_the_colour_of_a_square_may_be_told_by_channel(tmp_path: Path) -> None:
    config = CONFIGS["Jina CLIP, not resized"] | {"fill_color": [0, 51, 255], "mean": 0, "std": 1}
    corner = opened(tmp_path, config).pixels(picture(3, 3))[:, -1, -1]
    np.testing.assert_allclose(corner, [0, 0.2, 1], atol=1e-6)


def test_an_image_that_fits_one_tile_is_whole(tmp_path: Path) -> None:
    made = opened(tmp_path, TILED["Idefics3, not resized"])
    assert made.grid(picture(16, 16)) == made.grid(picture(3, 9)) == WHOLE
    assert made.grid(picture(32, 16)) == (1, 2)
    assert made.grid(picture(17, 16)) == (2, 2)
    assert made.grid(picture(16, 33)) == (3, 2)
    assert made.tiles(picture(16, 33)).shape == (7, 3, 16, 16)
    assert opened(tmp_path, TILED["Idefics3, not split"]).grid(picture(99, 16)) == WHOLE


@pytest.mark.parametrize(
    ("told", "like"),
    [
        ({"image_processor_type": "CLIPImageProcessorFast"}, {}),
        ({"image_processor_type": "BitImageProcessor"}, {}),
        ({"image_processor_type": "ViTImageProcessor"}, {"resample": 2}),
        ({"resample": "bicubic"}, {"resample": 3}),
    ],
)
def test_processors_that_fastembed_does_not_know_are_followed(
    tmp_path: Path, told: dict[str, Any], like: dict[str, Any]
) -> None:
    plain = {key: value for key, value in CONFIGS["CLIP"].items() if key != "resample"}
    image = picture(70, 50)
    expected = opened(tmp_path, plain | like).pixels(image)
    assert np.array_equal(opened(tmp_path, plain | told).pixels(image), expected)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"image_processor_type": "OddImageProcessor"}, r"'OddImageProcessor'; known are CLIP"),
        ({"do_resize": True}, r"no usable 'size'"),
        ({"do_resize": True, "size": {"longest_edge": 9}}, r"no usable 'width'"),
        ({"do_center_crop": True, "crop_size": "big"}, r"cannot be followed"),
        ({"do_normalize": True}, r"no usable 'image_mean'"),
        ({"do_normalize": True, "image_mean": [0, 1], "image_std": 1}, r"mean has 2 numbers"),
        ({"do_resize": True, "size": {"shortest_edge": 9}, "resample": 7}, r"resample is 7"),
        (TILED["Idefics3"] | {"size": {"height": 9}}, r"no usable 'longest_edge'"),
        ([], r"cannot be followed"),
    ],
)
def test_a_file_that_cannot_be_followed_is_refused_when_it_is_opened(
    tmp_path: Path, config: Any, told: str
) -> None:
    with pytest.raises(ModelFilesError, match=told):
        opened(tmp_path, config)


def test_a_folder_that_does_not_say_how_to_make_pixels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"No preprocessor_config\.json in model folder"):
        Preprocessing.open(tmp_path, READER)
    (tmp_path / "preprocessor_config.json").write_text("{half", encoding="utf-8")
    with pytest.raises(ModelFilesError, match=r"cannot be followed: Expecting"):
        Preprocessing.open(tmp_path, READER)

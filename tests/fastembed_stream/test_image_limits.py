"""What an image costs to decode is known from its file, and refused before it is paid."""

from __future__ import annotations

import io
import logging
import struct
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, TiffImagePlugin

from fastembed_stream.errors import ImageError
from fastembed_stream.pixels import ImageReader
from tests.fastembed_stream.hostile_images import (
    HOSTILE,
    avif_that_lies,
    icon,
    j2k,
    jpeg_of_scans,
    png,
    tiff_of_a_tile,
    tiff_of_tags,
    with_coding,
)
from tests.fastembed_stream.tiny_images import FILES, picture, saved

READER = ImageReader(upright=False, max_pixels=1_000_000)

OPENED_FIRST = {"GIF, a frame larger than the screen"}
"""Whose size is told by Pillow, which opens them without decoding."""


def ordinary() -> dict[str, bytes]:
    """Make files of all kinds, as programs write them."""
    image, rgba = picture(300, 200), picture(300, 200).convert("RGBA")
    tiffs: dict[str, Any] = {
        f"TIFF, {kind}": saved(image, "TIFF", compression=kind)
        for kind in ("raw", "packbits", "tiff_lzw", "tiff_deflate", "jpeg", "zstd")
    }
    kinds: dict[str, bytes] = {
        "JPEG, progressive": saved(image, "JPEG", progressive=True, quality=97, subsampling=0),
        "JPEG, 90 more scans": jpeg_of_scans(90),
        "JPEG, with what a camera adds": saved(
            image, "JPEG", exif=_exif(), icc_profile=bytes(200_000), comment=b"x" * 60_000
        ),
        "MPO": saved(image, "MPO", save_all=True, append_images=[image, image]),
        "PNG, transparent": saved(rgba, "PNG", icc_profile=bytes(9_000)),
        "PNG, moving": saved(rgba, "PNG", save_all=True, append_images=[rgba, rgba]),
        "GIF": saved(image.convert("P"), "GIF", comment=b"x" * 3_000),
        "WEBP, with metadata": saved(rgba, "WEBP", exif=_exif(), icc_profile=bytes(900)),
        "WEBP, moving": saved(image, "WEBP", save_all=True, append_images=[image]),
        "AVIF, transparent": saved(rgba, "AVIF", exif=_exif(), xmp=b"<x/>" * 99),
        "AVIF, moving": saved(rgba, "AVIF", save_all=True, append_images=[rgba, rgba]),
        "AVIF, 4:4:4": saved(image, "AVIF", subsampling="4:4:4", quality=99),
        "JPEG2000": saved(image, "JPEG2000"),
        "JPEG2000, tiles and layers": saved(
            image, "JPEG2000", tile_size=(128, 128), quality_layers=[80, 40, 20, 1]
        ),
        "JPEG2000, precincts": saved(
            rgba, "JPEG2000", precinct_size=(64, 64), codeblock_size=(16, 16), progression="RPCL"
        ),
        "JPEG2000, gray stream": saved(image.convert("L"), "JPEG2000", no_jp2=True),
        "TIFF, group 4": saved(image.convert("1"), "TIFF", compression="group4"),
        "TIFF, several": saved(image, "TIFF", save_all=True, append_images=[image, image]),
        "TIFF, BigTIFF": saved(image, "TIFF", big_tiff=True),
        "TIFF, a tile over the edge": tiff_of_a_tile(512),
        "ICO": saved(rgba, "ICO"),
        "ICO, bitmaps": saved(rgba, "ICO", bitmap_format="bmp"),
        "ICO, larger than told": icon(png(300, 300)),
        "BMP": saved(image.convert("P"), "BMP"),
        "DIB": saved(image, "DIB"),
        "PPM": saved(image, "PPM"),
        "PPM, plain": b"P3 # a comment\n2 1\n255\n1 2 3 4 5 6\n",
        "TGA": saved(rgba, "TGA", compression="tga_rle"),
    }
    return kinds | tiffs | FILES


def _exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description"
    exif[0x0132] = "2026:11:25 10:00:00"
    return exif


ORDINARY = ordinary()


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_file_is_read_as_pillow_reads_it(name: str, tmp_path: Path) -> None:
    content = ORDINARY[name]
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    path = tmp_path / "image"
    path.write_bytes(content)
    for image in (content, path, Image.open(path), Image.open(io.BytesIO(content))):
        assert np.array_equal(np.asarray(READER.rgb(image)), expected)
        assert READER.size(image) == expected.shape[1::-1]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_before_anything_is_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content, told = HOSTILE[name]
    path = tmp_path / "image"
    path.write_bytes(content)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    if name not in OPENED_FIRST:
        monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    for read in (READER.rgb, READER.size):
        for image in (content, path):
            with pytest.raises(ImageError, match=told):
                read(image)


def test_a_scan_is_counted_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert READER.rgb(jpeg_of_scans(94)).size == (64, 64), "with the encoder's own six"
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"more than 100 scans"):
        READER.rgb(jpeg_of_scans(95))


def test_what_follows_the_end_of_a_jpeg_is_not_its_work() -> None:
    whole = FILES["landscape.jpg"]
    assert READER.rgb(whole + jpeg_of_scans(500)).size == (64, 48)


def test_markers_within_segments_and_data_are_no_scans() -> None:
    whole = FILES["landscape.jpg"]
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 4_000) + b"\xff\xda" * 2_000
    assert READER.rgb(whole[:2] + comment + whole[2:]).size == (64, 48)


def test_an_image_that_the_caller_opened_is_checked_before_it_is_decoded() -> None:
    for content in (jpeg_of_scans(200), tiff_of_a_tile(2_048), avif_that_lies(64, 2_048)):
        with (
            Image.open(io.BytesIO(content)) as hostile,
            pytest.raises(ImageError, match=r"more than 100 scans|decodes to 2048 x 2048"),
        ):
            READER.rgb(hostile)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"P3 2000 1500 255\n0 0 0", "a PPM of plain numbers with 9,000,000 samples"),
        (b"P6 2000 1500 254\n" + bytes(9), "a PPM whose brightest is not 255 with 9,000,000"),
        (b"P6 20#\n00 1500 254\n" + bytes(9), "a PPM whose brightest is not 255 with 9,000,000"),
    ],
)
def test_what_python_would_decode_is_refused_where_it_is_much(content: bytes, told: str) -> None:
    with pytest.raises(ImageError, match=told):
        ImageReader(upright=False, max_pixels=89_000_000).rgb(content)


def test_runs_of_a_bitmap_are_refused_where_they_are_many() -> None:
    whole = bytearray(saved(Image.new("P", (2_900, 2_900)), "BMP"))
    whole[30] = 1
    in_icon = bytearray(whole[14:])
    in_icon[8:12] = struct.pack("<i", 5_800)
    for content in (bytes(whole), icon(bytes(in_icon))):
        with pytest.raises(ImageError, match="a bitmap of run lengths with 8,410,000 samples"):
            ImageReader(upright=False, max_pixels=89_000_000).rgb(content)


def test_a_raw_map_of_the_same_size_is_read() -> None:
    content = b"P6 2000 1500 255\n" + bytes(9_000_000)
    assert ImageReader(upright=False, max_pixels=89_000_000).rgb(content).size == (2_000, 1_500)


def test_coding_of_a_component_or_a_tile_is_checked_too() -> None:
    plain = j2k(900, 900)
    at = plain.index(b"\xff\x52")
    length = 2 + int.from_bytes(plain[at + 2 : at + 4], "big")
    component = b"\xff\x53" + struct.pack(">HBBBBBBB", 15, 1, 1, 5, 4, 4, 0, 1) + b"\x11" * 6
    coded = with_coding(plain, precincts=b"\x11" * 6)
    in_tile = coded[at : at + 20]
    tile = plain.index(b"\xff\x90")
    for content in (
        plain[: at + length] + component + plain[at + length :],
        plain[: tile + 12] + in_tile + plain[tile + 12 :],
    ):
        with pytest.raises(ImageError, match=r"[\d,]+ precincts; at most"):
            READER.rgb(content)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_exif_is_read_where_it_is_short_and_asked_for(kind: str) -> None:
    long = saved(picture(60, 40), kind, exif=b"Exif\0\0II*\0" + bytes(300_000))
    upright = replace(READER, upright=True)
    assert READER.rgb(long).size == READER.size(long) == (60, 40)
    for read in (upright.rgb, upright.size):
        with pytest.raises(ImageError, match=r"has 300,0\d\d bytes of EXIF; at most 131,072"):
            read(long)
    turned = saved(picture(60, 40), kind, exif=_exif(orientation=6))
    assert upright.rgb(turned).size == upright.size(turned) == (40, 60)


def test_what_breaks_off_is_told_so_where_pillow_might_go_on() -> None:
    for content in (ORDINARY["AVIF, transparent"][:200], ORDINARY["TIFF, BigTIFF"][:9]):
        with pytest.raises(ImageError, match=r"breaks off|cannot read it"):
            READER.rgb(content)


class TestQuiet:
    def test_tags_of_a_file_do_not_flood_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        odd = tiff_of_tags(2_000, count=100_000)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert READER.rgb(odd).size == (8, 8)
            assert (told, caplog.records) == ([], [])
            Image.open(io.BytesIO(odd))
            assert told, "who reads it without us is told"
        assert caplog.records

    def test_nothing_is_remembered_of_what_is_not_told(self) -> None:
        registry = vars(sys.modules[TiffImagePlugin.__name__]).get("__warningregistry__", {})
        before = len(registry)
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            READER.rgb(tiff_of_tags(500, count=100_000))
        registry = vars(sys.modules[TiffImagePlugin.__name__]).get("__warningregistry__", {})
        assert len(registry) <= before + 1

    def test_warnings_of_others_stay(self) -> None:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            READER.rgb(FILES["odd.png"])
            warnings.warn("of somebody else", UserWarning, stacklevel=1)
        assert [str(one.message) for one in told] == ["of somebody else"]

    def test_one_filter_is_enough(self) -> None:
        with warnings.catch_warnings():
            for _ in range(5):
                warnings.simplefilter("default")
                warnings.filterwarnings("ignore", message="another one")
                READER.rgb(FILES["odd.png"])
            ours = [one for one in warnings.filters if "quiet" in type(one[3]).__module__]
            assert len(ours) == 1

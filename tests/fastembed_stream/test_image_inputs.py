"""Images come from open files and from all that holds bytes; a damaged one is told as damaged."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features
from typing_extensions import override

from fastembed_stream import (
    IMAGE,
    LATE_MULTIMODAL,
    DenseImage,
    ImageEmbedding,
    Runtime,
    catalog,
    open_model,
)
from fastembed_stream.errors import ImageError
from fastembed_stream.pixels import ImageReader
from tests.fastembed_stream.tiny_images import (
    FILES,
    colmodernvbert_row,
    picture,
    saved,
    write_colmodernvbert,
    write_image_model,
)
from tests.fastembed_stream.tiny_models import row

PNG = FILES["odd.png"]
ON_CPU = Runtime(device="cpu", threads=2)
READER = ImageReader(upright=False, max_pixels=10_000_000)


class Forward:
    """Something that is read once, from where it stands, such as an answer over HTTP."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def read(self, size: int = -1) -> Any:
        del size
        content, self._content = self._content, b""
        return content


def _images(folder: Path) -> Any:
    return open_model(row(write_image_model(folder), DenseImage()), IMAGE, runtime=ON_CPU)


def _pages(folder: Path) -> Any:
    model = colmodernvbert_row(write_colmodernvbert(folder))
    return open_model(model, LATE_MULTIMODAL, runtime=ON_CPU)


@pytest.mark.parametrize("opened", [_images, _pages])
def test_all_that_holds_the_bytes_of_an_image_gives_the_same(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "odd.png").write_bytes(PNG)
    embed = opened(tmp_path / "model")
    [expected] = embed([PNG])
    read = io.BytesIO(PNG)
    read.read(20)
    with (tmp_path / "odd.png").open("rb") as file, tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(PNG)
        rows = [
            bytearray(PNG),
            memoryview(PNG),
            memoryview(PNG + PNG)[: len(PNG)],
            io.BytesIO(PNG),
            read,
            file,
            file,
            spooled,
            Forward(PNG),
            Forward(bytearray(PNG)),
            *(entry for entry in tmp_path.iterdir() if entry.suffix == ".png"),
        ]
        for vector in embed(rows):
            np.testing.assert_allclose(vector, expected, atol=1e-6)
        assert (read.tell(), file.tell(), spooled.tell()) == (20, 0, len(PNG))
        assert [each.closed for each in (read, file, spooled)] == [False] * 3
        [streamed] = embed.stream(iter([file]), window=1)
        np.testing.assert_allclose(streamed, expected, atol=1e-6)


def test_the_class_takes_one_open_file_as_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))
    catalog.add(row(write_image_model(tmp_path), DenseImage(), name="own/images"))
    model = ImageEmbedding("own/images", runtime=ON_CPU)
    [expected] = model.embed(PNG)
    for one in (io.BytesIO(PNG), bytearray(PNG), memoryview(PNG), Forward(PNG)):
        [vector] = model.embed(one)
        np.testing.assert_allclose(vector, expected, atol=1e-6)


def test_bytes_that_change_after_the_call_started_change_nothing(tmp_path: Path) -> None:
    embed = _images(tmp_path)
    [expected] = embed([PNG])
    content = bytearray(PNG)
    reading = embed.documents.family.read([content])
    content[:] = b"\0" * len(content)
    feeds = embed.documents.family.pack(reading, np.zeros(1, dtype=np.int64))
    [session] = embed.documents.sessions
    [vector] = embed.documents.family.finish(session.run(["out"], feeds), feeds)
    np.testing.assert_allclose(vector, expected, atol=1e-6)


def _closed() -> io.BytesIO:
    file = io.BytesIO(PNG)
    file.close()
    return file


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda _: io.StringIO("text"), r"opened as text; open it in binary mode, such as 'rb'"),
        (lambda path: path.open(encoding="latin-1"), r"opened as text"),
        (lambda _: _closed(), r"its file cannot be read: I/O operation on closed file\. Hand in"),
        (lambda path: (path.parent / "new").open("wb"), r"it is open for writing only\. Hand in"),
        (lambda _: Forward("text"), r"its read\(\) gave str; expected bytes"),
        (lambda _: Forward(None), r"its read\(\) gave NoneType; expected bytes"),
        (lambda _: io.BytesIO(b""), r"it is empty \(0 bytes\)"),
        (lambda _: bytearray(), r"it is empty \(0 bytes\)"),
        (lambda _: io.BytesIO(b"no image"), r"starts with the bytes b'no image'"),
    ],
)
@pytest.mark.parametrize("opened", [_images, _pages])
def test_a_file_that_gives_no_image_is_named(
    opened: Any, tmp_path: Path, make: Any, told: str
) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(PNG)
    embed = opened(tmp_path / "model")
    with pytest.raises(ImageError, match=rf"^Image 2: .*{told}"):
        embed([PNG, PNG, make(path)])
    stream = embed.stream([PNG, PNG, make(path), PNG], window=2)
    assert len([next(stream), next(stream)]) == 2
    with pytest.raises(ImageError, match=rf"^Image 2: .*{told}"):
        next(stream)


def test_an_outage_of_the_disk_is_no_images_fault(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        @override
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error") as failed:
        _images(tmp_path)([Broken(PNG)])
    assert not isinstance(failed.value, ImageError)


KINDS = ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "PPM", "JPEG2000"]


@pytest.mark.parametrize("kind", [*KINDS, *(["AVIF"] if features.check("avif") else [])])
def test_a_damaged_file_is_told_as_damaged_and_never_as_another_kind(kind: str) -> None:
    whole = saved(picture(40, 30), kind)
    n_named = 0
    for n_bytes in (*range(16, 80, 7), len(whole) // 2):
        for cut in (whole[:n_bytes], whole[:n_bytes] + b"\xff" * 200):
            try:
                READER.rgb(cut)
            except ImageError as error:
                told = str(error)
                assert "starts with the bytes" not in told
                assert "expected an image file" not in told
                n_named += f"of the format {kind}, but damaged or cut off" in told
                assert "damaged or cut off" in told or "Expected a whole file" in told
    assert n_named or kind in {"PPM", "BMP", "TIFF", "GIF", "ICO", "WEBP"}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "JPEG2000"])
def test_a_file_that_ends_within_its_signature_is_told_as_cut_off(kind: str) -> None:
    whole = saved(picture(40, 30), kind)
    for n_bytes in range(4 if kind == "JPEG2000" else 2, 12):
        with pytest.raises(ImageError) as failed:
            READER.rgb(whole[:n_bytes])
        assert "starts with the bytes" not in str(failed.value)


def test_the_message_for_a_damaged_png_says_what_is_known(tmp_path: Path) -> None:
    damaged = PNG[:8] + b"\0" * 100
    for image in (damaged, io.BytesIO(damaged)):
        with pytest.raises(ImageError, match=r"format PNG, but damaged or cut off.*its 108 bytes"):
            READER.rgb(image)
    path = tmp_path / "cat.png"
    path.write_bytes(damaged)
    with pytest.raises(ImageError, match=r"Image 0 \(.*cat.png\): it is of the format PNG"):
        _images(tmp_path / "model")([path])


def test_a_kind_that_is_not_read_here_is_named() -> None:
    for kind, told in (("EPS", "EPS"), ("SGI", "SGI")):
        content = saved(Image.new("RGB", (8, 8)), kind)
        with pytest.raises(ImageError, match=f"of the format {told}, which is not read here"):
            READER.rgb(content)

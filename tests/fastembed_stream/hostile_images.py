"""Files of some bytes that ask for hours or gigabytes, one way for each way that was found."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, TypeAlias

from PIL import Image

from tests.fastembed_stream.tiny_images import picture, saved

__all__ = ["HOSTILE", "jpeg_of_scans", "tiff"]

Tag: TypeAlias = tuple[int, str, Sequence[int]]

_EMPTY_SCAN = bytes.fromhex("ffda00080101000 13f00".replace(" ", ""))
"""Of the first component's 63 frequencies, without data."""


def jpeg_of_scans(n_scans: int, edge: int = 64, *, gray: bool = True) -> bytes:
    """Make a progressive JPEG that passes over its pixels some more times."""
    image = picture(edge, edge).convert("L" if gray else "RGB")
    whole = saved(image, "JPEG", progressive=True)
    return whole[:-2] + _EMPTY_SCAN * n_scans + whole[-2:]


def _sequential_of_scans(n_scans: int) -> bytes:
    whole = saved(picture(64, 64).convert("L"), "JPEG")
    scan = bytes.fromhex("ffda0008010100003f00")
    return whole[:-2] + scan * n_scans + whole[-2:]


def _jpeg_with(before: bytes) -> bytes:
    whole = saved(picture(8, 8), "JPEG")
    return whole[:2] + before + whole[2:]


def _jpeg_of_two_sizes() -> bytes:
    whole = saved(picture(64, 64), "JPEG")
    frame = whole.index(b"\xff\xc0")
    length = int.from_bytes(whole[frame + 2 : frame + 4], "big")
    segment = bytearray(whole[frame : frame + 2 + length])
    # The one that Pillow takes its size from.
    segment[1], segment[5:9] = 0xDE, struct.pack(">HH", 8, 8)
    return whole[: frame + 2 + length] + bytes(segment) + whole[frame + 2 + length :]


def _chunk(name: bytes, content: bytes = b"") -> bytes:
    checked = name + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def _png_head(width: int, height: int) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))


def png(width: int = 8, height: int = 8, before: bytes = b"", after: bytes = b"") -> bytes:
    """Make a gray PNG, black all over."""
    rows = zlib.compress(bytes((1 + width) * height), 9)
    head = b"\x89PNG\r\n\x1a\n" + _png_head(width, height) + before
    return head + _chunk(b"IDAT", rows) + after + _chunk(b"IEND")


_MEGABYTE = zlib.compress(bytes(1_000_000), 9)

_TYPES = {"B": (1, 1), "H": (3, 2), "I": (4, 4), "i": (9, 4)}


def tiff(*tags: Tag, body: bytes = b"") -> bytes:
    """Make a TIFF of some tags over a body, which starts at byte 8."""
    body += b"\0" * (len(body) % 2)
    entries, values = b"", b""
    first_value = 8 + len(body) + 2 + 12 * len(tags) + 4
    for tag, form, numbers in tags:
        kind, size = _TYPES[form]
        content = struct.pack(f"<{len(numbers)}{form}", *numbers)
        place = content.ljust(4, b"\0")
        if len(numbers) * size > 4:
            place = struct.pack("<I", first_value + len(values))
            values += content
        entries += struct.pack("<HHI", tag, kind, len(numbers)) + place
    head = b"II*\0" + struct.pack("<I", 8 + len(body)) + body
    return head + struct.pack("<H", len(tags)) + entries + bytes(4) + values


def _size(width: int, height: int, *, packed: bool = False, bits: int = 8) -> list[Tag]:
    kind = 8 if packed else 1
    return [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [bits]),
        (259, "H", [kind]),
        (262, "H", [1]),
    ]


def tiff_of_a_tile(edge: int, form: str = "I") -> bytes:
    """Make a TIFF of 10 x 10 pixels in one tile of the edge given."""
    body = zlib.compress(bytes(edge * edge), 9)
    tile: list[Tag] = [
        (322, form, [edge]),
        (323, form, [edge]),
        (324, "I", [8]),
        (325, "I", [len(body)]),
    ]
    return tiff(*_size(10, 10, packed=True), *tile, body=body)


def _tiff_of_rows(n_rows: int) -> bytes:
    strips: list[Tag] = [(273, "I", [8] * n_rows), (278, "I", [1]), (279, "I", [1] * n_rows)]
    return tiff(*_size(1, n_rows), *strips, body=bytes(1))


def _tiff_of_strips(n_strips: int) -> bytes:
    strips: list[Tag] = [
        (273, "I", [8] * n_strips),
        (278, "I", [1]),
        (279, "I", [80] * 2),
    ]
    return tiff(*_size(640, 2, bits=1), *strips, body=bytes(80))


def tiff_of_tags(n_tags: int, *, count: int = 1) -> bytes:
    """Make a TIFF with unknown tags; with a high count their values are not in the file."""
    strip: list[Tag] = [(273, "I", [8]), (278, "I", [8]), (279, "I", [64])]
    odd: list[Tag] = [(30_000 + n, "B", [1]) for n in range(n_tags)]
    made = tiff(*_size(8, 8), *strip, *odd, body=bytes(64))
    one, many = struct.pack("<HI", 1, 1), struct.pack("<HI", 1, count)
    return made.replace(one, many) if count > 1 else made


def _tiff_of_shared_bytes(*, in_exif: bool = False) -> bytes:
    strip: list[Tag] = [(273, "I", [8]), (278, "I", [8]), (279, "I", [64])]
    shared = b"".join(struct.pack("<HHII", 30_000 + n, 7, 60_000, 8) for n in range(20))
    exif = struct.pack("<H", 20) + shared + bytes(4)
    body = exif + bytes(60_000)
    if in_exif:
        return tiff(*_size(8, 8), *strip, (34_665, "I", [8]), body=body)
    made = tiff(*_size(8, 8), *strip, *[(30_000 + n, "B", [1]) for n in range(20)], body=body)
    for n in range(20):
        told = struct.pack("<HHIBxxx", 30_000 + n, 1, 1, 1)
        made = made.replace(told, struct.pack("<HHII", 30_000 + n, 7, 60_000, 8))
    return made


def icon(*images: bytes) -> bytes:
    """Make an icon whose entries tell the size 16 x 16."""
    at = 6 + 16 * len(images)
    entries = b""
    for image in images:
        entries += struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(image), at)
        at += len(image)
    return struct.pack("<HHH", 0, 1, len(images)) + entries + b"".join(images)


def _dib(width: int, height: int, compression: int = 0, content: bytes = b"") -> bytes:
    palette = b"".join(bytes([n, 0, n, 0]) for n in range(256))
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, len(content), *[0] * 4)
    return head + palette + content


def _bmp(width: int, height: int, compression: int, content: bytes) -> bytes:
    dib = _dib(width, height, compression, content)
    start = 14 + len(dib) - len(content)
    return b"BM" + struct.pack("<IHHI", 14 + len(dib), 0, 0, start) + dib


def j2k(width: int = 512, height: int = 512, tile: tuple[int, int] | None = None) -> bytes:
    """Make a code stream that tells another size than it was written with."""
    made = bytearray(saved(Image.new("RGB", (512, 512), "red"), "JPEG2000", no_jp2=True))
    at = made.index(b"\xff\x51") + 6
    struct.pack_into(">8I", made, at, width, height, 0, 0, *(tile or (width, height)), 0, 0)
    return bytes(made)


def with_coding(
    stream: bytes,
    *,
    n_layers: int = 1,
    n_levels: int = 5,
    block: int = 4,
    precincts: bytes = b"",
    progression: int = 0,
) -> bytes:
    """Put another COD into a code stream."""
    at = stream.index(b"\xff\x52")
    length = int.from_bytes(stream[at + 2 : at + 4], "big")
    content = struct.pack(
        ">BBHBBBBBB", bool(precincts), progression, n_layers, 1, n_levels, block, block, 0, 1
    )
    content += precincts
    segment = b"\xff\x52" + struct.pack(">H", 2 + len(content)) + content
    return stream[:at] + segment + stream[at + 2 + length :]


def _j2k_of_planes(width: int, height: int) -> bytes:
    whole = bytearray(j2k(width, height))
    at = whole.index(b"\xff\x5c") + 5
    whole[at] = 30 << 3
    return bytes(whole)


def _jp2_of_another_size() -> bytes:
    whole = saved(Image.new("RGB", (16, 16), "red"), "JPEG2000")
    at = whole.index(b"jp2c") - 4
    # A box between hides the code stream from Pillow's own look at it.
    return whole[:at] + struct.pack(">I4s", 8, b"free") + whole[at : at + 8] + j2k(20_000, 20_000)


def _avif(width: int, height: int, **how: Any) -> bytes:
    return saved(Image.new("RGB", (width, height), "red"), "AVIF", speed=10, **how)


def avif_that_lies(told: int, edge: int) -> bytes:
    """Make an AVIF whose box tells one size and whose frames have another."""
    whole = _avif(edge, edge)
    at = whole.index(b"ispe") + 8
    return whole[:at] + struct.pack(">II", told, told) + whole[at + 8 :]


def _avif_of_frames(n_frames: int) -> bytes:
    """Repeat the frame of an image, at its end, where its item grows."""
    whole = _avif(256, 256)
    start, length = struct.unpack(">II", whole[whole.index(b"iloc") + 18 :][:8])
    units, at = [], start
    while at < start + length:
        assert whole[at] & 2
        assert whole[at + 1] < 0x80
        units.append(whole[at : at + 2 + whole[at + 1]])
        at += 2 + whole[at + 1]
    more = units[-1] * n_frames
    grown = struct.pack(">II", start, length + len(more))
    return whole.replace(struct.pack(">II", start, length), grown) + more


def _avif_that_moves() -> bytes:
    frames = [Image.new("RGB", (2_048, 2_048), color) for color in ("red", "blue")]
    whole = saved(frames[0], "AVIF", speed=10, save_all=True, append_images=frames[1:])
    # Items are gone: what is left are the track and its samples.
    return whole.replace(b"iloc", b"free").replace(struct.pack(">II", 2_048, 2_048), bytes(8))


def _avif_film() -> bytes:
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    whole = bytearray(saved(frames[0], "AVIF", save_all=True, append_images=frames[1:]))
    at = whole.index(b"stsz") + 8
    whole[at : at + 8] = struct.pack(">II", 1, 200_000)
    return bytes(whole)


def _avif_of_a_large_alpha() -> bytes:
    small, large = (
        saved(Image.new("RGBA", (edge, edge), (9, 9, 9, 9)), "AVIF", speed=10)
        for edge in (64, 2_048)
    )
    # The alpha of the one, told as that of the other: item 2 points at bytes that were added.
    first = large.index(b"iloc") + 12 + 14
    start, length = struct.unpack(">II", large[first + 6 : first + 14])
    second = small.index(b"iloc") + 12 + 14 + 6
    alpha = struct.pack(">II", len(small), length)
    return small[:second] + alpha + small[second + 8 :] + large[start : start + length]


def _webp(width: int, height: int) -> bytes:
    whole = bytearray(saved(Image.new("RGB", (4, 4)), "WEBP", lossless=True))
    bits = (width - 1) | (height - 1) << 14
    whole[21:25] = struct.pack("<I", bits | int.from_bytes(whole[21:25], "little") & 0xF << 28)
    return bytes(whole)


def _gif_of_a_large_frame() -> bytes:
    whole = bytearray(saved(Image.new("L", (8, 8)), "GIF"))
    at = whole.index(b"\x2c\0\0\0\0\x08\0\x08\0")
    whole[at + 5 : at + 9] = struct.pack("<HH", 2_000, 2_000)
    return bytes(whole)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "JPEG, empty scans": (jpeg_of_scans(30_000), "more than 100 scans"),
    "JPEG, empty scans of colour": (jpeg_of_scans(101, gray=False), "more than 100 scans"),
    "JPEG, scans without progression": (_sequential_of_scans(200), "more than 100 scans"),
    "JPEG, scans after a stream of tables": (
        b"\xff\xd8\xff\xd9" + jpeg_of_scans(200),
        "more than 100 scans",
    ),
    "JPEG, EXIF over EXIF": (
        _jpeg_with(b"\xff\xe1\0\x0aExif\0\0II" * 5),
        "more than 2 segments of EXIF",
    ),
    "JPEG, two frame headers": (_jpeg_of_two_sizes(), "more than 1 frame headers"),
    "JPEG, empty segments": (_jpeg_with(b"\xff\xe5\0\2" * 5_000), "more than 4,096 segments"),
    "JPEG, fill bytes": (_jpeg_with(b"\xff" * 1_100_000), "bytes that belong to nothing"),
    "PNG, texts without a keyword": (
        png(before=_chunk(b"zTXt", b"\0\0" + _MEGABYTE) * 65),
        "more than 64 packed chunks",
    ),
    "PNG, texts after the pixels": (
        png(after=_chunk(b"iTXt", b"a\0\1\0\0\0" + _MEGABYTE) * 65),
        "more than 64 packed chunks",
    ),
    "PNG, colour profiles": (
        png(before=_chunk(b"iCCP", b"a\0\0" + _MEGABYTE) * 65),
        "more than 64 packed chunks",
    ),
    "PNG, empty chunks": (png(before=_chunk(b"abCd") * 100_001), "more than 100,000 chunks"),
    "PNG, two headers": (png(before=_png_head(9_000, 9_000)), "decodes to 9000 x 9000 pixels"),
    "TIFF, a tile larger than the image": (
        tiff_of_a_tile(2_048),
        "tiles that decodes to 2048 x 2048 pixels",
    ),
    "TIFF, a tile of signed size": (tiff_of_a_tile(2_048, "i"), "decodes to 2048 x 2048 pixels"),
    "TIFF, strips over each other": (_tiff_of_strips(5_000), "5,000 strips; expected at most 2"),
    "TIFF, a strip for each pixel": (
        _tiff_of_rows(100_001),
        "100,001 strips; expected at most 100,000",
    ),
    "TIFF, too many tags": (tiff_of_tags(5_000), "5,008 tags; at most 4,096"),
    "TIFF, tags that share their bytes": (
        _tiff_of_shared_bytes(),
        "tags share their bytes, over and over",
    ),
    "TIFF, tags of EXIF that share their bytes": (
        _tiff_of_shared_bytes(in_exif=True),
        "tags share their bytes, over and over",
    ),
    "TIFF, too many tags of EXIF": (
        tiff(*_size(8, 8), (273, "I", [8]), (34_665, "I", [8]), body=b"\xff" * 64),
        "65,535 tags; at most 4,096",
    ),
    "TIFF, a size told twice": (
        tiff(*_size(8, 8), *_size(9_000, 9_000), (273, "I", [8]), body=bytes(64)),
        "tells tag 256 more than once",
    ),
    "ICO, a large PNG": (icon(png(3_000, 3_000)), "decodes to 3000 x 3000 pixels"),
    "ICO, a large PNG that first tells another size": (
        icon(png(16, 16, before=_png_head(3_000, 3_000))),
        "decodes to 3000 x 3000 pixels",
    ),
    "ICO, a large bitmap": (icon(_dib(3_000, 6_000)), "decodes to 3000 x 3000 pixels"),
    "ICO, a large one behind a small one": (
        icon(png(16, 16), png(3_000, 3_000)),
        "decodes to 3000 x 3000 pixels",
    ),
    "ICO, too many": (icon(*[png(16, 16)] * 300), "an icon of 300 images; at most 256"),
    "ICO, texts of a PNG": (
        icon(png(before=_chunk(b"zTXt", b"\0\0" + _MEGABYTE) * 65)),
        "more than 64 packed chunks",
    ),
    "BMP, too large": (_bmp(3_000, 3_000, 0, b""), "decodes to 3000 x 3000 pixels"),
    "PPM, comments": (b"P2 1000 10 255\n" + b"#\n" * 1_001 + b"0 " * 10_000, "1,000 comments"),
    "PPM, a header of blanks": (b"P5" + b" " * 70_000 + b"1 1 255\n0", "longer than 65,536"),
    "WEBP, a large canvas": (_webp(3_000, 3_000), "decodes to 3000 x 3000 pixels"),
    "GIF, a frame larger than the screen": (_gif_of_a_large_frame(), "2000 x 2000 pixels"),
    "JPEG2000, another size in the stream": (
        _jp2_of_another_size(),
        "decodes to 20000 x 20000 pixels",
    ),
    "JPEG2000, precincts of 2 x 2": (
        with_coding(j2k(900, 900), precincts=b"\x11" * 6),
        r"of [\d,]+ precincts; at most",
    ),
    "JPEG2000, precincts that are never met": (
        with_coding(j2k(999, 999), precincts=b"\xff" * 31 + b"\x0f\xf0", n_levels=32),
        r"of [\d,]+ places to look for precincts; at most",
    ),
    "JPEG2000, code blocks of 4 x 4": (
        with_coding(j2k(999, 999, (16, 16)), n_levels=32, block=0),
        r"of [\d,]+ precincts; at most",
    ),
    "JPEG2000, layers": (
        with_coding(j2k(), n_layers=65_535, n_levels=32),
        r"of [\d,]+ packets; at most",
    ),
    "JPEG2000, bit planes": (
        _j2k_of_planes(999, 999),
        r"samples in bit planes; at most 40,000,000",
    ),
    "JPEG2000, tiles": (j2k(1_000, 1_000, (4, 4)), r"of [\d,]+ resolutions of tiles; at most"),
    "AVIF, frames larger than told": (avif_that_lies(64, 2_048), "decodes to 2048 x 2048 pixels"),
    "AVIF, frames larger than told, moving": (_avif_that_moves(), "decodes to 2048 x 2048 pixels"),
    "AVIF, frames larger than told, as alpha": (
        _avif_of_a_large_alpha(),
        "decodes to 2048 x 2048 pixels",
    ),
    "AVIF, a film": (_avif_film(), "an AVIF of 200,000 samples"),
    "AVIF, frames that are not shown": (_avif_of_frames(300), "frames have more than 8 x"),
}
"""What is refused where at most a million pixels are allowed, and what is said."""

"""
JPEG 2000: what a decoder makes room for stands in a few bytes of the code stream.

The code stream may tell another size than the file around it, and cut the image into a part for
each pixel: 250 bytes then keep OpenJPEG busy for 20 seconds and fill gigabytes.

Markers and their fields: ITU-T T.800, annex A.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastembed_stream.errors import ImageError
from fastembed_stream.pixels.limits.view import View, check_pixels

__all__ = ["check", "is_mine"]

MOST_COMPONENTS = 4
"""Pillow has no mode for more."""

MOST_TILES = 500_000
"""Tiles times components times resolutions."""

MOST_PRECINCTS = 100_000
MOST_BLOCKS = 4_000_000
MOST_PACKETS = 2_000_000
MOST_STEPS = 20_000_000
"""Places where a progression by position looks for a precinct, whether or not there is one."""

MOST_PLANES = 40
"""
Bit planes of all components together, as a multiple of max_pixels. Each is passed over three times,
whether or not it has data; eight bits a sample need about eleven planes.
"""

_PLANES_OF_A_DECODER = 31

MOST_TILE_PARTS = 1_000_000

_STREAM = b"\xff\x4f\xff\x51"
_FILE = b"\0\0\0\x0cjP  \r\n\x87\n"
_SIZ, _COD, _COC, _SOT, _SOD, _EOC = 0x51, 0x52, 0x53, 0x90, 0x93, 0xD9
_QCD, _QCC, _RGN = 0x5C, 0x5D, 0x5E
_WHOLE = 15
"""Exponent of a precinct's edge where none is told: larger than any tile that is read here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """What SIZ tells: pixels of the image and of a tile, and how many components they have."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    n_components: int

    @property
    def n_tiles(self) -> int:
        return _parts(self.width, self.tile_width) * _parts(self.height, self.tile_height)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Coding:
    """
    What COD or COC tells.

    precincts  exponents of width and height, from the smallest resolution to the largest
    block      exponents of a code block's
    """

    n_layers: int
    precincts: tuple[tuple[int, int], ...]
    block: tuple[int, int]


def is_mine(head: bytes) -> bool:
    """Tell a code stream, or a file that holds one."""
    return head.startswith((_STREAM, _FILE))


def check(view: View, max_pixels: int) -> None:
    """Refuse what is too large, or cut into too many pieces."""
    at = 0 if view.take(0, 4) == _STREAM else _stream_in(view)
    if at is None:
        return
    size: _Size | None = None
    n_layers, n_planes, n_shifted = 1, 0, 0
    for marker, place, length in _segments(view, at + 2):
        if marker == _SIZ:
            size = _size(view, place)
            check_pixels("a JPEG 2000", size.width, size.height, max_pixels)
            _check_most(size.n_components, MOST_COMPONENTS, "components")
        if size is None:
            continue
        # With so few components as are read here, the number of one takes a byte.
        content = view.take(place, length)
        if marker in {_COD, _COC}:
            coding = _coding(content, marker, n_layers)
            n_layers = max(n_layers, coding.n_layers)
            _check_coding(size, coding)
        elif marker in {_QCD, _QCC}:
            n_planes = max(n_planes, _planes(content[marker == _QCC :]))
        elif marker == _RGN:
            n_shifted = max(n_shifted, content[2])
        n_samples = size.width * size.height * size.n_components
        n_passed = n_samples * min(n_planes + n_shifted, _PLANES_OF_A_DECODER)
        _check_most(n_passed, MOST_PLANES * max_pixels, "samples in bit planes")


def _stream_in(view: View) -> int | None:
    """Find the first code stream of a file; None where it has none."""
    at = 0
    while at < view.size:
        length, kind = view.unpack(">I4s", at)
        head = 8
        if length == 1:
            [length] = view.unpack(">Q", at + 8)
            head = 16
        if kind == b"jp2c":
            return at + head
        if length < head:
            return None
        at += length
    return None


def _segments(view: View, at: int) -> Iterator[tuple[int, int, int]]:
    """Give marker, place and length of each segment in the headers of a stream and its tiles."""
    tile_part = 0, 0
    for _ in range(MOST_TILE_PARTS):
        head = view.take(at, 4)
        if len(head) < 4 or head[0] != 0xFF or head[1] == _EOC:  # noqa: PLR2004  marker and length
            return
        marker, length = head[1], int.from_bytes(head[2:], "big")
        if marker == _SOT:
            [n_bytes] = view.unpack(">I", at + 6)
            tile_part = at, n_bytes
        elif marker == _SOD:
            start, n_bytes = tile_part
            if not n_bytes:
                return
            at = max(start + n_bytes, at + 2)
            continue
        else:
            yield marker, at + 4, length - 2
        at += 2 + max(length, 2)
    reason = f"it is a JPEG 2000 with more than {MOST_TILE_PARTS:,} segments. Save it anew."
    raise ImageError(reason)


def _size(view: View, at: int) -> _Size:
    right, bottom, left, top, tile_width, tile_height, _, _, n_components = view.unpack(
        ">8IH", at + 2
    )
    return _Size(
        width=max(right - left, 0),
        height=max(bottom - top, 0),
        tile_width=tile_width,
        tile_height=tile_height,
        n_components=n_components,
    )


def _planes(content: bytes) -> int:
    """Count bit planes from QCD: guard bits and the largest exponent of a band."""
    style, guard = content[0] & 0x1F, content[0] >> 5
    # Without quantization a band takes a byte, else two; the exponent is in the highest five bits.
    exponents = content[1:] if style == 0 else content[1::2]
    return guard + max((byte >> 3 for byte in exponents), default=0)


def _coding(content: bytes, marker: int, n_layers: int) -> _Coding:
    if marker == _COD:
        style, n_layers, rest = content[0], int.from_bytes(content[2:4], "big"), content[5:]
    else:
        # The component's number comes first.
        style, rest = content[1], content[2:]
    n_resolutions = rest[0] + 1
    told = rest[5 : 5 + n_resolutions] if style & 1 else bytes([_WHOLE << 4 | _WHOLE])
    each = told * n_resolutions if len(told) == 1 else told
    return _Coding(
        n_layers=n_layers,
        precincts=tuple((edge & 15, edge >> 4) for edge in each),
        block=((rest[1] & 15) + 2, (rest[2] & 15) + 2),
    )


def _check_coding(size: _Size, coding: _Coding) -> None:
    """Refuse more pieces than can be made room for; sums are over all tiles and components."""
    n_resolutions = len(coding.precincts)
    n_each = size.n_tiles * size.n_components
    width, height = (min(size.width, size.tile_width), min(size.height, size.tile_height))
    n_precincts = n_blocks = 0
    for resolution, (across, down) in enumerate(coding.precincts):
        shift = n_resolutions - 1 - resolution
        wide, high = _parts(width, 1 << shift), _parts(height, 1 << shift)
        n_precincts += _parts(wide, 1 << across) * _parts(high, 1 << down)
        # A precinct cuts the blocks in it; the bands of a resolution are half as wide and high.
        block_wide, block_high = min(coding.block[0], across), min(coding.block[1], down)
        n_blocks += _parts(wide, 1 << block_wide) * _parts(high, 1 << block_high)
    steps = [_least(coding.precincts, axis) for axis in (0, 1)]
    n_steps = _parts(width, 1 << steps[0]) * _parts(height, 1 << steps[1]) * n_resolutions
    _check_most(n_each * n_resolutions, MOST_TILES, "resolutions of tiles")
    _check_most(n_each * n_precincts, MOST_PRECINCTS, "precincts")
    _check_most(n_each * n_blocks, MOST_BLOCKS, "code blocks")
    _check_most(n_each * n_precincts * coding.n_layers, MOST_PACKETS, "packets")
    _check_most(n_each * n_steps, MOST_STEPS, "places to look for precincts")


def _least(precincts: tuple[tuple[int, int], ...], axis: int) -> int:
    """Give the least exponent of a precinct's edge, in pixels of the whole image."""
    last = len(precincts) - 1
    return min(edges[axis] + last - at for at, edges in enumerate(precincts))


def _check_most(n_found: int, n_most: int, kind: str) -> None:
    if n_found > n_most:
        reason = (
            f"it is a JPEG 2000 of {n_found:,} {kind}; at most {n_most:,} are read. Save it anew."
        )
        raise ImageError(reason)


def _parts(whole: int, part: int) -> int:
    return -(-whole // part) if part else 0

"""
AVIF: what is decoded are AV1 frames, which may be larger and more than the boxes around tell.

The boxes of a file say where coded pictures lie: those of items, grids' cells among them, and the
first sample of each track. In those the sequence headers tell the real size, and frames are
counted: frames that are not shown cost as much.

Boxes: ISO/IEC 14496-12; open bitstream units: the AV1 specification, section 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastembed_stream.errors import ImageError
from fastembed_stream.pixels.limits.view import View, check_pixels

__all__ = ["check", "is_mine"]

MOST_PICTURES = 4_096
"""Items and tracks that hold coded pictures: a grid of 64 x 64."""

MOST_UNITS = 100_000
MOST_PIECES = 64
MOST_SAMPLES = 100_000
"""Of a track, which are listed before the first is decoded: more than an hour of a film."""

MOST_PASSES = 8
"""Colour, alpha, a thumbnail, a gain map, layers: all frames together, as parts of max_pixels."""

_BRANDS = frozenset({b"avif", b"avis", b"mif1", b"msf1"})
_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6
_LONGEST_SEQUENCE_HEADER = 1_024
_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})


def is_mine(head: bytes) -> bool:
    """Tell a file that Pillow hands to libavif."""
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS


def check(view: View, max_pixels: int) -> None:
    """Refuse frames that are too large, or too many."""
    counting = _Counting(view=view, max_pixels=max_pixels)
    for kind, start, end in _boxes(view, 0, view.size):
        if kind == b"meta":
            for pieces in _items(view, start + 4, end):
                counting.add(pieces)
        elif kind == b"moov":
            for pieces in _first_samples(view, start, end):
                counting.add(pieces)


@dataclass(slots=True, kw_only=True)
class _Counting:
    """What the pictures of a file cost so far."""

    view: View
    max_pixels: int
    n_pictures: int = 0
    n_units: int = 0
    n_pixels: int = 0

    def add(self, pieces: list[tuple[int, int]]) -> None:
        """Count one coded picture, given by the places of its bytes."""
        self.n_pictures += 1
        if self.n_pictures > MOST_PICTURES:
            reason = f"it is an AVIF of more than {MOST_PICTURES:,} coded pictures. Save it anew."
            raise ImageError(reason)
        width = height = 0
        for unit, content in _units(_Joined(self.view, pieces)):
            self.n_units += 1
            if unit == _SEQUENCE:
                wide, high = _sequence_size(content)
                check_pixels("an AVIF", wide, high, self.max_pixels)
                width, height = max(width, wide), max(height, high)
            elif unit in {_FRAME, _FRAME_HEADER}:
                self.n_pixels += width * height
            if self.n_pixels > MOST_PASSES * self.max_pixels or self.n_units > MOST_UNITS:
                reason = (
                    f"it is an AVIF whose frames have more than {MOST_PASSES} x "
                    f"{self.max_pixels:,} pixels together, or too many units. Save it as one image."
                )
                raise ImageError(reason)


class _Joined:
    """Pieces of a file, read as one."""

    def __init__(self, view: View, pieces: list[tuple[int, int]]) -> None:
        self._view = view
        self._pieces = [(at, max(min(n_bytes, view.size - at), 0)) for at, n_bytes in pieces]
        self.size = sum(n_bytes for _, n_bytes in self._pieces)

    def take(self, at: int, n_bytes: int) -> bytes:
        content = b""
        for start, length in self._pieces:
            if at < length and n_bytes > len(content):
                content += self._view.take(start + at, min(length - at, n_bytes - len(content)))
                at = length
            at -= length
        return content


def _boxes(view: View, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Give kind, start and end of the content of each box in a stretch of the file."""
    for _ in range(MOST_UNITS):
        if at + 8 > end:
            return
        length, kind = view.unpack(">I4s", at)
        head = 8
        if length == 1:
            [length] = view.unpack(">Q", at + 8)
            head = 16
        stop = end if length == 0 else at + length
        if length and length < head:
            return
        yield kind, at + head, min(stop, end)
        at = stop
    reason = f"it is an AVIF of more than {MOST_UNITS:,} boxes. Save it anew."
    raise ImageError(reason)


def _items(view: View, start: int, end: int) -> Iterator[list[tuple[int, int]]]:
    """Give the places of the bytes of each item that is a picture of AV1."""
    boxes = {kind: (at, stop) for kind, at, stop in _boxes(view, start, end)}
    if b"iloc" not in boxes or b"iinf" not in boxes:
        return
    coded = set(_coded_items(view, *boxes[b"iinf"]))
    idat = boxes.get(b"idat", (0, 0))[0]
    at, _ = boxes[b"iloc"]
    version, sizes = view.unpack(">B3xH", at)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version in {1, 2} else 0
    id_size = 4 if version == 2 else 2  # noqa: PLR2004  items of version 2 have long numbers
    numbers = _Numbers(view, at + 6)
    for _ in range(numbers.next(id_size)):
        item = numbers.next(id_size)
        method = numbers.next(2) & 15 if version in {1, 2} else 0
        numbers.next(2)
        base = numbers.next(base_size) + (idat if method else 0)
        pieces = []
        n_pieces = numbers.next(2)
        if n_pieces > MOST_PIECES:
            reason = f"it is an AVIF with an item in {n_pieces:,} pieces. Save it anew."
            raise ImageError(reason)
        for _ in range(n_pieces):
            numbers.next(index_size)
            offset, length = numbers.next(offset_size), numbers.next(length_size)
            # No length means all that follows.
            pieces.append((base + offset, length or view.size))
        if item in coded:
            yield pieces


def _coded_items(view: View, start: int, end: int) -> Iterator[int]:
    """Give the numbers of items that are pictures of AV1: grids and metadata hold no frames."""
    [version] = view.unpack(">B", start)
    for kind, at, _ in _boxes(view, start + (8 if version else 6), end):
        if kind == b"infe":
            [version] = view.unpack(">B", at)
            item, name = view.unpack(">H2x4s" if version <= 2 else ">I2x4s", at + 4)  # noqa: PLR2004  later ones have long numbers
            if name == b"av01":
                yield item


class _Numbers:
    """Numbers of unlike length, one after another."""

    def __init__(self, view: View, at: int) -> None:
        self._view = view
        self._at = at

    def next(self, n_bytes: int) -> int:
        content = self._view.take(self._at, n_bytes)
        if len(content) < n_bytes:
            raise IndexError(self._at)
        self._at += n_bytes
        return int.from_bytes(content, "big")


def _first_samples(view: View, start: int, end: int) -> Iterator[list[tuple[int, int]]]:
    """Give the place of the first sample of each track, which is all that is decoded of it."""
    offset: int | None = None
    length: int | None = None
    for kind, at, stop in _boxes(view, start, end):
        if kind in _CONTAINERS:
            yield from _first_samples(view, at, stop)
        elif kind == b"stco":
            [offset] = view.unpack(">I", at + 8)
        elif kind == b"co64":
            [offset] = view.unpack(">Q", at + 8)
        elif kind == b"stsz":
            each, n_samples = view.unpack(">II", at + 4)
            if n_samples > MOST_SAMPLES:
                reason = f"it is an AVIF of {n_samples:,} samples; at most {MOST_SAMPLES:,}."
                raise ImageError(reason)
            if each or n_samples:
                length = each or view.unpack(">I", at + 12)[0]
    if offset is not None and length is not None:
        yield [(offset, length)]


def _units(joined: _Joined) -> Iterator[tuple[int, bytes]]:
    """Give the kind of each open bitstream unit; of sequence headers the content too."""
    at = 0
    while at < joined.size:
        head = joined.take(at, 10)
        if not head:
            return
        kind, place = head[0] >> 3 & 15, 2 if head[0] & 4 else 1
        if head[0] & 2:
            length, n_bytes = _leb128(head[place:])
            start = at + place + n_bytes
        else:
            start, length = at + place, joined.size - at - place
        is_sequence = kind == _SEQUENCE
        yield (
            kind,
            joined.take(start, min(length, _LONGEST_SEQUENCE_HEADER)) if is_sequence else b"",
        )
        at = start + length


def _leb128(content: bytes) -> tuple[int, int]:
    value = 0
    for n_bytes, byte in enumerate(content[:8]):
        value |= (byte & 0x7F) << 7 * n_bytes
        if not byte & 0x80:
            return value, n_bytes + 1
    raise IndexError(len(content))


def _sequence_size(content: bytes) -> tuple[int, int]:
    """Read the largest width and height of a sequence's frames: section 5.5.1."""
    bits = _Bits(content)
    bits.next(4)
    if bits.next(1):  # reduced_still_picture_header
        bits.next(5)
    else:
        _skip_operating_points(bits)
    n_width, n_height = bits.next(4) + 1, bits.next(4) + 1
    return bits.next(n_width) + 1, bits.next(n_height) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits: int | None = None
    if bits.next(1):  # timing_info_present_flag
        bits.next(64)
        if bits.next(1):  # equal_picture_interval
            bits.skip_uvlc()
        if bits.next(1):  # decoder_model_info_present_flag
            delay_bits = bits.next(5) + 1
            bits.next(42)
    has_delay = bits.next(1)
    for _ in range(bits.next(5) + 1):
        bits.next(12)
        if bits.next(5) > 7:  # noqa: PLR2004  levels above 3.3 have tiers
            bits.next(1)
        if delay_bits is not None and bits.next(1):
            bits.next(2 * delay_bits + 1)
        if has_delay and bits.next(1):
            bits.next(4)


class _Bits:
    """Bits of some bytes, the highest first."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def next(self, n_bits: int) -> int:
        end = self._at + n_bits
        if end > 8 * len(self._content):
            raise IndexError(end)
        whole = int.from_bytes(self._content[self._at // 8 : -(-end // 8)], "big")
        self._at = end
        return whole >> (-end % 8) & ((1 << n_bits) - 1)

    def skip_uvlc(self) -> None:
        n_zeros = 0
        while not self.next(1):
            n_zeros += 1
        self.next(n_zeros if n_zeros < 32 else 0)  # noqa: PLR2004  as the specification says

"""Pictures that say what they show: shapes and colours, drawn here, the same each time."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from PIL import Image, ImageDraw

__all__ = ["Picture", "drawn"]

_SIDE = 256
"""Pixels of a picture's width and height."""
_RADII = (60, 100)
_SEED = 42

_COLOURS = ("red", "green", "blue", "gold", "purple")
_GROUNDS = ("white", "black", "lightgray", "beige")

Point: TypeAlias = tuple[float, float]
Draw: TypeAlias = Callable[[ImageDraw.ImageDraw, Point, float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A file of JPEG, and what it shows, such as 'a red star'."""

    path: Path
    shows: str

    def message(self) -> tuple[bytes, bytes]:
        """Give it as a Kafka message: not its pixels, but where they are."""
        name = self.path.name
        value = {"name": name, "text": self.shows, "image": name}
        return name.encode(), json.dumps(value).encode()


def drawn(n_pictures: int, folder: Path) -> list[Picture]:
    """Draw so many pictures, each shape in each colour as often as the others."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(_SEED)  # noqa: S311  no secret
    kinds = [(colour, shape) for shape in _SHAPES for colour in _COLOURS]
    pictures = []
    for number in range(n_pictures):
        colour, shape = kinds[number % len(kinds)]
        path = folder / f"{colour}-{shape}-{number:04}.jpg"
        _picture(colour, shape, chance).save(path, quality=90)
        pictures.append(Picture(path=path, shows=f"a {colour} {shape}"))
    return pictures


def _picture(colour: str, shape: str, chance: random.Random) -> Image.Image:
    image = Image.new("RGB", (_SIDE, _SIDE), chance.choice(_GROUNDS))
    radius = chance.uniform(*_RADII)
    middle = (chance.uniform(radius, _SIDE - radius), chance.uniform(radius, _SIDE - radius))
    _SHAPES[shape](ImageDraw.Draw(image), middle, radius, colour)
    return image


def _corners(middle: Point, radii: Sequence[float], start: float = -math.pi / 2) -> list[Point]:
    """Give points around the middle, at equal angles and at these distances."""
    return list(_around(middle, radii, start))


def _around(middle: Point, radii: Sequence[float], start: float) -> Iterator[Point]:
    for number, radius in enumerate(radii):
        angle = start + 2 * math.pi * number / len(radii)
        yield middle[0] + radius * math.cos(angle), middle[1] + radius * math.sin(angle)


def _circle(draw: ImageDraw.ImageDraw, middle: Point, radius: float, colour: str) -> None:
    draw.circle(middle, radius, fill=colour)


def _ring(draw: ImageDraw.ImageDraw, middle: Point, radius: float, colour: str) -> None:
    draw.circle(middle, radius, outline=colour, width=int(radius / 3))


def _square(draw: ImageDraw.ImageDraw, middle: Point, radius: float, colour: str) -> None:
    draw.polygon(_corners(middle, [radius] * 4, math.pi / 4), fill=colour)


def _triangle(draw: ImageDraw.ImageDraw, middle: Point, radius: float, colour: str) -> None:
    draw.polygon(_corners(middle, [radius] * 3), fill=colour)


def _star(draw: ImageDraw.ImageDraw, middle: Point, radius: float, colour: str) -> None:
    draw.polygon(_corners(middle, [radius, radius * 0.4] * 5), fill=colour)


def _ladder(draw: ImageDraw.ImageDraw, middle: Point, radius: float, colour: str) -> None:
    left, top = middle[0] - radius, middle[1] - radius
    for number in range(0, 8, 2):
        y = top + radius / 4 * number
        draw.rectangle((left, y, left + 2 * radius, y + radius / 4), fill=colour)


_SHAPES: Mapping[str, Draw] = {
    "circle": _circle,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "ladder": _ladder,
    "triangle": _triangle,
}

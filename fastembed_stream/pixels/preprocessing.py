"""
What preprocessor_config.json says, and images made into numbers as it says.

Source of the defaults: fastembed 0.9.1, and for the processors that it does not know (ViT, BiT)
transformers' own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastembed_stream.errors import ModelFilesError
from fastembed_stream.pixels.cropping import fused
from fastembed_stream.pixels.sources import ImageReader
from fastembed_stream.pixels.steps import CenterCrop, Fill, LongestEdge, Resize, ShortestEdge, Step
from fastembed_stream.pixels.tiles import Tiling

if TYPE_CHECKING:
    from PIL import Image

    from fastembed_stream.pixels.steps import Size
    from fastembed_stream.pixels.tiles import Grid
    from fastembed_stream.values import Floats, ImageInput

__all__ = ["Preprocessing"]

_FILE = "preprocessor_config.json"
_LANCZOS, _BILINEAR, _BICUBIC = 1, 2, 3
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's filters by their numbers."""

_CROPPED_BELOW = 384
"""ConvNeXT crops only what it makes smaller than this."""

_N_CHANNELS = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preprocessing:
    """
    Images to numbers.

    reader  opens the images
    steps   from an image to another, in order
    tiling  how pages are split afterwards; None where an image stays one
    shades  float32[3, 256], the number that each shade of a channel becomes: rescaling and
            normalization at once, and exactly
    """

    reader: ImageReader
    steps: tuple[Step, ...]
    tiling: Tiling | None
    shades: Floats

    @classmethod
    def open(cls, folder: Path, reader: ImageReader) -> Preprocessing:
        """
        Read a model folder's preprocessor_config.json.

        raises  ModelFilesError where it is missing or says what cannot be followed
        """
        path = folder / _FILE
        if not path.is_file():
            msg = f"No {_FILE} in model folder {folder}; an image model needs it."
            raise ModelFilesError(msg)
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            steps, tiling = _steps(config)
            shades = _shades(config)
        except KeyError as error:
            msg = f"{path} has no usable {error}. Fetch the model again, or complete the file."
            raise ModelFilesError(msg) from error
        except (ValueError, TypeError, AttributeError) as error:
            msg = f"{path} cannot be followed: {error}"
            raise ModelFilesError(msg) from error
        return cls(reader=reader, steps=steps, tiling=tiling, shades=shades)

    @property
    def gives_one_size(self) -> bool:
        """Tell whether the numbers of all images have one shape."""
        return bool(self.steps) and self.steps[-1].gives_one_size

    def grid(self, image: ImageInput) -> Grid:
        """Tell by an image's header how it will be split; ImageError where it cannot be read."""
        assert self.tiling is not None  # noqa: S101  checked when the model is opened
        return self.tiling.grid(self._checked(self.reader.size(image)))

    def pixels(self, image: ImageInput) -> Floats:
        """
        Make the numbers of an image.

        returns  float32[3, height, width]
        raises   ImageError where it cannot be read or would become too large
        """
        return self._numbers(self._stepped(image))

    def tiles(self, image: ImageInput) -> Floats:
        """
        Make the numbers of a page's tiles, the view of the whole last.

        returns  float32[n_tiles, 3, edge, edge]
        raises   ImageError where it cannot be read or would become too large
        """
        assert self.tiling is not None  # noqa: S101  checked when the model is opened
        return np.stack([self._numbers(tile) for tile in self.tiling(self._stepped(image))])

    def _stepped(self, image: ImageInput) -> Image.Image:
        rgb = self.reader.rgb(image)
        self._checked(rgb.size)
        for change in fused(self.steps):
            rgb = change(rgb)
        return rgb

    def _checked(self, size: Size) -> Size:
        """Give the size after all steps; a long thin image grows most when it is resized."""
        for step in self.steps:
            size = step.size(size)
            self.reader.check(size)
        if self.tiling is not None:
            self.reader.check(self.tiling.size(size))
        return size

    def _numbers(self, image: Image.Image) -> Floats:
        numbers = np.empty((_N_CHANNELS, image.height, image.width), dtype=np.float32)
        for shades, channel, out in zip(self.shades, image.split(), numbers, strict=True):
            # Eight bits cannot be out of range; 'clip' spares numpy the check and a copy.
            np.take(shades, np.asarray(channel), out=out, mode="clip")
        return numbers


def _steps(config: dict[str, Any]) -> tuple[tuple[Step, ...], Tiling | None]:
    processor = config.get("image_processor_type", "CLIPImageProcessor").removesuffix("Fast")
    if processor == "Idefics3ImageProcessor":
        return _idefics3(config)
    if processor not in _PROCESSORS:
        known = ", ".join([*_PROCESSORS, "Idefics3ImageProcessor"])
        msg = f"image_processor_type is {processor!r}; known are {known}."
        raise ValueError(msg)
    return _PROCESSORS[processor](config), None


def _clip(config: dict[str, Any], *, resample: int = _BICUBIC) -> tuple[Step, ...]:
    """Resize and crop, each if the file says so."""
    steps: list[Step] = []
    if config.get("do_resize", False):
        steps.append(_resize(config["size"], _filter(config, resample)))
    if config.get("do_center_crop", False):
        size = config["crop_size"]
        height, width = (size, size) if isinstance(size, int) else (size["height"], size["width"])
        steps.append(CenterCrop(width=width, height=height))
    return tuple(steps)


def _vit(config: dict[str, Any]) -> tuple[Step, ...]:
    return _clip({"do_resize": True} | config, resample=_BILINEAR)


def _bit(config: dict[str, Any]) -> tuple[Step, ...]:
    return _clip({"do_resize": True, "do_center_crop": True} | config)


def _convnext(config: dict[str, Any]) -> tuple[Step, ...]:
    """Resize to a little more than is wanted and crop, unless much is wanted."""
    if not config.get("do_resize", True):
        return ()
    edge, resample = config["size"]["shortest_edge"], _filter(config, _BICUBIC)
    if edge >= _CROPPED_BELOW:
        return (Resize(width=edge, height=edge, resample=resample),)
    resized = int(edge / config.get("crop_pct", 0.875))
    return ShortestEdge(edge=resized, resample=resample), CenterCrop(width=edge, height=edge)


def _jina_clip(config: dict[str, Any]) -> tuple[Step, ...]:
    """Resize the shorter edge, cut the longer one."""
    edge, color = config["size"], config.get("fill_color", 0)
    fill = Fill(edge=edge, color=tuple(color) if isinstance(color, list) else color)
    if config.get("resize_mode", "shortest") != "shortest":
        return (fill,)
    return ShortestEdge(edge=edge, resample=_filter(config, _BICUBIC, key="interpolation")), fill


def _idefics3(config: dict[str, Any]) -> tuple[tuple[Step, ...], Tiling]:
    """Resize the longer edge, then split."""
    resample = _filter(config, _LANCZOS)
    steps: tuple[Step, ...] = ()
    if config.get("do_resize", False):
        steps = (LongestEdge(edge=config["size"]["longest_edge"], resample=resample),)
    tile = config.get("max_image_size", {}).get("longest_edge", 512)
    split = config.get("do_image_splitting", False)
    return steps, Tiling(edge=tile, resample=resample, split=split)


_PROCESSORS: Mapping[str, Callable[[dict[str, Any]], tuple[Step, ...]]] = {
    "CLIPImageProcessor": _clip,
    "CLIPFeatureExtractor": _clip,
    "SiglipImageProcessor": _clip,
    "ViTImageProcessor": _vit,
    "ViTFeatureExtractor": _vit,
    "BitImageProcessor": _bit,
    "ConvNextFeatureExtractor": _convnext,
    "ConvNextImageProcessor": _convnext,
    "JinaCLIPImageProcessor": _jina_clip,
}


def _resize(size: dict[str, int], resample: int) -> Step:
    if "shortest_edge" in size:
        return ShortestEdge(edge=size["shortest_edge"], resample=resample)
    return Resize(width=size["width"], height=size["height"], resample=resample)


def _filter(config: dict[str, Any], default: int, *, key: str = "resample") -> int:
    """Give Pillow's number of a filter that is told by number or by name."""
    told = config.get(key)
    if told is None:
        return default
    if isinstance(told, str) and told.lower() in _FILTERS:
        return _FILTERS.index(told.lower())
    if not isinstance(told, int) or not 0 <= told < len(_FILTERS):
        msg = f"{key} is {told!r}; expected a number below {len(_FILTERS)} or one of {_FILTERS}."
        raise ValueError(msg)
    return told


def _shades(config: dict[str, Any]) -> Floats:
    """Rescale and normalize all 256 shades once, in the order and precision of fastembed."""
    shades: Floats = np.arange(256, dtype=np.float64).astype(np.float32)
    if config.get("do_rescale", True):
        scale = config.get("rescale_factor", 1 / 255)
        shades = (np.arange(256, dtype=np.float64) * scale).astype(np.float32)
    mean, std = 0.0, 1.0
    if config.get("do_normalize", False):
        mean, std = config["image_mean"], config["image_std"]
    elif "mean" in config and "std" in config:
        mean, std = config["mean"], config["std"]
    return (shades - _by_channel(mean, "mean")) / _by_channel(std, "std")


def _by_channel(numbers: float | list[float], name: str) -> Floats:
    column = np.array(numbers, dtype=np.float32).reshape(-1, 1)
    if len(column) not in {1, _N_CHANNELS}:
        msg = f"its {name} has {len(column)} numbers; expected {_N_CHANNELS}, one for each channel."
        raise ValueError(msg)
    return np.broadcast_to(column, (_N_CHANNELS, 1))

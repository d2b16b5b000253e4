"""Resizing and cropping at once gives every pixel that one after the other gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastembed_stream.pixels.cropping import ResizedMiddle, fused
from fastembed_stream.pixels.steps import CenterCrop, Fill, Resize, ShortestEdge

RANDOM = np.random.default_rng(5)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8))


def same(image: Image.Image, resize: ShortestEdge, crop: CenterCrop) -> None:
    together = ResizedMiddle(resize=resize, crop=crop)(image)
    np.testing.assert_array_equal(np.asarray(together), np.asarray(crop(resize(image))))


@pytest.mark.parametrize("resample", range(6))
@pytest.mark.parametrize(
    ("width", "height"), [(640, 480), (480, 641), (1600, 300), (99, 1003), (256, 256), (31, 37)]
)
def test_every_filter_gives_the_same_pixels(width: int, height: int, resample: int) -> None:
    resize = ShortestEdge(edge=64, resample=resample)
    same(noise(width, height), resize, CenterCrop(width=56, height=56))


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.integers(1, 120),
    st.tuples(st.integers(1, 130), st.integers(1, 130)),
    st.integers(0, 5),
)
def test_any_sizes_give_the_same_pixels(
    size: tuple[int, int], edge: int, cropped: tuple[int, int], resample: int
) -> None:
    resize = ShortestEdge(edge=edge, resample=resample)
    same(noise(*size), resize, CenterCrop(width=cropped[0], height=cropped[1]))


def test_only_a_crop_right_after_a_resize_is_taken_together() -> None:
    resize, crop = ShortestEdge(edge=8, resample=3), CenterCrop(width=4, height=4)
    fill = Fill(edge=9, color=0)
    assert fused((resize, crop)) == (ResizedMiddle(resize=resize, crop=crop),)
    assert fused((crop, resize)) == (crop, resize)
    fixed = Resize(width=8, height=8, resample=3)
    assert fused((fixed, crop)) == (fixed, crop)
    assert fused((resize, fill, crop)) == (resize, fill, crop)

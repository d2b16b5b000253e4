"""
Images: `ImageEmbedding` with its defaults, against fastembed and against the floor.

The floor is the same work with nothing around it: on as many threads as cores, Pillow decodes and
resizes, and one call of the session follows for each image; nothing is put back in order.
"""

from __future__ import annotations

import io
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from rich.table import Table

from fastembed_stream import ImageEmbedding, Runtime
from fastembed_stream.devices import available_cores
from fastembed_stream.shared_sessions import open_session
from tests.benchmarks.material import TEST_MODELS, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["run"]

_AS = "Qdrant/resnet50-onnx"
_MODEL = TEST_MODELS / "image-efficientnet-lite0"
_N_IMAGES = 64  # whole batches of fastembed's 16
_ROUNDS = 9
_SIZES = ((640, 480), (800, 600), (1024, 768), (1280, 720), (1600, 1200), (480, 640))


def run() -> Table:
    """Measure on JPEG files of ordinary sizes; print ratios."""
    if not _MODEL.is_dir():
        return Table(title=f"Images: no folder {_MODEL.name!r} among the test models")
    with tempfile.TemporaryDirectory() as folder:
        return _measured(_photographs(Path(folder)))


def _measured(paths: Sequence[str]) -> Table:
    folder = str(_MODEL)
    ours = ImageEmbedding(_AS, specific_model_path=folder)
    floor = _floor(paths)
    competitors: dict[str, Callable[[], object]] = {
        "fastembed_stream, defaults": lambda: list(ours.embed(paths)),
        "floor: Pillow and session.run": floor,
    }
    try:
        from fastembed import ImageEmbedding as Theirs
    except ImportError:
        pass
    else:
        theirs = Theirs(_AS, specific_model_path=folder)
        competitors["fastembed 0.9.1, defaults"] = lambda: list(theirs.embed(paths))

    timings = in_turn(competitors, rounds=_ROUNDS)
    us = timings["fastembed_stream, defaults"].median
    mean_kb = sum(Path(path).stat().st_size for path in paths) / len(paths) / 1024
    title = (
        f"Images, EfficientNet-Lite0, {available_cores()} cores: {len(paths)} JPEG files, "
        f"480x640 to 1600x1200, {mean_kb:.0f} KiB on average"
    )
    table = Table("", "images/s", "rounds", "ours is", title=title)
    for competitor, timing in timings.items():
        rate = f"{len(paths) / timing.median:.0f}"
        table.add_row(competitor, rate, timing.spread(), f"{timing.median / us:.2f} times it")
    return table


def _photographs(folder: Path) -> list[str]:
    """Write JPEG files with about as much detail as photographs have."""
    random = np.random.default_rng(1)
    paths = []
    for number in range(_N_IMAGES):
        width, height = _SIZES[number % len(_SIZES)]
        coarse = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        grain = random.normal(0, 6, (height, width, 1))
        noisy = (np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8)
        path = folder / f"{number}.jpg"
        Image.fromarray(noisy).save(path, quality=88)
        paths.append(str(path))
    return paths


def _floor(paths: Sequence[str]) -> Callable[[], None]:
    """Give the bare work: one image after another on each core."""
    cores = available_cores()
    session = open_session(_MODEL / "model.onnx", Runtime(device="cpu", lanes=cores))
    threads = ThreadPoolExecutor(cores)
    name, outputs = next(iter(session.inputs)), session.outputs[:1]
    files = [Path(path).read_bytes() for path in paths]

    def one(file: bytes) -> None:
        image = Image.open(io.BytesIO(file))
        ratio = 256 / min(image.size)
        size = (int(image.width * ratio), int(image.height * ratio))
        resized = image.resize(size, Image.Resampling.BICUBIC).crop((0, 0, 224, 224))
        pixels = np.asarray(resized, dtype=np.float32).transpose(2, 0, 1)[None]
        session.run(outputs, {name: np.ascontiguousarray(pixels)})

    def all_files() -> None:
        list(threads.map(one, files))

    return all_files

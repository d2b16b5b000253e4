"""Images of every kind, and model folders for images small enough to make in a test."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from fastembed_stream.families.colmodernvbert import ColModernVbert
from fastembed_stream.families.colpali import ColPali
from fastembed_stream.families.dense_image import DenseImage
from fastembed_stream.model import Model
from tests.fastembed_stream.tiny_models import VOCABULARY, row, write_tokenizer

EDGE = 32
"""Of the square that most configurations below lead to."""

TILE = 16
PAGE_DIM = 128

_NORMALIZED: dict[str, Any] = {
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_SHORT: dict[str, Any] = {"do_resize": True, "size": {"shortest_edge": EDGE}}
_EXACT: dict[str, Any] = {"do_resize": True, "size": {"height": EDGE, "width": EDGE}}
_CROP: dict[str, Any] = {"do_center_crop": True, "crop_size": {"height": EDGE, "width": EDGE}}
_SIGLIP = {"image_processor_type": "SiglipImageProcessor"}
_CONVNEXT = {"image_processor_type": "ConvNextFeatureExtractor"}
_JINA = {"image_processor_type": "JinaCLIPImageProcessor", "size": EDGE}
_JINA_NORMALIZED = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}

CONFIGS: dict[str, dict[str, Any]] = {
    "CLIP": _SHORT | _CROP | _NORMALIZED | {"resample": 3},
    "CLIP, larger than the crop": _CROP
    | _NORMALIZED
    | {"do_resize": True, "size": {"shortest_edge": 37}, "resample": 2},
    "CLIP, smaller than the crop": _CROP
    | _NORMALIZED
    | {"do_resize": True, "size": {"shortest_edge": 21}},
    "CLIP, crop alone": {"do_center_crop": True, "crop_size": EDGE} | _NORMALIZED,
    "CLIP, not square": _NORMALIZED
    | {"do_resize": True, "size": {"height": 24, "width": 40}, "resample": 1},
    "CLIP, one mean for all": _EXACT | {"do_normalize": True, "image_mean": 0.5, "image_std": 0.25},
    "CLIP, not rescaled": _EXACT | _NORMALIZED | {"do_rescale": False},
    "CLIP, not normalized": _SHORT | _CROP,
    "SigLIP": _SIGLIP | _EXACT | _NORMALIZED | {"resample": 2},
    "ConvNeXT": _CONVNEXT | _NORMALIZED | {"size": {"shortest_edge": EDGE}, "crop_pct": 0.8},
    "ConvNeXT, by default": _CONVNEXT | _NORMALIZED | {"size": {"shortest_edge": EDGE}},
    "ConvNeXT, large": _CONVNEXT | _NORMALIZED | {"size": {"shortest_edge": 384}, "resample": 3},
    "Jina CLIP": _JINA | _JINA_NORMALIZED | {"interpolation": "bicubic", "resize_mode": "shortest"},
    "Jina CLIP, odd": _JINA | _JINA_NORMALIZED | {"size": 33, "fill_color": "#0963c8"},
    "Jina CLIP, not resized": _JINA
    | _JINA_NORMALIZED
    | {"resize_mode": "none", "fill_color": "red"},
}
"""What preprocessor_config.json may say, all of it known to fastembed."""

TILED: dict[str, dict[str, Any]] = {
    "Idefics3": {
        "image_processor_type": "Idefics3ImageProcessor",
        "do_resize": True,
        "size": {"longest_edge": 4 * TILE},
        "max_image_size": {"longest_edge": TILE},
        "do_image_splitting": True,
        "resample": 1,
    }
    | _NORMALIZED,
}
TILED["Idefics3, not resized"] = TILED["Idefics3"] | {"do_resize": False}
TILED["Idefics3, not split"] = TILED["Idefics3"] | {"do_image_splitting": False}


def picture(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """Make an image with large and small detail."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    noise = random.integers(-9, 10, (height, width, 3))
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    """Give the bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def _transparent() -> Image.Image:
    image = picture(50, 40, seed=5).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(picture(60, 40, seed=6), "JPEG", exif=exif)


def _shades(*, brightest: int) -> Image.Image:
    ramp = np.linspace(0, brightest, 48 * 36).reshape(36, 48)
    return Image.fromarray(ramp.astype(np.uint16))


FILES: dict[str, bytes] = {
    "landscape.jpg": saved(picture(64, 48), "JPEG", quality=92),
    "portrait.jpg": saved(picture(40, 90, seed=1), "JPEG"),
    "odd.png": saved(picture(53, 37, seed=2), "PNG"),
    "small.png": saved(picture(9, 7, seed=3), "PNG"),
    "point.png": saved(picture(1, 1, seed=3), "PNG"),
    "thin.png": saved(picture(120, 3, seed=4), "PNG"),
    "gray.jpg": saved(picture(50, 50, seed=7).convert("L"), "JPEG"),
    "black_and_white.png": saved(picture(45, 45, seed=8).convert("1"), "PNG"),
    "palette.png": saved(picture(44, 33, seed=9).convert("P"), "PNG", transparency=3),
    "transparent.png": saved(_transparent(), "PNG"),
    "gray_transparent.png": saved(_transparent().convert("LA"), "PNG"),
    "cmyk.jpg": saved(picture(46, 34, seed=10).convert("CMYK"), "JPEG"),
    "animated.gif": saved(
        picture(38, 42, seed=11),
        "GIF",
        save_all=True,
        append_images=[picture(38, 42, seed=12), picture(38, 42, seed=13)],
    ),
    "turned.jpg": _turned(),
    "lossy.webp": saved(picture(51, 39, seed=14), "WEBP"),
    "lossless.tiff": saved(picture(36, 52, seed=15), "TIFF"),
    "bitmap.bmp": saved(picture(35, 31, seed=16), "BMP"),
    "dim_16_bit.png": saved(_shades(brightest=255), "PNG"),
}
"""Image files of all kinds that fastembed reads."""

DEEP = saved(_shades(brightest=65_535), "PNG")
"""Grayscale of 16 bits, of which fastembed makes white."""

IMAGES = tuple(FILES.values())


def write_files(folder: Path) -> list[str]:
    """Write the image files, and give their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return [str(folder / name) for name in FILES]


def write_image_model(
    folder: Path,
    config: dict[str, Any] | None = None,
    *,
    shape: str = "vector",
    dim: int = 16,
    model_file: str = "model.onnx",
    half: bool = False,
) -> Path:
    """
    Make the folder of a dense image model, and give it.

    shape  of the first output: 'vector' [b, dim], 'point' [b, dim, 1, 1], 'patches' [b, n, dim];
           all have 'pooler_output' [b, dim] as their second
    """
    _save(folder / model_file, _dense_graph(shape, dim, half=half))
    return configured(folder, config or CONFIGS["CLIP"])


def image_row(folder: Path, recipe: DenseImage | None = None, **changes: Any) -> Model:
    """Describe a folder as a user's own image model."""
    return row(folder, recipe or DenseImage(), **changes)


def write_colpali(folder: Path, *, model_file: str = "model.onnx", **tokenizer: Any) -> Path:
    """Make the folder of a ColPali model, its weights in a second file, and give it."""
    _save(folder / model_file, _page_graph(tiled=False), external=True)
    write_tokenizer(folder, specials=False, **tokenizer)
    _add_tokens(folder, ["<s>", "<pad>"])
    return configured(folder, CONFIGS["SigLIP"])


def colpali_row(folder: Path, recipe: ColPali | None = None) -> Model:
    """Describe the folder of a ColPali model."""
    return row(folder, recipe or ColPali(), dim=PAGE_DIM)


def write_colmodernvbert(
    folder: Path,
    splitting: dict[str, Any] | None = None,
    *,
    model_file: str = "model.onnx",
    vectors_per_tile: int = 3,
    **tokenizer: Any,
) -> Path:
    """Make the folder of a ColModernVBERT model, and give it."""
    _save(folder / model_file, _page_graph(tiled=True))
    limits = {"model_max_length": 2048} | tokenizer.pop("config", {})
    vision = {"vision_config": {"image_size": TILE}}
    write_tokenizer(folder, specials=False, config=limits, model_config=vision, **tokenizer)
    places = [f"<row_{row}_col_{column}>" for row in range(1, 9) for column in range(1, 9)]
    words = ("image", "global-img", "fake_token_around_image", "end_of_utterance")
    _add_tokens(folder, ["<|begin_of_text|>", *(f"<{word}>" for word in words), *places])
    sequence = json.dumps({"image_seq_len": vectors_per_tile})
    (folder / "processor_config.json").write_text(sequence, encoding="utf-8")
    return configured(folder, splitting or TILED["Idefics3"])


def colmodernvbert_row(folder: Path, recipe: ColModernVbert | None = None) -> Model:
    """Describe the folder of a ColModernVBERT model."""
    return row(folder, recipe or ColModernVbert(), dim=PAGE_DIM)


def configured(folder: Path, config: dict[str, Any]) -> Path:
    """Write how a model's images become numbers, and give its folder."""
    (folder / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def _add_tokens(folder: Path, tokens: list[str]) -> None:
    path = folder / "special_tokens_map.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(known | {"additional_special_tokens": tokens}), encoding="utf-8")


def _save(path: Path, graph: Any, *, external: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=external,
        location=f"{path.name}_data",
        size_threshold=256,
    )


def _graph(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, Any]) -> Any:
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    return helper.make_graph(nodes, "toy", inputs, outputs, tensors)


def _normal(random: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    numbers: NDArray[np.float32] = random.normal(size=shape).astype(np.float32)
    numbers /= np.sqrt(shape[-1])
    return numbers


def _dense_graph(shape: str, dim: int, *, half: bool) -> Any:
    """Build patches by a convolution, and a vector that tells the places of patches apart."""
    make, value = helper.make_node, helper.make_tensor_value_info
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    random = np.random.default_rng(3)
    weights = {
        "kernel": _normal(random, dim, 3, 8, 8),
        "last": np.array([2, 3], dtype=np.int64),
        "zero": np.array(0, dtype=np.int64),
        "flat": np.array([0, dim, -1], dtype=np.int64),
    }
    nodes = [
        make("Conv", ["picture", "kernel"], ["seen"], strides=[8, 8]),
        make("Tanh", ["seen"], ["bounded"]),
        make("GlobalAveragePool", ["bounded"], ["averaged"]),
        make("Squeeze", ["averaged", "last"], ["pooled"]),
        make("Reshape", ["bounded", "flat"], ["flattened"]),
        make("Transpose", ["flattened"], ["patched"], perm=[0, 2, 1]),
        make("Gather", ["patched", "zero"], ["corner"], axis=1),
        make("Add", ["pooled", "corner"], ["both"]),
    ]
    first = {"vector": "both", "point": "averaged", "patches": "patched"}[shape]
    sizes: list[Any] = {
        "vector": ["b", dim],
        "point": ["b", dim, 1, 1],
        "patches": ["b", "n", dim],
    }[shape]
    nodes += [
        make("Cast", [first], ["out"], to=kind),
        make("Cast", ["pooled"], ["pooler_output"], to=kind),
    ]
    return _graph(
        nodes,
        [value("picture", TensorProto.FLOAT, ["b", 3, "h", "w"])],
        [value("out", kind, sizes), value("pooler_output", kind, ["b", dim])],
        weights,
    )


def _page_graph(*, tiled: bool) -> Any:
    """
    Build token vectors in which the mask, the pixels and the order of tiles all count.

    A blank tile counts for nothing, as in the real graphs.
    """
    make, value = helper.make_node, helper.make_tensor_value_info
    random = np.random.default_rng(4)
    n_words = len(VOCABULARY)
    weights = {
        "table": _normal(random, n_words, PAGE_DIM),
        "n_words": np.array(n_words, dtype=np.int64),
        "kernel": _normal(random, PAGE_DIM, 3, 8, 8) * np.float32(0.05),
        "waves": np.linspace(0.1, 1.5, PAGE_DIM, dtype=np.float32),
        "axis": np.array(1, dtype=np.int64),
        "along": np.array([1], dtype=np.int64),
        "last": np.array([2], dtype=np.int64),
        "sides": np.array([2, 3], dtype=np.int64),
        "none": np.array(0, dtype=np.float32),
        "front": np.array([0], dtype=np.int64),
        "end": np.array([2], dtype=np.int64),
        "as_pictures": np.array([-1, 3, TILE, TILE], dtype=np.int64),
        "of_tile": np.array([PAGE_DIM], dtype=np.int64),
    }
    pixels: list[Any] = ["b", 3, "h", "w"]
    if tiled:
        # A group of texts has one blank page of one tile for all of them.
        pixels = ["pages", "tiles", 3, TILE, TILE]
        seen = _seen_tiles()
    else:
        seen = [
            make("Conv", ["pixel_values", "kernel"], ["patches"], strides=[8, 8]),
            make("GlobalAveragePool", ["patches"], ["averaged"]),
            make("Squeeze", ["averaged", "sides"], ["page"]),
            make("Unsqueeze", ["page", "along"], ["image"]),
        ]
    nodes = [
        *seen,
        make("Mod", ["input_ids", "n_words"], ["words"]),
        make("Gather", ["table", "words"], ["looked_up"]),
        make("CumSum", ["attention_mask", "axis"], ["position"]),
        make("Cast", ["position"], ["place"], to=TensorProto.FLOAT),
        make("Unsqueeze", ["place", "last"], ["places"]),
        make("Mul", ["places", "waves"], ["angles"]),
        make("Sin", ["angles"], ["wave"]),
        make("Add", ["looked_up", "wave"], ["embedded"]),
        make("Cast", ["attention_mask"], ["weight"], to=TensorProto.FLOAT),
        make("Unsqueeze", ["weight", "last"], ["weights"]),
        make("Mul", ["embedded", "weights"], ["weighed"]),
        make("ReduceSum", ["weighed", "along"], ["summed"], keepdims=1),
        make("ReduceSum", ["weights", "along"], ["total"], keepdims=1),
        make("Div", ["summed", "total"], ["context"]),
        make("Add", ["embedded", "context"], ["read"]),
        make("Add", ["read", "image"], ["together"]),
        make("Tanh", ["together"], ["vectors"]),
    ]
    used = {name for node in nodes for name in node.input}
    text = [value(n, TensorProto.INT64, ["b", "s"]) for n in ("input_ids", "attention_mask")]
    return _graph(
        nodes,
        [value("pixel_values", TensorProto.FLOAT, pixels), *text],
        [value("vectors", TensorProto.FLOAT, ["b", "s", PAGE_DIM])],
        {name: array for name, array in weights.items() if name in used},
    )


def _seen_tiles() -> list[Any]:
    make = helper.make_node
    return [
        make("Abs", ["pixel_values"], ["strength"]),
        make("ReduceMax", ["strength"], ["strongest"], axes=[2, 3, 4], keepdims=0),
        make("Greater", ["strongest", "none"], ["is_there"]),
        make("Cast", ["is_there"], ["there"], to=TensorProto.FLOAT),
        make("Reshape", ["pixel_values", "as_pictures"], ["pictures"]),
        make("Conv", ["pictures", "kernel"], ["patches"], strides=[8, 8]),
        make("GlobalAveragePool", ["patches"], ["averaged"]),
        make("Shape", ["pixel_values"], ["shape"]),
        make("Slice", ["shape", "front", "end"], ["pages_and_tiles"]),
        make("Concat", ["pages_and_tiles", "of_tile"], ["by_page"], axis=0),
        make("Reshape", ["averaged", "by_page"], ["tile_vectors"]),
        make("CumSum", ["there", "axis"], ["number"]),
        make("Sin", ["number"], ["turn"]),
        make("Mul", ["turn", "there"], ["tile_weight"]),
        make("Unsqueeze", ["tile_weight", "last"], ["tile_weights"]),
        make("Mul", ["tile_vectors", "tile_weights"], ["weighed_tiles"]),
        make("ReduceSum", ["weighed_tiles", "along"], ["image"], keepdims=1),
    ]

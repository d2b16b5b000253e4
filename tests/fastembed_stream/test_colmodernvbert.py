"""ColModernVBERT reads a page as a grid of tiles and a view of the whole, each with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastembed_stream import LATE_MULTIMODAL, ColModernVbert, OpenModel, Runtime, open_model
from fastembed_stream.errors import ImageError, ModelFilesError
from fastembed_stream.families.colmodernvbert import TiledPages, prompt
from fastembed_stream.families.page_queries import PageQueries
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.values import Floats, ImageInput
from tests.fastembed_stream.tiny_images import (
    CONFIGS,
    FILES,
    PAGE_DIM,
    TILE,
    TILED,
    colmodernvbert_row,
    configured,
    picture,
    write_colmodernvbert,
)

Model = OpenModel[ImageInput, str, Floats]
WIDE, TALL, WHOLE = picture(200, 60), picture(30, 90, seed=1), picture(9, 9)
BY_TILE = TILED["Idefics3, not resized"]


def opened(
    folder: Path, splitting: dict[str, Any] | None = None, recipe: ColModernVbert | None = None
) -> Model:
    row = colmodernvbert_row(write_colmodernvbert(folder, splitting), recipe)
    runtime = Runtime(device="cpu", threads=2, token_budget=4096)
    return open_model(row, LATE_MULTIMODAL, runtime=runtime)


def pages_of(model: Model) -> TiledPages:
    assert isinstance(model.documents, OnnxEmbedder)
    assert isinstance(model.documents.family, TiledPages)
    return model.documents.family


def queries_of(model: Model) -> PageQueries:
    assert isinstance(model.queries, OnnxEmbedder)
    assert isinstance(model.queries.family, PageQueries)
    return model.queries.family


def test_a_prompt_names_the_place_of_each_tile_and_then_the_whole() -> None:
    assert prompt((1, 2), 2) == (
        "<|begin_of_text|>User:"
        "<fake_token_around_image><row_1_col_1><image><image>"
        "<fake_token_around_image><row_1_col_2><image><image>\n"
        "\n<fake_token_around_image><global-img><image><image><fake_token_around_image>"
        "Describe the image.<end_of_utterance>\nAssistant:"
    )


def test_a_prompt_for_a_page_of_one_tile_has_the_whole_alone() -> None:
    assert prompt((0, 0), 1) == (
        "<|begin_of_text|>User:"
        "<fake_token_around_image><global-img><image><fake_token_around_image>"
        "Describe the image.<end_of_utterance>\nAssistant:"
    )


def test_a_page_with_fewer_tiles_than_others_gets_blank_ones(tmp_path: Path) -> None:
    family = pages_of(opened(tmp_path, BY_TILE))
    reading = family.read([WIDE, TALL, WHOLE])
    feeds = family.pack(reading, np.arange(3))
    n_tiles = [13 * 4 + 1, 6 * 2 + 1, 1]
    assert feeds["pixel_values"].shape == (3, n_tiles[0], 3, TILE, TILE)
    for page, n in zip(feeds["pixel_values"], n_tiles, strict=True):
        assert page[:n].any(axis=(1, 2, 3)).all()
        assert not page[n:].any()
    assert feeds["attention_mask"].sum(axis=1).tolist() == reading.lengths.tolist()


def test_a_page_costs_the_tokens_of_its_tiles(tmp_path: Path) -> None:
    family = pages_of(opened(tmp_path, BY_TILE))
    image = family.text.tokens.id_of("<image>")
    for page, n_tiles in ((WIDE, 53), (TALL, 13), (WHOLE, 1)):
        reading = family.read([page])
        [ids] = reading.prompt.ids
        assert (ids == image).sum() == n_tiles * family.vectors_per_tile
        assert family.widths(reading).tolist() == [len(ids)]


def test_a_sample_has_about_as_many_tokens_as_asked(tmp_path: Path) -> None:
    family = pages_of(opened(tmp_path))
    [length] = family.sample(1).lengths
    assert family.sample(5 * int(length)).n_rows == 5
    assert family.pack(family.sample(1), np.arange(1))["pixel_values"].shape[0] == 1


def test_a_page_has_a_vector_for_each_token_of_its_own(tmp_path: Path) -> None:
    model = opened(tmp_path, BY_TILE)
    lengths = pages_of(model).read([WIDE, TALL, WHOLE]).lengths
    assert [v.shape for v in model([WIDE, TALL, WHOLE])] == [(n, PAGE_DIM) for n in lengths]


def test_a_turned_page_is_split_as_it_will_stand(tmp_path: Path) -> None:
    turned = FILES["turned.jpg"]
    grids = [
        pages_of(opened(tmp_path, BY_TILE, recipe)).decoding.preprocessing.grid(turned)
        for recipe in (ColModernVbert(), ColModernVbert(upright=True))
    ]
    assert grids == [(3, 4), (4, 3)]
    assert len(opened(tmp_path, BY_TILE, ColModernVbert(upright=True))([turned])) == 1


def test_a_broken_page_is_kept_until_its_turn_and_costs_nothing(tmp_path: Path) -> None:
    family = pages_of(opened(tmp_path))
    reading = family.read([WIDE, b"", "nowhere.png", TALL])
    assert [n > 0 for n in family.widths(reading)] == [True, False, False, True]
    assert family.pack(reading, np.array([0, 3]))["input_ids"].shape[0] == 2
    with pytest.raises(ImageError, match=r"Image 2 \(nowhere\.png\): there is no such file"):
        family.pack(reading, np.array([0, 2]))


def test_a_prompt_that_is_cut_is_counted(tmp_path: Path) -> None:
    write_colmodernvbert(tmp_path, BY_TILE, config={"model_max_length": 40})
    model = open_model(colmodernvbert_row(tmp_path), LATE_MULTIMODAL, runtime=Runtime(device="cpu"))
    reading = pages_of(model).read([WIDE, WIDE, WHOLE])
    assert reading.lengths.max() == model.max_tokens == 40
    assert reading.truncated_rows == 2
    assert reading.truncated_tokens > 0


def test_a_group_of_queries_has_one_blank_tile(tmp_path: Path) -> None:
    family = queries_of(opened(tmp_path))
    reading = family.read(["kafka", "a stream of text"])
    feeds = family.pack(reading, np.arange(2))
    assert feeds["pixel_values"].shape == (1, 1, 3, TILE, TILE)
    assert not feeds["pixel_values"].any()
    assert family.widths(reading).tolist() == reading.lengths.tolist()


def test_a_query_is_followed_by_ten_places_to_expand_into(tmp_path: Path) -> None:
    family = queries_of(opened(tmp_path))
    end = family.tokens.id_of("<end_of_utterance>")
    [ids] = family.read(["kafka"]).ids
    assert ids.tolist() == [*family.bare().read(["kafka"]).ids[0], *[end] * 10]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("processor_config.json", None, r"processor_config\.json should be a JSON object"),
        ("processor_config.json", "[]", r"processor_config\.json should be a JSON object"),
        ("processor_config.json", '{"image_seq_len": "many"}', r"image_seq_len .* is 'many'"),
        ("config.json", '{"vision_config": {"image_size": 0}}', r"image_size .* is 0"),
        ("preprocessor_config.json", json.dumps(CONFIGS["CLIP"]), r"does not split images"),
    ],
)
def test_a_file_that_says_too_little_is_named(
    tmp_path: Path, file: str, content: str | None, told: str
) -> None:
    write_colmodernvbert(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content, encoding="utf-8")
    with pytest.raises(ModelFilesError, match=told):
        open_model(colmodernvbert_row(tmp_path), LATE_MULTIMODAL, runtime=Runtime(device="cpu"))


def test_what_the_files_do_not_say_is_as_the_model_was_trained(tmp_path: Path) -> None:
    write_colmodernvbert(tmp_path)
    (tmp_path / "processor_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "config.json").write_text('{"pad_token_id": 0}', encoding="utf-8")
    configured(tmp_path, {"image_processor_type": "Idefics3ImageProcessor"})
    model = open_model(colmodernvbert_row(tmp_path), LATE_MULTIMODAL, runtime=Runtime(device="cpu"))
    assert pages_of(model).vectors_per_tile == 64
    assert queries_of(model).blank == (1, 3, 512, 512)
    tiling = pages_of(model).decoding.preprocessing.tiling
    assert tiling is not None
    assert (tiling.edge, tiling.split) == (512, False)

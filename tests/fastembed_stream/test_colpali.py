"""ColPali reads a page as 1,024 patches and a few words, and a query behind its own first words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastembed_stream import LATE_MULTIMODAL, ColPali, OpenModel, Runtime, open_model
from fastembed_stream.errors import ModelFilesError
from fastembed_stream.families.colpali import ColPaliPages
from fastembed_stream.families.page_queries import PageQueries
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.values import Floats, ImageInput
from tests.fastembed_stream.tiny_images import (
    EDGE,
    IMAGES,
    PAGE_DIM,
    TILED,
    colpali_row,
    configured,
    write_colpali,
)

ON_CPU = Runtime(device="cpu", threads=2, token_budget=4096)
Model = OpenModel[ImageInput, str, Floats]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return open_model(colpali_row(write_colpali(tmp_path)), LATE_MULTIMODAL, runtime=ON_CPU)


def pages_of(model: Model) -> ColPaliPages:
    assert isinstance(model.documents, OnnxEmbedder)
    assert isinstance(model.documents.family, ColPaliPages)
    return model.documents.family


def queries_of(model: Model) -> PageQueries:
    assert isinstance(model.queries, OnnxEmbedder)
    assert isinstance(model.queries.family, PageQueries)
    return model.queries.family


def test_a_page_is_1024_patches_and_a_request_to_describe_it(model: Model) -> None:
    family = pages_of(model)
    reading = family.read(IMAGES[:2])
    feeds = family.pack(reading, np.arange(2))
    assert feeds["pixel_values"].shape == (2, 3, EDGE, EDGE)
    assert feeds["input_ids"].shape == feeds["attention_mask"].shape == (2, 1030)
    assert (feeds["input_ids"][:, :1024] == 257_152).all()
    assert feeds["input_ids"][1, 1024:].tolist() == [2, 50_721, 573, 2416, 235_265, 108]
    assert feeds["attention_mask"].all()
    assert reading.lengths.tolist() == [1030, 1030]


def test_a_page_has_a_vector_for_each_of_its_tokens(model: Model) -> None:
    assert [vectors.shape for vectors in model(IMAGES[:2])] == [(1030, PAGE_DIM)] * 2


def test_a_query_stands_behind_its_marker_and_before_its_fill(model: Model) -> None:
    family = queries_of(model)
    [ids] = family.read(["kafka"]).ids
    [plain] = family.bare().read(["kafka"]).ids
    pads = family.tokens.read(["<pad>" * 10]).ids[0]
    assert ids[:2].tolist() == [2, 5098]
    assert ids[-11:].tolist() == [*plain, *pads]


def test_a_query_comes_with_a_blank_page_that_counts_in_the_budget(model: Model) -> None:
    family = queries_of(model)
    reading = family.read(["kafka", "a stream of text"])
    feeds = family.pack(reading, np.arange(2))
    assert feeds["pixel_values"].shape == (2, 3, 448, 448)
    assert not feeds["pixel_values"].any()
    assert (family.widths(reading) - reading.lengths).tolist() == [1024, 1024]
    assert family.sample(4 * 1100).n_rows == 4


def test_a_querys_padding_gets_no_vectors(model: Model) -> None:
    long, short = model.queries(["a stream of text and a vector", "a"])
    assert len(long) > len(short) == len(model.queries(["a"])[0])
    assert len(short) == queries_of(model).read(["a"]).lengths[0]


def test_the_limit_of_texts_is_the_models(tmp_path: Path) -> None:
    folder = write_colpali(tmp_path, config={"model_max_length": 30})
    model = open_model(colpali_row(folder), LATE_MULTIMODAL, runtime=ON_CPU)
    assert model.max_tokens == 30
    assert len(model.queries(["stream " * 200])[0]) == 30
    assert model.queries.counts.truncated_rows == 1


def test_a_model_that_splits_pages_is_not_colpali(tmp_path: Path) -> None:
    folder = configured(write_colpali(tmp_path), TILED["Idefics3"])
    with pytest.raises(ModelFilesError, match=r"splits images into tiles, but .* ColPali recipe"):
        open_model(colpali_row(folder, ColPali(upright=True)), LATE_MULTIMODAL, runtime=ON_CPU)

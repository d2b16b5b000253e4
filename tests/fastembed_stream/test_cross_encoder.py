"""A pair's score is the first column of what the graph says of both texts together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastembed_stream import CROSS_ENCODER, OpenModel, open_model
from fastembed_stream.errors import SettingError
from fastembed_stream.families.cross_encoder import CrossEncoder, CrossEncoderFamily
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.runtime import Runtime
from fastembed_stream.values import Pair
from tests.fastembed_stream.late_models import write_cross_encoder
from tests.fastembed_stream.tiny_models import Toy, row, write

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)
SCORED: list[Pair] = [("a stream", "of text"), ("a", ""), ("the point", "stream of text " * 30)]


def opened(folder: Path, recipe: CrossEncoder | None = None) -> OpenModel[Pair, Pair, float]:
    if not (folder / "model.onnx").is_file():
        write_cross_encoder(folder)
    return open_model(row(folder, recipe or CrossEncoder(), dim=0), CROSS_ENCODER, runtime=ON_CPU)


def family(model: OpenModel[Pair, Pair, float]) -> CrossEncoderFamily:
    assert isinstance(model.documents, OnnxEmbedder)
    assert isinstance(model.documents.family, CrossEncoderFamily)
    return model.documents.family


@pytest.mark.parametrize(
    ("side", "ids", "mask", "types"),
    [
        (
            "right",
            [[2, 11, 3, 6, 6, 3], [2, 11, 3, 10, 3, 0]],
            [[1] * 6, [1, 1, 1, 1, 1, 0]],
            [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0]],
        ),
        (
            "left",
            [[2, 11, 3, 6, 6, 3], [0, 2, 11, 3, 10, 3]],
            [[1] * 6, [0, 1, 1, 1, 1, 1]],
            [[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]],
        ),
    ],
)
def test_a_group_is_padded_and_each_token_knows_its_text(
    tmp_path: Path, side: str, ids: list[list[int]], mask: list[list[int]], types: list[list[int]]
) -> None:
    write_cross_encoder(tmp_path, config={"padding_side": side})
    cross = family(opened(tmp_path))
    feeds = cross.pack(cross.read([("of", ""), ("a", "of of"), ("a", "the")]), np.array([1, 2]))
    assert feeds["input_ids"].tolist() == ids
    assert feeds["attention_mask"].tolist() == mask
    assert feeds["token_type_ids"].tolist() == types
    assert {array.dtype for array in feeds.values()} == {np.dtype(np.int64)}


def test_scores_are_python_floats_of_float32s_precision(tmp_path: Path) -> None:
    scores = opened(tmp_path)(SCORED)
    assert {type(score) for score in scores} == {float}
    assert [float(np.float32(score)) for score in scores] == scores
    assert len(set(scores)) == len(SCORED)


def test_half_precision_gives_scores_too(tmp_path: Path) -> None:
    write_cross_encoder(tmp_path, toy=Toy(half=True, pooled=(("logits", "first"),)))
    np.testing.assert_allclose(
        opened(tmp_path)(SCORED), opened(tmp_path / "full")(SCORED), atol=2e-3
    )


def test_the_limit_holds_for_both_texts_together(tmp_path: Path) -> None:
    cross = opened(tmp_path)
    assert cross.count_tokens([SCORED[2]]) == cross.max_tokens == 48
    cross(SCORED)
    assert cross.counts.truncated_rows == 1
    assert cross.counts.truncated_tokens == 2 + 90 - 45


def test_documents_and_queries_are_one_and_the_same(tmp_path: Path) -> None:
    cross = opened(tmp_path)
    assert cross.documents is cross.queries


@pytest.mark.parametrize("n_tokens", [128, 1024])
def test_a_sample_has_about_as_many_tokens_as_asked(tmp_path: Path, n_tokens: int) -> None:
    cross = family(opened(tmp_path))
    assert cross.widths(cross.sample(n_tokens)).sum() == pytest.approx(n_tokens, rel=0.3)


def test_scores_come_from_the_output_that_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, Toy(pooled=(("other", "final"), ("logits", "first"))))
    plain = opened(tmp_path / "plain")(SCORED)
    named = opened(folder, CrossEncoder(output="logits"))(SCORED)
    np.testing.assert_allclose(named, plain, atol=1e-6)
    with pytest.raises(SettingError, match=r"should give scores of shape \(batch, labels\)"):
        opened(folder)(SCORED)
    with pytest.raises(SettingError, match="not in the graph"):
        opened(folder, CrossEncoder(output="score"))

"""A pair's score is a matter of the pair alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastembed_stream import CROSS_ENCODER, OpenModel, Runtime, open_model
from fastembed_stream.families.cross_encoder import CrossEncoder
from fastembed_stream.model import Model
from fastembed_stream.values import Pair
from tests.fastembed_stream.examples import MIXED_LENGTHS, ODD_TEXTS, real_model, texts
from tests.fastembed_stream.late_models import write_cross_encoder
from tests.fastembed_stream.tiny_models import row

QUERIES = ("what is a stream of text", "", "kafka " * 30)
PAIRS: tuple[Pair, ...] = tuple(
    (QUERIES[number % 3], text) for number, text in enumerate((*ODD_TEXTS, *MIXED_LENGTHS))
)
Scores = OpenModel[Pair, Pair, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """
    A model to try the laws on.

    make       writes the folder and describes it
    tolerance  by how much two scores of one pair may differ, absolute
    """

    make: Callable[[Path], Model]
    tolerance: float = 1e-6

    def open(self, folder: Path, **runtime: Any) -> Scores:
        """Open the model, with two threads unless told."""
        how: dict[str, Any] = {"device": "cpu", "threads": 2, "token_budget": 64}
        return open_model(self.make(folder), CROSS_ENCODER, runtime=Runtime(**(how | runtime)))


def _toy(**tokenizer: Any) -> Kind:
    def make(folder: Path) -> Model:
        is_here = (folder / "model.onnx").is_file()
        path = folder if is_here else write_cross_encoder(folder, **tokenizer)
        return row(path, CrossEncoder(), dim=0)

    return Kind(make=make)


def _real(folder: Path) -> Model:
    del folder
    path = real_model("cross-standin")
    return row(path, CrossEncoder(), dim=0, model_file="onnx/model.onnx")


KINDS: dict[str, Kind] = {
    "toy": _toy(),
    "no special tokens": _toy(specials=False),
    "cut at the left": _toy(config={"truncation_side": "left"}),
    "stand-in": Kind(make=_real, tolerance=1e-4),
}
Asked = tuple[Kind, Path]


@pytest.fixture(scope="module", params=KINDS)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return KINDS[request.param], tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def score(asked: Asked) -> Iterator[Scores]:
    kind, folder = asked
    model = kind.open(folder)
    yield model
    model.close()


@pytest.fixture(scope="module")
def alone(score: Scores) -> list[float]:
    """Score each pair in a call of its own."""
    return [score([pair])[0] for pair in PAIRS]


def close(asked: Asked, got: Sequence[float], expected: Sequence[float]) -> None:
    np.testing.assert_allclose(got, expected, atol=asked[0].tolerance, rtol=0)


def test_different_pairs_have_different_scores(alone: list[float]) -> None:
    assert np.isfinite(alone).all()
    assert len({round(score, 5) for score in alone}) > len(PAIRS) // 2


def test_a_pair_alone_equals_the_pair_in_a_batch(
    asked: Asked, score: Scores, alone: list[float]
) -> None:
    close(asked, score(PAIRS), alone)


@settings(max_examples=4)
@given(st.permutations(range(len(PAIRS))))
def test_order_in_is_order_out(
    asked: Asked, score: Scores, alone: list[float], order: list[int]
) -> None:
    close(asked, score([PAIRS[n] for n in order]), [alone[n] for n in order])


@settings(max_examples=5)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=6))
def test_any_pairs_alone_equal_themselves_in_a_batch(
    asked: Asked, score: Scores, several: list[Pair]
) -> None:
    close(asked, score(several), [score([pair])[0] for pair in several])


@pytest.mark.parametrize("window", [1, 2, 5, 1000])
def test_a_stream_gives_the_same_whatever_the_window(
    asked: Asked, score: Scores, alone: list[float], window: int
) -> None:
    close(asked, list(score.stream(iter(PAIRS), window=window)), alone)


@pytest.mark.parametrize(
    "runtime",
    [
        {"token_budget": 1},
        {"token_budget": 100_000},
        {"lanes": 1},
        {"lanes": 3},
        {"device_ids": (0, 1)},
    ],
    ids=str,
)
def test_budgets_lanes_and_sessions_change_no_score(
    asked: Asked, alone: list[float], runtime: dict[str, Any]
) -> None:
    kind, folder = asked
    model = kind.open(folder, **runtime)
    close(asked, model(PAIRS), alone)
    model.close()

"""The vectors are those that fastembed gave when it was last asked."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastembed_stream import TextEmbedding
from tests.fastembed_stream.examples import PACKAGED, packaged_model
from tests.parity.recording import ORIGIN, TEXTS, VECTORS


@pytest.fixture(scope="module")
def model() -> TextEmbedding:
    return TextEmbedding(PACKAGED, specific_model_path=str(packaged_model()), cuda=False, threads=2)


def test_the_vectors_are_the_recorded_ones(model: TextEmbedding) -> None:
    with np.load(VECTORS) as recorded:
        np.testing.assert_allclose(
            np.stack(list(model.embed(TEXTS))), recorded["vectors"], atol=1e-5, rtol=0
        )


def test_the_token_counts_are_the_recorded_ones(model: TextEmbedding) -> None:
    origin = json.loads(ORIGIN.read_text(encoding="utf-8"))
    assert [model.token_count([text]) for text in TEXTS] == origin["token_counts"]


def test_the_recording_says_where_it_comes_from() -> None:
    origin = json.loads(ORIGIN.read_text(encoding="utf-8"))
    assert tuple(origin["texts"]) == TEXTS
    assert origin["versions"]["fastembed"] == "0.9.1"
    assert PACKAGED in origin["model"]

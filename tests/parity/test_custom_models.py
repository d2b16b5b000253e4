"""A model of the user's own gives the same numbers, registered by the same call."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

import fastembed_stream
from fastembed_stream import ModelSource, PoolingType, catalog
from fastembed_stream.errors import SettingError
from tests.fastembed_stream.examples import MIXED_LENGTHS, ODD_TEXTS
from tests.fastembed_stream.tiny_models import DIM, Toy, write
from tests.parity.oracle import Both, both, fastembed

_NUMBERS = itertools.count()
POOLED = Toy(pooled=(("pooled", "first"), ("pooler_output", "first")))


def registered(
    folder: Path, monkeypatch: pytest.MonkeyPatch, pooling: str, **settings: Any
) -> Both:
    """Register a folder in both libraries under a fresh name, and open it."""
    from fastembed.common import model_description as theirs
    from fastembed.text.custom_text_embedding import CustomTextEmbedding

    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))
    # Their registry is a list of the class, for the whole process.
    known = list(CustomTextEmbedding.SUPPORTED_MODELS)
    monkeypatch.setattr(CustomTextEmbedding, "SUPPORTED_MODELS", known)
    name = f"tests/custom-{next(_NUMBERS)}"
    common: dict[str, Any] = {"model": name, "dim": DIM, "model_file": "model.onnx"} | settings
    fastembed().TextEmbedding.add_custom_model(
        pooling=theirs.PoolingType(pooling), sources=theirs.ModelSource(hf=name), **common
    )
    fastembed_stream.TextEmbedding.add_custom_model(
        pooling=PoolingType(pooling), sources=ModelSource(hf=name), **common
    )
    return both(name, folder)


@pytest.fixture(autouse=True)
def _oracle() -> None:
    fastembed()


@pytest.mark.parametrize("normalization", [True, False])
@pytest.mark.parametrize(
    ("pooling", "side"),
    [  # the first position of a row padded on the left is padding, so CLS has one side
        ("CLS", "right"),
        ("MEAN", "right"),
        ("MEAN", "left"),
        ("LAST_TOKEN", "right"),
        ("LAST_TOKEN", "left"),
    ],
)
def test_a_custom_model_agrees(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pooling: str,
    normalization: bool,  # noqa: FBT001
    side: str,
) -> None:
    folder = write(tmp_path, config={"padding_side": side})
    models = registered(folder, monkeypatch, pooling, normalization=normalization)
    models.agree((*ODD_TEXTS, *MIXED_LENGTHS))


@pytest.mark.parametrize("normalization", [True, False])
@pytest.mark.parametrize("output_name", ["pooled", "pooler_output"])
def test_a_custom_model_with_a_pooled_output_agrees(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    normalization: bool,  # noqa: FBT001
    output_name: str,
) -> None:
    models = registered(
        write(tmp_path, POOLED),
        monkeypatch,
        "DISABLED",
        normalization=normalization,
        output_name=output_name,
    )
    models.agree(ODD_TEXTS)


def test_a_custom_model_in_half_precision_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, Toy(half=True))
    registered(folder, monkeypatch, "MEAN", normalization=True).agree(ODD_TEXTS, within=1e-3)


def test_an_output_that_the_graph_lacks_is_refused_by_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastembed().TextEmbedding, "__init__", lambda *_, **__: None)
    with pytest.raises(SettingError, match=r"'sentence' is not in the graph; it has last_hidden"):
        registered(
            write(tmp_path), monkeypatch, "DISABLED", normalization=True, output_name="sentence"
        )


def test_no_pooling_over_token_vectors_is_refused_by_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path)
    with pytest.raises(SettingError, match="Pooling 'none' expects"):
        registered(folder, monkeypatch, "DISABLED", normalization=True)  # opens it
    name = fastembed().TextEmbedding.list_supported_models()[-1]["model"]
    theirs = fastembed().TextEmbedding(name, specific_model_path=str(folder))
    with pytest.raises(ValueError, match="pooling expects"):
        list(theirs.embed(["a"]))

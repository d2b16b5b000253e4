"""
Libraries that use fastembed, on this engine and on models small enough to make in a test.

This runs in an environment of its own that has those libraries: see CONTRIBUTING.md. Nothing here
fetches anything.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastembed_stream
from fastembed_stream import Colbert, ColPali, CrossEncoder, catalog
from tests.fastembed_stream.late_models import write_cross_encoder, write_late
from tests.fastembed_stream.tiny_images import PAGE_DIM, image_row, write_colpali, write_image_model
from tests.fastembed_stream.tiny_models import row
from tests.fastembed_stream.tiny_sparse import write_splade


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    """Stand for fastembed before any of the libraries is imported."""
    fastembed_stream.install_as_fastembed()


@pytest.fixture(scope="session", autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make one small model of each kind known by name."""
    folder = tmp_path_factory.mktemp("models")
    colbert = Colbert(query_marker=700, document_marker=800)
    splade = write_splade(folder / "sparse")
    rows = (
        image_row(write_image_model(folder / "image"), name="tests/image"),
        row(write_late(folder / "late"), colbert, name="tests/late"),
        row(_pages(folder / "pages"), ColPali(), name="tests/pages", dim=PAGE_DIM),
        row(write_cross_encoder(folder / "cross"), CrossEncoder(), name="tests/cross", dim=0),
        row(folder / "sparse", splade.recipe, name="tests/sparse", dim=0),
    )
    for each in rows:
        catalog.add(each)
    yield
    assert "fastembed_stream" in str(sys.modules["fastembed"].__spec__)


def _pages(folder: Path) -> Path:
    write_colpali(folder)
    return folder

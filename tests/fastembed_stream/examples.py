"""Texts that tests read, and where the real models are."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import strategies as st

from fastembed_stream import Fetching, ModelFilesError, catalog, locate

ROOT = Path(__file__).parents[2]
TEST_MODELS = Path(os.environ.get("FASTEMBED_STREAM_TEST_MODELS", ROOT / "../shared/models"))
PACKAGED = "fastembed-stream/all-MiniLM-L6-v2-int8"

ODD_TEXTS = (
    "",
    "   \t\n ",
    "A stream of text",
    "emoji 🙂👩‍👩‍👧‍👦🏳️‍🌈 flags 🇮🇱",
    "这是一个没有空格的中文句子，用来检查分词。",
    "日本語のテキストとカタカナ",
    "combining: e\u0301 a\u0308\u0323 Z\u0351\u036b\u0343",
    "right to left: שלום עולם مرحبا بالعالم",
    "control \x00 characters \x07 here \x1b[0m and \u200b zero \ufeff width \u202e turned",
    "unprintable \ufffd and private \ue000 and astral \U0010ffff",
    "special [PAD] [MASK] [CLS] [SEP] [UNK] words",
    "x" * 150,
    "punctuation!?.,;:-—'\"()[]{}<>|\\/@#$%^&*_+=~`",
    "ÀÉÎÕÜ ß Ł ø İ ﬁ Ⅷ ½",
)
MIXED_LENGTHS = tuple(
    f"{number} times " + "the stream of text is a vector " * number for number in range(0, 40, 6)
)

texts = st.one_of(
    st.sampled_from(ODD_TEXTS),
    st.text(max_size=80),
    st.lists(st.sampled_from(["stream", "of", "kafka", "zq", "中", "é", "[PAD]"]), max_size=60).map(
        " ".join
    ),
)


def real_model(name: str) -> Path:
    """Give the folder of a test model, or skip."""
    folder = TEST_MODELS / name
    if not folder.is_dir():
        pytest.skip(f"no folder {name!r} among the test models; FASTEMBED_STREAM_TEST_MODELS")
    return folder


_CACHE = tempfile.TemporaryDirectory(prefix="fastembed-stream-")  # removed at exit


@functools.cache
def _packaged() -> Path | ModelFilesError:
    cache = Path(_CACHE.name)
    try:
        return locate(catalog.find(PACKAGED), fetching=Fetching(cache_dir=cache, offline=True))
    except ModelFilesError as error:
        return error


def packaged_model() -> Path:
    """Give the folder of the model that comes as a Python package, or skip."""
    folder = _packaged()
    if isinstance(folder, ModelFilesError):
        pytest.skip(str(folder))
    return folder

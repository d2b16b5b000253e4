"""A named vector is described whole, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from fastembed_stream import SettingError
from operators import VectorSpace


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "A dense vector of m cannot have 0 dimensions"),
        ({"shape": "multi"}, "A multi vector of m cannot have 0 dimensions"),
        ({"dim": -1}, "cannot have -1 dimensions"),
        ({"shape": "sparse", "dim": 3}, "A sparse vector of m cannot have 3 dimensions"),
        ({"dim": 3, "needs_idf": True}, "Only sparse vectors are weighed by idf; those of m are"),
        ({"shape": "sparse", "quantization": "scalar"}, "cannot quantize sparse vectors"),
    ],
)
def test_a_space_that_cannot_be_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        VectorSpace(model="m", fingerprint="f", **wrong)

"""How many tokens a model has positions for, as its config.json tells."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Positions", "stated"]

_PADDING_HAS_ONE = frozenset(
    {
        "camembert",
        "data2vec-text",
        "ibert",
        "lilt",
        "longformer",
        "luke",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)
"""Types of models whose table of positions starts with padding's: 514 rows for 512 tokens."""

_COMPUTED = re.compile(r"(^|_)(alibi|rope|rotary|relative_attention)")
"""What keys of config.json hold where positions are computed, and no table ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """
    The positions of a model.

    n           how many tokens have one; None where nothing tells
    first       the position of the first token
    is_a_table  whether there are no more than those
    """

    n: int | None = None
    first: int = 0
    is_a_table: bool = True

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Positions:
        """
        Read config.json.

        >>> Positions.of(
        ...     {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
        ... )
        Positions(n=512, first=2, is_a_table=True)
        """
        # Models of more than text keep what their texts have apart.
        of_texts = config.get("text_config")
        config = {**of_texts, **config} if isinstance(of_texts, dict) else config
        n = stated(config.get("max_position_embeddings"))
        first = 0
        if config.get("model_type") in _PADDING_HAS_ONE:
            first = (stated(config.get("pad_token_id")) or 1) + 1
        if n is not None and n > first:
            n -= first
        return cls(n=n, first=first, is_a_table=not _computes(config))


def _computes(config: Mapping[str, Any]) -> bool:
    if config.get("position_embedding_type", "absolute") != "absolute":
        return True
    return any(bool(value) and _COMPUTED.search(str(key)) for key, value in config.items())


def stated(value: object) -> int | None:
    """Take a limit that means something: transformers writes 1e30 where it knows none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= sys.maxsize:
        return None
    return value

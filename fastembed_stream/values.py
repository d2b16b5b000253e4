"""Names for the arrays that cross borders; shapes stand in the docstrings that use them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Feeds", "Floats", "Ints", "Outputs"]

Floats: TypeAlias = NDArray[np.float32]
"""float32 arrays: hidden states, vectors."""

Ints: TypeAlias = NDArray[np.int64]
"""int64 arrays: token ids, masks, lengths."""

Feeds: TypeAlias = dict[str, Ints]
"""What goes into a session, by input name."""

Outputs: TypeAlias = list[Floats]
"""What comes out of a session, in the order asked for."""

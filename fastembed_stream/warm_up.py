"""
Which token budget suits this model on this machine: measured, not guessed.

On a CPU small groups win, since their tensors stay in cache; on a GPU large ones do. The curve is
flat around its best point, so few sizes, each tried twice, find it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["CPU_BUDGETS", "GPU_BUDGETS", "best_budget"]

_LOG = logging.getLogger(__name__)

CPU_BUDGETS = (128, 256, 512, 1024, 2048)
"""Tokens of one group that are tried on a CPU."""

GPU_BUDGETS = (2048, 4096, 8192, 16384, 32768, 65536)
"""Tokens of one group that are tried on a GPU."""

_TIME_LIMIT_S = 1.5
_GOOD_ENOUGH = 0.97
_PAST_THE_BEST = 0.9


def best_budget(
    seconds_for: Callable[[int], float],
    budgets: Sequence[int],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """
    Find the smallest budget that is about as fast as the fastest.

    Stops once sizes get clearly slower, or when the time is up: a large model is measured at few
    sizes, a small one at all, within two seconds.

    seconds_for  runs one group of that many tokens on every lane, gives the seconds
    budgets      ascending sizes
    """
    start = clock()
    speed: dict[int, float] = {}
    seconds_for(budgets[0])  # the first run of a session allocates
    for budget in budgets:
        speed[budget] = budget / min(seconds_for(budget), seconds_for(budget))
        if clock() - start > _TIME_LIMIT_S or speed[budget] < _PAST_THE_BEST * max(speed.values()):
            break
    best = max(speed.values())
    chosen = min(budget for budget, rate in speed.items() if rate >= _GOOD_ENOUGH * best)
    _LOG.info(
        "Token budget %d, of %s measured in %.1f s",
        chosen,
        ", ".join(f"{budget}: {rate / best:.0%}" for budget, rate in speed.items()),
        clock() - start,
    )
    return chosen

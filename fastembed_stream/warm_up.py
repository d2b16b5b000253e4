"""
Which lanes and which token budget suit this model on this machine: measured, not guessed.

On a CPU small groups win, since their tensors stay in cache; on a GPU large ones do. The curve is
flat around its best point, so few sizes, each tried a few times, find it.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastembed_stream.errors import DeviceError, ModelFilesError
from fastembed_stream.threads import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["CPU_BUDGETS", "GPU_BUDGETS", "Budget", "Calibration", "Layout", "calibrate"]

_LOG = logging.getLogger(__name__)

CPU_BUDGETS = (128, 256, 512, 1024, 2048)
"""Tokens of one group that are tried on a CPU."""

GPU_BUDGETS = (2048, 4096, 8192, 16384, 32768, 65536)
"""Tokens of one group that are tried on a GPU."""

_TIME_LIMIT_S = 1.5
_SHARE_OF_LANES = 0.5
"""Of the time limit, what comparing two layouts may take."""
_GOOD_ENOUGH = 0.97
_LONG_ENOUGH_S = 0.02
_MOST_TRIES = 10
_PAST_THE_BEST = 0.9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """
    One way to spread calls over the machine.

    lanes        calls that run at the same time
    seconds_for  runs one group of that many tokens on every lane at once, gives the seconds
    """

    lanes: int
    seconds_for: Callable[[int], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What suits the machine: the layout, and the tokens of one group."""

    layout: Layout
    budget: int


@dataclass(slots=True, kw_only=True)
class _Trial:
    """A layout, and by budget how many seconds one group on every lane took."""

    layout: Layout
    seconds: dict[int, float] = field(default_factory=dict)

    def speed(self, budget: int) -> float:
        """Tell the tokens in a second by the best of some tries: other work may slow one."""
        run = self.layout.seconds_for
        if not self.seconds:
            run(budget)  # the first run of a session allocates
        if budget not in self.seconds:
            tries = [run(budget), run(budget)]
            # A try of a tiny model is over within a millisecond, which any other work can double.
            while sum(tries) < _LONG_ENOUGH_S and len(tries) < _MOST_TRIES:
                tries.append(run(budget))
            self.seconds[budget] = min(tries)
        return self.layout.lanes * budget / self.seconds[budget]

    def expected_s(self, budget: int) -> float:
        """Tell how long two tries of a budget should take, from the nearest one that was tried."""
        near = min(self.seconds, key=lambda tried: abs(tried - budget))
        return 2 * self.seconds[near] * budget / near


def calibrate(
    first: Layout,
    budgets: Sequence[int],
    *,
    other: Callable[[], Layout] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Calibration:
    """
    Choose the layout at a middle budget, then the middle of the budgets about as fast as the best.

    Stops once sizes get clearly slower, when a size does not fit into memory, or when the time is
    up: a large model is measured at one layout and few sizes, a small one at all, within two
    seconds.

    budgets  ascending sizes; a single one is kept, and serves to choose the layout
    other    opens a second layout, which has to be clearly faster to win
    raises   DeviceError where not even the smallest size runs
    """
    started = clock()
    trial = _Trial(layout=first)
    trial.speed(budgets[0])
    compared = "not compared"
    middle = budgets[len(budgets) // 2]
    if other is not None and 2 * trial.expected_s(middle) <= _SHARE_OF_LANES * _TIME_LIMIT_S:
        trial, compared = _faster(trial, other, middle)
    speeds = {budgets[0]: trial.speed(budgets[0])}
    for budget in budgets[1:]:
        too_long = clock() - started + trial.expected_s(budget) > _TIME_LIMIT_S
        if too_long and budget not in trial.seconds:
            break
        try:
            speeds[budget] = trial.speed(budget)
        except DeviceError as error:
            _LOG.debug("Groups of %d tokens do not run: %s", budget, error)
            break
        if speeds[budget] < _PAST_THE_BEST * max(speeds.values()):
            break
    best = max(speeds.values())
    fast = [budget for budget, speed in speeds.items() if speed >= _GOOD_ENOUGH * best]
    # Real rows fill a group between half and wholly, and tries are noisy: the middle is safe.
    chosen = round(math.sqrt(fast[0] * fast[-1]))
    _LOG.info(
        "Calibrated in %.1f s: token budget %d (%s), lanes %d (%s)",
        clock() - started,
        chosen,
        ", ".join(f"{budget}: {speed / best:.0%}" for budget, speed in speeds.items()),
        trial.layout.lanes,
        compared,
    )
    return Calibration(layout=trial.layout, budget=chosen)


def _faster(first: _Trial, other: Callable[[], Layout], budget: int) -> tuple[_Trial, str]:
    """Compare two layouts at one budget; a draw or a failure goes to the one that is open."""
    try:
        here, second = first.speed(budget), _Trial(layout=other())
        there = second.speed(budget)
    except (DeviceError, ModelFilesError) as error:
        return first, f"not compared: {error}"
    best = max(here, there)
    lanes = first.layout.lanes, second.layout.lanes
    compared = f"{lanes[0]}: {here / best:.0%}, {lanes[1]}: {there / best:.0%}"
    return (first if here >= _GOOD_ENOUGH * there else second), compared


class Budget:
    """Tokens of one group: given, or measured once, or a default until then."""

    def __init__(self, given: int | None, *, on_gpu: bool, lanes_are_given: bool) -> None:
        self._value = given
        self._is_settled = given is not None and lanes_are_given
        self._candidates = GPU_BUDGETS if on_gpu else CPU_BUDGETS
        self._default = 8192 if on_gpu else 256
        self._lock = ForkSafeLock()

    @property
    def known(self) -> int:
        """Give what is known by now."""
        return self._value or self._default

    def measured(self, calibrated: Callable[[Sequence[int]], int]) -> int:
        """Give the budget; whoever asks first measures it, at the given one alone if there is."""
        with self._lock:
            if not self._is_settled:
                given = self._value
                self._value = calibrated(self._candidates if given is None else (given,))
                self._is_settled = True
            return self.known

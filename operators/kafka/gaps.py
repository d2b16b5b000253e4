"""What a log no longer has, where a flow wants to go on."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, TypeAlias

from operators.metrics import GAPS
from operators.outages import BrokenFlowError

__all__ = ["Gap", "OnGap"]

_LOG = logging.getLogger(__name__)

OnGap: TypeAlias = Literal["fail", "continue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """
    A place to resume from that the log of a partition no longer has.

    low, high  where the log starts and ends now
    was, now   ids of the log that the place is of and of today's; empty where they are not known
    """

    topic: str
    partition: int
    wanted: int
    low: int
    high: int
    was: str = ""
    now: str = ""

    @property
    def of_another_log(self) -> bool:
        """Tell whether the topic is known to have been made again."""
        return bool(self.was and self.now and self.was != self.now)

    def jumped(self, on_gap: OnGap) -> int:
        """Give the offset to go on from, or fail and say what is lost."""
        GAPS.labels(self.topic, str(self.partition)).inc()
        where = f"{self.topic}/{self.partition}"
        what, advice = self._told()
        if on_gap == "fail":
            msg = f"{where} cannot resume at offset {self.wanted}; {what}. {advice}"
            raise BrokenFlowError(msg)
        _LOG.warning("%s: resume at %d wanted, %s; going on", where, self.wanted, what)
        return self.low

    def _told(self) -> tuple[str, str]:
        if self.wanted < self.low and not self.of_another_log:
            what = (
                f"{self.low - self.wanted} messages are gone (retention): "
                f"the log starts at {self.low}"
            )
            advice = (
                "To go on without them, set on_gap='continue'; to read all again, start with an "
                "empty recovery store."
            )
            return what, advice
        what = f"the log ends at {self.high}: the topic was made again"
        if self.of_another_log and self.wanted <= self.high:
            what = (
                f"the topic was made again: its id was {self.was} and is {self.now}, "
                f"and what is there now reaches from {self.low} to {self.high}"
            )
        advice = (
            "Start with an empty recovery store; to keep this one and go on from the start of "
            "the log, set on_gap='continue'."
        )
        return what, advice

"""What a log no longer has, where a flow wants to go on."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, TypeAlias

from operators.outages import BrokenFlowError

__all__ = ["Gap", "OnGap"]

_LOG = logging.getLogger(__name__)

OnGap: TypeAlias = Literal["fail", "continue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A place to resume from that the log of a partition no longer has."""

    where: str
    wanted: int
    low: int
    high: int

    def jumped(self, on_gap: OnGap) -> int:
        """Give the offset to go on from, or fail and say what is lost."""
        if self.wanted < self.low:
            lost = self.low - self.wanted
            what = f"{lost} messages are gone (retention): the log starts at {self.low}"
            advice = (
                "To go on without them, set on_gap='continue'; to read all again, start with an "
                "empty recovery store."
            )
        else:
            what = f"the log ends at {self.high}: the topic was made again"
            advice = (
                "Start with an empty recovery store; to keep this one and go on from the start of "
                "the log, set on_gap='continue'."
            )
        if on_gap == "fail":
            msg = f"{self.where} cannot resume at offset {self.wanted}; {what}. {advice}"
            raise BrokenFlowError(msg)
        _LOG.warning("%s: resume at %d wanted, %s; going on", self.where, self.wanted, what)
        return self.low

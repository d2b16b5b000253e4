"""
What a test can do to the server while it runs, and what it can ask it afterwards.

The board of faults is shared by both doors (REST and gRPC), so a fault means the same on either.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
Kind = Literal["status", "delay", "reset", "reset_after"]

# What `routes` may name besides a single operation. A greeting (GET /) is never hit: the client
# sends one by itself, from a thread, and would use up a fault that is meant for a write.
POINT_OPERATIONS = frozenset(
    (
        *("upsert", "update_vectors", "delete_vectors", "delete", "batch"),
        *("set_payload", "overwrite_payload", "delete_payload", "clear_payload"),
        *("retrieve", "count", "scroll", "query", "query_batch"),
    )
)
COLLECTION_OPERATIONS = frozenset(
    ("create", "update", "drop", "exists", "info", "list", "create_index", "delete_index")
)


class Refusal(Exception):  # noqa: N818 - it is an answer before it is an error
    """A request that is answered with an error: `status` as REST has it, the words for the body."""

    def __init__(self, status: int, message: str, retry_after_s: float | str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s


class HangUp(Exception):  # noqa: N818 - as above
    """The connection is to be torn down without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """
    What a request carries.

    content  its bytes, in which both doors have texts as they are
    n_items  points or queries in it
    """

    size_bytes: int
    content: Callable[[], bytes]
    n_items: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    One armed fault.

    status       the HTTP status of a refusal; gRPC answers with the code that it stands for
    retry_after  seconds that the refusal asks for, None to ask for nothing
    seconds      how much later a delayed answer comes
    count        how many matching requests it hits; None: all, until cleared
    routes       "all", "points", "collections", or one operation such as "upsert"
    about        hits only requests that hold this text
    more_than    hits only requests of more points or queries than these
    message      what a refusal says; None says which fault it is
    """

    kind: Kind
    status: int = 503
    retry_after: float | str | None = None
    seconds: float = 0.0
    count: int | None = 1
    routes: str = "all"
    about: str | None = None
    more_than: int = -1
    message: str | None = None

    def __post_init__(self) -> None:
        known = {"all", "points", "collections", *POINT_OPERATIONS, *COLLECTION_OPERATIONS}
        if self.kind not in get_args(Kind):
            message = f"No fault of kind {self.kind!r}, expected one of {get_args(Kind)}."
            raise ValueError(message)
        if self.routes not in known:
            message = f"No routes {self.routes!r}, expected one of {sorted(known)}."
            raise ValueError(message)

    def hits(self, operation: str, carried: Carried) -> bool:
        groups = {"points": POINT_OPERATIONS, "collections": COLLECTION_OPERATIONS}
        if self.routes not in {"all", operation} and operation not in groups.get(self.routes, ()):
            return False
        if self.about is not None and self.about.encode() not in carried.content():
            return False
        return self.more_than < 0 or carried.n_items() > self.more_than


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What befalls one request: a wait, then at most one other fault."""

    delay_s: float = 0.0
    fault: Fault | None = None


class Faults:
    """The armed faults, in the order in which they were armed, and how often each kind struck."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[Fault] = []
        self._struck: Counter[str] = Counter()

    def arm(self, fault: Fault) -> None:
        with self._lock:
            self._armed.append(fault)

    def clear(self) -> None:
        """Disarm all; the counters stay."""
        with self._lock:
            self._armed.clear()

    def report(self) -> dict[str, object]:
        with self._lock:
            return {"armed": [asdict(fault) for fault in self._armed], "struck": dict(self._struck)}

    def judge(self, operation: str, carried: Carried) -> Verdict:
        """Take what the next request of this operation meets: every delay, and one fault more."""
        with self._lock:
            meets = [fault for fault in self._armed if fault.hits(operation, carried)]
            delays = [fault for fault in meets if fault.kind == "delay"]
            others = [fault for fault in meets if fault.kind != "delay"][:1]
            for fault in (*delays, *others):
                self._spend(fault)
        return Verdict(delay_s=sum(f.seconds for f in delays), fault=next(iter(others), None))

    def _spend(self, fault: Fault) -> None:
        self._struck[fault.kind] += 1
        if fault.count is None:
            return
        # By identity: two faults that a test armed alike are still two.
        at = next(at for at, armed in enumerate(self._armed) if armed is fault)
        rest = [replace(fault, count=fault.count - 1)] if fault.count > 1 else []
        self._armed[at : at + 1] = rest


@dataclass(slots=True)
class Stats:
    """What came in. A request counts when it arrives, an upsert when it has been applied."""

    requests: Counter[str] = field(default_factory=Counter)
    points_per_upsert: list[int] = field(default_factory=list)
    largest_body_bytes: int = 0
    n_concurrent: int = 0
    max_concurrent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def request(self, operation: str, size_bytes: int) -> Iterator[None]:
        """Count one request while it is being served."""
        with self.lock:
            self.requests[operation] += 1
            self.largest_body_bytes = max(self.largest_body_bytes, size_bytes)
            self.n_concurrent += 1
            self.max_concurrent = max(self.max_concurrent, self.n_concurrent)
        try:
            yield
        finally:
            with self.lock:
                self.n_concurrent -= 1

    def upserted(self, n_points: int) -> None:
        with self.lock:
            self.points_per_upsert.append(n_points)

    def reset(self) -> None:
        with self.lock:
            self.requests.clear()
            self.points_per_upsert.clear()
            self.largest_body_bytes = 0
            self.max_concurrent = self.n_concurrent

    def report(self) -> dict[str, object]:
        with self.lock:
            return {
                "requests": dict(self.requests),
                "upserts": len(self.points_per_upsert),
                "points_per_upsert": list(self.points_per_upsert),
                "largest_body_bytes": self.largest_body_bytes,
                "max_concurrent": self.max_concurrent,
            }


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Where each request passes on its way to the engine, whichever door it came through."""

    faults: Faults
    stats: Stats

    def serve(self, operation: str, carried: Carried, apply: Callable[[], T]) -> T:
        """
        Apply a request, or let an armed fault befall it.

        operation  as the routes of a fault name it
        apply      does the work and returns the answer
        raises     Refusal and HangUp, which each door turns into its own kind of failure
        """
        with self.stats.request(operation, carried.size_bytes):
            verdict = self.faults.judge(operation, carried)
            time.sleep(verdict.delay_s)
            match verdict.fault:
                case Fault(kind="reset"):
                    raise HangUp
                case Fault(kind="status") as fault:
                    message = fault.message or f"Fault: {fault.status} on {operation}"
                    raise Refusal(fault.status, message, fault.retry_after)
                case Fault(kind="reset_after"):
                    apply()
                    raise HangUp
                case _:
                    return apply()

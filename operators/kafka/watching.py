"""Topics that change under a flow: made again, or with more partitions than at its start."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from operators.kafka.cluster import CALL_TIMEOUT_S, Cluster, Described, id_of
from operators.metrics import UNREAD_PARTITIONS
from operators.outages import BrokenFlowError
from operators.shutdown import STOP

__all__ = ["TopicWatch", "end_for_a_restart"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    """A topic as it was when reading began; None until somebody has said how many partitions."""

    log: str
    n_partitions: int | None


class TopicWatch:
    """
    Asks the brokers now and then whether topics are still what they were.

    Bytewax takes in partitions only while a flow starts, and messages of a topic made again cannot
    be told from those of the old one. Either ends the flow, for a restart to read all that there is
    then. It never waits: an answer is looked at when it has come, and one that does not come is
    asked for again.
    """

    def __init__(
        self, cluster: Cluster, refresh_s: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._refresh_s = refresh_s
        self._now = now
        self._next = now() + refresh_s
        self._known: dict[str, _Known] = {}
        self._asked: Mapping[str, Future[Described]] = {}
        self._admin: AdminClient | None = None  # one for all questions, since it outlives answers

    def add(self, topic: str, log: str, n_partitions: int | None) -> None:
        """Take on a topic, as it is now."""
        self._known[topic] = _Known(log, n_partitions)
        UNREAD_PARTITIONS.labels(topic).set(0)

    def look(self) -> bool:
        """
        Ask again when it is time, and act on answers; tell whether it was time.

        raises  BrokenFlowError, in a process of someone else, where the flow has to be restarted
        """
        if self._asked and all(one.done() for one in self._asked.values()):
            answers, self._asked = self._asked, {}
            for topic, answer in answers.items():
                self._compare(topic, answer)
        if self._now() < self._next:
            return False
        self._next = self._now() + self._refresh_s
        if not self._asked:
            self._ask()
        return True

    def _ask(self) -> None:
        if self._admin is None:
            self._admin = self._cluster.admin()
        self._admin.poll(0)  # what it has to say of its connections would pile up
        self._asked = self._admin.describe_topics(
            TopicCollection(list(self._known)), request_timeout=CALL_TIMEOUT_S
        )

    def _compare(self, topic: str, answer: Future[Described]) -> None:
        error = answer.exception()
        if error is not None:  # away, forbidden, or deleted: the consumer tells what matters of it
            _LOG.debug("%s: not described: %s", topic, error)
            return
        known, found = self._known[topic], answer.result()
        log, n_partitions = id_of(found), len(found.partitions)
        if known.log and log and log != known.log:
            end_for_a_restart(
                f"{topic} was made again while it was read: its id was {known.log} and is {log}"
            )
        elif known.n_partitions is None:
            self._known[topic] = _Known(known.log, n_partitions)
        elif n_partitions > known.n_partitions:
            UNREAD_PARTITIONS.labels(topic).set(n_partitions - known.n_partitions)
            end_for_a_restart(
                f"{topic} has {n_partitions} partitions, {known.n_partitions} of which are read: "
                "others can be taken in only at a start"
            )


def end_for_a_restart(why: str) -> None:
    """
    End the flow with all that it has read written and committed, for its supervisor to start again.

    raises  BrokenFlowError in a process of someone else, who would take an end for the end of what
            there is to read
    """
    if not STOP.ends_process:
        msg = f"{why}. A restart reads the new one."
        raise BrokenFlowError(msg)
    STOP.restart(why)

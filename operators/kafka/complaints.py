"""What librdkafka's connections say while brokers are away: told as what it is, not too often."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient

from fastembed_stream.redaction import redacted
from operators.outages import SaidOnce

__all__ = ["Client", "Complaints", "hear", "patience"]

_LOG = logging.getLogger(__name__)

# librdkafka says each failed connection again and again, which `Complaints` says once in a while.
# Lower this logger's level to hear all of it.
_LIBRDKAFKA = logging.getLogger("operators.kafka.cluster.librdkafka")
_LIBRDKAFKA.setLevel(logging.CRITICAL)

Client = TypeVar("Client", Consumer, Producer, AdminClient)

_FIRST_TIMEOUT_S = 2.0
"""Of the first question: what is wrong with a connection is heard only between two."""

_SAID = SaidOnce()
"""By brokers and kind: several clients of a process meet the same trouble."""

_TIMING = re.compile(r"\s*\(after \d+ms in state \w+[^)]*\)")
_PLACE = re.compile(r"^(?:\[thrd:[^\]]*\]: )?(?:\w+://)?\S+/(?:bootstrap|\d+): ")

_MEANINGS: Mapping[int, str] = {
    KafkaError._AUTHENTICATION: (  # noqa: SLF001  the binding's own public names
        "the brokers refuse the login; check sasl.mechanism, sasl.username and sasl.password"
    ),
    KafkaError._RESOLVE: "no such host; check the name, and the network's DNS",  # noqa: SLF001
    KafkaError._SSL: "TLS failed; check security.protocol and the ssl.* options",  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN: (  # noqa: SLF001
        "no broker can be reached; check host, port, security.protocol and the login"
    ),
}
_TLS_TO_PLAINTEXT = "the port does not speak TLS; check the port, or leave TLS out of the options"
_PLAINTEXT_TO_TLS = (
    'the brokers hang up on what is not TLS; set "security.protocol" to SSL or SASL_SSL, or check '
    "that the port is a Kafka broker's"
)
_UNTRUSTED = "the brokers' certificate is not trusted; check ssl.ca.location and the host's name"
_REFUSED = "nothing listens at that port; check host and port, and that the brokers run"

_WORDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), meaning)
    for pattern, meaning in (
        (r"certificate", _UNTRUSTED),
        (r"PLAINTEXT broker listener|wrong version|timed out in state SSL_HAND", _TLS_TO_PLAINTEXT),
        (r"Disconnected.*ApiVersion|SSL listener|invalid response size", _PLAINTEXT_TO_TLS),
        (r"refused", _REFUSED),
    )
)


class Complaints:
    """
    The callbacks of one client: what its connections meet is logged once, then each minute.

    Calling it takes an error; `log` takes librdkafka's log, where alone it stands that a broker
    hangs up, or does not answer TLS. All of that log goes on to the logger
    `operators.kafka.cluster.librdkafka`.
    """

    def __init__(self, brokers: str, said: SaidOnce = _SAID) -> None:
        self._brokers = brokers
        self._said = said
        self._explained = False

    def __call__(self, error: KafkaError) -> None:
        """Log an error, unless it was said a moment ago."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN and self._explained:  # noqa: SLF001
            return
        self._tell(_meaning(error.str()) or _MEANINGS.get(error.code(), ""), error.str())

    def log(self, level: int, template: str, *parts: object) -> None:
        """Take a line of librdkafka's log."""
        _LIBRDKAFKA.log(level, template, *parts)
        text = str(parts[-1]) if parts else template
        meaning = _meaning(text)
        if meaning in {_PLAINTEXT_TO_TLS, _TLS_TO_PLAINTEXT}:
            self._tell(meaning, text)

    def _tell(self, meaning: str, text: str) -> None:
        self._explained = True
        text = _PLACE.sub("", _TIMING.sub("", text))
        if self._said.due((self._brokers, meaning or text)):
            told = f"{meaning} ({text})" if meaning else text
            _LOG.warning("Kafka %s: %s; trying again", redacted(self._brokers), redacted(told))


def _meaning(text: str) -> str:
    """Say what librdkafka's words mean; '' where its code says more."""
    return next((meaning for pattern, meaning in _WORDS if pattern.search(text)), "")


def hear(*clients: Consumer | Producer | AdminClient) -> None:
    """Let clients call back what their connections have met."""
    for client in clients:
        # A poll of one that reads would take a message away.
        if not isinstance(client, Consumer) or not client.assignment():
            client.poll(0)


def patience(longest_s: Callable[[], float]) -> Iterator[float]:
    """Give how long each question may take: the first is short, for its trouble to be heard."""
    yield min(_FIRST_TIMEOUT_S, longest_s())
    while True:
        yield longest_s()

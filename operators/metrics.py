"""
What a flow tells about itself, in Prometheus' terms.

Bytewax' own server listens on all addresses and can end a run when its port is taken, so a flow
serves these by itself, on a port that was asked for.
"""

from __future__ import annotations

import logging

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from fastembed_stream.errors import SettingError

__all__ = [
    "BATCH_SECONDS",
    "DEAD_LETTERS",
    "FAILURES",
    "GAPS",
    "IN_FLIGHT",
    "LAST_COMMIT",
    "LAST_OFFSET",
    "POINTS_WRITTEN",
    "RECORDS_READ",
    "RESULTS_WRITTEN",
    "RETRIES",
    "TRUNCATED_TEXTS",
    "TRUNCATED_TOKENS",
    "UNRANKED_HITS",
    "UNREAD_PARTITIONS",
    "WINDOW_RECORDS",
    "serve",
]

_LOG = logging.getLogger(__name__)

RECORDS_READ = Counter("stream_records_read_total", "Messages decoded, good or bad")
FAILURES = Counter("stream_failures_total", "Records that left as failures", ["stage"])
WINDOW_RECORDS = Histogram(
    "stream_window_records", "Records of each window", buckets=(1, 4, 16, 64, 128, 256, 512, 1024)
)
BATCH_SECONDS = Histogram(
    "stream_batch_seconds",
    "Seconds that a batch spent in all stages",
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)
IN_FLIGHT = Gauge("stream_batches_in_flight", "Batches in stages now")
TRUNCATED_TEXTS = Gauge(
    "stream_truncated_texts", "Texts that lost tokens to the model's limit", ["stage"]
)
TRUNCATED_TOKENS = Gauge("stream_truncated_tokens", "Tokens they lost", ["stage"])
UNRANKED_HITS = Counter(
    "stream_unranked_hits_total", "Hits without the text that a cross-encoder reads", ["stage"]
)
POINTS_WRITTEN = Counter("stream_points_written_total", "Points acknowledged by the vector store")
RESULTS_WRITTEN = Counter(
    "stream_results_written_total", "Lines on disk, or answers acknowledged by the broker"
)
DEAD_LETTERS = Counter("stream_dead_letters_total", "Failures written to the dead letters")
RETRIES = Counter("stream_retries_total", "Calls repeated after an outage", ["target"])
LAST_COMMIT = Gauge("stream_last_commit_unixtime", "When the last epoch was committed")
LAST_OFFSET = Gauge("stream_committed_offset", "Next offset after a commit", ["topic", "partition"])
GAPS = Counter(
    "stream_gaps_total", "Offsets to resume from that the log does not have", ["topic", "partition"]
)
UNREAD_PARTITIONS = Gauge(
    "stream_unread_partitions", "Partitions added since the start, for a restart to read", ["topic"]
)


def serve(port: int, address: str = "127.0.0.1") -> None:
    """
    Serve /metrics.

    address  of this machine, by name or number; 0.0.0.0 for all, :: for those of IPv6 too
    raises   SettingError where it is none, or the port is taken
    """
    try:
        start_http_server(port, addr=address)
    except (OSError, OverflowError, UnicodeError) as error:
        msg = f"Metrics port {port} on {address} cannot be opened: {error}. Choose another."
        raise SettingError(msg) from error
    where = f"[{address}]" if ":" in address else address
    _LOG.info("Metrics on http://%s:%d/metrics", where, port)

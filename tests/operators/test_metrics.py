"""A flow tells about itself on the port that it was asked to, or says why it cannot."""

from __future__ import annotations

import socket
from urllib.request import urlopen

import pytest
from prometheus_client import REGISTRY

from fastembed_stream import SettingError
from flows.local_broker import free_port
from operators import metrics


def test_metrics_are_served_where_asked() -> None:
    port = free_port()
    metrics.serve(port, "127.0.0.1")
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
        text = reply.read().decode()
    for name in ("records_read_total", "points_written_total", "dead_letters_total"):
        assert f"stream_{name} " in text


def test_unless_told_otherwise_metrics_are_for_this_host_alone() -> None:
    port = free_port()
    metrics.serve(port)
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
        assert reply.status == 200
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", port), timeout=5)


@pytest.mark.parametrize("host", ["256.1.1.1", "no.host.invalid", "x" * 300, "a..b", "192.0.2.1"])
def test_a_host_that_is_none_of_this_machine_is_refused_at_once(host: str) -> None:
    with pytest.raises(SettingError, match=f"Metrics port 9 on {host} cannot be opened"):
        metrics.serve(9, host)


def test_a_port_that_is_taken_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=f"Metrics port {port} on 127.0.0.1 cannot"):
            metrics.serve(port, "127.0.0.1")


def test_every_metric_has_the_prefix_of_this_project() -> None:
    own = [getattr(metrics, name) for name in metrics.__all__ if name.isupper()]
    assert own
    for metric in own:
        assert metric._name.startswith("stream_")
        assert metric.describe()
        assert metric in REGISTRY._collector_to_names

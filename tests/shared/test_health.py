"""Metrics and health are there for Prometheus, people and supervisors, on loopback."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, RemoteDisconnected
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter
from structlog.testing import capture_logs

from headwater_shared import health
from headwater_shared.errors import PortInUse, SettingsError
from tests.support import until

Get = Callable[[str], tuple[int, str]]


class Scene:
    """A server whose health the test sets."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"lag_s": 0.5}
        self.registry = CollectorRegistry()
        self.server = health.serve("127.0.0.1", 0, lambda: self.state, self.registry)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one request."""
        client = HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            client.request("GET", path)
            answer = client.getresponse()
            return answer.status, answer.read().decode()
        finally:
            client.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A running server."""
    running = Scene()
    yield running
    running.server.close()


def test_metrics_are_those_of_the_registry_passed_in(scene: Scene) -> None:
    """Prometheus reads the process's own registry and nothing else."""
    Counter("readings", "Readings.", registry=scene.registry).inc(3)
    status, body = scene.get("/metrics")
    assert status == 200
    assert "readings_total 3.0" in body
    assert "python_info" not in body


def test_healthy_is_200_with_the_state(scene: Scene) -> None:
    """While nothing is wrong the state is shown."""
    status, body = scene.get("/health")
    assert (status, json.loads(body)) == (200, {"status": "ok", "lag_s": 0.5})


def test_failing_is_503_with_the_reasons(scene: Scene) -> None:
    """What is wrong is said, and the process is not ready either."""
    scene.state = {"reasons": ["disk full"]}
    assert scene.get("/ready")[0] == 503
    status, body = scene.get("/health")
    assert (status, json.loads(body)) == (503, {"status": "failing", "reasons": ["disk full"]})


def test_not_ready_is_no_illness(scene: Scene) -> None:
    """A process that still replays its journal is healthy and not ready."""
    scene.state = {"ready": False}
    assert scene.get("/health")[0] == 200
    assert scene.get("/ready")[0] == 503
    scene.state = {"ready": True}
    assert scene.get("/ready")[0] == 200


def test_a_health_that_cannot_be_told_is_bad(scene: Scene) -> None:
    """An exception in the callback is an answer: 503, and which."""
    scene.state = {"lag_s": 1}
    scene.server.close()

    def broken() -> dict[str, Any]:
        raise KeyError("journal")

    scene.server = health.serve("127.0.0.1", 0, broken, scene.registry)
    status, body = scene.get("/health")
    assert status == 503
    assert json.loads(body)["reasons"] == ["KeyError: 'journal'"]


def test_an_unknown_path_names_the_known_ones(scene: Scene) -> None:
    """A person who guesses wrong is told."""
    assert scene.get("/") == (404, "/metrics, /health or /ready\n")


def test_a_port_in_use_is_said(scene: Scene) -> None:
    """The error names the address, and the hint how to see who has it."""
    with pytest.raises(PortInUse) as taken:
        health.serve("127.0.0.1", scene.server.port, dict, CollectorRegistry())
    assert f"127.0.0.1:{scene.server.port}" in taken.value.message
    assert "ss -ltnp" in taken.value.hint


def test_only_loopback_is_served() -> None:
    """Health tells too much for strangers, and has no users."""
    with pytest.raises(SettingsError, match="would answer anyone"):
        health.serve("0.0.0.0", 0, dict, CollectorRegistry())


def test_close_frees_the_port_and_ends_the_thread() -> None:
    """After close nobody listens and no thread is left, even while a client is silent."""
    server = health.serve("127.0.0.1", 0, dict, CollectorRegistry())
    with socket.create_connection(("127.0.0.1", server.port)):
        server.close()
    assert not any(thread.name == "health" for thread in threading.enumerate())
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0


def handled() -> bool:
    """Whether no request is being answered."""
    return not any("process_request_thread" in thread.name for thread in threading.enumerate())


def test_a_client_that_is_gone_is_no_event(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    """A supervisor that is killed while it asks leaves nothing in the log: neither a line nor a traceback."""
    with capture_logs() as logged:
        with socket.create_connection(("127.0.0.1", scene.server.port)) as client:
            client.sendall(b"GET /health HT")
            until(lambda: not handled(), 10, "it is being answered")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # an RST
        until(handled, 10, "it is given up")
    assert not logged
    assert capfd.readouterr().err == ""


def test_a_request_that_fails_is_a_line_of_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever goes wrong is said as everything else is, with its reason, not as a traceback that no program reads."""

    def broken(_: bool) -> str:
        raise ValueError("no such metric")

    server = health.serve("127.0.0.1", 0, dict, CollectorRegistry(), more=broken)
    client = HTTPConnection("127.0.0.1", server.port, timeout=10)
    with capture_logs() as logged:
        client.request("GET", "/metrics")
        with pytest.raises(RemoteDisconnected):
            client.getresponse()
        until(handled, 10, "it is given up")
    client.close()
    server.close()
    (line,) = logged
    assert line["log_level"] == "error"
    assert "no such metric" in str(line["error"])
    assert capfd.readouterr().err == ""

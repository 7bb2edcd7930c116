"""The same pumps by every way in: the windows, anomalies and alerts of the listener, and an audit of 0 and 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headwater_appliance import certs
from headwater_appliance.ports import steady_port
from tests.brokers import mosquitto_server
from tests.system import kills, result
from tests.system.box import Box
from tests.system.pumps import broker, connected, pumps
from tests.system.result import Result


def _come_to(
    folder: Path,
    words: Sequence[str] = (),
    *,
    edge: str = "",
    listener: str = "",
    up: Callable[[Box], None] = lambda _: None,
) -> tuple[Result, Path]:
    """Run the pumps, audit them, and return what they came to, and the ledger."""
    with pumps(folder, words, edge=edge, listener=listener, up=up) as (here, finish, ledger):
        finish()
        acknowledged, counted, dead = kills.audited(here, ledger)
        assert counted + dead >= acknowledged > 40_000
        assert not here.troubles()
        return result.read(here.data / "cloud.db"), ledger


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What the pumps come to through the listener: pump-007 broke its limit, and kept to it again."""
    found, _ = _come_to(tmp_path_factory.mktemp("listener"))
    assert found.alerts
    return found


def _same(found: tuple[Result, Path], direct: Result) -> None:
    result.assert_same(found[0], direct, result.timed_series(found[1]))


def test_the_pumps_through_mosquitto(direct: Result, tmp_path: Path) -> None:
    """Devices publish to Mosquitto, and the agent subscribes."""
    with mosquitto_server(tmp_path / "mosquitto", "max_queued_messages 0") as mosquitto:
        way = ("--port", str(mosquitto.port))
        _same(_come_to(tmp_path / "box", way, edge=broker(mosquitto.port), up=connected), direct)


def test_the_pumps_over_tls(direct: Result, tmp_path: Path) -> None:
    """The fleet has a certificate, which must be shown; the plain port is off."""
    port, folder, now = steady_port(), tmp_path / "certs", datetime.now(UTC)
    certs.make_authority(folder, "site", 10, now)
    certs.make_server(folder, ["localhost"], 10, now)
    certs.make_device(folder, "fleet", 10, now)
    listener = (
        f'plain = false\n[edge.listener.tls]\nport = {port}\ncertificate = "{folder}/server.pem"\n'
        f'key = "{folder}/server.key"\nca = "{folder}/ca.pem"\nclients = "required"\n[edge.grants]\nfleet = ["*/*"]\n'
    )
    way = (
        "--host", "localhost", "--port", str(port), "--ca", f"{folder}/ca.pem",
        "--certificate", f"{folder}/devices/fleet.pem", "--key", f"{folder}/devices/fleet.key",
    )  # fmt: skip
    _same(_come_to(tmp_path / "box", way, listener=listener), direct)


def test_the_pumps_over_http(direct: Result, tmp_path: Path) -> None:
    """Each message is a POST with an idempotency key."""
    port = steady_port()
    way = ("--driver", "http", "--port", str(port))
    _same(_come_to(tmp_path / "box", way, edge=f"[edge.http]\nport = {port}\n"), direct)

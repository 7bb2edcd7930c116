"""A whole box over TLS: the pumps with a certificate of their own, a kill, the audit; users and certificates as typed; real clients."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from headwater_appliance import certs
from headwater_appliance.ports import steady_port
from headwater_shared.errors import NeedsPerson
from tests.support import ROOT, until
from tests.system import kills
from tests.system.box import CLOUD, EDGE, box, command
from tests.system.load import load
from tests.system.wire import Wire

SECONDS = 15.0
"""Of event time: 15,000 readings."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `headwater certs` makes for a site: the folder."""
    folder = tmp_path_factory.mktemp("certs")
    for words in (("ca",), ("server", "localhost", "127.0.0.1"), ("device", "fleet", "north/paho")):
        done = subprocess.run(
            [command("headwater"), "certs", *words, "--folder", str(folder)],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert str(folder) in done.stdout
    return folder


def _settings(authority: Path, port: int, clients: str) -> str:
    return (
        f'[edge.listener.tls]\nport = {port}\ncertificate = "{authority}/server.pem"\nkey = "{authority}/server.key"\n'
        f'ca = "{authority}/ca.pem"\nclients = "{clients}"\n[edge.grants]\nfleet = ["*/*"]\n'
    )


def test_the_pumps_over_tls(tmp_path: Path, authority: Path) -> None:
    """200 pumps that misbehave, with a certificate, and a kill of the agent: all is acknowledged in the end, the audit finds
    lost 0, twice 0; nothing came over the plain port, which is off.
    """
    port = steady_port()
    with box(tmp_path, listener="plain = false\n" + _settings(authority, port, "required")) as here:
        here.port = port
        here.up()
        assert here.ready(EDGE)["mqtt"] == 0
        words = (
            "--scenario", "pumps", "--host", "localhost", "--port", str(port), "--ca", f"{authority}/ca.pem",
            "--certificate", f"{authority}/devices/fleet.pem", "--key", f"{authority}/devices/fleet.key",
        )  # fmt: skip
        with load(here, SECONDS, *words) as fleet:
            fleet.goes_on(4_000)
            here.kill(EDGE)
            assert fleet.sending()
            here.start(EDGE)
            here.ready(EDGE)
            done = fleet.finished()
        assert done["unacknowledged"] == 0
        here.closed()
        acknowledged, counted, dead = kills.audited(here, fleet.ledger)
        assert counted + dead >= acknowledged > 14_000
        assert not here.troubles()
        here.end(EDGE)
        here.end(CLOUD)


def test_a_fleet_that_gets_no_tls_ends(tmp_path: Path, authority: Path) -> None:
    """A missing file, another authority, no certificate where one must be: the fleet says so, with the code for a person."""
    certs.make_authority(tmp_path, "other", 10, datetime.now(UTC))
    with box(tmp_path / "box", listener=_settings(authority, 0, "required")) as here:
        here.start(EDGE)
        port = str(here.ready(EDGE)["mqtts"])
        for ca, said in (
            ("none.pem", "the devices' TLS cannot be set up"),
            (f"{tmp_path}/ca.pem", "does not accept the certificate of localhost"),
            (f"{authority}/ca.pem", "does not want TLS with the device"),
        ):
            done = subprocess.run(
                [
                    command("headwater-sim"), "run", "--ledger", str(tmp_path / "ledger"), "--devices", "2", "--duration", "5",
                    "--host", "localhost", "--port", port, "--ca", ca,
                ],
                cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
            )  # fmt: skip
            assert done.returncode == NeedsPerson.exit_code, done.stderr
            assert said in done.stderr
            assert "hint: " in done.stderr
        here.end(EDGE)


def _published(client: Client, port: int, *topics: str) -> list[str]:
    """Connect, and publish to each topic at QoS 1; return what became of each."""
    ended: list[str] = []
    client.on_disconnect = lambda _client, _data, _flags, reason, _properties: ended.append(str(reason))
    client.connect("localhost", port)
    client.loop_start()
    found = []
    try:
        until(client.is_connected, what="the CONNACK")  # before it nobody may be told why it ends
        for topic in topics:
            told = client.publish(topic, b"1", 1)
            until(lambda told=told: told.is_published() or ended, what="it is acknowledged, or the end")  # type: ignore[misc]
            found.append("acknowledged" if told.is_published() else ended[0])
        return found
    finally:
        client.disconnect()
        client.loop_stop()


def _refused(port: int) -> bool:
    with Wire(port, "anybody") as wire:
        return wire.connack.code != 0


def test_a_real_client_with_password_or_certificate(tmp_path: Path, authority: Path) -> None:
    """paho-mqtt in both versions, with a user that was added while the agent ran, or with a certificate: its own device's
    readings are acknowledged, another's end the connection; no password stands in any file but as a hash.
    """
    with box(tmp_path, listener=_settings(authority, 0, "optional")) as here:
        here.start(EDGE)
        port = here.ready(EDGE)["mqtts"]
        users = ("user", "add", "ann", "--settings", str(here.settings))
        done = subprocess.run(
            [command("headwater-edge"), *users], cwd=ROOT, input="swordfish\n", text=True, timeout=60, check=True, capture_output=True
        )  # fmt: skip
        assert done.stdout == "user ann may speak for */ann only\n"
        until(lambda: _refused(here.port), what="nobody comes in without saying who it is")
        for version in (MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5):
            for who in ("ann", "north/paho"):
                client = Client(
                    CallbackAPIVersion.VERSION2, "c", protocol=version, reconnect_on_failure=False
                )
                if who == "ann":
                    client.tls_set(str(authority / "ca.pem"))
                    client.username_pw_set("ann", "swordfish")
                else:
                    own = authority / "devices" / "north" / "paho"
                    client.tls_set(str(authority / "ca.pem"), f"{own}.pem", f"{own}.key")
                own_topic = f"hw/north/{who.rpartition('/')[2]}/data/m"
                outcome = _published(client, port, own_topic, "hw/north/other/data/m")
                assert outcome[0] == "acknowledged", (version, who)
                assert outcome[1] != "acknowledged", (version, who)
                if version == MQTTProtocolVersion.MQTTv5:
                    assert outcome[1] == "Not authorized"
        said = here.log(EDGE).read_text()
        assert "'ann' may not publish to 'hw/north/other/data/m'" in said
        assert "'north/paho' may not publish to 'hw/north/other/data/m'" in said
        here.end(EDGE)
        for file in (here.log(EDGE), *here.data.iterdir()):
            if file.is_file():
                assert b"swordfish" not in file.read_bytes()


def test_no_library_of_commands_is_in_the_agent() -> None:
    """All that the agent's process imports, TLS and users too, brings neither cryptography nor a command's libraries."""
    code = (
        "import sys, headwater_edge.process, headwater_edge.certificates, headwater_edge.tls, headwater_edge.users;"
        "assert not {'cryptography', 'typer', 'rich'} & {name.split('.')[0] for name in sys.modules}, sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)

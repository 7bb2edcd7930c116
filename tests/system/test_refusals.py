"""What only a person can put right: a clear message that says what to do, exit code 78, and nothing else is touched."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from headwater_shared.errors import NeedsPerson
from tests.support import ROOT, until
from tests.system.box import CLOUD, EDGE, MODULES, Box, box, command
from tests.system.wire import Wire

GOOD = b'{"t":1795000000,"v":1}'


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Box]:
    """A box of which nothing runs yet."""
    with box(tmp_path) as made:
        yield made


def _refused(*words: str, env: dict[str, str] | None = None) -> str:
    """Run a command that must refuse by itself, soon and with the code that no supervisor starts again after."""
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == NeedsPerson.exit_code, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def _part_refused(box: Box, part: str) -> str:
    return _refused(sys.executable, "-m", MODULES[part], str(box.settings))


@pytest.mark.parametrize(
    ("line", "wrong", "says", "hint"),
    [
        ("health_port = 0", "heatlh_port = 0", "unknown key 'heatlh_port' in [edge]", "did you mean 'health_port'?"),
        ("[cloud]", "[clod]", "unknown table [clod]", "did you mean 'cloud'?"),
        ("above = 80.0", 'above = "hot"', "edge.limit[0].above: expected a number, found text", "Broken by a value above"),
        ("port = {port}", "port = {port}.5", "edge.listener.port: expected a whole number", "Its port"),
        ('name = "box"', "name = box", "this is not TOML", "the line reads: name = box"),
    ],
)  # fmt: skip
def test_a_typo_in_the_settings(here: Box, line: str, wrong: str, says: str, hint: str) -> None:
    """`headwater up` names file, line, key and what was near, before it starts or makes anything."""
    line, wrong = line.format(port=here.port), wrong.format(port=here.port)
    text = here.settings.read_text().replace(line, wrong, 1)
    here.settings.write_text(text)
    said = _refused(command("headwater"), "up", "--settings", str(here.settings))
    number = next(n for n, found in enumerate(text.splitlines(), 1) if found == wrong)
    assert f"{here.settings}:{number}: " in said
    assert says in said
    assert hint in said
    assert "hint: " in said
    assert not here.data.exists()


def test_a_port_in_use(here: Box) -> None:
    """`headwater up` ends, the agent's message says which port and how to find who has it; what it started has ended."""
    with socket.create_server(("127.0.0.1", here.port)):
        said = _refused(command("headwater"), "up", "--settings", str(here.settings))
    assert f"127.0.0.1:{here.port} is taken by another program" in said
    assert f"hint: is Headwater running already? `ss -ltnp 'sport = :{here.port}'` shows who listens" in said
    here.up()  # the port is free again: the same files go on


@pytest.mark.parametrize(
    ("key", "says", "hint"),
    [
        ('host = "0.0.0.0"', "listening on 0.0.0.0:", "set users with passwords, or listen on 127.0.0.1"),
        ('host = "::"', "listening on :::", "set users with passwords, or listen on 127.0.0.1"),
        ('nap = "2s"', "edge.listener.nap = '2s' is too short or too long", '"20ms" is good'),
    ],
)
def test_listening_for_anyone_is_refused(tmp_path: Path, key: str, says: str, hint: str) -> None:
    """Any other address than loopback needs users."""
    with box(tmp_path, listener=key) as here:
        said = _part_refused(here, EDGE)
        assert says in said
        assert f"hint: {hint}" in said or hint in said


def test_health_for_anyone_is_refused(tmp_path: Path) -> None:
    """Metrics and health know no users, so they are served on loopback only."""
    with box(tmp_path, edge='health_host = "0.0.0.0"') as here:
        said = _part_refused(here, EDGE)
        assert "health and metrics on 0.0.0.0:0 would answer anyone" in said
        assert "hint: they know no users: set health_host to 127.0.0.1" in said


def test_a_wrong_password(tmp_path: Path) -> None:
    """A real client of either version is told that its password is wrong, the log says what to compare, and no password
    stands anywhere; with the right one the same client comes in.
    """
    with box(tmp_path, edge='users = { pump = "env:PUMP_PASSWORD" }') as here:
        assert "the environment variable PUMP_PASSWORD is not set" in _part_refused(here, EDGE)
        here.start(EDGE, env={"PUMP_PASSWORD": "swordfish-1"})
        here.ready(EDGE)
        versions = (MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5)
        wrong = [
            (version, *who)
            for version in versions
            for who in (("pump", "swordfish-2"), ("pumpe", "swordfish-1"))
        ]
        with ThreadPoolExecutor() as pool:  # each is kept waiting for its answer
            answers = list(pool.map(lambda one: _answer(here.port, *one), wrong))
        assert set(answers) <= {"Bad user name or password", "Not authorized"}
        assert [_answer(here.port, version, "pump", "swordfish-1") for version in versions] == [
            "Success",
            "Success",
        ]
        said = here.log(EDGE).read_text()
        assert "wrong password, or no such user: 'pump'" in said
        assert "compare the device's user and password with `headwater-edge user list` and edge.users" in said
        for file in (here.log(EDGE), *here.data.iterdir()):
            if file.is_file():
                assert b"swordfish" not in file.read_bytes()


def _answer(port: int, version: MQTTProtocolVersion, user: str, password: str) -> str:
    """Connect with paho-mqtt; return what the CONNACK says."""
    answers: list[str] = []
    client = Client(CallbackAPIVersion.VERSION2, "c", protocol=version, reconnect_on_failure=False)
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.append(str(reason))
    client.username_pw_set(user, password)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        until(lambda: answers, what="the CONNACK")
        client.disconnect()
        return answers[0]
    finally:
        client.loop_stop()


@pytest.mark.parametrize(("part", "name"), [(EDGE, "edge.db"), (CLOUD, "cloud.db"), (CLOUD, "log.db")])
def test_a_file_of_a_newer_version(here: Box, part: str, name: str) -> None:
    """It is named with both versions and left as it is, to the byte."""
    for each in (EDGE, CLOUD):
        here.start(each)
        here.ready(each)
    for each in (EDGE, CLOUD):
        here.end(each)
    file = here.data / name
    connection = sqlite3.connect(file)
    connection.execute("UPDATE meta SET value = 99 WHERE name = 'version'")
    connection.commit()
    connection.close()
    before = hashlib.sha256(file.read_bytes()).digest()
    said = _part_refused(here, part)
    assert re.search(
        rf"{re.escape(str(file))} was written by a newer version \(format 99, known here: \d+\)", said
    )
    assert "hint: install that version again, or move the file away and start with a new one" in said
    assert hashlib.sha256(file.read_bytes()).digest() == before


def test_a_second_agent_on_the_same_file(here: Box) -> None:
    """It is told who has the file, and the first one goes on."""
    here.up()
    for part, file in ((EDGE, "edge.db"), (CLOUD, "cloud.db")):
        said = _part_refused(here, part)
        assert f"{here.data / file} is in use by process {here.running[part].pid}" in said
        assert "hint: stop that process, or choose another data folder for this one" in said
    with Wire(here.port, "d") as wire:
        wire.send(wire.publish("hw/s/d/data/m", GOOD))
        wire.read_acknowledgements(1)
    assert here.status()["accepted"] == 1
    here.end(EDGE)
    here.end(CLOUD)


def test_no_settings_file(tmp_path: Path) -> None:
    """The hint is the command that writes one."""
    said = _refused(sys.executable, "-m", "headwater_edge", str(tmp_path / "none.toml"))
    assert f"there is no settings file {tmp_path / 'none.toml'}" in said
    assert "'headwater init' writes one with all defaults" in said

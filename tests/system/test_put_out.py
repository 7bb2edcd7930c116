"""docs/alerts.md and docs/devices.md tried as pasted, against real processes; and an alert that meets a kill -9."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from headwater_appliance.ports import steady_port
from headwater_edge import words
from tests.edge.hook import hook
from tests.support import ROOT, program, until
from tests.system.box import EDGE, Box, box, command
from tests.system.wire import Wire

ALERTS, DEVICES = ((ROOT / "docs" / name).read_text() for name in ("alerts.md", "devices.md"))
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, kind: str) -> list[str]:
    return [text for found, text in _BLOCK.findall(page) if found == kind]


@contextmanager
def running(line: list[str], out: Path, **env: str) -> Iterator[None]:
    """Run a program beside, its words in a file; it is ended with the block."""
    with out.open("wb") as file:
        process = subprocess.Popen(line, stdout=file, stderr=file, env={**os.environ, **env})
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def test_the_page_of_alerts_as_pasted(tmp_path: Path) -> None:
    """With all its settings in one file: one hot reading is told by webhook, signed, by MQTT and by log, and its window and its
    device's status reach a subscriber.
    """
    if program("mosquitto_sub") is None or program("mosquitto_pub") is None:
        pytest.skip("mosquitto's clients are not installed")
    port = steady_port()
    alerts, publish, egress = (text.strip() for text in blocks(ALERTS, "sh"))
    settings = "\n".join(blocks(ALERTS, "toml")).replace(":8099", f":{port}")
    (receiver,) = blocks(ALERTS, "python")
    secret = {"HOOK_SECRET": "s3cret"}
    with box(tmp_path, edge=settings) as here:
        here.start(EDGE, env=secret)
        here.ready(EDGE)
        local = "-p {}".format
        with (
            running([sys.executable, "-c", receiver.replace("8099", str(port))], tmp_path / "hook", **secret),
            running(["sh", "-c", "exec " + alerts.replace("-p 1883", local(here.port))], tmp_path / "alerts"),
            running(["sh", "-c", "exec " + egress.replace("-p 1883", local(here.port))], tmp_path / "egress"),
        ):
            until(lambda: here.status()["readers"] == 2, what="both are subscribed")
            subprocess.run(
                ["sh", "-ec", publish.replace("-p 1883", local(here.port))], check=True, timeout=20
            )
            until(lambda: '"too-hot"' in (tmp_path / "hook").read_text(), what="the webhook has it")
            until(lambda: "hw-alert/north/pump-7/too-hot {" in (tmp_path / "alerts").read_text())
            words.say(here.data / "edge.sock", "flush")
            until(lambda: "hw-out/north/pump-7/temperature/10s {" in (tmp_path / "egress").read_text())
            assert "hw-out/north/pump-7/temperature/anomaly/too-hot {" in (tmp_path / "egress").read_text()
            assert "hw-out/north/pump-7/status {" in (tmp_path / "egress").read_text()
            until(lambda: '\\"too-hot\\"' in here.log(EDGE).read_text(), what="the log has it")
            told = here.run("headwater-edge", "try-alert")
            assert told.splitlines() == ["maintenance: delivered", "panel: delivered", "log: delivered"]
            assert "not from us" not in (tmp_path / "hook").read_text()
        status = here.status()
        assert (status["alert maintenance"]["sent"], status["devices_online"]) == (1, 1)
        here.end(EDGE)


def test_the_page_of_devices_as_pasted(tmp_path: Path) -> None:
    """Its commands in their order, then an agent with its settings: a device of the registry speaks, another does not; and the
    commands for all sites, on the log of that agent.
    """
    lines, of_all_sites = blocks(DEVICES, "sh")
    status, only = blocks(DEVICES, "toml")
    env = {**os.environ, "PATH": f"{Path(command('headwater')).parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-ec", lines], cwd=tmp_path, env=env, check=True, timeout=60)
    assert "north/pump-7,P100,Hall 2" in (tmp_path / "all.csv").read_text()
    known = (tmp_path / "headwater-data" / "registry.json").read_text()
    assert list(json.loads(known)["devices"]) == ["north/pump-7"]
    listed = only.splitlines()[1].replace("north/*", "south/*")
    with box(tmp_path / "box", edge=status.replace("[edge.devices]", f"[edge.devices]\n{listed}", 1)) as here:
        here.data.mkdir()
        (here.data / "registry.json").write_text(known)
        (here.data / "devices.txt").write_text("north/pump-9\n")
        here.start(EDGE)
        here.ready(EDGE)
        with Wire(here.port, "gateway") as wire:
            for device in ("north/pump-7", "north/pump-8", "north/pump-9", "south/x"):
                wire.send(wire.publish(f"hw/{device}/data/temp", b"20"))
            wire.read_acknowledgements(4)
        status_ = here.status()
        assert (
            status_["accepted"],
            status_["not_listed"],
            status_["dead_letters"],
            status_["devices_online"],
        ) == (3, 1, 1, 3)
        subprocess.run(["sh", "-ec", of_all_sites], cwd=here.folder, env=env, check=True, timeout=60)
        assert "north/pump-7,P100,Hall 2" in (here.folder / "all-sites.csv").read_text()
        here.end(EDGE)


def test_r29_kill_9_between_commit_and_delivery_sends_the_alert_again(tmp_path: Path) -> None:
    """A real agent, a real kill, a webhook that hangs at that moment: the acknowledged reading's alert comes after the start, under
    its id, marked as a possible repeat, and then no more.
    """
    with hook() as one:
        one.hangs.set()
        settings = f'[[edge.alert]]\nname = "ops"\nto = "webhook"\nurl = "{one.url}"\n'
        with box(tmp_path, edge=settings) as here:
            here.start(EDGE)
            here.ready(EDGE)
            with Wire(here.port, "pump") as wire:
                wire.send(wire.publish("hw/s1/d1/data/temperature", b"95"))
                wire.read_acknowledgements(1)
            until(lambda: len(one.posts) == 1, what="it is being posted")
            here.kill(EDGE)
            one.hangs.clear()
            here.start(EDGE)
            here.ready(EDGE)
            until(lambda: here.status()["alert ops"]["sent"] == 1)
            assert [post["possible_repeat"] for post in one.said] == [False, True]
            assert len({post["id"] for post in one.said}) == 1
            until(lambda: not _to_be_told(here), what="the file says that it was delivered")
            here.kill(EDGE)
            here.start(EDGE)
            here.ready(EDGE)
            assert here.status()["alert ops"] == {
                "to": "webhook", "sent": 0, "waiting": 0, "dropped": 0, "refused": 0, "failures": 0, "failing": "",
            }  # fmt: skip
            here.end(EDGE)
        assert len(one.posts) == 2


def _to_be_told(here: Box) -> int:
    """How many alerts the agent's file still has to deliver."""
    with closing(sqlite3.connect(f"file:{here.data / 'edge.db'}?mode=ro", uri=True)) as reader:
        (waiting,) = reader.execute("SELECT count(*) FROM alert").fetchone()
    return int(waiting)

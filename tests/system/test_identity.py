"""Whose file it is: restored from a backup, copied into another device, reinstalled, upgraded, or under other settings (R6, R12)."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from headwater_appliance.audit import run_audit
from tests.support import ROOT, until
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.load import load

SECONDS = 10.0


def _reports(here: Box) -> set[str]:
    with closing(sqlite3.connect(f"file:{here.data / 'cloud.db'}?mode=ro", uri=True)) as connection:
        return {kind for (kind,) in connection.execute("SELECT DISTINCT kind FROM report")}


def _start(here: Box, part: str) -> None:
    here.start(part)
    here.ready(part)


def _audit(here: Box, ledger: Path, agents: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is lost and nothing twice, by the fleet's ledger; dead letters may stand in several files of the agent."""
    assert run_audit(ledger, here.data, agents=agents) == 0, capsys.readouterr().out[-2000:]


@pytest.mark.parametrize("how", ["restored", "reinstalled"])
def test_r06_a_file_that_went_back_or_is_new(
    tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Yesterday's backup, or no file at all: what the cloud side has is not counted again nor taken away, and a report says so."""
    with box(tmp_path) as here:
        here.up()
        with load(here, SECONDS) as fleet:
            fleet.goes_on(2_000)
            here.end(EDGE)
            shutil.copyfile(here.data / "edge.db", tmp_path / "backup.db")
            _start(here, EDGE)
            fleet.finished()
        here.closed()
        here.end(EDGE)
        later = tmp_path / "later.db"
        (here.data / "edge.db").rename(later)
        if how == "restored":
            shutil.copyfile(tmp_path / "backup.db", here.data / "edge.db")
        _start(here, EDGE)
        subprocess.run(
            [sys.executable, "-c", _ONE_MORE.format(port=here.port)], cwd=ROOT, check=True, timeout=30
        )
        here.closed()
        wanted = "went-back" if how == "restored" else "began-anew"
        until(lambda: wanted in _reports(here), 20, f"the cloud side reports {wanted}")
        here.end(EDGE)
        here.end(CLOUD)
        with closing(
            sqlite3.connect(here.data / "cloud.db")
        ) as connection:  # what the ledger knows nothing of
            alerts = connection.execute(
                "SELECT rule, subject, state FROM alert WHERE rule LIKE 'state%'"
            ).fetchall()
            assert alerts == ([("state-went-back", "box", "firing")] if how == "restored" else [])
            # The probe's series, and the rollups of it, which may be there by now.
            odd = connection.execute("SELECT id FROM series WHERE name LIKE '%/v'").fetchall()
            assert odd
            for table in ("window", "part"):
                connection.executemany(f"DELETE FROM {table} WHERE series = ?", odd)
            connection.commit()
        _audit(here, fleet.ledger, [later], capsys)
        assert "another-body" not in _reports(here)


_ONE_MORE = """
import paho.mqtt.client as mqtt
c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="one-more", protocol=mqtt.MQTTv5)
c.connect("127.0.0.1", {port}); c.loop_start()
c.publish("hw/north/probe/data/v", b'1.5', qos=1).wait_for_publish(10)
c.disconnect(); c.loop_stop()
"""


def test_r06_a_card_in_another_device_is_refused(tmp_path: Path) -> None:
    """It ends with 78 and one clear line, the file as it was; `--adopt` takes it over, and from then on it is this device's."""
    with box(tmp_path) as here:
        here.start(EDGE, env={"HEADWATER_HARDWARE": "card 1"})
        here.ready(EDGE)
        here.end(EDGE)
        before = (here.data / "edge.db").read_bytes()
        here.start(EDGE, env={"HEADWATER_HARDWARE": "card 2"})
        assert here.running.pop(EDGE).wait(20) == 78
        said = here.log(EDGE).read_text()
        assert "belongs to another device" in said
        assert "--adopt" in said
        assert "Traceback" not in said
        assert (here.data / "edge.db").read_bytes() == before
        adopt = subprocess.Popen(
            [sys.executable, "-m", "headwater_edge", str(here.settings), "--adopt"],
            cwd=ROOT, env={**os.environ, "HEADWATER_HARDWARE": "card 2"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        here.running[EDGE] = adopt
        here.ready(EDGE)
        here.end(EDGE)
        here.start(EDGE, env={"HEADWATER_HARDWARE": "card 2"})
        here.ready(EDGE)
        here.end(EDGE)


def test_r06_a_file_of_another_agent_is_refused(tmp_path: Path) -> None:
    """A name that was changed in the settings would make two agents of one in the cloud: the hint says what to do."""
    with box(tmp_path) as here:
        _start(here, EDGE)
        here.end(EDGE)
        here.settings.write_text(here.settings.read_text().replace('name = "box"', 'name = "other"'))
        here.start(EDGE)
        assert here.running.pop(EDGE).wait(20) == 78
        assert "is the file of the agent 'box', and the settings say 'other'" in here.log(EDGE).read_text()


def test_r12_settings_changed_between_crash_and_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed under load, and started with other windows, lateness and rules: every reading counts once at the levels of its time."""
    with box(tmp_path) as here:
        here.up()
        with load(here, SECONDS) as fleet:
            fleet.goes_on(2_000)
            here.kill(EDGE)
            text = (
                here.settings.read_text()
                .replace("above = 80.0", "above = 70.0")
                .replace("clear = 78.0", "clear = 60.0")
            )
            here.settings.write_text(
                text.replace("[cloud]", '[edge.windows]\nlateness = "5s"\nheld = "30s"\n[cloud]')
            )
            _start(here, EDGE)
            fleet.finished()
        here.closed()
        here.end(EDGE)
        here.end(CLOUD)
        _audit(here, fleet.ledger, [here.data / "edge.db"], capsys)
        assert _reports(here) <= {"gap"}

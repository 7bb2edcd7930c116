"""Backup of a box under load, and what is so after it is restored: nothing from before is missing, nothing is counted twice (R6)."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from headwater_appliance.backup import backup
from headwater_edge.settings import EdgeSettings
from headwater_shared import ledger as ledgers
from tests.support import until
from tests.system import kills
from tests.system.box import Box, box, command
from tests.system.load import DEVICES, load

_FOUND = re.compile(
    r"audit: acknowledged (\d+), counted (\d+), dead (\d+), lost (\d+), twice (\d+)(?:, altered (\d+))?"
)


def _acknowledged(ledger: Path) -> int:
    """Return how many messages' senders have had their acknowledgement."""
    rows = ledgers.records(ledger)
    messages = ledgers.Messages([rows], DEVICES)
    return int((messages.with_kind(*ledgers.SENT) & messages.with_kind(ledgers.ACKNOWLEDGED)).sum())


def _audit(here: Box, ledger: Path) -> tuple[int, ...]:
    found = _FOUND.match(kills.audit_of(here, ledger).splitlines()[-1])
    assert found is not None
    return tuple(int(number or 0) for number in found.groups())


def _restore(here: Box, *options: str) -> subprocess.CompletedProcess[str]:
    words = ["restore", str(here.folder / "box.tar"), "--settings", str(here.settings), *options]
    return subprocess.run(
        [command("headwater"), *words], capture_output=True, text=True, check=False, timeout=60
    )


def _closed(here: Box) -> None:
    """Start both, close all windows, and end both."""
    here.up()
    here.closed()
    here.end("edge")
    here.end("cloud")


@pytest.mark.fault
def test_r06_a_box_that_was_restored_lacks_what_came_later_and_nothing_else(tmp_path: Path) -> None:
    """A backup under load; the box goes on; then it is restored. Whole: what was acknowledged before the backup is there, none is
    twice, and what came later is what the audit misses. The agent's file alone, beside a cloud side that went on: every window is as
    it was, only dead letters from after the backup are missing, which nobody else has; and an alert says that the file went back.
    """
    with box(tmp_path) as here:
        here.up()
        with load(here, 60) as fleet:
            fleet.goes_on(5_000)
            before = until(lambda: max(0, _acknowledged(fleet.ledger) - 100), 30, "much is acknowledged")
            backup(tmp_path / "box.tar", here.settings, "test", lambda _: None)
            assert fleet.sending()
            fleet.finished()
            here.closed()
        acknowledged, all_counted, all_dead = kills.audited(here, fleet.ledger)
        assert _restore(here).returncode == 78  # it runs
        here.end("edge")
        here.end("cloud")
        refused = _restore(here)
        assert refused.returncode == 1
        assert "--replace" in refused.stderr
        later = tmp_path / "later"
        shutil.copytree(here.data, later, ignore=shutil.ignore_patterns("*.sock"))

        assert _restore(here, "--replace").returncode == 0
        assert sorted(one.name for one in here.data.glob("before-restore-1/*.db")) == ["cloud.db", "edge.db", "log.db", "notify.db"]  # fmt: skip
        _closed(here)
        _, counted, dead, lost, twice, _ = _audit(here, fleet.ledger)
        assert twice == 0
        assert lost > 0
        assert counted + dead >= before + 100

        shutil.rmtree(here.data)
        shutil.copytree(later, here.data)
        for more in ("-wal", "-shm"):
            (here.data / f"edge.db{more}").unlink(missing_ok=True)
        with tarfile.open(tmp_path / "box.tar") as tar:
            tar.extract("edge.db", here.data, filter="data")
        _closed(here)
        found = _audit(here, fleet.ledger)
        assert found[:2] == (acknowledged, all_counted)
        assert 0 < found[3] <= all_dead - found[2]
        assert found[4:] == (0, 0)
        alerts = map(json.loads, here.run("headwater", "alerts", "--json").splitlines())
        assert "state-went-back" in {alert["rule"] for alert in alerts}


def test_a_backup_is_whole_and_holds_no_keys(tmp_path: Path) -> None:
    """The settings and the hashes of passwords are in it, the private key of the certificate is not; only its owner can read it;
    and a byte that turned is found before anything is changed.
    """
    with box(tmp_path) as here:
        here.up()
        (here.data / "agent.key").write_text("PRIVATE KEY")
        (here.data / EdgeSettings().users_file).write_text('[users.pump]\npassword = "a hash"\n')
        (here.data / "registry.json").write_text("{}")
        (here.settings.parent / "own.toml").write_text(
            '[[limit]]\nname = "cold"\nseries = "*/t"\nbelow = 1.0\n'
        )
        text = here.settings.read_text()
        here.settings.write_text(text.replace("[edge]\n", '[edge]\nrules = "own.toml"\n', 1))
        here.end("edge")
        here.end("cloud")
        said = json.loads(here.run("headwater", "backup", str(tmp_path / "box.tar"), "--json"))
        names = [entry["name"] for entry in said["manifest"]["files"]]
        assert names == [
            "edge.db", "log.db", "cloud.db", "notify.db", "headwater.toml", "rules.toml", "users.toml", "registry.json",
        ]  # fmt: skip
        assert (tmp_path / "box.tar").stat().st_mode & 0o077 == 0
        assert b"PRIVATE KEY" not in (tmp_path / "box.tar").read_bytes()
        empty = tmp_path / "empty" / "headwater.toml"
        empty.parent.mkdir()
        done = subprocess.run(
            [command("headwater"), "restore", str(tmp_path / "box.tar"), "--settings", str(empty)],
            env=os.environ | {"HEADWATER_COMMON__DATA": str(empty.parent / "data")},
            check=False,
            timeout=60,
        )
        assert done.returncode == 0
        found = {str(path.relative_to(empty.parent)) for path in empty.parent.rglob("*") if path.is_file()}
        assert found >= {"headwater.toml", "own.toml", "data/edge.db", "data/cloud.db", f"data/{EdgeSettings().users_file}", "data/registry.json"}  # fmt: skip
        assert here.run("headwater", "backup", str(tmp_path / "box.tar"), expected=1)
        with closing(sqlite3.connect(here.data / "edge.db")) as file:
            tick = file.execute("SELECT max(tick) FROM journal").fetchone()
        body = bytearray((tmp_path / "box.tar").read_bytes())
        body[len(body) // 2] ^= 1
        (tmp_path / "box.tar").write_bytes(body)
        damaged = _restore(here, "--replace")
        assert damaged.returncode == 78, damaged
        assert "damaged" in damaged.stderr
        with closing(sqlite3.connect(here.data / "edge.db")) as file:
            assert file.execute("SELECT max(tick) FROM journal").fetchone() == tick
        assert not list(here.data.glob("before-restore*"))
        until(lambda: not list(here.data.glob(".restoring*")), what="nothing is left of the try")

"""The audit on the files that agent and cloud side really write, as a person runs it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from headwater_appliance.audit import run_audit
from headwater_appliance.audit_stored import Stored
from headwater_appliance.tamper import tamper
from headwater_cloud.columns import WINDOW_COLUMNS
from headwater_cloud.store import Store
from headwater_edge.store import Chores, Commit, DeadRow, OutboxRow, open_store, write
from headwater_shared.aggregates import COLUMNS
from headwater_shared.errors import StateError
from tests.appliance.audit_cases import JUNK, Run, stored


def save(folder: Path, found: Stored, dead: list[tuple[str, bytes]], waiting: int = 0) -> None:
    """Write what the stores hold into files as the cloud side and the agent make them."""
    store = Store(folder / "cloud.db")
    with store.transaction() as connection:
        connection.executemany("INSERT INTO series VALUES (?, ?)", list(enumerate(found.names)))
        for number, windows in enumerate(found.levels):
            connection.execute("INSERT INTO level VALUES (?, ?, NULL)", (number, windows.level.name))
            columns = {name: getattr(windows.rows, name) for name in COLUMNS}
            columns["digest"] = columns["digest"].view("int64")
            columns |= {"start": windows.start, "series": windows.series}
            rest = {"level": number, "sketch": b""}
            for row in range(len(windows)):
                values = {name: column[row].item() for name, column in columns.items()}
                connection.execute(
                    f"INSERT INTO window VALUES ({', '.join('?' * len(WINDOW_COLUMNS))})",
                    [values.get(name, rest.get(name, 1)) for name in WINDOW_COLUMNS],
                )
    store.close()
    letters = [DeadRow(0, "bad-json", "", topic.encode(), body) for topic, body in dead]
    outbox = [OutboxRow(1, 7, 0, n, "frame", b"", b"") for n in range(waiting)]
    agent, lock = open_store(folder / "edge.db")
    write(agent, Commit(1, b"", dead=letters, outbox=outbox), Chores())
    agent.close()
    lock.release()


def test_a_good_box_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, and nothing is printed but the line."""
    run = Run(tmp_path / "ledger")
    run.junk()
    save(tmp_path, stored(run.readings), [JUNK])
    assert run_audit(run.close(), tmp_path) == 0
    assert capsys.readouterr().out == "audit: acknowledged 541, counted 540, dead 1, lost 0, twice 0\n"


def test_tampering_behind_the_box_s_back_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `DEMO_TAMPER=1` does to two stored windows, a maximum and a digest, is found in both, and fails."""
    run = Run(tmp_path / "ledger")
    save(tmp_path, stored(run.readings), [])
    done = tamper(tmp_path / "cloud.db")
    assert len(done) == 2
    assert run_audit(run.close(), tmp_path) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "audit: acknowledged 540, counted 540, dead 0, lost 0, twice 0, altered 2"
    assert len(said) == 3
    for line in done:
        name = line.split()[2]
        what = "max is" if "maximum" in line else "digest is"
        assert any(name in found and what in found for found in said[:-1]), line


def test_the_evidence_is_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the standard output is one object: counts, findings with what was expected and found."""
    run = Run(tmp_path / "ledger")
    save(tmp_path, stored(run.readings), [])
    with sqlite3.connect(tmp_path / "cloud.db") as connection:
        connection.execute(
            "UPDATE window SET max = max + 1 WHERE level = 1 AND series = 0 AND start % 120000000 = 0"
        )
    connection.close()
    assert run_audit(run.close(), tmp_path, as_json=True) == 1
    said = capsys.readouterr()
    evidence = json.loads(said.out)
    assert (evidence["good"], evidence["altered"], evidence["acknowledged"]) == (False, 1, 540)
    (finding,) = evidence["findings"]
    assert (finding["kind"], finding["level"], finding["start"]) == ("altered", "1m", "2027-01-15T08:00:00Z")
    pair = finding["differences"]["max"]
    assert pair["found"] == pair["expected"] + 1
    assert said.err == evidence["line"] + "\n"


def test_windows_that_are_still_on_their_way_are_hinted_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An audit before everything was forwarded finds losses, and says what may be the matter."""
    run = Run(tmp_path / "ledger")
    save(tmp_path, stored(run.readings[:-50]), [], waiting=3)
    assert run_audit(run.close(), tmp_path) == 1
    assert "outbox still holds 3 rows" in capsys.readouterr().out


def test_many_findings_are_not_all_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A person gets the first ones and the number of the others."""
    run = Run(tmp_path / "ledger")
    save(tmp_path, stored([]), [])
    assert run_audit(run.close(), tmp_path) == 1
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 22
    assert said[-2] == "audit: and 58 more; --json has them"
    assert said[-1] == "audit: acknowledged 540, counted 0, dead 0, lost 540, twice 0"


def test_a_missing_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    """Neither a ledger nor a store that is not there passes for an empty one."""
    run = Run(tmp_path / "ledger")
    run.close()
    with pytest.raises(StateError, match=r"cloud\.db"):
        run_audit(tmp_path / "ledger", tmp_path)
    save(tmp_path, stored([]), [])
    with pytest.raises(StateError, match="none"):
        run_audit(tmp_path / "none", tmp_path)
    (tmp_path / "edge.db").unlink()
    with pytest.raises(StateError, match=r"edge\.db"):
        run_audit(tmp_path / "ledger", tmp_path)

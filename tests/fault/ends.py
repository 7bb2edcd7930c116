"""What the files of a history hold at its beginning and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headwater_cloud.columns import unpack_sketches
from headwater_edge import journal, snapshot
from headwater_edge.pipeline import Agent
from headwater_edge.rows import commit_of
from headwater_edge.settings import StepSettings
from headwater_edge.state import State
from headwater_edge.step import step
from headwater_edge.store import open_store
from headwater_shared.identity import is_rollup
from tests.cloud.side import Side, windows_of
from tests.edge.running import FILE
from tests.fault.books import Places
from tests.reference import Window


def new_files(folder: Path) -> None:
    """Make the files that a first start finds: of the agent, of the log and of the cloud side."""
    connection, lock = open_store(folder / FILE)
    connection.close()
    lock.release()
    Side(folder).close()


def stored_windows(side: Side) -> Places:
    """All windows of devices' series in the cloud side's file."""
    rows = [row for row in windows_of(side) if not is_rollup(row[0])]
    sketches = unpack_sketches([row[18] for row in rows])
    found: Places = {}
    begin = 0
    for row, end in zip(rows, sketches.end.tolist(), strict=True):
        buckets = zip(sketches.bucket[begin:end].tolist(), sketches.count[begin:end].tolist(), strict=True)
        window = found[row[0], row[1], row[2]] = Window(*row[8:18])
        window.digest %= 2**64
        window.sketch = dict(buckets)
        begin = end
    return found


def replayed(agent: Agent, hashes: Mapping[int, list[bytes]], settings: StepSettings) -> str:
    """Run the journal again without the crashes; what it puts out must be the same, and so must the state (R31)."""
    reader = agent.horizon._reader
    rows = reader.execute("SELECT tick, body FROM journal ORDER BY tick").fetchall()
    state = State(settings)
    if rows[0][0] > 1:
        state = snapshot.restore(snapshot.read(reader, snapshot.ticks(reader)[-1]))
    for number, body in rows:
        if number > state.tick:
            tick = journal.decode(body)
            out = commit_of(tick, step(state, tick), [])
            assert [row.hash for row in out.outbox] == hashes[number], f"tick {number} put out something else"
    return snapshot.fingerprint(state)

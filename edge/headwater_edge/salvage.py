"""A new file out of what can be read of a damaged one: the state as far as it is whole, every row that waits, and the rest as dead letters (R15).

What the cloud side is to have goes out as it was: outbox rows, those that the journal still makes, and empty frames for
those that are lost, so that no seq is missing for ever. Readings of ticks that no good snapshot reaches become dead
letters: their windows may have gone out already. Ticks and epochs go on, never begin again (R1, R6).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from headwater_edge import coverage, journal, outbox_rows, snapshot
from headwater_edge.arrivals import is_good, summary
from headwater_edge.detection.signed import NO_KEY, Seal
from headwater_edge.events import SetAside
from headwater_edge.horizon import heard
from headwater_edge.outbox_rows import Identity, Place
from headwater_edge.remains import gather
from headwater_edge.restart import Run, reach
from headwater_edge.rows import commit_of
from headwater_edge.settings import StepSettings
from headwater_edge.stamps import STAMPED
from headwater_edge.state import State
from headwater_edge.step import step
from headwater_edge.store import epoch_bytes, write_letters, write_snapshot, write_store
from headwater_edge.tick import Tick
from headwater_edge.trial import survives
from headwater_edge.unreached import Unreached
from headwater_shared.clock import Now
from headwater_shared.errors import StateForeign

_APART = 100_000
"""More ticks than this do not lie between two rows of a journal."""


def salvage(
    source: Path,
    target: Path,
    settings: StepSettings,
    now: Now,
    why: str,
    called: str,
    *,
    careful: bool = False,
    seal: Seal = NO_KEY,
) -> SetAside:
    """Make a new file of what can be read of one; the damaged one is not written to.

    Args:
        source: the damaged file, with its log beside it.
        target: the new one, which is not there yet.
        settings: for a state that cannot be reached from anything.
        now: the time.
        why: what is wrong, in a person's words.
        called: what the damaged file will be called.
        careful: each journal row is tried in a child process first, for it may be what ends this one.
        seal: of the models in its snapshots; without, they are learnt anew (R21).

    Returns:
        What is to be journaled at the start from the new file.

    Raises:
        StateNewer: a newer version wrote it.
        StateForeign: it is another agent's.
        sqlite3.OperationalError: the new file cannot be written, the disk is full.
    """
    connection = write_store(target)
    try:
        connection.execute("PRAGMA synchronous=OFF")  # nobody has it before it is whole
        connection.execute("BEGIN")
        amiss = gather(source, connection)
        event = _settle(connection, settings, now, amiss or why, called, seal, careful=careful)
        connection.execute("COMMIT")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()
    return event


def _settle(
    connection: sqlite3.Connection,
    settings: StepSettings,
    now: Now,
    why: str,
    called: str,
    seal: Seal,
    *,
    careful: bool,
) -> SetAside:
    """Turn copied rows into a file that an agent can start from."""
    last = _settle_ticks(connection)
    _mend_look_ups(connection)
    lost = outbox_rows.take_bad_ones_out(connection, settings.agent)
    pictured = _names_of_pictures(connection)
    can = survives if careful else None
    wanted = outbox_rows.missing(connection, lost)
    if wanted:  # from as far back as possible: what is lost may be older than the newest snapshot
        reach(connection, settings, _runner(wanted, careful=careful), can, oldest=True, seal=seal)
    resumed = reach(connection, settings, _runner(None, careful=careful), can, seal=seal)
    state, reached = resumed.state, resumed.state.tick
    if state.settings.agent != settings.agent:
        raise StateForeign(
            f"what can be read of the damaged file is of the agent {state.settings.agent!r}, not of {settings.agent!r}",
            hint="move the file and its -wal away; nothing was changed",
        )
    unreached = Unreached(connection, state, pictured)
    letters = unreached.letters(last)
    missing = unreached.missing + _holes(connection, reached)
    lost_rows = outbox_rows.fill(connection, settings.agent, lost)
    epoch, seqs = _last_epoch(connection, state)
    state.tick = last
    state.now = state.now or now
    outbox_rows.hear(connection, state, reached)
    if missing or unreached.unnamed or not resumed.journal_first:
        _forget_the_horizon(connection, state)
    write_letters(connection, last, letters)
    connection.execute("DELETE FROM snapshot")
    write_snapshot(connection, last, snapshot.encode(snapshot.take(state), seal))
    _go_on_counting(connection)
    event = SetAside(called, why, last, reached, missing, lost_rows, unreached.readings, epoch, seqs)
    connection.execute(
        "INSERT OR REPLACE INTO meta VALUES ('set_aside', ?)", (msgspec.json.encode(event).decode(),)
    )
    connection.execute("DELETE FROM meta WHERE name IN ('attempts', 'open', 'file', 'ungiven')")
    return event


def _runner(wanted: Mapping[Identity, Place] | None, *, careful: bool) -> Run:
    """Run rows again; put into the outbox what it lacks of what they make, or only what is wanted."""

    def run(connection: sqlite3.Connection, state: State, tick: Tick) -> list[str]:
        if careful and not survives(lambda: step(state, tick)):
            raise journal.Damaged("the agent does not survive it")
        output = step(state, tick)
        outbox_rows.add_missing(connection, output.tick, commit_of(tick, output, []).outbox, wanted)
        return []

    return run


def _holes(connection: sqlite3.Connection, reached: int) -> int:
    """Count the ticks that are missing among the rows that are kept for the dedupe horizon."""
    first, rows = connection.execute(
        "SELECT coalesce(min(tick), 0), count(*) FROM journal WHERE tick <= ?", (reached,)
    ).fetchone()
    return int(reached - first + 1 - rows) if rows else 0


def _forget_the_horizon(connection: sqlite3.Connection, state: State) -> None:
    """Rows are missing: where a look-up finds nothing, coverage decides, up to now (R4)."""
    first = connection.execute("SELECT min(tick) FROM journal").fetchone()[0]
    if first == 1:  # a journal from its beginning on asks nobody else
        connection.execute("DELETE FROM journal WHERE tick = 1")
        connection.execute("DELETE FROM arrival WHERE tick = 1")
    connection.execute("DELETE FROM coverage")
    connection.execute(
        "INSERT INTO coverage VALUES (?, ?, ?)",
        (state.tick, state.age_us, coverage.packed(state.coverage, state.names)),
    )


def _last_epoch(connection: sqlite3.Connection, state: State) -> tuple[int, dict[int, int]]:
    """Find the last epoch that the file had, and its last seqs; raise the state's own seqs, if it is that one.

    Returns:
        0 and nothing if the state is of that epoch.
    """
    found = connection.execute(
        "SELECT epoch FROM (SELECT tick, epoch FROM epoch UNION ALL SELECT tick, epoch FROM outbox) ORDER BY tick DESC LIMIT 1"
    ).fetchone()
    outbox_rows.raise_seqs(connection, state)
    if found is None or found[0] == epoch_bytes(state.epoch):
        return 0, {}
    seqs = connection.execute("SELECT shard, max(seq) FROM outbox WHERE epoch = ? GROUP BY shard", found)
    return int.from_bytes(found[0], "little"), dict(seqs.fetchall())


def _settle_ticks(connection: sqlite3.Connection) -> int:
    """Return the last tick of the file, and take rows out whose number cannot be: of a tick far behind all others.

    Ticks of the journal follow each other; what stands alone has a damaged number. Outbox rows stay, under the last tick.
    """
    ticks = [tick for (tick,) in connection.execute("SELECT tick FROM journal WHERE tick > 0 ORDER BY tick")]
    runs: list[list[int]] = []
    for tick in ticks:
        if runs and tick - runs[-1][-1] <= _APART:
            runs[-1].append(tick)
        else:
            runs.append([tick])
    most = 2**52
    if runs:
        longest = max(runs, key=len)
        connection.execute("DELETE FROM journal WHERE tick < ? OR tick > ?", (longest[0], longest[-1]))
        most = longest[-1] + _APART
    found = [0, *(run[-1] for run in runs if run[-1] <= most)]
    for table in ("epoch", "arrival", "coverage", "snapshot"):
        connection.execute(f"DELETE FROM {table} WHERE tick <= 0 OR tick > ?", (most,))
        found.append(connection.execute(f"SELECT coalesce(max(tick), 0) FROM {table}").fetchone()[0])
    for table in ("outbox", "dead_letter"):
        query = f"SELECT coalesce(max(tick), 0) FROM {table} WHERE tick <= ?"
        found += connection.execute(query, (most,)).fetchone()
    last = int(max(found))
    connection.execute("UPDATE outbox SET tick = ? WHERE tick > ?", (last, most))
    return last


def _mend_look_ups(connection: sqlite3.Connection) -> None:
    """Make summaries of journal rows anew that are missing or damaged: any reading may stand there; drop coverage that cannot be read."""
    rows = connection.execute(
        "SELECT journal.tick, journal.body, arrival.body FROM journal LEFT JOIN arrival ON arrival.tick = journal.tick"
    )
    made: list[tuple[int, bytes]] = []
    for tick, body, row in rows:
        if row and is_good(tick, row):
            continue
        with suppress(journal.Damaged):
            readings = journal.decode(body).readings
            made.append((tick, summary(readings, readings.sent >= STAMPED)))
    connection.executemany("INSERT OR REPLACE INTO arrival VALUES (?, ?)", [one for one in made if one[1]])
    connection.execute("DELETE FROM arrival WHERE tick NOT IN (SELECT tick FROM journal)")
    bad = []
    for tick, body in connection.execute("SELECT tick, body FROM coverage"):
        try:
            coverage.unpacked(body)
        except ValueError:
            bad.append((tick,))
    connection.executemany("DELETE FROM coverage WHERE tick = ?", bad)
    lost = []
    for n, body in connection.execute("SELECT n, body FROM evicted"):
        try:
            heard(body)
        except journal.Damaged:
            lost.append((n,))
    connection.executemany("DELETE FROM evicted WHERE n = ?", lost)


def _names_of_pictures(connection: sqlite3.Connection) -> list[tuple[int, list[str]]]:
    """Return the series' names as of some ticks: from heads of snapshots, whatever became of their pieces, and from coverage."""
    found: list[tuple[int, list[str]]] = []
    for tick, body in connection.execute("SELECT tick, body FROM coverage"):
        with suppress(ValueError):
            found.append((tick, coverage.names_in(body)))
    for tick, head in connection.execute("SELECT tick, body FROM snapshot WHERE section = 0"):
        with suppress(ValueError):
            found.append((tick, snapshot.names_in(tick, head)))
    return sorted((tick, names) for tick, names in found if names)


def _go_on_counting(connection: sqlite3.Connection) -> None:
    """Numbers of outbox rows are never used again: `sent` counts by them."""
    (last,) = connection.execute(
        "SELECT max((SELECT coalesce(max(n), 0) FROM outbox), (SELECT coalesce(max(n), 0) FROM sent))"
    ).fetchone()
    if not connection.execute(
        "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'outbox'", (last,)
    ).rowcount:
        connection.execute("INSERT INTO sqlite_sequence VALUES ('outbox', ?)", (last,))

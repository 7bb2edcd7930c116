"""Checks of the files: are they sound, is anyone else writing them, and what could not be taken in."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from headwater_appliance.box import Box
from headwater_appliance.findings import Bad, Good, Note, Verdict
from headwater_appliance.processes import name_of, writer_of, writers_of
from headwater_appliance.shown import amount, size_of
from headwater_edge import dead_letters as letters
from headwater_edge import on_desk
from headwater_edge.aside import all_aside
from headwater_edge.opening import is_damage
from headwater_shared.errors import HeadwaterError, StateError
from headwater_shared.settings import size
from headwater_shared.sqlite_file import read_only

_MENDED = (3, 51, 3)
"""The SQLite without the WAL-reset bug: before it, two writers at once could damage a file (R32)."""
_LONGEST_S = 20.0
_GROWING_S = 600
_STEPS = 100_000


def sqlite(box: Box) -> Verdict:
    """Does anyone but the agent write to its file?"""
    version = sqlite3.sqlite_version
    clouds = {writer_of(process.file) for process in box.cloud_processes}
    for file, owners in ((box.edge_file, {writer_of(box.edge_file)}), (box.cloud_file, clouds)):
        others = [pid for pid in writers_of(file) if pid not in owners]
        if others:
            who = ", ".join(f"process {pid} ({name_of(pid)})" for pid in others)
            return Bad(
                f"{file} is open for writing in {who}",
                "end that program: it may damage the file; copy the file with 'headwater backup' instead",
            )
    if sqlite3.sqlite_version_info < _MENDED:
        return Good(
            f"SQLite {version}; nobody else writes to the files (two writers at once could damage them before 3.51.3)"
        )
    return Good(f"SQLite {version}; nobody else writes to the files")


def files(box: Box) -> Verdict:
    """Are the files of agent, cloud side and bus sound? SQLite's quick check, for some seconds each."""
    said = []
    for file, remedy in (
        (
            box.edge_file,
            "start the agent again: it sets the file aside and saves what can be read (docs/damaged-files.md)",
        ),
        (
            box.bus_file,
            f"move {box.bus_file} away and start again: what the cloud side lacks, agents send again",
        ),
        (
            box.cloud_file,
            f"move {box.cloud_file} and its -wal away, keep them, and start again: it is made anew from the bus",
        ),
    ):
        if not file.exists():
            continue
        fault, whole = _quickly(file, agents=file == box.edge_file)
        if fault:
            return Bad(f"{file} is damaged: {fault}", remedy)
        said.append(
            f"{file.name} {size_of(file.stat().st_size)}"
            + ("" if whole else f" (as far as {_LONGEST_S:.0f} s reach)")
        )
    return Good(f"sound: {', '.join(said)}") if said else Good("there are none yet")


def set_aside(box: Box) -> Verdict:
    """Does a damaged file of before lie there?"""
    lying = all_aside(box.edge_file)
    if not lying:
        return Good("no damaged file lies beside the agent's")
    size_ = sum(one.stat().st_size for one in lying)
    return Bad(
        f"{', '.join(one.name for one in lying)} ({size_of(size_)}): a damaged file that was set aside",
        f"look at the log and at 'headwater-edge dead-letters list --reason salvaged', then remove it: rm {' '.join(map(str, lying))}",
    )


def dead_letters(box: Box) -> Verdict:
    """Do messages come in that cannot be read, and how much room is left for them?"""
    if not box.edge_file.exists():
        return Good("none: there is no agent's file yet")
    since_us = box.clock().now().wall_us - _GROWING_S * 1_000_000
    with on_desk.opened(box.edge_file) as reader:
        count, bytes_ = letters.held(reader)
        (fresh,) = reader.execute(
            "SELECT count(*) FROM dead_letter WHERE time_us >= ?", (since_us,)
        ).fetchone()
        reasons = reader.execute(
            "SELECT reason, count(*) FROM dead_letter WHERE time_us >= ? GROUP BY reason ORDER BY 2 DESC LIMIT 3",
            (since_us,),
        ).fetchall()
    show = box.command("headwater-edge dead-letters list")
    limit = size(box.edge.dead_letters)
    if bytes_ >= limit * 0.9:
        return Bad(
            f"{amount(count, 'dead letter')} take {size_of(bytes_)} of {size_of(limit)} (edge.dead_letters): soon such messages are not acknowledged any more",
            f"{show}; then replay or purge them",
        )
    if fresh:
        why = ", ".join(f"{number:,} {reason}" for reason, number in reasons)
        return Bad(
            f"{amount(fresh, 'message')} of the last 10 minutes could not be taken in: {why}",
            f"{show} shows each with its reason; mend the device or set a format (docs/formats.md), then replay or purge them",
        )
    return (
        Note(
            f"{amount(count, 'dead letter')} of before, {size_of(bytes_)}",
            f"{show}; then replay or purge them",
        )
        if count
        else Good("none")
    )


def _quickly(file: Path, *, agents: bool) -> tuple[str, bool]:
    """Return what is wrong, and whether all of the file was looked at."""
    end = time.monotonic() + _LONGEST_S
    late: Callable[[], bool] = lambda: time.monotonic() > end  # noqa: E731
    try:
        with on_desk.opened(file) if agents else closing(read_only(file)) as reader:
            reader.set_progress_handler(late, _STEPS)
            (found,) = reader.execute("PRAGMA quick_check(1)").fetchone()
            return ("" if found == "ok" else str(found).replace("\n", " ")), True
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return "", False
        return str(error), True
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise StateError(f"{file}: {error}", hint="try again") from None
        return str(error), True
    except HeadwaterError as error:
        return str(error.message), True

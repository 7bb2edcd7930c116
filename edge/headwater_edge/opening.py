"""The agent's file is opened, whatever state it is in: bound, resumed, or set aside and salvaged (R6, R15).

An attempt is counted before anything is run again, and the count is committed: what kills the process at every start is
found at the third message by message, and at the fourth the file is set aside. The start's own commit clears it.
"""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import msgspec

from headwater_edge import aside, hardware, journal
from headwater_edge.careful import resume_carefully
from headwater_edge.dead_letters import held
from headwater_edge.detection.signed import NO_KEY, Seal
from headwater_edge.events import SetAside
from headwater_edge.horizon import Horizon
from headwater_edge.remains import KINDS, UNREADABLE, has_two_names, is_sound
from headwater_edge.restart import Resumed, resume
from headwater_edge.salvage import salvage
from headwater_edge.settings import StepSettings
from headwater_edge.spread_past import check_unchanged
from headwater_edge.state import State
from headwater_edge.store import PAGE_SIZE, births, columns_of, misnamed, write_store
from headwater_shared import pages
from headwater_shared.clock import Now
from headwater_shared.crash import reached
from headwater_shared.errors import HeadwaterError, SettingsError, StateError, StateForeign, TryAgain
from headwater_shared.logs import get_logger
from headwater_shared.sqlite_file import WriterLock, read_only, read_without_log, says_damaged

log = get_logger()

_MESSAGE_BY_MESSAGE = 3
"""The attempt that tries each row before it runs it; at the next one the file is set aside."""
_LOOKED_THROUGH = 16_000_000
"""A file of no more bytes is looked through when there is a log to recover: that takes a moment."""
_READ_WITH_CARE = ("journal", "snapshot")
"""Tables that are large, and of which each row is looked at where it is read."""
_SQL = {int: "'integer'", str: "'text'", bytes: "'blob'", type(None): "'null'"}
"""What SQLite calls the types of values."""


@dataclass(slots=True)
class Opened:
    """A file that is ready, with all that a start reads of it."""

    connection: sqlite3.Connection
    lock: WriterLock
    resumed: Resumed
    births: list[tuple[bytes, bytes]]
    horizon: Horizon
    letters: tuple[int, int]
    """How many dead letters there are, and their bytes."""
    events: list[SetAside]
    """What the first tick must say of the file before this one."""
    set_aside: SetAside | None
    """What was last said so."""


class _Hopeless(Exception):
    """Some row cannot be run, whatever is left out of it."""


def is_damage(error: BaseException) -> bool:
    """Tell whether an error means that the file is damaged: the next start sets it aside."""
    return says_damaged(error) or isinstance(error, journal.Damaged)


def open_state(
    path: Path,
    settings: StepSettings,
    now: Now,
    *,
    device: str | None = None,
    adopt: bool = False,
    seal: Seal = NO_KEY,
) -> Opened:
    """Open the file of an agent; make it if it is not there.

    Args:
        settings: of today, for a new file; an old one replays under those in its journal.
        device: what the file is bound to, by default this device.
        adopt: bind it to this device, whatever it was bound to.
        seal: of the models in its snapshots (R21).

    Raises:
        StateInUse, StateNewer: nothing was changed.
        SettingsError: they have other shards for windows that were sent (R25).
        StateForeign: it is bound to another device, or is another agent's; nothing was changed.
        TryAgain: there is no space to salvage it; it is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(path)
    try:
        device = hardware.identity() if device is None else device
        aside.finish(path)
        lost_log = _lost_its_log(path)
        why, careful = _trouble(path, lost_log=lost_log), False
        for _ in range(3):
            if why:
                _set_aside(path, settings, now, why, seal, careful=careful)
            try:
                return _start(path, lock, settings, device, seal, adopt=adopt, lost_log=lost_log and not why)
            except _Hopeless as error:
                why, careful = str(error), True
            except HeadwaterError:
                raise
            except Exception as error:
                if isinstance(error, sqlite3.Error | OSError) and not is_damage(error):
                    raise
                why = str(error) if is_damage(error) else repr(error)  # damaged bytes may come to anything
        raise StateError(
            f"{path} cannot be read, not even what was salvaged of it: {why}",
            hint="move it away to start with a new one, and keep it",
        )
    except BaseException:
        lock.release()
        raise


def _trouble(path: Path, *, lost_log: bool) -> str:
    """Say what is wrong with a file before SQLite writes to it, and with it to the log beside it; empty if nothing is seen."""
    wal = path.with_name(path.name + "-wal")
    has_log = wal.exists() and wal.stat().st_size > 0
    if not path.exists():
        return "the file is gone, and its write-ahead log is not" if has_log else ""
    if not path.stat().st_size:
        return "the file is empty"
    noted = aside.suspicion(path) or pages.log_trouble(path, PAGE_SIZE)
    if noted:
        return noted
    if has_log and has_two_names(path):
        return "the write-ahead log beside it is that of another file"
    small = path.stat().st_size <= _LOOKED_THROUGH
    return "SQLite finds it damaged" if ((has_log and small) or lost_log) and not is_sound(path) else ""


def _lost_its_log(path: Path) -> bool:
    """Tell whether the process that had the file last did not close it, and yet there is no log."""
    log = path.with_name(path.name + "-wal")
    if not path.exists() or (log.exists() and log.stat().st_size):
        return False
    try:
        with closing(read_without_log(path)) as connection:
            return connection.execute("SELECT 1 FROM meta WHERE name = 'open'").fetchone() is not None
    except (*UNREADABLE, HeadwaterError):
        return False  # whoever opens it next will say what is wrong


def _set_aside(path: Path, settings: StepSettings, now: Now, why: str, seal: Seal, *, careful: bool) -> None:
    """Salvage what can be read into a new file, and put it in the place of the damaged one."""
    log.error("the agent's file is damaged: what can be read of it is saved", file=str(path), why=why)
    said: list[SetAside] = []

    def make(target: Path, called: str) -> None:
        said.append(salvage(path, target, settings, now, why, called, careful=careful, seal=seal))

    try:
        aside.set_aside(path, make)
    except sqlite3.OperationalError as error:
        raise TryAgain(
            f"{path} is damaged ({why}), and what can be read of it cannot be written: {error}",
            hint="make space on the disk of the data folder; nothing was changed",
        ) from None
    (event,) = said
    log.error(
        "the damaged file was set aside, and the agent goes on with what could be read of it",
        file=event.file,
        why=event.why,
        last_tick=event.tick,
        whole_up_to_tick=event.reached,
        lost_ticks=event.lost_ticks,
        lost_outbox_rows=event.lost_rows,
        salvaged_readings=event.salvaged,
        hint="'headwater-edge dead-letters list --reason salvaged' shows readings that may not be counted; keep the file "
        "until you have looked",
    )


def _start(
    path: Path,
    lock: WriterLock,
    settings: StepSettings,
    device: str,
    seal: Seal,
    *,
    adopt: bool,
    lost_log: bool,
) -> Opened:
    known = _noted(path)
    _bound(path, known, settings.agent, device, adopt=adopt)  # to open a file for writing may change it
    connection = write_store(path)
    try:
        wrong = misnamed(connection)
        if wrong:
            raise journal.Damaged(f"the file's own words for its tables are damaged: {', '.join(wrong)}")
        attempt = int(known.get("attempts", 0)) + 1
        _count(connection, attempt, settings.agent, device or known.get("hardware", ""))
        reached("start.counted")
        resumed = _resumed(connection, settings, attempt, seal)
        _same_past(connection, resumed.state, settings)
        _look_at_rows(connection)
        pending = _event(known.get("set_aside"))
        if lost_log and pending is None:
            pending = _without_log(connection, path, resumed.state.tick)
        return Opened(
            connection,
            lock,
            resumed,
            births(connection),
            Horizon(path, resumed.state.names),
            held(connection),
            [pending] if pending else [],
            pending or _event(known.get("was_set_aside")),
        )
    except BaseException:
        _let_go(connection, path)
        raise


def _same_past(connection: sqlite3.Connection, state: State, settings: StepSettings) -> None:
    """Refuse another map of shards for what was sent; that the state was reached is no attempt that failed."""
    if not state.tick:
        return  # nothing was sent; another agent of the site may have had this map for long
    try:
        check_unchanged(state.settings.spread, settings.spread, state.begun_us())
    except SettingsError:
        with suppress(sqlite3.OperationalError):  # of a full disk
            connection.execute("DELETE FROM meta WHERE name = 'attempts'")
        raise


def _noted(path: Path) -> dict[str, str]:
    """Read what the file says of itself; nothing, if it is new or no file of ours."""
    if not path.exists() or not path.stat().st_size:
        return {}
    with closing(read_only(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
            return {}
        return dict(connection.execute("SELECT name, value FROM meta").fetchall())


def _without_log(connection: sqlite3.Connection, path: Path, tick: int) -> SetAside:
    """Note, and say, that the file came without the log that it must have had; it is sound, so it stays where it is."""
    why = "its write-ahead log is gone, and what was committed after this tick, if anything was"
    log.error("the agent's file came without its write-ahead log", file=str(path), tick=tick, why=why)
    event = SetAside("", why, tick, tick, 0, 0, 0)
    text = msgspec.json.encode(event).decode()
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('set_aside', ?)", (text,))
    return event


def _bound(path: Path, known: dict[str, str], agent: str, device: str, *, adopt: bool) -> None:
    """Refuse a file that is another agent's, or another device's (R6).

    Raises:
        StateForeign: it is.
    """
    if known.get("agent", agent) != agent:
        raise StateForeign(
            f"{path} is the file of the agent {known['agent']!r}, and the settings say {agent!r}",
            hint=f"set edge.name = {known['agent']!r}; to call the agent otherwise, let its outbox run empty and move the file away",
        )
    if not adopt and hardware.differs(known.get("hardware", ""), device):
        raise StateForeign(
            f"{path} belongs to another device: it was copied with its card, or restored here",
            hint="if the other device runs no more: 'headwater-edge run --adopt' makes it this one's; else move it away "
            "and give this agent a name of its own",
        )


def _count(connection: sqlite3.Connection, attempt: int, agent: str, device: str) -> None:
    """Commit that a start is tried, and that the file is in use; in the file itself, not only in its log."""
    rows = [("attempts", str(attempt)), ("open", "1"), ("agent", agent), ("hardware", device)]
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('file', ?)", (secrets.token_hex(8),))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
            raise
        if connection.in_transaction:  # it starts all the same, and holds back
            connection.execute("ROLLBACK")


def _resumed(connection: sqlite3.Connection, settings: StepSettings, attempt: int, seal: Seal) -> Resumed:
    """Run the journal again, with the more care the more often that did not end well."""
    if attempt > _MESSAGE_BY_MESSAGE:
        raise _Hopeless(f"{attempt - 1} starts in a row did not come to their end")
    if attempt < _MESSAGE_BY_MESSAGE:
        try:
            return resume(connection, settings, seal=seal)
        except (sqlite3.Error, HeadwaterError, journal.Damaged):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a row does to the step, the agent must start
            log.error("a tick of the journal cannot be run again", error=repr(error))
    log.warning("the journal is run message by message", attempt=attempt)
    try:
        return resume_carefully(connection, settings, seal)
    except journal.Damaged as error:
        raise _Hopeless(str(error)) from None


def _look_at_rows(connection: sqlite3.Connection) -> None:
    """See that what a start and other threads read are rows of their tables: a page in another's place is read without a word.

    Raises:
        Damaged: they are not.
    """
    for table, columns in columns_of(connection).items():
        if table not in KINDS or table in _READ_WITH_CARE:
            continue
        wrong = " OR ".join(
            f"typeof({column}) NOT IN ({', '.join(_SQL[one] for one in get_args(kind) or (kind,))})"
            for column, kind in zip(columns, KINDS[table], strict=True)
        )
        if connection.execute(f"SELECT 1 FROM {table} WHERE {wrong} LIMIT 1").fetchone():
            raise journal.Damaged(f"the table {table} holds what is no row of it")


def _event(text: str | None) -> SetAside | None:
    return msgspec.json.decode(text, type=SetAside) if text else None


def _let_go(connection: sqlite3.Connection, path: Path) -> None:
    """Close without writing the log into the file, which may be damaged: the last one to close would."""
    with suppress(sqlite3.Error, HeadwaterError, UnicodeDecodeError), closing(read_only(path)) as reader:
        reader.execute("SELECT 1 FROM sqlite_master").fetchone()
        connection.close()
    connection.close()

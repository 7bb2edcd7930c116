"""The writer: one thread that owns the only writing connection; transactions strictly in tick order (R5, R11, R32)."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headwater_edge import snapshot
from headwater_edge.ballast import Ballast
from headwater_edge.decode import DeadLetter
from headwater_edge.detection.signed import NO_KEY, Seal
from headwater_edge.output import Output
from headwater_edge.rows import commit_of
from headwater_edge.snapshot import Picture
from headwater_edge.store import AlertRow, Chores, Rewrite, read_store, write
from headwater_edge.tick import Tick
from headwater_shared.crash import reached
from headwater_shared.logs import get_logger
from headwater_shared.sqlite_file import give_back

log = get_logger()

_AGAIN_S = 1.0
_MODELS_S = 0.002
"""So long a tick models are copied for a snapshot (R15)."""


@dataclass(slots=True)
class Job:
    """One tick to be committed; owned by the writer from here on."""

    tick: Tick
    output: Output
    dead: list[DeadLetter]
    births: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    size: int = 0
    """Bytes of its journal row, once committed."""
    rewrites: Sequence[Rewrite] = ()
    """Outbox rows that its event coalesced."""
    alerts: Sequence[AlertRow] = ()
    """Local alerts that were written with it, once committed."""


class FreePages(int):
    """So many free pages of the file are to be given back to the disk."""


class Writer:
    """Commits ticks, and between them chores and the pieces of a snapshot.

    `committed(job)`, `failed(error)` and `pictured(tick, bytes)` (tick 0: it was not read back) are called from the writer's thread: the agent
    hands them to its loop. At most one tick is under way; the caller sees to that. When the disk is full the ballast is given up, `full()` is
    called, and what failed is tried again unchanged (R11, R17).
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        committed: Callable[[Job | None], None],
        failed: Callable[[BaseException], None],
        pictured: Callable[[int, int], None],
        full: Callable[[], None],
        ballast: Ballast,
        seal: Seal = NO_KEY,
    ) -> None:
        self._seal = seal
        self._half: Picture | None = None
        """A snapshot whose models are not all copied yet."""
        self._full = full
        self._ballast = ballast
        self._connection = connection
        self._path = path
        self._committed = committed
        self._failed = failed
        self._pictured = pictured
        self._jobs: queue.SimpleQueue[Job | Picture | Chores | FreePages | None] = queue.SimpleQueue()
        self._chores = Chores()
        self._chores_lock = threading.Lock()
        self._pieces: list[tuple[int, int, bytes]] = []
        """What is left of a snapshot to write: (tick, section, body), the head last."""
        self._drop_picture = False
        self._stop = threading.Event()
        self.alerts_of: Callable[[Output], Sequence[AlertRow]] = lambda _: ()
        """What of an output is to be said on the spot."""
        self.holding = ""
        """Why commits wait, if they do: the disk is full."""
        self.commits = self.times_full = 0
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Commit a tick."""
        reached("tick.stepped")
        self._jobs.put(job)
        self.go_on_with_picture()

    def picture(self, picture: Picture) -> None:
        """Write a snapshot, a piece at a time between ticks; its models are copied before, a few a tick."""
        reached("snapshot.taken")
        self._half = picture
        self.go_on_with_picture()

    def go_on_with_picture(self, seconds: float = _MODELS_S) -> None:
        """Copy some more models, on the loop, where they change."""
        if self._half is not None and self._half.some(seconds):
            self._jobs.put(self._half)
            self._half = None

    def take_along(self, chores: Chores, *, now: bool = False) -> None:
        """Leave chores for the next transaction, or for one of their own."""
        with self._chores_lock:
            self._chores.sent |= chores.sent
            self._chores.covered += chores.covered
            self._chores.alerts_gone += chores.alerts_gone
            if chores.gaps is not None:
                self._chores.gaps = chores.gaps
            self._chores.bus = chores.bus or self._chores.bus
            if chores.ungiven is not None:
                self._chores.ungiven = chores.ungiven
            if chores.journal_to:
                self._chores.journal_from = self._chores.journal_from or chores.journal_from
                self._chores.journal_to = max(self._chores.journal_to, chores.journal_to)
        if now:
            self._jobs.put(Chores())

    def give_back(self, pages: int) -> None:
        """Return free pages of the file to the disk, between ticks."""
        self._jobs.put(FreePages(pages))

    def fail(self, error: BaseException) -> None:
        """What belongs to the file and is not done here went wrong."""
        self._failed(error)

    def close(self) -> None:
        """Finish what was submitted, and let go of the file. Returns at once if the disk holds a commit back."""
        self._stop.set()
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._once():
                pass
            self._connection.execute("DELETE FROM meta WHERE name = 'open'")  # else a missing log were a loss
            self._connection.close()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the process must not go on without a writer
            self._failed(error)

    def _once(self) -> bool:
        """Do the next job; a piece of a snapshot when there is none."""
        if self._drop_picture:  # its room is for what lets rows go
            tick, self._pieces, self._drop_picture = self._pieces[0][0], [], False
            self._forget([tick])
            self._pictured(0, 0)
            return True
        if self._pieces and self._jobs.empty():
            self._write_piece()
            return True
        job = self._jobs.get()
        match job:
            case Job():
                self._commit(job)
            case Picture():
                head, *pieces = snapshot.encode(job, self._seal)
                self._pieces = [(job.tick, n, piece) for n, piece in enumerate(pieces, 1)]
                self._pieces.append((job.tick, 0, head))
            case Chores():
                self._commit(None)
            case FreePages():
                self._give_back(job)
            case None:
                if self._take_chores_back():
                    self._commit(None)
                return False
        return True

    def _take_chores_back(self) -> bool:
        with self._chores_lock:
            return bool(self._chores)

    def _commit(self, job: Job | None) -> None:
        commit = None
        if job:
            job.alerts = self.alerts_of(job.output)
            commit = commit_of(job.tick, job.output, job.dead, job.births, job.rewrites, job.alerts)
        with self._chores_lock:
            chores, self._chores = self._chores, Chores()
        if commit is None and not chores:
            return
        while not self._written(lambda: write(self._connection, commit, chores)):
            if self._stop.wait(_AGAIN_S):
                return
        self.commits += 1
        if job and commit:
            job.size = len(commit.journal)
        self._committed(job)

    def _written(self, transaction: Callable[[], None]) -> bool:
        """Try a transaction; False if the disk is full and nothing was written.

        Raises:
            sqlite3.Error: its outcome is unknown: the process ends and starts again from the file (R11).
        """
        try:
            transaction()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self.times_full += 1
            if self._ballast.give_up():
                log.error(
                    "the disk is full: the ballast is given up, so that what makes room has room",
                    file=str(self._path),
                    hint="free space; nothing is lost",
                )
                self._full()
                self._drop_picture = bool(self._pieces)
                return self._written(transaction)
            if not self.holding:
                self.holding = "the disk is full"
                log.error(
                    "holding back: the disk is full", file=str(self._path), hint="free space; nothing is lost"
                )
                self._full()
            return False
        if self.holding:
            log.info("going on: there is space again", file=str(self._path))
            self.holding = ""
        return True

    def _write_piece(self) -> None:
        tick, section, body = self._pieces[0]
        reached("snapshot.piece" if section else "snapshot.head")

        def insert() -> None:
            self._connection.execute(
                "INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?)", (tick, section, body)
            )

        if not self._written(insert):
            self._stop.wait(_AGAIN_S)
            return
        del self._pieces[0]
        if not self._pieces:
            self._check(tick)

    def _check(self, tick: int) -> None:
        """Read a snapshot back: only then it counts; then all but the two newest go (R15)."""
        reached("snapshot.check")
        reader = read_store(self._path)
        try:
            snapshot.read(reader, tick, self._seal)
        except ValueError as error:
            log.error(
                "a snapshot was not read back as written; it does not count", tick=tick, error=str(error)
            )
            self._forget([tick])
            self._pictured(0, 0)
            return
        finally:
            reader.close()
        reached("snapshot.checked")
        self._forget(snapshot.ticks(self._connection)[2:])
        reached("snapshot.gone")
        size = self._connection.execute(
            "SELECT sum(length(body)) FROM snapshot WHERE tick = ?", (tick,)
        ).fetchone()[0]
        self._pictured(tick, size)

    def _forget(self, ticks: Sequence[int]) -> None:
        """Delete snapshots."""

        def delete() -> None:
            self._connection.executemany("DELETE FROM snapshot WHERE tick = ?", [(tick,) for tick in ticks])

        while ticks and not self._written(delete) and not self._stop.wait(_AGAIN_S):
            pass

    def _give_back(self, pages: int) -> None:
        """Let the disk have free pages of the file, and what the write-ahead log was larger once."""

        def free() -> None:
            give_back(self._connection, pages)
            # What was freed is in the log until it is written back; the log itself then shrinks to its limit.
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

        self._written(free)

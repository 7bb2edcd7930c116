"""Which rows of the outbox the bus was never given: only they may be coalesced (R22).

The file must know before the bus does, or a crash in between would let a row be changed that is out. So while the bus is
there, nothing is ungiven, and that costs nothing; when it goes away, all that comes from then on is; and before rows of
that are sent, a chore takes them out, a piece at a time.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from headwater_edge.store import Chores, read_store

Span = tuple[int, int]
"""(after, to): rows with after < n <= to."""

EVER = 2**62
_PIECE = 4096
"""Rows that are taken out at once."""
_MOST = 16
"""Spans; of more the oldest is taken for given."""


class Ungiven:
    """Spans of rows, in the file and in memory. The forwarder's thread moves them; `freeze` and `thaw` are for others.

    A row is only sent if it is in no span of the file; a row is only changed if it is in a span of the memory, and while
    spans are frozen none is taken out.
    """

    def __init__(self, path: Path, leave: Callable[[Chores], None]) -> None:
        self._reader: sqlite3.Connection = read_store(path)
        self._leave = leave
        self._lock = threading.Lock()
        self._frozen = self._asked = False
        self._spans = self._stored()
        self._known = set(self._spans)
        """Spans that the file has, or that are on their way to it."""
        self._wanted: list[Span] | None = None
        """What the file is to hold before more is sent."""
        last = int(self._reader.execute("SELECT coalesce(max(n), 0) FROM outbox").fetchone()[0])
        open_end = bool(self._spans) and self._spans[-1][1] == EVER
        self._given = self._spans[-1][0] if open_end else last
        """No row after this one was sent; of what a process before sent, nobody knows more."""

    def close(self) -> None:
        self._reader.close()

    def _stored(self) -> list[Span]:
        found = self._reader.execute("SELECT value FROM meta WHERE name = 'ungiven'").fetchone()
        try:
            return msgspec.json.decode(str(found[0]), type=list[Span]) if found else []
        except msgspec.DecodeError:  # the file was damaged: of what nobody knows, all was given
            return []

    def may_go(self, n: int) -> bool:
        """Tell whether a row may be sent; if not, it soon may. The rows of one append are asked for in turn."""
        with self._lock:
            self._take_up()
            inside = self._inside(n)
            if inside is not None and not self._frozen and self._wanted is None:
                self._want(inside, n)
                inside = self._inside(n)
            if inside is None:
                self._given = max(self._given, n)
                return True
            self._asked = self._frozen
            return False

    def _inside(self, n: int) -> Span | None:
        return next(((after, to) for after, to in self._spans if after < n <= to), None)

    def _want(self, inside: Span, n: int) -> None:
        """Ask for a piece of a span that begins with a row; what lies before it may be sent at any time after."""
        if inside not in self._known:  # the file never heard of it, so that it need not forget it
            self._spans.remove(inside)
            return
        after, to = inside
        found = self._reader.execute(
            "SELECT n FROM outbox WHERE n >= ? ORDER BY n LIMIT 1 OFFSET ?", (n, _PIECE)
        ).fetchone()
        left = [span for span in self._spans if span != inside]
        if n - 1 > after:
            left.append((after, n - 1))
        if found is not None and found[0] < to:
            left.append((found[0], to))
        self._wanted = sorted(left)
        self._tell(self._wanted)

    def _tell(self, spans: list[Span]) -> None:
        self._known |= set(spans)
        self._leave(Chores(ungiven=list(spans)))

    def _take_up(self) -> None:
        if self._wanted is not None and self._stored() == self._wanted:
            self._spans, self._wanted = self._wanted, None
            self._known = set(self._spans)

    def away(self) -> None:
        """The bus is away: what comes from now on is given to nobody. The file is told if it is away again: else all may go out
        a moment later, and what a commit is just writing could not be taken back.
        """
        with self._lock:
            self._take_up()
            if self._wanted is not None:
                return
            if not self._spans or self._spans[-1][1] != EVER:
                self._spans = [*self._spans, (self._given, EVER)][-_MOST:]
            elif self._spans[-1] not in self._known:
                self._tell(self._spans)

    def freeze(self) -> list[Span]:
        """Let nothing be taken out from now on; return what may be changed until `thaw`.

        Nothing, if rows are on their way out, or could not go because of the last time: sending comes first.
        """
        with self._lock:
            if self._wanted is not None or self._asked:
                return []
            self._frozen = True
            return list(self._spans)

    def thaw(self) -> None:
        with self._lock:
            self._frozen = False

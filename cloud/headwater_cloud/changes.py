"""What commits wrote, by key, for the sink that follows the file: rows of `change`, in the transaction of what they name (R27).

Only while a sink is registered, and never the rows themselves: whoever follows reads these as they are by then, so that a key that
changed ten times is written once, and a retry is built anew (R28). One writer at a time has the file, also of several processes, so
the order of numbers is that of commits: who has read up to a number never meets a lower one later.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater_cloud.merge import Windows
from headwater_shared.squeeze import squeezed

Ints = NDArray[np.int64]
Kind = Literal["window", "anomaly", "alert", "alert_event", "device", "registry", "command"]

SINK = "influx"

_EVERYTHING = -(2**63)
_CHUNK = 5_000
_LOOK = 20_000
"""Changes that one look goes through at most."""
_PIECES = 64
"""What many looks saw is remembered in so many pieces at most."""
_UNREAD = """
WITH some AS (SELECT n, oldest FROM change WHERE n > ? ORDER BY n LIMIT ?)
SELECT key, min(value), (SELECT max(n) FROM some) FROM some LEFT JOIN json_each(some.oldest) GROUP BY key
"""
_SHORT = 1 << 15


class Keys(NamedTuple):
    """Keys of windows, n rows: the numbers are the file's."""

    level: Ints
    start: Ints
    series: Ints


class Cursor(NamedTuple):
    """How far a sink has followed: the registration, the last row, and the mark that this row bears; `whole`: and it has all that was there
    before, too.
    """

    registered: int
    n: int
    mark: int
    whole: bool


class Held(NamedTuple):
    """From which times on rows are not deleted, for a sink has not read them."""

    oldest: Mapping[str, int] = {}
    """By level, and of what was `found`."""
    otherwise: int | None = None

    def of(self, what: int | Literal["found"]) -> int | None:
        """Return the time of a level, or of what was found; None: all of it may go."""
        return self.oldest.get(str(what), self.otherwise)


class Followed:
    """How far a sink has followed, and what it has yet to read: for retention, which asks each half minute.

    A sink that is away leaves hundreds of thousands of changes: each is looked at once, not each time. Of many looks two and two are put
    together: then a time is held until all of both is read, which may be longer than it must, and never shorter.

    Args:
        cursor: reads how far it is; None: nobody knows.
    """

    def __init__(self, cursor: Callable[[], Cursor | None] = lambda: None) -> None:
        self.cursor = cursor
        self._pieces: deque[tuple[int, dict[str, int]]] = deque()
        """Of the changes up to a number, from that of the piece before, the oldest times."""

    def held(self, connection: sqlite3.Connection, cursor: Cursor | None) -> Held:
        """Tell what retention must leave, in its transaction; `cursor`: as `self.cursor` gave it before."""
        mark = registered(connection)
        if mark is None:
            self._pieces.clear()
            return Held()
        if cursor is None or not cursor.whole or not _is_of(connection, mark, cursor):
            self._pieces.clear()  # they are of another file, or of before a new beginning
            return Held(otherwise=_EVERYTHING)
        while self._pieces and self._pieces[0][0] <= cursor.n:
            self._pieces.popleft()
        looked = max(cursor.n, self._pieces[-1][0] if self._pieces else 0)
        rows = connection.execute(_UNREAD, (looked, _LOOK)).fetchall()
        if rows:
            self._pieces.append((rows[0][2], {key: oldest for key, oldest, _ in rows if key is not None}))
            if len(self._pieces) > _PIECES:
                self._pieces = deque(_by_twos(list(self._pieces)))
        if rows and newest(connection)[0] > rows[0][2]:
            return Held(otherwise=_EVERYTHING)  # until all are looked at
        return Held(_oldest(some for _, some in self._pieces))


def _by_twos(pieces: list[tuple[int, dict[str, int]]]) -> Iterator[tuple[int, dict[str, int]]]:
    for at in range(0, len(pieces), 2):
        both = pieces[at : at + 2]
        yield both[-1][0], _oldest(some for _, some in both)


def _oldest(several: Iterable[dict[str, int]]) -> dict[str, int]:
    oldest: dict[str, int] = {}
    for some in several:
        for key, time_us in some.items():
            oldest[key] = min(time_us, oldest.get(key, time_us))
    return oldest


def register(connection: sqlite3.Connection, *, wanted: bool) -> None:
    """Have changes noted from this open transaction on, or no longer but for windows that are none any more."""
    if wanted:
        connection.execute("INSERT OR IGNORE INTO sink VALUES (?, random())", (SINK,))
    else:
        connection.execute("DELETE FROM sink WHERE name = ?", (SINK,))


def registered(connection: sqlite3.Connection) -> int | None:
    """Return the mark of the registration; None: changes are not noted."""
    row = connection.execute("SELECT mark FROM sink WHERE name = ?", (SINK,)).fetchone()
    return None if row is None else int(row[0])


def note_windows(connection: sqlite3.Connection, windows: Windows) -> None:
    """Note windows that were written, or that are none any more.

    These also while no sink is registered, once there was one: a file does not show what is none any more, but the store may have its
    point, and must hear of it when it is followed again.
    """
    if not len(windows):
        return
    if registered(connection) is None:
        gone = windows.aggregates.count == 0
        if not gone.any() or not _was_followed(connection):
            return
        windows = windows.take(gone)
    keys = Keys(windows.level, windows.start, windows.series)
    groups = _groups(keys)
    levels, starts = keys.level[groups].tolist(), keys.start[groups].tolist()
    oldest = dict(sorted(zip(map(str, levels), starts, strict=True), key=lambda item: -item[1]))
    _insert(connection, "window", oldest, pack(keys, groups))


def _was_followed(connection: sqlite3.Connection) -> bool:
    """Tell whether anything was ever noted: SQLite remembers the last number that it gave."""
    return connection.execute("SELECT 1 FROM sqlite_sequence WHERE name = 'change'").fetchone() is not None


def note(
    connection: sqlite3.Connection, kind: Kind, keys: Iterable[Any], oldest_us: int | None = None
) -> None:
    """Note keys of what was found; `oldest_us`: the earliest time that retention might take one of them by."""
    some = list(keys)
    if some and registered(connection) is not None:
        oldest = {} if oldest_us is None else {"found": oldest_us}
        _insert(connection, kind, oldest, squeezed(msgspec.msgpack.encode(some)))


def _insert(connection: sqlite3.Connection, kind: Kind, oldest: Mapping[str, int], body: bytes) -> None:
    connection.execute(
        "INSERT INTO change(mark, time_s, kind, oldest, body) VALUES (random(), CAST(strftime('%s') AS INTEGER), ?, ?, ?)",
        (kind, msgspec.json.encode(oldest).decode(), body),
    )


def keys_of(body: bytes) -> list[Any]:
    """Read what `note` noted."""
    found: list[Any] = msgspec.msgpack.decode(zlib.decompress(body))
    return found


def _groups(keys: Keys) -> Ints:
    """Return where level or start is another than before: windows come sorted, or nearly."""
    other = keys.start[1:] != keys.start[:-1]
    other |= keys.level[1:] != keys.level[:-1]
    return np.concatenate(([0], np.flatnonzero(other) + 1))


def pack(keys: Keys, groups: Ints | None = None) -> bytes:
    """Write keys in less than a byte each where many windows of one start are side by side; at least one.

    Squeezed: the number of groups, that of keys, and the bytes of a difference (2 or 4); of each group level, start and first key; all of
    these as int64; then the series, as differences. Little-endian.
    """
    groups = _groups(keys) if groups is None else groups
    series = np.empty_like(keys.series)
    series[0] = keys.series[0]
    np.subtract(keys.series[1:], keys.series[:-1], out=series[1:])
    width = 2 if int(series.max()) < _SHORT and int(series.min()) >= -_SHORT else 4
    head = np.array([len(groups), len(series), width], "<i8").tobytes()
    of_groups = np.concatenate((keys.level[groups], keys.start[groups], groups)).astype("<i8", copy=False)
    return squeezed(head + of_groups.tobytes() + series.astype(f"<i{width}").tobytes())


def unpack(body: bytes) -> Keys:
    """Read what `pack` wrote."""
    raw = zlib.decompress(body)
    groups, count, width = np.frombuffer(raw, "<i8", 3).tolist()
    level, start, first = np.frombuffer(raw, "<i8", 3 * groups, 24).reshape(3, -1)
    sizes = np.diff(np.append(first, count))
    differences = np.frombuffer(raw, f"<i{width}", offset=24 + 24 * groups)
    return Keys(np.repeat(level, sizes), np.repeat(start, sizes), np.cumsum(differences, dtype=np.int64))


def forget(connection: sqlite3.Connection, cursor: Cursor | None, keep_us: int | None) -> int:
    """Delete a chunk of what the sink has read, but for the row that its cursor stands at. Returns how many rows.

    Args:
        cursor: how far it is; None: nobody knows.
        keep_us: how long is kept what nobody is registered to read; None: for ever.
    """
    mark = registered(connection)
    if mark is None and keep_us is not None:
        aged = "DELETE FROM change WHERE n < (SELECT min(n) FROM change) + ? AND time_s < strftime('%s') - ?"
        return connection.execute(aged, (_CHUNK, keep_us // 1_000_000)).rowcount
    if cursor is None or mark is None or not _is_of(connection, mark, cursor):
        return 0
    return connection.execute(
        "DELETE FROM change WHERE n < ? AND n < (SELECT min(n) FROM change) + ?", (cursor.n, _CHUNK)
    ).rowcount


def _is_of(connection: sqlite3.Connection, mark: int, cursor: Cursor) -> bool:
    return cursor.registered == mark and stands(connection, cursor)


def stands(connection: sqlite3.Connection, cursor: Cursor) -> bool:
    """Tell whether the file is the one that the cursor is of, and has not gone back: a row of the same number in another has another mark."""
    if cursor.n == 0:
        return True
    row = connection.execute("SELECT mark FROM change WHERE n = ?", (cursor.n,)).fetchone()
    return row is not None and row[0] == cursor.mark


def newest(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return number and mark of the last row; 0 and 0 where there is none."""
    row = connection.execute("SELECT n, mark FROM change ORDER BY n DESC LIMIT 1").fetchone()
    return (0, 0) if row is None else (row[0], row[1])


def unread(connection: sqlite3.Connection, after: int) -> tuple[int, int]:
    """Return how many rows there are after a number, and when the first of them was made (seconds); 0 and 0: none.

    They are not counted: one writer at a time numbers them one by one, and only the lowest are deleted.
    """
    row = connection.execute(
        "SELECT n, time_s FROM change WHERE n > ? ORDER BY n LIMIT 1", (after,)
    ).fetchone()
    return (0, 0) if row is None else (newest(connection)[0] - row[0] + 1, row[1])


def read(
    connection: sqlite3.Connection, after: int, most: int
) -> Sequence[tuple[int, int, int, Kind, bytes]]:
    """Return number, mark, time (seconds), kind and body of the rows after a number."""
    query = "SELECT n, mark, time_s, kind, body FROM change WHERE n > ? ORDER BY n LIMIT ?"
    return connection.execute(query, (after, most)).fetchall()

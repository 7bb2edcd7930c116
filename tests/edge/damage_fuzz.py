"""Random damage to an agent's file and its log, by a seed; and what must hold after the next start, whatever it was."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import zlib
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from headwater_edge.rows import body_hash
from headwater_shared.errors import HeadwaterError
from tests.edge import damaged
from tests.edge.damaged import Victim, copied
from tests.edge.running import FILE, LOG, on_bus

PAGE = 1024
WAL = FILE + "-wal"
Row = tuple[bytes, int, int]


class Outcome(NamedTuple):
    """What one case came to."""

    refused: bool
    waiting: int
    """Outbox rows that could be read before the start."""
    salvaged: int


def case(seed: int, victims: list[Victim], other: Victim, folder: Path) -> Outcome:
    """Damage a copy of a victim as the seed says, start an agent from it, and check it; `other` is another agent's.

    Raises:
        AssertionError: a row that could be read did not go out, a reading counts twice, or an error is not one clear line.
    """
    chance = random.Random(seed)
    victim = copied(victims[chance.randrange(len(victims))], folder / str(seed))
    own = _readable(victim.folder, folder / f"{seed}-looked-at")
    told = [_damage(chance, victim.folder, other.folder) for _ in range(chance.choice((1, 1, 1, 2, 3)))]
    readable = own & _readable(victim.folder, folder / f"{seed}-looked-at")
    try:
        after = damaged.start_again(victim, resend=2, more=1)
    except HeadwaterError as error:
        if not error.hint or "\n" in error.message:
            raise AssertionError(f"seed {seed}, {told}: {error!r} is no clear line with a hint") from error
        return Outcome(True, len(readable), 0)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, {told}: {error}") from error
    except Exception as error:
        raise AssertionError(f"seed {seed}, {told}: {error!r}") from error
    frames, anomalies = on_bus(victim.folder / LOG)
    rows = [(one.epoch, one.shard, one.seq) for one in frames] + [
        (a.epoch, a.shard, a.seq) for a in anomalies
    ]
    sent = {(epoch.to_bytes(8, "little"), shard, seq) for epoch, shard, seq in rows}
    assert readable <= sent, f"seed {seed}, {told}: {len(readable - sent)} rows that could be read are lost"
    shutil.rmtree(victim.folder)
    salvaged = after.status["salvaged"]
    assert isinstance(salvaged, int)
    return Outcome(False, len(readable), salvaged)


def _damage(chance: random.Random, folder: Path, other: Path) -> str:
    """Do one harm; return what it was."""
    path = folder / chance.choice((FILE, FILE, WAL))
    if not path.exists() or not path.stat().st_size:
        return "nothing is there"
    size = path.stat().st_size
    head, each = (32, PAGE + 24) if path.name == WAL else (0, PAGE)
    kind = chance.choice(("flip", "flip", "flip", "zero", "cut", "swap", "tear", "gone", "foreign", "head"))
    if kind == "gone":
        path.unlink()
        return f"{path.name} is gone"
    if kind == "cut":
        os.truncate(path, chance.randrange(size))
        return f"{path.name} is cut"
    if kind == "foreign":
        shutil.copyfile(other / WAL, folder / WAL)
        return "the log of another file"
    body = bytearray(path.read_bytes())
    pages = max(1, (size - head) // each)
    first, second = (head + each * chance.randrange(pages) for _ in range(2))
    if kind == "flip":
        for _ in range(chance.choice((1, 2, 8, 64))):
            body[chance.randrange(size)] ^= 1 << chance.randrange(8)
    elif kind == "zero":
        length = each * chance.choice((1, 2, 8))
        body[first : first + length] = bytes(len(body[first : first + length]))
    elif kind == "head":
        for at in range(min(size, 100)):
            body[at] = chance.randrange(256)
    elif kind == "swap":
        body[first : first + each], body[second : second + each] = (
            body[second : second + each],
            body[first : first + each],
        )
    else:
        half = each // 2
        body[first + half : first + each] = body[second + half : second + each]
    path.write_bytes(body)
    return f"{kind} in {path.name}"


def _readable(folder: Path, copy: Path) -> set[Row]:
    """Return the identities of the outbox rows that SQLite gives back whole, one by one."""
    shutil.copytree(folder, copy)
    found: set[Row] = set()
    with suppress(sqlite3.Error, UnicodeDecodeError), closing(sqlite3.connect(copy / FILE)) as connection:
        if not (copy / FILE).stat().st_size:
            return found
        for n in range(1, 200):
            with suppress(sqlite3.Error, zlib.error, TypeError, UnicodeDecodeError):
                row = connection.execute(
                    "SELECT epoch, shard, seq, hash, body FROM outbox WHERE n = ?", (n,)
                ).fetchone()
                if row and body_hash(zlib.decompress(row[4])) == row[3]:
                    found.add(row[:3])
    shutil.rmtree(copy)
    return found

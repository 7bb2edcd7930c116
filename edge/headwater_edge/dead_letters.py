"""Dead letters: what could not be taken, with its bytes; and taking one again, of it only what was not taken (R20)."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from headwater_edge.decode import Decode, Decoded
from headwater_edge.decoded import IN_PART, named
from headwater_edge.events import LetterGone
from headwater_edge.source import REPLAY, Burst
from headwater_shared.digest import value_bits
from headwater_shared.errors import Refused

_COLUMNS = "tick, n, time_us, reason, detail, topic, bytes, readings"


class Letter(NamedTuple):
    """One dead letter, the nth of its tick; `readings` are those not taken (series, time as sent, value), None of all."""

    tick: int
    n: int
    time_us: int
    reason: str
    detail: str
    topic: bytes
    body: bytes
    readings: list[tuple[str, int, float]] | None

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{self.tick}.{self.n}"


def find(reader: sqlite3.Connection, ids: Sequence[tuple[int, int]]) -> list[Letter]:
    """Read letters by their numbers; what is not there any more is left out."""
    query = f"SELECT {_COLUMNS} FROM dead_letter WHERE tick = ? AND n = ?"
    rows = [row for id_ in ids for row in reader.execute(query, id_)]
    return [_letter(row) for row in rows]


def latest(reader: sqlite3.Connection, last: int, reason: str = "*") -> list[Letter]:
    """Read the latest letters whose reason matches (`*` any text), the newest first."""
    query = f"SELECT {_COLUMNS} FROM dead_letter WHERE reason GLOB ? ORDER BY tick DESC, n DESC LIMIT ?"
    return [_letter(row) for row in reader.execute(query, (reason, last))]


def held(reader: sqlite3.Connection) -> tuple[int, int]:
    """Return how many letters there are, and their bytes."""
    query = "SELECT count(*), coalesce(sum(length(bytes) + length(topic)), 0) FROM dead_letter"
    count, size = reader.execute(query).fetchone()
    return int(count), int(size)


def _letter(row: tuple[int, int, int, str, str, bytes, bytes, bytes | None]) -> Letter:
    readings = None if row[-1] is None else msgspec.msgpack.decode(row[-1], type=list[tuple[str, int, float]])
    return Letter(*row[:-1], readings)


def again(letter: Letter, decode: Decode) -> tuple[Burst, Decoded]:
    """Make the burst that takes a letter again: its message as it came then, and of it what was not taken.

    Raises:
        Refused: it cannot be read now either.
    """
    burst = Burst(letter.time_us)
    burst.topics.append(letter.topic)
    burst.payloads.append(letter.body)
    burst.packet_ids.append(0)
    burst.flags.append(REPLAY)
    burst.runs.append((0, 1))
    burst.size = len(letter.topic) + len(letter.body)
    burst.events.append((0, LetterGone(letter.tick, letter.n)))
    decoded = decode.burst(burst)
    in_part = letter.reason in IN_PART and ": " in letter.detail  # else its topic names the one metric
    if in_part or letter.readings is not None:
        decoded = _only(letter, decoded, decode)
    if decoded.dead or not len(decoded.value):
        why = decoded.dead[0].detail if decoded.dead else "it holds no reading that was not taken"
        raise Refused(
            f"dead letter {letter.name} ({letter.reason}) cannot be taken: {why}",
            hint="mend what its reason names (a setting, a format), or purge it",
        )
    return burst, decoded


def _only(letter: Letter, decoded: Decoded, decode: Decode) -> Decoded:
    """Keep of a message the readings that its letter names."""
    names = [decode.index.names[number] for number in decoded.series.tolist()]
    if letter.readings is None:  # by the names of metrics in its words
        refused = {decode.metric(letter.topic, what) for what in named(letter.detail)}
        kept = [name.rpartition("/")[2] in refused for name in names]
    else:
        wanted = Counter((name, sent, _bits(value)) for name, sent, value in letter.readings)
        kept = []
        for name, sent, bits in zip(
            names, decoded.sent.tolist(), value_bits(decoded.value).tolist(), strict=True
        ):
            kept.append(wanted[name, sent, bits] > 0)
            wanted[name, sent, bits] -= kept[-1]
    mask = np.array(kept, np.bool_)
    count = np.array([mask.sum()], np.int32)
    return decoded._replace(
        readings=count, series=decoded.series[mask], sent=decoded.sent[mask], value=decoded.value[mask]
    )


def _bits(value: float) -> int:
    return int(value_bits(np.array([value]))[0])

"""A trace: the records of `hw-in` as they lay on the bus, and what they must lead to; a small file with a version.

The file: `HWTRACE` and a version byte, then zlib over msgpack. Records that belong together are an act: whoever plays a
trace has a runner take one act in whole before the next one is appended.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from headwater_shared.bus import Record
from headwater_shared.topics import IN
from tests.golden.outcome import Outcome

_MARK = b"HWTRACE"
_VERSION = 1
FOLDER = Path(__file__).parent


class Input(msgspec.Struct, frozen=True, array_like=True):
    """A record of `hw-in`; `time_us` is when the bus took it, by the wall."""

    partition: int
    time_us: int
    key: str
    headers: dict[str, str]
    body: bytes

    def record(self) -> Record:
        """What is appended to play it."""
        return Record(IN.name, self.partition, self.key, self.headers, self.body)


Act = list[Input]


class Trace(msgspec.Struct, frozen=True):
    """What was on the bus, act by act, and the outcome."""

    about: str
    acts: list[Act]
    outcome: Outcome

    def records(self) -> Iterator[Input]:
        for act in self.acts:
            yield from act


def write(path: Path, trace: Trace) -> int:
    """Write a trace; return its size in bytes."""
    body = _MARK + bytes([_VERSION]) + zlib.compress(msgspec.msgpack.encode(trace), 9)
    path.write_bytes(body)
    return len(body)


def read(path: Path) -> Trace:
    """Read a trace.

    Raises:
        ValueError: it is none, of another version, or damaged.
    """
    body = path.read_bytes()
    head = len(_MARK) + 1
    if body[: head - 1] != _MARK:
        raise ValueError(f"{path} is no trace")
    if body[head - 1 : head] != bytes([_VERSION]):
        raise ValueError(f"{path} is a trace of version {body[head - 1]}, and this is {_VERSION}")
    try:
        return msgspec.msgpack.decode(zlib.decompress(body[head:]), type=Trace)
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def all_traces() -> Sequence[Path]:
    """The traces that every runner must pass."""
    return sorted(FOLDER.glob("*.trace"))

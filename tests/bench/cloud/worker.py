"""A worker under measurement: the Quix runner in a process of its own, which says at each checkpoint what it has done and used.

`python -m tests.bench.cloud.worker JSON` (see `Wanted`) prints a line of JSON for each change of the shards it holds, and one for
each checkpoint: the rows of `hw-in` and the windows so far, the CPU of all its threads, and the monotonic time. SIGTERM ends it.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from headwater_cloud import consume
from headwater_cloud.effects import Effects
from headwater_cloud.names import Names
from headwater_cloud.outputs import Why
from headwater_cloud.pipeline import Limits
from headwater_cloud.quix_engine import Engine
from headwater_cloud.quix_runner import QuixRunner
from headwater_cloud.retention import Keep
from headwater_cloud.shared_store import SharedStore
from headwater_cloud.sink import At, Batch, Sink

DAY_US = 86_400_000_000


class Wanted(msgspec.Struct):
    """How it is to run."""

    client: dict[str, str]
    prefix: str
    state: str
    file: str = ""
    """The file of the SQLite sink; "": windows are counted only."""
    slot: int = 1
    commit_s: float = 0.2
    session_s: float = 6.0


class _Count:
    """A sink that takes everything."""

    def decided(self, at: At) -> dict[int, Why]:
        return {}

    identity = "counted"

    def write(self, batches: Sequence[Batch], names: Names) -> None:
        pass

    def settle(self, found: Sequence[Effects], *, again: bool = False) -> None:
        pass


class _Said:
    """What is said of each checkpoint, before the sink that it goes on to."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._rows = self._windows = 0

    def decided(self, at: At) -> Mapping[int, Why]:
        return self._sink.decided(at)

    @property
    def identity(self) -> str:
        return self._sink.identity

    def write(self, batches: Sequence[Batch], names: Names) -> None:
        self._sink.write(batches, names)
        self._rows += sum(batch.out.counts["rows"] for batch in batches)
        self._windows += sum(batch.out.counts["windows"] for batch in batches)
        if batches:
            say(rows=self._rows, windows=self._windows)

    def settle(self, found: Sequence[Effects], *, again: bool = False) -> None:
        self._sink.settle(found, again=again)


def say(**facts: object) -> None:
    """Print facts, with CPU and time."""
    print(json.dumps({**facts, "cpu": time.process_time(), "at": time.monotonic()}), flush=True)


def main(wanted: Wanted) -> None:
    """Run until SIGTERM."""
    consume.CLOCK_OFF_US = 2**62  # the topic was not filled when its clock records say
    sink: Sink = _Count()
    if wanted.file:
        sink = SharedStore(Path(wanted.file), Keep({}, 7 * DAY_US))
    engine = Engine(
        wanted.prefix + "cloud", wanted.slot, wanted.state, wanted.commit_s, session_s=wanted.session_s
    )
    runner = QuixRunner(
        wanted.client, wanted.prefix, engine, _Said(sink), lambda us: us, Limits(), 7 * DAY_US
    )
    over = threading.Event()

    def follow() -> None:
        known = -1
        while not over.wait(0.05):
            held = len(runner.shards())
            if held != known:
                known = held
                say(shards=held)

    def end(*_: object) -> None:
        over.set()
        runner.stop()

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=follow, daemon=True).start()
    runner.run()


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Wanted))

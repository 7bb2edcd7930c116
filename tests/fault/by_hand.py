"""The agent with its threads and its event loop turned by hand: each turn does one thing, and a crash may come between any two.

Nothing of the agent is another than in its process; only who calls the loop, the writer and the forwarder is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headwater_cloud import publish, runner
from headwater_edge import commit, forward, keeping, opening, outbox, pipeline, recent, restart, store
from headwater_edge.commit import Writer
from headwater_edge.forward import Forward
from headwater_edge.pipeline import Agent
from headwater_edge.pressure import Pressure
from headwater_shared import sqlite_log
from headwater_shared.clock import SetClock
from tests.reference import splitmix64


class Killed(BaseException):
    """The process is no more. Nothing catches this."""


class Fuse:
    """Ends a process at the nth named step that it passes (`headwater_shared.crash`)."""

    def __init__(self, at_last: Callable[[], None] = lambda: None) -> None:
        self.left = 0
        """0: it does not burn."""
        self.name = ""
        """Only steps of this name count, if there is one."""
        self._at_last = at_last

    def reached(self, name: str) -> None:
        """A step is passed."""
        if self.left and self.name in ("", name):
            self.left -= 1
            if not self.left:
                self._at_last()
                raise Killed(name)


class _NothingToSelect:
    def select(self, _timeout: float | None) -> list[Any]:
        return []


class HandLoop(asyncio.BaseEventLoop):
    """An event loop without sockets, on a clock that stands still: `turn` runs what is ready now, once."""

    def __init__(self, clock: SetClock) -> None:
        super().__init__()
        self._clock = clock
        self._selector = _NothingToSelect()
        self._calls: deque[tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        """What was handed to threads."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _run_once: Callable[[], None]

    def time(self) -> float:
        return self._clock.mono_us / 1e6

    def run_in_executor(
        self, _executor: object, func: Callable[..., Any], *args: object
    ) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = self.create_future()
        self._calls.append((answer, func, args))
        return answer

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What a callback raises ends the process, as it does in the agent's own (R11)."""
        error = context.get("exception")
        if error is not None and "handle" in context:
            raise error

    def turn(self) -> bool:
        """Run the callbacks that are ready; tell whether there were any."""
        there = bool(self._ready or (self._scheduled and self._scheduled[0].when() <= self.time()))
        if there:
            with self.running():
                self._run_once()
        return there

    @contextmanager
    def running(self) -> Iterator[None]:
        """What is called in here finds the loop running."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(before)

    def call(self) -> bool:
        """Do one thing that was handed to a thread; tell whether there was any."""
        if not self._calls:
            return False
        answer, func, args = self._calls.popleft()
        if not answer.cancelled():
            answer.set_result(func(*args))
        return True

    def _process_events(self, _events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def write_once(agent: Agent) -> bool:
    """Let the writer do its next job or write the next piece of a snapshot; tell whether there was any."""
    writer = agent._writer
    if writer._jobs.empty() and not writer._pieces:
        return False
    writer._once()
    return True


def let_go(agent: Agent, loop: HandLoop) -> None:
    """Take the process away: nothing is committed, said or tidied up any more."""
    agent.pressure.close()
    agent.horizon.close()
    agent.forward.outbox.close()
    agent._writer._connection.close()
    agent._lock.release()
    loop.close()


class Left:
    """The agent's file and its log as they lie on the disk at one moment: to close SQLite's connections would tidy them up."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes: dict[Path, bytes] = {}

    def look(self) -> None:
        """This is the moment."""
        paths = (self._path, self._path.with_name(self._path.name + "-wal"))
        self._bytes = {path: path.read_bytes() for path in paths if path.exists()}

    def put_back(self) -> None:
        """As a kill leaves them."""
        for more in ("-wal", "-shm"):
            self._path.with_name(self._path.name + more).unlink(missing_ok=True)
        for path, body in self._bytes.items():
            path.write_bytes(body)


@contextmanager
def by_hand(clock: SetClock, edge: Fuse, cloud: Fuse) -> Iterator[pytest.MonkeyPatch]:
    """No threads, the test's clock everywhere, epochs that every run draws alike, and the steps pass the fuses."""
    epochs = iter(range(1, 10**6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Writer, "start", lambda _: None)
        patch.setattr(Forward, "start", lambda *_: None)
        patch.setattr(Pressure, "look", lambda _: None)  # disks that fill have tests of their own
        patch.setattr(pipeline, "mono_us", lambda: clock.mono_us)
        patch.setattr(pipeline, "new_epoch", lambda: splitmix64(next(epochs)))
        patch.setattr(keeping, "_REPLAY_US", 2**62)  # snapshots come when a history says so
        patch.setattr(
            recent, "_FIRST", 8
        )  # memory holds few readings, so that others are looked up in the journal
        patch.setattr(outbox, "BEHIND", 4)  # a few rows are a backlog
        patch.setattr(outbox, "BATCH", 3)
        patch.setattr(outbox, "_GAPS", 2)
        patch.setattr(pipeline, "Forward", partial(Forward, monotonic=lambda: clock.mono_us / 1e6))
        for module in (commit, forward, opening, pipeline, restart, store):
            patch.setattr(module, "reached", edge.reached)
        for other in (publish, runner, sqlite_log):
            patch.setattr(other, "reached", cloud.reached)
        yield patch

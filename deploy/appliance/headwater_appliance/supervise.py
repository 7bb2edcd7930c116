"""Keeps processes running: starts again what exits, ends all on the first signal, leaves nothing behind."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

from headwater_shared.errors import NeedsPerson
from headwater_shared.logs import get_logger

log = get_logger()

_FIRST_S, _LONGEST_S, _STABLE_S = 0.2, 5.0, 30.0
"""A process that exits is started again after the first pause, doubled each time up to the longest; one that ran for
`_STABLE_S` begins at the first again."""
_PATIENCE_S = 20.0
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


class Part(NamedTuple):
    """A process to keep: its name in the log, its command."""

    name: str
    command: Sequence[str]


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of ours in this Python."""
    return [sys.executable, "-m", module, *arguments]


class Supervisor:
    """Runs parts until told to stop. `pids` holds those that run."""

    def __init__(
        self, parts: Sequence[Part], env: Mapping[str, str] | None = None, out: IO[bytes] | None = None
    ) -> None:
        self._parts = parts
        self._env = {**os.environ, **(env or {})}
        self._out = out
        self._stop = asyncio.Event()
        self.pids: dict[str, int] = {}
        self.restarts = 0
        self.exit_code = 0
        """78 if a part said that only a person can help."""

    def stop(self) -> None:
        """End all, cleanly."""
        self._stop.set()

    async def run(self) -> int:
        """Keep all parts until `stop`, or until one of them needs a person; return the exit code."""
        async with asyncio.TaskGroup() as group:
            for part in self._parts:
                group.create_task(self._keep(part), name=part.name)
        return self.exit_code

    async def _keep(self, part: Part) -> None:
        pause = _FIRST_S
        while not self._stop.is_set():
            began = time.monotonic()
            code = await self._run_once(part)
            if self._stop.is_set():
                return
            if code == NeedsPerson.exit_code:
                self.exit_code = code
                self._stop.set()
                return
            pause = _FIRST_S if time.monotonic() - began > _STABLE_S else pause
            log.warning("a part exited; it is started again", part=part.name, code=code, pause_s=pause)
            self.restarts += 1
            await self._or_stop(pause)
            pause = min(2 * pause, _LONGEST_S)

    async def _run_once(self, part: Part) -> int:
        process = await asyncio.create_subprocess_exec(
            *part.command,
            env=self._env,
            stdout=self._out,
            stderr=self._out,
            start_new_session=True,  # Ctrl-C is for us; we end the parts in order
            preexec_fn=end_with_parent,
        )
        self.pids[part.name] = process.pid
        exited = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({exited, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done():
                process.terminate()
                await asyncio.wait({exited}, timeout=_PATIENCE_S)
            if not exited.done():
                log.error("a part does not end; it is killed", part=part.name, after_s=_PATIENCE_S)
                process.kill()
            return await exited
        finally:
            stopping.cancel()
            self.pids.pop(part.name, None)

    async def _or_stop(self, seconds: float) -> None:
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({stopping}, timeout=seconds)
        stopping.cancel()


def end_with_parent() -> None:
    """In the child: ask the kernel for SIGTERM when the supervisor dies, however it does."""
    ctypes.CDLL(None, use_errno=True).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def stops_on_signals(supervisor: Supervisor) -> None:
    """Let SIGTERM and SIGINT stop a supervisor of this loop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)

"""Keeps processes running: starts again what exits or no longer answers, ends all on the first signal, leaves nothing behind."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, NamedTuple

from headwater_appliance.answers import Answers
from headwater_appliance.log_file import Lines, LogFile
from headwater_shared.errors import NeedsPerson
from headwater_shared.logs import get_logger

log = get_logger()

GAVE_UP, AT_ONCE = 70, 130
"""Exit codes: a part exited too often (EX_SOFTWARE of sysexits.h); a second signal ended all at once."""

_FIRST_S, _LONGEST_S, _STABLE_S = 0.2, 5.0, 30.0
"""A process that exits is started again after the first pause, doubled each time up to the longest; one that ran for
`_STABLE_S` begins at the first again."""
_PERSON_S = 60.0
"""After so long a part that needed a person is tried again, if the others do without it."""
_PATIENCE_S = 20.0
_PIPE_S = 2.0
"""So long is waited for the rest of what a part wrote that is gone."""
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


class Part(NamedTuple):
    """A process to keep: its name in the log, its command, and how to ask whether it still answers."""

    name: str
    command: Sequence[str]
    answers: Answers | None = None
    beside: bool = False
    """Whether the others go on without it, however it ends."""


class Budget(NamedTuple):
    """So many restarts of one part within so many seconds; one more is too many."""

    restarts: int
    within_s: float


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of ours in this Python."""
    return [sys.executable, "-m", module, *arguments]


class Supervisor:
    """Runs parts until told to stop. `pids` holds those that run, `ready` those that have answered since their start."""

    def __init__(
        self,
        parts: Sequence[Part],
        env: Mapping[str, str] | None = None,
        out: IO[bytes] | None = None,
        *,
        budget: Budget | None = None,
        log_file: LogFile | None = None,
    ) -> None:
        """Nothing runs before `run`.

        Args:
            parts: each is started again on its own.
            env: beside what this process has.
            out: what the parts write goes there; by default where this process writes.
            budget: None: a part may exit as often as it likes.
            log_file: what the parts write goes there, line by line, instead of to `out`.
        """
        self._parts = parts
        self._env = {**os.environ, **(env or {})}
        self._env.pop("NOTIFY_SOCKET", None)  # what the service manager is told, we tell it
        self._out = out
        self._budget = budget
        self._log_file = log_file
        self._stop = asyncio.Event()
        self._at_once = asyncio.Event()
        self.pids: dict[str, int] = {}
        self.ready: set[str] = set()
        self.restarts = 0
        self.exit_code = 0
        """78 if a part said that only a person can help, 70 if one exited too often, 130 if all were killed."""

    @property
    def stopping(self) -> bool:
        """All is ending, by a signal or for want of a person."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End all, cleanly; asked for once more, at once."""
        if self._stop.is_set():
            self.exit_code = AT_ONCE
            self._at_once.set()
        self._stop.set()

    def hang_up(self) -> None:
        """Pass SIGHUP on: each part reads its settings again."""
        for name, pid in self.pids.items():
            log.info("a part is to read its settings again", which=name)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGHUP)

    async def run(self) -> int:
        """Keep all parts until `stop`, or until one of them needs a person or exits too often; return the exit code."""
        async with asyncio.TaskGroup() as group:
            for part in self._parts:
                group.create_task(self._keep(part), name=part.name)
        return self.exit_code

    async def _keep(self, part: Part) -> None:
        pause = _FIRST_S
        exits: deque[float] = deque()
        while not self._stop.is_set():
            began = time.monotonic()
            code = await self._run_once(part)
            if self._stop.is_set():
                return
            if part.beside and code == NeedsPerson.exit_code:
                log.error("a part needs a person; the others go on", which=part.name, next_s=_PERSON_S)
                await self.or_stop(_PERSON_S)
                continue
            if code == NeedsPerson.exit_code:
                self.exit_code = code
                self._stop.set()
                return
            exits.append(time.monotonic())
            if not part.beside and self._is_used_up(part, exits, code):
                self.exit_code = GAVE_UP
                self._stop.set()
                return
            pause = _FIRST_S if time.monotonic() - began > _STABLE_S else pause
            log.warning("a part exited; it is started again", which=part.name, code=code, pause_s=pause)
            self.restarts += 1
            await self.or_stop(pause)
            pause = min(2 * pause, _LONGEST_S)

    def _is_used_up(self, part: Part, exits: deque[float], code: int) -> bool:
        if self._budget is None:
            return False
        while exits[0] < exits[-1] - self._budget.within_s:
            exits.popleft()
        if len(exits) <= self._budget.restarts:
            return False
        log.error(
            "a part exits again and again: all is ended",
            which=part.name,
            code=code,
            restarts=self._budget.restarts,
            within_s=self._budget.within_s,
            hint="its last lines above say why it exits; the data is safe, start again once that is mended",
        )
        return True

    async def _run_once(self, part: Part) -> int:
        piped = self._log_file is not None
        process = await asyncio.create_subprocess_exec(
            *part.command,
            env=self._env,
            stdout=asyncio.subprocess.PIPE if piped else self._out,
            stderr=asyncio.subprocess.STDOUT if piped else self._out,
            start_new_session=True,  # Ctrl-C is for us; we end the parts in order
            preexec_fn=begin_as_part,
        )
        self.pids[part.name] = process.pid
        pump = asyncio.ensure_future(self._pump(process))
        exited = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stop.wait())
        silent = asyncio.ensure_future(self._silent(part, process.pid))
        try:
            first: set[asyncio.Future[Any]] = {exited, stopping, silent}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done():
                patience_s = _PATIENCE_S
                if silent.done() and part.answers is not None:
                    log.error(
                        "a part runs and is of no use: it is ended", which=part.name, why=silent.result()
                    )
                    patience_s = min(_PATIENCE_S, part.answers.limit_s)
                await self._end(part, process, exited, patience_s)
            code = await exited
            await asyncio.wait({pump}, timeout=_PIPE_S)
            return code
        finally:
            for task in (stopping, silent, pump):
                task.cancel()
            self.pids.pop(part.name, None)
            self.ready.discard(part.name)

    async def _end(
        self, part: Part, process: asyncio.subprocess.Process, exited: asyncio.Future[int], patience_s: float
    ) -> None:
        """End a process cleanly, or at once if it takes too long, or if we are asked for that."""
        at_once = asyncio.ensure_future(self._at_once.wait())
        process.terminate()
        either: set[asyncio.Future[Any]] = {exited, at_once}
        await asyncio.wait(either, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if not exited.done():
            if self._at_once.is_set():
                log.warning("a second signal: a part is killed", which=part.name)
            else:
                log.error("a part does not end; it is killed", which=part.name, after_s=patience_s)
            process.kill()
        at_once.cancel()

    async def _silent(self, part: Part, pid: int) -> str:
        if part.answers is None:
            return await asyncio.Future()
        return await part.answers.silent(pid, lambda: self.ready.add(part.name))

    async def _pump(self, process: asyncio.subprocess.Process) -> None:
        """Bring what a part writes into the log file."""
        if self._log_file is None or process.stdout is None:
            return
        lines = Lines(self._log_file)
        try:
            while data := await process.stdout.read(65_536):
                lines.feed(data)
        finally:
            lines.end()

    async def or_stop(self, seconds: float) -> None:
        """Wait so long, or until all is to end."""
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({stopping}, timeout=seconds)
        stopping.cancel()


def begin_as_part() -> None:
    """In the child: no SIGHUP before it has settings to read again, and an end with its parent."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """In the child: ask the kernel for SIGTERM when the supervisor dies, however it does."""
    ctypes.CDLL(None, use_errno=True).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def stops_on_signals(supervisor: Supervisor) -> None:
    """Let SIGTERM and SIGINT stop a supervisor of this loop: the first cleanly, the second at once."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)

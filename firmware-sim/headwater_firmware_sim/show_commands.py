"""What the commands of `headwater-sim` that run a fleet share: how it is ended, and what is shown meanwhile and at the end."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any

import typer

from headwater_firmware_sim.pipeline import Result
from headwater_firmware_sim.plan import Plan
from headwater_firmware_sim.tally import Tally, line

UNACKNOWLEDGED = 3
"""Exit code where some of the run is not acknowledged, or not even sent."""


class DriverName(StrEnum):
    """Who drives the devices."""

    asyncio = "asyncio"
    paho = "paho"
    http = "http"


def headline(plan: Plan) -> str:
    """Say what is about to run."""
    return f"fleet: {plan.devices} devices of {plan.name}, {plan.readings_a_second:,.0f} readings/s"


def end_with(result: Result, stop: threading.Event) -> None:
    """End the command with a code that says so where something is not acknowledged, or was not sent though nobody ended it."""
    if result.unacknowledged or (result.unsent and not stop.is_set()):
        raise typer.Exit(UNACKNOWLEDGED)


def report(result: Result, ledger: Path, *, as_json: bool) -> None:
    """Say what became of a run."""
    counts = result.tally.snapshot()
    if as_json:
        body = {
            **counts,
            "unacknowledged": result.unacknowledged,
            "unsent": result.unsent,
            "ledger": str(ledger),
        }
        print(json.dumps({"done": body}), flush=True)
        return
    print(
        f"fleet: {counts['readings']:,} readings in {counts['messages']:,} messages, "
        f"{counts['acknowledged']:,} messages acknowledged, {result.unacknowledged:,} not; ledger {ledger}",
        flush=True,
    )


@contextmanager
def ends_on_signals() -> Iterator[threading.Event]:
    """The first SIGINT or SIGTERM ends the sampling, the second the program."""
    stop = threading.Event()

    def told(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress(
    headline: str, devices: int, duration: float, *, as_json: bool
) -> Iterator[Callable[[Tally], None]]:
    """Show how it goes, once a second: a bar on a terminal, else a line, or an object."""
    before: dict[str, Any] = Tally().snapshot()

    def lines(tally: Tally) -> None:
        nonlocal before
        now = tally.snapshot()
        print(json.dumps(now) if as_json else line(now, before), flush=True)
        before = now

    if as_json or not sys.stdout.isatty():
        if not as_json:
            print(headline, flush=True, end="\n" if headline else "")
        yield lines
        return

    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.fields[text]}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=duration or None, text=f"{devices} devices")

        def move(tally: Tally) -> None:
            nonlocal before
            now = tally.snapshot()
            bar.update(task, completed=min(now["seconds"], duration), text=line(now, before))
            before = now

        yield move

"""The live view of a box in the terminal: `headwater watch`, and `headwater demo` where it writes to a terminal."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headwater_appliance.anomalies_command import reason
from headwater_appliance.box import Box
from headwater_appliance.devices import Device
from headwater_appliance.devices_command import table
from headwater_appliance.look import Look, look
from headwater_appliance.shown import STYLES, ago, amount, at_time, rate_of, shortened, sparkline
from headwater_appliance.state_of_box import State
from headwater_appliance.status_report import seen
from headwater_appliance.status_screen import facts, head
from headwater_appliance.troubles import Trouble
from headwater_cloud.found import Found

_DEVICES, _FOUND = 8, 4
_HISTORY = 40
"""Rates that the small chart shows."""


class Watcher:
    """Looks at a box again and again, and makes a screen of what lies between the last two looks."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._before: Look = look(box)
        self._rates: list[float] = []

    def look(self) -> tuple[State, list[Trouble]]:
        """Look once more."""
        now = look(self._box)
        state, found = seen(self._box, self._before, now)
        self._before = now
        self._rates = [*self._rates, state.rates.get("readings", 0.0)][-_HISTORY:]
        return state, found

    def screen(self, width: int, height: int) -> RenderableType:
        """Look once more, and draw no more lines than there are."""
        state, found = self.look()
        parts: list[RenderableType] = [head(state, found), facts(self._box, state)]
        if len(self._rates) > 1:
            parts.append(Text.assemble(("readings a second  ", "bold"), (sparkline(self._rates, min(_HISTORY, width - 40)), "cyan"), f"  {rate_of(max(self._rates))} at most"))  # fmt: skip
        left = height - 20
        parts += _troubles(found, width, max(min(left // 3, 4), 1))
        parts += _found(state, width, max(min(left // 3, _FOUND), 1))
        rows = max(min(left - 8, _DEVICES), 0)
        if rows and state.devices:
            parts += [Text(), table(_first(state.devices, state.now.wall_us, rows), state.now.wall_us, width)]
            if len(state.devices) > rows:
                parts.append(
                    Text(f"and {amount(len(state.devices) - rows, 'device')} more: headwater devices", "dim")
                )
        return Group(*parts)

    def line(self) -> str:
        """Look once more, and say in one line how the box is; for what is no terminal."""
        state, found = self.look()
        wrong = next((one.text for one in found if one.severity == "wrong"), "")
        behind = ago(state.windows_behind_s) if state.windows_behind_s is not None else "-"
        silent = sum(one.silent(state.now.wall_us) for one in state.devices)
        return (
            f"{at_time(state.now.wall_us, state.now.wall_us)}  {len(state.devices):,} devices, {silent:,} silent  "
            f"{rate_of(state.rates.get('readings', 0))} readings  complete up to {behind} ago  "
            f"{state.outbox.rows:,} waiting  {amount(len(state.alerts), 'alert')}"
            + (f"  WRONG: {wrong}" if wrong else "")
        )


@contextmanager
def live(console: Console, *, whole: bool) -> Iterator[Live]:
    """Draw on a terminal until the block ends; what is printed meanwhile stands above, unless the whole screen is taken."""
    with Live(
        console=console, screen=whole, auto_refresh=False, transient=True, vertical_overflow="crop"
    ) as drawn:
        yield drawn


def size(console: Console) -> tuple[int, int]:
    """Return columns and lines of the terminal as it is now."""
    found = shutil.get_terminal_size((console.width, console.height))
    return found.columns, found.lines


def _troubles(found: list[Trouble], width: int, most: int) -> list[RenderableType]:
    lines: list[RenderableType] = [
        Text.assemble(
            (f"{one.severity.upper():8}", STYLES[one.severity]), " ", shortened(one.text, width - 10)
        )
        for one in found[:most]
    ]
    if len(found) > most:
        lines.append(Text(f"         and {len(found) - most} more: headwater status", "dim"))
    return [Text(), *lines] if lines else []


def _found(state: State, width: int, most: int) -> list[RenderableType]:
    if not state.found:
        return []
    lines = Table.grid(padding=(0, 2, 0, 0))
    for one in state.found[:most]:
        lines.add_row(*_cells(one, state.now.wall_us, width))
    return [Text(), Text("latest anomalies", "bold"), lines]


def _cells(one: Found, now_us: int, width: int) -> tuple[RenderableType, ...]:
    over = "goes on" if one.end_us is None else f"over after {ago((one.end_us - one.begin_us) / 1e6)}"
    return (
        at_time(one.begin_us, now_us),
        Text(one.severity, STYLES.get(one.severity, "")),
        shortened(one.series, max((width - 44) // 2, 16)),
        shortened(f"{one.rule}: {reason(one)}", max((width - 44) // 2, 16)),
        Text(over, "bold" if one.end_us is None else "dim"),
        Text(sparkline(one.samples.values, 8) if width >= 110 else "", "cyan"),
    )


def _first(devices: list[Device], now_us: int, rows: int) -> list[Device]:
    """Choose those that a person should see: the silent ones, then those with gaps, then those that send most."""
    return sorted(devices, key=lambda one: (not one.silent(now_us), -one.missing, -one.per_s, one.device))[
        :rows
    ]


@contextmanager
def below_lines(box: Box) -> Iterator[Callable[[], bool]]:
    """Where the output is a terminal, keep the view below the lines that are printed meanwhile.

    Yields:
        what draws it anew, once a second at most, and tells that it is there; False where the output is no terminal.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        yield lambda: False
        return
    watcher, drawn_at = Watcher(box), 0.0
    with live(console, whole=False) as drawn:

        def draw() -> bool:
            nonlocal drawn_at
            if time.monotonic() >= drawn_at + 1:
                drawn_at = time.monotonic()
                columns, lines = size(console)
                drawn.update(Group(Text(), watcher.screen(columns, lines - 3)), refresh=True)
            return True

        yield draw

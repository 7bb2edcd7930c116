"""`headwater watch`: the live view until Ctrl-C."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from itertools import count
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from headwater_appliance.box import AsJson, SettingsFile, look_at

_SHARE = 3.0
"""Between two looks is at least so many times what a look takes: who watches a box must not load it."""


def watch(
    settings: SettingsFile = None,
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds from one look to the next.")] = 1.0,
    times: Annotated[
        int | None, typer.Option(min=1, help="End after so many looks; without, at Ctrl-C.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the box live: devices, rates, lag, backlog, the latest anomalies and alerts, what is wrong. Ctrl-C ends it.

    Where the output is no terminal, a line a look; with --json a JSON object a line, as `headwater status --json` shows.
    """
    from headwater_appliance.status_report import told
    from headwater_appliance.watch_view import Watcher, live, size

    box = look_at(settings)
    console = Console(highlight=False)
    watcher = Watcher(box)
    time.sleep(min(every, 1.0))  # rates come from two looks
    looks = range(times) if times is not None else count()
    plain = as_json or not console.is_terminal
    with suppress(KeyboardInterrupt), nullcontext() if plain else live(console, whole=True) as drawn:
        for _ in looks:
            began = time.monotonic()
            if drawn is not None:
                drawn.update(watcher.screen(*size(console)), refresh=True)
            elif as_json:
                print(msgspec.json.encode(told(*watcher.look())).decode(), flush=True)
            else:
                print(watcher.line(), flush=True)
            took_s = time.monotonic() - began
            time.sleep(max(every - took_s, _SHARE * took_s))

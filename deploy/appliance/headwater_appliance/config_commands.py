"""`headwater config`: where settings come from, whether they are right, and what a reload would change."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from headwater_appliance.init import SECTIONS
from headwater_shared.errors import Refused
from headwater_shared.reload import COMMON_LIVE, Difference, differences, read_running
from headwater_shared.settings import load, origins

app = typer.Typer(
    help="Settings: show them, check them, see what a reload would change.", no_args_is_help=True
)

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="Settings file; the defaults without it.", dir_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as one JSON object.")]


@app.command()
def show(
    settings: SettingsFile = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is set, not the defaults.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show every key with its value and where that comes from: the default, a line of the file, a variable of the environment."""
    found = [one for name, kind in SECTIONS.items() for one in origins(settings, name, kind)]
    shown = [one for one in found if not changed or one.origin != "default"]
    if as_json:
        print(_json([{"key": one.key, "value": one.value, "origin": one.origin} for one in shown]))
        return
    width = max((len(f"{one.key} = {_value(one.value)}") for one in shown), default=0)
    for one in shown:
        print(f"{f'{one.key} = {_value(one.value)}':{min(width, 60)}}  {one.origin}")


@app.command()
def check(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Check all that a start, or a reload, would check, and change nothing. Exit code 78 if something is wrong."""
    from headwater_appliance.up import check as check_all

    checked = check_all(settings)
    data = Path(checked.common.data).absolute()
    if as_json:
        print(_json({"ok": True, "settings": str(settings) if settings else None, "data": str(data)}))
        return
    print(f"the settings are right: {settings or 'the defaults'}; data in {data}")


@app.command()
def diff(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show what differs between a running box and the settings as they are now, and what of it a reload takes up.

    Exit code 0: nothing differs; 1: something does; 78: the settings are wrong, a reload would change nothing.
    """
    from headwater_appliance.up import check as check_all

    data = Path(check_all(settings).common.data)
    found = list(_differences(settings, data))
    if as_json:
        print(_json([one._asdict() for one in found]))
    else:
        _print(found)
    raise typer.Exit(1 if found else 0)


@app.command()
def reload(
    settings: SettingsFile = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Have a running box read its settings again, and say what became of it; a mistake is told before anything is asked for.

    Exit code 0: taken up; 1: some part did not take it up, or has not answered; 78: the settings are wrong.
    """
    from headwater_appliance.up import check as check_all

    data = Path(check_all(settings).common.data)
    found = asked(data, wait)
    if as_json:
        print(_json(found))
    else:
        for part, said in found.items():
            print(f"{part}: {_told(said)}")
    raise typer.Exit(0 if all(said.get("ok") for said in found.values()) else 1)


def asked(data: Path, wait_s: float) -> dict[str, dict[str, Any]]:
    """Send SIGHUP to what runs, and return what each part says of it; nothing of a part that has not answered.

    Raises:
        Refused: nothing runs there.
    """
    before = {part: one for part in ("edge", "cloud") if (one := read_running(data, part)) is not None}
    if not before:
        raise Refused(f"no agent and no cloud side runs on {data}", hint="'headwater up' starts both")
    for one in before.values():
        os.kill(one.pid, signal.SIGHUP)
    found: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + wait_s
    while len(found) < len(before) and time.monotonic() < deadline:
        time.sleep(0.05)
        for part, one in before.items():
            now = read_running(data, part)
            if now is not None and now.reloads != one.reloads:
                found[part] = now.reload
    return {part: found.get(part, {}) for part in before}


def _told(said: dict[str, Any]) -> str:
    if not said:
        return "no answer yet; see its log (a full disk may keep it waiting)"
    if not said["ok"]:
        return f"kept as it was: {said['error']}" + (f"\n  hint: {said['hint']}" if said["hint"] else "")
    told = ", ".join(said["changed"]) or "nothing changed"
    needs = ", ".join(said["needs_restart"])
    return told + (f"; needs a start: {needs}" if needs else "")


def _differences(settings: Path | None, data: Path) -> Iterator[Difference]:
    from headwater_cloud.reload import LIVE as CLOUD_LIVE
    from headwater_edge.checked import read
    from headwater_edge.reload import LIVE as EDGE_LIVE

    live = {"edge": EDGE_LIVE, "cloud": CLOUD_LIVE, "common": COMMON_LIVE, "up": frozenset[str]()}
    seen: set[str] = set()
    running = {part: read_running(data, part) for part in ("edge", "cloud", "up")}
    if not (running["edge"] or running["cloud"]):
        raise Refused(
            f"no agent and no cloud side runs on {data}", hint="'headwater config show' shows the settings"
        )
    for part, one in running.items():
        if one is None:
            continue
        for section in ("up",) if part == "up" else ("common", part):
            kind: type[msgspec.Struct] = SECTIONS[section]
            wanted = read(settings) if section == "edge" else load(settings, section, kind)
            for found in differences(section, one.settings[section], wanted, live[section]):
                if found.key not in seen:  # what is common is told once
                    seen.add(found.key)
                    yield found


def _print(found: Sequence[Difference]) -> None:
    if not found:
        print("nothing differs from what runs")
    for live, head in ((True, "a reload takes up (headwater config reload):"), (False, "needs a start:")):
        some = [one for one in found if one.live is live]
        if some:
            print(head)
        for one in some:
            print(f"  {one.key}: {_value(one.before)} -> {_value(one.after)}")


def _value(value: Any) -> str:
    return "not set" if value is None else _json(value)


def _json(answer: Any) -> str:
    return msgspec.json.encode(answer).decode()

"""The commands `headwater rules ...`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from headwater_cloud import query
from headwater_cloud.settings import CloudSettings
from headwater_edge.rule_check import check as look_through
from headwater_edge.rule_check import is_settings
from headwater_edge.rule_files import read_rules
from headwater_edge.rule_settings import KINDS, RuleTables
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_shared.clock import parse_clock
from headwater_shared.rule_files import parsed
from headwater_shared.settings import DURATION, Common, duration, load

app = typer.Typer(no_args_is_help=True, help="Check rules, and try them on what is stored.")

File = Annotated[
    Path, typer.Argument(help="A file of rules, or a settings file with rules under [edge].", dir_okay=False)
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings", help="Settings file, for the data folder; FILE itself if it is one.", dir_okay=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@app.command()
def check(file: File, settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Tell each mistake with its line and what to do: exit code 1 if there is one. A rule for no known series is a warning."""
    from headwater_appliance.rules_past import box_of, series_known

    common, cloud = _places(file, settings)
    found = look_through(file, series_known(box_of(common.data, cloud)))
    if as_json:
        whole = {
            "rules": found.rules,
            "mistakes": [one._asdict() for one in found.mistakes],
            "warnings": [one._asdict() for one in found.warnings],
        }
        print(msgspec.json.encode(whole).decode())
    else:
        for one in found.mistakes:
            print(f"{one.file}:{one.line}: {one.what}\n  hint: {one.remedy}")
        for one in found.warnings:
            print(f"{one.file}:{one.line}: warning: {one.what}\n  hint: {one.remedy}")
        counts = (found.rules, "rule"), (found.mistakes, "mistake"), (found.warnings, "warning")
        print(f"{file}: " + ", ".join(f"{len(some)} {word}{'s' * (len(some) != 1)}" for some, word in counts))
    raise typer.Exit(1 if found.mistakes else 0)


@app.command("try")
def try_(
    file: File,
    since: Annotated[
        str, typer.Option("--from", help="From when on: 2026-11-24T08:00:00Z, or how long ago: 2h.")
    ],
    until: Annotated[str, typer.Option("--to", help="Until when, likewise; now without it.")] = "",
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell what rules would have found in the stored past: every reading as far back as the agent's journal goes (6 h by
    default), windows before that. Nothing is changed.
    """
    from headwater_appliance import rules_past as past

    common, cloud = _places(file, settings)
    now_us = parse_clock(common.clock).now().wall_us
    from_us, to_us = _time(since, now_us), _time(until, now_us) if until else now_us + 1
    of_agent, rules = _rules(file, settings)
    tables = {kind: getattr(rules, kind) for kind in KINDS}
    step = step_settings(msgspec.structs.replace(of_agent, **tables, act=()))
    found = past.tried(past.box_of(common.data, cloud), step, from_us, to_us)
    if as_json:
        print(past.as_json(found))
    else:
        for line in past.lines(found, [rule.name for rule in past.all_rules(step)]):
            print(line)


def _places(file: Path, settings: Path | None) -> tuple[Common, CloudSettings]:
    own = settings or (file if is_settings(parsed(file)[1]) else None)
    if own is None:
        return Common(), CloudSettings()
    return load(own, "common", Common), load(own, "cloud", CloudSettings)


def _rules(file: Path, settings: Path | None) -> tuple[EdgeSettings, RuleTables]:
    """Return the agent's settings, for what values mean, and the rules that are tried."""
    if is_settings(parsed(file)[1]):
        own = load(file, "edge", EdgeSettings)
        rules = RuleTables(**{kind: getattr(own, kind) for kind in KINDS})
        return (load(settings, "edge", EdgeSettings) if settings else own), rules
    return (load(settings, "edge", EdgeSettings) if settings else EdgeSettings()), read_rules(file)


def _time(text: str, now_us: int) -> int:
    return now_us - duration(text) if re.fullmatch(DURATION, text) else query.time_us(text)

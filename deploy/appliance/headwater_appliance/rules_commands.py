"""The commands `headwater rules ...`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from headwater_appliance.settings_rest import rest_of
from headwater_cloud import query
from headwater_cloud.settings import CloudSettings
from headwater_edge.rule_check import check as look_through
from headwater_edge.rule_check import is_settings
from headwater_edge.rule_files import read_rules
from headwater_edge.rule_settings import KINDS, RuleTables
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_shared.clock import parse_clock
from headwater_shared.errors import SettingsError
from headwater_shared.rule_files import parsed
from headwater_shared.settings import DURATION, Common, duration, load

app = typer.Typer(no_args_is_help=True, help="Check rules, and try them on what is stored.")

File = Annotated[
    Path,
    typer.Argument(
        help="A file of rules, or a settings file with rules in its sections edge and cloud.", dir_okay=False
    ),
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
    from headwater_appliance import rules_of_cloud
    from headwater_appliance.rules_past import box_of, series_known

    try:
        common, cloud = _places(file, settings)
    except SettingsError:
        if settings is not None:
            raise
        common, cloud = load(file, "common", Common), CloudSettings()  # what is wrong is told below
    known = series_known(box_of(common.data, cloud))
    found = look_through(file, known)
    of_cloud = rules_of_cloud.checked(file, known, found.rules, in_settings=is_settings(parsed(file)[1]))
    found.rules += of_cloud.rules
    both = {one[:3] for one in found.mistakes}  # what is in neither side's tables is said once
    found.mistakes += [one for one in of_cloud.mistakes if one[:3] not in both]
    found.warnings += of_cloud.warnings
    if is_settings(parsed(file)[1]):
        told = {one[:2] for one in found.mistakes}
        found.mistakes += [one for one in rest_of(file) if one[:2] not in told]
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
        str,
        typer.Option("--from", "--history", help="From when on: 2026-11-24T08:00:00Z, or how long ago: 2h."),
    ],
    until: Annotated[str, typer.Option("--to", help="Until when, likewise; now without it.")] = "",
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell what rules would have found in the stored past. The agent's: in every reading as far back as its journal goes (6 h
    by default), in windows before that. Patterns: in what agents found and the cloud side keeps. Nothing is changed.
    """
    from headwater_appliance import rules_of_cloud
    from headwater_appliance import rules_past as past

    common, cloud = _places(file, settings)
    now_us = parse_clock(common.clock).now().wall_us
    from_us, to_us = _time(since, now_us), _time(until, now_us) if until else now_us + 1
    box = past.box_of(common.data, cloud)
    of_agent, rules = _rules(file, settings)
    book = rules_of_cloud.book_in(file, in_settings=is_settings(parsed(file)[1]))
    tables = {kind: getattr(rules, kind) for kind in KINDS}
    whole: dict[str, Any] = {}
    if any(tables.values()) or not book.patterns:
        step = step_settings(msgspec.structs.replace(of_agent, **tables, act=()))
        found = past.tried(box, step, from_us, to_us)
        whole = past.for_program(found)
        for line in () if as_json else past.lines(found, [rule.name for rule in past.all_rules(step)]):
            print(line)
    if book.patterns:
        trial = rules_of_cloud.tried(box, book, from_us, to_us)
        whole["patterns_looked_at"] = trial.looked
        whole["patterns_would_have_fired"] = [rules_of_cloud.told(*one) for one in trial.found]
        for line in () if as_json else rules_of_cloud.lines_of(trial, book, box.cloud, from_us, to_us):
            print(line)
    if as_json:
        print(msgspec.json.encode(whole).decode())


@app.command()
def explain(
    alert: Annotated[str, typer.Argument(help="Id of an alert, or its beginning: headwater alerts --json.")],
    settings: Annotated[
        Path | None, typer.Option("--settings", help="Settings file, for the data folder.", dir_okay=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell which rows made an alert: what was found, of what, from when to when, with values and texts."""
    from headwater_appliance import rules_of_cloud
    from headwater_appliance import rules_past as past

    common, cloud = load(settings, "common", Common), load(settings, "cloud", CloudSettings)
    row, evidence, gone = rules_of_cloud.explained(past.box_of(common.data, cloud), cloud.book(), alert)
    if as_json:
        print(msgspec.json.encode(row | {"rows": [rules_of_cloud.plain(one) for one in evidence], "not_stored": gone}).decode())  # fmt: skip
        return
    print(
        f"{row['rule']}: {row['subject']}, {row['state']}, {row['severity']}{': ' * bool(row['text'])}{row['text']}"
    )
    end = "not over" if row["end_us"] is None else f"over {past.iso(row['end_us'])}"
    complete = "" if row["fired_us"] is None else f", complete {past.iso(row['fired_us'])}"
    print(
        f"since {past.iso(row['episode_us'])}{complete}, {end}; by the word of {', '.join(row['agents']) or 'the cloud side'}"
    )
    for one in evidence:
        print(f"  {rules_of_cloud.line_of(one)}")
    if gone:
        print(f"  {gone} more, which {'is' if gone == 1 else 'are'} not stored here (any more)")


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

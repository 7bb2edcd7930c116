"""`headwater rules` for the cloud side's rules: what is wrong with them, what they would have found, and what an alert is made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from headwater_appliance.rules_past import Box, iso
from headwater_cloud import book_check, past_evidence
from headwater_cloud.book import Book, Pattern
from headwater_cloud.book_check import Around
from headwater_cloud.book_files import read_tables
from headwater_cloud.book_settings import book_of
from headwater_cloud.episodes import Episode
from headwater_cloud.evidence import Evidence
from headwater_cloud.history import History
from headwater_cloud.past_evidence import Trial
from headwater_cloud.settings import CloudSettings
from headwater_edge.settings import WindowSettings
from headwater_shared.errors import Refused
from headwater_shared.rule_files import Checked, parsed
from headwater_shared.settings import load

_SHOWN = 20
"""Rows of an episode that a person is shown."""


def checked(file: Path, series: list[str], of_agents: list[str], *, in_settings: bool) -> Checked:
    """Look through the cloud side's rules of a file.

    Args:
        series: known ones; none: it is not known which there are.
        of_agents: names of the agent's rules that the file has.
    """
    _, data = parsed(file)
    edge = data.get("edge", {}) if isinstance(data.get("edge", {}), dict) else {}
    detect = edge.get("detect", [])
    names = (
        [one["name"] for one in detect if isinstance(one, dict) and "name" in one]
        if isinstance(detect, list)
        else []
    )
    windows = edge.get("windows", {})
    levels = windows.get("levels") if isinstance(windows, dict) else None
    around = Around(series, [*of_agents, *names], levels or WindowSettings().levels)
    return book_check.check(file, around, in_settings=in_settings)


def book_in(file: Path, *, in_settings: bool) -> Book:
    """Return the rules of a file.

    Raises:
        SettingsError: naming file and line of a rule that is wrong.
    """
    return load(file, "cloud", CloudSettings).book() if in_settings else book_of(read_tables(file))


def tried(box: Box, book: Book, from_us: int, to_us: int) -> Trial:
    """Tell what patterns would have found in the cloud side's file.

    Raises:
        Refused: there is none.
    """
    history = _opened(box)
    try:
        return past_evidence.tried(history, book, from_us, to_us)
    finally:
        history.close()


def _opened(box: Box) -> History:
    if not box.cloud.is_file():
        raise Refused(
            f"there is no file {box.cloud}",
            hint="name the data folder's settings with --settings: data in [common]",
        )
    return History(box.cloud)


def lines_of(trial: Trial, book: Book, file: Path, from_us: int, to_us: int) -> Iterator[str]:
    """Yield what a person reads of a trial."""
    counts = ", ".join(f"{count:,} {what}" for what, count in trial.looked.items())
    yield f"looked at {counts} in {file}, {iso(from_us)} to {iso(to_us)} and as far before as patterns reach"
    for episode, members in trial.found:
        end = f"over {iso(episode.end_us)}" if episode.end_us is not None else "not over"
        assert episode.fired_us is not None
        yield (
            f"{iso(episode.fired_us)}  {episode.severity:8}  {episode.rule}: {episode.subject}, since {iso(episode.begin_us)}, "
            f"{end}{': ' * bool(episode.text)}{episode.text}"
        )
        for one in _some(members):
            yield f"    {line_of(one)}"
        if len(members) > _SHOWN:
            yield f"    and {len(members) - _SHOWN} more"
    for pattern in book.patterns:
        count = sum(episode.rule == pattern.name for episode, _ in trial.found)
        if count:
            yield f"{pattern.name} would have fired {count} time{'s' * (count > 1)}"
    never = [one.name for one in book.patterns if all(one.name != e.rule for e, _ in trial.found)]
    if never:
        yield f"never: {', '.join(never)}"


def _some(members: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    return members if len(members) <= _SHOWN else members[: _SHOWN // 2] + members[-_SHOWN // 2 :]


def line_of(one: Evidence) -> str:
    """Return an evidence as a person reads it."""
    end = "still so" if one.end_us is None else "" if one.end_us == one.begin_us else f"to {iso(one.end_us)}"
    value = f" {one.value:.6g}" if one.kind in {"anomaly", "peer", "window"} else ""
    status = f" {one.status}" if one.status else ""
    words = [f"{iso(one.begin_us)} {end}".strip(), f"{one.kind} {one.name}{status}: {one.subject}{value}"]
    return "  ".join([*words, *filter(None, (one.text,))])


def told(episode: Episode, members: tuple[Evidence, ...]) -> dict[str, Any]:
    """Return an episode of a pattern for a program."""
    return {
        "rule": episode.rule,
        "subject": episode.subject,
        "severity": episode.severity,
        "text": episode.text,
        "began": iso(episode.begin_us),
        "found": iso(episode.fired_us or 0),
        "ended": None if episode.end_us is None else iso(episode.end_us),
        "value": episode.value,
        "evidence": [plain(one) for one in members],
    }


def plain(one: Evidence) -> dict[str, Any]:
    """Return an evidence for a program."""
    times = {"began": iso(one.begin_us), "ended": None if one.end_us is None else iso(one.end_us)}
    return {"id": one.id, "kind": one.kind, "name": one.name, "subject": one.subject, **times} | {
        "value": one.value, "severity": one.severity, "text": one.text, "agent": one.agent, "status": one.status
    }  # fmt: skip


def explained(box: Box, book: Book, wanted: str) -> tuple[dict[str, Any], list[Evidence], int]:
    """Find an alert by the begin of its id. Returns it, the evidence of it that is still stored, and how much is not.

    Raises:
        Refused: there is no such alert, or there are several.
    """
    history = _opened(box)
    try:
        rows = history.connection.execute(
            "SELECT id, rule, subject, state, severity, text, episode_us, fired_us, end_us, value, evidence, agents FROM alert"
            " WHERE substr(id, 1, ?) = ? LIMIT 3",
            (len(wanted), wanted),
        ).fetchall()
        if len(rows) != 1:
            raise Refused(
                f"{'no' if not rows else 'more than one'} alert has an id that begins with {wanted!r}",
                hint="headwater alerts --json shows the ids",
            )
        names = (
            "id",
            "rule",
            "subject",
            "state",
            "severity",
            "text",
            "episode_us",
            "fired_us",
            "end_us",
            "value",
        )
        alert: dict[str, Any] = dict(zip(names, rows[0][:10], strict=True))
        alert["agents"] = msgspec.json.decode(rows[0][11], type=list[str])
        ids = msgspec.json.decode(rows[0][10], type=list[str])
        pattern: Pattern | None = next((one for one in book.patterns if one.name == alert["rule"]), None)
        end_us = 2**62 if alert["end_us"] is None else alert["end_us"] + 1
        found = past_evidence.evidence_of(history, pattern, alert["episode_us"], end_us)
    finally:
        history.close()
    return (
        alert,
        past_evidence.in_order(found[at] for at in ids if at in found),
        sum(at not in found for at in ids),
    )

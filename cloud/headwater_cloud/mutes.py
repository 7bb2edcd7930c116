"""Why nobody is told of an alert: a person said so, maintenance, another alert that explains it, or its gateway is silent."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

from headwater_cloud.alert_rows import OPEN, AlertRow
from headwater_cloud.book import Book, Inhibit, Maintenance
from headwater_shared.alert_records import Action

Inhibitors = Mapping[tuple[str, str], Mapping[str, AlertRow]]
"""Alerts that mute others, by rule and by site or device."""


def why(
    row: AlertRow,
    actions: Sequence[Action],
    book: Book,
    now_us: int,
    silent: Collection[str],
    inhibitors: Inhibitors,
) -> str:
    """Return why an alert is muted, "" if it is not.

    An open alert is judged by the shard's clock, one that is over by the event time at which it ended, when that is found: so one that
    is found late is muted if it ended in a maintenance, whatever the time is now.

    Args:
        row: the alert, with its state.
        actions: those of people that are for it, in the order of their times.
        book: has maintenance and inhibition.
        now_us: the shard's clock.
        silent: agents that are not heard.
        inhibitors: as far as the book names them.
    """
    at_us = now_us if row.over_us is None else row.over_us
    return (
        _by_people(row, actions, at_us)
        or _by_maintenance(row, book.maintenance, at_us)
        or _by_inhibition(row, book.inhibit, at_us, inhibitors)
        or _by_silence(row, silent)
    )


def asked_for(muted: str) -> bool:
    """Tell of why an alert is muted whether somebody asked for it: a person, or a maintenance."""
    return muted == "maintenance" or muted.startswith(("muted by ", "maintenance: "))


def until(actions: Sequence[Action], now_us: int) -> int | None:
    """Return when the last mute of people is over, None if it is not by the clock."""
    last = _last_mute(actions)
    return last.until_us if last is not None and last.until_us > now_us else None


def _last_mute(actions: Sequence[Action]) -> Action | None:
    of_mute = [one for one in actions if one.what in ("mute", "unmute")]
    return of_mute[-1] if of_mute and of_mute[-1].what == "mute" else None


def _by_people(row: AlertRow, actions: Sequence[Action], at_us: int) -> str:
    if row.over_us is not None:
        actions = [one for one in actions if one.time_us <= at_us]
    last = _last_mute(actions)
    if last is None or (last.until_us and at_us >= last.until_us):
        return ""
    return f"muted by {last.who}" + (f": {last.why}" if last.why else "")


def _by_maintenance(row: AlertRow, windows: Sequence[Maintenance], at_us: int) -> str:
    if not windows or row.site != row.key.partition("/")[0]:
        return ""
    place = row.key if "/" in row.key else row.key + "/"
    for one in windows:
        if one.begin_us <= at_us < one.end_us and fnmatchcase(place, one.subject):
            return "maintenance" + (f": {one.why}" if one.why else "")
    return ""


def _by_inhibition(row: AlertRow, rules: Sequence[Inhibit], at_us: int, inhibitors: Inhibitors) -> str:
    for one in rules:
        if one.by == row.rule or not matches(row.rule, one.rules):
            continue
        others = inhibitors.get((one.by, scope_of(row, one)), {})
        if any(_at_the_time(row, other, at_us) for other in others.values()):
            return f"{one.by} fires"
    return ""


def _at_the_time(row: AlertRow, other: AlertRow, at_us: int) -> bool:
    if other.fired_us is None or row.over_us is None:
        return other.state in OPEN
    return other.fired_us <= at_us and (other.over_us is None or at_us < other.over_us)


def _by_silence(row: AlertRow, silent: Collection[str]) -> str:
    if not silent or row.over_us is not None or row.key.startswith("agent:"):
        return ""
    away = next((agent for agent in row.agents if agent in silent), "")
    return f"its gateway {away} is silent" if away else ""


def scope_of(row: AlertRow, inhibit: Inhibit) -> str:
    """Return within what an alert mutes others, or is muted, by a rule."""
    return row.key if inhibit.per == "device" else row.site


@lru_cache(10_000)
def matches(rule: str, globs: tuple[str, ...]) -> bool:
    """Tell whether a rule is one of some globs."""
    return any(fnmatchcase(rule, glob) for glob in globs)

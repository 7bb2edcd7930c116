"""What is wrong with a rule of the cloud side that reads well, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any, get_args

from headwater_cloud.book_settings import (
    AlertsSettings,
    CompareSettings,
    InhibitSettings,
    PatternSettings,
    StepOfPattern,
)
from headwater_cloud.patterns import WORDS
from headwater_shared.errors import SettingsError
from headwater_shared.identity import valid_name
from headwater_shared.parts import level_of
from headwater_shared.records import CommandStatus
from headwater_shared.rule_files import Fault, of_pattern
from headwater_shared.settings import duration

_LONGEST_US = 30 * 86_400_000_000
_MOST_STEPS, _MOST_COUNTED = 10, 200
_STATUSES = ("online", "silent", "offline")
_ENDS = tuple(status for status in get_args(CommandStatus) if status != "open")
_WHAT = ("anomaly", "peer", "window", "device", "command")
_EXAMPLE = 'write { anomaly = "too-hot" }, for example'


def faults(kind: str, rule: Any) -> Iterator[Fault]:
    """Tell what is wrong with a rule."""
    if isinstance(rule, PatternSettings):
        yield from _of_one(rule)
    elif isinstance(rule, CompareSettings):
        yield from _of_comparison(rule)
    elif isinstance(rule, InhibitSettings):
        if not rule.by.strip() or not rule.rules:
            yield Fault(
                "rules" if rule.by.strip() else "by",
                f"{kind}: nothing is muted",
                'write by = "power-out", rules = ["*"]',
            )
    elif isinstance(rule, AlertsSettings):
        for name in ("calm", "group", "grow", "escalate"):
            yield from _too_long("alerts", name, getattr(rule, name))


def _of_one(rule: PatternSettings) -> Iterator[Fault]:
    who = f"pattern {rule.name!r}"
    if not rule.name.strip():
        yield Fault("name", "a pattern has no name", "alerts are told apart by it: write a word or two")
    for name, key in (("within", "within"), ("for", "for_"), ("calm", "calm")):
        yield from _too_long(who, name, getattr(rule, key))
    given = [name for name in ("sequence", "all", "of") if getattr(rule, name)]
    if len(given) != 1:
        found = "has no steps" if not given else f"has {' and '.join(given)}"
        yield Fault(
            given[-1] if given else "", f"{who} {found}", "write one of sequence, all, and count with of"
        )
        return
    steps = (rule.of,) if rule.of is not None else rule.sequence or rule.all
    for number, step in enumerate(steps):
        yield from _of_step(rule, given[0], number, step)
    if len(steps) > _MOST_STEPS:
        yield Fault(given[0], f"{who} has {len(steps)} steps", f"at most {_MOST_STEPS}: make it two patterns")
    yield from _of_count(who, rule)
    if rule.sequence and rule.sequence[0].not_:
        yield Fault(
            "sequence",
            f"{who}: the first step has not",
            "something must begin it: put that before what is missing",
        )
    several = len(steps) > 1 or rule.count > 1
    if several and not duration(rule.within):
        yield Fault("within", f"{who}: nothing happens within 0 s", 'write within = "1h"')
    for word in re.findall(r"\{([^{}]*)\}", rule.text):
        if word not in WORDS:
            yield Fault("text", f"{who}: nothing is known as {{{word}}}", f"there are {', '.join(WORDS)}")


def _of_count(who: str, rule: PatternSettings) -> Iterator[Fault]:
    if rule.of is None:
        for name in ("count", "distinct"):
            if getattr(rule, name):
                yield Fault(
                    name,
                    f"{who}: {name} goes with of",
                    'write of = { anomaly = "too-hot" } for what is counted',
                )
    elif not 1 <= rule.count <= _MOST_COUNTED:
        yield Fault("count", f"{who}: count = {rule.count}", f"from 1 to {_MOST_COUNTED}")
    elif rule.distinct == "device" and rule.per == "device":
        yield Fault(
            "distinct", f"{who}: of one device there is one", 'write per = "site", or distinct = "series"'
        )


def _of_step(rule: PatternSettings, kind: str, number: int, step: StepOfPattern) -> Iterator[Fault]:
    which = f"of `{kind}`" if kind == "of" else f"step {number + 1}"
    who = f"pattern {rule.name!r}, {which}"
    named = [name for name in _WHAT if getattr(step, name)]
    if len(named) != 1:
        found = "names nothing" if not named else f"names {' and '.join(named)}"
        yield Fault(kind, f"{who} {found}", f"one of {', '.join(_WHAT)}: {_EXAMPLE}")
        return
    what = named[0]
    for fault in _of_kind(who, what, step):
        yield fault._replace(key=kind)
    if step.not_ and kind != "sequence":
        yield Fault(
            kind, f"{who}: not is for steps of a sequence", "what is missing is between others, or after them"
        )


def _of_kind(who: str, what: str, step: StepOfPattern) -> Iterator[Fault]:
    belongs = {"above": "window", "below": "window", "status": "command"}
    for key, of in belongs.items():
        if getattr(step, key) not in {None, "*"} and what != of:
            yield Fault("", f"{who}: {key} is for a {of}", f"leave it out, or write {of} = ...")
    if what not in {"anomaly", "peer"} and step.severity != "info":
        yield Fault("", f"{who}: a {what} has no severity", "leave it out")
    yield from _too_long(who, "for", step.for_)
    if what in {"device", "command"}:
        yield from _of_devices(who, step.series)
    elif step.series != "*":
        yield from of_pattern(who, step.series)
    if what == "window":
        yield from _of_window(who, step)
    elif what == "device" and not any(fnmatchcase(status, step.device) for status in _STATUSES):
        yield Fault("", f"{who}: no status is {step.device!r}", f"there are {', '.join(_STATUSES)}")
    elif what == "command":
        if not any(fnmatchcase(status, step.status) for status in _ENDS):
            yield Fault("", f"{who}: no command ends as {step.status!r}", f"there are {', '.join(_ENDS)}")
        if duration(step.for_):
            yield Fault("", f"{who}: a command's end lasts no time", "leave out for")


def _of_devices(who: str, series: str) -> Iterator[Fault]:
    what = f"{who}: no device can match {series!r}"
    if "+" in series or "#" in series:
        yield Fault("", what, "the wildcards are * and ?, not MQTT's: plant/* is every device of a site")
    elif series.count("/") > 1 and "[" not in series:
        yield Fault("", what, "a device is site/device, two names with / between them")
    elif "/" not in series and "*" not in series:
        yield Fault("", what, f"a device is site/device: write */{series}")


def _of_window(who: str, step: StepOfPattern) -> Iterator[Fault]:
    if (step.above is None) == (step.below is None):
        yield Fault("", f"{who} needs either above or below", "write above = 80.0, for example")
    elif not isfinite(step.above if step.above is not None else step.below or 0.0):
        yield Fault("", f"{who}: that is no number", "write above = 80.0, for example")
    yield from _of_level(who, step.window)


def _of_level(who: str, name: str) -> Iterator[Fault]:
    try:
        level = level_of(name)
    except SettingsError as error:
        yield Fault("level", f"{who}: {error.message}", error.hint)
        return
    if level.gap_us or level.hop_us != level.length_us:
        yield Fault(
            "level",
            f"{who}: windows of {name} are not one after the other",
            'write a plain level, such as "1m"',
        )


def _of_comparison(rule: CompareSettings) -> Iterator[Fault]:
    who = f"compare {rule.name!r}"
    if not rule.name.strip():
        yield Fault("name", "a compare has no name", "alerts are told apart by it: write a word or two")
    if not valid_name(rule.metric):
        yield Fault(
            "metric", f"{who}: {rule.metric!r} is no metric", "one name, without / and wildcards: temperature"
        )
    if not (isfinite(rule.away) and rule.away > 0):
        yield Fault("away", f"{who}: away = {rule.away} is not above 0", "write away = 6.0")
    if not (isfinite(rule.least) and rule.least >= 0):
        yield Fault(
            "least", f"{who}: least = {rule.least} is below 0", "write least = 0.5, in the metric's unit"
        )
    yield from _of_level(who, rule.level)


def _too_long(who: str, key: str, text: str) -> Iterator[Fault]:
    if duration(text) > _LONGEST_US:
        yield Fault(key, f"{who}: {key} is longer than 30 days", "evidence is not kept for so long")

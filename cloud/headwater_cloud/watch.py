"""Which episodes there are: rules are looked at where their evidence changed, where the clock or an agent came as far as they
wait for, and everywhere when there are new rules.

The evidence is state, in pieces; when to look again is not, for it follows from the evidence: after a start all is looked at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from typing import NamedTuple

from headwater_cloud.book import Book
from headwater_cloud.collect import Collector
from headwater_cloud.consume import Taken
from headwater_cloud.episodes import Watched
from headwater_cloud.evidence import Evidence
from headwater_cloud.matching import Index, index_of
from headwater_cloud.merge import Windows
from headwater_cloud.names import Names
from headwater_cloud.patterns import Found as Episodes
from headwater_cloud.patterns import Group, episodes, own_episodes
from headwater_cloud.rule_records import Noted
from headwater_cloud.shard import Shard
from headwater_cloud.spans import steps_of
from headwater_shared.bus import Record
from headwater_shared.peers import Finding
from headwater_shared.records import Anomaly, Command, Device

_STRANGER_US = 300_000_000
"""How complete an agent is that this shard never heard, for it is another one's: so long before the clock."""

_AWAY_US = 7 * 86_400_000_000
"""An agent that is away for longer than windows can be revised holds no evidence back."""

Rule = tuple[bool, str]
"""Whether it is a pattern, and its name; else it is the rule of anomalies or comparisons that are alerts by themselves."""


class Seen(NamedTuple):
    """What a batch says to one shard, each in the order of the bus."""

    anomalies: Sequence[Anomaly] = ()
    commands: Sequence[Command] = ()
    devices: Sequence[Device] = ()
    findings: Sequence[Finding] = ()
    noted: Sequence[Noted] = ()
    books: Sequence[Book] = ()
    silent: dict[str, int] = {}  # noqa: RUF012 - never changed
    """Agents that were not heard before, and since when."""


def seen(fresh: Sequence[object], taken: Taken, silent: dict[str, int]) -> Seen:
    """Return what a batch says to one shard.

    Args:
        fresh: rows of agents' streams, without repeats.
        taken: all that was read of the shard.
        silent: agents that were not heard before, and since when.
    """
    return Seen(
        [one for one in fresh if isinstance(one, Anomaly)],
        [one for one in fresh if isinstance(one, Command)],
        [one for one in fresh if isinstance(one, Device)],
        taken.findings, taken.noted, taken.books, silent,
    )  # fmt: skip


class Step(NamedTuple):
    """What a batch comes to."""

    watched: list[Watched]
    keys: set[str]
    """Of which the evidence changed."""
    records: list[Record]
    """Evidence for other shards."""
    rules: bool
    """Whether there are new rules."""
    forgotten: int
    """How much evidence was let go."""


@dataclass(slots=True)
class Watching:
    """What a shard waits for, in memory only."""

    index: Index
    fresh: bool = True
    clock: list[tuple[int, str, Rule]] = field(default_factory=list)
    agents: dict[str, list[tuple[int, str, Rule]]] = field(default_factory=dict)
    planned: dict[tuple[str, Rule], tuple[int | None, tuple[tuple[str, int], ...]]] = field(
        default_factory=dict
    )
    lists: dict[str, dict[Rule, list[dict[str, Evidence]]]] = field(default_factory=dict)
    """By key and rule, for each step: the evidence that can be it, by id."""
    told: set[tuple[str, Rule]] = field(default_factory=set)
    """Of which there were episodes, or after a start may have been."""


def step(shard: Shard, seen: Seen, windows: Windows | None, names: Names) -> Step:
    """Take a batch in; the shard's evidence and rules are changed in place.

    Args:
        windows: those that the batch changed, of this shard and others.
    """
    due: dict[str, dict[Rule, None]] = {}
    watching = shard.watching
    rules, watched = _follow(shard, seen.books)
    if watching is None or rules:
        watching = shard.watching = Watching(index_of(shard.book))
    collector = Collector(shard, watching.index)
    if rules:
        collector.again()
    collector.noted(seen.noted)
    collector.rows(seen.anomalies, seen.commands, seen.devices)
    collector.findings(seen.findings)
    for agent, since_us, heard_us in _silences(shard, seen.silent):
        collector.silent(agent, since_us, heard_us)
    if windows is not None and watching.index.windows:
        collector.windows(windows, names)
    if (
        watching.fresh
    ):  # of each key all that there may be, and what this batch takes away: it was known before the start
        watching.fresh = False
        for key, some in collector.changes.keys.items():
            watching.told |= {(key, rule) for rule in _rules_of(key, some.values(), watching.index)}
        for key, kept in shard.evidence.items():
            due[key] = dict.fromkeys(_rules_of(key, kept.evidence.values(), watching.index))
            due[key] |= dict.fromkeys((_is_pattern(of.rule, watching.index), of.rule) for of in kept.held)
            watching.told |= {(key, rule) for rule in due[key]}
    changed = collector.changes.keys
    for key, some in changed.items():
        _relist(shard, watching, key, some)
        due.setdefault(key, {}).update(dict.fromkeys(_rules_of(key, some.values(), watching.index)))
    for key, rule in _waited(watching, shard):
        due.setdefault(key, {})[rule] = None
    for key, rules_due in due.items():
        watched += _look(shard, watching, key, rules_due)
    forgotten = sum(_forget(shard, watching, key) for key in changed)
    keys = {*changed, *(of.key for of in watched if of.gone)}
    return Step(watched, keys, collector.changes.records, rules, forgotten)


def _follow(shard: Shard, books: Iterable[Book]) -> tuple[bool, list[Watched]]:
    """Go by the latest book. Returns whether there is another one, and what is gone of the one before."""
    watched: list[Watched] = []
    latest = max(books, key=lambda book: book.time_us, default=None)
    if latest is None or latest.time_us <= shard.book.time_us:
        return False, []
    before, now = index_of(shard.book), index_of(latest)
    names = {pattern.name for pattern in latest.patterns}
    for key, kept in shard.evidence.items():
        rules = _rules_of(key, kept.evidence.values(), before)
        rules |= {(_is_pattern(of.rule, before), of.rule) for of in kept.held}
        own = _rules_of(key, kept.evidence.values(), now)
        for rule in sorted(rules):
            is_pattern, name = rule
            if name not in names if is_pattern else rule not in own:
                kept.held = [of for of in kept.held if of.rule != name]
                watched.append(Watched(key, name, (), kept.forgotten_us, gone=True))
    shard.book = latest
    return True, watched


def _is_pattern(name: str, index: Index) -> bool:
    return name in index.numbers


def _rules_of(key: str, some: Iterable[Evidence], index: Index) -> set[Rule]:
    """Return the rules that evidence of a key is something to."""
    per = scope_of(key)
    out: set[Rule] = set()
    for one in some:
        out |= {(True, index.patterns[use.pattern].name) for use in index.uses(one) if use.per == per}
        if per in {"device", "agent"} and index.is_own(one):
            out.add((False, one.name))
    return out


def scope_of(key: str) -> str:
    """Return what a key is of: a device, a site, a cohort or an agent."""
    if key.startswith("+"):
        return "cohort"
    if "/" in key:
        return "device"
    return "agent" if key.startswith("agent:") else "site"


def _silences(shard: Shard, before: dict[str, int]) -> Iterable[tuple[str, int, int | None]]:
    for agent, progress in shard.agents.items():
        was = before.get(agent)
        if was and (not progress.silent or progress.since_us != was):
            yield agent, was, progress.heard_us
        if progress.silent and progress.since_us != was:
            yield agent, progress.since_us, None


def _waited(watching: Watching, shard: Shard) -> Iterable[tuple[str, Rule]]:
    """Yield what waited for the clock or an agent that is so far now."""
    heaps = [(watching.clock, shard.clock_us)]
    heaps += [(heap, shard.agents[agent].complete_us) for agent, heap in watching.agents.items()]
    for heap, now_us in heaps:
        while heap and heap[0][0] <= now_us:
            _, key, rule = heappop(heap)
            yield key, rule


def _look(shard: Shard, watching: Watching, key: str, rules: Collection[Rule]) -> list[Watched]:
    kept = shard.evidence[key]
    out = []
    for rule, found in _found(shard, watching, key, rules).items():
        if found.groups or (key, rule) in watching.told:
            since_us = watching.index.patterns[watching.index.numbers[rule[1]]].since_us if rule[0] else 0
            out.append(Watched(key, rule[1], found.episodes, kept.forgotten_us, since_us=since_us))
        (watching.told.add if found.groups else watching.told.discard)((key, rule))
        plan = found.at_us, found.waits
        if watching.planned.pop((key, rule), (None, ())) == plan:
            if plan != (None, ()):
                watching.planned[key, rule] = plan
            continue
        watching.planned[key, rule] = plan
        if found.at_us is not None:
            heappush(watching.clock, (found.at_us, key, rule))
        for agent, until_us in found.waits:
            if agent in shard.agents:
                heappush(watching.agents.setdefault(agent, []), (until_us, key, rule))
            else:
                heappush(watching.clock, (until_us + _STRANGER_US, key, rule))
    return out


def _lists(
    shard: Shard, watching: Watching, key: str, rules: Iterable[Rule]
) -> dict[Rule, list[dict[str, Evidence]]]:
    """Return the evidence of steps; of rules that are asked for the first time in one pass over the evidence of the key."""
    known, index = watching.lists.setdefault(key, {}), watching.index
    new = {
        rule: [
            dict[str, Evidence]()
            for _ in (steps_of(index.patterns[index.numbers[rule[1]]]) if rule[0] else (0,))
        ]
        for rule in rules
        if rule not in known
    }
    if new:
        for one in shard.evidence[key].evidence.values():
            _list(new, index, key, one)
        known |= new
    return known


def _list(lists: dict[Rule, list[dict[str, Evidence]]], index: Index, key: str, one: Evidence) -> None:
    per = scope_of(key)
    for use in index.uses(one):
        if use.per == per and (steps := lists.get((True, index.patterns[use.pattern].name))) is not None:
            for at in use.steps:
                steps[at][one.id] = one
    if (steps := lists.get((False, one.name))) is not None and index.is_own(one):
        steps[0][one.id] = one


def _relist(shard: Shard, watching: Watching, key: str, ids: Iterable[str]) -> None:
    """Put what changed of a key's evidence into the lists."""
    lists, kept = watching.lists.get(key, {}), shard.evidence[key].evidence
    for at in ids if lists else ():
        for steps in lists.values():
            for step_ in steps:
                step_.pop(at, None)
        if at in kept:
            _list(lists, watching.index, key, kept[at])


def _found(shard: Shard, watching: Watching, key: str, rules: Collection[Rule]) -> dict[Rule, Episodes]:
    """Find the episodes of some rules in the evidence of a key."""
    kept, index = shard.evidence[key], watching.index
    lists = _lists(shard, watching, key, rules)

    complete_of = partial(_complete_us, shard)
    out: dict[Rule, Episodes] = {}
    for rule in rules:
        is_pattern, name = rule
        held = [of for of in kept.held if of.rule == name] if kept.held else []
        by_step = [list(some.values()) for some in lists[rule]]
        if is_pattern:
            pattern = index.patterns[index.numbers[name]]
            out[rule] = episodes(pattern, key, by_step, shard.clock_us, complete_of, held)
        else:
            calm_us = index.book.alerts.calm_us
            out[rule] = own_episodes(name, by_step[0], calm_us, shard.clock_us, complete_of, held)
    return out


def _complete_us(shard: Shard, agent: str) -> int:
    progress = shard.agents.get(agent)
    return shard.clock_us - _STRANGER_US if progress is None else progress.complete_us


def _forget(shard: Shard, watching: Watching, key: str) -> int:
    """Let go of evidence that is old, or too much; what goes on of its episodes stays known."""
    kept, index = shard.evidence[key], watching.index
    least_us = shard.clock_us - _AWAY_US
    gone, oldest_us = kept.to_forget(index.keep_us, lambda agent: max(_complete_us(shard, agent), least_us))
    if not gone and not any(of.end_us < oldest_us for of in kept.held):
        return 0
    rules = _rules_of(key, gone, index) | {(_is_pattern(of.rule, index), of.rule) for of in kept.held}
    groups: list[Group] = []
    for found in _found(shard, watching, key, rules).values():
        groups += found.groups
    kept.forget(gone, oldest_us, groups)
    _relist(shard, watching, key, [one.id for one in gone])
    return len(gone)

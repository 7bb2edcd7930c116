"""Which episodes there are: rules are looked at where their evidence changed, where the clock or an agent came as far as they
wait for, and everywhere when there are new rules.

The evidence is state, in pieces; when to look again is not, for it follows from the evidence: after a start all is looked at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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
    if watching.fresh:  # of each key all that there may be
        watching.fresh = False
        for key, kept in shard.evidence.items():
            due[key] = dict.fromkeys(_rules_of(key, kept.evidence.values(), watching.index))
            due[key] |= dict.fromkeys((_is_pattern(of.rule, watching.index), of.rule) for of in kept.held)
            watching.told |= {(key, rule) for rule in due[key]}
    changed = collector.changes.keys
    for key, some in changed.items():
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
    per = _scope_of(key)
    out: set[Rule] = set()
    for one in some:
        out |= {(True, index.patterns[use.pattern].name) for use in index.uses(one) if use.per == per}
        if per in {"device", "agent"} and index.is_own(one):
            out.add((False, one.name))
    return out


def _scope_of(key: str) -> str:
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


def _look(shard: Shard, watching: Watching, key: str, rules: Iterable[Rule]) -> list[Watched]:
    kept = shard.evidence[key]
    out = []
    for rule, found in _found(shard, watching.index, key, rules).items():
        if found.groups or (key, rule) in watching.told:
            out.append(Watched(key, rule[1], found.episodes, kept.forgotten_us))
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


def _found(shard: Shard, index: Index, key: str, rules: Iterable[Rule]) -> dict[Rule, Episodes]:
    """Find the episodes of some rules in the evidence of a key, in one pass over it."""
    kept, per = shard.evidence[key], _scope_of(key)
    patterns = {index.numbers[name]: name for is_pattern, name in rules if is_pattern}
    by_step = {number: [list[Evidence]() for _ in steps_of(index.patterns[number])] for number in patterns}
    own = {name: list[Evidence]() for is_pattern, name in rules if not is_pattern}
    for one in kept.evidence.values():
        for use in index.uses(one) if patterns else ():
            if use.per == per and (lists := by_step.get(use.pattern)) is not None:
                for at in use.steps:
                    lists[at].append(one)
        if one.name in own and index.is_own(one):
            own[one.name].append(one)

    def complete_of(agent: str) -> int:
        progress = shard.agents.get(agent)
        return shard.clock_us - _STRANGER_US if progress is None else progress.complete_us

    out: dict[Rule, Episodes] = {}
    for number, name in patterns.items():
        held = [of for of in kept.held if of.rule == name]
        out[True, name] = episodes(
            index.patterns[number], key, by_step[number], shard.clock_us, complete_of, held
        )
    for name, some in own.items():
        held = [of for of in kept.held if of.rule == name]
        calm_us = index.book.alerts.calm_us
        out[False, name] = own_episodes(name, some, calm_us, shard.clock_us, complete_of, held)
    return out


def _forget(shard: Shard, watching: Watching, key: str) -> int:
    """Let go of evidence that is old, or too much; what goes on of its episodes stays known."""
    kept, index = shard.evidence[key], watching.index
    gone, oldest_us = kept.to_forget(index.keep_us)
    if not gone and not any(of.end_us < oldest_us for of in kept.held):
        return 0
    rules = _rules_of(key, gone, index) | {(_is_pattern(of.rule, index), of.rule) for of in kept.held}
    groups: list[Group] = []
    for found in _found(shard, index, key, rules).values():
        groups += found.groups
    kept.forget(gone, oldest_us, groups)
    return len(gone)

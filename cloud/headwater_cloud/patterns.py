"""The matcher: evidence becomes the episodes of a pattern, whatever order it came in. Pure; docs/rules.md says it to the letter.

All chains that satisfy a pattern count (`spans`); those that overlap, or follow within `calm`, are one episode. From one call to
the next nothing is remembered but what was let go (`Held`), so that late and revised evidence needs no code of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from headwater_cloud.book import Pattern, Severity
from headwater_cloud.chains import spans
from headwater_cloud.episodes import Episode
from headwater_cloud.evidence import Evidence
from headwater_cloud.spans import Known, Some, Span, place, steps_of, told_apart

_SHOWN = 10
"""Of an episode's evidence: so many of the first, and of the last."""
_NAMED = 5
"""Devices that a text names."""
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
"""The least first."""


class Held(msgspec.Struct, frozen=True, array_like=True):
    """What stays known of an episode of which some evidence was let go. Times in microseconds of event time."""

    rule: str
    subject: str
    begin_us: int
    done_us: int
    last_us: int
    end_us: int
    """Of what is over, and of what was let go."""
    open: tuple[str, ...]
    """Evidence that is kept, belongs to it, and is not over."""
    shown: tuple[str, ...]
    agents: tuple[str, ...]
    severity: str
    text: str
    value: float


class Group(NamedTuple):
    """An episode, and what it is made of."""

    episode: Episode
    members: tuple[Evidence, ...]
    """All of its evidence that is kept, in order."""
    done_us: int
    """When its first chain was complete."""
    over_us: int
    """When the last of it ended that is over."""
    held: tuple[Held, ...]
    """What was known of it before of evidence that was let go."""


class Found(NamedTuple):
    """The episodes of a rule in the evidence of a key."""

    groups: tuple[Group, ...]
    at_us: int | None
    """By the clock when it must be looked at again, if nothing else comes;"""
    waits: tuple[tuple[str, int], ...]
    """and agents, once they are complete up to then."""

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """In the order of their begins."""
        return tuple(group.episode for group in self.groups)


def episodes(
    pattern: Pattern,
    key: str,
    by_step: Sequence[Some],
    clock_us: int,
    complete_of: Callable[[str], int],
    held: Sequence[Held] = (),
) -> Found:
    """Find all episodes of a pattern.

    Args:
        key: whose evidence it is: a device, a site, a cohort; it is the subject.
        by_step: for each step (`spans.steps_of`) the evidence that can be it, in any order.
        clock_us: the shard's clock.
        complete_of: up to when an agent is complete.
        held: what is known of this pattern's episodes whose evidence was let go.
    """
    known = Known(clock_us, complete_of)
    found = spans(pattern, by_step, known)
    kept = {one.id: one for some in by_step for one in some} if held else {}
    groups = [_of_pattern(group, pattern) for group in _joined(pattern, key, found, held, kept, known)]
    return Found(tuple(groups), known.at_us, tuple(known.waits.items()))


def own_episodes(
    rule: str,
    some: Some,
    calm_us: int,
    clock_us: int,
    complete_of: Callable[[str], int],
    held: Sequence[Held] = (),
) -> Found:
    """Find the episodes of evidence that is an alert by itself: one a subject of what overlaps or follows within `calm_us`."""
    known, pattern = Known(clock_us, complete_of), Pattern(rule, calm_us=calm_us)
    by_subject: dict[str, list[Evidence]] = {of.subject: [] for of in held}
    for one in some:
        by_subject.setdefault(one.subject, []).append(one)
    groups = []
    for subject in sorted(by_subject):
        each = [Span(e.begin_us, e.begin_us, e.begin_us, (e,)) for e in by_subject[subject]]
        mine = [of for of in held if of.subject == subject]
        kept = {one.id: one for one in by_subject[subject]} if mine else {}
        groups += [_of_own(group) for group in _joined(pattern, subject, each, mine, kept, known)]
    return Found(tuple(groups), known.at_us, tuple(known.waits.items()))


def carried(group: Group, gone: Iterable[str]) -> Held:
    """Return what stays known of an episode when some of its evidence, by id, is let go."""
    episode, lost = group.episode, set(gone)
    still = tuple(one.id for one in group.members if one.id not in lost and _may_go_on(one))
    return Held(
        episode.rule, episode.subject, episode.begin_us, group.done_us, episode.last_us, group.over_us, still,
        episode.evidence, episode.agents, episode.severity, episode.text, episode.value,
    )  # fmt: skip


def _may_go_on(one: Evidence) -> bool:
    return one.end_us is None or one.next_us > 0


def _joined(
    pattern: Pattern, subject: str, found: Iterable[Span], held: Iterable[Held],
    kept: dict[str, Evidence], known: Known,
) -> Iterator[Group]:  # fmt: skip
    """Join what overlaps or follows within the calm; leave out what was over before it had lasted for long enough."""
    parts: list[tuple[Span, Held | None]] = [(span, None) for span in found]
    for of in held:
        members = tuple(kept[at] for at in of.open if at in kept)
        parts.append((Span(of.begin_us, of.done_us, of.last_us, members, of.end_us), of))
    parts.sort(key=lambda part: part[0].begin_us)
    at = 0
    while at < len(parts):
        group = _Joining(known)
        while at < len(parts) and group.reaches(parts[at][0].begin_us - pattern.calm_us):
            group.add(*parts[at])
            at += 1
        made = group.made(pattern, subject)
        if made is not None:
            yield made


class _Joining:
    """An episode while spans come to it, by their begins."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._spans: list[Span] = []
        self._held: list[Held] = []
        self._members: dict[str, Evidence] = {}
        self._open: list[Evidence] = []
        self._sure_us = self._over_us = self._until_us = 0

    def reaches(self, time_us: int) -> bool:
        """Tell whether what begins then belongs to it."""
        return not self._spans or bool(self._open) or time_us <= self._over_us

    def add(self, span: Span, held: Held | None) -> None:
        self._spans.append(span)
        if held is not None:
            self._held.append(held)
            self._sure_us = max(self._sure_us, held.end_us)
        else:
            self._until_us = max(self._until_us, span.until_us)
        self._over_us = max(self._over_us, span.until_us)
        for one in span.members:
            if one.id in self._members:
                continue
            self._members[one.id] = one
            held_us, still = self._known.held(one)
            self._sure_us = max(self._sure_us, held_us)
            if still:
                self._open.append(one)
            if one.end_us is not None:  # windows may go on: should they be let go, this is their end
                self._over_us = max(self._over_us, held_us)

    def made(self, pattern: Pattern, subject: str) -> Group | None:
        """Return what it came to, None if it never held for as long as it must."""
        known, members = self._known, tuple(sorted(self._members.values(), key=place))
        done_us = min(span.done_us for span in self._spans)
        end_us: int | None = None
        if not self._open:
            end_us = self._over_us
            calm_at = end_us + pattern.calm_us
            if (pattern.calm_us or self._until_us == end_us) and known.clock_us < calm_at:
                known.wait_clock(calm_at)
                end_us = None
        fired_us = self._fired_us(done_us + pattern.for_us) if pattern.for_us else done_us
        if fired_us is None and end_us is not None:
            return None
        ids = [one.id for one in members]
        shown = list(dict.fromkeys([*(at for of in self._held for at in of.shown), *ids]))
        agents = {one.agent for one in members}.union(*(of.agents for of in self._held)) - {""}
        last = max(self._held, key=lambda of: of.begin_us, default=None)
        told = (last.severity, last.text, last.value) if last else ("warning", "", 0.0)
        episode = Episode(
            pattern.name, subject, self._spans[0].begin_us, fired_us, end_us, *told,
            tuple(shown if len(shown) <= 2 * _SHOWN else shown[:_SHOWN] + shown[-_SHOWN:]),
            tuple(sorted(agents)), max(span.last_us for span in self._spans),
        )  # fmt: skip
        return Group(episode, members, done_us, self._over_us, tuple(self._held))

    def _fired_us(self, at_us: int) -> int | None:
        """Return when it had lasted for long enough, None while that is not known to be so."""
        if self._sure_us >= at_us or (self._until_us >= at_us and self._known.clock_us >= at_us):
            return at_us
        if self._until_us >= at_us:
            self._known.wait_clock(at_us)
        for one in self._open:
            self._known.wait(one.agent, at_us)
        return None


def _of_pattern(group: Group, pattern: Pattern) -> Group:
    """Say what the pattern says."""
    episode, members = group.episode, group.members
    value, sure = episode.value, episode.sure
    if pattern.of is not None and members:
        value = float(len({told_apart(pattern, one) for one in members}))
        sure = f"{value:.0f}, and {pattern.count} are enough"
    elif members:
        value = members[-1].value
        last = f", the last: {members[-1].sure}" if members[-1].sure else ""
        sure = f"each of {len(steps_of(pattern))} steps is so{last}"
    text = filled(pattern.text, episode.subject, members)
    told = episode._replace(severity=pattern.severity, text=text, value=value, sure=sure)
    return group._replace(episode=told)


def _of_own(group: Group) -> Group:
    """Say what the evidence says: the worst severity, and the last word."""
    if not group.members:
        return group
    newest = group.members[-1]
    worst = max(SEVERITIES.index(_severity(one.severity)) for one in group.members)
    told = group.episode._replace(
        severity=SEVERITIES[worst], text=newest.end_text or newest.text, value=newest.value, sure=newest.sure
    )
    return group._replace(episode=told)


def _severity(text: str) -> Severity:
    return next((known for known in SEVERITIES if known == text), "warning")


WORDS = ("subject", "site", "device", "devices", "count")
"""What a text may hold in braces."""


def filled(text: str, subject: str, members: Sequence[Evidence]) -> str:
    """Put in what stands in braces (`WORDS`)."""
    if "{" not in text:
        return text
    devices = list(dict.fromkeys(one.device for one in members if one.device))
    more = f" and {len(devices) - _NAMED} more" if len(devices) > _NAMED else ""
    words = {
        "subject": subject,
        "site": subject.partition("/")[0],
        "device": subject if "/" in subject else ", ".join(devices[:_NAMED]) + more,
        "devices": ", ".join(devices[:_NAMED]) + more,
        "count": str(len(devices)),
    }
    for word in WORDS:
        text = text.replace("{" + word + "}", words[word])
    return text

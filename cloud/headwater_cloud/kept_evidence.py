"""The evidence of one key: a device, a site, a cohort or an agent. Bounded, one piece of state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from operator import attrgetter

import msgspec

from headwater_cloud.evidence import Evidence, joined
from headwater_cloud.patterns import Group, Held, carried
from headwater_shared.identity import stable_id

MOST = 500
"""Evidence of one key: beyond, the oldest goes, whatever patterns still ask for it."""

_FEW = 25
"""Of so few the names and texts, which are bounded, never take too much."""
_BYTES, _HELD_BYTES = 190_000, 40_000
"""Of evidence, and of episodes of which something was let go: together one small piece (R24)."""

_BEGIN = attrgetter("begin_us", "id")


class KeyEvidence(msgspec.Struct, array_like=True):
    """What is known of one key."""

    evidence: dict[str, Evidence] = {}
    forgotten_us: int = 0
    """What ended before this may have been let go."""
    held: list[Held] = []

    def put(self, one: Evidence) -> Evidence | None:
        """Take a word in; return the evidence as it is known now, None if it says nothing new."""
        before = self.evidence.get(one.id)
        now = one if before is None else joined(before, one)
        if now == before:
            return None
        self.evidence[now.id] = now
        return now

    def take(self, one: Evidence) -> bool:
        """Take evidence in as another shard knows it; tell whether that is new."""
        if self.evidence.get(one.id) == one:
            return False
        self.evidence[one.id] = one
        return True

    def put_status(self, one: Evidence) -> list[Evidence]:
        """Take a device's status in: it has one at a time, so each ends when the next begins. Returns what is known otherwise now."""
        before = dict(self.evidence)
        self.put(one)
        mine = sorted(
            (e for e in self.evidence.values() if e.kind == "device" and e.subject == one.subject), key=_BEGIN
        )
        for at, (early, late) in enumerate(pairwise(mine)):
            if early.end_us is None or early.end_us > late.begin_us:
                mine[at] = self.evidence[early.id] = msgspec.structs.replace(early, end_us=late.begin_us)
        return [e for e in mine if before.get(e.id) != e]

    def runs(self, name: str, subject: str, begin_us: int, end_us: int) -> list[Evidence]:
        """Return the runs of windows that touch a time, in order."""
        return sorted(
            (
                e for e in self.evidence.values()
                if e.name == name and e.subject == subject and e.next_us
                and e.begin_us <= end_us and e.end_us is not None and begin_us <= e.end_us
            ),
            key=_BEGIN,
        )  # fmt: skip

    def put_window(self, one: Evidence) -> tuple[list[Evidence], list[Evidence]]:
        """Take in that something was so in a window; what touches is one run. Returns what is new, and what is no more."""
        assert one.end_us is not None
        runs = self.runs(one.name, one.subject, one.begin_us, one.end_us)
        last = [e for e in runs if e.end_us == one.end_us and e.begin_us <= one.begin_us]
        if last:  # perhaps a revision of its last window, whose word is that of the run
            now = [_run(one, e.begin_us, one.end_us) for e in last]
            return self._replace(last, now) if now != last else ([], [])
        if any(e.begin_us <= one.begin_us and one.end_us <= (e.end_us or 0) for e in runs):
            return [], []
        every = sorted([*runs, one], key=lambda e: e.end_us or 0)
        return self._replace(runs, [_run(every[-1], min(e.begin_us for e in every), every[-1].end_us or 0)])

    def cut_window(
        self, name: str, subject: str, begin_us: int, end_us: int
    ) -> tuple[list[Evidence], list[Evidence]]:
        """Take in that something was not so in a window. Returns what is new, and what is no more."""
        runs = [
            e for e in self.runs(name, subject, begin_us, end_us) if e.begin_us < end_us and (e.end_us or 0) > begin_us
        ]  # fmt: skip
        left = [_run(e, e.begin_us, begin_us) for e in runs if e.begin_us < begin_us]
        left += [_run(e, end_us, e.end_us or 0) for e in runs if (e.end_us or 0) > end_us]
        return self._replace(runs, left)

    def _replace(
        self, old: Sequence[Evidence], new: Sequence[Evidence]
    ) -> tuple[list[Evidence], list[Evidence]]:
        for e in old:
            del self.evidence[e.id]
        self.evidence |= {e.id: e for e in new}
        ids = {e.id for e in new}
        return list(new), [e for e in old if e.id not in ids]

    def to_forget(self, keep_us: int, complete_of: Callable[[str], int]) -> tuple[list[Evidence], int]:
        """Return what is to be let go: what ended long before the newest, and the oldest of too much; and before when that was.

        What an agent has yet to send, because it was cut off, may be older than what is known by now, and needs what was then: of an age is
        only what all agents of the key are complete beyond. A device's status is no measure: it bears the time at which it was seen,
        while readings that the device kept for hours bear theirs.

        Args:
            complete_of: up to when an agent is complete.
        """
        some = self.evidence.values()
        newest_us = max((_newest_us(e) for e in some if e.kind != "device"), default=None)
        if newest_us is None:
            newest_us = max(map(_newest_us, some), default=0)
        oldest_us = min([newest_us, *map(complete_of, {e.agent for e in some if e.agent})]) - keep_us
        gone = [e for e in some if e.end_us is not None and e.end_us < oldest_us]
        more = len(self.evidence) - len(gone) - self._room()
        if more > 0:
            ids = {e.id for e in gone}
            rest = (e for e in some if e.id not in ids)
            gone += sorted(rest, key=lambda e: (e.end_us is None, e.end_us or e.begin_us, e.id))[:more]
        return gone, oldest_us

    def _room(self) -> int:
        """Return how much evidence may be kept: less where texts and names are long."""
        if len(self.evidence) <= _FEW:
            return MOST
        size = len(msgspec.msgpack.encode(self.evidence))
        return MOST if size <= _BYTES else len(self.evidence) * _BYTES // size

    def forget(self, gone: Sequence[Evidence], oldest_us: int, groups: Iterable[Group]) -> None:
        """Let go; of episodes that are not over with it some is kept.

        Args:
            groups: the episodes that these are part of, or what was let go before.
        """
        ids, held = {e.id for e in gone}, list[Held]()
        for group in groups:
            rest = [e for e in group.members if e.id not in ids]
            if len(rest) == len(group.members):
                held += group.held if rest or group.over_us >= oldest_us else ()
            elif rest or group.episode.end_us is None:
                held.append(carried(group, ids))
            else:
                self.forgotten_us = max(self.forgotten_us, group.over_us)
        held.sort(key=lambda of: (of.end_us, of.rule, of.subject))
        while len(msgspec.msgpack.encode(held)) > _HELD_BYTES:
            del held[0]
        self.held = held
        for e in gone:
            del self.evidence[e.id]
            self.forgotten_us = max(self.forgotten_us, _newest_us(e))


def _newest_us(one: Evidence) -> int:
    return one.begin_us if one.end_us is None else one.end_us


def _run(one: Evidence, begin_us: int, end_us: int) -> Evidence:
    return msgspec.structs.replace(
        one, id=stable_id(one.kind, one.name, one.subject, begin_us), begin_us=begin_us, end_us=end_us
    )

"""What new and revised evidence does to the alerts of a rule: which are there now, which went over into others, which were not so."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from headwater_cloud.alert_rows import REPORTED, AlertRow, kept, of_episode, overlap, says
from headwater_cloud.alert_state import KeyAlerts
from headwater_cloud.episodes import Episode, Watched

_LOST = 100
"""Alerts of a key whose evidence was let go, over and open ones each: so long late evidence still finds them."""


class Followed(NamedTuple):
    """What changes. All rows are as the evidence has them; their states, mutes and incidents are as before."""

    rows: list[AlertRow]
    withdrawn: list[tuple[AlertRow, str, str]]
    """Each with why, and the id of the alert that goes on in its place, "" if none does."""
    left: list[AlertRow]
    """Over, and their evidence was let go long since: they leave the state as they are."""


def follow(key: KeyAlerts, watched: Watched, now_us: int, gone_us: int) -> Followed:
    """Compare all episodes that the evidence gives with the alerts that are known of the key and rule.

    Args:
        key: its alerts; nothing is changed in it.
        watched: the episodes.
        now_us: the shard's clock.
        gone_us: when a rule that is no more was taken out.
    """
    known = {
        row.id: row
        for row in key.rows.values()
        if row.rule == watched.rule and row.rule not in REPORTED.values()
    }
    if watched.gone:
        ends = [
            msgspec.structs.replace(row, gone_us=gone_us) for row in known.values() if row.over_us is None
        ]
        return Followed(ends, [], [])
    by_begin = {(row.subject, row.begin_us): row for row in known.values()}
    wanted: dict[str, AlertRow] = {}
    news: set[str] = set()
    for episode in watched.episodes:
        before = by_begin.get((episode.subject, episode.begin_us))
        row = before if before is not None and says(before, episode) else of_episode(watched.key, episode)
        if episode.last_us >= watched.since_us:
            news.add(row.id)
        wanted[row.id] = row
    missing = [row for at, row in known.items() if at not in wanted]
    heirs = {
        row.id: [one for one in wanted.values() if _goes_on(row, one, watched.forgotten_us)]
        for row in missing
    }
    out = Followed([], [], [])
    for row in missing:
        _let_go(row, heirs[row.id], watched.forgotten_us, out)
    for at, row in wanted.items():
        before = known.get(at)
        if before is row:
            continue
        if before is None:
            elders = [one for one in missing if any(heir.id == at for heir in heirs[one.id])]
            if at not in news and not elders:
                continue
            told = [one.told_us for one in elders if one.told_us]
            found = msgspec.structs.replace(
                row,
                known_us=min([now_us, *(one.known_us for one in elders)]),
                told_us=min(told, default=0),
            )
        else:
            found = kept(row, before)
        if found != before:
            out.rows.append(found)
    _bound(key, {row.id for row in out.rows} | wanted.keys(), now_us, out)
    return out


def _continued(episode: Episode, known: dict[str, AlertRow], watched: Watched) -> Episode:
    """Return the episode with the begin that is known of it, where the evidence of that begin was let go."""
    if episode.begin_us <= watched.forgotten_us:
        return episode
    for row in known.values():
        if (
            row.subject == episode.subject
            and row.begin_us < min(episode.begin_us, watched.forgotten_us)
            and not {*row.evidence}.isdisjoint(episode.evidence)
            and not any(
                one.begin_us == row.begin_us and one.subject == row.subject for one in watched.episodes
            )
        ):
            return episode._replace(begin_us=row.begin_us, fired_us=row.fired_us or episode.fired_us)
    return episode


def _joined(row: AlertRow, other: AlertRow) -> AlertRow:
    """Several episodes that go on one: it ends with the last of them."""
    if row.end_us is None or other.end_us is None:
        return row if row.end_us is None else other
    return max(row, other, key=lambda one: one.end_us or 0)


def _goes_on(row: AlertRow, other: AlertRow, forgotten_us: int) -> bool:
    """Tell whether an alert is part of another one now: what overlaps of a rule and subject is one episode (R26).

    One that is open for its end was let go with its evidence overlaps all that comes later: it must share evidence.
    """
    if row.subject != other.subject or not overlap(row, other):
        return False
    is_lost = row.end_us is None and row.begin_us <= forgotten_us
    return not is_lost or not {*row.evidence}.isdisjoint(other.evidence)


def _let_go(row: AlertRow, heirs: list[AlertRow], forgotten_us: int, out: Followed) -> None:
    forgotten = (row.begin_us if row.end_us is None else row.end_us) <= forgotten_us
    if heirs:
        moved = "earlier" if heirs[0].begin_us < row.begin_us else "later"
        why = f"it began {moved} than was known: it is alert {heirs[0].id}"
        out.withdrawn.append((row, why, heirs[0].id))
    elif forgotten and (row.over_us is not None or row.fired_us is not None):
        if not row.lost:
            out.rows.append(msgspec.structs.replace(row, lost=True))
    else:
        out.withdrawn.append((row, "late or corrected data show that it was not so", ""))


def _bound(key: KeyAlerts, current: set[str], now_us: int, out: Followed) -> None:
    """Let go of the oldest of too many alerts whose evidence was let go; where they are open, they are ended first."""
    lost = [row for row in key.rows.values() if row.lost and row.id not in current]
    over = sorted(
        (row for row in lost if row.over_us is not None), key=lambda row: (row.over_us or 0, row.id)
    )
    out.left.extend(over[: max(len(over) - _LOST, 0)])
    still = sorted((row for row in lost if row.over_us is None), key=lambda row: (row.begin_us, row.id))
    for row in still[: max(len(still) - _LOST, 0)]:
        why = f"{row.text}; ended here: too many alerts of {row.key} at once to follow each"
        out.rows.append(msgspec.structs.replace(row, gone_us=max(row.begin_us, now_us), text=why[:1_000]))

"""What a route sends next: quiet hours, collecting, so many messages in a time. Pure: no clock, no file.

Two times: what the clock *shows* says whether it is quiet; *real* time says when a try is due, how long to collect and how many went.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headwater_cloud import notify_hours
from headwater_cloud.notify_file import Waiting
from headwater_cloud.notify_hours import Zones
from headwater_cloud.notify_settings import RANKS, Rules

LOOK_US = 5_000_000
"""What waits for the end of quiet hours is looked at again after so long: the clock that shows them may be a fast one."""


class Next(NamedTuple):
    """The deliveries of the next message, none if there is nothing to send now; and when to look again (real time, None: when there is news)."""

    some: tuple[Waiting, ...]
    again_us: int | None = None
    held: bool = False
    """Quiet hours hold all of what waits."""


def next_message(
    rules: Rules, waiting: Sequence[Waiting], formed: Sequence[int], shown_us: int, real_us: int, zones: Zones
) -> Next:
    """Choose.

    Args:
        waiting: of this route, oldest first.
        formed: when its messages of the last `per` went out, oldest first.
    """
    # What went out later than now did so by a clock that was wrong since: it must not silence the route until then.
    formed = [at for at in formed if at <= real_us]
    free = [one for one in waiting if not held(rules, one, shown_us, zones)]
    look = real_us + LOOK_US if len(free) < len(waiting) else None
    if not free:
        return Next((), look, held=True)
    due = [one for one in free if _due(rules, one, real_us)]
    if not due:
        return Next((), _earlier(look, min(one.due_us for one in free)))
    first = due[0]
    again = next((one for one in due if one.letter is not None), None)
    if again is not None:  # perhaps it was delivered: it goes once more as it was, and takes no place
        return Next(tuple(one for one in waiting if one.letter == again.letter))
    fresh = tuple(one for one in free if one.letter is None)
    if rules.settings.to == "file":
        return Next(fresh)
    wait_us = _room_at(rules, formed) - real_us
    if wait_us > 0:
        return Next((), _earlier(look, real_us + wait_us))
    if rules.digest_us or (rules.settings.most and len(formed) >= rules.settings.most - 1):
        return Next(fresh)
    slept = tuple(one for one in fresh if held(rules, one, one.taken_us, zones))
    return Next(slept if first in slept else (first,))


def held(rules: Rules, one: Waiting, shown_us: int, zones: Zones) -> bool:
    """Tell whether a delivery waits, at a time that the clock shows, for the end of quiet hours.

    Nobody is woken for what is over, whatever its severity; but who was woken by this alert hears that it is.
    """
    said = one.notification
    if not rules.quiet:
        return False
    zone = rules.zone_of(said, zones)
    if not notify_hours.inside(rules.quiet, shown_us, zone):
        return False
    if RANKS.get(said.severity, 1) < RANKS[rules.settings.quiet_below] or said.over:
        return True
    woken = one.told_us is not None and one.told_us >= notify_hours.since(rules.quiet, shown_us, zone)
    return one.over and not woken


def _due(rules: Rules, one: Waiting, real_us: int) -> bool:
    # A clock that was set back must not hold up a delivery for years.
    longest_us = max(rules.digest_us, round(rules.retry_most_s * 1e6))
    return one.due_us <= real_us or one.due_us > real_us + 2 * longest_us


def _room_at(rules: Rules, formed: Sequence[int]) -> int:
    """When the next message may go: the last one that `most` leaves room for waits for what else comes, and takes all of it."""
    most = rules.settings.most
    if not most or len(formed) < most - 1 or not formed:
        return 0
    if len(formed) >= most:
        return formed[len(formed) - most] + rules.per_us
    return formed[-1] + rules.per_us // most


def _earlier(some: int | None, other: int) -> int:
    return other if some is None else min(some, other)

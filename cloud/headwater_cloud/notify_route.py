"""One route to people: a message is noted as on its way, tried, and noted as delivered; what fails is tried again, for ever.

`step` does one message, and the thread around it is trivial. A route that hangs holds up only itself.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from headwater_cloud import traced
from headwater_cloud.notify_file import MANY, Waiting
from headwater_cloud.notify_hours import Zones
from headwater_cloud.notify_plan import LOOK_US, Next, next_message
from headwater_cloud.notify_settings import Rules
from headwater_cloud.notify_store import NotifyStore
from headwater_cloud.notify_thread import Stepped
from headwater_cloud.outputs import as_repeat
from headwater_cloud.sending import Message, RefusedBySome, Send
from headwater_shared import tracing
from headwater_shared.clock import Clock, wall_of
from headwater_shared.errors import HeadwaterError, Refused
from headwater_shared.logs import get_logger
from headwater_shared.trace import trace_of

log = get_logger()


Delivered = Callable[[str, int, int, str], None]
"""Takes a route's name, since when there was something to tell and when it was told (the machine's wall time, in microseconds), and the
`traceparent`, if there is one."""


class Moment(NamedTuple):
    """What the clock shows, and real time: microseconds."""

    shown_us: int
    real_us: int


def moment(clock: Clock) -> Moment:
    """Look at the clock."""
    shown_us = clock.now().wall_us
    return Moment(shown_us, wall_of(clock, shown_us))


class Route(Stepped):
    """One route, on a store that it shares with others.

    Args:
        chance: between 0 and 1, for waits that do not all end at once.
        broke: is called when the file of the courier must be opened again.
    """

    def __init__(
        self, rules: Rules, send: Send, store: NotifyStore, clock: Clock, zones: Zones,
        chance: Callable[[], float] = random.random, broke: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        super().__init__(f"notify {rules.name}", lambda: moment(clock).real_us, broke)
        self.rules = rules
        self.sent = self.failed = 0
        """Notifications, and tries, of this process."""
        self.failing_since_us = 0
        self._send, self._store, self._clock, self._zones = send, store, clock, zones
        self._chance = chance
        self.delivered: Delivered = lambda _route, _began_us, _now_us, _trace: None
        self._failures = 0
        self._not_before_us = 0
        self._result: Callable[[], None] | None = None
        self._sending = threading.Lock()

    def step(self) -> int | None:
        """Send what is to be sent now. Returns when to look again, in real microseconds; None: when there is news; 0: at once.

        Raises:
            TryAgain, StartAgain, StateError: the file of the courier does not take it.
        """
        shown_us, now_us = moment(self._clock)
        if self._result is not None:
            self._result()
            self._result = None
        if now_us < self._not_before_us <= now_us + round(2e6 * self.rules.retry_most_s):
            return self._not_before_us
        formed = (
            self._store.formed(self.rules.name, now_us - self.rules.per_us)
            if self.rules.settings.most
            else []
        )
        found = self._next(formed, shown_us, now_us)
        if not found.some:
            return found.again_us
        letter = self._store.sending(self.rules.name, found.some, now_us)
        began_us = tracing.begun()
        said = [one.notification for one in found.some]
        try:
            with self._sending:
                self._send.send(message_of(self.rules.name, letter, found.some))
        except Refused as error:
            self.failed += 1
            log.error("a notification was refused", route=self.rules.name, **_about(found.some), error=error)
            traced.sent(self.rules.name, said, began_us, error.message)
            self._record(
                partial(
                    self._store.refused,
                    self.rules.name,
                    letter,
                    error.message,
                    moment(self._clock).real_us,
                    by_some=isinstance(error, RefusedBySome),
                )
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again, and others wait behind it
            self._fail(letter, found.some, error)
            traced.sent(self.rules.name, said, began_us, self.failing)
        else:
            traced.sent(self.rules.name, said, began_us)
            self._record(partial(self._store.sent, self.rules.name, letter, moment(self._clock).real_us))
            self.sent += len(found.some)
            self._measure(found.some)
            if self.failing:
                log.info("notifications are delivered again", route=self.rules.name)
            self.failing, self._failures = "", 0
        return 0

    def _next(self, formed: Sequence[int], shown_us: int, now_us: int) -> Next:
        """Choose from what waits, a look at a time: behind thousands that quiet hours hold there may be what they do not."""
        name, after = self.rules.name, -1
        while True:
            waiting = self._store.waiting(name, after)
            found = next_message(self.rules, waiting, formed, shown_us, now_us, self._zones)
            if found.held and len(waiting) == MANY:
                after = waiting[-1].n
                continue
            if not found.some and after >= 0:
                return found._replace(again_us=min(found.again_us or now_us + LOOK_US, now_us + LOOK_US))
            if found.some and found.some[0].letter is not None:  # as it was, though a look may end inside it
                return found._replace(some=tuple(self._store.waiting(name, letter=found.some[0].letter)))
            return found

    def _measure(self, some: Sequence[Waiting]) -> None:
        """Tell how long first messages took, of what is not known to have been tried before."""
        now_us = moment(self._clock).real_us
        for one in some:
            told = one.notification
            if told.state == "firing" and not (told.possible_repeat or told.over or one.repeat):
                self.delivered(self.rules.name, wall_of(self._clock, told.time_us), now_us, told.trace)

    def try_out(self, message: Message) -> str:
        """Send a message beside all that waits, once. Returns why it was not delivered, "" if it was."""
        try:
            with self._sending:
                self._send.send(message)
        except HeadwaterError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a person reads it
            return f"{type(error).__name__}: {error}"
        return ""

    def hurry(self) -> None:
        """Try again now, whatever failed."""
        self._not_before_us = 0
        self.wake()

    def status(self) -> dict[str, Any]:
        """What a person sees of it."""
        return {
            "to": self.rules.settings.to, "sent": self.sent, "failed": self.failed, "failing": self.failing,
            "failing_since_us": self.failing_since_us if self.failing else 0,
        }  # fmt: skip

    def _fail(self, letter: int, some: tuple[Waiting, ...], error: Exception) -> None:
        self.failed += 1
        self._failures += 1
        why = getattr(error, "message", "") or f"{type(error).__name__}: {error}"
        longest_s = self.rules.retry_most_s
        wait_s = min(self.rules.retry_s * 2.0 ** min(self._failures - 1, 30), longest_s) * (
            0.5 + 0.5 * self._chance()
        )
        wait_s = max(wait_s, min(getattr(error, "after_s", 0.0), longest_s))
        now_us = moment(self._clock).real_us
        due_us = now_us + round(wait_s * 1e6)
        # What perhaps arrived before does so still: it goes again as it was, by the same id.
        certain = getattr(error, "certain", False) and some[0].letter is None
        self._not_before_us = due_us
        self._record(
            partial(self._store.failed, self.rules.name, letter, why, now_us, due_us, certain=certain)
        )
        if not self.failing:
            self.failing_since_us = now_us
            log.warning(
                "a notification cannot be delivered; it is kept and tried again", route=self.rules.name, **_about(some), why=why,
                hint=getattr(error, "hint", ""),
            )  # fmt: skip
        self.failing = why

    def _record(self, result: Callable[[], None]) -> None:
        """Note what became of a message. If the file does not take it now, it is noted before anything else is sent (R11)."""
        self._result = result
        result()
        self._result = None


def message_of(route: str, letter: int, some: tuple[Waiting, ...]) -> Message:
    """The message that some deliveries go out in: each as it is, marked if it may have gone out before."""
    said = tuple(as_repeat(one.notification) if one.repeat else one.notification for one in some)
    return Message(said[0].id if len(said) == 1 else f"{route}/{letter}", said)


def _about(some: tuple[Waiting, ...]) -> dict[str, list[str]]:
    """Ids and traces of the first of some messages, for the log."""
    few = [one.notification for one in some[:5]]
    return {"ids": [one.id for one in few], "traces": [trace_of(one.trace) for one in few if one.trace]}

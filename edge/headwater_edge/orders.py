"""Orders from the cloud side, as the step knows them: how far they were read, which ids were taken, which are refused (R14)."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from headwater_edge.commands import Command
from headwater_edge.events import Order, OrdersRead
from headwater_shared.clock import SYNCHRONISED, Now

if TYPE_CHECKING:
    from headwater_edge.state import State

MOST_KNOWN = 10_000
"""Ids that are remembered; while there are so many, orders are refused."""
_AHEAD_US = 3_600_000_000
"""So far ahead of ours the sender's clock may be."""
_RETRY_US = 5_000_000
"""After which a device that is there and does not answer hears its command again."""


class Taken(NamedTuple):
    """How far orders were read: on which bus, up to which offset, and the `ce_id` of the record before it."""

    bus: str
    offset: int
    last: str


class Orders:
    """Where reading is, and the ids of all orders that were taken, whatever became of them.

    They are kept for their time to live and the dedupe horizon: a bus that was replaced, restored or made anew is read from its
    beginning, and what has left memory by then is over.
    """

    def __init__(self) -> None:
        self.taken = Taken("", 0, "")
        self.known: dict[str, tuple[int, int]] = {}
        """By id, the `age_us` and the wall time that must both have passed before it is forgotten."""
        self.repeated = 0
        """Orders that were there already."""

    def take(
        self, event: OrdersRead, open_ids: Container[str], now: Now, age_us: int, horizon_us: int
    ) -> list[Order]:
        """Take up what was read; return the orders that are new."""
        self.taken = Taken(event.bus, event.offset, event.last)
        for one, (age, wall) in list(self.known.items()):
            if age <= age_us and wall <= now.wall_us:
                del self.known[one]
        fresh = []
        for order in event.orders:
            if order.id in self.known or order.id in open_ids:
                self.repeated += 1
                continue
            if len(self.known) < MOST_KNOWN:
                kept_us = order.ttl_us + horizon_us
                self.known[order.id] = (age_us + kept_us, order.time_us + kept_us)
            fresh.append(order)
        return fresh

    def dump(self) -> dict[str, Any]:
        return {"taken": list(self.taken), "known": dict(self.known), "repeated": self.repeated}

    def load(self, dumped: dict[str, Any]) -> None:
        """Take up what a snapshot has; one of before there were orders has nothing."""
        if dumped:
            self.taken = Taken(*dumped["taken"])
            self.known = msgspec.convert(dumped["known"], dict[str, tuple[int, int]])
            self.repeated = dumped["repeated"]


def topic_of(device: str) -> str:
    """Return where a device (site/device) hears its orders."""
    return f"hw/{device}/cmd"


def command_of(order: Order) -> Command:
    """Make the command that an order is for: of no act, no anomaly and no series, with who asked in the place of the rule."""
    said = {"name": order.name, "arguments": msgspec.json.decode(order.arguments)}
    return Command(
        order.id, "", order.who, "", order.device, order.device, topic_of(order.device), msgspec.json.encode(said).decode(),
        "", "", "", order.time_us, order.ttl_us, _RETRY_US,
    )  # fmt: skip


def refusal(state: State, order: Order, now: Now) -> str:
    """Return why an order is not carried out, "" if it is."""
    if order.fault:
        return order.fault
    if order.id not in state.orders.known:
        return f"{MOST_KNOWN} orders are remembered, and no more can be"
    if now.quality == SYNCHRONISED and order.time_us > now.wall_us + _AHEAD_US:
        return "it was issued more than an hour ahead of the agent's clock: set the sender's"
    return "" if _serves(state, order.device) else "this agent knows no such device"


def _serves(state: State, device: str) -> bool:
    """Whether the agent has heard a device, has a session that wants its commands, or an act that commands it."""
    return (
        device in state.device_numbers
        or state.sessions.wants(topic_of(device))
        or any(act.device == device for act in state.settings.acts)
    )

"""Ordering a command for a device: which agent serves it, the record on the bus, and what becomes of it (R14)."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from headwater_cloud.history import History
from headwater_cloud.views import CommandView
from headwater_shared.bus import Bus
from headwater_shared.clock import Clock
from headwater_shared.errors import BusUnavailable, Refused, TryAgain
from headwater_shared.orders import fault, is_named, record_of
from headwater_shared.records import Order, decode
from headwater_shared.topics import COMMANDS

SOURCE = "headwater-cloud/command"
_LOOK_S = 0.2
_PAGE = 1_000
_GRACE_S = 30.0
"""For which is waited for the report of an end, after the order's time to live."""


def agent_of(history: History, device: str) -> str:
    """Return the agent that serves a device.

    Raises:
        Refused: nobody, or nobody in particular, is known to serve it.
    """
    agents = history.agents_of(device)
    if len(agents) == 1:
        return agents[0]
    why = (
        f"several agents may serve it: {', '.join(agents)}" if agents else "no agent is known that serves it"
    )
    raise Refused(f"{device}: {why}", hint="name the agent with --agent (its edge.name)")


def check(order: Order) -> None:
    """See that an order can be one.

    Raises:
        Refused: it cannot, with what to change.
    """
    if not is_named(order.id, order.device):
        raise Refused(
            f"{order.device!r} is no device, or {order.id!r} no id",
            hint="a device is SITE/DEVICE, an id 1 to 64 printable characters of ASCII",
        )
    if why := fault(order.name, order.arguments, order.ttl_us):
        raise Refused(
            f"{order.name!r} cannot be ordered: {why}", hint="""--arguments '{"valve": 2}' --ttl 10m"""
        )


def send(bus: Bus, order: Order) -> None:
    """Put an order on the bus.

    Raises:
        BusUnavailable: it may be there or not; the same id may be sent again.
    """
    try:
        bus.append([record_of(order, SOURCE)])
    except BusUnavailable as error:
        raise BusUnavailable(
            f"it may have been ordered or not: {error.message}",
            hint=f"order it again with --id {order.id}: the same id is the same command",
        ) from error


def unheard(bus: Bus, history: History) -> list[Order]:
    """Return the orders on the bus of which no agent has said anything, each once, the newest first."""
    found: dict[str, Order] = {}
    at = dict.fromkeys(range(COMMANDS.partitions), 0)
    while stored := bus.read(COMMANDS.name, at, _PAGE):
        for one in stored:
            at[one.partition] = one.offset + 1
            with suppress(ValueError):  # of a newer version, or none
                order = decode(Order, one.body)
                found.setdefault(order.id, order)
    left = [order for order in found.values() if history.command(order.id) is None]
    return sorted(left, key=lambda order: -order.time_us)


def end_of(
    history: History, order: Order, clock: Clock, sleep: Callable[[float], None] = time.sleep
) -> CommandView:
    """Wait for the end of an order: done, refused or expired.

    Raises:
        TryAgain: its time to live is over, and nothing was said of its end.
    """
    over_s: float | None = None
    while True:
        found = history.command(order.id)
        if found is not None and found.status != "open":
            return found
        now_s = time.monotonic()
        if over_s is None and clock.now().wall_us > order.time_us + order.ttl_us:
            over_s = now_s
        if over_s is not None and now_s - over_s > _GRACE_S:
            raise TryAgain(
                f"{order.id}: its time to live is over, and agent {order.agent} has not said what became of it",
                hint=f"is {order.agent} running, and its bus up? it reports the end when it is back: headwater-cloud commands",
            )
        sleep(_LOOK_S)

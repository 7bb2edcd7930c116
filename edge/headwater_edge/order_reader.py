"""Reads orders from `hw-commands` for one agent, beside what the cloud has, on the forwarder's thread (R14).

What was read becomes an event of a tick, with the offset behind it: once that is on disk, reading goes on from there, in this
process or the next. Until then nothing more is handed over, so that nothing is passed over and memory is bounded.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headwater_edge.events import Order, OrdersRead
from headwater_edge.orders import Taken
from headwater_shared import records
from headwater_shared.bus import Bus, Stored
from headwater_shared.crash import reached
from headwater_shared.errors import BusReplaced, BusUnavailable
from headwater_shared.identity import agent_partition
from headwater_shared.logs import get_logger
from headwater_shared.orders import LONGEST_US, NAME, fault, is_named
from headwater_shared.topics import COMMANDS

log = get_logger()

_LOOK_S, _AGAIN_S = 1.0, 60.0
"""Between two looks; and after one that failed alone: the topic may not have been made yet, or not be ours to read."""
_AT_ONCE = 64


class OrderReader:
    """Where reading is; all on the forwarder's thread.

    Args:
        taken: returns how far orders are on disk.
        deliver: takes what was read to the next tick.
    """

    def __init__(self, agent: str, taken: Callable[[], Taken], deliver: Callable[[OrdersRead], None]) -> None:
        self._agent = agent
        self._taken = taken
        self._deliver = deliver
        self._given: Taken | None = None
        self._offset = 0
        self._doubted = True
        self._look_at = 0.0
        self._complaint = ""

    def doubt(self) -> None:
        """The bus was away: it may be another one, or the topic may have been made anew, and be as long as before."""
        self._doubted = True

    def look(self, bus: Bus, identity: str, now_s: float) -> None:
        """Read on, at most once a second, if what was read before is on disk.

        Args:
            identity: which bus it is.
            now_s: monotonic.

        Raises:
            BusReplaced: it is another one.
        """
        if now_s < self._look_at or self._given not in (None, self._taken()):
            return
        self._look_at = now_s + _LOOK_S
        try:
            self._read_on(bus, identity)
        except BusReplaced:
            raise
        except BusUnavailable as error:
            self._look_at = now_s + _AGAIN_S
            if error.message != self._complaint:  # once a trouble: it may last until somebody makes the topic
                log.warning("orders cannot be read; all else goes on", topic=COMMANDS.name, error=str(error))
            self._complaint = error.message

    def _read_on(self, bus: Bus, identity: str) -> None:
        partition = agent_partition(self._agent, COMMANDS.partitions)
        end = bus.ends(COMMANDS.name).get(partition, 0)
        if self._doubted or end < self._offset:
            self._offset, self._doubted = self._begin(bus, identity, partition, end), False
        while self._offset < end:
            stored = bus.read(COMMANDS.name, {partition: self._offset}, _AT_ONCE)
            if not stored:
                return
            orders = [order for order in map(self._order_in, stored) if order is not None]
            self._offset = stored[-1].offset + 1
            if orders:
                reached("orders.read")
                last = stored[-1].headers.get("ce_id", "")
                self._given = Taken(identity, self._offset, last)
                self._deliver(OrdersRead(identity, self._offset, last, orders))
                return

    def _begin(self, bus: Bus, identity: str, partition: int, end: int) -> int:
        """Return where reading goes on: where it ended, if the record before is the one that was there then."""
        known, offset, last = self._taken()
        if known != identity or not 0 < offset <= end:
            return 0
        before = bus.read(COMMANDS.name, {partition: offset - 1}, 1)
        return offset if before and before[0].headers.get("ce_id", "") == last else 0

    def _order_in(self, stored: Stored) -> Order | None:
        """Read a record; None if it is not for this agent, or names no order that anyone could be told of."""
        headers = stored.headers
        if stored.key != self._agent or records.kind_of(headers) != records.ORDER:
            return None
        try:
            order = _checked(records.decode(records.Order, stored.body))
        except ValueError as error:  # of a newer version, perhaps
            named = str(headers.get("ce_id", "")), str(headers.get("ce_subject", ""))
            order = Order(*named, "", "{}", 0, stored.time_us, "", f"it cannot be read here: {error}"[:200])
        if is_named(order.id, order.device):
            return order
        log.warning("an order is none: it has no id, or no device", offset=stored.offset, id=order.id[:64])
        return None


def _checked(said: records.Order) -> Order:
    order = Order(said.id, said.device, said.name, said.arguments, said.ttl_us, said.time_us, said.who[:NAME])
    if why := fault(said.name, said.arguments, said.ttl_us):
        plain = {"name": said.name[:NAME], "arguments": "{}", "ttl_us": min(max(said.ttl_us, 0), LONGEST_US)}
        return msgspec.structs.replace(order, **plain, fault=why)
    return order

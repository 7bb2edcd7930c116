"""Orders from the cloud side on their way into a tick: a source like any other, whose acknowledgement lets reading go on (R14)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from headwater_edge.events import OrdersRead
from headwater_edge.order_reader import OrderReader
from headwater_edge.orders import Orders, Taken
from headwater_edge.source import Burst, WithoutClients
from headwater_shared.clock import Clock


class OrderSource(WithoutClients):
    """A `Source` that brings what the forwarder has read: one burst at most, for that waits for its commit.

    Args:
        orders: the state's; looked at only between a commit and the next step.
    """

    def __init__(self, orders: Orders, clock: Clock, deliver: Callable[[Burst], None]) -> None:
        self._orders = orders
        self._clock = clock
        self._deliver = deliver
        self._taken = orders.taken

    def taken(self) -> Taken:
        """Return how far orders are on disk; safe from any thread."""
        return self._taken

    def reader(self, agent: str, take: Callable[[OrdersRead], None]) -> OrderReader:
        """Make what reads for an agent; `take` is ours, called from the forwarder's thread."""
        return OrderReader(agent, self.taken, take)

    def take(self, read: OrdersRead) -> None:
        """Bring what was read to the next tick."""
        self._deliver(Burst(self._clock.now().wall_us, events=[(0, read)]))

    def acknowledge(self, bursts: Sequence[Burst], sessions: Mapping[int, bool]) -> None:
        """They are on disk."""
        self._taken = self._orders.taken

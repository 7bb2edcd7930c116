"""The server that the devices speak to, how they speak to it, and how long they wait before they call again."""

from __future__ import annotations

import random

import msgspec

from headwater_firmware_sim.packets import V311

SHORTEST_S, LONGEST_S = 0.05, 1.0
"""Of a wait before the next try to connect: short, for the fleet lives on a loopback or in a lab."""
STABLE_S = 2.0
"""A connection that held so long makes the next wait a short one again."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """An MQTT server: Headwater's agent, or any broker."""

    host: str = "127.0.0.1"
    port: int = 1883
    version: int = V311
    """Protocol level: `packets.V311` or `packets.V5`."""
    user: str = ""
    password: str = ""
    qos: int = 1
    """1 or 2: at which devices publish."""
    in_flight: int = 20
    """Messages that a device sends before the first of them is acknowledged; at QoS 2, complete."""
    keep_alive_s: int = 30


class Waits:
    """Waits between tries to connect: capped, with decorrelated jitter (Brooker: Exponential Backoff And Jitter, 2015)."""

    def __init__(self) -> None:
        self._last = SHORTEST_S

    def next(self) -> float:
        """Return how many seconds to wait now."""
        self._last = min(LONGEST_S, random.uniform(SHORTEST_S, 3 * self._last))
        return self._last

    def held(self, seconds: float) -> None:
        """Take note of a connection that is over."""
        if seconds >= STABLE_S:
            self._last = SHORTEST_S

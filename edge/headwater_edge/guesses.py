"""Wrong passwords at speed: who guesses waits, longer with each guess; a bounded memory of who does."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Hashable

_LONGEST_S = 60.0
_FORGOTTEN_S = 600.0
"""After so long without a wrong guess one begins anew."""
_REMEMBERED = 10_000
"""Who is remembered; whoever was seen longest ago is forgotten for another."""


class Guesses:
    """Counts wrong guesses by key; after `free` of them each makes the key wait: 1 s, 2 s, 4 s, up to a minute."""

    def __init__(self, free: int, monotonic: Callable[[], float]) -> None:
        self._free = free
        self._monotonic = monotonic
        self._by_key: OrderedDict[Hashable, tuple[int, float, float]] = OrderedDict()
        """(wrong guesses, when the last was made, when the next one will be looked at)"""

    def __len__(self) -> int:
        return len(self._by_key)

    def wait_s(self, key: Hashable) -> float:
        """Return how many seconds from now the key's next guess will be looked at; 0: now."""
        found = self._by_key.get(key)
        return max(0.0, found[2] - self._monotonic()) if found else 0.0

    def wrong(self, key: Hashable) -> None:
        """Take note of a wrong guess."""
        now = self._monotonic()
        count, last, _ = self._by_key.pop(key, (0, now, now))
        count = 1 if now - last > _FORGOTTEN_S else count + 1
        over = count - self._free
        wait = min(_LONGEST_S, 2.0 ** min(over - 1, 10)) if over > 0 else 0.0
        self._by_key[key] = (count, now, now + wait)
        if len(self._by_key) > _REMEMBERED:
            self._by_key.popitem(last=False)


def network(host: str) -> str:
    """Return what guesses are counted by: an IPv4 address, or the /64 of an IPv6 one, of which anyone has all."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))

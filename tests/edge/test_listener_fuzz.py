"""The listener against packets that are wrong in every way (acceptance 4 of the issue): it neither falls nor lies nor grows."""

from __future__ import annotations

import gc
import os
import random
from pathlib import Path

import pytest

from headwater_edge.connection import Connection
from tests.edge.packet_fuzz import Fuzz


def _check(seed: int, packets: int) -> Fuzz:
    """Run the fuzzer: no exception, no wrong answer, and nothing is left of it."""
    gc.collect()
    before = _open_files()
    fuzz = Fuzz(seed)
    fuzz.run(packets)
    sockets = fuzz.listener._sockets
    assert len(sockets) == 0
    assert (sockets._exchange.by_number, sockets._exchange.by_client) == ({}, {})
    sessions = fuzz.state.sessions
    assert (sessions.clients, sessions.numbers, sessions.wills.live) == ({}, {}, {})
    assert len(sessions.by_client) <= 20 + fuzz.connections // 5
    known = sockets._exchange.known
    assert len(known.topics) <= 32_768
    assert len(known.blocks) <= 4_096
    sockets._epoll.close()
    fuzz._clients.clear()
    gc.collect()
    assert [one for one in gc.get_objects() if isinstance(one, Connection)] == []
    assert _open_files() == before
    return fuzz


def test_twenty_thousand_packets() -> None:
    """No crash, no leak, no acknowledgement of what was not sent or is not committed; and most of it is not turned away
    at the door: sessions, acknowledgements, bad packets of many kinds.
    """
    fuzz = _check(1, 20_000)
    counts = fuzz.listener.counts
    assert fuzz.acknowledged > 5_000
    assert len(counts.malformed) > 15
    assert counts.ended["taken-over"] > 50
    assert counts.dropped > 10
    assert fuzz.state.counters.by_transport > 100


@pytest.mark.fault
@pytest.mark.parametrize("part", range(10))
def test_a_million_packets(part: int) -> None:
    """The same in ten parts, with a seed that is new each time (and named where it fails); memory does not grow."""
    seed = random.SystemRandom().randrange(2**32)
    try:
        _check(seed, 50_000)
        begun = _memory()
        _check(seed + 1, 50_000)
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
    assert _memory() < begun + 20_000_000


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _memory() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

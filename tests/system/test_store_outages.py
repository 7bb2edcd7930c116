"""Stores that are killed, frozen, full, slow or refuse, under a whole box: nothing is lost, people are told meanwhile, and the store catches up (R28)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGSTOP

from headwater_appliance.stack_servers import Influx
from tests.fault.recorded import Recorded
from tests.influx_v2 import ORG, TOKEN, Fault, Store, listening
from tests.stack import Running, make, running
from tests.system import stored
from tests.system.box import Box
from tests.system.stored import Away, Told

OK = 204
MINUTES_S = 300.0
QUICK = 'timeout = "3s"\n'
"""How long the sink waits for an answer: not so long that a frozen store makes a test long, and long enough for a busy machine."""
PATIENT = 'timeout = "5s"\n'
"""The stand-in reads line protocol in Python, and strictly."""


def nothing() -> None:
    """The store is well."""


def well(told: Told, seconds: float) -> None:
    """What must be so after every outage, whatever the store has."""
    assert max(told.notified_s) < 10, "alerts do not wait for the store"
    assert told.behind > 0, "the store was away"
    assert told.took_s < seconds / stored.RATE + 60, "the sink looks for the store each minute at least"


def over(told: Told, seconds: float, fault: str, times: int, recorded: Recorded) -> None:
    """See that all is well, by the audit of the store, too."""
    well(told, seconds)
    found = recorded(fault, times, stored.audit_store(told.here, told.ledger))
    assert found.good
    assert found.counted > 0


@contextmanager
def on_influx(folder: Path, more: str = QUICK) -> Iterator[tuple[Box, Running[Influx]]]:
    """A box that writes into a real InfluxDB."""
    server = make(Influx, folder / "influx")
    here = Box(folder / "box")
    stored.settings(here, server.url, more)
    with running(server) as store, stored.running(here):
        yield here, store


def test_r28_a_store_that_is_frozen_and_then_killed(tmp_path: Path, recorded: Recorded) -> None:
    """It hangs in the middle of a write, answers again, dies, and is there again: it has every window once, and people were told in
    seconds.
    """
    with on_influx(tmp_path) as (here, store):
        ways = [
            Away(lambda: store.signal(SIGSTOP), lambda: store.signal(SIGCONT)),
            Away(store.kill, store.start),
        ]
        told = stored.through(here, ways, MINUTES_S)
        over(told, MINUTES_S, "store frozen and killed", 2, recorded)


@contextmanager
def on_stand_in(folder: Path, version: str, more: str = PATIENT) -> Iterator[tuple[Box, Store]]:
    """A box that writes by the v2 API, into the stand-in, which passes on what it takes to a real InfluxDB."""
    server = make(Influx, folder / "influx")
    here = Box(folder / "box")
    with running(server), listening(Store("3" if version == "3" else "2", behind=server)) as store:
        stored.settings(here, store.url, stored.token(folder, TOKEN, ORG) + more)
        with stored.running(here):
            yield here, store


def refusing(store: Store, *faults: Fault) -> Away:
    """A store that answers so, one after the other and from the beginning again, until it is well."""
    before = 0

    def away() -> None:
        nonlocal before
        before = len(store.statuses())
        store.standing = faults[0]
        store.faults.extend(faults * 50)

    def back() -> None:
        store.faults.clear()
        store.standing = None

    def met() -> bool:
        return any(status != OK for status in store.statuses()[before:])

    return Away(away, back, met)


def test_r28_a_store_that_refuses_and_cuts(tmp_path: Path, recorded: Recorded) -> None:
    """401, then 429, 503 and 500, then lines that are cut before and after it took the points: each point is there once in the end, and
    no two writes were under way at one time.
    """
    with on_stand_in(tmp_path, "2") as (here, store):
        ways = [
            refusing(store, Fault(401)),
            refusing(store, Fault(429, retry_after="1"), Fault(503, retry_after="1"), Fault(500)),
            refusing(store, Fault(cut="before"), Fault(cut="after")),
        ]
        told = stored.through(here, ways, MINUTES_S)
        over(told, MINUTES_S, "store that refuses and cuts", len(store.statuses()), recorded)
        assert {401, 0, 204} <= set(store.statuses())
        assert store.at_once == 1

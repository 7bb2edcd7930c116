"""An hour of event time with a store that is away in each of the ways: killed, frozen, full, slow, refusing (R28)."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from headwater_appliance.stack_servers import Influx
from headwater_cloud.influx_file import FILE, dead_letters
from tests.fault.recorded import Recorded
from tests.fault.small_disks import Filler, tmpfs
from tests.influx_v2 import Fault
from tests.stack import Running, make, running
from tests.support import until
from tests.system import stored
from tests.system.box import Box
from tests.system.stored import HOUR_S, Away
from tests.system.test_store_outages import QUICK, on_influx, on_stand_in, over, refusing, well
from tests.throttle import throttle

REFUSED = {"device": "pump-003", "metric": "flow", "level": "1m"}
REFUSALS = {
    "401": [Fault(401)],
    "404": [Fault(404)],
    "429": [Fault(429, retry_after="1")],
    "503": [Fault(503, retry_after="2"), Fault(503)],
    "500": [Fault(500)],
    "cut-before": [Fault(cut="before")],
    "cut-after": [Fault(cut="after")],
}
pytestmark = pytest.mark.fault


@pytest.mark.parametrize(
    ("way", "of"),
    [
        ("killed", lambda store: Away(store.kill, store.start)),
        ("frozen", lambda store: Away(lambda: store.signal(SIGSTOP), lambda: store.signal(SIGCONT))),
        ("ended", lambda store: Away(store.end, store.start)),
    ],
    ids=["killed", "frozen", "ended"],
)
def test_r28_an_hour_without_the_store(
    tmp_path: Path, way: str, of: Callable[[Running[Influx]], Away], recorded: Recorded
) -> None:
    """InfluxDB is killed, frozen or ended in the middle of writes, comes back, and goes again for the rest of the hour."""
    with on_influx(tmp_path) as (here, store):
        told = stored.through(here, [of(store)] * 4)
        over(told, HOUR_S, f"store {way}", 4, recorded)


def test_r28_an_hour_with_a_full_store(tmp_path: Path, recorded: Recorded) -> None:
    """Others fill InfluxDB's disk to the last byte: it refuses what it cannot keep, and the sink holds it. Once there is space a person
    starts InfluxDB again, for 1.6 goes on refusing until then, and it gets all.
    """
    with tmpfs(tmp_path / "disk", 96):
        server = make(Influx, tmp_path / "disk" / "influx")
        here = Box(tmp_path / "box")
        stored.settings(here, server.url, QUICK)
        filler = Filler(tmp_path / "disk")
        with running(server) as store, stored.running(here):

            def fill() -> None:
                filler.fill()

            def mend() -> None:
                assert "no space left" in store_said(here)
                filler.free()
                store.end()
                store.start()

            told = stored.through(here, [Away(fill, mend)])
            over(told, HOUR_S, "store full", 1, recorded)


def store_said(here: Box) -> str:
    """What the sink's health complains of."""
    place = json.loads((here.data / "sink.json").read_bytes())
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{place['health']}/health", timeout=10) as answer:
            return str(answer.read())
    except urllib.error.HTTPError as error:
        return str(error.read())


def test_r28_an_hour_with_a_slow_store(tmp_path: Path, recorded: Recorded) -> None:
    """The line to it carries 20 KB a second for an hour of event time: batches become smaller, nothing is written in two ways."""
    server = make(Influx, tmp_path / "influx")
    here = Box(tmp_path / "box")
    with running(server), throttle(server.port, 10**8) as line:

        def slow() -> None:
            line.rate = 20_000

        def quick() -> None:
            line.rate = 10**8

        stored.settings(here, line.url, QUICK)
        with stored.running(here):
            told = stored.through(here, [Away(slow, quick)])
            over(told, HOUR_S, "store slow", 1, recorded)


@pytest.mark.parametrize("name", REFUSALS)
def test_r28_an_hour_of_refusals(tmp_path: Path, name: str, recorded: Recorded) -> None:
    """All of them for an hour of event time."""
    with on_stand_in(tmp_path, "2") as (here, store):
        told = stored.through(here, [refusing(store, *REFUSALS[name])])
        over(told, HOUR_S, f"store answers {name}", len(store.statuses()), recorded)
        assert store.at_once == 1


def test_r28_an_hour_of_bodies_that_are_too_large(tmp_path: Path, recorded: Recorded) -> None:
    """413 for more than 150 lines: they go in smaller pieces, and nothing waits."""
    with on_stand_in(tmp_path, "2") as (here, store):
        store.most_lines = 150
        told = stored.through(here, [refusing(store, Fault(503))])
        over(told, HOUR_S, "store answers 413", store.statuses().count(413), recorded)
        assert 413 in store.statuses()


@pytest.mark.parametrize("version", ["2", "3"])
def test_r28_an_hour_with_points_that_the_store_will_not_have(
    tmp_path: Path, version: str, recorded: Recorded
) -> None:
    """Version 2 refuses their batches whole, version 3 writes the rest: these points, and no others, are dead letters; `sink retry`
    writes them once the store takes them.
    """
    with on_stand_in(tmp_path, version) as (here, store):
        store.refuses = lambda point: (
            "the test will not have it" if dict(point.tags).items() >= REFUSED.items() else ""
        )
        told = stored.through(here, [refusing(store, Fault(503))])
        well(told, HOUR_S)
        letters = dead_letters(here.data / FILE)
        assert len(letters) == HOUR_S / 60
        assert all(b"device=pump-003,level=1m,metric=flow" in one.line for one in letters)
        shown = here.run("headwater-cloud", "sink", "list")
        assert shown.count("the test will not have it") == len(letters)
        said = here.run("headwater", "audit", str(told.ledger), "--store", expected=1).splitlines()
        assert all("pump-003/flow 1m" in line for line in said[:20])
        store.refuses = lambda _: ""
        here.run("headwater-cloud", "sink", "retry")
        until(lambda: not dead_letters(here.data / FILE), 60, "all are written")
        recorded(f"points that version {version} refuses", 1, stored.audit_store(here, told.ledger))

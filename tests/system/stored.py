"""A box whose store comes and goes: agent, cloud side and sink run on, people are told, and the store has all of it in the end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import NamedTuple

from headwater_cloud import changes
from headwater_cloud.influx_file import FILE, followed
from headwater_firmware_sim import pipeline as fleet_pipeline
from headwater_shared.sqlite_file import read_only
from tests.fault.recorded import Audited, audited
from tests.support import until
from tests.system import kills, outage
from tests.system.box import CLOUD, EDGE, Box
from tests.system.load import Load, load
from tests.system.test_up import up

SINK = "sink"
PUMPS = Path(fleet_pipeline.__file__).parent / "scenarios" / "pumps.toml"
HOUR_S = 3600.0
DEVICES = ("--devices", "8", "--in-flight", "16")
INFLUX = '[cloud.influx]\nhealth_port = 0\nurl = "{url}"\n{more}'
RATE = 20.0
"""How many times real time the sink must catch up with."""


class Away(NamedTuple):
    """How a store goes away, and comes back."""

    away: Callable[[], None]
    back: Callable[[], None]
    met: Callable[[], bool] = lambda: True
    """Whether the sink has come upon it."""


@dataclass
class Told:
    """What a run came to."""

    here: Box
    ledger: Path
    notified_s: list[float] = field(default_factory=list)
    """How long the notification of each alert took that came while the store was away."""
    behind: int = 0
    """Changes that the store did not have when it came back."""
    took_s: float = 0.0
    """From when the store was back until it had all."""


def settings(here: Box, url: str, more: str = "") -> None:
    """Have the box write into a store."""
    with here.settings.open("a") as file:
        file.write(INFLUX.format(url=url, more=more))


def token(folder: Path, word: str, org: str) -> str:
    """Write a token into a file; return the settings of InfluxDB 2 and 3."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "token").write_text(word)
    return f'api = "2"\norg = "{org}"\ntoken = "file:{folder}/token"\n'


@contextmanager
def running(here: Box) -> Iterator[None]:
    """Run agent, cloud side and sink, as `headwater up` does."""
    with up(here, parts=(EDGE, CLOUD, SINK)):
        yield


def scenario(folder: Path) -> Path:
    """Write the pumps as they are, but that all send as many messages."""
    path = folder / "pumps.toml"
    path.write_text(PUMPS.read_text().replace("{ multi = 9, single = 1 }", "{ multi = 1 }"))
    return path


@contextmanager
def fleet(here: Box, seconds: float, *options: str) -> Iterator[Load]:
    """Send event time of yesterday, as fast as it is acknowledged."""
    with load(here, seconds, "--scenario", str(scenario(here.folder)), *(options or DEVICES)) as made:
        yield made


def through(here: Box, store: Sequence[Away], seconds: float = HOUR_S, *options: str) -> Told:
    """Run event time while the store is away, in each of the ways in turn; then it is back, and has all.

    The fleet begins while the store is well. All windows of the box, which runs, are closed by then.
    """
    with fleet(here, seconds, *options) as load_:
        told = Told(here, load_.ledger)
        _goes_on(load_, _BETWEEN)
        with frozen(
            load_
        ):  # however slow the sink is, here and below, the fleet has most of its readings still to send
            until(lambda: (at := followed(here.data / FILE)) is not None and at.n > 0, 60, "the sink writes")
        for number, one in enumerate(store):
            assert load_.sending()
            one.away()
            if number < len(store) - 1:
                _goes_on(load_, _BETWEEN)
                with frozen(load_):
                    until(one.met, 60, "the sink is refused")
                one.back()
                _goes_on(load_, _BETWEEN)
        load_.finished(600)
    for number in range(2):
        told.notified_s.append(alarm(here, told.ledger, number))
    here.closed()
    told.behind = behind(here)
    began = time.monotonic()
    store[-1].back()
    until(lambda: behind(here) == 0, 300, "the store has all")
    told.took_s = time.monotonic() - began
    return told


_BETWEEN = 1_500
"""Records of the ledger."""


@contextmanager
def frozen(fleet_: Load) -> Iterator[None]:
    """Stop the fleet's process for the block."""
    fleet_.process.send_signal(SIGSTOP)
    try:
        yield
    finally:
        fleet_.process.send_signal(SIGCONT)


def _goes_on(fleet_: Load, records: int) -> None:
    before = fleet_.written()
    until(lambda: fleet_.written() >= before + records or not fleet_.sending(), 60, "the fleet goes on")


def alarm(here: Box, ledger: Path, number: int) -> float:
    """Break a limit; return how long it took until somebody was told, seconds."""
    began = outage.break_limit(here, ledger, number)
    path = here.data / "notifications.jsonl"
    device = f"alarm/alarm-{number}"

    def told() -> bool:
        lines = path.read_text().splitlines() if path.exists() else ()
        return any(device in json.dumps(json.loads(line)) for line in lines)

    until(told, 30, "the alert's notification")
    return time.monotonic() - began


def behind(here: Box) -> int:
    """Return how many rows of changes the store does not have yet; at least one while what was there before them is not all written."""
    at = followed(here.data / FILE)
    with closing(read_only(here.data / "cloud.db")) as reader:
        last, _ = changes.newest(reader)
    return last - at.n if at is not None and at.whole else max(1, last)


def audit_store(here: Box, ledger: Path) -> Audited:
    """Audit the store by the box's settings; all must be well."""
    said = here.run("headwater", "audit", str(ledger), "--store")
    assert kills.AUDITED.fullmatch(said.splitlines()[-1]), said[-2000:]
    return audited(said)

"""What people get of a run: the alerts that stand in the end, and what they were told; judged against a run that nothing disturbed."""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from headwater_cloud.rule_records import RULES
from headwater_edge import words
from headwater_shared.identity import SHARDS
from headwater_shared.records import kind_of
from headwater_shared.sqlite_file import read_only
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import IN
from tests.kafka import MadeTopics
from tests.support import until
from tests.system import kills
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.kafka_box import kafka_box
from tests.system.load import SCENARIO, Load, load
from tests.system.workers import WORKERS, offsets

DEVICES = 40
ORIGIN = (datetime.now(UTC) - timedelta(hours=4)).isoformat(timespec="seconds")
"""Of both runs: long before the status of devices, which is of now."""
PATTERNS = ("shakes-and-warm", "shakes-and-no-heat", "many-shake", "two-of-three")
COMPARED = "odd-flow"

_CHANGES = (
    (", bare = 1", ""),
    ("base = 76.0", "base = 79.4"),
    ("step = 0.2, bound = 6.0", "step = 0.05, bound = 1.0"),
    ("spread = 0.2", "spread = 0.02"),
)
"""To the scenario of the kills: no readings without a time, which are of the moment at which they arrive; and every device is warm, and shakes,
now and then.
"""
_LIMIT = """[[edge.limit]]
name = "shakes"
series = "*/vibration"
above = 2.42
clear = 2.3
"""
_RULES = """[[cloud.compare]]
name = "odd-flow"
metric = "flow"
level = "10s"
away = 2.0
least = 1.0
[[cloud.pattern]]
name = "shakes-and-warm"
within = "20s"
sequence = [{ anomaly = "shakes", series = "*/vibration" }, { anomaly = "too-hot" }]
severity = "critical"
[[cloud.pattern]]
name = "shakes-and-no-heat"
within = "6s"
sequence = [{ anomaly = "shakes" }, { anomaly = "too-hot", not = true }]
[[cloud.pattern]]
name = "many-shake"
per = "site"
within = "3s"
count = 3
of = { anomaly = "shakes" }
distinct = "device"
[[cloud.pattern]]
name = "two-of-three"
within = "20s"
all = [{ peer = "odd-flow" }, { anomaly = "too-hot" }]
"""

Alert = tuple[Any, ...]


class Line(NamedTuple):
    """One line of the file of notifications."""

    id: str
    incident: str
    """Which its alert is of in the end: one that was told of may have become part of another since. Empty: the alert does not stand."""
    said: str
    """Which it was of then."""
    repeat: bool


@dataclass
class Outcome:
    """What people have in the end."""

    alerts: set[Alert]
    """Those that stand: without withdrawn ones, and without those of silent agents, which depend on when a runner looked."""
    told: list[Line]
    to_tell: set[str]
    silent: set[str]
    """Incidents of alerts that are left out."""

    def of(self, rule: str) -> int:
        return sum(alert[1] == rule for alert in self.alerts)

    def incidents(self) -> set[str]:
        return {alert[-1] for alert in self.alerts}


def outcome(here: Box, seconds: float) -> Outcome:
    """Read it, while the cloud side runs or after; `seconds` of event time were sent.

    What begins in the last of them is left out, and of what ends there the end: whether it goes on is known only later, by when the runs have
    been over for different times.
    """
    cut_us = round((datetime.fromisoformat(ORIGIN).timestamp() + seconds - _UNDECIDED_S) * 1e6)
    with closing(read_only(here.data / "cloud.db")) as reader:
        try:
            rows = reader.execute(
                "SELECT id, rule, subject, state, severity, episode_us, fired_us, time_us, end_us, incident FROM alert"
                " WHERE state <> 'withdrawn'"
            ).fetchall()
            to_tell = {id_ for (id_,) in reader.execute("SELECT id FROM notification")}
        except sqlite3.OperationalError:  # it is being made
            rows, to_tell = [], set()
    path = here.data / "notifications.jsonl"
    lines = map(json.loads, path.read_bytes().splitlines()) if path.exists() else ()
    ends_in = {row[0]: row[-1] for row in rows}
    return Outcome(
        {_until(row, cut_us) for row in rows if row[1] != "agent-silent" and row[5] < cut_us},
        [
            Line(
                one["id"],
                ends_in.get(one["alert"], ""),
                one.get("incident", ""),
                one.get("possible_repeat", False),
            )
            for one in lines
        ],
        to_tell,
        {row[-1] for row in rows if row[1] == "agent-silent"},
    )


def _until(row: Alert, cut_us: int) -> Alert:
    """Return an alert as far as it is decided."""
    if row[8] is not None and row[8] < cut_us:
        return row
    return (*row[:3], "", row[4], *row[5:7], None, None, row[9])


_UNDECIDED_S = 60.0
"""So long before the end of what was sent all is decided: a finding may go on for 40 s after its window."""


@dataclass
class Killed:
    """A run with kills: how often each part died, and how often the fleet was still at it."""

    here: Box
    deaths: Counter[str] = field(default_factory=Counter)
    sending: int = 0
    found: Outcome = field(init=False)
    audit: tuple[int, int, int] = field(init=False)


@contextmanager
def _box(folder: Path, topics: MadeTopics | None) -> Iterator[Box]:
    if topics is None:
        with box(folder, edge=_LIMIT) as here:
            yield here
    else:
        with kafka_box(folder, topics, _LIMIT) as here:
            yield here


def run(
    folder: Path,
    seconds: float,
    *,
    times: int = 0,
    seed: int = 0,
    apart: tuple[int, int] = (300, 3_000),
    topics: MadeTopics | None = None,
    wanted: Callable[[], Killed] | None = None,
) -> Killed:
    """Run a box under load, its parts killed at random, and see it to its end.

    Args:
        folder: of the box.
        seconds: of event time that the fleet sends.
        times: how often each part is killed.
        seed: of the order of the kills, and of what is between them.
        apart: the ledger's records between two kills, least and most.
        topics: of a Kafka, on which two workers are the cloud side; None: the log in SQLite.
        wanted: gives the run whose outcome must come of it, which is waited for.
    """
    cloud: Sequence[str] = (CLOUD,) if topics is None else WORKERS
    chance = random.Random(seed)
    deaths = [part for part in (EDGE, *cloud) for _ in range(times)]
    chance.shuffle(deaths)
    folder.mkdir(parents=True, exist_ok=True)
    scenario = folder / "people.toml"
    text = SCENARIO.read_text()
    for old, new in _CHANGES:
        assert old in text
        text = text.replace(old, new)
    scenario.write_text(text)
    options = [
        "--scenario",
        str(scenario),
        "--devices",
        str(DEVICES),
        "--in-flight",
        "12",
        "--origin",
        ORIGIN,
    ]
    with _box(folder, topics) as here:
        _know(here, cloud, topics)
        killed = Killed(here)
        for part in (EDGE, *cloud):
            here.start(part)
        for part in (EDGE, *cloud):
            here.ready(part, 60)
        with load(here, seconds, *options) as fleet:
            for part in deaths:
                _wait(here, fleet, part, chance, apart)
                killed.sending += fleet.sending()
                here.kill(part)
                killed.deaths[part] += 1
                here.start(part)
            for part in (EDGE, *cloud):
                here.ready(part, 60)
            fleet.finished(600)
        here.ready(EDGE)
        words.say(here.data / "edge.sock", "flush")
        until(lambda: here.status().get("outbox") == 0, 120, "the cloud side has everything")
        killed.audit = kills.audited(here, fleet.ledger)
        killed.found = _settled(here, seconds, wanted().found if wanted else None)
        for part in (EDGE, *cloud):
            here.end(part)
        return killed


def both(
    folder: Path, seconds: float, *, times: int, seed: int, topics: MadeTopics | None = None
) -> tuple[Killed, Killed]:
    """Run it with kills, and beside it without, on SQLite; see `run`."""
    with ThreadPoolExecutor(2) as pool:
        undisturbed = pool.submit(run, folder / "undisturbed", seconds)
        killed = pool.submit(
            run, folder / "killed", seconds, times=times, seed=seed, topics=topics, wanted=undisturbed.result
        )
    return killed.result(), undisturbed.result()


def _know(here: Box, cloud: Sequence[str], topics: MadeTopics | None) -> None:
    """Let the cloud side know the rules, and that all devices are peers: two days ago by its clock, for what was so before a pattern was put
    in makes no alert, and the fleet sends what was a while ago. Every shard: a worker may hold but some of them yet.
    """
    settings = f"{here.settings.read_text()}{_RULES}"
    before = datetime.now(UTC) - timedelta(days=4)  # at half the speed it is two days ago
    here.settings.write_text(
        settings.replace("[common]\n", f'[common]\nclock = "scaled:0.5@{before.isoformat()}"\n')
    )
    for part in cloud:
        here.start(part)
    for part in cloud:
        here.ready(part, 60)
    sites = ("north", "east", "south", "west")
    rows = [f"{sites[n % 4]}/machine-{n + 1:03},M" for n in range(DEVICES)]
    text = here.folder / "devices.csv"
    text.write_text("device,model\n" + "\n".join(rows) + "\n")
    if topics is None:
        here.run("headwater", "registry", "import", str(text))
    else:
        here.run("headwater-cloud", "devices", "import", str(text))

    def known() -> bool:
        with closing(read_only(here.data / "cloud.db")) as reader:
            (devices,) = reader.execute("SELECT count(*) FROM registry").fetchone()
        with closing(SqliteLog(here.data / "log.db") if topics is None else topics.bus()) as bus:
            first = bus.read(IN.name, dict.fromkeys(range(SHARDS), 0), 10 * SHARDS)
        ruled = {record.partition for record in first if kind_of(record.headers) == RULES}
        return bool(devices == len(rows) and len(ruled) == SHARDS)

    until(known, 60, "rules and registry are known")
    for part in cloud:
        here.end(part)
    here.settings.write_text(settings)


def _wait(here: Box, fleet: Load, part: str, chance: random.Random, apart: tuple[int, int]) -> None:
    """Wait until it is time for a part to die: the fleet has got on; of the cloud side, it too, more often than not."""
    written = fleet.written() + chance.randint(*apart)
    until(lambda: fleet.written() >= written or not fleet.sending(), 60, "the fleet gets on, or has sent all")
    if part != EDGE and chance.random() < 0.7:
        before, some = sum(offsets(here).values()), chance.randint(1, 20)
        until(
            lambda: sum(offsets(here).values()) >= before + some or not fleet.sending(),
            120,
            "the cloud side gets on",
        )


def _settled(here: Box, seconds: float, wanted: Outcome | None) -> Outcome:
    """Wait until all alerts are there, are over where they are, and all is told; return it, whatever it is, after a while."""
    last: tuple[set[Alert], float] = (set(), monotonic())

    def same() -> bool:
        nonlocal last
        found = outcome(here, seconds)
        if found.alerts != last[0]:
            last = found.alerts, monotonic()
        told = {one.id for one in found.told} >= found.to_tell
        return told and monotonic() - last[1] > _QUIET_S and (wanted is None or found.alerts == wanted.alerts)

    try:
        until(same, 60, "all is told")
    except AssertionError:
        if wanted is None:
            raise
    return outcome(here, seconds)


_QUIET_S = 5.0
"""So long alerts must not have changed for a run to be over: what is compared is rolled up 2 s after the last window of it, and findings take
two ways over the bus."""


def assert_as_undisturbed(killed: Killed, undisturbed: Killed) -> None:
    """No alert missed, none more; none told twice without its mark; none untold that was told."""
    found, wanted = killed.found, undisturbed.found
    missed, more = wanted.alerts - found.alerts, found.alerts - wanted.alerts
    assert not missed, (
        f"{len(missed)} of {len(wanted.alerts)} missed, {len(more)} more: {sorted(missed)[:3]}, {sorted(more)[:3]}"
    )
    assert not more, sorted(more)[:5]
    for run_ in (killed, undisturbed):
        ids = Counter(one.id for one in run_.found.told if not one.repeat)
        assert max(ids.values()) == 1, [id_ for id_, n in ids.items() if n > 1]
        assert {one.id for one in run_.found.told} == run_.found.to_tell
    assert len({one.id for one in wanted.told}) == len(wanted.told)
    told = {incident for one in found.told for incident in (one.incident, one.said)}
    untold = {one.incident for one in wanted.told} - {""} - wanted.silent - told
    assert not untold, untold
    assert wanted.incidents() <= told

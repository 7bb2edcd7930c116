"""`headwater audit --store` judges what a real InfluxDB holds: it passes what is right, and names what was changed behind its back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headwater_appliance.audit import run_audit
from headwater_appliance.audit_influxql import Source
from headwater_appliance.audit_stored import Stored, Windows
from headwater_appliance.stack_servers import Influx
from headwater_shared.aggregates import Aggregates
from headwater_shared.errors import StateError, TryAgain
from headwater_shared.parts import COARSENED, tumbling
from tests.appliance import test_audit_files as files
from tests.appliance.audit_cases import JUNK, Run, T, series, stored
from tests.appliance.test_audit import dropped, window
from tests.influx_points import points, save, write
from tests.stack import influxql, make, running
from tests.support import free_port

GOOD = "audit: acknowledged 541, counted 540, dead 1, lost 0, twice 0"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    server = make(Influx, tmp_path_factory.mktemp("influx") / "it")
    with running(server):
        yield server


@pytest.fixture
def influx(server: Influx) -> Iterator[Influx]:
    """Without databases."""
    yield server
    for row in influxql(server, "SHOW DATABASES"):
        influxql(server, f'DROP DATABASE "{row["name"]}"')


class Case:
    """A run whose windows are right, and the agent's file."""

    def __init__(self, folder: Path, influx: Influx) -> None:
        self.run = Run(folder / "ledger")
        self.run.junk()
        self.found = stored(self.run.readings)
        self.ledger = self.run.close()
        self._folder, self._influx = folder, influx
        files.save(folder, Stored([], []), [JUNK])

    def save(self) -> None:
        save(self._influx, self.found)

    def audit(
        self, capsys: pytest.CaptureFixture[str], *, source: Source | None = None
    ) -> tuple[int, list[str]]:
        """Return the exit code, and what it said."""
        source = source or Source(self._influx.url)
        code = run_audit(self.ledger, self._folder, store=source, looks=1)
        return code, capsys.readouterr().out.splitlines()


@pytest.fixture
def case(tmp_path: Path, influx: Influx) -> Case:
    return Case(tmp_path, influx)


def test_r30_a_store_that_has_all_passes(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, digests and values of every window at every level are the ledger's: only the last line is printed."""
    case.save()
    assert case.audit(capsys) == (0, [GOOD])


def test_r30_a_point_that_was_taken_out_is_lost(
    case: Case, influx: Influx, capsys: pytest.CaptureFixture[str]
) -> None:
    """The window, its level and its start are named."""
    case.save()
    influxql(
        influx,
        f"DELETE FROM windows WHERE device = 'pump-1' AND metric = 'flow' AND time = {T}u",
        db="headwater_10s",
    )
    code, said = case.audit(capsys)
    assert (code, said[-1]) == (1, "audit: acknowledged 541, counted 530, dead 1, lost 10, twice 0")
    assert "north/pump-1/flow 10s 2027-01-15T08:00:00Z" in said[0]
    assert "the window is missing" in said[0]


def test_r30_a_reading_that_is_counted_twice_in_the_store_is_named(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    """The digest convicts it."""
    name, time_us, value = case.run.readings[7 * 6]
    windows, row = window(case.found, "10s", name, time_us // 10_000_000 * 10_000_000)
    extra = stored([(name, time_us, value)]).levels[0].rows
    windows.rows.count[row] += 1
    with np.errstate(over="ignore"):
        windows.rows.digest[row] += extra.digest[0]
    case.save()
    code, said = case.audit(capsys)
    assert (code, said[-1]) == (1, "audit: acknowledged 541, counted 541, dead 1, lost 0, twice 1")
    assert f"reading {value!r} of" in said[0]


@pytest.mark.parametrize("what", ["digest", "min", "max", "first", "last", "mean"])
def test_r30_a_point_that_was_changed_is_named(
    case: Case, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One field of one point: only that one is found, by name."""
    windows, row = window(case.found, "1m", series(1, 0), T)
    if what == "digest":
        windows.rows.digest[row] ^= np.uint64(1 << 40)
    else:
        getattr(windows.rows, what)[row] += 1e-6
    case.save()
    code, said = case.audit(capsys)
    assert (code, len(said)) == (1, 2)
    assert f"{series(1, 0)} 1m" in said[0]
    assert f"({what} is" in said[0]
    assert said[-1] == f"{GOOD}, altered 1"


def test_a_field_that_is_missing_is_named(
    case: Case, influx: Influx, capsys: pytest.CaptureFixture[str]
) -> None:
    """A point without its mean or half of its digest is no right one."""
    case.save()
    found = case.found
    lines = points(found.levels[0], found.names)
    influxql(influx, "DROP SERIES FROM windows WHERE device = 'pump-2'", db="headwater_10s")
    lines = [line.replace("digest_hi=", "other=") for line in lines if "device=pump-2" in line]
    write(influx, "headwater_10s", lines)
    code, said = case.audit(capsys)
    assert code == 1
    assert all("pump-2" in line and "digest is" in line for line in said[:18])
    assert said[-1].endswith("altered 18")


def test_a_point_of_count_0_is_no_window(
    case: Case, influx: Influx, capsys: pytest.CaptureFixture[str]
) -> None:
    """A session that was absorbed, a part that was taken back: it is written over with zeros, and does not count."""
    case.save()
    found, base = case.found, case.found.levels[0]
    none = Windows(base.level, np.array([0]), np.array([T - 10_000_000]), Aggregates.empty(1))
    write(influx, "headwater_10s", points(none, found.names))
    assert case.audit(capsys) == (0, [GOOD])


def test_points_that_came_again_are_one(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """A batch that was written twice, and an older revision before the newer one, leave what was written last."""
    windows, row = window(case.found, "10s", series(0, 0), T)
    windows.rows.count[row] -= 1
    case.save()
    assert case.audit(capsys)[0] == 1
    windows.rows.count[row] += 1
    case.save()
    case.save()
    assert case.audit(capsys) == (0, [GOOD])


def test_r30_a_window_that_more_tags_made_two_of_is_named(
    case: Case, influx: Influx, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tag too many (a region, a revision) leaves the older point beside the newer one, and screens add both up."""
    case.save()
    found = case.found
    line = points(found.levels[0], found.names, more=",region=west")[0]
    write(influx, "headwater_10s", [line])
    code, said = case.audit(capsys)
    assert (code, said[-1]) == (1, "audit: acknowledged 541, counted 540, dead 1, lost 0, twice 10")
    assert "once more, with other tags" in said[0]


def test_a_database_that_is_missing_is_named(
    case: Case, influx: Influx, capsys: pytest.CaptureFixture[str]
) -> None:
    """All readings are lost at that level, and the first line says why."""
    case.save()
    influxql(influx, "DROP DATABASE headwater_10m")
    code, said = case.audit(capsys)
    assert (code, said[-1]) == (1, "audit: acknowledged 541, counted 540, dead 1, lost 540, twice 0")
    assert said[0] == "audit: lost: 10m: the store has no database headwater_10m, or does not show it to us"


def test_windows_in_the_database_of_another_level_are_named(
    case: Case, influx: Influx, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody would see them twice but who asks that database."""
    case.save()
    found = case.found
    write(influx, "headwater_10s", points(found.levels[1], found.names))
    code, said = case.audit(capsys)
    assert code == 1
    assert "2 windows of this level lie in the database headwater_10s" in said[0]
    assert said[-1].endswith("altered 6")


def test_r22_windows_that_were_coarsened_are_not_missed(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    """The flags of a coarser point say that it holds the readings of finer ones that are not kept."""
    for windows in case.found.levels:
        windows.flags = np.zeros(len(windows), np.int64)
    for start in range(T, T + 60_000_000, 10_000_000):
        dropped(case.found, "10s", series(0, 0), start)
    case.save()
    assert case.audit(capsys)[0] == 1
    windows, row = window(case.found, "1m", series(0, 0), T)
    assert windows.flags is not None
    windows.flags[row] |= COARSENED
    case.save()
    assert case.audit(capsys) == (0, [GOOD])


def test_r25_rollups_in_the_store_are_held_against_its_windows(
    case: Case, influx: Influx, capsys: pytest.CaptureFixture[str]
) -> None:
    """The windows of a site are what its devices' add up to, count and digest; one that is not is named."""
    found = case.found
    base = found.levels[0]
    north = [found.names.index(series(device, 0)) for device in (0, 1)]
    names = ["north/+/flow"]
    starts = np.unique(base.start[np.isin(base.series, north)])
    rows = Aggregates.empty(len(starts))
    for at, start in enumerate(starts):
        of = base.take(np.isin(base.series, north) & (base.start == start)).rows
        rows.count[at], rows.digest[at] = of.count.sum(), of.digest.sum(dtype=np.uint64)
    everywhere = _rollups_of_all(found)
    rolled = Windows(tumbling("10s"), np.zeros(len(starts), np.int64), starts, rows)
    case.save()
    write(influx, "headwater_10s", points(rolled, names))
    for name, windows in everywhere:
        write(influx, "headwater_10s", points(windows, [name]))
    assert case.audit(capsys) == (0, [GOOD])
    rows.count[3] += 1
    write(influx, "headwater_10s", points(rolled, names))
    code, said = case.audit(capsys)
    assert code == 1
    assert "north/+/flow" in said[0]
    assert "not what its windows add up to" in said[0]


def _rollups_of_all(found: Stored) -> list[tuple[str, Windows]]:
    """All rollups of the base but the one of the north's flow."""
    base, out = found.levels[0], []
    groups = {
        "north/+/pressure": [series(0, 1), series(1, 1)], "south/+/flow": [series(2, 0)], "south/+/pressure": [series(2, 1)],
        "+/+/flow": [series(d, 0) for d in range(3)], "+/+/pressure": [series(d, 1) for d in range(3)],
    }  # fmt: skip
    for name, members in groups.items():
        ours = np.isin(base.series, [found.names.index(one) for one in members])
        starts = np.unique(base.start[ours])
        rows = Aggregates.empty(len(starts))
        for at, start in enumerate(starts):
            of = base.take(ours & (base.start == start)).rows
            rows.count[at], rows.digest[at] = of.count.sum(), of.digest.sum(dtype=np.uint64)
        out.append((name, Windows(base.level, np.zeros(len(starts), np.int64), starts, rows)))
    return out


@pytest.mark.parametrize("says", [True, False])
def test_what_the_stores_retention_deletes_is_not_missed(
    tmp_path: Path, influx: Influx, capsys: pytest.CaptureFixture[str], says: bool
) -> None:
    """A database that keeps 7 days is not asked for windows that are older, which it refuses; version 2 does not say how long it keeps
    them, but the settings do.
    """
    now = time.time_ns() // 1000
    old = (now - 8 * 86_400_000_000) // 3_600_000_000 * 3_600_000_000
    run = Run(tmp_path / "ledger", samples=0)
    for second in range(90):
        run.send(0, old + second * 1_000_000, [float(second), 1.0])
        run.send(0, old + (2 * 86_400 + second) * 1_000_000, [float(second), 2.0])
    found = stored(run.readings)
    files.save(tmp_path, Stored([], []), [])
    influxql(influx, f'CREATE DATABASE "headwater_10s" {"WITH DURATION 168h" if says else ""}')
    base = found.levels[0]
    base = base.take(base.start >= old + 86_400_000_000)
    save(influx, Stored(found.names, [base, *found.levels[1:]]))
    source, ledger = Source(influx.url), run.close()
    if not says:
        assert run_audit(ledger, tmp_path, store=source, looks=1) == 1
        source = source._replace(kept={"10s": 7 * 86_400_000_000}.get)
        capsys.readouterr()
    assert run_audit(ledger, tmp_path, store=source, looks=1) == 0
    assert capsys.readouterr().out == "audit: acknowledged 360, counted 180, dead 0, lost 0, twice 0\n"


def test_what_is_older_than_a_database_keeps_is_not_missed_though_it_is_empty(
    tmp_path: Path, influx: Influx, capsys: pytest.CaptureFixture[str]
) -> None:
    """All windows of a level are too old for the store, which has none of them."""
    old = (time.time_ns() // 1000 - 9 * 86_400_000_000) // 3_600_000_000 * 3_600_000_000
    run = Run(tmp_path / "ledger", samples=0)
    run.send(0, old, [1.0, 2.0])
    found = stored(run.readings)
    files.save(tmp_path, Stored([], []), [])
    influxql(influx, 'CREATE DATABASE "headwater_10s" WITH DURATION 168h')
    save(influx, Stored(found.names, found.levels[1:]))
    assert run_audit(run.close(), tmp_path, store=Source(influx.url), looks=1) == 0
    assert capsys.readouterr().out.endswith("lost 0, twice 0\n")


def test_another_prefix_in_the_same_store_is_left_alone(
    case: Case, influx: Influx, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two boxes may write into one InfluxDB, one as `headwater`, the other as `headwater_demo`."""
    case.save()
    influxql(influx, "CREATE DATABASE headwater_demo_10s")
    write(influx, "headwater_demo_10s", points(case.found.levels[0], case.found.names)[:3])
    assert case.audit(capsys) == (0, [GOOD])


def test_a_store_that_does_not_answer_is_no_verdict(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is called lost: the error says that nobody listens."""
    with pytest.raises(TryAgain, match="does not answer"):
        case.audit(capsys, source=Source(f"http://127.0.0.1:{free_port()}"))


def test_what_is_written_a_moment_later_is_waited_for(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sink may have points under way: while something is missing, the store is read again."""
    from headwater_appliance import audit as module

    class Time:
        slept = 0

        def time_ns(self) -> int:
            return T * 1000

        def sleep(self, seconds: float) -> None:
            self.slept += 1
            case.save()

    monkeypatch.setattr(module, "time", clock := Time())
    assert run_audit(case.ledger, tmp_path, store=Source(case._influx.url)) == 0
    assert clock.slept == 1


def test_users_and_passwords(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A store with users lets us read by user and password only, and says so."""
    server = make(Influx, tmp_path / "influx", users=True)
    with running(server):
        first = Source(server.url)
        from headwater_appliance.audit_influxql import names

        _make_admin(server)
        asked = first._replace(user="admin", password="s3cret")
        assert names(asked) == []
        with pytest.raises(StateError, match="does not let us read"):
            names(first)


def _make_admin(server: Influx) -> None:
    influxql(server, "CREATE USER admin WITH PASSWORD 's3cret' WITH ALL PRIVILEGES")

"""Hot shards: a site over several shards from a time on, and whatever comes, each window is in one shard, and none is another (R25)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from headwater_edge import idle
from headwater_edge.acts import Act
from headwater_edge.events import Settings
from headwater_edge.rules import LimitRule
from headwater_edge.settings import EdgeSettings, StepSettings, WindowSettings
from headwater_edge.spread_past import check_unchanged
from headwater_edge.step import completeness
from headwater_shared.errors import SettingsError
from headwater_shared.identity import shard_of
from headwater_shared.spread import Spread, SpreadMap
from headwater_shared.spread_settings import SpreadSettings, spread_of
from tests.edge.feed import DAY, Message, S, hopping, session, step_settings_of
from tests.edge.run import Run
from tests.edge.running import Publish, running
from tests.edge.test_step_properties import SETTINGS, _act, _connected, acts

T = DAY + 3600 * S
SPREAD = (Spread("s1", T, 4),)
DEVICES = [f"s1/d{n}" for n in range(8)]
"""Of these some are on each of the four shards."""


def _others(settings: StepSettings) -> Settings:
    return Settings(msgspec.json.encode(settings).decode())


def _said(device: str, at_s: float, value: float = 1.0) -> Message:
    return Message(((f"{device}/temp", T + round(at_s * S), value),))


def _run(spread: tuple[Spread, ...] = SPREAD, settings: StepSettings | None = None) -> Run:
    run = Run(replace(settings or step_settings_of(levels=("10s", "1m")), spread=spread))
    run.merged.map = SpreadMap(spread)
    run.start()
    return run


def test_a_shard_is_that_of_the_site_and_a_share_of_its_devices() -> None:
    """Before the first entry and with over = 1 the plain shard, else it and the next ones; other sites are where they were."""
    found = SpreadMap([Spread("west", 200, 1), Spread("west", 100, 4)])
    for n in range(50):
        name = f"west/pump-{n}/temperature"
        plain, hashed = crc32(b"west") % 64, crc32(f"pump-{n}".encode())
        assert [found.shard(name, time) for time in (0, 99, 200, 10**18)] == [plain] * 4
        assert found.shard(name, 100) == found.shard(name, 199) == (plain + hashed % 4) % 64
        assert found.shards(f"west/pump-{n}") == {plain, (plain + hashed % 4) % 64}
    assert found.shard("east/pump-1/flow", 150) == shard_of("east")


def test_r25_a_spread_map_changes_only_for_windows_that_start_at_or_after_its_time() -> None:
    """A window that began before is where it was, though it closes after, is revised after, and has a late part after a restart;
    one that begins then is on its device's shard, at each level.
    """
    run = _run(())
    run.merged.map = SpreadMap(SPREAD)
    run.tick(*(_said(device, -20.0) for device in DEVICES))
    run.settings = replace(run.settings, spread=SPREAD)
    run.tick(events=(_others(run.settings),))
    run.tick(*(_said(device, at) for device in DEVICES for at in (-5.0, -1.0, 0.0, 3.0)))
    run.tick(*(_said(device, 80.0) for device in DEVICES))
    run.tick(*(_said(device, -3.0, 2.0) for device in DEVICES))
    assert run.state.counters.revisions > 0
    run.picture()
    run.crash(run.pictures[-1])
    run.start()
    run.tick(*(_said(device, at, 3.0) for device in DEVICES for at in (-3.0, 4.0)))
    run.flush()
    run.check()
    before = {shard for (_, _, start), shard in run.merged.shards.items() if start < T}
    after = {shard for (_, _, start), shard in run.merged.shards.items() if start >= T}
    assert before == {shard_of("s1")}
    assert after == {(shard_of("s1") + n) % 64 for n in range(4)}


def test_r25_an_episode_stays_in_the_shard_of_its_begin() -> None:
    """What finds an anomaly's end looks where its begin is; so it is with the states of a command."""
    hot = LimitRule("hot", "*/temp", 1.0, 80.0, 70.0, "warning", "too hot")
    cool = Act(
        "cool",
        "hot",
        "*",
        "{site}/{device}",
        "hw/{site}/{device}/cmd",
        '{"name":"shut","arguments":{}}',
        "",
        60 * S,
        5 * S,
    )
    settings = replace(step_settings_of(levels=("10s", "1m")), rules=[hot], acts=[cool])
    run = _run(settings=settings)
    outputs = [
        run.tick(*(_said(device, at, value) for device in DEVICES))
        for at, value in ((-30, 90.0), (30, 20.0), (60, 90.0))
    ]
    run.clock.advance(120)
    outputs.append(run.tick())
    begun: dict[str, int] = {}
    for anomaly in (one for output in outputs for one in output.anomalies):
        assert anomaly.shard == begun.setdefault(anomaly.id, anomaly.shard)
        assert anomaly.shard == run.merged.map.shard(anomaly.series, anomaly.begin_us)  # type: ignore[union-attr]
    sent = [one for output in outputs for one in output.commands]
    assert {one.status for one in sent} == {"open", "expired"}
    by_id: dict[str, set[int]] = {}
    for one in sent:
        by_id.setdefault(one.id, set()).add(one.shard)
    assert all(len(shards) == 1 for shards in by_id.values())
    assert len({shard for shards in by_id.values() for shard in shards}) == 4


def test_r23_a_shard_is_complete_when_every_device_that_may_be_on_it_is() -> None:
    """Heartbeats of the plain shard and of the others go by the slowest of their devices, from before the map rules on."""
    run = _run()
    run.tick(*(_said(device, 100 + 10 * n) for n, device in enumerate(DEVICES)))
    run.flush()
    found = completeness(run.state).shards
    lateness = run.settings.lateness_us
    for shard in {(shard_of("s1") + n) % 64 for n in range(4)}:
        on = [n for n, device in enumerate(DEVICES) if shard in SpreadMap(SPREAD).shards(device)]
        assert found[shard][0] == T + (100 + 10 * min(on)) * S - lateness
        assert found[shard][1] == run.state.seq.get(shard, 0)
    assert len(found) == 4


def test_the_last_device_of_each_shard_stays() -> None:
    """Heartbeats go by devices: when all are idle, one of each shard that the site is on is not let go."""
    run = _run()
    run.tick(*(_said(device, n) for n, device in enumerate(DEVICES)))
    run.clock.advance(40 * 86_400)
    run.flush()
    run.clock.advance(40 * 86_400)
    run.tick()
    go = {run.state.names[number] for number in idle.may_go(run.state, 86_400 * S, 2**60, 10_000).tolist()}
    assert go
    stay = [device for device in DEVICES if f"{device}/temp" not in go]
    spread = SpreadMap(SPREAD)
    assert {shard for device in stay for shard in spread.shards(device)} == {
        (shard_of("s1") + n) % 64 for n in range(4)
    }


MAPS = st.tuples(st.sampled_from(("s1", "s2")), st.sampled_from((1, 2, 3, 4, 64)), st.integers(0, 7200))
KINDS = (*SETTINGS, step_settings_of(session("30s"), hopping("1m", "20s"), levels=("10s", "1m")))


@given(
    st.sampled_from(KINDS),
    st.lists(st.one_of(acts, acts, acts, MAPS.map(lambda one: ("map", one))), max_size=25),
)
def test_r25_each_window_is_in_one_shard_whenever_the_map_changes(
    settings: StepSettings, todo: list[tuple[str, object]]
) -> None:
    """Any interleaving of messages, resends, silences, snapshots, crashes, starts and changes of the map gives the reference's windows,
    as without a map; and the map of the end says of each window where it is: what rules the past never changed.
    """
    run, devices = _connected(settings)
    run.merged.map = None
    entries: tuple[Spread, ...] = ()
    for name, what in todo:
        if name == "map":
            entries = _with_entry(run, entries, what)
        else:
            _act(run, devices, name, what)
    run.flush()
    run.check()
    final = SpreadMap(entries)
    assert all(final.shard(series, start) == shard for (series, _, start), shard in run.merged.shards.items())


def _with_entry(run: Run, entries: tuple[Spread, ...], what: object) -> tuple[Spread, ...]:
    """Take up one more entry, from so many seconds after what has begun, unless it is refused."""
    site, over, after_s = msgspec.convert(what, tuple[str, int, int])
    more = Spread(site, run.state.begun_us() + after_s * S, over)
    with suppress(SettingsError):
        check_unchanged(entries, (*entries, more), run.state.begun_us())
        entries = tuple(sorted((*entries, more)))
        run.settings = replace(run.settings, spread=entries)
        run.tick(events=(_others(run.settings),))
    return entries


def test_the_past_is_not_changed() -> None:
    """An entry that rules may not come, go, or be another; one that is to come may. The error says which, and from when on."""
    west = Spread("west", T, 4)
    later = Spread("west", T + 3600 * S, 2)
    check_unchanged((west,), (west, later), T + 3500 * S)
    check_unchanged((west, later), (west,), T + 3500 * S)
    check_unchanged((), (west,), T - 61 * S)
    for before, after in [
        ((), (west,)),
        ((west,), ()),
        ((west,), (replace(west, over=8),)),
        ((west, later), (later,)),
    ]:
        with pytest.raises(
            SettingsError, match=r"the entry of site 'west' from 2027-01-15T09:00:00Z on"
        ) as caught:
            check_unchanged(before, after, T - 59 * S)
        assert "a time after 2027-01-15T09:00:01Z" in caught.value.hint


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([("west", 4, "tomorrow")], "is no time"),
        ([("west", 4, "2026-12-01T00:00:00")], "has no zone"),
        ([("we/st", 4, "2026-12-01T00:00:00Z")], "is no site"),
        (
            [("west", 4, "2026-12-01T00:00:00Z"), ("west", 2, "2026-12-01T01:00:00+01:00")],
            "two entries of site 'west'",
        ),
    ],
)
def test_an_entry_that_cannot_be_is_told(entries: list[tuple[str, int, str]], said: str) -> None:
    """A time is ISO 8601 with its zone, and of one site no two entries begin together."""
    with pytest.raises(SettingsError, match=said):
        spread_of(SpreadSettings(*one) for one in entries)


def test_entries_are_sorted_and_in_microseconds() -> None:
    """However they are written, the step sees one order."""
    found = spread_of(
        [
            SpreadSettings("west", 1, "2027-01-15T11:00:00+02:00"),
            SpreadSettings("east", 2, "2027-01-15T08:00:00Z"),
        ]
    )
    assert found == (Spread("east", DAY, 2), Spread("west", DAY + 3600 * S, 1))


def test_r25_a_start_with_another_past_is_refused(tmp_path: Path) -> None:
    """An agent that has sent windows does not start with a map that puts them elsewhere; with one that does not, it goes on. A
    fresh one takes any: another agent of the site may have had it for long. However often it is refused, its file stays.
    """
    windows = WindowSettings(future="3650d", clock_wait="0s")

    def settings(*entries: SpreadSettings) -> EdgeSettings:
        return EdgeSettings(name="a1", windows=windows, tick_readings=1, spread=entries)

    past, to_come = (SpreadSettings("s1", 4, f"2027-01-15T0{hour}:00:00Z") for hour in (7, 9))

    async def run(folder: Path, of: EdgeSettings) -> None:
        async with running(folder, of) as agent:
            assert agent.agent.set_aside is None
            await agent.connect(1, "d1")
            await agent.publish(Publish("hw/s1/d1/data/temp", b'{"t":%d,"v":1}' % DAY, 1))

    asyncio.run(run(tmp_path, settings()))
    for _ in range(5):  # more often than a file is tried that cannot be opened
        with pytest.raises(SettingsError, match="the entry of site 's1' from 2027-01-15T07:00:00Z on is new"):
            asyncio.run(run(tmp_path, settings(past)))
    asyncio.run(run(tmp_path, settings(to_come)))
    (tmp_path / "fresh").mkdir()
    asyncio.run(run(tmp_path / "fresh", settings(past)))
    with pytest.raises(SettingsError, match="is gone, or another"):
        asyncio.run(run(tmp_path / "fresh", settings()))

"""Settings that are read again while the agent runs: what is taken up, what waits for a start, and that nothing is lost."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from headwater_cloud import reload as cloud_reload
from headwater_cloud.settings import CloudSettings
from headwater_edge import checked, reload
from headwater_edge.reload import Reloading
from headwater_edge.settings import EdgeSettings
from headwater_edge.users import Users
from headwater_shared.errors import SettingsError
from headwater_shared.reload import COMMON_LIVE, Wish, differences, read_running
from headwater_shared.settings import Common, load
from headwater_shared.spread import Spread, SpreadMap
from tests.edge.running import Publish, Running, on_bus, running
from tests.support import ROOT, until_async

FILE = """[common]
data = "{data}"
[edge]
name = "a1"
tick_readings = 1
{edge}
[edge.windows]
future = "3650d"
clock_wait = "0s"
{windows}
"""
T = 1_800_000_000_000_000


class Box:
    """An agent that runs by a file of settings."""

    def __init__(self, run: Running, reloading: Reloading, file: Path, users: Users) -> None:
        self.run, self.reloading, self.file, self.users = run, reloading, file, users

    def write(self, edge: str = "", windows: str = "", more: str = "") -> None:
        self.file.write_text(FILE.format(data=self.run.folder, edge=edge, windows=windows) + more)

    async def reload(self, edge: str = "", windows: str = "", more: str = "") -> None:
        """Write other settings, and have them taken up."""
        self.write(edge, windows, more)
        committed = await self.reloading.once()
        if committed is not None:
            await committed

    async def reading(self, at_s: float, value: float = 1.0, topic: str = "hw/s1/d1/data/temp") -> None:
        payload = b'{"t":%d,"v":%r}' % (T + round(at_s * 1e6), value)
        await self.run.publish(Publish(topic, payload, 1))


@asynccontextmanager
async def _box(folder: Path) -> AsyncIterator[Box]:
    file = folder / "headwater.toml"
    file.write_text(FILE.format(data=folder, edge="", windows=""))
    common, settings = load(file, "common", Common), load(file, "edge", EdgeSettings)
    async with running(folder, settings) as run:
        await run.connect(1, "d1")
        users = Users(folder / settings.users_file, {}, settings.grants)
        yield Box(run, Reloading(run.agent, users, common, settings, file), file, users)


def test_every_key_is_either_live_or_needs_a_start() -> None:
    """No key is forgotten: whoever adds one says which it is, in `reload.py` of its side."""
    for kind, side in ((EdgeSettings, reload), (CloudSettings, cloud_reload)):
        assert set(kind.__struct_fields__) == side.LIVE | side.RESTART
        assert not side.LIVE & side.RESTART
    assert set(Common.__struct_fields__) > COMMON_LIVE


def test_the_page_says_which_is_which() -> None:
    """docs/reload.md names every key of the tables under the right heading."""
    page = (ROOT / "docs" / "reload.md").read_text()
    row = re.compile(r"^\| `\[(\w+)\]` \| (taken up|needs a start) \| (.*) \|$", re.MULTILINE)
    rows = {(table, word): keys for table, word, keys in row.findall(page)}
    common = set(Common.__struct_fields__)
    wanted = {
        ("edge", "taken up"): reload.LIVE, ("edge", "needs a start"): reload.RESTART,
        ("cloud", "taken up"): cloud_reload.LIVE, ("cloud", "needs a start"): cloud_reload.RESTART,
        ("common", "taken up"): COMMON_LIVE, ("common", "needs a start"): common - COMMON_LIVE,
    }  # fmt: skip
    assert {at: set(re.findall(r"`([\w.]+)`", keys)) for at, keys in rows.items()} == wanted


def test_pain02_a_new_configuration_leaves_what_waits(tmp_path: Path) -> None:
    """The bus is away and rows wait; other settings that move every window come; then the bus has all, once."""

    async def scenario() -> None:
        async with _box(tmp_path) as box:
            box.run.bus.away = True
            for at in range(20):
                await box.reading(at * 5)
            before = box.run.agent.forward.pending
            assert before > 0
            await box.reload(windows='levels = ["20s", "2m"]')
            assert box.run.agent.forward.pending > before
            for at in range(20, 40):
                await box.reading(at * 5)
            box.run.bus.away = False
            await box.run.agent.flush()
            await box.run.forwarded()
        counts: dict[str, int] = {}
        for frame in on_bus(tmp_path / "log.db")[0]:
            parts = frame.parts
            for row in range(len(parts)):
                level = parts.levels[parts.level[row]]
                counts[level] = counts.get(level, 0) + int(parts.aggregates.count[row])
        assert counts["10s"] + counts["20s"] == 40
        assert counts["1m"] + counts["2m"] == 40

    asyncio.run(scenario())


MISTAKES = [
    ({"edge": "tick_readngs = 3"}, "unknown key 'tick_readngs'"),
    ({"windows": 'levels = ["10s", "15s"]'}, "15s"),
    ({"more": '[[edge.limit]]\nname = "x"\nseries = "*"\n'}, "needs either above or below"),
    ({"more": '[edge.disk]\nquota = "1MB"\n'}, "too little"),
    ({"more": '[edge.users]\na = "env:HEADWATER_NO_SUCH"\n'}, "is not set or empty"),
    ({"more": '[edge.grants]\na = ["nonsense"]\n'}, "nonsense"),
    ({"more": '[[edge.broker]]\nname = "b"\nhost = "h"\nfilters = []\n'}, "filters"),
    ({"more": "[cloud\n"}, "this is not TOML"),
]


@pytest.mark.parametrize(("wrong", "said"), MISTAKES)
def test_a_mistake_changes_nothing_and_says_so(tmp_path: Path, wrong: dict[str, str], said: str) -> None:
    """No tick, no other window, no other limit; the status has the error, and the next good settings are taken up."""

    async def scenario() -> None:
        async with _box(tmp_path) as box:
            await box.reading(1)
            tick, settings = box.run.agent.committed, box.run.agent.state.settings
            good = {"edge": "max_series = 7"} if "edge" not in wrong else {}
            await box.reload(**(good | wrong))
            last = box.reloading.last
            assert last["ok"] is False
            assert said in f"{last['error']} {last['hint']}"
            assert (box.run.agent.committed, box.run.agent.state.settings) == (tick, settings)
            assert box.run.agent.index.cap == EdgeSettings().max_series
            await box.reload(edge="max_series = 9")
            assert box.reloading.last["changed"] == ["edge.max_series"]
            assert box.run.agent.index.cap == 9

    asyncio.run(scenario())


def test_r25_the_shards_of_the_past_are_not_changed(tmp_path: Path) -> None:
    """A map for windows that were sent is refused, in a line that says from when on it may be another; one for later is taken up."""
    entry = '[[edge.spread]]\nsite = "s1"\nover = 4\nfrom = "{}"\n'

    async def scenario() -> None:
        async with _box(tmp_path) as box:
            await box.reading(3600)
            await box.reload(more=entry.format("2027-01-15T08:30:00Z"))
            last = box.reloading.last
            assert last["ok"] is False
            assert "the entry of site 's1' from 2027-01-15T08:30:00Z on is new" in last["error"]
            assert "after 2027-01-15T09:01:00Z" in last["hint"]
            await box.reload(more=entry.format("2027-01-15T09:10:00Z"))
            assert box.reloading.last["ok"]
            for at in (3700, 4300, 9000):
                await box.reading(at)
            await box.reload()
            assert "is gone" in box.reloading.last["error"]
            await box.run.agent.flush()
            await box.run.forwarded()
        spread = SpreadMap([Spread("s1", T + 4_200_000_000, 4)])
        shards = set()
        for frame in on_bus(tmp_path / "log.db")[0]:
            parts = frame.parts
            for name, start in zip(parts.series.tolist(), parts.start.tolist(), strict=True):
                assert spread.shard(parts.names[name], start) == frame.shard
                shards.add(frame.shard)
        assert shards == spread.shards("s1/d1")
        assert len(shards) == 2

    asyncio.run(scenario())


def test_what_needs_a_start_is_named_and_stays(tmp_path: Path) -> None:
    """The other port is not taken, the other limit is; both are told, and written down for `headwater config diff`."""

    async def scenario() -> None:
        async with _box(tmp_path) as box:
            limit = '[[edge.limit]]\nname = "hot"\nseries = "*/temp"\nabove = 80.0\n'
            await box.reload(more=f"[edge.listener]\nport = 2883\n{limit}")
            last = box.reloading.last
            assert last["needs_restart"] == ["edge.listener.port"]
            assert last["changed"] == ["edge.limit[0]"]
            assert box.reloading.settings.listener.port == EdgeSettings().listener.port
            await box.reading(1, 95.0)
            assert box.run.agent.state.counters.anomalies == 1
            found = read_running(tmp_path, "edge")
            assert found is not None
            assert found.settings["edge"]["listener"]["port"] == EdgeSettings().listener.port
            assert found.settings["edge"]["limit"][0]["above"] == 80.0
            assert msgspec.convert(found.settings["edge"], EdgeSettings) == box.reloading.settings

    asyncio.run(scenario())


def test_other_formats_read_from_the_next_message_on(tmp_path: Path) -> None:
    """A topic that was a dead letter is read after the reload, and a range that was none is held."""

    async def scenario() -> None:
        async with _box(tmp_path) as box:
            await box.reading(1, topic="plant/d9/temp")
            assert box.run.agent.state.counters.dead == 1
            await box.reload(
                more='[[edge.format]]\ncodec = "json"\nsite = "s1"\ntopics = ["plant/{device}/{metric}"]\n'
                '[[edge.metric]]\nseries = "*/temp"\nvalid = [0.0, 50.0]\n'
            )
            await box.reading(2, topic="plant/d9/temp")
            await box.reading(3, 60.0, topic="plant/d9/temp")
            assert (box.run.agent.state.counters.dead, box.run.agent.state.counters.accepted) == (2, 1)

    asyncio.run(scenario())


def test_a_counter_that_was_none_gets_its_rate(tmp_path: Path) -> None:
    """The series of the rate is numbered by the tick of the reload, for series that were there before."""

    async def scenario() -> None:
        async with _box(tmp_path) as box:
            await box.reading(1, 10.0)
            await box.reload(more='[[edge.metric]]\nseries = "*/temp"\ncounter = true\n')
            await box.reading(2, 11.0)
            await box.reading(3, 13.0)
            assert box.run.agent.state.names == ["s1/d1/temp", "s1/d1/temp.rate"]
            assert box.run.agent.state.counters.accepted == 3

    asyncio.run(scenario())


def test_r18_an_agent_that_holds_back_takes_up_what_lets_it_go_on(tmp_path: Path) -> None:
    """It holds back for want of free space, so no tick is taken; settings that ask for less are taken up all the same, and the
    reading that waited is acknowledged.
    """

    async def scenario() -> None:
        async with _box(tmp_path) as box:
            agent = box.run.agent
            box.write(more='[edge.disk]\nfree = "900TB"\n')
            await box.reloading.once()
            await until_async(lambda: agent.holding, what="it holds back")
            waits = box.run.source.send(Publish("hw/s1/d1/data/temp", b'{"t":%d,"v":1.0}' % T, 1))
            box.write(more='[edge.disk]\nfree = "1MB"\n')
            committed = await box.reloading.once()
            await box.run.acknowledged(waits)
            assert committed is not None
            await committed
            assert not agent.holding
            assert agent.state.counters.accepted == 1

    asyncio.run(scenario())


def test_r14_a_rule_that_goes_undoes_its_command(tmp_path: Path) -> None:
    """Rule and act come by a reload, a reading breaks the rule, the command goes; then both are taken out: the anomaly is over, and
    the undo stands behind its command.
    """
    rule = (
        '[[edge.limit]]\nname = "hot"\nseries = "*/temp"\nabove = 80.0\n'
        '[[edge.act]]\nname = "shut"\nrule = "hot"\ncommand = "shut"\nundo = "open"\n'
    )

    async def scenario() -> None:
        async with _box(tmp_path) as box:
            await box.reload(more=rule)
            assert box.reloading.last["changed"] == ["edge.limit[0]", "edge.act[0]"]
            await box.reading(1, 95.0)
            commands = box.run.agent.state.commands.by_id
            (shut,) = commands.values()
            assert shut.state == "open"
            await box.reload()
            assert box.run.agent.state.counters.anomalies == 2
            assert [one.undoes for one in commands.values()] == ["", shut.id]

    asyncio.run(scenario())


def test_users_of_the_settings_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who came is known, one whose password is another may no longer stay."""

    async def scenario() -> None:
        async with _box(tmp_path) as box:
            monkeypatch.setenv("A_WORD", "first")
            await box.reload(more='[edge.users]\npump = "env:A_WORD"\n')
            grant = await box.users.check("pump", b"first")
            assert grant is not None
            assert box.users.stands(grant)
            monkeypatch.setenv("A_WORD", "second")
            await box.reload(more='[edge.users]\npump = "env:A_WORD"\n')
            assert not box.users.stands(grant)
            assert await box.users.check("pump", b"first") is None

    asyncio.run(scenario())


def test_sighup_is_heard_and_one_that_came_before_the_start_is_not_lost(tmp_path: Path) -> None:
    """Several of them in a row come to at least one reading after the last."""

    async def scenario() -> None:
        async with _box(tmp_path) as box:
            wish = Wish()
            signal.raise_signal(signal.SIGHUP)
            box.write("max_series = 11")
            started = Reloading(box.run.agent, box.users, Common(), EdgeSettings(), box.file, wish)
            started.start()
            await until_async(lambda: "tick" in started.last, what="the first reload")
            assert box.run.agent.index.cap == 11
            box.write("max_series = 12")
            for _ in range(5):
                signal.raise_signal(signal.SIGHUP)
            await until_async(lambda: box.run.agent.index.cap == 12, what="the second reload")

    asyncio.run(scenario())


def test_a_full_check_before_a_start_finds_what_a_reload_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` needs no agent: `headwater config check` and `up` use it."""
    with pytest.raises(SettingsError, match="too little"):
        checked.check(msgspec.convert({"disk": {"quota": "1MB"}}, EdgeSettings))
    assert checked.check(EdgeSettings()).settings == EdgeSettings()


def test_a_difference_is_told_by_its_key() -> None:
    """A value that changed; an entry that came or went as one, with what it sets; and whether a reload takes it up."""
    before = msgspec.convert({"limit": [{"name": "a", "series": "*", "above": 1.0}]}, EdgeSettings)
    after = msgspec.convert(
        {
            "name": "b",
            "limit": [
                {"name": "a", "series": "*", "above": 2.0},
                {"name": "c", "series": "x", "below": 0.0},
            ],
        },
        EdgeSettings,
    )
    found = differences("edge", before, after, reload.LIVE)
    entry = {"name": "c", "series": "x", "below": 0.0, "for": "0s", "severity": "warning"}
    assert [tuple(one) for one in found] == [
        ("edge.name", "edge-1", "b", False),
        ("edge.limit[0].above", 1.0, 2.0, True),
        ("edge.limit[1]", None, entry, True),
    ]
    assert differences("edge", after, before, reload.LIVE)[-1][1:3] == (entry, None)
    assert differences("edge", after, after, reload.LIVE) == []

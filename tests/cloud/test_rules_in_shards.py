"""Rules reach the shards as records, and what agents send becomes alerts by them: through the runner, on real files."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headwater_cloud import alert_history, rules_copies
from headwater_cloud.book import AlertPolicy, Book, Pattern, Step
from headwater_cloud.pipeline import Limits
from headwater_cloud.rule_records import EVIDENCE, home_of, rules_record
from headwater_cloud.rules_copies import RulesCopies
from headwater_shared import records, topics
from headwater_shared.identity import SHARDS, shard_of
from headwater_shared.records import RegistryChange
from headwater_shared.topics import IN
from tests.cloud.kills import Killed
from tests.cloud.made import SHARD, T0, Agent, S, clock_record, row, without
from tests.cloud.on_pieces import PieceSide
from tests.cloud.side import HasRows, Side

MIN = 60 * S
BEARING = Pattern(
    "bearing", within_us=60 * MIN, severity="critical", text="the bearing of {device} is failing",
    sequence=(Step("anomaly", "shakes"), Step("anomaly", "warm")),
)  # fmt: skip


def alerts(side: HasRows, rule: str = "*") -> list[tuple[str, str, str, int]]:
    """Rule, subject, state and begin in seconds after T0 of all alerts, by begin."""
    found = side.rows(
        "SELECT rule, subject, state, (episode_us - ?) / 1000000 FROM alert ORDER BY episode_us, rule", T0
    )
    return [tuple(one) for one in found if rule in {"*", one[0]}]


def with_rules(side: Side, *patterns: Pattern, policy: AlertPolicy | None = None) -> None:
    """The settings have these rules, and the process looks."""
    side.runner.rules.follow(Book(patterns, alerts=policy or AlertPolicy()))
    side.real_s += 2
    side.runner.look_at_rules()
    side.run()


def test_a_sequence_on_one_device_becomes_an_alert(tmp_path: Path) -> None:
    """Vibration, then heat, on one pump: one alert that says so, beside those of the anomalies; not for another pump's heat."""
    side, agent = Side(tmp_path), Agent()
    side.put_clock(SHARD)
    with_rules(side, BEARING)
    side.take(
        agent.anomaly("begin", 60, series="s1/d1/v", rule="shakes"),
        agent.anomaly("begin", 120, series="s1/d2/t", rule="warm"),
        agent.anomaly("begin", 300, series="s1/d1/t", rule="warm"),
    )
    assert alerts(side, "bearing") == [("bearing", "s1/d1", "firing", 60)]
    ((text, severity),) = side.rows("SELECT text, severity FROM alert WHERE rule = 'bearing'")
    assert (text, severity) == ("the bearing of s1/d1 is failing", "critical")
    side.take(*(agent.anomaly("end", 900, begin=b, series=f"s1/d1/{m}", rule=r) for b, m, r in ((60, "v", "shakes"), (300, "t", "warm"))))  # fmt: skip
    assert alerts(side, "bearing") == [("bearing", "s1/d1", "resolved", 60)]


def test_an_alert_of_a_site_is_no_device_of_its_incident(tmp_path: Path) -> None:
    """Two devices, and what a rule says of their site: three alerts, and two devices."""
    both = Pattern("both", within_us=60 * MIN, per="site", count=2, of=Step("anomaly", "warm"))
    side, agent = Side(tmp_path), Agent()
    side.put_clock(SHARD)
    with_rules(side, both)
    side.take(*(agent.anomaly("begin", n, series=f"s1/d{n}/t", rule="warm") for n in (1, 2)))
    assert [one[1] for one in alerts(side, "both")] == ["s1"]
    with side.history() as history:
        (incident,) = alert_history.incidents(history.connection, open_only=True)
    assert (incident.members, incident.devices) == (3, 2)


def test_every_shard_gets_the_rules_once_and_a_lost_record_again(tmp_path: Path) -> None:
    """One record a shard, none while they are the same, and again what was put in and never read."""
    side = Side(tmp_path)
    with_rules(side, BEARING)
    found = [one for one in side.topic(IN) if records.kind_of(one.headers) == "rules"]
    assert sorted(one.partition for one in found) == list(range(SHARDS))
    assert all(shard.book.patterns[0].name == "bearing" for shard in side.runner._shards.values())
    for _ in range(3):
        side.real_s += 60
        side.runner.look_at_rules()
        side.run()
    assert len([one for one in side.topic(IN) if records.kind_of(one.headers) == "rules"]) == SHARDS
    side.reopen()
    assert side.runner._shards[SHARD].book.patterns[0].name == "bearing", "they are state"

    copies = RulesCopies(side.log, side.clock, Book((msgspec.structs.replace(BEARING, severity="info"),)))
    shards = side.runner._shards
    assert copies.step(shards, [SHARD], 0.0) == 1
    assert copies.step(shards, [SHARD], 5.0) == 0, "it waits to be read"
    assert copies.step(shards, [SHARD], 60.0) == 1, "perhaps it was lost"


def test_a_kill_once_the_rules_are_in_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At "cloud.rules" they are on the bus, and no shard has read them: the next process does, and puts none in again once they are read."""

    def killed(name: str) -> None:
        raise Killed(name)

    side = Side(tmp_path)
    copies = RulesCopies(side.log, side.clock, Book((BEARING,)))
    with monkeypatch.context() as patch:
        patch.setattr(rules_copies, "reached", killed)
        with pytest.raises(Killed):
            copies.step({})
    side.drop()
    side.open()
    side.runner.rules.follow(Book((BEARING,)))
    side.run()
    with_rules(side, BEARING)
    assert all(shard.book.patterns[0].name == "bearing" for shard in side.runner._shards.values())
    found = [one for one in side.topic(IN) if records.kind_of(one.headers) == "rules"]
    assert sorted(one.partition for one in found) == list(range(SHARDS))


def test_a_pattern_keeps_since_when_it_is_in_while_its_text_is_the_same(tmp_path: Path) -> None:
    """What completed before its text was put in is no news; other rules that come and go do not make it new."""
    side = Side(tmp_path)
    with_rules(side, BEARING)
    first = side.runner._shards[SHARD].book
    side.clock.advance(100)
    other = Pattern("other", of=Step("anomaly"), count=1)
    with_rules(side, other, BEARING)
    second = side.runner._shards[SHARD].book
    assert second.time_us > first.time_us
    assert second.patterns[1].since_us == first.patterns[0].since_us < second.patterns[0].since_us
    side.clock.advance(100)
    with_rules(side, msgspec.structs.replace(BEARING, severity="info"))
    assert side.runner._shards[SHARD].book.patterns[0].since_us > second.patterns[0].since_us
    with_rules(side)
    assert side.runner._shards[SHARD].book.patterns == ()


def test_what_was_complete_before_a_rule_was_put_in_is_no_news(tmp_path: Path) -> None:
    """A new rule finds what completes from then on; changed, it goes on with the alert that is there, and makes no other of the past."""
    side, agent = Side(tmp_path), Agent()
    side.clock.wall_us = T0 + 400 * S
    side.put_clock(SHARD)
    one = {"series": "s1/d1/v", "rule": "shakes"}
    side.take(agent.anomaly("begin", 60, **one), agent.anomaly("begin", 300, series="s1/d1/t", rule="warm"))  # type: ignore[arg-type]
    with_rules(side, BEARING)
    assert alerts(side, "bearing") == [], "it was complete at 300 s, and the rule came at 400 s"
    side.reopen()
    side.take(agent.anomaly("begin", 310, series="s1/d2/v", rule="shakes"), agent.heartbeat(320))
    side.take(agent.anomaly("begin", 500, series="s1/d2/t", rule="warm"))
    assert alerts(side, "bearing") == [("bearing", "s1/d2", "firing", 310)], "half of it was there before"
    side.clock.wall_us = T0 + 600 * S
    with_rules(side, msgspec.structs.replace(BEARING, text="other words"))
    assert alerts(side, "bearing") == [("bearing", "s1/d2", "firing", 310)]
    assert side.rows("SELECT text FROM alert WHERE rule = 'bearing'") == [("other words",)]
    side.take(agent.anomaly("begin", 700, series="s1/d1/t2", rule="warm"))
    assert alerts(side, "bearing")[0] == ("bearing", "s1/d1", "firing", 60), "again complete"


def test_an_older_record_of_rules_changes_nothing(tmp_path: Path) -> None:
    """Of several the latest counts, in any order and as often as they come."""
    side = Side(tmp_path)
    new, old = Book((BEARING,), time_us=T0 + 9), Book(time_us=T0 + 5)
    side.take(rules_record(new, SHARD), rules_record(new, SHARD), rules_record(old, SHARD))
    assert side.runner._shards[SHARD].book == new


def test_a_rule_that_is_gone_ends_its_alerts(tmp_path: Path) -> None:
    """Nobody looks for it any more: its open alert is over, those that are over stay."""
    side, agent = Side(tmp_path), Agent()
    side.put_clock(SHARD)
    with_rules(side, BEARING)
    side.take(
        agent.anomaly("begin", 60, series="s1/d1/v", rule="shakes"),
        agent.anomaly("begin", 300, series="s1/d1/t", rule="warm"),
    )
    with_rules(side)
    assert [(rule, state) for rule, _, state, _ in alerts(side)] == [
        ("bearing", "resolved"), ("shakes", "firing"), ("warm", "firing")
    ]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 200])
def test_what_lies_before_new_rules_goes_by_those_before(tmp_path: Path, batch: int) -> None:
    """Whatever the cut into batches: a match that was complete when its rule went was an alert, which is over then."""
    agent = Agent()
    tape = [
        clock_record(SHARD, T0),
        rules_record(Book((BEARING,), time_us=T0 + 1), SHARD),
        agent.anomaly("begin", 60, series="s1/d1/v", rule="shakes"),
        agent.anomaly("begin", 300, series="s1/d1/t", rule="warm"),
        rules_record(Book(time_us=T0 + 400 * S), SHARD),
        agent.anomaly("begin", 500, series="s1/d1/t2", rule="warm"),
    ]
    side, pieces = Side(tmp_path / "side", batch=batch), PieceSide(tmp_path / "pieces", batch)
    for one in (side, pieces):
        one.put(*tape)
        one.run()
        assert alerts(one, "bearing") == [("bearing", "s1/d1", "resolved", 60)]
    pieces.close()


def test_a_device_has_one_status_at_a_time(tmp_path: Path) -> None:
    """An agent that started anew does not know the status before: offline is over when the device is online, whoever says so."""
    off = Pattern("off", sequence=(Step("device", "offline"),))
    side, agent = Side(tmp_path), Agent()
    side.put_clock(SHARD)
    with_rules(side, off)
    side.take(agent.status("s1/d1", "online", 300), agent.status("s1/d1", "offline", 100))
    assert alerts(side, "off") == [("off", "s1/d1", "resolved", 100)]
    side.take(agent.status("s1/d1", "offline", 400, "online", 300))
    assert alerts(side, "off") == [("off", "s1/d1", "resolved", 100), ("off", "s1/d1", "firing", 400)]


def test_windows_above_a_limit_for_a_while_are_evidence_and_revisions_count(tmp_path: Path) -> None:
    """Means of windows that touch are one run; one that is revised below the limit takes the match away, and brings it back."""
    side, agent = Side(tmp_path), Agent()
    hot = Pattern(
        "hot-for-long", sequence=(Step("window", series="*/temp", level="10s", above=80.0, for_us=30 * S),)
    )  # fmt: skip
    side.put_clock(SHARD)
    with_rules(side, hot)
    side.take(*(agent.frame(row(at, 90.0, opened=("a1", 1, at + 1))) for at in (0, 10)), agent.heartbeat(20))
    assert alerts(side) == [], "it was so for 20 s"
    side.take(agent.frame(row(20, 95.0, opened=("a1", 1, 21))), agent.heartbeat(30))
    assert alerts(side) == [("hot-for-long", "s1/d1", "firing", 0)]
    side.take(agent.frame(row(30, 20.0, opened=("a1", 1, 31))), agent.heartbeat(40))
    assert alerts(side) == [("hot-for-long", "s1/d1", "resolved", 0)]
    middle = row(10, 10.0, opened=("a1", 1, 11), revision=1)
    side.take(agent.frame(middle))
    assert alerts(side) == [("hot-for-long", "s1/d1", "withdrawn", 0)]
    side.take(agent.frame(row(10, 99.0, opened=("a1", 1, 11), revision=2)))
    assert alerts(side) == [("hot-for-long", "s1/d1", "resolved", 0)]
    side.take(agent.frame(row(0, 10.0, opened=("a1", 1, 1), revision=1)))
    assert alerts(side) == [("hot-for-long", "s1/d1", "withdrawn", 0)], "its run is another one now"
    side.take(agent.frame(row(0, 85.0, opened=("a1", 1, 1), revision=2)))
    assert alerts(side) == [("hot-for-long", "s1/d1", "resolved", 0)]
    side.take(agent.frame(without(row(10, 99.0, opened=("a1", 1, 11)), 3)))
    assert alerts(side) == [("hot-for-long", "s1/d1", "withdrawn", 0)]


def test_runs_of_windows_are_the_same_in_any_order(tmp_path: Path) -> None:
    """Late windows join runs, from the left, from the right and in between."""
    values = {0: 90.0, 10: 90.0, 20: 10.0, 30: 90.0, 40: 90.0, 50: 90.0, 60: 1.0}
    found = []
    for n, order in enumerate((sorted(values), sorted(values, reverse=True), [30, 0, 50, 20, 10, 60, 40])):
        side, agent = Side(tmp_path / str(n)), Agent()
        side.put_clock(SHARD)
        with_rules(side, Pattern("hot", sequence=(Step("window", level="10s", above=80.0),)))
        for at in order:
            side.take(agent.frame(row(at, values[at], opened=("a1", 1, at + 1))))
        side.take(agent.heartbeat(70))
        kept = side.runner._shards[SHARD].evidence["s1/d1"].evidence
        found.append(kept)
        assert [at for _, _, state, at in alerts(side) if state == "resolved"] == [0, 30]
    assert found[0] == found[1] == found[2]


def test_a_site_is_counted_by_devices_and_a_cohort_across_shards(tmp_path: Path) -> None:
    """Evidence of a cohort goes to its home shard as records: devices of two sites that are in two shards are counted together."""
    many = Pattern("many", "site", 10 * MIN, of=Step("anomaly", "hot"), count=2, distinct="device")
    model = Pattern(
        "model",
        "cohort",
        10 * MIN,
        of=Step("anomaly", "hot"),
        count=3,
        distinct="device",
        text="{count}: {devices}",
    )
    side, one, two = Side(tmp_path), Agent("a1"), Agent("a2")
    assert len({SHARD, shard_of("s2"), home_of("+P100")}) == 3
    side.put_clock(SHARD, shard_of("s2"))
    devices = ("s1/d1", "s1/d2", "s2/d1")
    for device in devices:
        change = RegistryChange(device, T0, model="P100")
        headers = records.headers(records.REGISTRY, device, "cloud", T0)
        side.put(records_in(change, shard_of(device.split("/")[0]), headers))
    with_rules(side, many, model)
    side.take(
        one.anomaly("begin", 10, series="s1/d1/t", rule="hot"), two.anomaly("begin", 20, series="s2/d1/t", rule="hot"),
    )  # fmt: skip
    assert alerts(side, "many") == alerts(side, "model") == []
    side.take(one.anomaly("begin", 30, series="s1/d2/t", rule="hot"))
    assert alerts(side, "many") == [("many", "s1", "firing", 10)]
    assert alerts(side, "model") == [("model", "+P100", "firing", 10)]
    ((text,),) = side.rows("SELECT text FROM alert WHERE rule = 'model'")
    assert text == "3: s1/d1, s2/d1, s1/d2"
    sent = [one for one in side.topic(IN) if records.kind_of(one.headers) == EVIDENCE]
    assert {one.partition for one in sent} == {home_of("+P100")}
    side.take(two.anomaly("end", 90, begin=20, series="s2/d1/t", rule="hot"))
    assert side.runner._shards[home_of("+P100")].evidence["+P100"].evidence.keys() >= {
        one.id for one in side.runner._shards[SHARD].evidence["s1/d1"].evidence.values()
    }


def records_in(change: RegistryChange, shard: int, headers: dict[str, str]):  # type: ignore[no-untyped-def]  # noqa: ANN201
    from headwater_shared.bus import Record

    return Record(topics.IN.name, shard, change.device, headers, records.encode(change))


def test_an_agent_that_is_not_heard_is_one_alert_of_all_its_shards(tmp_path: Path) -> None:
    """Silence in two shards, told in the agent's home: one alert, from when it was complete last, over when it is heard again."""
    side, agent = Side(tmp_path, limits=Limits(silent_after_us=300 * S)), Agent("gw")
    other = shard_of("s2")
    side.put_clock(SHARD, other)
    side.take(
        agent.frame(row(5, 1.0)), agent.frame(row(5, 1.0, series="s2/d1/x")),
        agent.heartbeat(60), agent.heartbeat(90, shard=other),
    )  # fmt: skip
    for _ in range(7):
        side.put_clock(SHARD, other, home_of("agent:gw"), seconds=60)
        side.run()
    assert alerts(side, "agent-silent") == [("agent-silent", "gw", "firing", 60)]
    side.take(agent.frame(row(500, 1.0)), agent.heartbeat(510))
    assert alerts(side, "agent-silent") == [("agent-silent", "gw", "firing", 60)], "one shard still waits"
    side.take(agent.frame(row(500, 1.0, series="s2/d1/x")), agent.heartbeat(510, shard=other))
    assert alerts(side, "agent-silent") == [("agent-silent", "gw", "resolved", 60)]


def test_absence_is_decided_when_the_agent_is_complete_and_not_by_the_clock(tmp_path: Path) -> None:
    """No answer within five minutes: only once the agent's word is there up to then; while it is silent nothing is said."""
    side, agent = Side(tmp_path, limits=Limits(silent_after_us=300 * S)), Agent()
    unanswered = Pattern(
        "unanswered", within_us=5 * MIN, sequence=(Step("anomaly", "asks"), Step("anomaly", "answers", absent=True)),
    )  # fmt: skip
    side.put_clock(SHARD)
    with_rules(side, unanswered)
    side.take(agent.anomaly("begin", 0, series="s1/d1/a", rule="asks"), agent.heartbeat(100))
    for _ in range(10):
        side.put_clock(SHARD, seconds=60)
        side.run()
    assert alerts(side, "unanswered") == []
    side.take(agent.heartbeat(300))
    assert alerts(side, "unanswered") == [("unanswered", "s1/d1", "firing", 0)]
    side.take(agent.anomaly("begin", 200, series="s1/d1/a", rule="answers"))
    assert alerts(side, "unanswered") == [("unanswered", "s1/d1", "withdrawn", 0)], "it came late"


def test_a_restart_and_an_engine_of_pieces_come_to_the_same(tmp_path: Path) -> None:
    """Evidence, rules and what waits for a time are found again from the state, in tables and in pieces alike."""
    held = Pattern("held", sequence=(Step("anomaly", "hot", for_us=5 * MIN),))

    def tape(agent: Agent):  # type: ignore[no-untyped-def]  # noqa: ANN202
        yield rules_record(Book((held, BEARING), time_us=T0), SHARD)
        yield agent.anomaly("begin", 10, series="s1/d1/t", rule="hot")
        yield agent.anomaly("begin", 60, series="s1/d1/v", rule="shakes")
        yield agent.heartbeat(200)
        yield agent.anomaly("begin", 300, series="s1/d1/t", rule="warm")
        yield agent.heartbeat(400)

    side = Side(tmp_path / "side")
    side.put_clock(SHARD)
    for one in tape(Agent()):
        side.take(one)
        side.reopen()
    pieces = PieceSide(tmp_path / "pieces")
    for one in tape(Agent()):
        pieces.put(one)
        while pieces.step():
            pieces.kill()
    wanted = [("held", "s1/d1", "firing", 10), ("hot", "s1/d1/t", "firing", 10)]
    wanted += [
        ("bearing", "s1/d1", "firing", 60),
        ("shakes", "s1/d1/v", "firing", 60),
        ("warm", "s1/d1/t", "firing", 300),
    ]
    assert alerts(side) == alerts(pieces) == wanted
    pieces.close()

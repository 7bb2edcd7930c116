"""`alerts`, `incidents` and `maintenance` as a person types them, through the bus and the cloud side; tables that are made again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from headwater_cloud import maintenance, rebuild
from headwater_cloud.ack_page import Acknowledged
from headwater_cloud.acknowledged import acknowledged
from headwater_cloud.cli import app
from headwater_cloud.maintenance import Planned
from headwater_cloud.outputs import Notification
from headwater_cloud.query import iso
from headwater_shared.actions import record_of
from headwater_shared.alert_records import Action
from headwater_shared.errors import HeadwaterError, Refused, SettingsError, StateInUse
from headwater_shared.sqlite_log import SqliteLog
from headwater_shared.topics import DEAD_LETTERS
from tests.cloud.made import DAY, SHARD, T0, TEMP, Agent, S, clock_record
from tests.cloud.on_pieces import Death, PieceSide
from tests.cloud.side import LOG, Side

HOUR = 3_600 * S


class Told(Side):
    """A cloud side with a settings file, whose commands a person calls."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = folder / "headwater.toml"
        self.minutes = 1
        self.write_settings()

    def write_settings(self) -> None:
        """Each command is called a minute after the one before."""
        self.minutes += 1
        origin_us = 2 * time.time_ns() // 1_000 - (T0 + self.minutes * 60 * S)  # shows that time now
        clock = f"scaled:2@{iso(origin_us)}"
        zones = '{ s1 = "Europe/Berlin" }'
        self.settings.write_text(
            f'[common]\ndata = "{self.folder}"\nclock = "{clock}"\n[cloud]\nzones = {zones}\n'
        )

    def call(self, *words: str) -> str:
        """Call a command; return what it prints."""
        self.write_settings()
        done = CliRunner().invoke(app, [*words, "--settings", str(self.settings)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    def json(self, *words: str) -> Any:
        """Call a command with --json; return what it says: of a list one object a line."""
        lines = self.call(*words, "--json").splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def told(folder: Path) -> Iterator[Told]:
    """Two alerts of one incident, and one of another rule and site."""
    made = Told(folder / "told")
    agent = Agent()
    made.put_clock(SHARD)
    made.take(
        agent.anomaly("begin", 3, 91.5, text="bearing too hot"),
        agent.anomaly("begin", 40, series="s1/d2/temp"),
    )
    made.take(agent.anomaly("begin", 5, rule="stuck", series="s2/d1/flow", severity="info"))
    yield made
    made.close()


def test_lists_by_state_site_and_rule(told: Told) -> None:
    """The newest first; globs; columns that a person reads, with the id that other commands take."""
    assert [one["subject"] for one in told.json("alerts")] == ["s1/d2/temp", "s2/d1/flow", TEMP]
    assert [one["rule"] for one in told.json("alerts", "--site", "s2")] == ["stuck"]
    assert [one["subject"] for one in told.json("alerts", "--rule", "too-*", "--last", "1")] == ["s1/d2/temp"]
    assert told.json("alerts", "--state", "resolved") == []
    assert [(one["site"], one["alerts"], one["state"]) for one in told.json("incidents")] == [
        ("s2", 1, "open"), ("s1", 2, "open"),
    ]  # fmt: skip
    with pytest.raises(Refused, match="there is no state 'firng'"):
        told.call("alerts", "--state", "firng")


def test_an_alert_is_acknowledged_and_its_page_tells_all(told: Told) -> None:
    """From the command over the bus to the row: who, why, when; evidence and timeline; nothing is asked of a running process."""
    (one,) = told.json("alerts", "--rule", "stuck")
    assert "acknowledged: stuck of s2/d1/flow" in told.call(
        "alerts", "ack", one["id"][:6], "--who", "ann", "--why", "on my way"
    )
    told.run()
    assert [alert["state"] for alert in told.json("alerts", "--rule", "stuck")] == ["acknowledged"]
    page = told.call("alerts", "show", one["id"][:6])
    for line in (
        "INFO  stuck  s2/d1/flow", "acknowledged by ann; since 2027-01-15T08:00:05Z", "stuck of s2/d1/flow begins: 90, limit 80",
        "people are told: firing", "acknowledged by ann: on my way",
    ):  # fmt: skip
        assert line in page
    (whole,) = told.json("alerts", "show", one["id"])
    assert [event["what"] for event in whole["events"]] == ["firing", "ack"]
    assert [event["n"] for event in whole["events"]] == [1, 2]


def test_an_incident_named_is_all_of_its_alerts(told: Told) -> None:
    """Mute for a while, unmute, end by hand; what is over can be noted on and nothing else."""
    incident = told.json("incidents", "--site", "s1")[0]["id"]
    told.call("alerts", "mute", incident, "--for", "2h", "--who", "ann")
    told.run()
    assert {one["muted"] for one in told.json("alerts", "--site", "s1")} == {"muted by ann"}
    told.call("alerts", "unmute", incident)
    told.run()
    assert {one["muted"] for one in told.json("alerts", "--site", "s1")} == {""}
    told.call("alerts", "resolve", incident, "--why", "a new bearing")
    told.run()
    over = told.json("alerts", "--site", "s1")
    assert {one["state"] for one in over} == {"resolved"}
    assert [line["state"] for line in told.lines() if line["site"] == "s1"] == ["firing", "resolved"]
    page = told.call("incidents", "show", incident[:8])
    assert "CRITICAL  s1: 2 alerts of 2 devices, 0 open" in page
    rows = [line for line in page.splitlines() if " resolved  " in line]
    ids = [one["id"][:12] for one in over]
    assert len({line.index(id_) for line, id_ in zip(rows, ids, strict=True)}) == 1, "columns are aligned"
    first, second = (
        told.call("alerts", "show", one["id"]) for one in sorted(over, key=lambda one: str(one["since"]))
    )
    assert "people are told: resolved, of too-hot of s1/d2/temp" in first, "what was told is of the incident"
    for line in (
        "firing, of too-hot of s1/d1/temp",
        "told: resolved\n",
        "Z  muted by ann\n",
        "no longer muted by ann\n",
    ):
        assert line in second
    with pytest.raises(Refused, match="is resolved since"):
        told.call("alerts", "ack", over[0]["id"])
    told.call("alerts", "comment", over[0]["id"], "the spare is in hall 3")
    told.run()
    assert "the spare is in hall 3" in told.call("alerts", "show", over[0]["id"])


def test_what_is_wrong_is_said_with_a_remedy(told: Told) -> None:
    """No such alert, too little of an id, two ways to say until when."""
    for words, error in (
        (["show", "zzzz"], "there is no alert 'zzzz'"),
        (["ack", "ab"], "there is no alert 'ab'"),
        (["mute", told.json("alerts")[0]["id"], "--for", "1h", "--until", "2027-01-16"], "two ways"),
        (["mute", told.json("alerts")[0]["id"], "--until", "2026-01-16"], "is over already"),
    ):
        with pytest.raises(HeadwaterError, match=error) as found:
            told.call("alerts", *words)
        assert found.value.hint


def test_the_tables_are_read_models(told: Told) -> None:
    """Thrown away and made again from the topics they are what the runner wrote, to the last column; not while it runs."""
    agent = Agent("a2")
    told.call("alerts", "ack", told.json("alerts")[0]["id"])
    told.take(
        agent.anomaly("begin", 1),
        agent.anomaly("end", 9, begin=1),
        agent.anomaly("end", 50, series="s1/d2/temp", begin=40),
    )
    told.put_clock(SHARD, seconds=400)
    told.run()
    tables = {
        table: told.rows(f"SELECT * FROM {table} ORDER BY 1, 2")
        for table in ("alert", "alert_event", "incident")
    }
    assert {state for (state,) in told.rows("SELECT state FROM alert")} >= {"firing", "resolved", "withdrawn"}
    with pytest.raises(StateInUse):
        rebuild.rebuild(told.settings)
    told.store.connection.execute("UPDATE alert SET state = 'firing'")
    told.store.connection.execute("DELETE FROM alert_event")
    told.close()
    found = rebuild.rebuild(told.settings)
    assert found == {"alerts": len(tables["alert"]), "events": len(tables["alert_event"])}
    assert {table: told.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables} == tables
    told.open()


def test_a_worker_comes_to_the_same_alerts_whatever_is_killed(folder: Path) -> None:
    """Over pieces of state, killed between the rows and the checkpoint, or after it: the alerts of the local runner, each message once."""
    side, other = Side(folder / "one"), PieceSide(folder / "other", batch=3)
    agent = Agent()
    some = [agent.anomaly("begin", n, series=f"s1/d{n % 7}/temp") for n in range(20)]
    some += [agent.anomaly("end", n + 30, begin=n, series=f"s1/d{n % 7}/temp") for n in range(0, 20, 2)]
    side.take(clock_record(SHARD, T0), *some)
    other.put(clock_record(SHARD, T0), *some)
    deaths: list[Death] = ["before", "", "after", "before", ""]
    for n in range(60):
        other.step(dies=deaths[n % 5])
    query = "SELECT id, state, incident, time_us FROM alert WHERE state <> 'withdrawn' ORDER BY id"
    assert other.rows(query) == side.rows(query)
    ids = [at for (at,) in other.rows("SELECT id FROM notification")]
    assert len(ids) == len(set(ids))
    assert [at for at in ids if at.endswith("/firing")]
    other.close()
    side.close()


def test_r29_what_a_checkpoint_that_failed_had_to_say_is_not_said(folder: Path) -> None:
    """A worker had a message of the first alert, and died before its commit; what is worked on again has a worse one in the same batch: people hear of
    the incident once, by that.
    """
    side, agent = PieceSide(folder / "worker", batch=2), Agent()
    side.put(clock_record(SHARD, T0), agent.anomaly("begin", 1, severity="warning"))
    side.step(dies="before")
    side.batch = 200
    side.take(agent.anomaly("begin", 2, series="s1/d2/temp"))
    bodies = [
        msgspec.json.decode(body, type=Notification)
        for (body,) in side.rows("SELECT body FROM notification ORDER BY n")
    ]
    assert [(one.subject, one.possible_repeat) for one in bodies] == [("s1/d2/temp", False)]
    side.close()


def test_a_link_acknowledges_all_that_its_message_spoke_of(told: Told) -> None:
    """The same link twice is one action."""
    (body,) = (body for (body,) in told.rows("SELECT body FROM notification") if TEMP in body)
    said = msgspec.structs.replace(msgspec.json.decode(body, type=Notification), members=2)
    for _ in range(2):
        acknowledged(
            lambda: SqliteLog(told.folder / LOG),
            told.folder / "cloud.db",
            Acknowledged(said, "ann", T0 + 60 * S),
        )
    told.run()
    assert {one["state"] for one in told.json("alerts", "--site", "s1")} == {"acknowledged"}
    assert told.rows("SELECT count(*) FROM alert_event WHERE what = 'ack'") == [(1,)]


def test_a_record_that_is_no_action_is_a_dead_letter(told: Told) -> None:
    """Whoever wrote it: of another shard, without a name, of a kind that there is not."""
    good = Action("x", SHARD, "y", "s1/d1", "too-hot", TEMP, T0, "ack", False, "ann", "", T0, 0)
    wrong = msgspec.structs.replace(good, who="")
    stray = record_of(good, "me")
    told.take(
        record_of(wrong, "me"),
        msgspec.structs.replace(stray, partition=(SHARD + 1) % 64),
        msgspec.structs.replace(stray, body=b"no"),
    )
    assert told.rows("SELECT count(*) FROM alert_event WHERE what = 'ack'") == [(0,)]
    reasons = sorted(one.headers["reason"] for one in told.topic(DEAD_LETTERS))
    assert reasons == ["damaged", "damaged", "wrong-shard"]


def test_maintenance_is_planned_by_the_clock_on_the_wall(told: Told) -> None:
    """In the site's zone; listed with the next times; taken back by its id; mistakes are named."""
    said = told.call(
        "maintenance",
        "add",
        "s1/*",
        "--for",
        "4h",
        "--from",
        "2027-01-16T22:00",
        "--repeat",
        "weekly",
        "--why",
        "oil",
    )
    at = said.partition(":")[0]
    told.call("maintenance", "add", "s2/d1", "--for", "30m")
    (shown,) = told.json("maintenance", "list")
    assert {one["zone"] for one in shown["planned"].values()} == {"Europe/Berlin", "UTC"}
    first = next(one for one in shown["times"] if one["subject"] == "s1/*")
    assert datetime.fromtimestamp(first["begin_us"] / 1e6, UTC).isoformat() == "2027-01-16T21:00:00+00:00"
    assert "NOW" in told.call("maintenance", "list")
    far = ("--from", "2027-03-01T04:00", "--repeat", "daily", "--last", "2027-03-31")
    later = told.call("maintenance", "add", "s2/d2", "--for", "1500ms", *far).partition(":")[0]
    lines = told.call("maintenance", "list").splitlines()
    (n,) = [n for n, line in enumerate(lines) if line.startswith(later)]
    assert "from 2027-03-01T04:00 (UTC) for 1s, daily until 2027-03-31" in lines[n]
    assert lines[n + 1].strip() == "none within a week"
    told.call("maintenance", "remove", later)
    told.call("maintenance", "remove", at)
    assert len(told.json("maintenance", "list")[0]["planned"]) == 1
    for words, error in (
        (["remove", at], "there is no maintenance"),
        (["add", "s1", "--for", "1h"], "'s1' is no device"),
        (["add", "s1/*", "--for", "1h", "--from", "tonight"], "'tonight' is no time"),
        (["add", "s1/*", "--for", "1h", "--zone", "Mars/Olympus"], "is no time zone"),
        (["add", "s1/*", "--for", "100d"], "more than 90 days"),
    ):  # fmt: skip
        with pytest.raises((Refused, SettingsError), match=error):
            told.call("maintenance", *words)


def test_what_repeats_keeps_to_the_clock_of_its_zone() -> None:
    """22:00 in Berlin is 22:00 there on both sides of the change to summer time; it lasts as long; the book is the same all day."""
    now_us = round(datetime(2027, 3, 27, 12, tzinfo=UTC).timestamp()) * S
    weekly = {"m": Planned("s1/*", "2026-01-03T22:00", "Europe/Berlin", 4 * HOUR, "weekly", why="oil")}
    found = maintenance.times(weekly, now_us)
    begins = [datetime.fromtimestamp(one.begin_us / 1e6, UTC).strftime("%d %H:%M") for one in found]
    assert begins == ["13 21:00", "20 21:00", "27 21:00", "03 20:00"]
    assert {one.end_us - one.begin_us for one in found} == {4 * HOUR}
    assert len({one.id for one in found}) == 4
    for hours in range(-12, 12):
        assert maintenance.times(weekly, now_us + hours * HOUR) == found
    daily = {"d": Planned("s1/*", "2027-03-20T01:00", "UTC", HOUR, "daily", "2027-03-29")}
    assert len(maintenance.times(daily, now_us)) == 10
    assert maintenance.times({"o": Planned("s1/*", "2027-01-01T00:00", "UTC", DAY)}, now_us) == ()


def test_what_is_not_on_the_bus_yet_is_in_the_tables_too(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cloud side ended between its commit and what it puts out: the tables are made of both."""
    with monkeypatch.context() as patch:
        patch.setattr(told.runner._publisher, "publish", lambda: None)
        told.take(Agent("a3").anomaly("begin", 900, series="s3/d1/temp"))
    before = told.rows("SELECT * FROM alert ORDER BY id")
    assert told.rows("SELECT count(*) FROM output WHERE topic = 'hw-alerts'") == [(1,)]
    told.drop()
    rebuild.rebuild(told.settings)
    assert told.rows("SELECT * FROM alert ORDER BY id") == before
    told.open()

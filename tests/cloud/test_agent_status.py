"""Status frames: the cloud keeps the latest of each agent and shows it, from one process, whatever version or order they come in."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from pathlib import Path

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from headwater_cloud import told
from headwater_cloud.agents_shown import SHOWN_US, AgentsShown
from headwater_cloud.rule_records import agent_key, home_of
from headwater_shared import records, topics
from headwater_shared.agent_metrics import TOLD
from headwater_shared.agent_status import AgentStatus, status_of
from headwater_shared.bus import Record
from headwater_shared.identity import SHARDS, agent_shard
from headwater_shared.topics import IN
from tests.cloud.made import T0, S
from tests.cloud.side import FILE, Side

Sample = tuple[str, dict[str, str], float]


def frame_of(agent: str, *samples: Sample, site: str = "s1", time_us: int = T0) -> Record:
    """A status frame as an agent sends it."""
    status = status_of(agent, site, time_us, samples)
    return record_of(status)


def record_of(status: AgentStatus, shard: int | None = None) -> Record:
    headers = records.headers(records.AGENT_STATUS, f"{status.agent}/status", status.agent, status.time_us)
    where = agent_shard(status.agent) if shard is None else shard
    return Record(IN.name, where, status.agent, headers, records.encode(status))


def shown(
    folder: Path, real_us: int, shards: Collection[int] = range(SHARDS)
) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What a process that holds these shards shows, by name; both formats say the same."""
    made = AgentsShown(folder / FILE, lambda: shards, lambda: real_us)
    plain, openmetrics = made.text(openmetrics=False), made.text(openmetrics=True)
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in parse(plain):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    again: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in parse_openmetrics(openmetrics + "# EOF\n"):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            again.setdefault(sample.name, []).append((sample.labels, sample.value))
    assert found == again
    return found


def test_the_latest_status_of_each_agent_is_shown_with_its_site(side: Side) -> None:
    """Names, labels and numbers are the agent's own, under `headwater_agent_`, with agent and site; of a counter and of a gauge."""
    side.take(
        frame_of("a1", ("headwater_edge_readings_total", {}, 5.0), ("headwater_edge_outbox_rows", {}, 1.0))
    )
    side.take(
        frame_of(
            "a1",
            ("headwater_edge_readings_total", {}, 9.0),
            ("headwater_edge_forward_mode", {"mode": "live"}, 1.0),
        )
    )
    side.take(frame_of("a2", ("headwater_edge_readings_total", {}, 2.0), site='s"2'))
    folder = side.folder
    heard = side.clock.wall_us
    side.close()
    found = shown(folder, heard + 12 * S)
    assert found["headwater_agent_readings_total"] == [
        ({"agent": "a1", "site": "s1"}, 9.0),
        ({"agent": "a2", "site": 's"2'}, 2.0),
    ]
    assert found["headwater_agent_forward_mode"] == [({"agent": "a1", "site": "s1", "mode": "live"}, 1.0)]
    assert "headwater_agent_outbox_rows" not in found
    assert [labels["agent"] for labels, _ in found["headwater_agent_status_age_seconds"]] == ["a1", "a2"]


def test_a_frame_of_another_version_does_no_harm(side: Side) -> None:
    """A value that is not known, or has other labels, is kept and counted, not shown, and the others are; no frames at all show nothing."""
    assert shown(side.folder, T0) == {}
    status = AgentStatus(
        "a1", "s1", T0,
        ["headwater_edge_readings_total", "headwater_next_year", "headwater_edge_devices", "headwater_edge_forward_mode"],
        ["", "", '{"state":"online"}', "no JSON"],
        [5.0, 1.0, 1.0, float("nan")],
    )  # fmt: skip
    side.take(record_of(status))
    heard = side.clock.wall_us
    assert side.count("status_frames_total") == 1
    assert side.count("status_values_unknown_total") == 3
    found = shown(side.folder, heard)
    assert found["headwater_agent_readings_total"] == [({"agent": "a1", "site": "s1"}, 5.0)]
    assert set(found) == {
        "headwater_agent_readings_total", "headwater_agent_status_age_seconds", "headwater_agent_clock_offset_seconds",
    }  # fmt: skip
    assert side.topic(topics.DEAD_LETTERS) == []


def test_what_is_no_frame_is_a_dead_letter(side: Side) -> None:
    """Bytes that cannot be read, columns of different lengths, names that are none, and another agent's shard: kept whole, nothing shown."""
    good = frame_of("a1", ("headwater_edge_series", {}, 1.0))
    side.take(msgspec.structs.replace(good, body=good.body[:-3]))
    side.take(record_of(AgentStatus("a1", "s1", T0, ["headwater_edge_series"], [], [])))
    side.take(record_of(AgentStatus("a/1", "s1", T0, [], [], [])))
    side.take(record_of(AgentStatus("a1", "s1", T0, [], [], []), shard=(agent_shard("a1") + 1) % SHARDS))
    letters = side.topic(topics.DEAD_LETTERS)
    assert [one.headers["reason"] for one in letters] == ["damaged", "damaged", "damaged", "wrong-shard"]
    assert side.rows("SELECT count(*) FROM agent_status") == [(0,)]


def test_status_costs_no_commit_of_its_own_and_none_is_lost_with_the_next(side: Side) -> None:
    """Frames wait for a commit as heartbeats do, and the next batch takes along what waited."""
    side.run()
    before = side.count("commits_total")
    for number in range(3):
        side.put(frame_of(f"a{number}", ("headwater_edge_series", {}, 1.0)))
        side.runner.step()
    assert side.count("commits_total") == before
    side.settle()
    assert side.count("commits_total") == before + 1
    assert side.rows("SELECT agent FROM agent_status ORDER BY agent") == [("a0",), ("a1",), ("a2",)]


def test_the_older_of_two_frames_never_replaces_the_newer(side: Side) -> None:
    """A log that is read again from its beginning brings old frames: the latest stays."""
    old, new = (frame_of("a1", ("headwater_edge_series", {}, value)) for value in (1.0, 2.0))
    wall = side.clock.wall_us
    side.take(new)
    numbers = side.rows("SELECT numbers FROM agent_status")
    stored = side.topic(IN)[0]
    with side.store.transaction() as connection:
        again = told.told_of(msgspec.structs.replace(stored, time_us=wall - S, body=old.body), lambda us: us)
        told.write_told(connection, [again])
    assert side.rows("SELECT numbers FROM agent_status") == numbers


def test_a_restart_knows_what_was_told(side: Side) -> None:
    """The table is in the file: the next process shows the same without a new frame."""
    side.take(frame_of("a1", ("headwater_edge_series", {}, 7.0)))
    heard = side.clock.wall_us
    before = shown(side.folder, heard + S)
    side.reopen()
    assert shown(side.folder, heard + S) == before
    assert before["headwater_agent_status_age_seconds"] == [({"agent": "a1", "site": "s1"}, 1.0)]


@pytest.mark.parametrize("agents", [40])
def test_each_agent_is_shown_by_exactly_one_of_several_processes(side: Side, agents: int) -> None:
    """By the shard that is its home, whoever holds it: also after shards changed hands, and no frame came since."""
    for number in range(agents):
        side.take(frame_of(f"agent-{number}", ("headwater_edge_series", {}, float(number))))
    heard = side.clock.wall_us
    everyone = {f"agent-{number}" for number in range(agents)}
    held: list[set[int]] = [set(range(40)), set(range(40, SHARDS))]
    workers = [AgentsShown(side.folder / FILE, lambda at=at: held[at], lambda: heard) for at in (0, 1)]  # type: ignore[misc]
    for shards in (held[0], set(range(10)), set()):
        held[0], held[1] = shards, set(range(SHARDS)) - shards
        of_each = [
            {
                sample.labels["agent"]
                for family in parse(worker.text(openmetrics=False))
                for sample in family.samples
                if sample.name == "headwater_agent_series"
            }
            for worker in workers
        ]
        assert of_each[0] | of_each[1] == everyone
        assert of_each[0] & of_each[1] == set()


def test_an_agent_that_is_gone_is_let_go_of(side: Side) -> None:
    """After an hour its values are no longer shown, only how long it is silent; after a week of others' frames it is forgotten."""
    side.take(frame_of("a1", ("headwater_edge_series", {}, 7.0)))
    heard = side.clock.wall_us
    found = shown(side.folder, heard + SHOWN_US + S)
    assert found == {"headwater_agent_status_age_seconds": [({"agent": "a1", "site": "s1"}, 3_601.0)]}
    side.clock.advance(told.KEPT_US / S + 1)
    side.take(frame_of("a2", ("headwater_edge_series", {}, 7.0)))
    assert side.rows("SELECT agent FROM agent_status") == [("a2",)]


def test_the_table_is_bounded(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write on the bus can name any agent: the ones heard last are kept."""
    monkeypatch.setattr(told, "MOST_AGENTS", 3)
    for number in range(5):
        side.clock.advance(1)
        side.take(frame_of(f"a{number}", ("headwater_edge_series", {}, 7.0)))
    assert side.rows("SELECT agent FROM agent_status ORDER BY agent") == [("a2",), ("a3",), ("a4",)]


def test_the_clock_of_an_agent_is_compared_with_the_bus(side: Side) -> None:
    """The agent's time less the time at which the bus took the frame: a Pi that believes it is 1970 stands out."""
    side.take(frame_of("a1", ("headwater_edge_series", {}, 1.0), time_us=side.clock.wall_us - 90 * S))
    found = shown(side.folder, side.clock.wall_us)
    assert found["headwater_agent_clock_offset_seconds"] == [({"agent": "a1", "site": "s1"}, -90.0)]


def test_what_is_by_device_is_told_as_a_sum() -> None:
    """The cloud has no label a device, and a frame is bounded."""
    many: list[Sample] = [
        ("headwater_edge_sequence_gaps_total", {"device": f"s1/d{n}"}, 2.0) for n in range(2_000)
    ]
    status = status_of("a1", "s1", T0, many)
    assert (status.labels, status.values) == ([""], [4_000.0])
    reasons: list[Sample] = [
        ("headwater_edge_alerts_refused_total", {"alert": f"r{n}"}, 2.0) for n in range(2_000)
    ]
    assert len(status_of("a1", "s1", T0, reasons).values) == 500


def test_agents_and_their_silence_are_of_one_shard() -> None:
    """Frames go where the cloud decides on the agent itself."""
    assert [agent_shard(name) for name in ("a1", "edge-7", "ä")] == [
        home_of(agent_key(name)) for name in ("a1", "edge-7", "ä")
    ]
    assert all(metric.labels[:2] == ("agent", "site") for metric in TOLD.values())


def test_a_file_that_cannot_be_read_hides_agents_and_nothing_else(tmp_path: Path) -> None:
    """The other metrics are shown all the same."""
    assert AgentsShown(tmp_path / FILE, lambda: range(SHARDS)).text(openmetrics=False) == ""
    sqlite3.connect(tmp_path / FILE).close()
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    assert AgentsShown(tmp_path / FILE, lambda: range(SHARDS)).text(openmetrics=False) == ""

"""Rules in the real agent: silence that nobody interrupts, a kill while something lasts, and what is said while it holds back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headwater_edge.acts import ActSettings
from headwater_edge.courier import Courier
from headwater_edge.decode import Decode
from headwater_edge.events import SeriesEvicted
from headwater_edge.gather import Gather
from headwater_edge.provisional import Provisional
from headwater_edge.rule_settings import LimitSettings, MissingSettings, RangeSettings
from headwater_edge.source import Burst
from headwater_edge.state import State
from headwater_edge.step import step
from headwater_edge.tick import quiet_tick
from headwater_edge.topics import SeriesIndex
from headwater_shared.clock import SetClock
from tests.edge.running import LOG, as_after_a_kill, edge_settings, on_bus, running
from tests.edge.test_agent import T0, reading, run
from tests.edge.test_rules_in_step import settings_of
from tests.support import until_async


def test_silence_is_an_anomaly_on_the_bus_without_another_reading(tmp_path: Path) -> None:
    """A tick that time alone makes: the agent looks once a second."""

    async def test() -> None:
        settings = edge_settings(missing=(MissingSettings("silent", "*", for_="60s"),))
        async with running(tmp_path, settings) as box:
            await box.publish(reading(0, 1.0))
            box.clock.advance(70)
            await until_async(lambda: on_bus(tmp_path / LOG)[1], what="the anomaly is on the bus")
        ((begin,),) = on_bus(tmp_path / LOG)[1:]
        assert (begin.rule, begin.phase, begin.begin_us, begin.time_us) == (
            "silent", "begin", T0 * 1_000_000, (T0 + 60) * 1_000_000,
        )  # fmt: skip

    run(test())


def test_a_kill_forgets_nothing_of_what_lasts(tmp_path: Path) -> None:
    """Half of a duration before the kill and half after it are the whole; what was broken ends under its id."""
    rules = {
        "limit": (LimitSettings("hot", "*", above=80.0, for_="30s"),),
        "range": (RangeSettings("odd", "*", low=0.0, high=80.0),),
    }

    async def test() -> None:
        clock = SetClock()
        async with running(_made(tmp_path / "first"), edge_settings(**rules), clock) as box:
            for at in (0, 10, 20):
                await box.publish(reading(at, 81.0))
            copy = as_after_a_kill(tmp_path / "first", tmp_path / "second")
        async with running(copy, edge_settings(**rules), clock, log=copy / LOG) as box:
            for at, value in ((30, 82.0), (40, 50.0)):
                await box.publish(reading(at, value))
            await box.forwarded()
        found = [
            (a.rule, a.phase, a.begin_us // 1_000_000 - T0, a.time_us // 1_000_000 - T0)
            for a in on_bus(copy / LOG)[1]
        ]
        assert sorted(found) == [
            ("hot", "begin", 0, 30), ("hot", "end", 0, 40), ("odd", "begin", 0, 0), ("odd", "end", 0, 40),
        ]  # fmt: skip

    run(test())


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_r18_limits_and_ranges_are_told_at_once_with_the_id_that_they_will_have() -> None:
    """While readings wait, a duration too, and the commands that they lead to; the step finds the same afterwards."""

    async def test() -> None:
        settings = settings_of(
            limit=(LimitSettings("hot", "*/temp", above=80.0, for_="20s"),),
            range=(RangeSettings("odd", "*/flow", low=0.0, high=10.0),),
            act=(
                ActSettings(name="cool", rule="hot", command="shut"),
                ActSettings(name="stop", rule="odd", command={"name": "stop", "at": "{value}"}),
            ),
        )
        state, index, clock = State(settings), SeriesIndex([], 100), SetClock()
        decode, gather = Decode(index), Gather()
        sent: list[str] = []

        def send(_topic: bytes, payload: bytes, _seconds: int, _leave_out: object) -> list[int]:
            sent.append(json.loads(payload)["id"])
            return [1]

        courier = Courier(state.commands, send, clock)
        provisional = Provisional(state, index, courier)
        with capture_logs() as logged:
            for at, temp, flow in ((0, 81, 11), (10, 82, 12), (20, 83, 5), (30, 70, 5)):
                burst = Burst(clock.wall_us)
                for metric, value in (("temp", temp), ("flow", flow)):
                    burst.topics.append(f"hw/s1/d1/data/{metric}".encode())
                    burst.payloads.append(f'{{"t":{T0 + at},"v":{value}}}'.encode())
                burst.packet_ids, burst.flags, burst.runs = [0, 0], [0, 0], [(1, 2)]
                gather.add(burst, decode.burst(burst))
                provisional.look(gather)
        tick, _ = gather.tick(clock.now(), index.take_fresh())
        output = step(state, tick)
        said = [line for line in logged if line["event"].startswith("provisional: a limit")]
        told = [(line["id"], "broken" in line["event"], line["value"], line["limit"]) for line in said]
        assert told == [(a.id, a.phase == "begin", a.value, a.limit) for a in output.anomalies]
        assert [a.rule for a in output.anomalies] == ["odd", "hot", "odd", "hot"]
        assert {one.id for one in output.commands if one.status == "open"} == set(sent)
        assert len(set(sent)) == 2
        courier.close()

    run(test())


@pytest.mark.parametrize(("value", "early"), [(81.0, True), (11.0, False), (-1.0, True)])
def test_r19_a_limit_and_a_range_end_a_tick_early(value: float, early: bool) -> None:
    """What begins or ends an anomaly at once does; what has to last does not, and neither does a series without rules."""
    settings = settings_of(
        limit=(
            LimitSettings("hot", "*/temp", above=80.0),
            LimitSettings("warm", "*/temp", above=10.0, for_="1m"),
        ),
        range=(RangeSettings("odd", "*/temp", low=0.0, high=100.0),),
    )
    state, index, clock = State(settings), SeriesIndex([], 100), SetClock()
    decode, gather = Decode(index), Gather()
    burst = Burst(clock.wall_us)
    burst.topics = [b"hw/s1/d1/data/temp", b"hw/s1/d1/data/other"]
    burst.payloads = [b"5", b"5"]
    burst.packet_ids, burst.flags, burst.runs = [0, 0], [0, 0], [(1, 2)]
    gather.add(burst, decode.burst(burst))
    step(state, gather.tick(clock.now(), index.take_fresh())[0])
    for topic, expected in ((burst.topics[0], early), (burst.topics[1], False)):
        one = Burst(clock.wall_us, [topic], [str(value).encode()], [0], [0])
        one.runs = [(1, 1)]
        decoded = decode.burst(one)
        assert state.turns(decoded.series, decoded.value) == expected


def test_r18_a_series_with_a_number_of_one_that_went_is_judged_while_the_agent_holds_back() -> None:
    """No step has seen it yet, and the rules that go by its name are its own."""

    async def test() -> None:
        settings = settings_of(limit=(LimitSettings("hot", "*/temp", above=80.0),))
        state, index, clock = State(settings), SeriesIndex([], 100), SetClock()
        decode = Decode(index)

        def said(topic: bytes) -> Gather:
            burst, gather = Burst(clock.wall_us), Gather()
            burst.topics, burst.payloads, burst.packet_ids = [topic], [b"99"], [0]
            burst.flags, burst.runs = [0], [(1, 1)]
            gather.add(burst, decode.burst(burst))
            return gather

        step(state, said(b"hw/s1/d1/data/flow").tick(clock.now(), index.take_fresh())[0])
        index.let_go([0])
        decode.let_go([0])
        step(state, quiet_tick(clock.now(), SeriesEvicted([0])))
        courier = Courier(state.commands, lambda *_: [], clock)
        provisional = Provisional(state, index, courier)
        provisional.look(said(b"hw/s1/d2/data/temp"))
        assert index.names == ["s1/d2/temp"]
        assert (provisional.found, provisional.broken) == (1, 1)
        courier.close()

    run(test())

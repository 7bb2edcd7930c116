"""Valid ranges, the budget of new series, times before "now", and the command that shows what a payload becomes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from headwater_edge import cli
from headwater_edge.decode import decoder
from headwater_edge.format_settings import FormatSettings
from headwater_edge.metric_settings import MetricSettings, check, metric_of
from headwater_edge.settings import EdgeSettings
from headwater_edge.stamps import from_arrival, split
from headwater_edge.topics import SeriesIndex
from headwater_shared.clock import SetClock
from headwater_shared.digest import NO_TIME
from headwater_shared.errors import SettingsError
from tests.edge.decoding import ARRIVED, Message, Taken, burst_of, decode_with, decoded_by, taken
from tests.edge.running import LOG, Publish, edge_settings, on_bus, running
from tests.edge.test_decode_sparkplug import BIRTH, message

HOUR = 3_600_000_000


def test_a_reading_out_of_its_range_is_a_dead_letter() -> None:
    """The range is of the value after scale and offset; what is handed on is the value as sent; others count."""
    metrics = (
        MetricSettings(series="*/temp", valid=(-40.0, 150.0), scale=0.1, offset=-10.0),
        MetricSettings(series="*", valid=(0.0, 1.0)),
    )
    decode = decode_with(metric=metrics)
    burst = (
        (b"hw/s/d/data/temp", b'{"t":1795000000,"v":1600}'),
        (b"hw/s/d/data/temp", b'{"t":1795000000,"v":1601}'),
        (b"hw/s/d/data", b'{"t":1795000000,"values":{"temp":-301,"a":0.5,"b":2,"c":1}}'),
        (b"hw/s/d/data", b'{"t":1795000000,"values":{"a":1,"b/c":1,"d":-1}}'),
    )
    found = decode.burst(burst_of(*burst))
    assert taken(found, decode.index, 4) == [
        Taken([("s/d/temp", ARRIVED, 1600.0)], []),
        Taken([], ["out-of-range"]),
        Taken([("s/d/a", ARRIVED, 0.5), ("s/d/c", ARRIVED, 1.0)], ["out-of-range"]),
        Taken([("s/d/a", ARRIVED, 1.0)], ["not-taken"]),
    ]
    assert [letter.detail for letter in found.dead] == [
        "temp: 1601 is not from -40 to 150",
        "temp: -301 is not from -40 to 150; b: 2 is not from 0 to 1",
        "b/c: no name for a metric; d: -1 is not from 0 to 1",
    ]
    assert [(letter.topic, letter.body) for letter in found.dead] == list(burst[1:])


def test_ranges_hold_for_every_codec_and_for_series_that_come_later() -> None:
    """Alone and in bursts, known before or not."""
    metrics = (MetricSettings(series="*", valid=(0.0, 10.0)),)

    messages: list[Message] = [
        (b"m/d", b'{"a":5,"b":50}'), (b"hw/s/d/senml", b'[{"n":"a","v":5},{"n":"b","v":-1}]'), (b"hw/s/d/influx", b"m a=5,b=50"),
        BIRTH, (b"hw/s/d/data/x", b"11"),
    ]  # fmt: skip
    decode = decode_with(FormatSettings(topics=("m/{device}",)), metric=metrics)
    found = decoded_by(decode, *messages)
    assert [(len(one.readings), one.dead) for one in found] == [(1, ["out-of-range"])] * 4 + [
        (0, ["out-of-range"])
    ]
    assert found == [decoded_by(decode, one)[0] for one in messages]


def test_settings_of_metrics() -> None:
    """The first that matches counts; what cannot be is an error with a hint."""
    metrics = (MetricSettings(series="*/temp", unit="C"), MetricSettings(series="s1/*", unit="x"))
    assert [
        getattr(metric_of(metrics, name), "unit", None) for name in ("s1/d/temp", "s1/d/flow", "s2/d/flow")
    ] == ["C", "x", None]
    check(metrics)
    for wrong in (
        MetricSettings(series="*", scale=0.0),
        MetricSettings(series="*", offset=float("inf")),
        MetricSettings(series="*", valid=(1.0, 0.0)),
        MetricSettings(series="*", wraps_at=5.0),
        MetricSettings(series="*", counter=True, wraps_at=0.0),
    ):
        with pytest.raises(SettingsError) as error:
            decode_with(metric=(wrong,))
        assert error.value.hint
    with pytest.raises(SettingsError):
        decoder(EdgeSettings(site="a/b"), SeriesIndex([], 10))


def test_new_series_have_a_budget_an_hour() -> None:
    """What is over is a dead letter; known series go on; the budget comes back with the time of arrival."""
    decode = decode_with(new_series_per_hour=4)

    def at(time_us: int, *names: str) -> list[str]:
        burst = burst_of(*((f"hw/s/d/data/{name}".encode(), b"1") for name in names), arrived_us=time_us)
        return [(one.dead or ["taken"])[0] for one in taken(decode.burst(burst), decode.index, len(names))]

    over = "too-many-new-series"
    assert at(ARRIVED, "a", "b", "c", "d", "e", "a") == ["taken"] * 4 + [over, "taken"]
    assert at(ARRIVED + HOUR // 4 - 1, "e") == [over]
    assert at(ARRIVED + HOUR // 4, "e", "f") == ["taken", over]
    assert at(ARRIVED - 9 * HOUR, "f") == [over], "a clock that was set back brings nothing"
    assert at(ARRIVED + 99 * HOUR, "f", "g", "h", "i", "j") == ["taken"] * 4 + [over]
    many = decode.burst(burst_of((b"hw/s/d/data", b'{"t":1795000000,"values":{"a":1,"k":2}}')))
    assert [(letter.reason, letter.detail.partition(":")[0]) for letter in many.dead] == [(over, "k")]
    assert len(many.series) == 1


def test_a_restart_knows_its_series_without_a_budget(tmp_path: Path) -> None:
    """Series of the file are known; the budget is for what is new."""

    async def test() -> None:
        for _ in range(2):
            async with running(tmp_path, edge_settings(new_series_per_hour=2)) as box:
                await box.connect(1, "c1")
                await box.publish(
                    *(Publish(f"hw/s/d/data/{name}", b'{"t":1800000000,"v":1}') for name in "ab")
                )
                assert box.agent.index.names == ["s/d/a", "s/d/b"]
                assert box.agent.state.counters.dead == 0

    asyncio.run(test())


def test_times_before_now_come_back() -> None:
    """What is written as no time is read as so long after the arrival, to the microsecond, on both sides of it."""
    import numpy as np

    offsets = [0, 1, -1, 5_000_000, -5_500_000, 2**28 * 1_000_000 - 1, -(2**28) * 1_000_000]
    sent, after = split(np.array([from_arrival(offset) for offset in offsets] + [ARRIVED, 0, -5], np.int64))
    assert after is not None
    assert after.tolist() == [*offsets, 0, 0, 0]
    assert sent.tolist() == [NO_TIME] * len(offsets) + [ARRIVED, 0, -5]
    assert split(np.array([5, -5], np.int64))[1] is None


def test_r03_a_relative_time_is_the_same_when_the_message_comes_again(tmp_path: Path) -> None:
    """What was "five seconds ago" counts once though it arrives twice, before its first arrival; so says the journal."""

    async def test() -> None:
        pack = b'[{"bn":"m:","n":"a","t":-5,"v":1},{"n":"a","t":-4,"v":2},{"n":"a","v":3}]'
        clock = SetClock()
        async with running(tmp_path, clock=clock) as box:
            await box.connect(1, "c1")
            first = clock.now().wall_us
            await box.acknowledged(box.source.send(Publish("hw/s1/d1/senml", pack, 7), arrived_us=first))
            again = Publish("hw/s1/d1/senml", pack, 7, dup=True)
            await box.acknowledged(box.source.send(again, arrived_us=first + 60_000_000))
            assert box.agent.state.counters.accepted == 3
            assert box.agent.state.counters.by_transport == 3
        async with running(tmp_path, clock=clock) as box:  # the journal says the same again
            await box.agent.flush()
            await box.forwarded()
            parts = [frame.parts for frame in on_bus(tmp_path / LOG)[0]]
        firsts = {int(t) for p in parts for t in p.aggregates.first_time.tolist()}
        lasts = {int(t) for p in parts for t in p.aggregates.last_time.tolist()}
        assert (min(firsts), max(lasts)) == (first - 5_000_000, first)

    asyncio.run(test())


def settings_file(folder: Path, text: str) -> str:
    path = folder / "h.toml"
    path.write_text(f'[common]\ndata = "{folder}/data"\n[edge]\nsite = "home"\n{text}')
    return str(path)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, ["decode", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_the_command_shows_what_a_payload_becomes(tmp_path: Path) -> None:
    """Readings with their times, dead letters with the reason, what was skipped; text, a file or hex; with settings or without."""
    assert run("hw/s/d/data", '{"time":1795000000,"temp":21.5,"state":"on","mode":"x"}') == (
        "s/d/temp = 21.5  2026-11-18T11:06:40Z\ns/d/state = 1  2026-11-18T11:06:40Z\n"
        "skipped: 1 that are no readings (text, null, a topic that brings none)\n"
    )
    (tmp_path / "payload").write_bytes(b"5")
    assert run("hw/s/d/data/x", f"@{tmp_path}/payload") == "s/d/x = 5  when it arrives\n"
    assert run("hw/s/d/data/x", "hex:7b") == "dead letter unreadable: Input data was truncated\n"
    assert 'use = "zigbee2mqtt"' in run("zigbee2mqtt/office", '{"temperature":1}')
    settings = settings_file(tmp_path, '[[edge.format]]\nuse = "zigbee2mqtt"\n')
    assert (
        run("zigbee2mqtt/office", '{"temperature":1}', "--settings", settings)
        == "home/office/temperature = 1  when it arrives\n"
    )
    told = msgspec.json.decode(run("hw/s/d/data/x", "nope", "--json"))
    assert told["readings"] == []
    assert told["dead"][0]["reason"] == "unreadable"


def test_the_command_takes_births_from_the_agents_file(tmp_path: Path) -> None:
    """An alias is shown by its name, beside a running agent; without its birth it says what would be asked for."""
    data = message("NDATA", {"alias": 7, "double_value": 2.5})
    topic, payload = data[0].decode(), f"hex:{data[1].hex()}"
    assert run(topic, payload) == (
        "dead letter unknown-alias: alias 7: no birth has named it\nasks for a birth on spBv1.0/g1/NCMD/n1\n"
    )

    async def test() -> None:
        folder = tmp_path / "data"
        folder.mkdir()
        async with running(folder) as box:
            await box.publish(Publish(BIRTH[0].decode(), BIRTH[1], 1))
            assert run(topic, payload, "--settings", settings_file(tmp_path, "")) == (
                "g1/n1/Inlet.Temperature = 2.5  2026-11-18T11:06:40Z\n"
            )

    asyncio.run(test())

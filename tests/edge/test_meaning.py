"""Scale, offset and counters: what values mean, while who they are and their digests stay as sent (R2, R10)."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge.events import Settings
from headwater_edge.metric_settings import MetricSettings
from headwater_edge.rule_settings import LimitSettings
from headwater_edge.settings import EdgeSettings, StepSettings, WindowSettings, step_settings
from tests.edge.feed import DAY, Message, S
from tests.edge.run import Run
from tests.edge.running import Publish, edge_settings, running
from tests.reference import Window, bits
from tests.reference import digest as digest_of

POWER, ENERGY = "s1/d1/power", "s1/d1/energy"
RATE = ENERGY + ".rate"


def settings_of(*metrics: MetricSettings, limit: tuple[LimitSettings, ...] = ()) -> StepSettings:
    windows = WindowSettings(future="3650d", clock_wait="0s")
    return step_settings(EdgeSettings(name="a1", windows=windows, metric=metrics, limit=limit))


def run(*metrics: MetricSettings, limit: tuple[LimitSettings, ...] = ()) -> Run:
    """An agent that has started; a counter's rate is numbered beside it, as the decoder does."""
    agent = Run(settings_of(*metrics, limit=limit))
    agent.start()
    return agent


def at(second: float, value: float, series: str = POWER) -> Message:
    return Message(((series, DAY + round(second * S), value),))


def base(agent: Run, series: str) -> list[Window]:
    """Return the base windows of a series, in order."""
    agent.flush()
    found = agent.merged.windows()
    return [w for (name, level, _), w in sorted(found.items()) if (name, level) == (series, "10s")]


def test_windows_hold_what_values_mean_and_digests_of_what_was_sent() -> None:
    """Tenths of a degree below zero: minimum, maximum, mean, first and last are scaled; the digest finds the readings."""
    agent = run(MetricSettings(series="*/power", scale=-0.1, offset=2.0))
    agent.tick(at(1, 15.0), at(2, 30.0), at(12, 40.0))
    window, other = base(agent, POWER)
    assert (window.count, window.min, window.max, window.first, window.last) == (2, -1.0, 0.5, 0.5, -1.0)
    assert math.isclose(window.mean, -0.25)
    assert window.digest == (digest_of(DAY + S, 15.0) + digest_of(DAY + 2 * S, 30.0)) % 2**64
    assert set(window.sketch) == {bits(0.5) >> 46, bits(-1.0) >> 46}
    assert other.max == 2.0 - 4.0


def test_r02_a_resend_is_a_duplicate_whatever_the_scale_was_set_to_meanwhile() -> None:
    """The value as sent tells who a reading is: set anew between a reading and its resend, the scale makes no second one."""
    agent = run(MetricSettings(series="*/power", scale=0.1))
    agent.tick(at(1, 15.0))
    import msgspec

    changed = settings_of(MetricSettings(series="*/power", scale=10.0))
    agent.tick(events=(Settings(msgspec.json.encode(changed).decode()),))
    agent.tick(at(1, 15.0), at(2, 15.0))
    assert agent.state.counters.by_meaning == 1
    assert [(w.count, w.min, w.max) for w in base(agent, POWER)] == [(2, 1.5, 150.0)]


def test_limits_are_of_what_values_mean() -> None:
    """Evidence and samples too."""
    limit = LimitSettings(name="hot", series="*/power", above=80.0)
    agent = run(MetricSettings(series="*/power", scale=0.1), limit=(limit,))
    assert agent.tick(at(1, 500.0)).anomalies == []
    (anomaly,) = agent.tick(at(2, 900.0)).anomalies
    assert (anomaly.value, anomaly.sample_values) == (90.0, [50.0, 90.0])


def counter(wraps_at: float | None = None, scale: float = 1.0) -> MetricSettings:
    return MetricSettings(series="*/energy", counter=True, wraps_at=wraps_at, scale=scale)


def rates(agent: Run) -> list[tuple[float, float]]:
    """Return (second, rate) of the latest of each base window."""
    return [((w.last_time - DAY) / S, w.last) for w in base(agent, RATE)]


def numbered(*metrics: MetricSettings) -> Run:
    agent = run(*metrics)
    tick = agent.feed.tick(agent.clock.now())
    assert not tick.new_series
    agent.feed._number(ENERGY)
    agent.feed._number(RATE)
    tick.new_series = [ENERGY, RATE]
    from headwater_edge import journal
    from headwater_edge.step import step

    agent.rows.append(journal.encode(tick))
    agent.put_out.append([])
    agent.outputs.append(step(agent.state, tick))
    return agent


def test_a_counters_rate_is_a_series_beside_it() -> None:
    """Two readings make one rate, at the time of the later; the counter's own windows count every reading."""
    agent = numbered(counter(scale=0.5))
    agent.tick(at(0, 100.0, ENERGY), at(5, 110.0, ENERGY))
    agent.tick(at(15, 130.0, ENERGY))
    assert rates(agent) == [(5.0, 1.0), (15.0, 1.0)]
    assert [w.count for w in base(agent, ENERGY)] == [2, 1]
    assert [w.max for w in base(agent, ENERGY)] == [55.0, 65.0]


@pytest.mark.parametrize(("wraps_at", "rate"), [(None, 3.0), (1000.0, 4.0)])
def test_a_fall_is_a_reset_or_where_it_is_known_to_wrap_a_wrap(wraps_at: float | None, rate: float) -> None:
    """From 990 to 30 in ten seconds: 30 since it began anew, or 40 over its end."""
    agent = numbered(counter(wraps_at))
    agent.tick(at(0, 990.0, ENERGY), at(10, 30.0, ENERGY))
    assert rates(agent) == [(10.0, rate)]


def test_a_late_reading_of_a_counter_makes_no_rate_and_counts_all_the_same() -> None:
    """What came before it is not known any more; the next rate goes on from the newest."""
    agent = numbered(counter())
    agent.tick(at(0, 100.0, ENERGY), at(20, 120.0, ENERGY))
    agent.tick(at(10, 999.0, ENERGY))
    agent.tick(at(30, 140.0, ENERGY))
    assert rates(agent) == [(20.0, 1.0), (30.0, 2.0)]
    assert sum(w.count for w in base(agent, ENERGY)) == 4


readings = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 99), st.booleans()), min_size=1, max_size=20)


@given(readings, st.sampled_from([None, 100.0]), st.integers(0, 20))
def test_rates_are_those_of_a_plain_loop_wherever_ticks_end(
    said: list[tuple[int, int, bool]], wraps_at: float | None, picture: int
) -> None:
    """Rising times, any values, ticks cut anywhere, a crash in between: the same rates, each once."""
    agent = numbered(counter(wraps_at))
    now, last, wanted, waiting = 0, None, [], []
    for number, (wait, value, ends) in enumerate(said):
        now += wait
        waiting.append(at(now, float(value), ENERGY))
        if last is not None:
            step = value - last[1]
            if step < 0:
                step = step + 100 if wraps_at else value
            wanted.append((now, step / (now - last[0])))
        last = (now, value)
        if ends:
            agent.tick(*waiting)
            waiting = []
        if number == picture:
            agent.picture()
            agent.crash(agent.pictures[-1])
    agent.tick(*waiting)
    windows = base(agent, RATE)
    assert sum(w.count for w in windows) == len(wanted)
    assert math.isclose(sum(w.mean * w.count for w in windows), sum(rate for _, rate in wanted), abs_tol=1e-6)


def test_a_series_that_becomes_a_counter_gets_its_rate(tmp_path: Path) -> None:
    """Known before the setting: numbered at the start, and from the second reading on there are rates."""

    async def test() -> None:
        async with running(tmp_path) as box:
            await box.publish(Publish("hw/s1/d1/data/energy", b'{"t":1800000000,"v":5}'))
        async with running(tmp_path, edge_settings(metric=(counter(),))) as box:
            assert box.agent.state.names == [ENERGY, RATE]
            for second, value in ((1, 10), (2, 12), (3, 15)):
                await box.publish(
                    Publish("hw/s1/d1/data/energy", b'{"t":%d,"v":%d}' % (1_800_000_000 + second, value))
                )
            await box.publish(Publish("hw/s1/d2/data/energy", b'{"t":1800000000,"v":5}'))
            assert box.agent.state.names[2:] == ["s1/d2/energy", "s1/d2/energy.rate"]
            recent = box.agent.state.levels.fine.recent
            found = [
                v
                for s, v in zip(recent.series[: recent.size], recent.value[: recent.size], strict=True)
                if s == 1
            ]
            assert found == [2.0, 3.0]

    import asyncio

    asyncio.run(test())

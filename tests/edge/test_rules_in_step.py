"""Rules of all kinds in the step: over ticks, kills, snapshots, starts, other settings, and a clock that is set."""

from __future__ import annotations

import random

import msgspec
import pytest

from headwater_edge.events import Settings, Start
from headwater_edge.output import Output
from headwater_edge.rule_settings import (
    JumpSettings,
    LimitSettings,
    MissingSettings,
    RangeSettings,
    RateSettings,
    StuckSettings,
)
from headwater_edge.settings import EdgeSettings, StepSettings, WindowSettings, step_settings
from headwater_shared.clock import HELD, SYNCHRONISED
from headwater_shared.records import Anomaly
from tests.edge.feed import DAY, Message, S
from tests.edge.run import Run

ALL = {
    "limit": (LimitSettings("hot", "*/temp", above=3.0, clear=2.0, for_="3s"),),
    "range": (RangeSettings("odd", "s1/*", low=-3.0, high=3.5, clear_by=0.5),),
    "rate": (RateSettings("fast", "*/temp", rises=1.0, per="1s", clear=0.5),),
    "stuck": (StuckSettings("stuck", "*/flow", for_="4s"),),
    "missing": (MissingSettings("silent", "*", for_="20s"),),
    "jump": (JumpSettings("jump", "*/temp", by=1.0),),
}
TEMP = "s1/d1/temp"


def settings_of(**more: object) -> StepSettings:
    windows = WindowSettings(future="3650d", clock_wait="0s", lateness="0s")
    return step_settings(EdgeSettings(name="a1", windows=more.pop("windows", windows), **more))  # type: ignore[arg-type]


def run_of(**rules: object) -> Run:
    run = Run(settings_of(**rules))
    run.start()
    return run


def said(at: float, value: float, name: str = TEMP) -> Message:
    return Message(((name, DAY + round(at * S), value),))


def short(output: Output) -> list[tuple[str, str, float, float]]:
    """Rule, phase, and since when and when, in seconds of the test."""
    return [
        (one.rule, one.phase, (one.begin_us - DAY) / S, (one.time_us - DAY) / S) for one in output.anomalies
    ]


def configured(run: Run, settings: StepSettings) -> Output:
    body = msgspec.json.encode(settings).decode()
    run._epoch += 1
    return run.tick(events=(Start(run._epoch, "test"), Settings(body)))


def _script(seed: int) -> list[list[Message] | float]:
    """Messages of four series that wander, stay, leap, are silent and late; and pauses."""
    chance = random.Random(seed)
    names = ["s1/d1/temp", "s1/d1/flow", "s1/d2/temp", "s2/d3/flow"]
    at, value = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    script: list[list[Message] | float] = []
    for _ in range(80):
        if chance.random() < 0.1:
            script.append(chance.choice([1.0, 8.0, 30.0]))
            continue
        burst = []
        for _ in range(chance.randint(1, 12)):
            name = chance.choice(names)
            at[name] += chance.choice([0.5, 1.0, 1.0, 2.0, 9.0, 25.0, -3.0])
            if chance.random() < 0.6:
                value[name] = round(max(-6.0, min(6.0, value[name] + chance.gauss(0, 1.5))), 1)
            burst.append(said(at[name], value[name], name))
        script.append(burst)
    return script


def _identity(one: Anomaly) -> tuple[object, ...]:
    return one.id, one.phase, one.begin_us, one.time_us, one.value, one.limit, one.severity


def _by_series(run: Run) -> dict[tuple[str, str], list[tuple[object, ...]]]:
    found: dict[tuple[str, str], list[tuple[object, ...]]] = {}
    for output in run.outputs:
        for one in output.anomalies:
            found.setdefault((one.rule, one.series), []).append(_identity(one))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_r31_anomalies_do_not_depend_on_ticks_and_outlive_kills(seed: int) -> None:
    """Whole bursts, and one message a tick with kills between: the same anomalies of each rule and series, to the last bit, and
    of each kind there are some; a kill, from a snapshot or from nothing, gives back the state to the last bit.
    """
    chance = random.Random(seed)
    whole, cut = run_of(**ALL), run_of(**ALL)
    for act in _script(seed):
        for run in (whole, cut):
            if isinstance(act, float):
                run.clock.advance(act)
                run.tick()
            elif run is whole:
                run.tick(*act)
            else:
                for message in act:
                    run.tick(message)
        if chance.random() < 0.05:
            cut.picture()
        if chance.random() < 0.05:
            cut.crash(cut.pictures[-1] if cut.pictures and chance.random() < 0.7 else None)
    assert _by_series(whole) == _by_series(cut)
    assert {rule for rule, _ in _by_series(whole)} == {"hot", "odd", "fast", "stuck", "silent", "jump"}


def test_a_limit_for_a_while_begins_when_it_has_lasted() -> None:
    """From the reading that shows it has lasted, since the one that broke it; one that does not break it begins anew."""
    run = run_of(limit=(LimitSettings("hot", "*", above=80.0, clear=70.0, for_="30s"),))
    for at, value in ((0, 81), (20, 79), (25, 81), (54, 90)):
        assert short(run.tick(said(at, value))) == []
    assert short(run.tick(said(55, 81))) == [("hot", "begin", 25, 55)]
    assert short(run.tick(said(60, 75))) == []
    assert short(run.tick(said(61, 69))) == [("hot", "end", 25, 61)]


def test_a_range_is_left_on_either_side_and_ends_well_inside() -> None:
    """At a bound a value is inside; over is what is inside by `clear_by`."""
    run = run_of(range=(RangeSettings("cold-chain", "*", low=2.0, high=8.0, clear_by=0.5),))
    found = [short(run.tick(said(at, value))) for at, value in enumerate((2.0, 8.0, 8.1, 7.6, 7.5, 1.9))]
    assert found == [
        [], [], [("cold-chain", "begin", 2, 2)], [], [("cold-chain", "end", 2, 4)], [("cold-chain", "begin", 5, 5)],
    ]  # fmt: skip
    assert [one.limit for output in run.outputs for one in output.anomalies] == [8.0, 8.0, 2.0]


def test_a_rate_is_told_for_the_time_that_its_rule_names() -> None:
    """Ten degrees in two seconds are three hundred a minute; noise a millisecond apart is no rate."""
    run = run_of(rate=(RateSettings("heats", "*", rises=60.0, per="1m"),))
    assert short(run.tick(said(0, 20), said(0.001, 25), said(10, 29))) == []
    (begin,) = run.tick(said(12, 39)).anomalies
    assert (begin.rule, begin.phase, begin.value, begin.limit) == ("heats", "begin", 300.0, 60.0)
    assert short(run.tick(said(13, 39))) == [("heats", "end", 12, 13)]


def test_a_stuck_value_of_one_series_is_not_that_of_another() -> None:
    """In one tick, each by itself; one is over when its value moves by more than `clear_by`."""
    run = run_of(stuck=(StuckSettings("stuck", "*", for_="10s", clear_by=1.0),))
    flow = "s1/d1/flow"
    run.tick(said(0, 5), said(0, 7, flow), said(5, 5), said(5, 7.5, flow))
    assert short(run.tick(said(10, 5), said(10, 7, flow))) == [("stuck", "begin", 0, 10)]
    assert short(run.tick(said(11, 5.5), said(11, 7.1, flow))) == []
    assert short(run.tick(said(12, 6.5), said(12, 7.1, flow))) == [("stuck", "end", 0, 12)]


def test_a_jump_is_told_when_the_window_is_over() -> None:
    """Of the base windows' means; late readings change none."""
    run = run_of(jump=(JumpSettings("jump", "*", by=5.0),))
    assert short(run.tick(*(said(at, 10 + at % 2) for at in range(10)))) == []
    assert short(run.tick(*(said(10 + at, 20 + at % 2) for at in range(10)), said(5, 900))) == []
    (begin,) = run.tick(said(20, 20.5)).anomalies
    assert (begin.phase, begin.begin_us, begin.value) == ("begin", DAY + 10 * S, 10.0)
    assert short(run.tick(said(30, 20.5))) == [("jump", "end", 10, 30)]


def test_time_alone_shows_that_a_series_is_missing() -> None:
    """A tick without readings is due once it has been silent for too long; the next reading ends it."""
    run = run_of(missing=(MissingSettings("silent", "*/temp", for_="60s"),))
    run.tick(said(0, 1), said(0, 1, "s1/d1/flow"))
    run.clock.advance(12)
    run.flush()  # no window is left that time could close
    run.clock.advance(48)
    assert not run.state.is_due(run.clock.now())
    run.clock.advance(0.5)
    assert run.state.is_due(run.clock.now())
    assert short(run.tick()) == [("silent", "begin", 0, 60)]
    run.clock.advance(100)
    assert not run.state.is_due(run.clock.now())
    assert short(run.tick()) == []
    assert short(run.tick(said(61, 2))) == [("silent", "end", 0, 61)]


def test_a_gap_between_readings_is_told_afterwards() -> None:
    """Where no tick noticed the silence, the reading after it does: begin and end at once."""
    run = run_of(missing=(MissingSettings("silent", "*", for_="60s"),))
    run.tick(said(0, 1))
    assert short(run.tick(said(60, 1), said(121, 1))) == [
        ("silent", "begin", 60, 120),
        ("silent", "end", 60, 121),
    ]


def test_the_time_in_which_the_agent_is_away_is_no_silence() -> None:
    """A start counts on from what was silent at the last tick, and so does a start after a boot."""
    run = run_of(missing=(MissingSettings("silent", "*", for_="60s"),))
    run.tick(said(0, 1))
    run.clock.advance(50)
    run.tick()
    run.clock.advance(3600)
    assert short(run.start()) == []
    run.clock.boot, run.clock.mono_us = "another", 5 * S
    assert short(run.start()) == []
    run.clock.advance(9)
    assert short(run.tick()) == []
    run.clock.advance(2)
    assert short(run.tick()) == [("silent", "begin", 0, 60)]


def test_what_waits_for_a_clock_is_not_missing() -> None:
    """Readings without a time that are held until our clock is set were heard."""
    windows = WindowSettings(clock_wait="10m")
    run = run_of(missing=(MissingSettings("silent", "*", for_="60s"),), windows=windows)
    run.tick(Message(((TEMP, None, 1.0),)))
    run.clock.quality = HELD
    for _ in range(4):
        run.clock.advance(30)
        assert short(run.tick(Message(((TEMP, None, 1.0),)))) == []
    run.clock.quality = SYNCHRONISED
    run.clock.advance(1)
    assert (
        "begin" not in {one[1] for one in short(run.tick())} or run.state.detectors.missing.active.sum() == 0
    )


def test_r08_a_clock_that_is_set_back_stops_no_rule() -> None:
    """Readings that our clock stamped in the future are not newer than what comes after it was set back."""
    rules = {
        "rate": (RateSettings("fast", "*", rises=10.0, per="1s"),),
        "stuck": (StuckSettings("stuck", "*", for_="5s"),),
    }
    run = run_of(**rules)
    run.clock.advance(3600)
    run.tick(Message(((TEMP, None, 1.0),)))
    run.clock.wall_us -= 3000 * S
    run.clock.advance(1)
    run.tick(Message(((TEMP, None, 1.0),)))
    run.clock.advance(1)
    assert {one[0] for one in short(run.tick(Message(((TEMP, None, 99.0),))))} == {"fast"}
    found = []
    for _ in range(6):
        run.clock.advance(1)
        found += short(run.tick(Message(((TEMP, None, 99.0),))))
    assert ("stuck", "begin") in {one[:2] for one in found}


def test_r12_each_kind_ends_what_it_found_when_its_rule_goes() -> None:
    """And a rule that stays, with other numbers, goes on under the same id."""
    run = run_of(**ALL)
    broken = {"hot", "odd", "fast", "stuck", "silent"}
    run.tick(said(0, 0), said(0, 1, "s1/d1/flow"), said(0, 1, "s9/d9/x"))
    begun = run.tick(said(1, 3), said(2, 9), said(4, 9), said(4.5, 15), said(4, 1, "s1/d1/flow")).anomalies
    run.clock.advance(21)
    run.tick(said(5.5, 22))
    begun = [one for output in run.outputs for one in output.anomalies if one.phase == "begin"]
    assert broken <= {one.rule for one in begun}
    ended = {one.id for output in run.outputs for one in output.anomalies if one.phase == "end"}
    still = {one.id: one.rule for one in begun if one.id not in ended}
    kept = {"limit": (msgspec.structs.replace(ALL["limit"][0], above=5.0),)}
    gone = configured(run, settings_of(**kept))
    assert {one.id for one in gone.anomalies} == {id_ for id_, rule in still.items() if rule != "hot"}
    assert {(one.phase, one.text) for one in gone.anomalies} == {("end", "the rule is gone")}
    (over,) = run.tick(said(7, 1)).anomalies
    assert (over.rule, over.phase, over.id) == ("hot", "end", next(i for i, r in still.items() if r == "hot"))


def test_a_rule_that_is_new_counts_silence_from_its_start() -> None:
    """A series that went silent before there was the rule is found once it has been silent for as long again."""
    run = run_of()
    run.tick(said(0, 1))
    run.clock.advance(3600)
    configured(run, settings_of(missing=(MissingSettings("silent", "*", for_="60s"),)))
    run.clock.advance(59)
    assert short(run.tick()) == []
    run.clock.advance(2)
    assert short(run.tick()) == [("silent", "begin", 0, 60)]


def test_settings_of_before_there_were_more_rules_are_read() -> None:
    """A journal of then names limits without a duration, and no other kind."""
    now = settings_of(limit=(LimitSettings("hot", "*", above=1.0),))
    body = msgspec.json.decode(msgspec.json.encode(now))
    del body["more_rules"], body["rules"][0]["for_us"]
    assert msgspec.json.decode(msgspec.json.encode(body), type=StepSettings) == now

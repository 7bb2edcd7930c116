"""Detection in the step: over ticks, kills, snapshots, starts within a window, other settings, late readings."""

from __future__ import annotations

import random

import msgspec
import pytest

from headwater_edge.detect_settings import DetectSettings
from headwater_edge.events import Settings, Start
from headwater_edge.output import Output
from headwater_edge.recent import NEVER
from headwater_edge.settings import EdgeSettings, StepSettings, WindowSettings, step_settings
from headwater_shared.records import Anomaly
from tests.edge.feed import DAY, Message, S
from tests.edge.run import Run

TEMP, FLOW = "s1/d1/temp", "s1/d1/flow"
USUAL = (DetectSettings("unusual", "*", text="look at it"),)


def settings_of(detect: tuple[DetectSettings, ...] = USUAL, **more: object) -> StepSettings:
    windows = WindowSettings(future="3650d", clock_wait="0s", lateness="0s", held="600s")
    return step_settings(EdgeSettings(name="a1", windows=windows, detect=detect, **more))  # type: ignore[arg-type]


def run_of(detect: tuple[DetectSettings, ...] = USUAL) -> Run:
    run = Run(settings_of(detect))
    run.start()
    return run


def said(at: float, value: float, name: str = TEMP) -> Message:
    return Message(((name, DAY + round(at * S), value),))


def day(seed: int, windows: int = 260, spike: int = 200, name: str = TEMP) -> list[Message]:
    """Four readings a window that wander about 20, and one window far from it."""
    chance = random.Random(seed)
    return [
        said(10 * window + 2 * part, round(20 + chance.gauss(0, 1) + 60 * (window == spike), 3), name)
        for window in range(windows)
        for part in range(4)
    ]


def found(run: Run) -> list[Anomaly]:
    return [one for output in run.outputs for one in output.anomalies]


def short(run: Run) -> list[tuple[str, str, str, float]]:
    return [(one.rule, one.series, one.phase, (one.begin_us - DAY) / S) for one in found(run)]


def configured(run: Run, settings: StepSettings, *, start: bool = False) -> Output:
    event = Settings(msgspec.json.encode(settings).decode())
    if not start:
        return run.tick(events=(event,))
    run._epoch += 1
    return run.tick(events=(Start(run._epoch, "test"), event))


def test_a_window_unlike_those_before_is_an_anomaly_with_its_reason_and_its_readings() -> None:
    """It begins where its window does, says who found it and why, carries the readings up to it, and ends."""
    run = run_of()
    for message in day(1):
        run.tick(message)
    begin, end = found(run)
    assert (begin.rule, begin.series, begin.phase) == ("unusual", TEMP, "begin")
    assert begin.begin_us == DAY + 2000 * S
    assert begin.time_us == DAY + 2010 * S
    assert begin.text.startswith("look at it: ")
    assert len(begin.text) > len("look at it: ")
    assert begin.value > 70
    assert max(score.rarity for score in begin.scores) > 4
    assert max(begin.sample_values) > 70
    assert 0.5 < begin.degree <= 1
    assert (end.phase, end.id, end.begin_us) == ("end", begin.id, begin.begin_us)
    assert end.time_us > begin.time_us


@pytest.mark.parametrize("seed", range(3))
def test_r31_what_is_found_does_not_depend_on_ticks_and_outlives_kills(seed: int) -> None:
    """All messages in a few ticks, and one a tick with kills and snapshots between: the same anomalies to the last bit, and the
    same state.
    """
    chance = random.Random(seed)
    whole, cut = run_of(), run_of()
    messages = [*day(seed), *day(seed + 50, name="s2/d2/temp"), *day(seed + 90, spike=-1, name=FLOW)]
    messages.sort(key=lambda message: message.readings[0][1] or 0)
    at = 0
    while at < len(messages):
        size = chance.randint(1, 400)
        whole.tick(*messages[at : at + size])
        at += size
    for number, message in enumerate(messages):
        cut.tick(message)
        if number in (700, 1700, 2390):
            cut.picture()
        if number in (650, 1500, 2405, 2450):
            cut.crash(cut.pictures[-1] if cut.pictures and chance.random() < 0.8 else None)

    def by_series(run: Run) -> list[tuple[object, ...]]:
        return sorted(
            (one.id, one.phase, one.time_us, one.value, one.degree, *one.scores) for one in found(run)
        )

    assert by_series(whole) == by_series(cut)
    assert len(by_series(whole)) >= 4
    cut.crash(cut.pictures[0])


def test_r01_a_window_that_a_start_cuts_is_judged_whole() -> None:
    """Its first part waits, and is judged with the second: as if there had been no start. Alone it would be an anomaly."""
    undisturbed, cut = run_of(), run_of()
    messages = [said(10 * window + part, float(part % 2)) for window in range(100) for part in range(10)]
    messages = [m for m in messages if m.readings[0][1] not in (DAY + 905 * S, DAY + 906 * S)]
    for number, message in enumerate(messages):
        undisturbed.tick(message)
        if message.readings[0][1] == DAY + 501 * S:  # only a reading of 0 has come of this window
            cut.start()
        if number == 903:  # and twice in one window
            cut.start()
            cut.tick(message)
            cut.start()
            continue
        cut.tick(message)
    judge, same = (
        next(one for one in run.state.detection.judges[0].alone.ensemble.detectors if one.name == "sudden")
        for run in (cut, undisturbed)
    )
    for name in judge.KEPT:
        assert getattr(judge, name).tolist() == pytest.approx(
            getattr(same, name).tolist(), rel=1e-12, nan_ok=True
        )
    assert found(cut) == found(undisturbed) == []


def test_a_window_that_a_start_cut_is_judged_when_it_is_over_though_nothing_follows() -> None:
    """The device says no more after the start; its window is judged once time has passed it."""
    run = run_of()
    for message in day(1, windows=201)[:-2]:
        run.tick(message)
    run.start()
    assert found(run) == []
    run.clock.advance(9.0)
    assert not run.state.is_due(run.clock.now())
    run.clock.advance(30.0)
    assert run.state.is_due(run.clock.now())
    run.tick()
    assert [(phase, begin) for _, _, phase, begin in short(run)] == [("begin", 2000)]


def test_r31_detectors_learn_at_revision_0_only() -> None:
    """A late reading revises its window and changes nothing that detectors know."""
    run, same = run_of(), run_of()
    for message in day(1, windows=30):
        run.tick(message)
        same.tick(message)
    late = run.tick(said(253.5, 1e6))
    assert late.frames
    for name, column in run.state.detection.dump().items():
        assert column.tobytes() == same.state.detection.dump()[name].tobytes(), name


def test_r31_a_revision_of_a_window_from_before_a_rule_is_not_judged_by_it() -> None:
    """A rule that comes with other settings has judged nothing yet; what was closed before is not its first window."""
    run = run_of(())
    for message in day(1, windows=30):
        run.tick(message)
    configured(run, settings_of())
    late = run.tick(said(253.5, 1e6))
    assert any((one.parts.revision == 1).any() for one in late.frames)
    windows = run.state.detection.judges[0].windows
    assert windows.last.tolist() == [NEVER]
    run.tick(said(310, 20.0))
    assert windows.last.tolist() == [DAY + 290 * S]


def test_windows_of_many_that_close_at_once_are_judged_in_their_order() -> None:
    """A device that was away sends an hour in one message: as if it had sent it bit by bit."""
    run, same = run_of(), run_of()
    for message in day(3):
        same.tick(message)
    run.tick(*day(3))
    assert [(one.id, one.phase, one.scores) for one in found(run)] == [
        (one.id, one.phase, one.scores) for one in found(same)
    ]
    assert len(found(run)) == 2
    assert [one.sample_values for one in found(run)] == [one.sample_values for one in found(same)]


def test_an_anomaly_of_long_ago_has_its_readings() -> None:
    """Hours come in one message, far more than windows are held: the readings of the odd window are those before they are let go."""
    run = run_of()
    run.tick(*day(3, windows=2000, spike=300))
    (begin,) = (one for one in found(run) if one.phase == "begin" and one.begin_us == DAY + 3000 * S)
    assert len(begin.sample_values) == 32
    assert min(begin.sample_values[-4:]) > 70


def test_r12_a_rule_that_goes_ends_what_it_found() -> None:
    """Other settings end the anomaly of a rule that is no more; a rule that stays knows what it knew."""
    run = run_of()
    for message in day(1, windows=202):
        run.tick(message)
    assert [phase for _, _, phase, _ in short(run)] == ["begin"]
    known = run.state.detection.judges[0]
    critical = settings_of((DetectSettings("unusual", "*", severity="critical"),))
    configured(run, critical)
    assert run.state.detection.judges[0] is known
    assert len(found(run)) == 1
    configured(run, settings_of(()))
    assert [(one.phase, one.text, one.severity) for one in found(run)][1:] == [
        ("end", "the rule is gone", "critical")
    ]


def test_detectors_of_another_kind_in_a_snapshot_are_learnt_anew() -> None:
    """Columns that are not this detector's are left: it starts blank, says so, and all else is taken up."""
    run = run_of()
    for message in day(1, windows=50):
        run.tick(message)
    run.picture()
    picture = run.pictures[0]
    for name in [name for name in picture.arrays if name.startswith("detection.0.0.of.0.")]:
        del picture.arrays[name]
    from headwater_edge import snapshot

    state = snapshot.restore(picture)
    assert state.anew == ["unusual"]
    assert state.names == run.state.names
    assert not state.detection.judges[0].windows.last.max() > 0

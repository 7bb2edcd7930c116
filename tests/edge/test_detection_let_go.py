"""Series that are let go, as detectors see it: whoever has their rows knows nothing of them (R12)."""

from __future__ import annotations

import msgspec

from headwater_edge import snapshot
from headwater_edge.detect_settings import DetectSettings
from headwater_edge.detection.signed import Seal
from headwater_shared.records import Anomaly
from tests.edge.feed import Message, S
from tests.edge.run import Run
from tests.edge.test_detection_in_step import USUAL, day, found, run_of, said

MORE = msgspec.convert(
    {
        "name": "more",
        "series": "*",
        "detectors": [
            {"use": "river.anomaly.GaussianScorer"},
            {"use": "river.anomaly.OneClassSVM", "metrics": ["temp", "flow"]},
        ],
    },
    DetectSettings,
)
STAYS, OLD, NEW = (
    tuple(f"s1/{device}/{metric}" for metric in ("temp", "flow")) for device in ("d1", "d2", "d3")
)


SEAL = Seal(b"k" * 32, "a1")


def picture(run: Run) -> None:
    """Take a snapshot with models, written and read back."""
    taken = snapshot.take(run.state)
    run.pictures.append(snapshot.decode(taken.tick, snapshot.encode(taken, SEAL), SEAL))


def lived(*, with_old: bool) -> Run:
    """One device is there from the beginning to the end; another one goes in the middle, and a third one has its place."""
    run = run_of((*USUAL, MORE))

    def speak(names: tuple[str, ...], seed: int, from_s: int) -> None:
        said_by = [day(seed + at, 100, 80, name) for at, name in enumerate(names)]
        for messages in zip(*said_by, strict=True):
            readings = [one for message in messages for one in message.readings]
            run.tick(*(Message(((name, (at or 0) + from_s * S, value),)) for name, at, value in readings))
            run.clock.advance(2)

    speak(STAYS, 1, 0)
    if with_old:
        speak(OLD, 5, 500)
    else:
        run.clock.advance(800)
    run.clock.advance(7200)
    run.flush()
    run.clock.advance(7200)
    run.tick(said(9000, 20.0, STAYS[0]))
    if with_old:
        assert not set(OLD) & {run.state.names[n] for n in run.state.detection.busy().tolist()}
        run.tick(events=(run.feed.let_go(*OLD),))
        assert "" in run.state.names
    picture(run)
    speak(NEW, 9, 10_000)
    picture(run)
    run.clock.advance(7200)
    run.flush()
    return run


def judged(run: Run, names: tuple[str, ...]) -> list[tuple[object, ...]]:
    def plain(one: Anomaly) -> tuple[object, ...]:
        return one.rule, one.series, one.phase, one.begin_us, one.time_us, one.value, one.scores, one.degree

    return [plain(one) for one in found(run) if one.series in names]


def test_r12_a_row_that_is_anothers_knows_nothing_of_the_one_before() -> None:
    """What is found in the one that has the rows is what would be, had the other never been; also of whole devices."""
    run, without = lived(with_old=True), lived(with_old=False)
    assert judged(run, NEW)
    assert judged(run, NEW) == judged(without, NEW)
    assert judged(run, STAYS) == judged(without, STAYS)
    assert set(run.state.names) == {*STAYS, *NEW}


def test_r31_a_run_with_series_that_went_is_the_same_from_any_snapshot() -> None:
    """From before and after the rows were given away, and from nothing."""
    run = lived(with_old=True)
    for picture in (*run.pictures, None):
        run.crash(picture)


def test_r12_an_alarm_of_a_series_that_goes_ends() -> None:
    """Its windows will never come; the end says why."""
    run = run_of()
    for message in day(3, 101, 100):
        run.tick(message)
        run.clock.advance(2)
    run.clock.advance(7200)
    run.flush()
    (begun,) = found(run)
    run.tick(said(9000, 1.0, "s1/d9/temp"))
    run.tick(events=(run.feed.let_go("s1/d1/temp"),))
    (ended,) = found(run)[1:]
    assert (ended.id, ended.phase, ended.text) == (
        begun.id, "end", "look at it: the series is let go: it was not heard for so long"
    )  # fmt: skip

"""Every runner comes to the outcome of every golden trace (R31), and the tools around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.golden import outcome, quix_killed, synthetic, trace
from tests.golden.outcome import Outcome
from tests.golden.runners import RUNNERS, Runner
from tests.golden.trace import Input
from tests.kafka import KafkaServer

TRACES = trace.all_traces()


QUICK = ("revisions", "run-kills", "run-pumps")
"""Those that Quix plays in `make test`; on a real Kafka each act takes seconds."""
CASES = [
    pytest.param(
        path,
        runner,
        id=f"{path.stem}-{name}",
        marks=[pytest.mark.fault] if name == "quix" and path.stem not in QUICK else [],
    )
    for path in TRACES
    for name, runner in RUNNERS.items()
]


@pytest.mark.parametrize(("path", "runner"), CASES)
def test_r31_a_runner_comes_to_the_outcome_of_a_trace(
    path: Path, runner: Runner, folder: Path, request: pytest.FixtureRequest
) -> None:
    """Whatever the cut into batches, and whenever it is killed: count, minimum, maximum, first, last, digest, sketch and all that
    was found exact, mean and M2 to 1e-9.
    """
    wanted = trace.read(path)
    found = runner(wanted, folder, request)
    assert outcome.difference(found, wanted.outcome) == ""


@pytest.mark.fault
@pytest.mark.covers("R31", "R24")
@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_r31_a_worker_that_is_killed_comes_to_the_outcome_of_a_trace(
    path: Path, folder: Path, kafka: KafkaServer
) -> None:
    """Quix on a real Kafka in a process of its own, killed in the midst of the first act, with rollups of the second stages."""
    wanted = trace.read(path)
    found = quix_killed.play(wanted, folder, kafka, kills=1)
    assert outcome.difference(found, wanted.outcome) == ""


@pytest.mark.parametrize("name", synthetic.STORIES)
def test_a_synthetic_trace_is_what_its_story_tells(name: str) -> None:
    """The file in the repository is the one that `tests.golden.synthetic` writes."""
    stored, made = trace.read(trace.FOLDER / f"{name}.trace"), synthetic.made(name)
    assert stored.acts == made.acts
    assert outcome.equal(made.outcome, stored.outcome)
    assert stored.outcome.gaps is not None


def test_traces_are_small(tmp_path: Path) -> None:
    """They lie in the repository for ever: below 300 KB each; what is read is written again as it was."""
    assert len(TRACES) >= 7
    for path in TRACES:
        assert path.stat().st_size < 300_000
    found = trace.read(TRACES[0])
    trace.write(tmp_path / "again", found)
    assert trace.read(tmp_path / "again") == found


def _window(name: str, value: Any) -> Callable[[Outcome], object]:
    def change(one: Outcome) -> None:
        at = next(n for n, window in enumerate(one.windows) if window.m2 > 0)
        one.windows[at] = one.windows[at]._replace(**{name: value})

    return change


CHANGES: dict[str, Callable[[Outcome], object]] = {
    "a window less": lambda one: one.windows.pop(),
    "a rollup less": lambda one: (one.rollups or []).pop(),
    "a part less": lambda one: (one.parts or []).pop(),
    "a part twice": lambda one: one.late.append(outcome.Late("s", "10s", 0, "a", "0", 1, 0, 1, 1)),
    "a count": _window("readings", 10_000),
    "a digest": _window("digest", 5),
    "a minimum": _window("min", -1e9),
    "a maximum": _window("max", 1e18),
    "the first": _window("first_time", 1),
    "the last": _window("last", 0.12345),
    "a sketch": _window("sketch", "0" * 16),
    "a mean": _window("mean", 0.123456),
    "an m2": _window("m2", 0.123456),
    "a revision": _window("revision", 99),
    "an anomaly": lambda one: one.anomalies.pop(),
    "an alert": lambda one: one.alerts.pop(),
    "a change of an alert more": lambda one: next(iter(one.changes.values())).append(()),
    "a dead letter": lambda one: one.dead.append(outcome.Dead("damaged", "", "", b"")),
    "a have": lambda one: one.haves.popitem(),
    "a gap": lambda one: (one.gaps or []).pop(),
    "a silence": lambda one: (one.silent or []).pop(),
    "how far an agent is": lambda one: one.complete.pop(),
    "a report": lambda one: one.reports.pop(),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_r31_what_differs_is_noticed(change: Callable[[Outcome], object]) -> None:
    """Anything less, more or other than the outcome is a difference, and is named."""
    wanted = trace.read(trace.FOLDER / "streams.trace").outcome
    found = trace.read(trace.FOLDER / "streams.trace").outcome
    assert outcome.equal(found, wanted)
    change(found)
    assert outcome.difference(found, wanted)


def test_r31_the_last_bit_of_a_mean_is_no_difference() -> None:
    """The order of merging moves it: mean and M2 are compared to 1e-9."""
    wanted = trace.read(trace.FOLDER / "streams.trace").outcome
    found = trace.read(trace.FOLDER / "streams.trace").outcome
    found.windows = [w._replace(mean=w.mean * (1 + 1e-10), m2=w.m2 * (1 - 1e-10)) for w in found.windows]
    assert outcome.equal(found, wanted)
    found.windows = [w._replace(mean=w.mean * (1 + 1e-8)) for w in found.windows]
    assert not outcome.equal(found, wanted)


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"SQLite", "no trace"), (b"HWTRACE\x02", "version 2"), (b"HWTRACE\x01broken", "damaged")],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, body: bytes, said: str) -> None:
    """A file of something else, of another version, or cut off."""
    path = tmp_path / "x.trace"
    path.write_bytes(body)
    with pytest.raises(ValueError, match=said):
        trace.read(path)


def test_inputs_are_what_lay_on_the_bus() -> None:
    """Partition, time, key, headers and bytes come back from the file."""
    one = Input(3, 17, "k", {"ce_id": "x", "own": "ü"}, b"\x00\xff")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Input) == one

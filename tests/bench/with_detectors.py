"""`edge-memory-ml`, `edge-listener-20-ml`, `edge-mosquitto-10k-ml`: what detection costs a real agent, beside the same agent without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.bench import broker
from tests.bench.agents import agent
from tests.bench.listener import cpu_a_message, load
from tests.bench.results import Result
from tests.edge.onnx_files import BEFORE, foretells, placed

_FULL = "SQLite WAL, synchronous=FULL, acknowledged after the commit"
_DEFAULT = '[[edge.detect]]\nname = "unusual"\nseries = "*"\n'
_ALL = _DEFAULT + 'detectors = ["default", "river.anomaly.StandardAbsoluteDeviation", "onnx:{model}"]\n'
_SECONDS = 130.0


def _all(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return _ALL.format(model=placed(folder / "before.onnx", foretells(), BEFORE))


def memory(folder: Path) -> Iterator[Result]:
    """1,000 series at 1 Hz for two minutes: default ensemble, one River and one ONNX detector."""
    with agent(folder / "without") as plain:
        load(plain.port, 20, 1_000, _SECONDS)
        baseline = plain.rss_mb()
    with agent(folder / "default", _DEFAULT) as ours:
        load(ours.port, 20, 1_000, _SECONDS)
        default = ours.rss_mb()
    with agent(folder / "all", _all(folder / "model")) as ours:
        load(ours.port, 20, 1_000, _SECONDS)
        figure = ours.rss_mb()
    yield Result(
        "edge-memory-ml", figure, "MB of RSS", baseline, "the same agent without detectors", _FULL,
        {"series": 1000, "after s": _SECONDS, "MB with the default ensemble only": default},
    )  # fmt: skip


def listener(folder: Path) -> Iterator[Result]:
    """20 connections, 10,000 messages/s of 1,000 series."""
    with agent(folder / "without") as plain:
        baseline, _ = cpu_a_message([plain], plain.port, 20, 10_000)
    with agent(folder / "default", _DEFAULT) as ours:
        default, _ = cpu_a_message([ours], ours.port, 20, 10_000)
    with agent(folder / "all", _all(folder / "model")) as ours:
        figure, _ = cpu_a_message([ours], ours.port, 20, 10_000)
    yield _added("edge-listener-20-ml", figure, default, baseline)


def mosquitto(folder: Path) -> Iterator[Result]:
    """10,000 messages/s of 1,000 series through Mosquitto."""
    baseline = broker.measured(folder / "without", 10_000).us
    default = broker.measured(folder / "default", 10_000, settings=_DEFAULT).us
    figure = broker.measured(folder / "all", 10_000, settings=_all(folder / "model")).us
    yield _added("edge-mosquitto-10k-ml", figure, default, baseline)


def _added(id_: str, figure: float, default: float, baseline: float) -> Result:
    return Result(
        id_, figure - baseline, "us of CPU more a reading, 10 s windows", baseline, "the same agent without detectors, us a reading",
        _FULL, {"us more with the default ensemble only": default - baseline, "us with all": figure},
    )  # fmt: skip

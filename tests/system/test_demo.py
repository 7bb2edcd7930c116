"""`headwater demo` as a person runs it: what it prints, what it ends with, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import pytest

from tests.support import ROOT, until
from tests.system.box import command, descendants
from tests.system.kills import AUDITED

pytestmark = pytest.mark.alone
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
SCENARIO = ROOT / "tests" / "system" / "overheats.toml"


@dataclass
class Demo:
    """One demo: its process, and its lines with the CPU seconds that all of it had taken until they came."""

    process: subprocess.Popen[str]
    lines: list[tuple[float, str]] = field(default_factory=list)
    below: set[int] = field(default_factory=set)
    """Every process that was seen below it."""

    def follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.below |= descendants([self.process.pid])
            self.lines.append((sum(map(_cpu_s, [self.process.pid, *self.below])), line.rstrip()))

    def said(self, pattern: str) -> list[tuple[float, str]]:
        return [(at, line) for at, line in self.lines if re.search(pattern, line)]

    def last(self) -> str:
        return self.lines[-1][1]

    def left_behind(self) -> set[int]:
        return descendants(list(self.below))


def _cpu_s(pid: int) -> float:
    """Return the CPU time that a process has taken, with its children that have ended; 0 if it has ended itself."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) * _TICK_S


class Demos:
    """Demos at the same time, each in a folder of its own: most of their time they wait for readings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[tuple[Demo, threading.Thread]] = []

    def start(self, name: str, *arguments: str, **env: str) -> Demo:
        """Start `headwater demo` with arguments and variables."""
        here = self._folder / name
        here.mkdir()
        process = subprocess.Popen(
            [command("headwater"), "demo", *arguments], cwd=here, env={**os.environ, **env}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        demo = Demo(process)
        follows = threading.Thread(target=demo.follow)
        follows.start()
        self._all.append((demo, follows))
        return demo

    def agent(self, name: str) -> int:
        """Return the pid of a demo's agent."""
        pid: int = msgspec.json.decode((self._folder / name / ".demo" / "data" / "edge.json").read_bytes())[
            "pid"
        ]
        return pid

    def end(self) -> None:
        """Wait for all; leave nothing behind, whatever failed."""
        for demo, follows in self._all:
            try:
                demo.process.wait(60)
            finally:
                for pid in descendants([demo.process.pid, *demo.below]):
                    os.kill(pid, signal.SIGKILL)
                follows.join()
                assert demo.process.stdout is not None
                demo.process.stdout.close()


class Seen:
    """The demos of this module, all over."""

    whole: Demo
    tampered: Demo
    interrupted: Demo
    killed: Demo
    left: dict[str, set[int]]
    """What was still running when a demo had ended."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Run a whole demo, one whose agent is killed and whose windows are tampered with, one that is interrupted, and one
    that is killed itself; all at once.
    """
    demos, out = Demos(tmp_path_factory.mktemp("demos")), Seen()
    try:
        out.whole = demos.start("whole", "--scenario", str(SCENARIO), "--scale", "12000", "--seconds", "20")
        out.tampered = demos.start("tampered", DEMO_SECONDS="20", DEMO_TAMPER="1")
        out.interrupted = demos.start("interrupted", DEMO_SECONDS="60")
        out.killed = demos.start("killed", DEMO_SECONDS="60")
        out.left = {}
        for demo, number in ((out.interrupted, signal.SIGINT), (out.killed, signal.SIGKILL)):
            until(partial(demo.said, r"devices  [1-9]"), 30, "a demo shows readings")
            demo.below |= descendants([demo.process.pid])
            demo.process.send_signal(number)
        until(partial(out.tampered.said, r"devices  [1-9]"), 30, "a demo shows readings")
        os.kill(demos.agent("tampered"), signal.SIGKILL)
        out.killed.process.wait(10)
        until(lambda: not out.killed.left_behind(), 20, "what a killed demo had started has ended")
        for name in ("interrupted", "whole", "tampered"):
            ended: Demo = getattr(out, name)
            ended.process.wait(60)
            out.left[name] = ended.left_behind()
        yield out
    finally:
        demos.end()


def test_it_ends_with_the_audit(seen: Seen) -> None:
    """Exit code 0, and a last line that says that nothing is lost and nothing counts twice."""
    assert seen.whole.process.returncode == 0, seen.whole.lines
    found = AUDITED.fullmatch(seen.whole.last())
    assert found, seen.whole.last()
    acknowledged, counted, dead = map(int, found.groups())
    assert acknowledged == counted + dead
    assert acknowledged > 5_000
    assert dead > 0


def test_it_shows_data_within_ten_seconds(seen: Seen) -> None:
    """The first line with readings of devices comes within 10 s of one core's work: several demos run at once here, and more beside them."""
    took_s, line = seen.whole.said(r"[1-9]\d* devices  [1-9][\d,]* readings")[0]
    assert 0 < took_s < 10, line


def test_the_limit_that_breaks_becomes_an_alert_and_is_over(seen: Seen) -> None:
    """A pump runs hot: its alert comes while it does, and its end when it does no more."""
    ((_, alert),) = seen.whole.said(r"^ +ALERT .* too-hot: ")
    ((_, over),) = seen.whole.said(r"^ +OVER .* too-hot: ")
    lines = [line for _, line in seen.whole.lines]
    (done,) = [at for at, line in enumerate(lines) if line.startswith("the fleet is done")]
    assert lines.index(alert) < lines.index(over) < done
    begin, end = (
        re.fullmatch(
            rf" +{word} +(\S+) h  critical  south/pump-007/temperature  too-hot: .+ 80 degrees.+", line
        )
        for word, line in (("ALERT", alert), ("OVER", over))
    )
    assert begin
    assert end
    lasted_h = float(end[1]) - float(begin[1])
    assert 5.0 < lasted_h < 17.3  # 4 s of 12,000 s, less for it was shut; a sample each ten minutes


def test_the_whole_story_is_told(seen: Seen) -> None:
    """The fault, the anomaly with its reason and samples, the command to the pump, its answer, the end, and what undoes it."""
    patterns = (
        r"^ +FAULT .*south/pump-007/temperature  level-shift of 42",
        r"^ +ALERT .*pump-007.*too-hot",
        r"^ +because [89]\d\S* is past 80; its last readings: [5-9]\d",
        r'^ +TELL .*south/pump-007  shut {"why":"[89]\d\S* degrees"}  by cool-down',
        r"^ +DONE .*south/pump-007  shut  it answers: done",
        r"^ +OVER .*pump-007.*too-hot",
        r"^ +TELL .*south/pump-007  run  by cool-down  \(undoes the one before\)",
        r"^ +DONE .*south/pump-007  run  it answers: done",
        r"^ +UNDONE .*south/pump-007  shut",
    )
    at = [line for pattern in patterns for line in (seen.whole.said(pattern) or [(0.0, f"no {pattern}")])[:1]]
    assert not [line for _, line in at if line.startswith("no ")], seen.whole.lines
    assert [when for when, _ in at] == sorted(when for when, _ in at)


def test_a_bearing_that_wears_out_is_seen_before_a_limit_breaks(seen: Seen) -> None:
    """The alert of a detector comes first, with its reason, how rare that is, and readings; the lead is told in hours of event time."""
    ((_, limit),) = seen.whole.said(r"^ +ALERT .*west/pump-012/vibration  shakes: ")
    (_, early) = seen.whole.said(r"^ +ALERT .*west/pump-012/vibration  unusual: ")[0]
    lines = [line for _, line in seen.whole.lines]
    assert lines.index(early) < lines.index(limit)
    assert re.match(r" +because .*1 in \S+.*; its last readings: ([\d.]+ ?)+$", lines[lines.index(early) + 1])
    ((_, lead),) = seen.whole.said(r"west/pump-012 wears out from ")
    told = re.fullmatch(r" +EARLY +west/pump-012 wears out from .* h on: seen by unusual in vibration at (\S+) h, (\S+) h before (?:shakes|warm) broke at (\S+) h", lead)  # fmt: skip
    assert told, lead
    seen_h, before_h, broke_h = map(float, told.groups())
    assert before_h > 0.5
    assert abs(broke_h - seen_h - before_h) < 0.2


def test_tampering_is_found(seen: Seen) -> None:
    """With DEMO_TAMPER=1 the audit names both windows and what is wrong in them, and fails. That the agent was killed
    meanwhile it does not name: nothing is lost, and nothing counts twice.
    """
    assert seen.tampered.process.returncode == 1
    told = [line for _, line in seen.tampered.said("^tampered with: ")]
    assert len(told) == 2
    for line, what in zip(told, ("max", "digest"), strict=True):
        found = re.fullmatch(r"tampered with: (\S+) 10m window at (\d+): .+", line)
        assert found, line
        named = seen.tampered.said(rf"^audit: altered: {re.escape(found[1])} 10m .*{what} is ")
        assert len(named) == 1, seen.tampered.lines
    assert re.fullmatch(
        r"audit: acknowledged \d+, counted \d+, dead \d+, lost 0, twice 0, altered 2", seen.tampered.last()
    )


def test_ctrl_c_ends_all(seen: Seen) -> None:
    """SIGINT in the middle: it says so, exits with 130 and well before its time."""
    assert seen.interrupted.process.returncode == 130
    assert seen.interrupted.last() == "interrupted"


@pytest.mark.parametrize("name", ["whole", "tampered", "interrupted"])
def test_nothing_is_left_behind(seen: Seen, name: str) -> None:
    """However a demo ends, none of its processes is left when it has ended."""
    demo: Demo = getattr(seen, name)
    assert len(demo.below) >= 4  # itself, agent, cloud side, fleet
    assert seen.left[name] == set()


def test_a_killed_demo_takes_all_with_it(seen: Seen) -> None:
    """SIGKILL of the demo: agent, cloud side and fleet end by themselves."""
    assert seen.killed.process.returncode == -signal.SIGKILL
    assert len(seen.killed.below) >= 4
    assert seen.killed.left_behind() == set()

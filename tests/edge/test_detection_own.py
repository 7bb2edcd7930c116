"""Detectors of one's own: docs/detection.md's very text, and what cannot be had."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from headwater_edge import checked
from headwater_edge.detection.bearable import bearable
from headwater_edge.detection.gone import Gone
from headwater_edge.places import FILE
from headwater_edge.settings import step_settings
from headwater_edge.store import read_store
from headwater_shared.errors import SettingsError
from tests.edge.feed import DAY, S
from tests.edge.run import Run
from tests.edge.running import as_after_a_kill, running
from tests.edge.test_agent import reading, run
from tests.edge.test_detection_in_step import configured, day, found, said
from tests.support import ROOT

PAGE = (ROOT / "docs" / "detection.md").read_text()
SECTION = PAGE[PAGE.index("## A detector of your own") : PAGE.index("## What they have learnt")]
CODE, LINES = (
    re.findall(rf"^```{kind}\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)[0]
    for kind in ("python", "toml")
)
PRESSURE = "s1/d1/pressure"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the page says: a class in a file, a few lines of settings."""
    (tmp_path / "leap.py").write_text(CODE)
    (tmp_path / "headwater.toml").write_text(f'[edge.windows]\nlateness = "0s"\nfuture = "3650d"\n{LINES}')
    return tmp_path


def run_of(folder: Path) -> Run:
    run = Run(step_settings(checked.read(folder / "headwater.toml")))
    run.start()
    return run


def test_the_page_as_it_stands_adds_a_detector(folder: Path) -> None:
    """The class is pasted into a file, the lines into the settings, and no more: a leap of the pressure is found, and told in its words."""
    run = run_of(folder)
    for message in day(1, name=PRESSURE):
        run.tick(message)
    (begin,) = (one for one in found(run) if one.phase == "begin" and one.begin_us == DAY + 2000 * S)
    assert (begin.rule, begin.series) == ("leap", PRESSURE)
    assert re.fullmatch(r"[78]\d(\.\d+)? after [12]\d(\.\d+)?", begin.text)
    assert [score.detector for score in begin.scores] == ["leap.py:Leap"]
    run.picture()
    run.crash(run.pictures[0])  # what it remembers is in the snapshot


def test_another_text_of_the_file_is_another_detector(folder: Path) -> None:
    """The journaled settings name the text by its hash: a reload takes the new one up, which learns anew; until then nothing changes."""
    run = run_of(folder)
    for message in day(1, windows=50, name=PRESSURE):
        run.tick(message)
    judge = run.state.detection.judges[0]
    configured(run, step_settings(checked.read(folder / "headwater.toml")))
    assert run.state.detection.judges[0] is judge
    (folder / "leap.py").write_text(CODE.replace("np.abs(", "2 * np.abs("))
    configured(run, step_settings(checked.read(folder / "headwater.toml")))
    assert run.state.detection.judges[0] is not judge
    assert run.state.detection.judges[0].windows.last.max() < 0


def test_a_file_that_is_gone_stops_neither_replay_nor_agent(folder: Path) -> None:
    """A journal of when it was there is run again without it: the readings count as they did, the detector says why it does not run."""
    run = run_of(folder)
    for message in day(1, windows=30, name=PRESSURE):
        run.tick(message)
    (folder / "leap.py").unlink()
    state = run.restored()
    (one,) = state.detection.judges[0].alone.ensemble.detectors
    assert isinstance(one, Gone)
    assert "leap.py" in one.why
    assert state.counters == run.state.counters


def test_r06_a_detector_that_changed_does_not_make_the_file_go_back(folder: Path, tmp_path: Path) -> None:
    """What it had found is numbered in the outbox; the journal, run again without it, goes on numbering after that: the next epoch
    names the last number that there is.
    """
    file = folder / "headwater.toml"
    file.write_text(file.read_text().replace('"*/pressure"', '"*"'))

    async def test() -> None:
        async with running(tmp_path / "first", checked.read(file)) as box:
            await box.publish(*(reading(10 * at, 20.0 + at % 3) for at in range(60)))
            await box.publish(*(reading(10 * at, 900.0) for at in range(60, 64)))
            assert box.agent.state.counters.anomalies > 0
            as_after_a_kill(tmp_path / "first", tmp_path / "killed")
        (folder / "leap.py").write_text(f"{CODE}# changed\n")
        with closing(read_store(tmp_path / "killed" / FILE)) as reader:
            last = dict(reader.execute("SELECT shard, max(seq) FROM outbox GROUP BY shard"))
        async with running(tmp_path / "killed", checked.read(file)) as box:
            assert box.agent.state.previous is not None
            assert box.agent.state.previous[1] == last

    (tmp_path / "first").mkdir()
    run(test())


@pytest.mark.parametrize(
    ("code", "line", "wrong"),
    [
        ("", 'detectors = ["lap.py:Leap"]', "lap.py:Leap cannot be read"),
        (CODE, 'detectors = ["leap.py:Leab"]', "there is no detector 'Leab' in"),
        (CODE, 'detectors = ["leap.py"]', "there is no detector '' in"),
        ("class Leap: pass", 'detectors = ["leap.py:Leap"]', "there is no detector 'Leap' in"),
        ("import nothing_of_that_name", 'detectors = ["leap.py:Leap"]', "ModuleNotFoundError"),
        (CODE, 'detectors = [{ use = "leap.py:Leap", parameters = { n = 3 } }]', "TypeError"),
        (CODE, 'detectors = ["nightmare"]', "there is no 'nightmare'"),
        (CODE, "detectors = []", "names no detector"),
        (CODE, 'level = "7s"', "there are no windows of '7s'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(
    folder: Path, code: str, line: str, wrong: str
) -> None:
    """One line that names rule and reason, and one that says what to do."""
    (folder / "leap.py").write_text(code)
    (folder / "headwater.toml").write_text(f'[[edge.detect]]\nname = "leap"\nseries = "*"\n{line}\n')
    with pytest.raises(SettingsError, match=re.escape(wrong)) as error:
        step_settings(checked.read(folder / "headwater.toml"))
    assert "leap" in str(error.value)


def test_two_rules_of_one_name_are_refused(folder: Path) -> None:
    """A rule of detection and a limit share one alphabet of names: alerts are told apart by them."""
    with (folder / "headwater.toml").open("a") as file:
        file.write('[[edge.limit]]\nname = "leap"\nseries = "*"\nabove = 3.0\n')
    with pytest.raises(SettingsError, match="two rules are called 'leap'"):
        step_settings(checked.read(folder / "headwater.toml"))


def test_a_detector_too_heavy_for_its_series_does_not_run_and_the_others_do(tmp_path: Path) -> None:
    """Above 1,000 series one of more than 20 KB a series is refused with that figure at a start; the agent starts, and says so."""
    file = tmp_path / "headwater.toml"
    file.write_text(
        '[[edge.detect]]\nname = "u"\nseries = "*/temp"\n'
        'detectors = ["default", { use = "river.anomaly.GaussianScorer", parameters = { window_size = 1000 } }]\n'
    )
    settings = step_settings(checked.read(file))
    names = [f"s1/d{at}/temp" for at in range(1001)]
    assert bearable(settings, names[:1000]) == settings
    assert bearable(settings, [*names[:1000], "s1/d1/flow"]) == settings
    ours, heavy = bearable(settings, names).detect[0].detectors
    assert ours == settings.detect[0].detectors[0]
    assert re.search(r"takes \d+ KB a series", heavy.refused)
    run = Run(bearable(settings, names))
    run.start()
    run.tick(said(0, 1.0), said(25, 1.0))
    kinds = [type(one) for one in run.state.detection.judges[0].alone.ensemble.detectors]
    assert kinds.count(Gone) == 1
    assert len(kinds) > 1

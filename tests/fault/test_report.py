"""The report of `make fault`: every rule and every pain has its tests, or a reason why not yet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.bench import run
from tests.fault import covered, recorded, report
from tests.fault.recorded import Audited, Line
from tests.support import ROOT

MAY_WAIT = {"R14", "R21", "R24", "R25", "R26", "R28", "R29", "pain 9"}
"""Those of issue 6, and what needs Kafka."""


def test_every_rule_and_every_pain_is_covered_or_says_why_not() -> None:
    """By a test's name, or by its marker `covers`."""
    tests = covered.by_key()
    assert set(covered.NOT_YET) <= MAY_WAIT
    without = {key for key, found in tests.items() if not found and key not in covered.NOT_YET}
    assert without == set()
    for name in {name for names in covered.ALSO.values() for name in names}:
        path, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / path).read_text(), f"{name} is no longer there"
    benches = {id_ for ids in run.BENCHES for id_ in ids}
    assert set(covered.BY_BENCH.values()) <= benches


def test_rules_and_pains_are_those_of_the_design() -> None:
    """Where the design lies beside the checkout, the numbers are the same."""
    design = ROOT.parent / "shared" / "design"
    if not design.is_dir():
        pytest.skip("no ../shared/design here")
    rules = re.findall(r"^(\d+)\. ", (design / "CORRECTNESS.md").read_text(), re.MULTILINE)
    pains = re.findall(r"^\| (\d+) \|", (design / "PAINS.md").read_text(), re.MULTILINE)
    assert [int(n) for n in rules] == list(covered.RULES)
    assert [int(n) for n in pains] == list(covered.PAINS)


def test_the_report_adds_up_what_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that tests append come back as rows by fault and a sum; the text is the same each time."""
    file = tmp_path / "recorded.jsonl"
    monkeypatch.setenv(recorded.VARIABLE, str(file))
    one = recorded.audited("noise\naudit: acknowledged 10, counted 9, dead 2, lost 0, twice 0")
    recorded.record("test_a", "power cut", 1, one)
    recorded.record("test_b", "power cut", 2, Audited(5, 5, 0, 1, 0))
    recorded.record("test_c", "kill -9", 1_000, Audited(5, 5, 0, 0, 0))
    lines = list(recorded.lines(file))
    assert lines[0] == Line("test_a", "power cut", 1, one)
    text = report.written(lines)
    assert "| power cut | 2 | 3 | 15 | 14 | 2 | 0 | 0 | 1 | 0 |" in text
    assert "| **all** | 3 | 1,003 | 20 | 19 | 2 | 0 | 0 | 1 | 0 |" in text
    assert text == report.written(lines)
    assert "tests/fault/test_report.py" not in text
    assert [line.audited.good for line in lines] == [True, False, True]

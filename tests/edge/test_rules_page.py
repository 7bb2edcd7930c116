"""docs/rules.md: each example is a file that loads, as pasted."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from headwater_cloud import book_check
from headwater_cloud.book_check import Around
from headwater_cloud.settings import CloudSettings
from headwater_edge.rule_check import check
from headwater_edge.rule_settings import KINDS
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_shared.settings import load
from tests.support import ROOT

EXAMPLES = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "rules.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_loads_as_pasted(tmp_path: Path, example: str) -> None:
    """Without a mistake; what names a file of rules finds the one that follows it on the page."""
    path = tmp_path / "headwater.toml"
    path.write_text(example)
    data = tomllib.loads(example)
    if "rules" in data.get("edge", {}):
        (tmp_path / "rules.toml").write_text(EXAMPLES[EXAMPLES.index(example) + 1])
    assert check(path, []).mistakes == []
    if "cloud" in data:
        assert load(path, "cloud", CloudSettings).book().time_us == 0
        assert book_check.check(path, Around(), in_settings=True).mistakes == []
    if "edge" in data:
        step = step_settings(load(path, "edge", EdgeSettings))
        assert step.rules or step.more_rules != type(step.more_rules)()


def test_there_is_an_example_of_each_kind() -> None:
    """And of a file of rules."""
    assert {kind for example in EXAMPLES for kind in tomllib.loads(example).get("edge", {})} == {
        *KINDS,
        "rules",
    }


def test_the_examples_together_are_good_settings(tmp_path: Path) -> None:
    """One after the other in one file."""
    path = tmp_path / "headwater.toml"
    path.write_text("".join(example for example in EXAMPLES if "[[edge." in example))
    assert load(path, "cloud", CloudSettings).book().patterns[0].name == "bearing-fails"
    assert check(path, []).rules == [
        "shakes",
        "warm",
        "motor-hot",
        "cold-chain",
        "heats-up",
        "flow-stuck",
        "pump-silent",
        "pressure-leaps",
    ]

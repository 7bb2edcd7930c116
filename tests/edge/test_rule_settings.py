"""Rules as a person writes them: in the settings or in a file of their own; each mistake with its line and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater_edge.rule_check import check
from headwater_edge.rules import JumpRule, MissingRule, MoreRules, RangeRule, RateRule, StuckRule
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_shared.errors import SettingsError
from headwater_shared.settings import load

EACH = """\
[[limit]]
name = "hot"
series = "*/temp"
above = 80.0
clear = 75.0
for = "30s"
severity = "critical"

[[range]]
name = "cold-chain"
series = "truck-*/*/cargo"
low = 2.0
high = 8.0
clear_by = 0.5
for = "5m"

[[rate]]
name = "heats-up"
series = "*/temp"
rises = 5.0
per = "1m"

[[stuck]]
name = "stuck"
series = "*/flow"
for = "10m"

[[missing]]
name = "silent"
series = "plant/pump-7/*"
for = "60s"

[[jump]]
name = "leap"
series = "*/pressure"
by = 1.5
text = "pressure leaps"
"""
"""One rule of each kind, as a file of rules has them."""


def _files(folder: Path, settings: str, rules: str | None = None) -> Path:
    path = folder / "headwater.toml"
    path.write_text(settings)
    if rules is not None:
        (folder / "rules.toml").write_text(rules)
    return path


def _more() -> MoreRules:
    minute, w = 60_000_000, ("warning", "")
    return MoreRules(
        (RangeRule("cold-chain", "truck-*/*/cargo", 2.0, 8.0, 0.5, *w, 5 * minute),),
        (RateRule("heats-up", "*/temp", 1.0, 5.0, 5.0, minute, 1_000_000, *w, 0),),
        (StuckRule("stuck", "*/flow", 0.0, *w, 10 * minute),),
        (MissingRule("silent", "plant/pump-7/*", *w, minute),),
        (JumpRule("leap", "*/pressure", 1.5, 1.5, 10_000_000, "warning", "pressure leaps"),),
    )


def test_a_file_of_rules_is_as_if_it_stood_in_the_settings(tmp_path: Path) -> None:
    """Relative to the settings file, without the prefix; both go together, and all of it is what a step depends on (R12)."""
    inside = _files(tmp_path, EACH.replace("[[", "[[edge."))
    there = step_settings(load(inside, "edge", EdgeSettings))
    assert there.more_rules == _more()
    assert [(one.name, one.for_us) for one in there.rules] == [("hot", 30_000_000)]
    beside = _files(tmp_path, '[edge]\nrules = "rules.toml"\n', EACH)
    assert step_settings(load(beside, "edge", EdgeSettings)) == there
    both = '[edge]\nrules = "rules.toml"\n[[edge.limit]]\nname = "wet"\nseries = "*"\nbelow = 0.0\n'
    names = [
        one.name for one in step_settings(load(_files(tmp_path, both, EACH), "edge", EdgeSettings)).rules
    ]
    assert names == ["wet", "hot"]


@pytest.mark.parametrize(
    ("rule", "line", "says", "remedy"),
    [
        ('[[limit]]\nname="a"\nseries="*"\nabvoe=1.0', 4, "unknown key 'abvoe' in [[limit]]", "did you mean 'above'"),
        ('[[limits]]\nname="a"', 1, "unknown key 'limits'", "did you mean 'limit'"),
        ('\n[[limit]]\nseries="*"\nabove=1.0', 2, "[[limit]] lacks the key 'name'", "Name of the rule"),
        ('[[limit]]\nname="a"\nseries="*"\nabove="x"', 4, "limit[0].above: expected a number", ""),
        ('[[limit]]\nname="a"\nseries="*"', 1, "needs either above or below", "above = 80.0"),
        ('[[limit]]\nname="a"\nseries="*"\nabove=1.0\nclear=2.0', 5, "on the broken side", "good side"),
        ('[[limit]]\nname="a"\nseries="hw/+/temp"\nabove=1.0', 3, "no series can match", "* and ?"),
        ('[[limit]]\nname="a"\nseries="temp"\nabove=1.0', 3, "no series can match", "*/temp"),
        ('[[limit]]\nname="a"\nseries="a//temp"\nabove=1.0', 3, "no series can match", "three names"),
        ('[[limit]]\nname="a"\nseries="*"\nabove=nan', 4, "above is no number", ""),
        ('[[limit]]\nname="a"\nseries="*"\nabove=1.0\nfor="31d"', 5, "longer than 30 days", ""),
        ('[[limit]]\nname="a"\nseries="*"\nabove=1.0\nfor="half an hour"', 5, "a length of time", ""),
        ('[[limit]]\nname="a"\nseries="*"\nabove=1.0\nseverity="fatal"', 5, "not among its values", "critical"),
        ('[[range]]\nname="a"\nseries="*"\nlow=8.0\nhigh=2.0', 4, "is not below", "least comes first"),
        ('[[range]]\nname="a"\nseries="*"\nlow=2.0\nhigh=8.0\nclear_by=4.0', 6, "no value is inside", "3.0"),
        ('[[rate]]\nname="a"\nseries="*"', 1, "one of rises, falls and changes", ""),
        ('[[rate]]\nname="a"\nseries="*"\nfalls=-5.0', 4, "is below 0", "falls = 5.0"),
        ('[[rate]]\nname="a"\nseries="*"\nrises=5.0\nclear=6.0', 5, "is not from 0 to 5.0", ""),
        ('[[rate]]\nname="a"\nseries="*"\nrises=5.0\nper="0s"', 5, "per is 0 s", ""),
        ('[[stuck]]\nname="a"\nseries="*"\nfor="0s"', 4, "every value is the same for 0 s", "10m"),
        ('[[stuck]]\nname="a"\nseries="*"', 1, "[[stuck]] lacks the key 'for'", "may stay the same"),
        ('[[missing]]\nname="a"\nseries="*"\nfor="500ms"', 4, "at least 1s", "5m"),
        ('[[jump]]\nname="a"\nseries="*"\nby=0.0', 4, "is not above 0", ""),
        ('[[jump]]\nname="a"\nseries="*"\nby=1.0\nclear=2.0', 5, "is not from 0 to 1.0", ""),
        (
            '[[stuck]]\nname="a"\nseries="*"\nfor="1m"\n[[limit]]\nname="a"\nseries="*"\nabove=1.0',
            2, "two rules are called 'a'", "a name of its own",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_what_to_do(
    tmp_path: Path, rule: str, line: int, says: str, remedy: str
) -> None:
    """By the check, and at a start that would read it; in a file of rules, and in the settings."""
    path = _files(tmp_path, '[edge]\nrules = "rules.toml"\n', rule + "\n")
    file = tmp_path / "rules.toml"
    (found,) = check(file, []).mistakes
    assert (found.file, found.line) == (str(file), line)
    assert says in found.what
    assert remedy in found.remedy
    with pytest.raises(SettingsError) as refused:
        load(path, "edge", EdgeSettings)
    assert refused.value.message.startswith(f"{file}:{line}: ")
    if "limits" in rule:
        return
    inside = _files(tmp_path, rule.replace("[[", "[[edge.") + "\n")
    with pytest.raises(SettingsError) as refused:
        load(inside, "edge", EdgeSettings)
    assert refused.value.message.startswith(f"{inside}:{line}: ")
    assert check(inside, []).mistakes[0].line == line


def test_all_mistakes_are_told_not_only_the_first(tmp_path: Path) -> None:
    """Several in one table, and one in each of several; what reads well is counted."""
    bad = '[[limit]]\nname = "a"\nseries = "x"\nabvoe = 1.0\nclaer = 2.0\nabove = "x"\n'
    path = tmp_path / "rules.toml"
    path.write_text(bad + EACH.replace("low = 2.0", "low = 9.0"))
    found = check(path, [])
    assert sorted(one.line for one in found.mistakes) == [4, 5, 6, 18]
    assert found.rules == ["hot", "cold-chain", "heats-up", "stuck", "silent", "leap"]


def test_a_rule_for_no_known_series_is_a_warning(tmp_path: Path) -> None:
    """Where it is known which series there are."""
    path = tmp_path / "rules.toml"
    path.write_text(EACH)
    known = ["plant/pump-7/temp", "plant/pump-7/flow", "truck-1/box/cargo"]
    found = check(path, known)
    assert not found.mistakes
    assert [(one.line, "'leap'" in one.what) for one in found.warnings] == [(35, True)]
    assert check(path, []).warnings == []


def test_a_file_of_rules_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the key that names it."""
    with pytest.raises(SettingsError, match=r"rules\.toml cannot be read: No such file") as refused:
        load(_files(tmp_path, '[edge]\nrules = "rules.toml"\n'), "edge", EdgeSettings)
    assert "edge.rules" in refused.value.hint


def test_a_mistake_in_a_long_file_is_found_quickly(tmp_path: Path) -> None:
    """A thousand rules, and the last is wrong: its line is found by halving."""
    path = tmp_path / "rules.toml"
    rules = [f'[[limit]]\nname = "r{n}"\nseries = "*"\nabove = 1.0\n' for n in range(1000)]
    path.write_text("".join(rules) + "clear = 2.0\n")
    (found,) = check(path, []).mistakes
    assert found.line == 4001

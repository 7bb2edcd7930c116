"""`headwater rules check` and `headwater rules try`: mistakes told to a person, and what rules find in what is stored."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from headwater_appliance.cli import app
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_shared.errors import Refused
from headwater_shared.settings import load
from tests.cloud.made import Agent, row
from tests.cloud.side import Side
from tests.edge.desk import Desk
from tests.edge.feed import DAY, Message, S
from tests.edge.test_rule_settings import EACH

RULES = """\
[[limit]]
name = "hot"
series = "*/temp"
above = 3.0
for = "3s"

[[range]]
name = "odd"
series = "s1/*"
low = -3.0
high = 3.5

[[rate]]
name = "fast"
series = "*/temp"
changes = 2.0
per = "1s"

[[stuck]]
name = "stuck"
series = "*"
for = "4s"

[[missing]]
name = "silent"
series = "*"
for = "20s"

[[jump]]
name = "jump"
series = "*/temp"
by = 1.0
"""
SETTINGS = '[common]\ndata = "{data}"\n[edge]\nname = "a1"\n[edge.windows]\nfuture = "3650d"\n'
NAMES = ("s1/d1/temp", "s1/d1/flow", "s2/d2/temp")


def headwater(*words: object) -> Result:
    return CliRunner().invoke(app, ["rules", *map(str, words)])


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A settings file without rules, and beside it rules.toml with one of each kind."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "headwater.toml"
    path.write_text(SETTINGS.format(data=tmp_path / "data"))
    (tmp_path / "rules.toml").write_text(RULES)
    return path


def _iso(time_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _lived(desk: Desk, seed: int) -> list[dict[str, Any]]:
    """Let an agent live a while, with resends, pauses and a restart; return the anomalies that it found, as episodes."""
    chance = random.Random(seed)
    at, value = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0.0)
    sent: list[Message] = []
    outputs = []
    for number in range(120):
        burst = []
        for _ in range(chance.randint(0, 8)):
            name = chance.choice(NAMES)
            at[name] += round(chance.choice((0.5, 1, 1, 2, 9, 25)) * S)
            if chance.random() < 0.6:
                value[name] = round(max(-6.0, min(6.0, value[name] + chance.gauss(0, 1.5))), 1)
            burst.append(Message(((name, DAY + at[name], value[name]),)))
        sent += burst
        burst += [chance.choice(sent[-30:]) for _ in range(chance.randint(0, 2)) if sent]
        outputs.append(desk.tick(*burst))
        desk.clock.advance(chance.choice((0.25, 1, 1, 15)))
        if number == 60:
            desk.restart()
    episodes: dict[str, dict[str, Any]] = {}
    for one in [anomaly for output in outputs for anomaly in output.anomalies]:
        if one.phase == "begin":
            episodes[one.id] = {
                "rule": one.rule, "series": one.series, "began": _iso(one.begin_us),
                "found": _iso(one.time_us), "ended": None, "value": one.value,
            }  # fmt: skip
        else:
            episodes[one.id]["ended"] = _iso(one.time_us)
    return list(episodes.values())


@pytest.mark.parametrize("seed", [1, 2])
def test_a_trial_finds_in_the_journal_what_the_agent_has_found(settings: Path, seed: int) -> None:
    """Of every kind, with begin, end and value; beside the agent that has the file open, and after it."""
    agent = settings.with_name("agent.toml")
    agent.write_text(settings.read_text().replace("[edge]", '[edge]\nrules = "rules.toml"'))
    desk = Desk(settings.parent / "data", step_settings(load(agent, "edge", EdgeSettings)))
    wanted = _lived(desk, seed)
    assert {one["rule"] for one in wanted} == {"hot", "odd", "fast", "stuck", "silent", "jump"}
    words = (
        settings.with_name("rules.toml"),
        "--settings",
        settings,
        "--from",
        "2020-01-01",
        "--to",
        "2099-01-01",
    )
    beside = headwater("try", *words, "--json")
    desk.close()
    assert beside.exit_code == 0, beside.output
    found = json.loads(beside.stdout)
    (looked,) = found["looked_at"]
    assert "every reading of 122 ticks of the journal" in looked
    told = [{key: one[key] for key in wanted[0]} for one in found["would_have_fired"]]
    order = sorted(wanted, key=repr)
    assert sorted(told, key=repr) == order
    text = headwater("try", *words).stdout
    assert text.startswith("looked at every reading")
    assert f"hot would have fired {sum(one['rule'] == 'hot' for one in wanted)} time" in text


def test_a_trial_looks_at_the_time_that_is_asked_for(settings: Path) -> None:
    """What was found before or after it is left out; what it lasts from before is known."""
    desk = Desk(settings.parent / "data", step_settings(EdgeSettings(name="a1")))
    desk.clock.wall_us = DAY
    for second in range(60):
        desk.tick(Message((("s1/d1/temp", DAY + second * S, 9.0 if 20 <= second < 50 else 0.0),)))
        desk.clock.advance(1)
    desk.close()

    def hot(begin: int, end: int) -> list[tuple[str, str]]:
        times = "--from", _iso(DAY + begin * S), "--to", _iso(DAY + end * S)
        words = settings.with_name("rules.toml"), "--settings", settings, *times, "--json"
        found = json.loads(headwater("try", *words).stdout)["would_have_fired"]
        return [(one["began"], one["found"]) for one in found if one["rule"] == "hot"]

    once = [(_iso(DAY + 20 * S), _iso(DAY + 23 * S))]
    assert hot(0, 60) == hot(22, 24) == once
    assert hot(0, 23) == hot(24, 60) == []


def test_a_trial_looks_at_windows_before_the_journal(settings: Path) -> None:
    """Where there is no journal of that time; it says which windows, and that short events may be missed."""
    side = Side(settings.parent / "data")
    agent = Agent()
    for n in range(6):
        side.take(agent.frame(row(10 * n, 1.0, 9.0 if n == 3 else 1.5, 1.0 + n / 100, opened=("a1", 1, n))))
    side.close()
    words = (
        settings.with_name("rules.toml"),
        "--settings",
        settings,
        "--from",
        "2020-01-01",
        "--to",
        "2099-01-01",
    )
    found = json.loads(headwater("try", *words, "--json").stdout)
    assert "6 windows of 10s" in found["looked_at"][0]
    assert ("odd", 9.0) in {(one["rule"], one["value"]) for one in found["would_have_fired"]}
    assert {one["rule"] for one in found["would_have_fired"]} >= {"odd", "jump"}


def test_a_trial_of_nothing_says_so(settings: Path) -> None:
    """Without files there is nothing to look at."""
    done = headwater("try", settings.with_name("rules.toml"), "--settings", settings, "--from", "1h")
    assert isinstance(done.exception, Refused)
    assert "nothing of that time is stored" in str(done.exception)


def test_a_check_names_line_and_remedy(settings: Path) -> None:
    """As text and as JSON; exit code 1 with a mistake, 0 with warnings only; the series are those of the data folder."""
    desk = Desk(settings.parent / "data", step_settings(EdgeSettings(name="a1")))
    desk.tick(Message((("s1/d1/temp", DAY, 1.0),)))
    desk.close()
    file = settings.with_name("rules.toml")
    file.write_text(EACH.replace("above = 80.0", "abvoe = 80.0"))
    done = headwater("check", file, "--settings", settings)
    assert done.exit_code == 1
    assert f"{file}:4: unknown key 'abvoe' in [[limit]]\n  hint: did you mean 'above'?" in done.stdout
    assert f"{file}:30: warning: missing 'silent': none of the 1 series known so far matches" in done.stdout
    found = json.loads(headwater("check", file, "--settings", settings, "--json").stdout)
    assert [(one["line"], one["file"]) for one in found["mistakes"]] == [(4, str(file))]
    file.write_text(EACH)
    done = headwater("check", file, "--settings", settings)
    assert done.exit_code == 0
    assert done.stdout.endswith("6 rules, 0 mistakes, 4 warnings\n")


def test_a_settings_file_is_checked_with_the_file_that_it_names(settings: Path) -> None:
    """Its own data folder is looked into."""
    settings.write_text(settings.read_text().replace("[edge]", '[edge]\nrules = "rules.toml"'))
    done = headwater("check", settings)
    assert (done.exit_code, done.stdout) == (0, f"{settings}: 6 rules, 0 mistakes, 0 warnings\n")

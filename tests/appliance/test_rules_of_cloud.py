"""`headwater rules check`, `try` and `explain` for the cloud side's rules, and the settings that hold them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from headwater_appliance.cli import app
from headwater_cloud.book import AlertPolicy, Compare, Inhibit, Pattern, Step
from headwater_cloud.settings import CloudSettings
from headwater_shared.errors import SettingsError
from headwater_shared.settings import load
from tests.cloud.made import SHARD, Agent, row
from tests.cloud.side import Side
from tests.cloud.test_rules_in_shards import with_rules

BEARING = """\
name = "bearing"
within = "1h"
sequence = [
    { anomaly = "shakes", series = "*/v" },
    { anomaly = "warm", series = "*/t", for = "1m" },
]
severity = "critical"
text = "the bearing of {device} is failing"
do = "stop it"
"""
RULES = f"""\
[[limit]]
name = "warm"
series = "*/t"
above = 60.0

[[limit]]
name = "shakes"
series = "*/v"
above = 7.0

[[pattern]]
{BEARING}
[[pattern]]
name = "hot-windows"
sequence = [{{ window = "10s", series = "*/temp", above = 80.0, for = "20s" }}]

[[compare]]
name = "odd"
metric = "temp"

[[inhibit]]
by = "agent-silent"
rules = ["*"]

[alerts]
own = ["shakes"]
calm = "1m"
"""
MIN = 60_000_000


def headwater(*words: object) -> Result:
    return CliRunner().invoke(app, ["rules", *map(str, words)])


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file whose two sides read one file of rules."""
    monkeypatch.chdir(
        tmp_path
    )  # a checkout in which somebody ran `headwater up` has a data folder of its own
    (tmp_path / "data").mkdir()
    path = tmp_path / "headwater.toml"
    path.write_text(
        f'[common]\ndata = "{tmp_path}/data"\n[edge]\nrules = "rules.toml"\n[cloud]\nrules = "rules.toml"\n'
    )
    (tmp_path / "rules.toml").write_text(RULES)
    return path


def test_one_file_of_rules_serves_agent_and_cloud_side(settings: Path) -> None:
    """Each reads its own tables; the book is what shards get."""
    book = load(settings, "cloud", CloudSettings).book()
    steps = Step("anomaly", "shakes", "*/v"), Step("anomaly", "warm", "*/t", for_us=MIN)
    bearing = Pattern(
        "bearing", within_us=60 * MIN, sequence=steps, severity="critical", text="the bearing of {device} is failing", do="stop it",
    )  # fmt: skip
    window = Step("window", series="*/temp", level="10s", above=80.0, for_us=MIN // 3)
    assert book.patterns == (bearing, Pattern("hot-windows", sequence=(window,)))
    assert book.compare == (Compare("odd", "temp"),)
    assert book.inhibit == (Inhibit("agent-silent", ("*",)),)
    assert book.alerts == AlertPolicy(("shakes",), MIN)
    for file in (settings, settings.with_name("rules.toml")):
        found = headwater("check", file)
        assert (found.exit_code, found.stdout) == (0, f"{file}: 5 rules, 0 mistakes, 0 warnings\n")


@pytest.mark.parametrize(
    ("wrong", "line", "what", "remedy"),
    [
        ('sequence = [{ anomaly = "a" }, { serie = "x" }]', 2, "unknown key 'serie'", "did you mean 'series'"),
        ("sequence = [{ }]", 2, "step 1 names nothing", "one of anomaly, peer, window"),
        ('sequence = [{ anomaly = "a", device = "offline" }]', 2, "names anomaly and device", "one of"),
        ('severity = "warning"', 1, "has no steps", "one of sequence, all"),
        ('sequence = [{ anomaly = "a" }]\nall = [{ anomaly = "a" }]', 3, "has sequence and all", "one of"),
        ('sequence = [{ anomaly = "a", not = true }, { anomaly = "b" }]\nwithin = "1h"', 2, "the first step has not", "begin it"),
        ('sequence = [{ anomaly = "a" }, { anomaly = "b" }]', 1, "nothing happens within 0 s", 'within = "1h"'),
        ('sequence = [{ anomaly = "a" }, { anomaly = "b" }]\nwithin = "0s"', 3, "nothing happens within 0 s", "within"),
        ('all = [{ anomaly = "a", not = true }]', 2, "not is for steps of a sequence", "between"),
        ('sequence = [{ window = "1m" }]', 2, "needs either above or below", "above = 80.0"),
        ('sequence = [{ window = "10m/1m", above = 1.0 }]', 2, "are not one after the other", "plain level"),
        ('sequence = [{ window = "soon", above = 1.0 }]', 2, "'soon' is no level", "1m"),
        ('sequence = [{ anomaly = "a", above = 1.0 }]', 2, "above is for a window", "leave it out"),
        ('sequence = [{ device = "away" }]', 2, "no status is 'away'", "online, silent, offline"),
        ('sequence = [{ command = "stop", status = "open" }]', 2, "no command ends as 'open'", "done, refused"),
        ('sequence = [{ command = "stop", for = "1m" }]', 2, "lasts no time", "leave out for"),
        ('sequence = [{ device = "offline", series = "a/b/c" }]', 2, "no device can match", "site/device"),
        ('sequence = [{ anomaly = "a", series = "+/d/t" }]', 2, "no series can match", "not MQTT's"),
        ('of = { anomaly = "a" }', 1, "count = 0", "from 1 to"),
        ('count = 3\nsequence = [{ anomaly = "a" }]', 2, "count goes with of", "of ="),
        ('of = { anomaly = "a" }\ncount = 3\ndistinct = "device"\nwithin = "1h"', 4, "of one device there is one", "site"),
        ('sequence = [{ anomaly = "a" }]\ntext = "{gadget} is hot"', 3, "nothing is known as {gadget}", "device"),
        ('sequence = [{ anomaly = "a" }]\nfor = "90d"', 3, "longer than 30 days", "not kept"),
        ('sequence = [{ anomaly = "a" }]\nper = "plant"', 3, "not among its values", "device, site"),
    ],
)  # fmt: skip
def test_a_mistake_names_line_and_remedy(
    tmp_path: Path, wrong: str, line: int, what: str, remedy: str
) -> None:
    """By the command, exit code 1; and where the settings are read, which then change nothing."""
    rules = tmp_path / "rules.toml"
    rules.write_text(f"[[pattern]]\n{wrong}\nname = 'p'\n")
    found = headwater("check", rules)
    first, hint = found.stdout.splitlines()[:2]
    assert found.exit_code == 1
    assert first.startswith(f"{rules}:{line}: "), found.stdout
    assert what in first
    assert remedy in hint
    settings = tmp_path / "headwater.toml"
    settings.write_text('[cloud]\nrules = "rules.toml"\n')
    with pytest.raises(SettingsError) as error:
        load(settings, "cloud", CloudSettings)
    assert what in error.value.message
    assert f"{rules}:{line}: " in error.value.message


@pytest.mark.parametrize(
    ("table", "line", "what"),
    [
        ('[[cloud.compare]]\nname = "c"\nmetric = "*/temp"', 3, "is no metric"),
        ('[[cloud.compare]]\nname = "c"\nmetric = "temp"\naway = 0.0', 4, "away = 0.0 is not above 0"),
        ('[[cloud.inhibit]]\nby = "x"\nrules = []', 3, "nothing is muted"),
        ('[cloud.alerts]\ngroup = "40d"', 2, "longer than 30 days"),
        ('[cloud.alerts]\nowm = ["x"]', 2, "unknown key 'owm'"),
        ('[[cloud.compare]]\nname = "c"\nmetric = "t"\n[[cloud.pattern]]\nname = "c"\nsequence = [{ peer = "c" }]', 2, "two rules are called"),
    ],
)  # fmt: skip
def test_mistakes_of_other_tables_in_the_settings(tmp_path: Path, table: str, line: int, what: str) -> None:
    """In the settings file itself."""
    path = tmp_path / "headwater.toml"
    path.write_text(table)
    found = headwater("check", path)
    assert found.exit_code == 1
    assert found.stdout.startswith(f"{path}:{line}: ")
    assert what in found.stdout
    with pytest.raises(SettingsError, match=f"{path}:{line}"):
        load(path, "cloud", CloudSettings)


@pytest.mark.parametrize(
    ("table", "line", "what"),
    [
        ('[[cloud.patern]]\nname = "p"', 1, "did you mean 'pattern'?"),
        ('[[edge.limt]]\nname = "p"', 1, "did you mean 'limit'?"),
        ('[[cloud.notify]]\nname = "n"\nto = "webhok"', 3, "did you mean 'webhook'?"),
        ('[cloud]\n[[cloud.notify]]\nname = "n"\nto = "webhook"\nurl = "http://a/b"\nquiet = ["22-6"]', 2, "quiet"),
        ('[cloud]\nzones = { "n*" = "Berlin" }', 2, "Berlin"),
        ('[[cloud.pattern]]\nname = "p"\nall = ["x"]', 3, "hint: Instead: steps in any order."),
    ],
)  # fmt: skip
def test_what_would_keep_the_box_from_starting_is_no_clean_file(
    tmp_path: Path, table: str, line: int, what: str
) -> None:
    """A misspelt table is no rule: nobody may be told that the file has no mistakes."""
    path = tmp_path / "headwater.toml"
    path.write_text(table)
    found = headwater("check", path)
    assert found.exit_code == 1
    assert found.stdout.startswith(f"{path}:{line}: ")
    assert what in found.stdout
    assert "1 mistake," in found.stdout


def test_a_misspelt_table_in_a_file_of_rules_is_told_with_both_sides_tables(tmp_path: Path) -> None:
    """Once, and nearest is looked for among those of agent and cloud side."""
    path = tmp_path / "rules.toml"
    path.write_text('[[patern]]\nname = "p"\n')
    found = headwater("check", path)
    assert found.stdout.startswith(
        f"{path}:1: unknown key 'patern' in a file of rules\n  hint: did you mean 'pattern'?"
    )
    assert "1 mistake," in found.stdout


def test_what_may_be_wrong_is_a_warning(settings: Path) -> None:
    """An anomaly that no rule of the agent in the same file makes, a level that agents do not make, a comparison that is none."""
    rules = settings.with_name("rules.toml")
    rules.write_text(
        RULES.replace('anomaly = "shakes"', 'anomaly = "shook"').replace('window = "10s"', 'window = "7m"')
    )
    found = headwater("check", settings)
    assert found.exit_code == 0
    assert (
        "warning: pattern 'bearing': no rule of an agent in this file makes the anomaly 'shook'"
        in found.stdout
    )
    assert "there are shakes, warm" in found.stdout
    assert "agents make no windows of 7m" in found.stdout
    assert f"{settings}: 5 rules, 0 mistakes, 2 warnings" in found.stdout


def _lived(settings: Path) -> Side:
    """A pump shakes and then is warm, another one is warm only; windows above 80 for 30 s."""
    side, agent = Side(settings.parent / "data"), Agent()
    side.put_clock(SHARD)
    with_rules(side, *load(settings, "cloud", CloudSettings).book().patterns)
    side.take(
        agent.anomaly("begin", 0, 8.5, series="s1/d1/v", rule="shakes", text="7 mm/s"),
        agent.anomaly("begin", 60, 66.0, series="s1/d2/t", rule="warm"),
        agent.anomaly("begin", 300, 61.0, series="s1/d1/t", rule="warm", text="above 60"),
        agent.anomaly("end", 600, 7.0, begin=0, series="s1/d1/v", rule="shakes", text=" "),
        *(agent.frame(row(at, 90.0, opened=("a1", 1, at + 1))) for at in (0, 10, 20)),
        agent.heartbeat(700),
    )  # fmt: skip
    return side


def test_try_tells_what_patterns_would_have_found(settings: Path) -> None:
    """In the stored anomalies and windows, with the rows; `--history 2h` is `--from 2h`; nothing is changed."""
    side = _lived(settings)
    rules = settings.with_name("new.toml")
    rules.write_text(
        f"[[pattern]]\n{BEARING}" + RULES[RULES.index('[[pattern]]\nname = "hot') : RULES.index("[[compare")]
    )
    words = (rules, "--settings", settings, "--from", "2027-01-01", "--to", "2027-03-01")
    before = side.rows("SELECT * FROM alert ORDER BY id")
    found = headwater("try", *words)
    assert found.exit_code == 0, found.output
    first, *rest = found.stdout.splitlines()
    assert first.startswith(
        "looked at 3 anomalies, 0 changes of status, 0 commands, 0 findings, 3 windows in "
    )
    assert rest[0] == (
        "2027-01-15T08:00:20.000Z  warning   hot-windows: s1/d1, since 2027-01-15T08:00:00.000Z, over 2027-01-15T08:00:30.000Z"
    )
    assert rest[2] == (
        "2027-01-15T08:06:00.000Z  critical  bearing: s1/d1, since 2027-01-15T08:00:00.000Z, not over: the bearing of s1/d1 is failing"
    )  # fmt: skip
    assert (
        rest[3]
        == "    2027-01-15T08:00:00.000Z to 2027-01-15T08:10:00.000Z  anomaly shakes: s1/d1/v 8.5  7 mm/s"
    )
    assert rest[4] == "    2027-01-15T08:05:00.000Z still so  anomaly warm: s1/d1/t 61  above 60"
    assert rest[5:] == ["bearing would have fired 1 time", "hot-windows would have fired 1 time"]
    whole = json.loads(headwater("try", *words, "--json").stdout)
    assert [one["rule"] for one in whole["patterns_would_have_fired"]] == ["hot-windows", "bearing"]
    assert side.rows("SELECT * FROM alert ORDER BY id") == before
    nothing = headwater("try", rules, "--settings", settings, "--history", "2h")
    assert "never: bearing, hot-windows" in nothing.stdout
    side.close()


def test_explain_shows_the_rows_that_made_an_alert(settings: Path) -> None:
    """Evidence with times, values and texts; of windows the run; an id by its beginning; what is pruned is said to be."""
    side = _lived(settings)
    ids = dict(side.rows("SELECT rule, id FROM alert"))
    found = headwater("explain", ids["bearing"][:8], "--settings", settings)
    assert found.exit_code == 0, found.output
    head, since, *rows = found.stdout.splitlines()
    assert head == "bearing: s1/d1, firing, critical: the bearing of s1/d1 is failing"
    assert (
        since
        == "since 2027-01-15T08:00:00.000Z, complete 2027-01-15T08:06:00.000Z, not over; by the word of a1"
    )
    assert "anomaly shakes: s1/d1/v 8.5  7 mm/s" in rows[0]
    assert "anomaly warm: s1/d1/t 61  above 60" in rows[1]
    windows = headwater("explain", ids["hot-windows"], "--settings", settings, "--json")
    (only,) = json.loads(windows.stdout)["rows"]
    assert (only["kind"], only["name"], only["ended"]) == (
        "window",
        "10s above 80.0",
        "2027-01-15T08:00:30.000Z",
    )
    side.store.connection.execute("DELETE FROM anomaly WHERE rule = 'shakes'")
    pruned = headwater("explain", ids["bearing"], "--settings", settings)
    assert pruned.stdout.splitlines()[-1] == "  1 more, which is not stored here (any more)"
    missing = headwater("explain", "zzz", "--settings", settings)
    assert missing.exit_code != 0
    side.close()

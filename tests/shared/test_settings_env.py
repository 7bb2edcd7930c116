"""Settings from the environment: they go before the file, are typed as in it, and a wrong one is told by its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from headwater_cloud.settings import CloudSettings
from headwater_edge.settings import EdgeSettings
from headwater_shared.errors import SettingsError
from headwater_shared.settings import Common, load, origins

FILE = """[common]
data = "here"
[edge]
name = "a"
[[edge.limit]]
name = "hot"
series = "*"
above = 80.0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "headwater.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Any:
    def give(**variables: str) -> None:
        for name, text in variables.items():
            monkeypatch.setenv(name, text)

    return give


def test_it_goes_before_the_file_and_is_typed_as_there(file: Path, given: Any) -> None:
    """Text, numbers, words, lists, tables and entries of lists of tables; what is not set stays as the file has it."""
    given(
        HEADWATER_EDGE__LISTENER__PORT="2000",
        HEADWATER_EDGE__NAME="42",
        HEADWATER_EDGE__WINDOWS__LEVELS="10s, 1m",
        HEADWATER_EDGE__DISK__COALESCE="0.5",
        HEADWATER_EDGE__LIMIT__0__ABOVE="90",
        HEADWATER_EDGE__LIMIT__1__NAME="cold",
        HEADWATER_EDGE__LIMIT__1__SERIES="*/temperature",
        HEADWATER_EDGE__LIMIT__1__BELOW="0.5",
        HEADWATER_EDGE__USERS__pump="env:PUMP",
        HEADWATER_EDGE__METRIC='[{ series = "*", valid = [0.0, 1.0] }]',
        HEADWATER_CLOUD__KEEP__10s="3d",
        HEADWATER_CLOUD__BATCH="7",
    )
    edge = load(file, "edge", EdgeSettings)
    assert (edge.listener.port, edge.name, edge.windows.levels) == (2000, "42", ("10s", "1m"))
    assert [(one.name, one.above, one.below) for one in edge.limit] == [("hot", 90.0, None), ("cold", None, 0.5)]  # fmt: skip
    assert (edge.users, edge.disk.coalesce, edge.metric[0].valid) == ({"pump": "env:PUMP"}, 0.5, (0.0, 1.0))
    cloud = load(None, "cloud", CloudSettings)
    assert (cloud.keep, cloud.batch) == ({"10s": "3d"}, 7)
    assert load(file, "common", Common).data == "here"


WRONG = [
    ("HEADWATER_EDGE__LISTENR__PORT", "1", "unknown key 'listenr'.*did you mean 'listener'"),
    ("HEADWATER_EDGE__LISTENER__PROT", "1", "below HEADWATER_EDGE__LISTENER.*did you mean 'port'"),
    ("HEADWATER_EGDE__NAME", "a", "unknown table .egde.*did you mean 'edge'"),
    ("HEADWATER_EDGE_NAME", "a", "two underscores: HEADWATER_EDGE__NAME"),
    (
        "HEADWATER_EDGE__LISTENER__PORT",
        "mqtt",
        "PORT: edge.listener.port: expected a whole number, found text",
    ),
    ("HEADWATER_EDGE__TICK", "often", "EDGE__TICK: edge.tick: expected a length of time"),
    ("HEADWATER_EDGE__NAME__MORE", "a", "nothing below name"),
    ("HEADWATER_EDGE__LIMIT__2__ABOVE", "1", "entry 2 of a list that has 1.*the next is 1"),
    ("HEADWATER_EDGE__LIMIT__HOT__ABOVE", "1", "'HOT' is no number of an entry"),
    ("HEADWATER_EDGE__LIMIT__1__ABOVE", "1", "LIMIT__1__ABOVE: .*lacks the key 'name'"),
    ("HEADWATER_EDGE__USERS__pump", "secret word", 'USERS__pump: edge.users.pump: expected "env:NAME"'),
]


@pytest.mark.parametrize(("name", "text", "said"), WRONG)
def test_a_wrong_one_is_told_by_its_name(file: Path, given: Any, name: str, text: str, said: str) -> None:
    """The error names the variable, what is wrong, and what was near; never a secret."""
    given(**{name: text})
    with pytest.raises(SettingsError) as caught:
        load(file, "edge", EdgeSettings)
    assert re.search(said, str(caught.value), re.DOTALL), str(caught.value)
    assert name in str(caught.value) or "EGDE" in name
    assert "secret word" not in str(caught.value)


def test_a_mistake_of_the_file_is_told_with_its_line_all_the_same(file: Path, given: Any) -> None:
    """What a variable sets is not blamed for what the file says."""
    file.write_text(FILE + "abve = 1\n")
    given(HEADWATER_EDGE__NAME="b")
    with pytest.raises(SettingsError, match=r"headwater.toml:9: unknown key 'abve'"):
        load(file, "edge", EdgeSettings)


def test_each_key_says_where_its_value_comes_from(file: Path, given: Any) -> None:
    """Default, file with line, or variable."""
    given(HEADWATER_EDGE__LIMIT__0__ABOVE="90", HEADWATER_EDGE__HTTP__PORT="8080")
    found = {one.key: (one.value, one.origin) for one in origins(file, "edge", EdgeSettings)}
    assert found["edge.name"] == ("a", f"{file}:4")
    assert found["edge.limit[0].above"] == (90.0, "HEADWATER_EDGE__LIMIT__0__ABOVE")
    assert found["edge.limit[0].name"] == ("hot", f"{file}:6")
    assert found["edge.http.port"] == (8080, "HEADWATER_EDGE__HTTP__PORT")
    assert found["edge.tick"] == ("250ms", "default")


def test_other_variables_of_ours_are_none(file: Path, given: Any) -> None:
    """The variables that are no settings stay what they are."""
    given(
        HEADWATER_CLOCK="real", HEADWATER_HARDWARE="pi", HEADWATER_REQUIRE="node", HEADWATER_EDGE_PASSWORD="x"
    )
    assert load(file, "edge", EdgeSettings).name == "a"

"""The device registry: CSV in and out, columns guessed and shown, mistakes by line, nothing changed by a mistake or a dry run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from headwater_appliance.registry_commands import app
from headwater_cloud import registry_csv
from headwater_shared import registry
from headwater_shared.errors import Refused, SettingsError
from headwater_shared.identity import valid_name
from headwater_shared.registry import Entry

CSV = """\
Gerät;Werk;Typ;Raum;Owner;temp [°C];Serial
pump-1;north;P100;Hall 2;Anna;x;17
pump-2;north;P100;Hall 3;;;18
"""
DEVICES = {
    "north/pump-1": Entry("P100", "Hall 2", "Anna", metrics={"temp": "°C"}),
    "north/pump-2": Entry("P100", "Hall 3"),
}


def call(folder: Path, *words: str, text: str | None = None) -> Result:
    """Run a command on a data folder."""
    return CliRunner().invoke(app, [*words, "--data", str(folder)], input=text)


def known(folder: Path) -> dict[str, Entry]:
    return registry.read(folder / registry.FILE)


def test_a_csv_is_taken_and_its_columns_are_shown(tmp_path: Path) -> None:
    """By what they are called, in a few languages; the site from its column, a unit from a heading; semicolons as Excel writes
    them; what is not used is said.
    """
    result = call(tmp_path, "import", "-", text="\ufeff" + CSV)
    assert result.exit_code == 0, result.output
    assert known(tmp_path) == DEVICES
    for line in (
        "column 'Gerät': device",
        "column 'temp [°C]': unit of temp",
        "column 'Serial': not used",
        "2 added: north/pump-1",
    ):
        assert line in result.output


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    """It says what would be."""
    result = call(tmp_path, "import", "-", "--dry-run", text=CSV)
    assert "2 would be added" in result.output
    assert not (tmp_path / registry.FILE).exists()


def test_mistakes_are_named_by_line_and_nothing_is_changed(tmp_path: Path) -> None:
    """All of them at once, and the exit code is that of a mistake."""
    call(tmp_path, "set", "north/pump-9")
    text = "device,metrics\nnorth/a,temp=°C\nb,\nnorth/a,\nnorth/c+d,\nnorth/e,=x\nnorth/f,a,b,c\n\n"
    result = call(tmp_path, "import", "-", text=text)
    assert isinstance(result.exception, Refused)
    for line in (
        "line 3: nothing says the site of 'b'",
        "line 4: north/a stands on line 2",
        "line 5: 'north/c+d'",
        "line 6:",
        "line 7:",
    ):
        assert line in result.output
    assert list(known(tmp_path)) == ["north/pump-9"]


def test_a_column_that_is_guessed_wrong_can_be_said(tmp_path: Path) -> None:
    """`--map`, and `--site` where no column has it; as JSON for a program."""
    text = "nr,was,id\n7,P1,pump-7\n"
    result = call(
        tmp_path,
        "import",
        "-",
        "--map",
        "model=was",
        "--map",
        "place=nr",
        "--site",
        "s1",
        "--json",
        text=text,
    )
    said = json.loads(result.output)
    assert said["columns"] == {"nr": "place", "was": "model", "id": "device"}
    assert (said["added"], said["changed"]) == (["s1/pump-7"], True)
    with pytest.raises(Refused, match="no such column"):
        registry_csv.read(text, {"model": "none"}, "s1")
    with pytest.raises(Refused, match="no column is taken for the device"):
        registry_csv.read("a,b\n1,2\n", {}, "s1")


def test_an_import_adds_and_a_replace_forgets(tmp_path: Path) -> None:
    """An empty cell says nothing; with `--replace` the file is all that is known."""
    call(tmp_path, "import", "-", text=CSV)
    result = call(tmp_path, "import", "-", text="device,model,place\nnorth/pump-1,P200,\nnorth/pump-3,,\n")
    assert "1 added: north/pump-3" in result.output
    assert "1 altered: north/pump-1" in result.output
    assert known(tmp_path)["north/pump-1"] == Entry("P200", "Hall 2", "Anna", metrics={"temp": "°C"})
    result = call(tmp_path, "import", "-", "--replace", text="device\nnorth/pump-3\n")
    assert "2 removed" in result.output
    assert known(tmp_path) == {"north/pump-3": Entry()}


def test_set_list_and_remove(tmp_path: Path) -> None:
    """What is not named stays, an empty text takes away; `list` shows what fits."""
    call(
        tmp_path,
        "set",
        "n/a",
        "--model",
        "P1",
        "--place",
        "Hall",
        "--metric",
        "temp=°C",
        "--metric",
        "flow=l/s",
    )
    call(tmp_path, "set", "n/a", "--place", "", "--metric", "flow=")
    assert known(tmp_path) == {"n/a": Entry("P1", metrics={"temp": "°C"})}
    call(tmp_path, "set", "n/b")
    assert "temp [°C]" in call(tmp_path, "list", "n/a").output
    assert "n/b" not in call(tmp_path, "list", "n/a").output
    assert [one["device"] for one in json.loads(call(tmp_path, "list", "--json").output)["devices"]] == [
        "n/a",
        "n/b",
    ]
    assert call(tmp_path, "remove", "n/a").exit_code == 0
    assert isinstance(call(tmp_path, "remove", "n/a").exception, Refused)
    assert list(known(tmp_path)) == ["n/b"]
    assert isinstance(call(tmp_path, "set", "no-site").exception, SettingsError)


names = st.text(min_size=1, max_size=12).filter(lambda text: valid_name(text) and text == text.strip())
texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=12).map(str.strip)
units = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters=";,|="), max_size=6).map(
    str.strip
)
metric_names = names.filter(lambda text: not set(text) & set(";,|="))
entries = st.builds(Entry, texts, texts, texts, texts, st.dictionaries(metric_names, units, max_size=3))


@given(st.dictionaries(st.builds("{}/{}".format, names, names), entries, max_size=5))
def test_what_is_exported_is_imported_alike(devices: dict[str, Entry]) -> None:
    """Whatever stands in it: commas, quotes, other scripts."""
    text = registry_csv.written(devices)
    found = registry_csv.read(text, {}, "")
    assert (found.mistakes, found.devices) == ([], devices)


def test_a_file_that_is_damaged_or_newer_is_not_touched(tmp_path: Path) -> None:
    """The error names it; nothing is written."""
    for body, words in (
        (b"{", "registry.json"),
        (b'{"version":4,"devices":{}}', "newer"),
        (b'{"version":1,"devices":{"x":{}}}', "no device"),
    ):
        (tmp_path / registry.FILE).write_bytes(body)
        result = call(tmp_path, "set", "n/a")
        assert isinstance(result.exception, SettingsError)
        assert words in str(result.exception)
        assert (tmp_path / registry.FILE).read_bytes() == body

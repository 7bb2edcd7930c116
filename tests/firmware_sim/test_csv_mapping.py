"""What the columns of anybody's CSV are taken for, and what becomes of their cells."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from headwater_firmware_sim.csv_mapping import Mapping, Wanted, guess
from headwater_firmware_sim.csv_table import Table, read_table
from headwater_shared.errors import SettingsError

AT = 1_764_000_000_000_000  # 2025-11-24 16:00 UTC


def read(folder: Path, text: str, wanted: Wanted | None = None) -> tuple[Mapping, Table]:
    path = folder / "table.csv"
    path.write_text(text)
    mapping = guess(path, wanted or Wanted())
    return mapping, read_table(path, mapping, site="here", device="it")


def test_a_column_a_metric(tmp_path: Path) -> None:
    """Times by name, values by their cells; text is ignored, an empty cell is no reading."""
    mapping, table = read(
        tmp_path,
        "timestamp,temp °C,note,humidity\n2025-11-24 16:00:00,1.5,ok,40\n2025-11-24 16:01:00,,late,41\n",
    )
    assert (mapping.time, mapping.how) == (("timestamp",), "ISO 8601")
    assert (mapping.values, mapping.ignored, mapping.metric) == (("temp °C", "humidity"), ("note",), "")
    times, values = table.devices["here", "it"]
    assert table.metrics == ["temp-°C", "humidity"]
    assert times.tolist() == [AT, AT + 60_000_000]
    assert values[0].tolist() == [1.5, 40.0]
    assert math.isnan(values[1][0])
    assert (table.readings, table.skipped) == (3, 0)


def test_a_row_a_reading(tmp_path: Path) -> None:
    """Columns that name metric, device and site; readings of one moment are one sample, in the order of time."""
    text = (
        "Site,Sensor ID,Parameter,Time,Value\nnorth,p 1,flow,1764000060,2\nnorth,p 1,heat,1764000060,3\n"
        "north,p 1,flow,1764000000,1\nsouth,p 2,flow,1764000000,9\n"
    )
    mapping, table = read(tmp_path, text)
    assert (mapping.site, mapping.device, mapping.metric, mapping.values) == (
        "Site",
        "Sensor ID",
        "Parameter",
        ("Value",),
    )
    assert mapping.how == "since 1970"
    times, values = table.devices["north", "p-1"]
    assert times.tolist() == [AT, AT + 60_000_000]
    assert values[1].tolist() == [2.0, 3.0]
    assert table.devices["south", "p-2"][1][0][0] == 9.0


@pytest.mark.parametrize(
    ("cells", "how"),
    [
        (("1764000000", "1764000001"), "since 1970"),
        (("1764000000000", "1764000001000"), "since 1970"),
        (("2025-11-24T16:00:00Z", "2025-11-24T17:00:01+01:00"), "ISO 8601"),
        (("24/11/2025 16:00:00", "24/11/2025 16:00:01"), "%d/%m/%Y %H:%M:%S"),
        (("11/24/2025 16:00:00", "11/24/2025 16:00:01"), "%m/%d/%Y %H:%M:%S"),
        (("24.11.2025 16:00:00", "24.11.2025 16:00:01"), "%d.%m.%Y %H:%M:%S"),
    ],
)
def test_times_as_tables_write_them(tmp_path: Path, cells: tuple[str, str], how: str) -> None:
    """Seconds and milliseconds, zones, days first and months first where only one of them can be."""
    mapping, table = read(tmp_path, f"when,x\n{cells[0]},1\n{cells[1]},2\n")
    assert mapping.how == how
    assert table.devices["here", "it"][0].tolist() == [AT, AT + 1_000_000]


def test_semicolons_decimal_commas_and_a_date_beside_the_time(tmp_path: Path) -> None:
    """As spreadsheets of half of Europe write it."""
    mapping, table = read(tmp_path, "Date;Time;CO\n24/11/2025;16:00:00;2,6\n24/11/2025;16:01:00;-200\n")
    assert (mapping.delimiter, mapping.time) == (";", ("Date", "Time"))
    times, values = table.devices["here", "it"]
    assert times[0] == AT
    assert values[:, 0].tolist() == [2.6, -200.0]


def test_two_values_of_one_moment_are_two_readings_and_bad_rows_are_counted(tmp_path: Path) -> None:
    """Nothing of a table is dropped without a word."""
    _, table = read(tmp_path, "time,x\n1764000000,1\n1764000000,2\nsoon,3\n1764000001,nan\n")
    times, values = table.devices["here", "it"]
    assert times.tolist() == [AT, AT]
    assert values[:, 0].tolist() == [1.0, 2.0]
    assert table.skipped == 2


def test_a_person_knows_better(tmp_path: Path) -> None:
    """Each guess can be overridden by the name of a column."""
    text = "time,at,value,b,id\n1764000000,1764000060,1,2,x\n"
    mapping, _ = read(tmp_path, text, Wanted(time="at", values=("b",), device="value"))
    assert (mapping.time, mapping.values, mapping.device) == (("at",), ("b",), "value")


@pytest.mark.parametrize(
    ("text", "wanted", "message"),
    [
        ("a,b\n1,2\n", Wanted(), "no column holds times"),
        ("time,b\n1764000000,x\n", Wanted(), "no column of numbers"),
        ("time,b\n", Wanted(), "no rows"),
        ("time,b\n1764000000,2\n", Wanted(device="c"), "no column 'c'"),
        ("time,b\n1764000000,2\n", Wanted(time="b"), "'b' holds no times"),
    ],
)
def test_a_table_that_cannot_be_read_is_told(tmp_path: Path, text: str, wanted: Wanted, message: str) -> None:
    """What is missing, and which option names it."""
    with pytest.raises(SettingsError, match=message) as refused:
        read(tmp_path, text, wanted)
    assert refused.value.hint

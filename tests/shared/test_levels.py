"""The names of levels: one window definition has one name, and the name says all of it."""

from __future__ import annotations

import pytest

from headwater_shared.errors import SettingsError
from headwater_shared.parts import Level, length_name, level_of, tumbling

S = 1_000_000


@pytest.mark.parametrize(
    ("level", "at_once"),
    [
        (Level("10s", 10 * S, 10 * S), 1),
        (Level("2h", 7200 * S, 7200 * S), 1),
        (Level("10m/1m", 600 * S, 60 * S), 10),
        (Level("session-5m", 0, 0, 300 * S), 1),
        (Level("1m@arrival", 60 * S, 60 * S, 0, arrival=True), 1),
        (Level("1m/10s@arrival", 60 * S, 10 * S, 0, arrival=True), 6),
        (Level("session-90s@arrival", 0, 0, 90 * S, arrival=True), 1),
    ],
)
def test_a_name_says_what_its_windows_are(level: Level, at_once: int) -> None:
    """Kind, length, hop or gap, and time base; a tumbling window hops by its length."""
    assert level_of(level.name) == level
    assert level.at_once == at_once


@pytest.mark.parametrize(
    "name", ["", "10", "0s", "01s", "1w", "1m/", "1m/7s", "1m/1m", "1m/2m", "1d/36h", "session", "session-", "session-1m/1s",
             "10s@", "10s@event", "10s@arrival@arrival", "1234567s", "1m\n", "hop-1m"]
)  # fmt: skip
def test_other_names_are_refused(name: str) -> None:
    """Nothing but what a setting can make."""
    with pytest.raises(SettingsError, match="is no level"):
        level_of(name)


def test_a_tumbling_level_is_no_other_kind() -> None:
    """Where only a length may stand, names of other kinds are refused."""
    assert tumbling("1m") == level_of("1m")
    for name in ("1m/10s", "session-1m", "1m@arrival"):
        with pytest.raises(SettingsError, match="no window length"):
            tumbling(name)


@pytest.mark.parametrize(
    ("length_us", "name"),
    [
        (S, "1s"),
        (60 * S, "1m"),
        (90 * S, "90s"),
        (5400 * S, "90m"),
        (86_400 * S, "1d"),
        (36 * 3600 * S, "36h"),
    ],
)
def test_one_length_has_one_name(length_us: int, name: str) -> None:
    """However it was written in the settings."""
    assert length_name(length_us) == name
    assert tumbling(name).length_us == length_us


@pytest.mark.parametrize("length_us", [0, 500_000, S + 1, 86_400 * S * 10**6])
def test_what_is_no_whole_number_of_seconds_has_none(length_us: int) -> None:
    """Nor what is longer than a name can say."""
    with pytest.raises(SettingsError, match="no window length"):
        length_name(length_us)

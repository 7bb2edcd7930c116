"""Names and numbers that are the same in every process, region and version: they are written down here."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_shared.identity import (
    SHARDS,
    agent_partition,
    device_of,
    new_epoch,
    series_name,
    shard_of,
    site_of,
    stable_id,
    valid_name,
)

names = st.text(min_size=1, max_size=20).filter(valid_name)


@pytest.mark.parametrize(
    ("site", "shard"),
    [("123456789", 0xCBF43926 % 64), ("a", 0xE8B7BE43 % 64), ("s1", 48), ("Werk Süd", 49)],
)
def test_r24_the_shard_of_a_site_never_changes(site: str, shard: int) -> None:
    """crc32 of its UTF-8 modulo 64, by the check values of CRC-32 and by what was stored (R24)."""
    assert SHARDS == 64
    assert shard_of(site) == shard


def test_the_partition_of_an_agent_never_changes() -> None:
    """crc32 of its name modulo the partitions of the topic."""
    assert agent_partition("123456789", 8) == 0xCBF43926 % 8
    assert agent_partition("123456789", 1) == 0


@given(names, names, names)
def test_a_series_name_holds_its_site_and_device(site: str, device: str, metric: str) -> None:
    """Whatever they are called: no name holds the slash between them."""
    series = series_name(site, device, metric)
    assert (site_of(series), device_of(series)) == (site, f"{site}/{device}")


@pytest.mark.parametrize(
    "name", ["a", "Pumpe 7", "Öldruck", "temp.1", "$x", "-", "a\u00a0b", "☃", "x" * 128, "é" * 128, "\x80"]
)
def test_names_that_are_valid(name: str) -> None:
    """1 to 128 characters of any script, blanks and points too."""
    assert valid_name(name)


@pytest.mark.parametrize(
    "name", ["", "a/b", "/", "+", "#", "a+b", "a#", "x" * 129, "a\x00", "\n", "a\n", "\t", "\x1f", "\x7f"]
)
def test_names_that_are_not(name: str) -> None:
    """What MQTT gives a meaning, what does not print, nothing, and too much."""
    assert not valid_name(name)


def test_an_id_of_words_is_the_same_in_every_process() -> None:
    """32 hex digits that hash randomisation does not change; written down, as alerts are known by them."""
    assert stable_id("hot", "s1/d1/temp", 1_800_000_000_000_000) == "39732561f4819fa53c32432e7b1d6602"
    code = "from headwater_shared.identity import stable_id; print(stable_id('a', 1))"
    others = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in "ab"
    }
    assert others == {stable_id("a", 1) + "\n"}


@given(st.lists(names, max_size=4), st.lists(names, max_size=4))
def test_other_words_have_other_ids(a: list[str], b: list[str]) -> None:
    """Words do not run into each other: `ab`, `c` is not `a`, `bc`."""
    assert (stable_id(*a) == stable_id(*b)) == ("\x1f".join(a) == "\x1f".join(b))
    if a != b and len(a) == len(b):
        assert stable_id(*a) != stable_id(*b)


def test_epochs_are_64_bits_and_differ() -> None:
    """Among a thousand no two are equal, and the highest bit is used."""
    epochs = {new_epoch() for _ in range(1000)}
    assert len(epochs) == 1000
    assert 0 <= min(epochs) < 2**63 <= max(epochs) < 2**64

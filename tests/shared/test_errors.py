"""Errors say what to do, in code and in words."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater_shared import errors, extras
from headwater_shared.errors import HeadwaterError, NeedsPerson, PortInUse, SettingsError, Unreadable


def _tree(kind: type[HeadwaterError]) -> Iterator[type[HeadwaterError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def test_str_shows_message_and_hint() -> None:
    """A person who sees only str(error) sees what to do."""
    error = HeadwaterError("the port is taken", hint="choose another")
    assert str(error) == "the port is taken\n  hint: choose another"
    assert error.hint == "choose another"
    assert str(HeadwaterError("alone")) == "alone"


def test_the_tree_is_drawn() -> None:
    """Every error class stands in the picture at the top of the module, and no other name does."""
    picture = (errors.__doc__ or "").split("\n\n")[1]
    drawn = {line.split("+-- ")[-1].split()[0] for line in picture.splitlines() if line.strip(" |")}
    ours = {kind.__name__ for kind in _tree(HeadwaterError) if kind.__module__ == errors.__name__}
    assert drawn == ours


def test_only_what_needs_a_person_stops_a_supervisor() -> None:
    """Exit code 78 belongs to the errors that starting again cannot mend, and to no other."""
    for kind in _tree(HeadwaterError):
        assert (kind.exit_code == 78) == issubclass(kind, NeedsPerson), kind


def test_unreadable_carries_its_reason() -> None:
    """Dead letters are counted by the reason of the error."""
    error = Unreadable("no JSON", reason="json")
    assert (error.reason, str(error)) == ("json", "no JSON")


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.EADDRINUSE, PortInUse, "another port"),
        (errno.EACCES, SettingsError, "from 1024 on"),
        (errno.EADDRNOTAVAIL, SettingsError, "check the host"),
    ],
)
def test_an_address_that_cannot_be_had(number: int, kind: type[NeedsPerson], hint: str) -> None:
    """Each reason not to get an address has a hint of its own, and all name the address."""
    error = errors.cannot_listen("127.0.0.1", 1883, OSError(number, "no"))
    assert type(error) is kind
    assert "127.0.0.1:1883" in error.message
    assert hint in error.hint


def test_a_missing_extra_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to type stands in the hint, as it is typed."""
    monkeypatch.setitem(sys.modules, "river", None)
    with pytest.raises(errors.PartMissing) as missing:
        extras.load("river", "river")
    assert missing.value.hint == "pip install 'headwater[river]'"


def test_an_installed_extra_is_given() -> None:
    """A library that is there comes back as itself."""
    assert extras.load("json.decoder", "edge") is sys.modules["json.decoder"]


def test_a_broken_extra_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is installed and lacks something itself says so with its own error."""
    (tmp_path / "halfthere.py").write_text("import notthere_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="notthere_at_all"):
        extras.load("halfthere", "edge")

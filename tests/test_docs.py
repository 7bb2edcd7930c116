"""The documentation names all that a person can set or call; what is new is found here by itself."""

from __future__ import annotations

import importlib
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from headwater_shared.errors import PartMissing
from headwater_shared.settings import Section
from tests.support import ROOT
from tests.test_house import PACKAGES

SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@cache
def _documentation() -> str:
    """All that a person reads before looking into code."""
    pages = [ROOT / "README.md", *ROOT.glob("*/README.md"), *sorted((ROOT / "docs").rglob("*.md"))]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def _modules() -> Iterator[Any]:
    """Every module of the five packages that can be imported with the extras that are installed."""
    for package, folder in PACKAGES.items():
        for found in pkgutil.walk_packages([str(ROOT / folder / package)], f"{package}."):
            if found.name.endswith("__main__"):
                continue
            try:
                yield importlib.import_module(found.name)
            except PartMissing:
                continue


@cache
def _tables() -> list[type[msgspec.Struct]]:
    """Every struct that a person fills in."""
    found = {
        kind
        for module in _modules()
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Section) and kind.__struct_fields__
    }
    return sorted(found, key=lambda kind: (kind.__module__, kind.__name__))


def _plain(kind: inspect.Type) -> list[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        return _plain(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [member for one in kind.types for member in _plain(one)]
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return _plain(kind.item_type)
    if isinstance(kind, inspect.DictType):
        return _plain(kind.value_type)
    return [kind]


def _fields(kind: type[msgspec.Struct]) -> list[inspect.Field]:
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    return list(described.fields)


def test_the_tables_are_found() -> None:
    """The search finds the tables that there are; without this the other tests could pass on nothing."""
    assert "Common" in {kind.__name__ for kind in _tables()}


def test_every_table_of_settings_is_frozen() -> None:
    """Settings do not change under a process that has read them."""
    assert [kind.__qualname__ for kind in _tables() if not kind.__struct_config__.frozen] == []


def test_every_table_in_a_table_is_strict() -> None:
    """No table, at any depth, takes an unknown key."""
    loose = [
        f"{kind.__name__}.{field.name}"
        for kind in _tables()
        for field in _fields(kind)
        for inner in _plain(field.type)
        if isinstance(inner, inspect.StructType) and not inner.forbid_unknown_fields
    ]
    assert loose == []


def test_every_key_says_what_it_is() -> None:
    """The default file is the documentation, so each key that is no table has a description, which is its comment there."""
    silent = [
        f"{kind.__module__}.{kind.__name__}.{field.name}"
        for kind in _tables()
        for field in _fields(kind)
        if not any(isinstance(inner, inspect.StructType) for inner in _plain(field.type))
        and not (
            isinstance(field.type, inspect.Metadata)
            and (field.type.extra_json_schema or {}).get("description")
        )
    ]
    assert silent == []


def test_every_settings_key_is_documented() -> None:
    """Each key stands in the README or in docs/, as `key`, as `table.key` or as `key = ...` in an example."""
    text = _documentation()
    missing = [
        f"{kind.__module__}.{kind.__name__}.{field.encode_name}"
        for kind in _tables()
        for field in _fields(kind)
        if not re.search(
            rf"`(?:[\w.]+\.)?{field.encode_name}`|^\s*(?:# )?{field.encode_name} = |\[\[?[\w.]*\b{field.encode_name}\b",
            text,
            re.MULTILINE,
        )
    ]
    assert missing == []


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command below a click command, by the words that one types."""
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
    else:
        for word, inner in below.items():
            if not inner.hidden:
                yield from _commands(inner, f"{name} {word}")


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_every_command_is_documented(script: str) -> None:
    """Each command is named in the README or in docs/ as it is typed, and each says what it does and what its options mean."""
    package = SCRIPTS[script].split(".")[0]
    if not (ROOT / PACKAGES[package] / package / "cli.py").exists():
        pytest.skip(f"{package} has no commands yet")
    module = importlib.import_module(f"{package}.cli")
    assert callable(module.main)
    text = _documentation()
    assert re.search(rf"\b{script}\b", text)
    import typer

    for app in [value for value in vars(module).values() if isinstance(value, typer.Typer)]:
        for words, command in _commands(typer.main.get_command(app), script):
            assert re.search(rf"\b{re.escape(words)}\b", text), f"`{words}` stands in no page"
            assert command.help, f"`{words}` does not say what it does"
            silent = [option.name for option in command.params if not getattr(option, "help", "-")]
            assert silent == [], f"options of `{words}` do not say what they mean"
            said = [command.help, *(getattr(option, "help", None) or "" for option in command.params)]
            assert [line for line in said if re.search(r"\[/?[a-z@#]", line)] == [], (
                "--help takes brackets for colours"
            )


def test_every_page_leads_somewhere() -> None:
    """Each link from a page to a file of this tree has a file at its end."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *(ROOT / "docs").rglob("*.md")]
    dead = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert dead == []


def test_the_reference_of_the_settings_is_the_default_file() -> None:
    """docs/settings.md shows what `headwater init` writes, to the letter."""
    from headwater_appliance.init import default_file

    shown = (ROOT / "docs" / "settings.md").read_text().partition("```toml\n")[2].partition("```")[0]
    assert shown == default_file().rstrip() + "\n"


def test_every_test_that_a_page_names_exists() -> None:
    """`docs/guarantees.md` and the others say what shows a promise: a file of tests, or a test's name."""
    tests = {
        path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "tests").rglob("test_*.py")
    }
    names = set(re.findall(r"def (test_\w+)\(", "\n".join(tests.values())))
    files = {path.rpartition("/")[2] for path in tests}
    missing = [
        f"{page.name}: {name}"
        for page in (ROOT / "docs").glob("*.md")
        for name in re.findall(r"`((?:tests/[\w/]+/)?test_\w+(?:\.py)?)`", page.read_text())
        if name not in names and name not in tests and name not in files
    ]
    assert missing == []

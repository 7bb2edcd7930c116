"""All that is wrong with the rules of a file, and what may be: for `headwater rules check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from headwater_edge.rule_files import mistakes
from headwater_edge.rule_settings import KINDS
from headwater_shared.rule_files import Checked, Mistake, parsed
from headwater_shared.series_patterns import Patterns
from headwater_shared.settings import KNOWN


def is_settings(data: dict[str, Any]) -> bool:
    """Tell a settings file from a file of rules."""
    return any(name in data for name in KNOWN)


def check(path: Path, known: Sequence[str]) -> Checked:
    """Look through a file of rules, or the rules of a settings file and of the file that it names.

    Args:
        known: series that there are; none: it is not known which there are.

    Raises:
        SettingsError: the file is not there or no TOML.
    """
    text, data = parsed(path)
    checked, names = Checked(), set[str]()
    if not is_settings(data):
        _look(path, text, data, "", names, known, checked)
        return checked
    edge = data.get("edge", {})
    if isinstance(edge, dict):
        _look(path, text, edge, "edge", names, known, checked)
        if isinstance(edge.get("rules"), str) and edge["rules"]:
            other = path.parent / edge["rules"]
            text, data = parsed(other)
            _look(other, text, data, "", names, known, checked)
    return checked


def _look(
    path: Path, text: str, data: dict[str, Any], section: str, names: set[str], known: Sequence[str],
    checked: Checked,
) -> None:  # fmt: skip
    from headwater_shared.settings_faults import line_of

    checked.mistakes += mistakes(path, text, data, section, names)
    for kind, table in KINDS.items():
        rules = data.get(kind, [])
        for number, rule in enumerate(rules if isinstance(rules, list) else []):
            try:
                made = msgspec.convert(rule, table, strict=True)
            except msgspec.ValidationError:
                continue
            name, pattern = made.name, made.series  # type: ignore[attr-defined]
            checked.rules.append(name)
            if known and not any(Patterns([pattern]).of(one) for one in known):
                place = (*((section,) if section else ()), kind, number, "series")
                checked.warnings.append(
                    Mistake(
                        str(path), line_of(text, place),
                        f"{kind} {name!r}: none of the {len(known)} series known so far matches {pattern!r}",
                        "look how they are called with: headwater query '*' --last 1",
                    )
                )  # fmt: skip

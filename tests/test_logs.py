"""docs/logs.md lists every event that the code logs: its name, its level, and what it means; a name that changes is seen here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support import ROOT

_PARTS = {
    "All parts": "shared/headwater_shared",
    "The agent": "edge/headwater_edge",
    "The cloud side": "cloud/headwater_cloud",
    "The box": "deploy/appliance/headwater_appliance",
    "The simulator": "firmware-sim/headwater_firmware_sim",
}
_LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
_ROW = re.compile(r"^\| `([^`]+)` \| (\w+) \| (.*) \|$", re.MULTILINE)


class Said(NamedTuple):
    """One event of one part."""

    part: str
    event: str
    level: str


def _texts(node: ast.expr) -> list[str]:
    """The texts that an event may be; one that is put together at run time is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return _texts(node.body) + _texts(node.orelse)
    return []


def _said(path: Path, part: str) -> Iterator[Said]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
            continue
        owner, level = ast.unparse(node.func.value), node.func.attr
        if owner.endswith("_complaints") and level == "say":
            level = "warning"  # headwater_edge.listener_counts, which says the same only now and then
        elif owner != "log" or level not in _LEVELS:
            continue
        texts = _texts(node.args[0])
        if path.name != "listener_counts.py":
            assert texts, f"{path}: {ast.unparse(node)[:80]}: an event is a text that stands there"
        for text in texts:
            yield Said(part, text, "error" if level == "exception" else level)


def test_every_event_stands_in_the_page_once() -> None:
    """With its level, in the section of its part, and with what it means; the page has no others."""
    page = (ROOT / "docs" / "logs.md").read_text()
    listed = []
    for section in page.split("\n## ")[1:]:
        part = section.partition("\n")[0]
        rows = _ROW.findall(section) if part in _PARTS else []
        listed += [Said(part, event, level) for event, level, _ in rows]
        assert all(meaning.strip() for _, _, meaning in rows)
    there = {
        one
        for part, folder in _PARTS.items()
        for path in sorted((ROOT / folder).rglob("*.py"))
        for one in _said(path, part)
    }
    assert sorted(listed) == sorted(there)


def test_an_event_is_no_place_for_what_varies() -> None:
    """No module writes a log by other means than a fixed text and fields: no f-strings, and no logger but ours."""
    for folder in _PARTS.values():
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            assert not re.search(r"\blog\.(?:debug|info|warning|error)\(\s*f[\"']", text), path
            if path.name not in {"logs.py", "tracing.py"}:
                assert not re.search(r"^\s*(?:log|logger) = logging\.getLogger", text, re.MULTILINE), path

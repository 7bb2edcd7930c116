"""The table in deploy/README.md names, of every file that a program of others reads, the test that had it read."""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatchcase
from pathlib import Path

from tests.support import ROOT

_FOLDERS = ("grafana", "prometheus", "alertmanager", "compose")
_NOT_READ = ("*.py", "*/__pycache__/*", "deploy/compose/secrets/*")
"""Code of ours has its own tests; passwords are made by secrets.sh."""
_ROW = re.compile(r"^\| (`[^|]+`) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def _rows() -> dict[str, list[str]]:
    """Return the checks of each path of the table."""
    text = (ROOT / "deploy" / "README.md").read_text()
    _, _, after = text.partition("## Which check read it\n")
    table = after.partition("\n## ")[0]
    assert table
    found: dict[str, list[str]] = {}
    for paths, _, checks in _ROW.findall(table):
        for path in re.findall(r"`([^`]+)`", paths):
            assert path not in found, f"{path} is there twice"
            found[path] = re.findall(r"`(tests/[^`]+)`", checks)
    return found


def _files() -> list[str]:
    every = [path for name in _FOLDERS for path in (ROOT / "deploy" / name).rglob("*") if path.is_file()]
    names = [str(path.relative_to(ROOT)) for path in every]
    return [
        "docker-compose.yml",
        *(name for name in names if not any(fnmatchcase(name, one) for one in _NOT_READ)),
    ]


def test_every_file_stands_in_the_table() -> None:
    """Dashboards, provisioning, rules, routes, compose files: each is in a row, and each row is of a file that there is."""
    rows, files = _rows(), _files()
    assert [file for file in files if not any(fnmatchcase(file, row) for row in rows)] == []
    assert [row for row in rows if not any(fnmatchcase(file, row) for file in files)] == []


def test_every_check_is_one_that_there_is() -> None:
    """Each row names at least one test, by file and function, that exists."""
    for row, checks in _rows().items():
        assert checks, f"{row} names no check"
        for check in checks:
            path, _, name = check.partition("::")
            tree = ast.parse(Path(ROOT / path).read_text())
            functions = {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
            assert name in functions, f"{row}: {check}"

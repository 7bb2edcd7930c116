"""docs/commands.md, tried as a new user would: its settings, its lines pasted, and what it says becomes of the commands."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT, program, until
from tests.system.box import CLOUD, EDGE, box
from tests.system.box import command as command_line

PAGE = (ROOT / "docs" / "commands.md").read_text()
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _blocks(kind: str) -> list[str]:
    return [text for found, text in _BLOCK.findall(PAGE) if found == kind]


def test_a_device_by_hand_is_commanded_and_answers(tmp_path: Path) -> None:
    """Each block in turn, as pasted: the command comes to mosquitto_sub, the answers end it and its undo, all sides show it."""
    for name in ("mosquitto_pub", "mosquitto_sub"):
        if program(name) is None:
            pytest.skip(f"{name} is not installed")
    limit = re.compile(r"\[\[edge\.limit\]\].*?(?=\[cloud\])", re.DOTALL)
    with box(tmp_path / "box") as here:
        here.settings.write_text(limit.sub("\n".join(_blocks("toml")) + "\n", here.settings.read_text()))
        here.up()
        hot, answer, undo = _blocks("sh")
        for text in (hot, answer, undo):
            subprocess.run(
                ["sh", "-ec", text.replace("-h 127.0.0.1", f"-h 127.0.0.1 -p {here.port}")],
                check=True, timeout=30, capture_output=True, cwd=tmp_path,
            )  # fmt: skip
        command = json.loads((tmp_path / "command.json").read_text())
        assert (command["name"], command["arguments"]) == ("shut", {"why": "90.0 degrees"})
        assert 290 < command["ttl_s"] <= 300
        assert json.loads((tmp_path / "undo.json").read_text())["undoes"] == command["id"]
        until(lambda: here.status()["commands"]["refused"] == 1, what="both answers are taken")
        shown = here.run("headwater-edge", "commands").splitlines()
        here.closed()
        wanted = [
            (line.split()[0], line.split()[1], line.rsplit(" " * 2, 1)[-1])
            for line in _blocks("text")[0].splitlines()
        ]
        for told in (shown, here.run("headwater", "commands").splitlines()):
            assert [tuple(line.split()[:2]) for line in told[1:3]] == [one[:2] for one in wanted[1:]]
            assert "the valve is stuck" in told[1]
        words = [line.removeprefix("$ ") for line in _blocks("console")[0].splitlines() if line[0] == "$"]
        for line, wanted_lines in zip(map(shlex.split, words), (1, 3), strict=True):
            at = line.index("--settings")
            shown = here.run(line[0], *line[1:at]).splitlines()
            assert len(shown) >= wanted_lines
            assert shown[0].startswith(("ordered: shut for home/stove, through agent box", "status"))
        until(lambda: here.status()["commands"]["open"] == 1, what="the agent has read it")
        said = json.loads(here.run("headwater-edge", "commands", "--json"))
        assert [one["command"] for one in said["open"]] == ["shut"]
        assert [one["status"] for one in said["ended"]] == ["refused", "done"]
        here.end(EDGE)
        here.end(CLOUD)
        desk = subprocess.run(
            [command_line("headwater-edge"), "commands", str(here.data / "edge.db"), "--json"],
            check=True, timeout=30, capture_output=True,
        )  # fmt: skip
        assert json.loads(desk.stdout)["ended"] == said["ended"]

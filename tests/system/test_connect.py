"""docs/connect.md, tried as a new user would: its settings in one file, its lines pasted, and what it says each becomes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from headwater_appliance.ports import steady_port
from tests.brokers import mosquitto_server
from tests.support import ROOT, program, until
from tests.system import result
from tests.system.box import CLOUD, EDGE, box
from tests.system.pumps import connected

PAGE = (ROOT / "docs" / "connect.md").read_text()
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BECOMES = re.compile(r"^# (\S+/\S+/\S+) = (\S+)$", re.MULTILINE)


def _blocks(kind: str) -> list[str]:
    return [text for found, text in _BLOCK.findall(PAGE) if found == kind]


def test_what_is_pasted_becomes_what_the_page_says(tmp_path: Path) -> None:
    """Every shell and Python block, against an agent with every settings block; each value is the last of its window."""
    for name in ("mosquitto_pub", "curl"):
        if program(name) is None:
            pytest.skip(f"{name} is not installed")
    http = steady_port()
    with mosquitto_server(tmp_path / "mosquitto", "max_queued_messages 0") as broker:
        settings = (
            "\n".join(_blocks("toml"))
            .replace('host = "192.168.1.10"', f'host = "127.0.0.1"\nport = {broker.port}')
            .replace("port = 8080", f"port = {http}")
        )
        with box(tmp_path / "box", edge=settings) as here:
            here.up()
            connected(here)

            def local(text: str) -> str:
                text = text.replace("-h 192.168.1.10", f"-h 127.0.0.1 -p {broker.port}")
                text = text.replace("-h 127.0.0.1 -q", f"-h 127.0.0.1 -p {here.port} -q")
                return text.replace("port=1883", f"port={here.port}").replace(":8080", f":{http}")

            env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
            for text in _blocks("sh"):
                subprocess.run(["sh", "-ec", local(text)], check=True, timeout=30, capture_output=True)
            for text in _blocks("python"):
                subprocess.run([sys.executable, "-c", local(text)], check=True, timeout=30, env=env)
            wanted = {
                name: float(value)
                for kind in ("sh", "python")
                for text in _blocks(kind)
                for name, value in _BECOMES.findall(text)
            }
            assert len(wanted) > 12
            until(lambda: here.status().get("accepted", 0) >= len(wanted), 20, "all are taken")
            here.closed()
            assert here.status()["dead_letters"] == 0
            here.end(EDGE)
            here.end(CLOUD)
        windows = result.read(here.data / "cloud.db").windows
        found = {name: window.last for (name, level, _), window in windows.items() if level == "10s"}
        assert {name: found.get(name) for name in wanted} == wanted

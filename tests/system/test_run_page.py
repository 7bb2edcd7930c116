"""docs/run.md, tried as a new user would: every block as pasted, in its order, in one folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headwater_appliance.ports import steady_port
from headwater_shared.reload import read_running
from tests.support import ROOT, program, until

PAGE = (ROOT / "docs" / "run.md").read_text()
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_each_block_as_pasted(tmp_path: Path) -> None:
    """A device's readings are in the history, the rule is taken up while it runs and fires, the command comes and is done, the backup and the unit are there,
    and the last block ends the box. Only the port is another, by the environment; the first block has been done by whoever
    runs this test.
    """
    if program("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not installed")
    install, start, *blocks, end = _BLOCK.findall(PAGE)
    assert "make .venv" in install
    port, plant = steady_port(), tmp_path / "plant"
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HEADWATER_EDGE__LISTENER__PORT": str(port),
        "HEADWATER_EDGE__HEALTH_PORT": "0",
        "HEADWATER_CLOUD__HEALTH_PORT": "0",
    }

    def paste(text: str, cwd: Path) -> str:
        text = text.replace("-h 127.0.0.1", f"-h 127.0.0.1 -p {port}")
        done = subprocess.run(
            ["bash", "-ec", text], cwd=cwd, env=environment, text=True, timeout=120, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    with (tmp_path / "up.log").open("wb") as log:  # of its own: what it starts outlives the shell
        subprocess.run(["bash", "-ec", start], cwd=tmp_path, env=environment, stdout=log, stderr=log, check=True)  # fmt: skip
    data = plant / "headwater-data"
    up = until(lambda: read_running(data, "up"), 30, "it has started")
    assert up is not None
    try:
        until(lambda: (tmp_path / "up.log").read_bytes().count(b"ready") == 2, 30, "it says ready twice")
        device, rule, hot, act, command, left = (paste(block, plant) for block in blocks)
        assert "home/stove/temperature" in device
        assert re.search(r"\b22\b", device)
        assert "the settings are right" in rule
        assert "edge.limit[0]" in rule
        assert re.search(r"^edge: edge\.limit\[0\]$", rule, re.MULTILINE)
        assert "too-hot" in hot
        assert "it is hotter than 80 degrees" in hot
        assert re.search(r"^edge: edge\.act\[0\]$", act, re.MULTILINE)
        assert '"name":"shut"' in command
        assert re.search(r"^done +shut +home/stove +cool-down", command, re.MULTILINE)
        (alert, *_) = map(json.loads, (data / "notifications.jsonl").read_text().splitlines())
        assert alert["rule"] == "too-hot"
        assert "wrote plant.tar" in left
        assert "Type=notify" in (plant / "headwater.service").read_text()
        paste(end, plant)
        until(lambda: read_running(data, "up") is None, 30, "it has ended")
    finally:
        if read_running(data, "up") is not None:
            os.kill(up.pid, signal.SIGTERM)
            until(lambda: read_running(data, "up") is None, 30)

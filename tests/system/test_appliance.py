"""The appliance: one installs it and leaves it alone. Its service, its log, its settings, as a technician meets them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

from headwater_shared.reload import read_running
from tests.support import lacking, until
from tests.system.box import CLOUD, EDGE, Box, command
from tests.system.test_up import place_of, up

_UP = '[up]\nlog_file = "headwater.log"\nlog_size = "2KB"\nlog_files = 50\n'


def test_a_box_that_is_left_alone(tmp_path: Path) -> None:
    """`headwater up` tells the service manager that it is ready and lives; SIGHUP reaches agent and cloud side; `config diff` says
    before what will change, and after what still needs a start; all logs are whole lines of files of the size that was set.
    """
    box = Box(tmp_path)
    first = box.settings.read_text()
    box.settings.write_text(first + _UP)
    notify = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(notify)
        with up(box, {"NOTIFY_SOCKET": notify, "WATCHDOG_USEC": "1500000"}) as running:
            heard: list[bytes] = []
            threading.Thread(
                target=lambda: heard.extend(iter(lambda: manager.recv(200), b"")), daemon=True
            ).start()
            until(lambda: any(b"READY=1" in one for one in heard), 30, "it says that it is ready")
            until(lambda: heard[-1] == b"WATCHDOG=1", what="it says that it lives")
            assert "nothing differs" in box.run("headwater", "config", "diff")
            changed = first.replace("above = 80.0", "above = 90.0").replace('name = "box"', 'name = "bax"')
            box.settings.write_text(changed + '[cloud.keep]\n"10s" = "1d"\n' + _UP.replace("2KB", "3KB"))
            said = box.run("headwater", "config", "diff", expected=1)
            live, _, start = said.partition("needs a start:")
            assert "edge.limit[0].above: 80.0 -> 90.0" in live
            assert 'cloud.keep.10s: "7d" -> "1d"' in live
            assert 'edge.name: "box" -> "bax"' in start
            assert 'up.log_size: "2KB" -> "3KB"' in start
            running.send_signal(signal.SIGHUP)
            for part in (EDGE, CLOUD):
                until(lambda part=part: _reload(box, part).get("ok"), 20, f"{part} has read its settings")  # type: ignore[misc]
            again = json.loads(box.run("headwater", "config", "reload", "--json"))
            assert [again[part]["needs_restart"] for part in (EDGE, CLOUD)] == [["edge.name"], []]
            left = json.loads(box.run("headwater", "config", "diff", "--json", expected=1))
            assert {one["key"] for one in left} == {"edge.name", "up.log_size"}
            box.settings.write_text(changed.replace('name = "bax"', "nonsense = 1"))
            running.send_signal(signal.SIGHUP)
            until(lambda: _reload(box, EDGE).get("ok") is False, 20, "the mistake is told")
            assert "unknown" in box.status()["reload"]["error"]
            assert "hint" in box.run("headwater", "config", "check", expected=78)
            running.send_signal(signal.SIGTERM)
            assert running.wait(20) == 0
        until(lambda: any(b"STOPPING=1" in one for one in heard), what="it said that it ends")
    files = sorted(box.data.glob("headwater.log*"))
    assert len(files) > 1
    lines = [json.loads(line) for one in files for line in one.read_text().splitlines()]
    assert {line["part"] for line in lines} == {"up", "edge", "cloud"}
    assert sum(line["event"] == "ended" for line in lines) == 2
    assert all(one.stat().st_size <= 2_500 for one in files)
    assert box.log("up").read_text() == ""


def _reload(box: Box, part: str) -> dict[str, object]:
    found = read_running(box.data, part)
    return found.reload if found is not None else {}


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """The agent hangs and heeds no SIGTERM; the second signal does not wait for it. Exit code 130, and nobody is left."""
    box = Box(tmp_path)
    with up(box) as running:
        pid = place_of(box, EDGE)["pid"]
        os.kill(pid, signal.SIGSTOP)
        running.send_signal(signal.SIGINT)
        cloud = place_of(box, CLOUD)["pid"]
        until(lambda: not Path(f"/proc/{cloud}").exists(), 20, "the first signal ends what heeds it")
        running.send_signal(signal.SIGINT)
        assert running.wait(10) == 130
        assert not Path(f"/proc/{pid}").exists()


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say about it, also with a blank in the path."""
    folder = tmp_path / "a home"
    folder.mkdir()
    settings = folder / "headwater.toml"
    settings.write_text("[edge.listener]\nport = 883\n")
    done = subprocess.run(
        [command("headwater"), "systemd", "--settings", str(settings), "--user", "root"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    for line in ("Type=notify", "WatchdogSec=60", "RestartPreventExitStatus=78", "NoNewPrivileges=yes",
                 "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"):  # fmt: skip
        assert line in done.stdout.splitlines()
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        lacking("systemd", "systemd-analyze is not installed: apt-get install systemd")
    unit = tmp_path / "headwater.service"
    unit.write_text(done.stdout)
    verified = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    ours = [line for line in verified.stderr.splitlines() if "headwater" in line]
    assert ours == []
    assert verified.returncode == 0, verified.stderr


def test_the_shell_can_complete() -> None:
    """`--show-completion` writes what a shell needs to complete `headwater`."""
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [command("headwater"), "--show-completion", "bash"],
        capture_output=True, text=True, check=True, env=environment, timeout=60,
    )  # fmt: skip
    assert "_HEADWATER_COMPLETE" in done.stdout

"""docs/operate.md, tried as a new user would: each block of "One machine" as pasted, in its order, with Debian's servers."""

from __future__ import annotations

import http.client
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import msgspec
import pytest

from headwater_appliance import demo_stack_settings as settings_of
from headwater_appliance.demo_stack_hook import Hook, Told
from headwater_appliance.demo_stack_query import get, influxql, promql
from headwater_appliance.ports import steady_port
from headwater_appliance.stack_servers import find
from headwater_shared.errors import TryAgain
from headwater_shared.reload import read_running
from tests.support import ROOT, part_required, program, until

PAGE = (ROOT / "docs" / "operate.md").read_text()
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DEFINED = re.compile(r"^\w+\(\) \{ .* \}$", re.MULTILINE)
_FAKES = {
    "sudo": 'exec "$@"',
    "apt-get": "exit 0",
    "systemctl": 'echo "$@" >>"$SYSTEMCTL"',
}
"""What a test may not do to the machine that it runs on."""
_AS_GRAFANA = 'cd ~/plant; curl --silent http://127.0.0.1:8086/query --user "grafana:$(cat grafana.password)" --data-urlencode'


class Machine:
    """The user's machine: a home, an /etc, and services that are started when the page says so."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self.folder, self._running = folder, running
        self.ports = {name: steady_port() for name in ("8086", "9090", "9093", "9641", "9642", "9662")}
        self.mqtt = steady_port()
        self.etc = folder / "etc"
        for name in ("default", "prometheus"):
            (self.etc / name).mkdir(parents=True)
        tools = folder / "bin"
        tools.mkdir()
        for name, text in _FAKES.items():
            (tools / name).write_text(f"#!/bin/sh\n{text}\n")
            (tools / name).chmod(0o755)
        self.routes = ""
        """What Alertmanager gets in the place of the file that was copied."""
        self._asked = folder / "systemctl"
        self._asked.touch()
        self._umask = folder / "umask"
        self._umask.write_text("0022\n")
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "HEADWATER": str(ROOT),
            "SYSTEMCTL": str(self._asked),
            "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
            "HEADWATER_EDGE__LISTENER__PORT": str(self.mqtt),
            "HEADWATER_EDGE__HEALTH_PORT": self.port("9641"),
            "HEADWATER_CLOUD__HEALTH_PORT": self.port("9642"),
            "HEADWATER_CLOUD__INFLUX__HEALTH_PORT": self.port("9662"),
        }
        self._defined = self.here("\n".join(_DEFINED.findall(PAGE)))
        self._pasted = 0

    def port(self, usual: str) -> str:
        return str(self.ports[usual])

    def url(self, usual: str) -> str:
        return f"http://127.0.0.1:{self.port(usual)}"

    def here(self, text: str) -> str:
        """Put this machine's ports and folders in."""
        text = re.sub(r"127\.0\.0\.1:(\d{4})", lambda found: f"127.0.0.1:{self.ports.get(found[1], found[1])}", text)  # fmt: skip
        text = text.replace("-h 127.0.0.1", f"-h 127.0.0.1 -p {self.mqtt}")
        return re.sub(r"(?<![\w/])/etc/", f"{self.etc}/", text)

    def paste(self, block: str) -> str:
        """Paste a block; start again what it says is to be. As in one terminal, a umask is that of the next block, too."""
        self._pasted += 1
        log = self.folder / f"pasted-{self._pasted}.log"
        with log.open("wb") as out:
            done = subprocess.run(
                ["bash", "-ec", f"umask {self._umask.read_text()}{'' if '() {' in block else self._defined}\n{block}\numask > {self._umask}"],
                cwd=self.folder, env=self._environment, stdout=out, stderr=out, timeout=120, check=False,
            )  # fmt: skip
        said = log.read_text()
        assert done.returncode == 0, f"{block}\n{said}"
        words = self._asked.read_text().splitlines()
        self._asked.write_text("")
        for line in words:
            assert line.startswith("restart "), line
            self._start(line.removeprefix("restart "))
        return said

    def _start(self, service: str) -> None:
        environment = dict(self._environment)
        command: list[str]
        if service == "influxdb":
            lines = (self.etc / "default" / "influxdb").read_text().splitlines()
            environment |= dict(line.split("=", 1) for line in lines)
            environment["INFLUXDB_BIND_ADDRESS"] = f"127.0.0.1:{steady_port()}"
            conf = self.folder / "influxdb.conf"
            conf.write_text(Path("/etc/influxdb/influxdb.conf").read_text().replace("/var/lib/influxdb", f"{self.folder}/influxdb"))  # fmt: skip
            command, usual, ready = [find("influxd", "influxdb"), "-config", str(conf)], "8086", "/ping"
        elif service == "prometheus":
            for name in ("targets/headwater.yml", "alertmanagers/alertmanager.yml"):
                file = self.etc / "prometheus" / name
                file.write_text(self.here(file.read_text()))
            command = [
                find(service, service),
                *self._arguments(service),
                f"--config.file={self.etc}/prometheus/prometheus.yml",
                f"--storage.tsdb.path={self.folder}/prometheus",
            ]
            usual, ready = "9090", "/-/ready"
        else:
            assert service == "prometheus-alertmanager"
            (self.etc / "alertmanager" / "alertmanager.yml").write_text(self.routes)
            command = [
                find(service, service),
                *self._arguments(service),
                f"--storage.path={self.folder}/alertmanager",
            ]
            usual, ready = "9093", "/-/ready"
        with (self.folder / f"{service}.log").open("ab") as out:
            process = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=out, stderr=out)
        self._running.callback(_end, process)
        until(lambda: self._answers(usual, ready), 30, f"{service} answers")

    def _arguments(self, service: str) -> list[str]:
        """Return what Debian's unit gives the service."""
        given = (self.etc / "default" / service).read_text().strip()
        return shlex.split(shlex.split(given.removeprefix("ARGS="))[0])

    def _answers(self, usual: str, path: str) -> bool:
        with suppress(OSError, http.client.HTTPException):
            asked = http.client.HTTPConnection("127.0.0.1", int(self.port(usual)), timeout=2)
            try:
                asked.request("GET", path)
                return asked.getresponse().status < 300
            finally:
                asked.close()
        return False


def _readable(folder: Path) -> bool:
    """Whether another user, such as Debian's `prometheus`, can read all of it; secrets are put there for that user."""
    return all(
        path.stat().st_mode & (0o005 if path.is_dir() else 0o004) == (0o005 if path.is_dir() else 0o004)
        for path in (folder, *folder.rglob("*"))
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)


def _blocks() -> list[str]:
    section = PAGE.partition("\n## One machine\n")[2].partition("\n## With docker compose\n")[0]
    return _BLOCK.findall(section)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    for part in ("mosquitto", "influxdb", "prometheus", "alertmanager"):
        part_required(part)
    if program("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not installed")
    with ExitStack() as running:
        made = Machine(tmp_path, running)
        running.callback(_end_box, tmp_path / "plant" / "headwater-data")
        yield made


def _end_box(data: Path) -> None:
    up = read_running(data, "up")
    if up is not None:
        os.kill(up.pid, signal.SIGTERM)
        until(lambda: read_running(data, "up") is None, 30, "the box has ended")


@pytest.mark.fault
def test_each_block_as_pasted(machine: Machine) -> None:
    """The servers are set up, what is to be checked is right, a test and a stove that is too hot reach Alertmanager, which calls each receiver that the
    file names; the alert is over when it is; Prometheus scrapes all, and only the dead man's switch fires; Grafana's user may read, and no more.
    """
    make, apt, *blocks = _blocks()
    assert "make .venv" in make
    machine.paste(apt)
    with Hook() as hook:
        _paste_all(machine, hook, blocks)


def _paste_all(machine: Machine, hook: Hook, blocks: list[str]) -> None:
    listens, users, box, prometheus, alertmanager, hot, cool, grants = map(machine.here, blocks)
    for block in (listens, users):
        machine.paste(block)
    with pytest.raises(TryAgain, match="401"):
        influxql(machine.url("8086"), "SHOW DATABASES")  # nobody said who asks
    assert "the settings are right" in machine.paste(box)
    data = machine.folder / "plant" / "headwater-data"
    until(lambda: read_running(data, "up"), 60, "it says ready three times")
    assert (machine.folder / "plant" / "sink.password").stat().st_mode & 0o077 == 0
    assert "SUCCESS" in machine.paste(prometheus)
    assert _readable(machine.etc / "prometheus")
    # Whom it calls is the user's to change: here all of them are a webhook of the test.
    machine.routes = settings_of.alertmanager(hook.url)
    assert "SUCCESS" in machine.paste(alertmanager)
    assert _readable(machine.etc / "alertmanager")
    said = machine.paste(hot)
    assert re.search(r"firing .*home/stove/temperature", said)
    told: list[Told] = []

    def heard(name: str, status: str) -> bool:
        told.extend(hook.news())
        return any((one.name, one.status) == (name, status) for one in told)

    for name in ("headwater-test", "too-hot"):
        until(partial(heard, name, "firing"), 60, f"{name} is told")
    receivers = {one.receiver for one in told if one.name == "headwater-test"}
    assert receivers == {"everybody"}
    assert {"pager", "tickets"} <= {one.receiver for one in told if one.name == "too-hot"}
    machine.paste(cool)
    until(partial(heard, "too-hot", "resolved"), 60, "it is told that it is over")
    # What Prometheus found before it knew its Alertmanager it sends again after a minute.
    until(partial(heard, "Watchdog", "firing"), 150, "the dead man's switch is heard")
    url = machine.url("9090")
    until(
        lambda: sum(value for _, value in promql(url, 'up{job="headwater"}')) == 3,
        60,
        "Prometheus scrapes all three",
    )
    firing = 'ALERTS{alertstate="firing"}'
    until(lambda: {labels["alertname"] for labels, _ in promql(url, firing)} == {"Watchdog"}, 60, "it alone fires")  # fmt: skip
    assert msgspec.json.decode(get(url, "/api/v1/rules"))["data"]["groups"]
    until(lambda: "headwater_found" in machine.paste(machine.here('cd ~/plant; ask "SHOW DATABASES" as-sink')), 60, "the sink writes")  # fmt: skip
    said = machine.paste(grants)
    for name in ("found", "10s", "1m", "10m", "1h"):
        assert f'["headwater_{name}","READ"]' in said, "Grafana offers what its user may read"
    reads = f'{_AS_GRAFANA} \'q=SELECT "state" FROM "headwater_found".."alerts"\''
    assert "resolved" in machine.paste(machine.here(reads))
    assert "not authorized" in machine.paste(machine.here(f"{_AS_GRAFANA} 'q=DROP DATABASE headwater_found'"))

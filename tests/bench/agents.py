"""Agents and other servers as processes under measurement: CPU, memory and bytes written, read from /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tests.support import until

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """A process that is measured."""

    pid: int
    port: int
    folder: Path

    def cpu_s(self) -> float:
        """Return the CPU time it and its threads took so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S

    def rss_mb(self) -> float:
        return _status(self.pid, "VmRSS:") / 1024

    def written_bytes(self) -> int:
        """Return the bytes that it caused to be written to disk."""
        lines = Path(f"/proc/{self.pid}/io").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


def _status(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1])


@contextmanager
def agent(
    folder: Path,
    settings: str = "",
    bus: str = "log.db",
    listener: str = "port = 0",
    module: Sequence[str] = ("headwater_edge",),
) -> Iterator[Process]:
    """Run a real agent, full sync, on free ports; ended by pid. Its port is that for TLS if there is no plain one."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "headwater.toml"
    file.write_text(
        f'[common]\ndata = "{folder}/data"\n[edge]\nname = "bench"\nbus = "{bus}"\nhealth_port = 0\n{settings}\n'
        f"[edge.listener]\n{listener}\n"
    )
    command = [sys.executable, "-m", *module, str(file)]
    with (
        (folder / "agent.log").open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=out) as process,
    ):
        try:
            place = ready(folder, process)
            yield Process(process.pid, place["mqtt"] or place["mqtts"], folder / "data")
        finally:
            process.terminate()
            process.wait(20)


def ready(folder: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Wait until an agent says where it listens."""
    place = folder / "data" / "edge.json"

    def there() -> dict[str, Any] | None:
        assert process.poll() is None, (folder / "agent.log").read_text()
        if not place.exists():
            return None
        found: dict[str, Any] = msgspec.json.decode(place.read_bytes())
        return found if found["pid"] == process.pid else None

    found = until(there, 20, "the agent is ready")
    assert found is not None
    return found


@contextmanager
def python_process(folder: Path, module: str, *arguments: str) -> Iterator[Process]:
    """Run a module of the benches that prints its port in its first line."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield Process(process.pid, int(process.stdout.readline()), folder)
        finally:
            process.terminate()
            process.wait(20)


def cpu_over(processes: list[Process]) -> float:
    """Return the CPU time of all of them together."""
    return sum(process.cpu_s() for process in processes)


def elapsed(began: float) -> float:
    return time.monotonic() - began

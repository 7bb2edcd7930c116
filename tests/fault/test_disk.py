"""Disks that fill, fail and turn read-only under a real agent with a real fleet: nothing lost, nothing twice, and it goes on by itself."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from headwater_appliance.supervise import Part, Supervisor
from tests.edge.mqtt import PINGREQ
from tests.fault import recorded
from tests.fault.small_disks import NO_FLOOR, Filler, ext4, free_bytes, tmpfs
from tests.support import ROOT, part_required, until
from tests.system import kills
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.load import SCENARIO, Load, load
from tests.system.wire import Wire

SLOW = ROOT / "tests" / "fault" / "slow.toml"
"""A fleet whose windows outweigh its journal."""
SHORT_HORIZON = '[edge.windows]\nhorizon = "20s"\n'


def lines(here: Box, part: str = EDGE) -> list[dict[str, Any]]:
    """What a part has logged."""
    return [json.loads(line) for line in here.log(part).read_text().splitlines()]


def said(here: Box, event: str) -> list[dict[str, Any]]:
    return [line for line in lines(here) if event in line["event"]]


def health(here: Box) -> list[str]:
    """What `/health` of the agent complains of."""
    port = json.loads((here.data / "edge.json").read_bytes())["health"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            body = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        body = json.loads(error.read())
    reasons: list[str] = body.get("reasons", [])
    return reasons


def metric(here: Box, name: str) -> float:
    port = json.loads((here.data / "edge.json").read_bytes())["health"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def outside(here: Box) -> Path:
    """Let the bus and the cloud side's file lie on another disk than the agent's."""
    other = here.folder / "elsewhere"
    other.mkdir()
    for name in ("log.db", "cloud.db"):
        (here.data / name).symlink_to(other / name)
    return other


def anomalies(here: Box) -> set[str]:
    """The ids of all anomalies that the cloud side has."""
    connection = sqlite3.connect(f"file:{here.data / 'cloud.db'}?mode=ro", uri=True)
    try:
        return {found for (found,) in connection.execute("SELECT id FROM anomaly")}
    finally:
        connection.close()


def until_holding(here: Box, why: str, deadline: float = 60.0) -> dict[str, Any]:
    def there() -> dict[str, Any]:
        status = here.status()
        return status if why in status.get("holding_back", "") else {}

    return until(there, deadline, f"the agent holds back: {why}")


def until_stands(fleet: Load) -> None:
    """Wait until every device waits for acknowledgements: nothing more is written to the ledger."""
    before = [-1, 0]

    def stands() -> bool:
        written = fleet.written()
        before[0], before[1] = written, before[1] + 1 if written == before[0] else 0
        return before[1] > 100

    until(stands, 30, "all devices wait")


def ended(here: Box, fleet: Load) -> dict[str, Any]:
    """See a run to its end: all acknowledged, all windows closed, the audit without a fault; return the fleet's last word."""
    done = fleet.finished(700)
    here.closed()
    return done


def audited(here: Box, fleet: Load, fault: str) -> dict[str, Any]:
    """Audit a run that is over, and take down what was done to it; return the evidence."""
    for part in list(here.running):
        here.end(part)
    found = recorded.audited(kills.audit_of(here, fleet.ledger))
    recorded.record(os.environ["PYTEST_CURRENT_TEST"].split("::")[1].split(" ")[0], fault, 1, found)
    assert found.good, found
    assert found.counted + found.dead >= found.acknowledged > 0
    text = here.run("headwater", "audit", str(fleet.ledger), "--json")
    evidence: dict[str, Any] = json.loads(text[: text.rindex("}") + 1])
    return evidence


def test_r11_r18_a_disk_that_others_fill_to_the_last_byte(tmp_path: Path) -> None:
    """Others fill the disk under load, and take what the ballast leaves, too: the agent holds back, says so in health, log and
    metric, loses no connection, tries the same commit again, and goes on once the others let go; every PUBACK comes.
    """
    with tmpfs(tmp_path / "box" / "data", 48), box(tmp_path / "box", edge=NO_FLOOR) as here:
        here.up()
        until(lambda: here.status().get("ballast_bytes"), what="the ballast")
        filler = Filler(here.data)
        with load(here, 60, "--no-misbehave") as fleet:
            fleet.goes_on(5_000)
            filler.fill()
            until_holding(here, "the disk is full")
            assert not (here.data / "edge.db.ballast").exists()
            filler.fill()
            until_stands(fleet)
            assert fleet.unacknowledged() > 0
            assert any("the disk is full; free space" in reason for reason in health(here))
            assert metric(here, "headwater_edge_holding_back") == 1
            assert free_bytes(here.data) == 0
            filler.free()
            done = ended(here, fleet)
        assert (done["connections"], done["drops"], done["resent"]) == (200, 0, 0)
        until(lambda: here.status().get("ballast_bytes"), what="the ballast is there again")
        assert health(here) == []
        assert metric(here, "headwater_edge_ballasts_given_up_total") == 1
        assert said(here, "going on")
        audited(here, fleet, "full disk")


def test_r17_a_disk_that_the_agent_itself_has_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cloud side away the outbox fills the whole disk. When it is back, rows go, although not a byte was free for their
    going: the ballast was given up for that. The file shrinks, the ballast is taken back, devices are taken in again.
    """
    monkeypatch.setattr("tests.system.load.SCENARIO", SLOW)
    with tmpfs(tmp_path / "box" / "data", 26), box(tmp_path / "box", edge=NO_FLOOR + SHORT_HORIZON) as here:
        outside(here)
        here.start(EDGE)
        here.ready(EDGE)
        with load(here, 6_500) as fleet:
            full = until_holding(here, "the disk is full")
            assert full["ballasts_given_up"] == 1
            assert fleet.sending()
            here.start(CLOUD)
            here.ready(CLOUD)
            done = ended(here, fleet)
        assert done["drops"] == 0
        until(lambda: here.status().get("ballast_bytes"), 20, "the ballast is there again")
        until(lambda: _small(here.status()), 40, "the file is small again")
        assert not here.status()["holding_back"]
        audited(here, fleet, "full disk")


def _small(status: dict[str, Any]) -> dict[str, Any]:
    """The status, if the agent's file holds little but two snapshots, the journal since, and less than two more would let go."""
    small = status.get("file_bytes", 2**62) < 5 * status.get("snapshot_bytes", 0) + 4_000_000
    return status if small else {}


@contextmanager
def locked(log: Path) -> Iterator[Callable[[], None]]:
    """Keep everybody out of the bus, as a bus that is away does; the call lets them in."""
    connection = sqlite3.connect(log, isolation_level=None, timeout=10)
    connection.execute("BEGIN EXCLUSIVE")

    def let_in() -> None:
        connection.execute("COMMIT")

    try:
        yield let_in
    finally:
        connection.close()


def test_r22_a_quota_that_is_reached_while_the_cloud_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the bus is away, and fine windows are coalesced; then the bus takes rows and the cloud side does not, so that none
    may go, and the agent holds back; then it drains: the audit finds no reading lost, and the file is small again.
    """
    monkeypatch.setattr("tests.system.load.SCENARIO", SLOW)
    edge = '[edge.disk]\nquota = "24MB"\n' + SHORT_HORIZON
    with box(tmp_path / "box", edge=edge) as here:
        here.start(EDGE)
        here.ready(EDGE)
        with locked(here.data / "log.db") as let_in:
            until(lambda: here.status().get("forward") == "offline", 20, "the bus is away")
            with load(here, 5_000) as fleet:
                pressed = until(
                    lambda: (s := here.status()).get("coalesced", 0) > 10_000 and s,
                    60,
                    "the outbox is coalesced",
                )
                assert pressed["making_room"]
                assert any("coalesced" in reason for reason in health(here))
                assert metric(here, "headwater_edge_parts_coalesced_total") > 10_000
                let_in()
                until_holding(here, "quota")
                assert any("holding back: the quota" in reason for reason in health(here))
                here.start(CLOUD)
                here.ready(CLOUD)
                done = ended(here, fleet)
        assert done["drops"] == 0
        assert said(here, "nearly reached")[0]["hint"]
        until(
            lambda: (after := _small(here.status())) and after["disk_taken"] <= after["disk_quota"],
            40,
            "the file is small again, and within the quota",
        )
        assert audited(here, fleet, "disk quota")["coarsened"] > 1_000


@pytest.mark.fault
def test_r18_the_floor_is_left_to_others(tmp_path: Path) -> None:
    """With less free than the floor the agent holds back while there is still space, and keeps its ballast; it goes on after."""
    edge = '[edge.disk]\nfree = "20MB"\n'
    with tmpfs(tmp_path / "box" / "data", 64), box(tmp_path / "box", edge=edge) as here:
        here.up()
        until(lambda: here.status().get("ballast_bytes"), what="the ballast")
        others = here.data / "others"
        with load(here, 60, "--no-misbehave") as fleet:
            fleet.goes_on(5_000)
            others.write_bytes(bytes(free_bytes(here.data) - 19_000_000))
            until_holding(here, "free on the disk")
            assert (here.data / "edge.db.ballast").exists()
            until_stands(fleet)
            assert free_bytes(here.data) > 10_000_000
            others.unlink()
            done = ended(here, fleet)
        assert (done["connections"], done["drops"]) == (200, 0)
        audited(here, fleet, "free-space floor")


# A disk that fails.

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <stdio.h>
/* Fails calls on the agent's file while a file named by FAILS is there; its first letter says which: w(rite) or s(ync). */
static int fails(int fd, char kind) {
    char link[64], path[512]; const char *order = getenv("FAILS");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0 || !order) return 0;
    path[n] = 0;
    if (!strstr(path, "edge.db")) return 0;
    char wanted[512]; snprintf(wanted, sizeof wanted, "%s.%c", order, kind);
    return access(wanted, F_OK) == 0;
}
#define FAILING(kind, name, args, call) \
    int name args { static int (*real) args; if (!real) real = dlsym(RTLD_NEXT, #name); \
                    if (fails(fd, kind)) { errno = EIO; return -1; } return real call; }
FAILING('s', fsync, (int fd), (fd))
FAILING('s', fdatasync, (int fd), (fd))
#define WRITING(name, off) \
    ssize_t name(int fd, const void *b, size_t n, off o) { \
        static ssize_t (*real)(int, const void *, size_t, off); if (!real) real = dlsym(RTLD_NEXT, #name); \
        if (fails(fd, 'w')) { errno = EIO; return -1; } return real(fd, b, n, o); }
WRITING(pwrite, off_t)
WRITING(pwrite64, off64_t)
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that lets writes or syncs of the agent's file fail with EIO, to be loaded before libc."""
    part_required("cc")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "fails.c").write_text(_SHIM)
    out = folder / "fails.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", out, folder / "fails.c", "-ldl"], check=True)
    return out


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("w", id="EIO on a write", marks=pytest.mark.fault),
        pytest.param("s", id="a failing fsync"),
    ],
)
def test_r11_any_other_error_of_the_disk_ends_the_process(tmp_path: Path, shim: Path, kind: str) -> None:
    """Nobody knows what an EIO left behind: the agent ends with one clear line and starts again from the file; audit 0/0."""
    order = tmp_path / "order"
    env = {"LD_PRELOAD": str(shim), "FAILS": str(order)}
    with box(tmp_path / "box") as here:
        here.start(CLOUD)
        here.ready(CLOUD)
        here.start(EDGE, env=env)
        here.ready(EDGE)
        with load(here, 90) as fleet:
            fleet.goes_on(5_000)
            order.with_suffix(f".{kind}").touch()
            process = here.running.pop(EDGE)
            assert process.wait(20) == 75
            words = here.log(EDGE).read_text().splitlines()[-2:]
            assert "nobody knows how far it came: disk I/O error" in words[0]
            assert words[1].startswith("  hint: ")
            assert "Traceback" not in here.log(EDGE).read_text()
            order.with_suffix(f".{kind}").unlink()
            log = here.log(EDGE)
            log.rename(log.with_suffix(".before"))
            here.start(EDGE, env=env)
            here.ready(EDGE)
            ended(here, fleet)
        audited(here, fleet, "failing disk")


def test_a_disk_that_turns_read_only_is_said_once_and_mended_by_a_person(tmp_path: Path) -> None:
    """A file system that the kernel made read-only after an error: the agent ends, a supervisor starts it once more, it says one
    clear line and asks for a person (78), which no supervisor repeats; on the mended disk it goes on, audit 0/0.
    """
    folder = tmp_path / "box"
    with ext4(tmp_path / "image", folder / "data", 64) as disk, box(folder, edge=NO_FLOOR) as here:
        outside(here)
        here.up()
        with load(here, 90) as fleet:
            fleet.goes_on(5_000)
            disk.abort()
            process = here.running.pop(EDGE)
            assert process.wait(20) == 75
            with (tmp_path / "supervised.log").open("wb") as out:
                agent = Part(EDGE, [sys.executable, "-m", "headwater_edge", str(here.settings)])
                supervisor = Supervisor([agent], {"PYTHONPATH": str(ROOT)}, out)
                assert asyncio.run(supervisor.run()) == 78
            assert supervisor.restarts == 0
            told = (tmp_path / "supervised.log").read_text()
            assert "Read-only file system" in told
            assert told.count("\n") == 2, told  # the line, and its hint
            here.kill(CLOUD)
            disk.mend()
            for part in (EDGE, CLOUD):  # where they listened, which was not worth a sync
                (here.data / f"{part}.json").unlink(missing_ok=True)
            here.up()
            ended(here, fleet)
        audited(here, fleet, "read-only disk")


# An hour of it.


def _resident(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) * 1024


class _Pings:
    """A client that pings once a second, as long as somebody asks for the time."""

    def __init__(self, here: Box) -> None:
        self._wire = Wire(here.port, "pinging")
        self._wire.sock.setblocking(False)
        self._begun = self._last = time.monotonic()
        self.sent = self.answered = 0

    def close(self) -> None:
        self._wire.close()

    def seconds(self) -> float:
        """Return how long it has pinged."""
        now = time.monotonic()
        if now >= self._last + 1:
            self._last = now
            self._wire.send(PINGREQ)
            self.sent += 1
        with suppress(BlockingIOError):
            self.answered += len(self._wire.sock.recv(65_536)) // 2
        return now - self._begun


def _held(tmp_path: Path, seconds: float, devices: int = 500) -> None:
    """Hold back for so long with so many devices connected: pings answered, nobody reconnects, memory flat, every PUBACK comes,
    limits are told provisionally.
    """
    scenario = tmp_path / "held.toml"
    text = SCENARIO.read_text().replace("devices = 200", f"devices = {devices}")
    scenario.write_text(
        text.replace('"250ms"', '"2s"').replace("base = 76.0", "base = 79.5").replace(", bare = 1", "")
    )
    with pytest.MonkeyPatch.context() as patch, tmpfs(tmp_path / "box" / "data", 64):
        patch.setattr("tests.system.load.SCENARIO", scenario)
        with box(tmp_path / "box", edge=NO_FLOOR) as here:
            outside(here)  # what comes at once after an hour would fill so small a disk by itself
            here.up()
            until(lambda: here.status().get("ballast_bytes"), what="the ballast")
            filler = Filler(here.data)
            options = ("--no-misbehave", "--paced", "--origin", "now", "--in-flight", "20", "--drain", "600")
            with load(here, seconds + 6, *options) as fleet:
                fleet.goes_on(2 * devices, 60)
                pings = _Pings(here)
                filler.fill()
                until_holding(here, "the disk is full")
                filler.fill()
                until(lambda: pings.seconds() > seconds / 3, seconds, "a third of the time")
                third = _resident(here.running[EDGE].pid)
                until(lambda: pings.seconds() > seconds, seconds, "the time")
                grown = _resident(here.running[EDGE].pid) - third
                assert here.status()["holding_back"]
                assert pings.sent > 0.8 * seconds
                assert pings.answered >= pings.sent - 2
                pings.close()
                assert grown < 16_000_000, f"grown by {grown:,} bytes"
                assert here.status()["provisional"] > 0
                assert said(here, "provisional: a limit is broken")
                filler.free()
                done = ended(here, fleet)
            assert (done["connections"], done["drops"], done["unacknowledged"]) == (devices, 0, 0)
            audited(here, fleet, "full disk")
            provisional = {line["id"] for line in said(here, "provisional: a limit is broken")}
            assert provisional <= anomalies(here), (
                "the anomaly has another id than was said while it had to wait"
            )


def test_r18_held_back_with_500_devices(tmp_path: Path) -> None:
    """Ten seconds of a full disk cost no connection, no ping, no memory and no reading."""
    _held(tmp_path, 10)


@pytest.mark.fault
def test_r18_an_hour_of_holding_back(tmp_path: Path) -> None:
    """The same for an hour, or the seconds that HEADWATER_HOLD_SECONDS says."""
    _held(tmp_path, float(os.environ.get("HEADWATER_HOLD_SECONDS", "3600")))

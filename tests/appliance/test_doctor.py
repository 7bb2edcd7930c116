"""`headwater doctor`: each check is seen to fail for a real cause, and its remedy to work."""

from __future__ import annotations

import resource
import socket
import sqlite3
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from headwater_appliance import certs, doctor
from headwater_appliance.box import box_of
from headwater_edge import words
from headwater_edge.store import open_store, write_store
from tests.appliance.patient import Patient, lying, port, with_mount
from tests.cloud.line_store import line_store
from tests.cloud.receivers import webhook
from tests.fault.small_disks import Ext4
from tests.support import mosquitto_broker, until
from tests.system.box import CLOUD, EDGE, SINK

Case = Callable[[Patient], Generator[str, str, None]]
"""Makes the cause, yields what the check must say, and applies the remedy, given the finding's, when it goes on."""


def settings(patient: Patient) -> Generator[str, str, None]:
    patient.set("[edge.listener]\nport", "[edge.listener]\nprot")
    remedy = yield "prot"
    assert "port" in remedy
    patient.set("prot", "port")


def data_folder(patient: Patient) -> Generator[str, str, None]:
    disk = Ext4(patient.folder / "image", patient.folder / "disk", 10)
    disk.mount()
    patient.open.callback(disk.unmount)
    patient.set(str(patient.data), str(disk.folder / "data"))
    patient.say(f"mount -o remount,ro {disk.folder}")
    remedy = yield "Read-only file system"
    assert "mount it writable" in remedy
    patient.say(f"mount -o remount,rw {disk.folder}")


def data_in_memory(patient: Patient) -> Generator[str, str, None]:
    memory = f"/dev/shm/{patient.folder.name}"  # noqa: S108 - it is the question
    patient.set(str(patient.data), memory)  # it is not made
    remedy = yield "a reboot loses all"
    assert "common.data" in remedy
    patient.set(memory, str(patient.data))


def free_space(patient: Patient) -> Generator[str, str, None]:
    disk = Ext4(patient.folder / "image", patient.folder / "disk", 300)
    disk.mount()
    patient.open.callback(disk.unmount)
    patient.set(str(patient.data), str(disk.folder / "data"))
    patient.say(f"fallocate -l 150MB {disk.folder}/other")
    remedy = yield "less than edge.disk.free"
    assert "free space" in remedy
    (disk.folder / "other").unlink()


def disk_speed(patient: Patient) -> Generator[str, str, None]:
    patient.env |= lying(patient.folder, LYING_FSYNC_MS="210")
    remedy = yield "devices wait that long"
    assert "faster disk" in remedy
    patient.env |= {"LYING_FSYNC_MS": "1"}


def memory(patient: Patient) -> Generator[str, str, None]:
    found = Path("/proc/meminfo").read_text()
    fake = patient.folder / "meminfo"
    fake.write_text(
        "\n".join(
            "MemAvailable: 60000 kB" if line.startswith("MemAvailable") else line
            for line in found.splitlines()
        )
    )
    patient.prefix = [*with_mount(fake, "/proc/meminfo")]
    remedy = yield "61.4 MB of"
    assert "end other programs" in remedy
    patient.prefix = []


def clock(patient: Patient) -> Generator[str, str, None]:
    patient.set('log = "json"', 'log = "json"\nclock = "ntp"')
    patient.env |= lying(patient.folder, LYING_CLOCK="1")
    remedy = yield "the clock is not set"
    assert "time server" in remedy
    del patient.env["LYING_CLOCK"]


def file_limit(patient: Patient) -> Generator[str, str, None]:
    patient.before = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (1000, 1000))
    remedy = yield "1,000 connections and files are allowed"
    assert "smaller max_connections" in remedy
    patient.set("[edge.listener]", "[edge.listener]\nmax_connections = 500")


def ports(patient: Patient) -> Generator[str, str, None]:
    other = patient.open.enter_context(socket.create_server(("127.0.0.1", patient.box.port)))
    remedy = yield "is taken by process"
    assert "end that program" in remedy
    other.close()


def permissions(patient: Patient) -> Generator[str, str, None]:
    patient.data.mkdir()
    users = patient.data / "users.json"
    users.write_text("{}")
    users.chmod(0o644)
    patient.say((yield "other users of this machine may read"))


def certificate(patient: Patient) -> Generator[str, str, None]:
    now, folder = datetime.now(UTC), patient.folder / "certs"
    certs.make_authority(folder, "Plant", 3650, now)
    made = certs.make_server(folder, ["localhost"], 5, now)
    patient.set(
        "[[edge.limit]]",
        f'[edge.listener.tls]\ncertificate = "{made.certificate}"\nkey = "{made.key}"\n[[edge.limit]]',
    )
    remedy = yield "ends in"
    assert "headwater certs server" in remedy
    certs.make_authority(patient.folder / "new", "Plant", 3650, now)
    new = certs.make_server(patient.folder / "new", ["localhost"], 400, now)
    new.certificate.replace(made.certificate)
    new.key.replace(made.key)


def sqlite(patient: Patient) -> Generator[str, str, None]:
    patient.data.mkdir()
    connection, lock = open_store(patient.data / "edge.db")
    connection.close()
    lock.release()
    stranger = patient.open.enter_context(closing(sqlite3.connect(patient.data / "edge.db")))
    stranger.execute("CREATE TABLE mine(x)")
    remedy = yield "is open for writing in process"
    assert "end that program" in remedy
    stranger.close()


def files(patient: Patient) -> Generator[str, str, None]:
    _damage(patient)
    remedy = yield "edge.db is damaged"
    assert "start the agent again" in remedy
    patient.box.start(EDGE)
    patient.box.ready(EDGE)


def set_aside(patient: Patient) -> Generator[str, str, None]:
    _damage(patient)
    patient.box.start(EDGE)
    patient.box.ready(EDGE)
    remedy = yield "edge.db.damaged-1"
    patient.say(remedy.partition("remove it: ")[2])


def agent(patient: Patient) -> Generator[str, str, None]:
    remedy = yield "the agent does not run"
    assert "headwater up" in remedy
    patient.box.start(EDGE)
    patient.box.ready(EDGE)


def agent_stands_still(patient: Patient) -> Generator[str, str, None]:
    patient.box.start(EDGE)
    patient.box.ready(EDGE)
    patient.box.freeze(EDGE)
    remedy = yield "runs and does not answer"
    assert f"kill {patient.box.running[EDGE].pid}" in remedy
    patient.box.kill(EDGE)
    patient.box.start(EDGE)  # as 'headwater up' does
    patient.box.ready(EDGE)


def cloud_side(patient: Patient) -> Generator[str, str, None]:
    remedy = yield "the cloud side does not run"
    assert "headwater up" in remedy
    patient.box.start(CLOUD)
    patient.box.ready(CLOUD)
    until(lambda: patient.examine("cloud-side").verdict == "good", what="it has made its first step")


def forwarding(patient: Patient) -> Generator[str, str, None]:
    clock = {
        "HEADWATER_CLOCK": f"scaled:600@{datetime.now(UTC).isoformat()}"
    }  # a minute is a tenth of a second
    patient.open.enter_context(pytest.MonkeyPatch.context()).setenv(
        "HEADWATER_CLOCK", clock["HEADWATER_CLOCK"]
    )
    patient.box.start(EDGE, env=clock)
    patient.box.ready(EDGE)
    patient.send("hw/north/stove/data/temperature", b"21.5")
    words.say(patient.data / "edge.sock", "flush")
    until(lambda: patient.examine("forwarding").verdict == "wrong", what="what waits is old")
    remedy = yield "wait in the agent's file, the oldest for"
    assert "see that the cloud side runs" in remedy
    patient.box.start(CLOUD, env=clock)
    patient.box.ready(CLOUD)
    until(lambda: patient.box.status()["outbox"] == 0, what="the cloud side has everything")


def dead_letters(patient: Patient) -> Generator[str, str, None]:
    patient.box.start(EDGE)
    patient.box.ready(EDGE)
    patient.send("hw/north/stove/data/temperature", b"21,5 degrees")
    remedy = yield "1 message of the last 10 minutes could not be taken in: 1 unreadable"
    assert "headwater-edge dead-letters list" in remedy
    assert "21,5 degrees" in patient.box.run("headwater-edge", "dead-letters", "list")
    patient.box.run("headwater-edge", "dead-letters", "purge", "--reason", "*")


def notifications(patient: Patient) -> Generator[str, str, None]:
    nobody = port()
    route = f'[[cloud.notify]]\nname = "duty"\nto = "webhook"\nurl = "http://127.0.0.1:{nobody}/"\nretry = "1s"\nretry_most = "1s"\n'
    patient.settings.write_text(patient.settings.read_text() + route)
    patient.box.up()
    patient.send("hw/home/stove/data/temperature", b"95")
    until(lambda: patient.examine("notify").verdict == "wrong", 20, "it fails")
    remedy = yield "notifications do not go out by duty (127.0.0.1: Connection refused)"
    assert "headwater notify test" in remedy
    hook = patient.open.enter_context(webhook(nobody))
    until(lambda: len(hook.got) == 1, 20, "it arrives")
    until(lambda: patient.examine("notify").verdict == "good", 20, "and is noted")


def sink(patient: Patient) -> Generator[str, str, None]:
    nobody = port()
    store = f'[cloud.influx]\nurl = "http://127.0.0.1:{nobody}"\nhealth_port = 0\ntimeout = "1s"\n'
    patient.settings.write_text(patient.settings.read_text() + store)
    patient.box.up()
    patient.box.start(SINK)
    patient.send("hw/home/stove/data/temperature", b"95")
    until(lambda: "did not take" in patient.examine("sink").text, 20, "it fails")
    remedy = yield "the store did not take points into headwater_"
    assert "[cloud.influx] url" in remedy
    store_there = patient.open.enter_context(line_store(nobody))
    until(lambda: bool(store_there.points), 20, "points arrive")
    until(lambda: patient.examine("sink").verdict == "good", 20, "and it says so")


def broker(patient: Patient) -> Generator[str, str, None]:
    nobody = port()
    patient.set(
        "[[edge.limit]]",
        f'[[edge.broker]]\nname = "plant"\nhost = "127.0.0.1"\nport = {nobody}\n[[edge.limit]]',
    )
    remedy = yield "cannot be reached: Connection refused"
    assert f"nc -vz 127.0.0.1 {nobody}" in remedy
    running = patient.open.enter_context(mosquitto_broker(patient.folder))
    patient.set(str(nobody), str(running.port))


CASES: dict[str, tuple[str, Case]] = {
    "settings": ("settings", settings),
    "data-folder": ("data-folder", data_folder),
    "data-in-memory": ("data-folder", data_in_memory),
    "free-space": ("free-space", free_space),
    "disk-speed": ("disk-speed", disk_speed),
    "memory": ("memory", memory),
    "clock": ("clock", clock),
    "file-limit": ("file-limit", file_limit),
    "ports": ("ports", ports),
    "permissions": ("permissions", permissions),
    "certificate": ("certificate", certificate),
    "sqlite": ("sqlite", sqlite),
    "files": ("files", files),
    "set-aside": ("set-aside", set_aside),
    "agent": ("agent", agent),
    "agent-stands-still": ("agent", agent_stands_still),
    "cloud-side": ("cloud-side", cloud_side),
    "notify": ("notify", notifications),
    "sink": ("sink", sink),
    "forwarding": ("forwarding", forwarding),
    "dead-letters": ("dead-letters", dead_letters),
    "broker": ("broker", broker),
}


def _damage(patient: Patient) -> None:
    """Make an agent's file with some rows, and write over the middle of it."""
    patient.data.mkdir()
    file = patient.data / "edge.db"
    connection = write_store(file)
    connection.executemany(
        "INSERT INTO journal VALUES (?, ?)", [(tick, b"x" * 900) for tick in range(1, 200)]
    )
    connection.close()
    with file.open("r+b") as out:
        out.seek(file.stat().st_size // 2 // 1024 * 1024)
        out.write(b"\xa5" * 20_480)


@pytest.mark.parametrize("case", CASES)
def test_each_check_is_seen_to_fail_and_its_remedy_to_work(case: str, tmp_path: Path) -> None:
    """For a real cause the check says what is wrong with a remedy, and the command exits with 1; the remedy applied, it passes."""
    check, make = CASES[case]
    with ExitStack() as open_things:
        patient = Patient(tmp_path, open_things)
        running = make(patient)
        said = next(running)
        found = patient.examine(check)
        assert (found.check, found.verdict) == (check, "wrong"), found
        assert said in found.text
        assert found.remedy
        with pytest.raises(StopIteration):
            running.send(found.remedy)
        healed = patient.examine(check)
        assert healed.verdict in {"good", "note"}, healed


def test_no_check_is_without_a_case() -> None:
    """Whoever adds a check to the doctor shows here how it fails and how it is mended."""
    assert {check for check, _ in CASES.values()} == set(doctor.names())


def test_a_box_that_runs_well_is_well(tmp_path: Path) -> None:
    """All checks of a running box in which nothing is wrong pass, and the exit code is 0."""
    with ExitStack() as open_things:
        patient = Patient(tmp_path, open_things)
        patient.box.up()
        until(lambda: patient.examine("cloud-side").verdict == "good", what="it has made its first step")
        said = patient.box.run("headwater", "doctor")
        assert "WRONG" not in said
        assert [name for name in doctor.names() if name not in said] == []


def test_the_doctor_changes_nothing(tmp_path: Path) -> None:
    """After it has looked, the folder of a box that does not run holds what it held."""
    with ExitStack() as open_things:
        patient = Patient(tmp_path, open_things)
        patient.box.up()
        patient.box.end(EDGE)
        patient.box.end(CLOUD)
        before = {path.name: path.stat().st_mtime_ns for path in patient.data.iterdir()}
        found = list(doctor.examine(patient.settings))
        after = {path.name: path.stat().st_mtime_ns for path in patient.data.iterdir()}
        assert {name for name in after if not name.endswith(("-shm", "-wal"))} == {
            name for name in before if not name.endswith(("-shm", "-wal"))
        }
        assert {name: at for name, at in after.items() if name in before and name.endswith(".db")} == {
            name: at for name, at in before.items() if name.endswith(".db")
        }
        assert {one.check for one in found if one.verdict == "wrong"} == {"agent", "cloud-side"}
        assert box_of(patient.settings).data == patient.data


def test_a_check_that_is_none_names_those_that_are(tmp_path: Path) -> None:
    """A misspelt check is refused with the list."""
    with ExitStack() as open_things:
        patient = Patient(tmp_path, open_things)
        said = patient.box.run("headwater", "doctor", "--check", "prots", expected=1)
        assert "there is no check prots" in said
        assert "ports" in said

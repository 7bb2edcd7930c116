"""The supervisor: restarts within a budget, silence that ends a process, one signal cleanly and two at once. Real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import msgspec
import pytest

from headwater_appliance import supervise
from headwater_appliance.answers import Answers
from headwater_appliance.log_file import LogFile
from headwater_appliance.service import Service
from headwater_appliance.supervise import AT_ONCE, GAVE_UP, Budget, Part, Supervisor
from tests.support import until_async

HEALTH = """
import http.server, json, os, sys, pathlib
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503); self.end_headers()
        self.wfile.write(json.dumps({{"reasons": ["ill"], "last_turn_s": {turn}}}).encode())
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
place = pathlib.Path(sys.argv[1])
place.with_suffix(".new").write_text(json.dumps({{"health": server.server_port, "pid": os.getpid()}}))
place.with_suffix(".new").replace(place)
server.serve_forever()
"""
IGNORES = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on', flush=True)\nwhile True: signal.pause()"
SLEEPS = "import signal\nprint('on', flush=True)\nsignal.pause()"


def _part(script: str, *arguments: str, answers: Answers | None = None) -> Part:
    return Part("one", [sys.executable, "-S", "-c", script, *arguments], answers)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_FIRST_S", 0.001)
    monkeypatch.setattr(supervise, "_LONGEST_S", 0.01)


def test_a_part_that_exits_too_often_ends_all_with_its_own_exit_code() -> None:
    """Three restarts are its budget: the fourth exit ends the other part too, and is code 70."""

    async def scenario() -> None:
        supervisor = Supervisor([_part("raise SystemExit(3)"), _part(SLEEPS)], budget=Budget(3, 60))
        assert await asyncio.wait_for(supervisor.run(), 20) == GAVE_UP
        assert supervisor.restarts == 3
        assert not supervisor.pids

    asyncio.run(scenario())


@pytest.mark.parametrize("code", [3, 78])
def test_a_part_that_the_others_do_without_ends_none_of_them(code: int) -> None:
    """The sink cannot start, or exits again and again: agent and cloud side run on."""

    async def scenario() -> None:
        parts = [
            _part(SLEEPS),
            _part(f"raise SystemExit({code})")._replace(name="two", beside=True),
        ]
        supervisor = Supervisor(parts, budget=Budget(0, 60.0))
        running = asyncio.ensure_future(supervisor.run())
        await until_async(lambda: supervisor.pids.keys() == {"one"}, what="one runs, and two does not")
        await until_async(lambda: supervisor.restarts > 1 or code == 78, what="it is tried again")
        assert not supervisor.stopping
        supervisor.stop()
        assert await asyncio.wait_for(running, 20) == 0

    asyncio.run(scenario())


def test_exits_far_apart_use_no_budget_up() -> None:
    """Only those within the time count."""

    async def scenario() -> None:
        supervisor = Supervisor([_part("raise SystemExit(3)")], budget=Budget(1, 0.0001))
        running = asyncio.ensure_future(supervisor.run())
        await until_async(lambda: supervisor.restarts > 4, what="restarts")
        supervisor.stop()
        assert await asyncio.wait_for(running, 20) == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["stopped", "stands still"])
def test_a_part_that_runs_and_does_not_answer_is_ended_and_started_again(tmp_path: Path, how: str) -> None:
    """A process that is stopped answers nothing; one whose loop stands still says so. That it is ill is an answer."""
    place, mark = tmp_path / "one.json", tmp_path / "one.jsonx"

    async def scenario() -> None:
        script = HEALTH.format(turn=0.1 if how == "stopped" else 99)
        answers = Answers(place, "127.0.0.1", 0.6)
        if how == "stands still":  # it has answered well once
            place.write_text("{}")
            script = HEALTH.format(turn="0.1 if not os.path.exists(sys.argv[1] + 'x') else 99.0")
        supervisor = Supervisor([_part(script, str(place), answers=answers)])
        running = asyncio.ensure_future(supervisor.run())
        await until_async(lambda: supervisor.ready == {"one"}, what="it answers")
        before = supervisor.pids["one"]
        if how == "stopped":
            os.kill(before, signal.SIGSTOP)
        else:
            mark.touch()
        await until_async(lambda: supervisor.pids.get("one", before) != before, what="another process")
        mark.unlink(missing_ok=True)
        await until_async(lambda: supervisor.ready == {"one"}, what="that answers")
        again = supervisor.pids["one"]
        await until_async(lambda: msgspec.json.decode(place.read_bytes())["pid"] == again, what="its own")
        supervisor.stop()
        await asyncio.wait_for(running, 20)
        assert supervisor.restarts == 1

    asyncio.run(scenario())


def test_the_second_signal_ends_at_once(tmp_path: Path) -> None:
    """A part that does not heed SIGTERM has its time after the first; the second kills it, and the exit code says so."""

    async def scenario() -> None:
        log = LogFile(tmp_path / "a.log", 10_000, 2)
        supervisor = Supervisor([_part(IGNORES)], log_file=log)
        running = asyncio.ensure_future(supervisor.run())
        await until_async(lambda: b"on\n" in (tmp_path / "a.log").read_bytes(), what="it heeds nothing")
        supervisor.stop()
        await until_async(lambda: supervisor.pids, what="the first signal leaves it its time")
        supervisor.stop()
        assert await asyncio.wait_for(running, 5) == AT_ONCE
        log.close()

    asyncio.run(scenario())


def test_what_parts_write_is_in_the_log_file_to_the_last_word(tmp_path: Path) -> None:
    """Two parts write many lines while the file is rotated again and again, and die in the middle of one: all of it is there."""
    path = tmp_path / "a.log"
    log = LogFile(path, 2_000, 1000)
    script = (
        "import sys\nfor n in range(2000): print(sys.argv[1], n)\n"
        "print('end of', sys.argv[1], end='', flush=True)\nraise SystemExit(78)"
    )

    async def scenario() -> None:
        both = [Supervisor([_part(script, word)], log_file=log).run() for word in ("a", "b")]
        await asyncio.wait_for(asyncio.gather(*both), 20)

    asyncio.run(scenario())
    log.close()
    files = sorted(tmp_path.glob("a.log.*"), key=lambda one: -int(one.suffix[1:]))
    lines = b"".join(one.read_bytes() for one in [*files, path]).decode().splitlines()
    for word in ("a", "b"):
        assert [line for line in lines if line.startswith(f"{word} ")] == [f"{word} {n}" for n in range(2000)]
        assert f"end of {word}" in lines
    assert len(files) > 10


def test_sighup_is_passed_on_and_ends_no_part_that_does_not_know_it_yet(tmp_path: Path) -> None:
    """A part that has not come so far ignores it."""

    async def scenario() -> None:
        log = LogFile(tmp_path / "a.log", 10_000, 2)
        script = "import signal\nprint('on', flush=True)\nsignal.signal(signal.SIGHUP, lambda *_: print('again', flush=True))\nprint('hears', flush=True)\nwhile True: signal.pause()"
        supervisor = Supervisor([_part(script)], log_file=log)
        running = asyncio.ensure_future(supervisor.run())
        await until_async(lambda: supervisor.pids, what="it runs")
        supervisor.hang_up()
        await until_async(lambda: b"hears\n" in (tmp_path / "a.log").read_bytes(), what="it lives")
        supervisor.hang_up()
        await until_async(lambda: b"again\n" in (tmp_path / "a.log").read_bytes(), what="it is told")
        assert supervisor.restarts == 0
        supervisor.stop()
        await asyncio.wait_for(running, 20)
        log.close()

    asyncio.run(scenario())


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    """One datagram each, to a path or an abstract name; nothing where none is named, no trouble where nobody hears."""
    for name in (str(tmp_path / "notify"), f"@headwater-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
            hears.bind(f"\0{name[1:]}" if name.startswith("@") else name)
            service = Service({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000"})
            service.say(READY="1", STATUS="both run")
            assert hears.recv(100) == b"READY=1\nSTATUS=both run"
            assert service.watchdog_s == 3.0
        service.say(READY="1")
    Service({}).say(READY="1")
    assert Service({"WATCHDOG_USEC": "3000000"}).watchdog_s == 0.0

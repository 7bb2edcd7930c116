"""What the tests stand on: waiting, and a real broker."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess

import pytest

from tests import support
from tests.support import Mosquitto, free_port, part_required, program, until, until_async


def test_until_returns_what_the_condition_gave() -> None:
    """The first true value of the condition is returned."""
    values = iter([0, None, "", "there"])
    assert until(lambda: next(values)) == "there"


def test_until_says_what_was_missing() -> None:
    """At the deadline the error names what was waited for and what was seen last."""
    with pytest.raises(AssertionError, match=r"not within 0\.02 s: the moon \(last seen: 0\)"):
        until(lambda: 0, deadline=0.02, what="the moon")


def test_until_takes_a_failed_assertion_for_not_yet() -> None:
    """An assertion inside the condition is waited for, and is the cause if it never holds."""

    def never() -> bool:
        raise AssertionError("one is not two")

    with pytest.raises(AssertionError, match="never") as late:
        until(never, deadline=0.02)
    assert "one is not two" in str(late.value.__cause__)


def test_until_async_lets_the_loop_run() -> None:
    """Tasks of the event loop go on while a test waits in it."""

    async def scene() -> str:
        seen: list[str] = []
        asyncio.get_running_loop().call_later(0.01, seen.append, "ran")
        return (await until_async(lambda: seen))[0]

    assert asyncio.run(scene()) == "ran"


def test_free_port_can_be_bound() -> None:
    """A free port is one that a server can have."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))


def test_a_missing_part_skips_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a part its tests are skipped; where HEADWATER_REQUIRE lists it they fail."""
    monkeypatch.setitem(support.PARTS, "moon", ("no-such-program",))
    monkeypatch.delenv("HEADWATER_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        part_required("moon")
    monkeypatch.setenv("HEADWATER_REQUIRE", "mosquitto,moon")
    with pytest.raises(pytest.fail.Exception, match=r"tests/parts\.sh"):
        part_required("moon")


def test_mosquitto_is_real(mosquitto: Mosquitto) -> None:
    """The fixture's broker is a process of its own that takes a message and hands it on."""
    os.kill(mosquitto.pid, 0)
    port = str(mosquitto.port)
    publish, subscribe = program("mosquitto_pub"), program("mosquitto_sub")
    assert publish is not None
    assert subscribe is not None
    subprocess.run([publish, "-p", port, "-t", "a", "-m", "1.5", "-q", "1", "-r"], check=True, timeout=10)
    got = subprocess.run(
        [subscribe, "-p", port, "-t", "a", "-C", "1"], check=True, timeout=10, capture_output=True
    )
    assert got.stdout == b"1.5\n"

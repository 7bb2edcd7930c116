"""The list of devices that may speak: others are dead letters, or turned away where they say who they are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headwater_edge.admission import Admission, NotAdmitted
from headwater_edge.allowed import Allowed
from headwater_edge.connection import Connection
from headwater_edge.control import ConnectRequest
from headwater_edge.device_settings import DeviceSettings
from headwater_edge.events import WillMessage
from headwater_edge.grants import Grant
from headwater_edge.letter_office import LetterOffice
from headwater_edge.settings import EdgeSettings
from headwater_edge.store import read_store
from headwater_edge.users import Users
from headwater_shared import registry
from headwater_shared.errors import SettingsError
from headwater_shared.registry import Entry
from tests.edge.running import FILE, Publish, edge_settings, running


class Seconds:
    """A monotonic clock that tests move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 10.0
        return self.now


def settings_of(*only: str) -> EdgeSettings:
    return edge_settings(devices=DeviceSettings(status=False, only=only))


def letters(folder: Path) -> list[tuple[str, bytes, bytes]]:
    reader = read_store(folder / FILE)
    try:
        return reader.execute("SELECT reason, topic, bytes FROM dead_letter ORDER BY tick, n").fetchall()
    finally:
        reader.close()


def test_patterns_files_and_the_registry(tmp_path: Path) -> None:
    """Any of them lets a device in; a file may have remarks; a change of a file is taken up."""
    (tmp_path / "list.txt").write_text("# ours\nsouth/a  # the old one\n\n")
    with registry.changed(tmp_path / registry.FILE, 1) as devices:
        devices["east/b"] = Entry()
    clock = Seconds()
    allowed = Allowed(("north/*", "file:list.txt", "registry"), tmp_path, clock)
    assert [allowed.allows(one) for one in ("north/x", "south/a", "east/b", "south/b", "x/north")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    before = allowed.generation
    (tmp_path / "list.txt").write_text("south/b")
    allowed.refresh()
    assert (allowed.allows("south/a"), allowed.allows("south/b"), allowed.generation) == (
        False,
        True,
        before + 1,
    )
    (tmp_path / "list.txt").write_text("no device")
    allowed.refresh()
    assert allowed.allows("south/b")  # a mistake leaves the list as it was


@pytest.mark.parametrize("only", [("north",), ("a/b/c",), ("file:none.txt",), ("",)])
def test_a_list_that_cannot_be_is_refused(only: tuple[str, ...], tmp_path: Path) -> None:
    """With what to write instead."""
    with pytest.raises(SettingsError) as refused:
        Allowed(only, tmp_path)
    assert refused.value.hint


def test_readings_of_others_are_dead_letters_with_their_bytes(tmp_path: Path) -> None:
    """Acknowledged, counted, no series of theirs; once the device is on the list they count, replayed by a person."""

    async def test() -> None:
        async with running(tmp_path, settings_of("s1/good")) as box:
            await box.publish(
                Publish("hw/s1/good/data/temp", b"1", 1), Publish("hw/s1/bad/data/temp", b"2", 2),
                Publish("hw/s1/bad/data", b'{"x":3,"y":4}', 3),
            )  # fmt: skip
            state = box.agent.state
            assert (state.names, state.counters.accepted) == (["s1/good/temp"], 1)
            assert letters(tmp_path) == [
                ("not-listed", b"hw/s1/bad/data/temp", b"2"), ("not-listed", b"hw/s1/bad/data", b'{"x":3,"y":4}')
            ]  # fmt: skip
            assert box.agent.decode.not_listed == 2
        async with running(tmp_path, settings_of("s1/*")) as box:
            taken, refused = await LetterOffice(box.agent, tmp_path / FILE).replay(
                read_store(tmp_path / FILE).execute("SELECT tick, n FROM dead_letter").fetchall()
            )
            assert (taken, refused) == (2, [])
            assert box.agent.state.counters.accepted == 4

    asyncio.run(test())


def test_a_device_that_is_taken_off_the_list_is_refused_though_it_is_known(tmp_path: Path) -> None:
    """Its series stays, its readings are dead letters; the others of a burst count."""

    async def test() -> None:
        async with running(tmp_path, settings_of()) as box:
            await box.publish(Publish("hw/s1/d1/data/temp", b"1"), Publish("hw/s1/d2/data/temp", b"1"))
        async with running(tmp_path, settings_of("s1/d2")) as box:
            await box.publish(Publish("hw/s1/d1/data/temp", b"2"), Publish("hw/s1/d2/data/temp", b"2"))
            assert box.agent.state.counters.accepted == 3
            assert letters(tmp_path) == [("not-listed", b"hw/s1/d1/data/temp", b"2")]

    asyncio.run(test())


def test_the_registry_is_taken_up_while_the_agent_runs(tmp_path: Path) -> None:
    """`headwater registry set` lets a device in, `remove` shuts it out, with no restart."""

    async def test() -> None:
        async with running(tmp_path, settings_of("registry")) as box:
            box.agent.index.allowed._monotonic, box.agent.index.allowed._looked = Seconds(), 0.0
            await box.publish(Publish("hw/s1/d1/data/temp", b"1"))
            assert box.agent.state.counters.accepted == 0
            with registry.changed(tmp_path / registry.FILE, 1) as devices:
                devices["s1/d1"] = Entry()
            await box.publish(Publish("hw/s1/d1/data/temp", b"2"))
            assert box.agent.state.counters.accepted == 1
            with registry.changed(tmp_path / registry.FILE, 1) as devices:
                devices.clear()
            await box.publish(Publish("hw/s1/d1/data/temp", b"3"))
            assert box.agent.state.counters.accepted == 1

    asyncio.run(test())


def request(will: bytes = b"") -> ConnectRequest:
    return ConnectRequest(
        v5=True, client="c", user=None, password=None, clean=True, keep_alive_s=0, expiry_s=0,
        will=WillMessage(will, b"", 0, 0) if will else None, packet_maximum=0, receive_maximum=20, authentication=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("user", "grants", "will", "in_"),
    [
        ("", None, b"", True), ("", None, b"hw/s1/good/status", True), ("", None, b"hw/s1/bad/status", False),
        ("good", None, b"", True), ("s1/good", None, b"", True), ("bad", None, b"", False), ("s1/bad", None, b"", False),
        ("bad", ("s1/*",), b"", True), ("gateway", ("*/*",), b"hw/s1/bad/status", False),
    ],
)  # fmt: skip
def test_who_says_who_it_is_is_turned_away_at_connect(
    user: str, grants: tuple[str, ...] | None, will: bytes, in_: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its user, if that speaks for one device only, or by its will; all others by their readings."""
    admission = Admission(Users(), 10)
    admission.allowed = Allowed(("s1/good", "north/p*"))
    monkeypatch.setattr(admission, "_who", lambda *_: Grant(user, grants) if user else None)
    connection = Connection.__new__(Connection)
    if in_:
        admission.admit(request(will), connection)
    else:
        with pytest.raises(NotAdmitted, match="on no list") as refused:
            admission.admit(request(will), connection)
        assert refused.value.reason == "not-listed"

"""Who is let in, and what each may say, over real sockets."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from headwater_edge import passwords, users_file
from headwater_edge import users as users_module
from headwater_edge.events import Connect, Subscribe
from headwater_edge.passwords import RANDOM, hashed
from headwater_edge.users import Users
from headwater_edge.users_file import User
from headwater_firmware_sim.packets import V5, V311, Connack
from tests.edge.listening import Client, Seconds, dial, listening
from tests.support import until

TOPIC = "hw/s/pump/data/m"


def _file(folder: Path, **users: User) -> Path:
    path = folder / "users.json"
    with users_file.changed(path) as kept:
        kept.clear()
        kept.update(users)
    return path


def _user(password: str, *grants: str) -> User:
    return User(hashed(password.encode(), RANDOM), grants or None)


@pytest.mark.parametrize("version", [V311, V5])
def test_a_password_is_tried_while_the_loop_goes_on(
    tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one client's password is tried, others publish; then it is let in, and what it sent meanwhile is taken."""
    goes_on = threading.Event()
    right = passwords.matches
    monkeypatch.setattr(users_module, "matches", lambda *both: goes_on.wait(10) and right(*both))
    users = Users(_file(tmp_path, pump=_user("one")), {"known": "two"}, {"known": ["*/*"]})
    with listening(users) as here, dial(here.port) as slow, dial(here.port) as quick:
        first = Client(slow, "a", version=version, user="pump", password="one", wait=False)
        first.send(first.publish(TOPIC, b"1"))
        other = Client(quick, "b", version=version, user="known", password="two")
        assert all(other.acknowledged() for _ in range(3))
        (connection,) = here.do(lambda: list(here.listener._sockets.door._trying))
        kept = connection.kept
        first.send(first.publish(TOPIC, b"2") + first.publish(TOPIC, b"3"))
        assert other.acknowledged()
        assert len(here.got.readings) == 4
        assert connection.kept == kept  # nobody fills the memory before it has said who it is
        goes_on.set()
        found = b""
        wanted = {V311: 4, V5: 0}[version] + 12
        while len(found) < wanted or found.count(b"\x40\x02\x00") < 3:
            found += slow.recv(1000)
        assert found[0] == 0x20
        assert [body for topic, body in here.got.readings if topic == TOPIC.encode()] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("version", [V311, V5])
def test_who_is_not_let_in_hears_so_in_a_while(tmp_path: Path, version: int) -> None:
    """A wrong password, an unknown user, none at all and one that is locked out are refused in the CONNACK; those that may
    be guesses hear it a second later.
    """
    seconds = Seconds()
    users = Users(
        _file(tmp_path, pump=_user("one"), thief=User(hashed(b"one", RANDOM), ())),
        {"fleet": "two"},
        monotonic=seconds,
    )
    with listening(users, monotonic=seconds) as here, ExitStack() as stack:
        for user, password, code in (
            ("pump", "two", 0x86), ("fleet", "one", 0x86), ("nobody", "one", 0x86), ("", "", 0x86), ("thief", "one", 0x87)
        ):  # fmt: skip
            sock = stack.enter_context(dial(here.port))
            client = Client(sock, "c", version=version, user=user, password=password, wait=False)
            if user != "thief":
                until(lambda: here.do(lambda: here.listener._sockets.door._to_tell), what="it is turned away")
                here.sweep()
                assert here.do(lambda: here.listener._sockets.door._to_tell)
                seconds.now += 1.1
                here.sweep()
            answer = client.answer()
            assert isinstance(answer, Connack)
            assert answer.code == (code if version == V5 else 5)
            assert client.end() == b""
        assert here.listener.counts.refused == {"password": 4, "locked-out": 1}
        assert not here.got.events
        here.said("wrong password, or no such user: 'pump'")
        here.said("no user and password, and there are users")
        here.said("'thief' may speak for nothing")
        with dial(here.port) as sock:
            assert Client(sock, user="pump", password="one").acknowledged(TOPIC)


@pytest.mark.parametrize("version", [V311, V5])
def test_a_publish_outside_of_the_grant_is_not_acknowledged(version: int) -> None:
    """The connection ends, with reason 0x87 in MQTT 5; what came before it in the same write is taken, what comes after it
    is not, whatever it is; it is counted and named.
    """
    users = Users(passwords={"pump": "one"})
    allowed, denied = TOPIC, "hw/s/other/data/m"
    with listening(users) as here:
        for after in ("", "malformed", "more"):
            with dial(here.port) as sock:
                client = Client(sock, version=version, user="pump", password="one")
                first, wrong = client.publish(allowed, b"1"), client.publish(denied, b"2")
                rest = {"": b"", "malformed": b"\xf0\x00", "more": client.publish(allowed, b"3")}[after]
                client.send(first + wrong + rest)
                last = client.end()
                assert (last[0], last[2]) == (0xE0, 0x87) if version == V5 else last == b""
        with dial(here.port) as sock:  # alone in its write: the short cut for single messages
            client = Client(sock, version=version, user="pump", password="one")
            assert client.acknowledged(allowed)
            assert client.acknowledged(allowed)
            assert not client.acknowledged(denied)
        assert set(here.got.readings) == {(allowed.encode(), b"1")}
        assert here.listener.counts.ended["not-allowed"] == 4
        line = here.said("'pump' may not publish to 'hw/s/other/data/m'")
        assert line["user"] == "pump"


@pytest.mark.parametrize("version", [V311, V5])
def test_commands_are_for_whoever_speaks_for_the_device(version: int) -> None:
    """A SUBSCRIBE to another device's commands is refused in its SUBACK, filter by filter; the session stays."""
    with listening(Users(passwords={"pump": "one"})) as here, dial(here.port) as sock:
        client = Client(sock, version=version, user="pump", password="one")
        filters = b"".join(
            len(topic).to_bytes(2, "big") + topic + b"\x01" for topic in (b"hw/s/pump/cmd", b"hw/s/other/cmd")
        )
        body = b"\x00\x07" + (b"\x00" if version == V5 else b"") + filters
        client.send(b"\x82" + bytes([len(body)]) + body)
        suback = sock.recv(100)
        assert suback[0] == 0x90
        assert suback[-2:] == bytes([1, 0x87 if version == V5 else 0x80])
        assert [event.filters for event in here.got.events if isinstance(event, Subscribe)] == [
            [("hw/s/pump/cmd", 1)]
        ]
        assert client.acknowledged(TOPIC)
        (number,) = here.listener._sockets.by_number
        here.listener._connections_for = lambda *_: [
            number
        ]  # as of a session that subscribed when it still might
        publish = here.listener.publish
        told = {
            topic: here.do(partial(publish, topic, b"x")) for topic in (b"hw/s/pump/cmd", b"hw/s/other/cmd")
        }
        assert told == {b"hw/s/pump/cmd": True, b"hw/s/other/cmd": False}


def test_nobody_takes_over_another_user_s_session() -> None:
    """Two users with the same client id are two clients: neither ends the other's connection, nor gets its session."""
    with (
        listening(Users(passwords={"a": "one", "b": "two"})) as here,
        dial(here.port) as one,
        dial(here.port) as two,
    ):
        first = Client(one, "same", user="a", password="one")
        second = Client(two, "same", user="b", password="two")
        assert first.acknowledged("hw/s/a/data/m")
        assert second.acknowledged("hw/s/b/data/m")
        names = [event.client for event in here.got.events if isinstance(event, Connect)]
        assert len(set(names)) == 2
        with dial(here.port) as again:
            assert Client(again, "same", user="a", password="one").acknowledged("hw/s/a/data/m")
            assert first.end() == b""
            assert second.acknowledged("hw/s/b/data/m")


def test_a_user_that_is_taken_away_goes(tmp_path: Path) -> None:
    """When the file changes, connections of users that were removed or have a new password end, those of others stay, and
    what they may say is what the file says now.
    """
    seconds = Seconds()
    keeps = _user("one")
    path = _file(
        tmp_path, removed=_user("one"), changed=_user("one"), narrowed=_user("one", "s/*"), keeps=keeps
    )
    users = Users(path, monotonic=seconds)
    narrowed = users_file.read(path)["narrowed"].password
    with listening(users, monotonic=seconds) as here, ExitStack() as stack:
        clients = {
            name: Client(stack.enter_context(dial(here.port)), name, version=V5, user=name, password="one")
            for name in ("removed", "changed", "narrowed", "keeps")
        }
        assert all(client.acknowledged(f"hw/s/{name}/data/m") for name, client in clients.items())
        _file(tmp_path, changed=_user("two"), narrowed=User(narrowed, ("s/elsewhere",)), keeps=keeps)
        seconds.now += 1.1
        here.sweep()
        for name in ("removed", "changed"):
            last = clients[name].end()
            assert (last[0], last[2]) == (0xE0, 0x98)
        assert clients["keeps"].acknowledged("hw/s/keeps/data/m")
        assert clients["narrowed"].acknowledged("hw/s/elsewhere/data/m")
        assert not clients["narrowed"].acknowledged("hw/s/narrowed/data/m")
        assert here.listener.counts.ended["revoked"] == 2


def test_the_first_user_ends_what_is_anonymous(tmp_path: Path) -> None:
    """Without users anyone on the loopback may come in; once there is one, who has not said who it is goes."""
    seconds = Seconds()
    users = Users(tmp_path / "users.json", monotonic=seconds)
    with listening(users, monotonic=seconds) as here, dial(here.port) as sock:
        client = Client(sock)
        assert client.acknowledged()
        _file(tmp_path, pump=_user("one"))
        seconds.now += 1.1
        with dial(here.port) as late:  # before anybody has looked at the time
            Client(late, "late", wait=False)
            until(lambda: here.listener.counts.refused["password"] == 1, what="it is refused")
        here.sweep()
        assert client.end() == b""
        here.said("there are users now")


def test_without_users_nothing_is_looked_up() -> None:
    """Where nobody has to say who it is, a connection has no grant: the hot path asks nothing."""
    with listening() as here, dial(here.port) as sock:
        assert Client(sock, user="anybody", password="anything").acknowledged()
        (connection,) = here.listener._sockets.by_number.values()
        assert connection.grant is None
        assert [event.user for event in here.got.events if isinstance(event, Connect)] == ["anybody"]

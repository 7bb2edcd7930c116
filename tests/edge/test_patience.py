"""Slow, silent, huge and guessing clients on real sockets: limited, counted, named; others are served as if they were not there."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from headwater_edge import connection as connections
from headwater_edge import door, patience
from headwater_edge.users import Users
from headwater_firmware_sim.packets import V5, V311, Connack
from tests.edge.listening import (
    Client,
    Listening,
    Made,
    Seconds,
    dial,
    listening,
    make_certificates,
    until_closed,
)
from tests.support import until

ELSEWHERE = "127.0.0.2"
"""Another address of the loopback: an attacker's."""
TOPIC = "hw/s/d/data/m"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small authority and a server's certificate."""
    return make_certificates(tmp_path_factory.mktemp("certs"))


@contextmanager
def _client(
    here: Listening, made: Made, name: str, version: int = V311, *, secure: bool, receive_buffer: int = 0
) -> Iterator[Client]:
    with ExitStack() as stack:
        port = here.tls_port if secure else here.port
        sock = stack.enter_context(dial(port, receive_buffer=receive_buffer))
        if secure:
            sock = stack.enter_context(made.client().wrap_socket(sock, server_hostname="localhost"))
        yield Client(sock, name, version=version)


def _at_the_door(here: Listening) -> int:
    found: int = here.do(lambda: len(here.listener._sockets.door))
    return found


def test_a_flood_of_silent_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that say nothing there are so many at most; one too many ends the oldest of the address that has most, so
    that a client of another address, and one of the same, come in; the rest is ended in time.
    """
    monkeypatch.setattr(door, "MOST", 50)
    seconds = Seconds()
    with listening(monotonic=seconds) as here, ExitStack() as stack:
        with dial(here.port) as waiting:  # it came first, and is slow to say who it is
            until(lambda: _at_the_door(here) == 1, what="it is there")
            silent = [stack.enter_context(dial(here.port, ELSEWHERE)) for _ in range(200)]
            until(lambda: here.listener.counts.accepted == 201, what="all were accepted")
            assert _at_the_door(here) == 50
            assert Client(waiting, "slow to speak").acknowledged()
        for source in ("127.0.0.1", ELSEWHERE):
            with dial(here.port, source) as sock:
                assert Client(sock).acknowledged()
        assert here.listener.counts.refused["half-open"] >= 150
        assert all(until_closed(each) == b"" for each in silent[:100])
        seconds.now += 11
        here.sweep()
        assert all(until_closed(each) == b"" for each in silent)
        assert _at_the_door(here) == 0
        line = here.said("connections have not said who they are", "find out who opens connections")
        assert line["address"].startswith(ELSEWHERE)
        here.said("it has not sent a CONNECT in time")


def test_more_connections_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent ones take no room from clients: where there are as many sockets as there may be, a silent one goes."""
    with listening(max_connections=2) as here, ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(dial(here.port, ELSEWHERE))
        until(lambda: here.listener.counts.accepted == 150, what="all were accepted")
        assert _at_the_door(here) == 102
        clients = [Client(stack.enter_context(dial(here.port)), f"c{n}", version=V5) for n in range(3)]
        answers = [client.connack for client in clients]
        assert [answer.code for answer in answers if isinstance(answer, Connack)] == [0, 0, 0x97]
        assert clients[0].acknowledged()


@pytest.mark.parametrize("secure", [False, True])
def test_a_slow_packet(made: Made, secure: bool) -> None:
    """A packet that is not whole in time ends its connection, however often a byte of it comes; many small ones over a
    slow line do not, nor does a large one that comes in time.
    """
    seconds = Seconds()
    with (
        listening(monotonic=seconds, tls=made.settings(), packet_time="60s") as here,
        _client(here, made, "slow", V5, secure=secure) as slow,
        _client(here, made, "steady", secure=secure) as steady,
        _client(here, made, "large", secure=secure) as large,
    ):
        dripped, body = slow.publish(TOPIC, b"7" * 1000), large.publish(TOPIC, b"8" * 200_000)
        small = steady.publish(TOPIC, b"9")
        steady.send(small[:5])
        for at in range(20):
            slow.send(dripped[at : at + 1])
            following = steady.publish(TOPIC, b"9")
            steady.send(small[5:] + following[:5])  # it never has sent the whole of a packet and nothing more
            small = following
            assert steady.answer()
            if at < 10:
                large.send(body[at * len(body) // 10 : (at + 1) * len(body) // 10])
            _until_read(here, "slow", at + 1)
            seconds.now += 5.5
            here.sweep()
            if here.listener.counts.ended["slow"]:
                break
        assert at == 10  # 60.5 s after its first byte
        last = slow.end()
        assert (last[0], last[2]) == (0xE0, 0x96)
        here.said("a packet was not whole in time", "raise edge.listener.packet_time")
        assert large.answer()
        assert (TOPIC.encode(), b"8" * 200_000) in here.got.readings
        assert here.listener.counts.ended == {"slow": 1}


def _until_read(here: Listening, client: str, kept: int) -> None:
    """Wait until the listener has so many bytes of a half packet of a client."""

    def there() -> bool:
        found: list[int] = here.do(
            lambda: [one.kept for one in here.listener._sockets.by_number.values() if one.client == client]
        )
        return found == [kept]

    until(there, what=f"{kept} bytes of {client} were read")


def test_a_large_packet_is_joined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends a large packet in small pieces does not make the agent copy it with each of them."""
    joined: list[int] = []
    join = connections.Connection.joined

    def counted(self: connections.Connection, data: bytes) -> bytes:
        found = join(self, data)
        joined.append(len(found))
        return found

    monkeypatch.setattr(connections.Connection, "joined", counted)
    with listening() as here, dial(here.port) as sock:
        client = Client(sock)
        body = client.publish(TOPIC, b"7" * 100_000) + client.publish(TOPIC, b"8")
        client.send(body[:10])
        _until_read(here, "c", 10)
        for at in range(10, len(body), 10_000):
            piece = body[at : at + 10_000]
            client.send(piece)
            if at + len(piece) < 100_000:
                _until_read(here, "c", at + len(piece))
        until(lambda: len(here.got.readings) == 2, what="both came")
        assert sum(joined) <= len(body) + 100
        assert here.listener._sockets._patience.halves == 0


def test_halves_of_packets_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that has come of packets whose ends have not is bounded; beyond it the largest goes, and the others stay."""
    monkeypatch.setattr(patience, "_HALVES", 1_000_000)
    with listening() as here, ExitStack() as stack:
        small = Client(stack.enter_context(dial(here.port)), "small")
        half = small.publish(TOPIC, b"1" * 100)
        small.send(half[:50])
        _until_read(here, "small", 50)
        for n in range(10):
            greedy = Client(stack.enter_context(dial(here.port, ELSEWHERE)), f"greedy-{n}")
            greedy.send(greedy.publish(TOPIC, b"7" * 250_000)[:-1])
        until(lambda: here.listener.counts.ended["huge"] >= 6, what="those that are too many have gone")
        assert here.do(lambda: here.listener._sockets._patience.halves) <= 1_000_000
        small.send(half[50:])
        assert small.answer()
        assert here.said("halves of packets fill the memory")["address"].startswith(ELSEWHERE)


@pytest.mark.parametrize("secure", [False, True])
def test_silence(made: Made, secure: bool) -> None:
    """A client that is not heard of for one and a half times its keep alive is ended; one that pings is not."""
    seconds = Seconds()
    with (
        listening(monotonic=seconds, tls=made.settings()) as here,
        _client(here, made, "silent", V5, secure=secure) as silent,
        _client(here, made, "pings", secure=secure) as pings,
    ):
        for _ in range(4):
            seconds.now += 29
            pings.send(b"\xc0\x00")
            assert pings.sock.recv(2) == b"\xd0\x00"
            here.sweep()
        last = silent.end()
        assert (last[0], last[2]) == (0xE0, 0x8D)
        assert here.listener.counts.ended == {"keep-alive": 1}


@pytest.mark.parametrize("secure", [False, True])
def test_who_does_not_read_its_acknowledgements(
    made: Made, secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many bytes wait for it and no more; then it is ended, and named. One that reads late gets all of it."""
    monkeypatch.setattr(connections, "UNSENT", 30_000)
    with listening(tls=made.settings()) as here, ExitStack() as stack:
        for listens in here.listener._listening:
            listens.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        late = stack.enter_context(_client(here, made, "late", secure=secure, receive_buffer=4_096))
        never = stack.enter_context(_client(here, made, "never", secure=secure, receive_buffer=4_096))
        beside = stack.enter_context(_client(here, made, "beside", secure=secure))
        (waits,) = [one for one in here.listener._sockets.by_number.values() if one.client == "late"]
        sent = 0
        while len(waits.unsent) < 2_000:
            late.send(b"".join(late.publish(TOPIC, b"1") for _ in range(100)))
            sent += 100
            until(partial(_acknowledged, here, sent), what="they are acknowledged")
        assert waits.watched
        with pytest.raises(OSError, match=r"reset|[Bb]roken|EOF"):
            _send_for_ever(never.sock, b"".join(never.publish(TOPIC, b"1") for _ in range(1_000)))
        assert here.said("it does not read its acknowledgements")["client"] == "never"
        assert here.listener.counts.ended["does-not-read"] == 1
        got = b""
        while len(got) < 4 * sent:
            got += late.sock.recv(65_536)
        assert got == b"".join((0x4002_0000 | n + 1).to_bytes(4, "big") for n in range(sent))
        assert late.acknowledged()
        until(lambda: not waits.watched, what="nothing waits any more")
        assert beside.acknowledged()


@pytest.mark.parametrize("before", [False, True])
def test_who_only_talks(before: bool) -> None:
    """Who sends many packets at once that bring no message is ended: each would cost an answer of its own, or a place in
    the journal; a hundred pings are answered, before the CONNACK too.
    """
    with listening() as here, dial(here.port) as sock, dial(here.port) as other:
        here.acknowledging = not before
        client = Client(sock, "talks", wait=not before)
        client.send(b"\xc0\x00" * 100)
        if before:
            until(lambda: here.got.events, what="it is connected")
        here.do(lambda: None)
        here.acknowledging = True
        if not before:
            found = b""
            while len(found) < 200:
                found += sock.recv(1_000)
            assert found == b"\xd0\x00" * 100
            for more in range(1, 4):  # not so many at once may go on
                client.send(b"\xc0\x00" * 60)
                while len(found) < 200 + 120 * more:
                    found += sock.recv(1_000)
        client.send(b"\xc0\x00" * 20_000)
        client.end()
        line = here.said("more than 100 packets at once that bring no message")
        assert line["client"] == "talks"
        assert here.listener.counts.malformed == {"talk": 1}
        assert Client(other, "other").acknowledged()


def _acknowledged(here: Listening, count: int) -> bool:
    return here.listener.counts.acknowledgements == count


def _send_for_ever(sock: socket.socket, data: bytes) -> None:
    while True:
        sock.sendall(data)


def test_passwords_at_speed(tmp_path: Path) -> None:
    """Who guesses is kept waiting for each answer, and soon is not listened to; its guesses cost few slow looks; whoever
    else comes in meanwhile does so at once; counted, and named with the address.
    """
    seconds = Seconds()
    users = Users(
        passwords={"pump": "one", "other": "two"},
        grants={"pump": ["*/*"], "other": ["*/*"]},
        monotonic=seconds,
    )
    with listening(users, monotonic=seconds) as here, ExitStack() as stack:
        guesses = []
        for n in range(60):
            sock = stack.enter_context(dial(here.port, ELSEWHERE))
            guesses.append(Client(sock, f"g{n}", version=V5, user="pump", password=f"guess {n}", wait=False))
        counts = here.listener.counts
        until(lambda: sum(counts.refused.values()) == 60, what="all were looked at, or not")
        assert counts.refused["password"] == 6
        assert counts.refused["guessing"] == 54
        for user, password, source in (
            ("pump", "one", "127.0.0.1"),
            ("other", "two", "127.0.0.1"),
            ("other", "two", ELSEWHERE),
        ):
            with dial(here.port, source) as sock:
                assert Client(sock, user=user, password=password).acknowledged()
        for guess in guesses:
            guess.sock.setblocking(False)
            with pytest.raises((BlockingIOError, ssl.SSLWantReadError)):
                guess.sock.recv(1)
            guess.sock.setblocking(True)
        seconds.now += 1.1
        here.sweep()
        codes = [guess.answer() for guess in guesses]
        assert [answer.code for answer in codes if isinstance(answer, Connack)] == [0x86] * 6 + [0x9F] * 54
        assert here.said("too many wrong passwords", "find the device")["address"].startswith(ELSEWHERE)
        with dial(here.port, ELSEWHERE) as sock:  # it waited, and may try once more
            assert Client(sock, user="pump", password="one").acknowledged()


def test_one_that_waits_for_its_refusal_may_go(tmp_path: Path) -> None:
    """Who hangs up while it waits to hear that its password is wrong is let go at the next look."""
    seconds = Seconds()
    with listening(Users(passwords={"pump": "one"}, monotonic=seconds), monotonic=seconds) as here:
        with dial(here.port) as sock:
            Client(sock, user="pump", password="two", wait=False)
            until(lambda: here.listener.counts.refused["password"] == 1, what="it is refused")

        def gone() -> bool:
            here.sweep()
            return _at_the_door(here) == 0

        until(gone, what="it is gone")


def test_a_vanished_peer_is_noticed() -> None:
    """Accepted sockets have the kernel ask for a sign of life, and give up after two minutes."""
    with listening() as here, dial(here.port) as sock:
        Client(sock)
        (connection,) = here.listener._sockets.by_number.values()
        options = [
            connection.sock.getsockopt(level, name)
            for level, name in (
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
                (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
                (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
                (socket.IPPROTO_TCP, socket.TCP_NODELAY),
            )
        ]
        assert options == [1, 60, 15, 4, 120_000, 1]

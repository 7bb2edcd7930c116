"""Bad input: what cannot be read becomes a dead letter with its bytes, what is wrong is said, and the rest goes on."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater_firmware_sim import packets
from headwater_shared.errors import NeedsPerson
from tests.reference import all_windows
from tests.system import fuzz, result
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.wire import Wire

FUZZED, GOOD = 20_000, 4_000
CONNECTIONS = 8


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box that takes in whatever the tests of this module send."""
    with box(tmp_path_factory.mktemp("box")) as made:
        made.up()
        yield made
        made.end(EDGE)
        made.end(CLOUD)


def test_twenty_thousand_fuzzed_payloads(here: Box) -> None:
    """Over several connections, good readings among them: each message gets its PUBACK, every good reading counts and
    none is changed, and what nobody can read is a dead letter with topic and bytes as sent.
    """
    chance = random.Random(1)
    readings = [
        (f"good/d{n % 50}/m{n % 3}", fuzz.T0_US + n * 1_000, round(chance.gauss(0, 100), 3))
        for n in range(GOOD)
    ]
    bad = fuzz.payloads(1, FUZZED)
    messages = [(payload.topic, payload.body) for payload in bad]
    messages += [_message(chance, *reading) for reading in readings]
    order = list(range(len(messages)))
    chance.shuffle(order)
    wires = [Wire(here.port, f"fuzz-{n}", version=4 + n % 2) for n in range(CONNECTIONS)]
    sent = [0] * CONNECTIONS
    for begin in range(0, len(order), 200):
        at = begin // 200 % CONNECTIONS
        batch = [messages[n] for n in order[begin : begin + 200]]
        wires[at].send(b"".join(wires[at].publish(topic, body) for topic, body in batch))
        sent[at] += len(batch)
    for wire, count in zip(wires, sent, strict=True):
        wire.read_acknowledgements(count)
        assert wire.acknowledged == list(range(1, count + 1))
        wire.close()

    dead = _dead_letters(here)
    could_be = Counter((payload.topic, payload.body) for payload in bad)
    must_be = Counter((payload.topic, payload.body) for payload in bad if payload.dead)
    assert sum(must_be.values()) > FUZZED // 2
    assert not must_be - dead, f"no dead letters: {list(must_be - dead)[:5]}"
    assert not dead - could_be, f"dead letters of something else: {list(dead - could_be)[:5]}"

    here.closed()
    found = result.read(here.data / "cloud.db").windows
    names = {series for series, _, _ in readings}
    result.assert_same_windows(found, all_windows(readings), names)


def _message(chance: random.Random, series: str, time_us: int, value: float) -> tuple[bytes, bytes]:
    site, device, metric = series.split("/")
    if chance.random() < 0.5:
        return f"hw/{site}/{device}/data/{metric}".encode(), json.dumps({"t": time_us, "v": value}).encode()
    return f"hw/{site}/{device}/data".encode(), json.dumps({"t": time_us, "values": {metric: value}}).encode()


def _dead_letters(box: Box) -> Counter[tuple[bytes, bytes]]:
    """Return what a person sees of the dead letters."""
    lines = box.run("headwater-edge", "dead-letters", "list", "--last", "1000000", "--json").splitlines()
    said = [json.loads(line) for line in lines]
    assert all(letter["reason"] for letter in said)
    return Counter((base64.b64decode(letter["topic"]), base64.b64decode(letter["bytes"])) for letter in said)


MALFORMED = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40),
    "PUBLISH before CONNECT": b"\x30\x05\x00\x01ab",
    "a protocol that is not MQTT": b"\x10\x0c\x00\x04HTTP\x04\x02\x00\x3c\x00\x00",
    "MQTT 3.1": b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a",
    "a CONNECT that ends in a field": b"\x10\x0a\x00\x04MQTT\x04\x02\x00\x3c",
    "a CONNECT that goes on": b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x00zz",
    "a reserved flag": b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x3c\x00\x00",
    "a client id that is no UTF-8": b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02\xc3\x28",
    "a CONNECT of 300 MB": b"\x10\xff\xff\xff\x7f",
    "a length of five bytes": b"\x10\xff\xff\xff\xff\x01",
}
"""First packets."""
AFTER_CONNECT = {
    "a second CONNECT": b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
    "QoS 3": b"\x36\x07\x00\x01a\x00\x01zz",
    "DUP at QoS 0": b"\x38\x05\x00\x01azz",
    "packet id 0": b"\x32\x07\x00\x01a\x00\x00zz",
    "an empty topic": b"\x32\x06\x00\x00\x00\x01zz",
    "a wildcard in a topic": b"\x32\x0b\x00\x05hw/+/\x00\x01zz",
    "a topic that is no UTF-8": b"\x32\x08\x00\x02\xc3\x28\x00\x01zz",
    "a topic longer than its packet": b"\x32\x04\xff\xffab",
    "a packet longer than allowed": b"\x32\xff\xff\xff\x7f",
    "a PUBREC": b"\x50\x02\x00\x01",
    "a PUBREL with the wrong flags": b"\x60\x02\x00\x01",
    "packet type 0": b"\x00\x00",
    "packet type 15": b"\xf0\x00",
    "a PINGREQ with a body": b"\xc0\x01\x00",
    "a SUBSCRIBE to nothing": b"\x82\x02\x00\x01",
    "an UNSUBSCRIBE with the wrong flags": b"\xa0\x05\x00\x01\x00\x01a",
}


@pytest.fixture
def steady(here: Box) -> Iterator[Wire]:
    """A client beside: whatever others do, its readings are acknowledged as if nothing was."""
    with Wire(here.port, "steady") as wire:
        yield wire


def _goes_on(wire: Wire) -> None:
    wire.send(
        wire.publish("hw/good/steady/data/m", b'{"t":%d,"v":1}' % (fuzz.T0_US + len(wire.acknowledged)))
    )
    wire.read_acknowledgements(len(wire.acknowledged) + 1)


def test_malformed_packets_end_their_connection_only(here: Box, steady: Wire) -> None:
    """Whatever is no MQTT, or not allowed, ends the connection that it came on; a client beside is served all the time;
    the log says what was wrong, and what to do where somebody can do something.
    """
    for n, (what, data) in enumerate(MALFORMED.items()):
        with socket.create_connection(("127.0.0.1", here.port), 10) as sock:
            sock.sendall(data)
            assert len(_until_closed(sock)) <= 4, what  # a CONNACK that refuses, or nothing
        if n % 6 == 0:
            _goes_on(steady)
    for n, (what, data) in enumerate(AFTER_CONNECT.items()):
        with Wire(here.port, "bad") as wire:
            wire.send(data)
            assert _until_closed(wire.sock) == b"", what
        if n % 8 == 0:
            _goes_on(steady)
    _goes_on(steady)
    said = here.log(EDGE).read_text()
    for words in (
        "the device speaks TLS; this port does not", "this port speaks MQTT", "it speaks MQTT 3.1",
        "raise edge.listener.max_packet", "a topic", "a second CONNECT",
    ):  # fmt: skip
        assert words in said, words


def test_random_bytes_end_their_connection_only(here: Box, steady: Wire) -> None:
    """300 connections that send noise, or a good packet with a flipped bit, before or after the CONNECT."""
    chance = random.Random(2)
    good = packets.publish(packets.V311, "hw/fuzz/d2/data/m1", b'{"t":1795000000,"v":1}', 1)
    for n in range(300):
        sock = socket.create_connection(("127.0.0.1", here.port), 10)
        with sock:
            if n % 2:
                sock.sendall(packets.connect(packets.V311, f"noise-{n}", clean=True, keep_alive_s=60))
            noise = bytearray(good if n % 3 else chance.randbytes(chance.randint(1, 200)))
            noise[chance.randrange(len(noise))] ^= 1 << chance.randrange(8)
            sock.sendall(bytes(noise))
        if n % 100 == 0:
            _goes_on(steady)
    _goes_on(steady)
    assert here.status()["holding_back"] == ""


def _until_closed(sock: socket.socket) -> bytes:
    """Return what the server says before it ends the connection; it must end it."""
    out = b""
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(65_536):
            out += data
    return out


def test_a_programming_error_ends_the_process(tmp_path: Path) -> None:
    """What nobody expected does not leave an agent that takes nothing in: it exits with a code that a supervisor starts
    again after, and the next process takes what came again.
    """
    with box(tmp_path) as here:
        here.start(EDGE, module="tests.system.agent_with_a_fault")
        here.ready(EDGE)
        with Wire(here.port, "d") as wire:
            wire.send(wire.publish("hw/s/d/data/m", b'{"t":1795000000,"v":1}'))
            wire.read_acknowledgements(1)
            wire.send(wire.publish("hw/s/d/data/m", b"trip"))
            code = here.running.pop(EDGE).wait(10)
        assert code not in {0, NeedsPerson.exit_code}
        assert "ZeroDivisionError: a programming error" in here.log(EDGE).read_text()
        here.start(EDGE)
        here.ready(EDGE)
        with Wire(here.port, "d") as wire:
            wire.send(wire.publish("hw/s/d/data/m", b"trip"))
            wire.read_acknowledgements(1)
        assert here.status()["accepted"] == 1
        assert here.status()["dead"] == 1

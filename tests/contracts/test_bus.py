"""What every bus keeps to (`headwater_shared.bus.Bus`), with real processes writing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headwater_shared.bus import Bus, Record, Stored
from tests.contracts.bus_writer import batch
from tests.contracts.buses import BUSES
from tests.support import ROOT, until

Open = Callable[[], Bus]


class Place:
    """One bus of a test: where it is, and what was opened of it."""

    def __init__(self, kind: str, address: str) -> None:
        self.kind, self.address = kind, address
        self.opened: list[Bus] = []
        self.is_kafka = kind == "kafka"

    def open(self) -> Bus:
        self.opened.append(BUSES[self.kind](self.address))
        return self.opened[-1]

    def writer(self, name: str, how: str, count: int, size: int) -> subprocess.Popen[str]:
        """Start a writing process."""
        words = [self.kind, self.address, name, how, str(count), str(size)]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.contracts.bus_writer", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(params=sorted(BUSES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A fresh bus of each kind; on Kafka, topics of the test's own."""
    address = str(tmp_path / "bus")
    if request.param == "kafka":
        address = request.getfixturevalue("kafka_bus")
    found = Place(request.param, address)
    yield found
    for bus in found.opened:
        bus.close()


def record(partition: int, text: str, *, topic: str = "hw-in", key: str = "k") -> Record:
    return Record(topic, partition, key, {"ce_id": text, "ce_type": "io.headwater.frame"}, text.encode())


def texts(found: list[Stored]) -> list[str]:
    return [stored.body.decode() for stored in found]


def test_what_is_appended_is_read_as_it_was(place: Place) -> None:
    """Topic, partition, key, headers and body come back unchanged, short and long bodies alike, with a time."""
    bodies = [b"", b"\x00", b"x" * 199, b"\x01" * 5000, os.urandom(5000), "ü".encode() * 300]
    sent = [
        Record("hw-in", 3, f"key {n}", {"ce_id": str(n), "own": "héader"}, body)
        for n, body in enumerate(bodies)
    ]
    place.open().append(sent)
    found = place.open().read("hw-in", {3: 0}, 100)
    assert [Record(s.topic, s.partition, s.key, s.headers, s.body) for s in found] == sent
    assert [s.offset for s in found] == list(range(6))
    assert [s.time_us for s in found] == sorted(s.time_us for s in found)
    assert found[0].time_us > 1_700_000_000_000_000


def test_a_reader_goes_on_from_its_own_offsets(place: Place) -> None:
    """`read` gives each named partition from its offset on, in order, at most `limit` in all, and nothing else."""
    bus = place.open()
    bus.append([record(n % 3, str(n)) for n in range(30)])
    bus.append([record(0, "other", topic="hw-have")])
    assert texts(bus.read("hw-in", {1: 8}, 100)) == ["25", "28"]
    offsets = {0: 0, 1: 0}
    got: dict[int, list[str]] = defaultdict(list)
    while found := bus.read("hw-in", offsets, 4):
        assert len(found) <= 4
        for stored in found:
            assert stored.offset == offsets[stored.partition]
            offsets[stored.partition] += 1
            got[stored.partition].append(stored.body.decode())
    assert got == {p: [str(n) for n in range(p, 30, 3)] for p in (0, 1)}
    assert bus.read("hw-in", {}, 10) == []
    assert bus.read("hw-in", {63: 0}, 10) == []


def test_ends_are_the_next_offsets(place: Place) -> None:
    """`ends` names each partition that holds records, with the offset of the next."""
    bus, other = place.open(), place.open()
    assert bus.ends("hw-in") == {}
    bus.append([record(5, "a"), record(5, "b"), record(9, "c")])
    assert bus.ends("hw-in") == other.ends("hw-in") == {5: 2, 9: 1}
    other.append([record(9, "d")])
    assert bus.ends("hw-in") == {5: 2, 9: 2}
    assert bus.ends("hw-have") == {}


def test_a_waiting_reader_sees_what_others_append(place: Place) -> None:
    """A reader that found nothing finds the next record as soon as another object has appended it, each time."""
    reader, writer = place.open(), place.open()
    for n in range(5):
        assert reader.read("hw-in", {0: n}, 10) == []
        writer.append([record(0, str(n))])
        assert texts(reader.read("hw-in", {0: n}, 10)) == [str(n)]


def test_append_once_skips_what_is_there(place: Place) -> None:
    """Records up to a producer's last id are skipped, wholly or in part; other producers have ids of their own."""
    bus = place.open()
    records = [record(0, str(n)) for n in range(1, 6)]
    bus.append_once("a", 1, records[:3])
    bus.append_once("a", 1, records[:3])
    place.open().append_once("a", 2, records[1:])
    bus.append_once("b", 1, [record(0, "b1")])
    bus.append_once("a", 7, [record(0, "7")])  # ids may leave gaps
    bus.append_once("a", 6, [record(0, "6")])
    wanted = ["1", "2", "3", "4", "5", "b1", "7"]
    until(lambda: texts(bus.read("hw-in", {0: 0}, 100)) == wanted)


def test_three_processes_write_at_once(place: Place) -> None:
    """Of three processes nothing is lost, offsets have no gaps, and each writer's records keep their order."""
    writers = [
        place.writer(name, how, 40, 5) for name, how in (("a", "append"), ("b", "once"), ("c", "append"))
    ]
    reader = place.open()
    offsets, seen = {0: 0, 1: 0}, list[Stored]()

    def read_on() -> bool:
        for stored in reader.read("hw-in", offsets, 1000):
            if place.is_kafka:  # transactions leave marks
                assert stored.offset >= offsets[stored.partition], "no repeat"
            else:
                assert stored.offset == offsets[stored.partition], "no gap, no repeat"
            offsets[stored.partition] = stored.offset + 1
            seen.append(stored)
        return len(seen) == 3 * 40 * 5

    until(read_on, 60)
    assert [writer.wait(10) for writer in writers] == [0, 0, 0]
    for writer in writers:
        writer.communicate()
    for partition in (0, 1):
        for name in "abc":
            wanted = [r for n in range(40) for r in batch(name, n, 5) if r.partition == partition]
            found = [s for s in seen if s.partition == partition and s.key == name]
            assert [s.body for s in found] == [r.body for r in wanted]


@pytest.mark.parametrize("how", ["append", "once"])
def test_kill_9_leaves_a_batch_whole_or_not_at_all(place: Place, how: str) -> None:
    """A writer killed in the middle: every batch is there whole or not at all, and each that was reported is there. On Kafka,
    `append` may leave the first records of each partition; nothing that follows them.
    """
    size, reported = 40, dict[str, list[int]]()
    for turn in range(6):
        name = f"w{turn}"
        writer = place.writer(name, how, 100_000, size)
        assert writer.stdout is not None
        numbers = [int(writer.stdout.readline()) for _ in range(3 + turn)]
        os.kill(writer.pid, signal.SIGKILL)
        numbers += [int(line) for line in writer.stdout.read().splitlines()]
        writer.communicate()
        reported[name] = numbers
    bus = place.open()
    bus.append([record(0, "the next writer goes on")])
    counts: dict[tuple[str, int], int] = defaultdict(int)
    if place.is_kafka:  # a killed transaction hides what comes after it until the broker ends it
        until(lambda: any(s.key == "k" for s in bus.read("hw-in", {0: 0, 1: 0}, 1_000_000)), 60)
    found = bus.read("hw-in", {0: 0, 1: 0}, 1_000_000)
    for stored in found:
        if stored.key in reported:
            counts[stored.key, int(stored.body.split()[1])] += 1
    whole = {at for at, count in counts.items() if count == size}
    if place.is_kafka and how == "append":
        for name, number in counts.keys() - whole:
            assert number == max(n for who, n in counts if who == name), "only its last one"
            places = [
                int(s.body.split()[2]) for s in found if s.key == name and int(s.body.split()[1]) == number
            ]
            for partition in (0, 1):
                some = [at for at in places if at % 2 == partition]
                assert some == list(range(partition, partition + 2 * len(some), 2))
    else:
        assert whole == counts.keys()
    for name, numbers in reported.items():
        there = sorted(number for writer_name, number in whole if writer_name == name)
        assert there == list(range(len(there)))
        assert set(numbers) <= set(there)
    for partition in (0, 1):
        offsets = [s.offset for s in found if s.partition == partition]
        if not place.is_kafka:
            assert offsets == list(range(len(offsets)))


def test_a_producer_that_was_killed_appends_again(place: Place) -> None:
    """A producer that does not know what became of its last batch appends it again, and it is there once."""
    writer = place.writer("p", "once", 100_000, 7)
    assert writer.stdout is not None
    for _ in range(5):
        writer.stdout.readline()
    os.kill(writer.pid, signal.SIGKILL)
    last = int((writer.stdout.read().split() or ["4"])[-1])
    writer.communicate()
    bus = place.open()
    for number in range(last, last + 3):
        bus.append_once("p", number * 7 + 1, batch("p", number, 7))
    wanted = sorted(r.body for n in range(last + 3) for r in batch("p", n, 7))
    until(lambda: sorted(s.body for s in bus.read("hw-in", {0: 0, 1: 0}, 1_000_000)) == wanted)

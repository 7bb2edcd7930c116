"""The ledger: what survives a kill, what it gives back, what it says as columns."""

from __future__ import annotations

import base64
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from headwater_shared import ledger
from headwater_shared.digest import NO_TIME
from headwater_shared.errors import StateError, StateInUse, StateNewer
from headwater_shared.ledger import COPY, RECORD, RESENT, Message, Reading
from headwater_shared.ledger_writer import Ledger, Progress
from tests.support import until

T = 1_800_000_000_000_000


def _message(device: int, number: int, *values: float, flags: int = 0) -> Message:
    """A message with one reading a metric, at a time that its number tells."""
    readings = tuple(Reading(metric, T + number, value) for metric, value in enumerate(values))
    return Message(device, number, readings, flags=flags)


def _filled(path: Path) -> Ledger:
    """A ledger of one device with two metrics, and one message that is written but not acknowledged."""
    book = Ledger(path)
    book.begin({"seed": 7}, [{"kind": "spike", "begin_us": T, "end_us": T + 5}])
    assert book.device("north", "pump-1") == 0
    assert (book.metric("flow"), book.metric("pressure")) == (0, 1)
    book.sent(_message(0, 0, 1.5, 2.5))
    book.commit()
    return book


def test_a_ledger_says_what_was_sent_and_what_of_it_was_acknowledged(tmp_path: Path) -> None:
    """Readings come back as columns under their series' names; acknowledged is whoever's message was."""
    with _filled(tmp_path / "ledger") as book:
        book.sent(_message(0, 1, 3.5))
        book.acknowledged(0, 1)
    truth = ledger.read(tmp_path / "ledger")
    assert truth.series == ["north/pump-1/flow", "north/pump-1/pressure"]
    assert [truth.series[i] for i in truth.series_of] == [truth.series[0], truth.series[1], truth.series[0]]
    assert truth.time.tolist() == [T, T, T + 1]
    assert truth.value.tolist() == [1.5, 2.5, 3.5]
    assert truth.acknowledged.tolist() == [False, False, True]
    assert truth.run == {"seed": 7}
    assert truth.faults == [{"kind": "spike", "begin_us": T, "end_us": T + 5}]
    assert truth.open_messages == 1


def test_the_format_is_the_one_that_is_written_down(tmp_path: Path) -> None:
    """Version 1 is 32 bytes a record, little-endian, in the order of the module's docstring; other programs may read it."""
    with _filled(tmp_path / "ledger"):
        raw = (tmp_path / "ledger").read_bytes()
    assert raw[:12] == b"HWLEDGER" + struct.pack("<HH", 1, 32)
    assert raw[32:64] == struct.pack("<BBHIQqd", 1, 0, 0, 0, 0, T, 1.5)
    assert raw[64:96] == struct.pack("<BBHIQqd", 1, ledger.WRITE_END, 1, 0, 0, T, 2.5)
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [next(iter(line)) for line in lines] == ["run", "fault", "device", "metric", "metric"]


def test_a_ledger_of_version_1_can_be_read(tmp_path: Path) -> None:
    """A file of this version, byte by byte, stays readable for ever."""
    path = tmp_path / "ledger"
    path.write_bytes(
        struct.pack("<8sHHIq8s", b"HWLEDGER", 1, 32, 0, 0, b"")
        + struct.pack("<BBHIQqd", 1, 4, 0, 0, 0, NO_TIME, 20.5)
        + struct.pack("<BBHIQqd", 2, 4, 0xFFFF, 0, 1, crc32(b"{"), 1.0)
        + struct.pack("<BBHIQqd", 3, 4, 0, 0, 1, 0, 0.0)
        + struct.pack("<BBHIQqd", 4, 4, 0, 0, 0, 0, 0.0)
    )
    (tmp_path / "ledger.jsonl").write_text(
        '{"device": {"index": 0, "site": "s", "name": "d"}}\n{"metric": {"index": 0, "name": "m"}}\n'
        '{"unreadable": {"device": 0, "message": 1, "topic": "hw/s/d/data", "payload": "ew=="}}\n'
    )
    truth = ledger.read(path)
    assert (truth.series, truth.time.tolist(), truth.value.tolist()) == (["s/d/m"], [NO_TIME], [20.5])
    assert truth.acknowledged.tolist() == [False]
    assert truth.unreadable == [ledger.Unreadable(0, 1, "hw/s/d/data", crc32(b"{"), acknowledged=True)]
    assert truth.open_messages == 0


def test_reopened_it_gives_back_what_is_not_acknowledged(tmp_path: Path) -> None:
    """Unacknowledged messages come back whole, in order; given up and refused ones do not."""
    path = tmp_path / "ledger"
    junk = Message(1, 0, (), "hw/north/pump-2/data", b"\xff{")
    with _filled(path) as book:
        assert book.device("north", "pump-2") == 1
        for number in (1, 2, 3, 4):
            book.sent(_message(0, number, float(number)))
        book.sent(junk)
        book.acknowledged(0, 2)
        book.superseded(0, 3)
        book.refused(0, 4)
    with Ledger(path) as book:
        assert book.unacknowledged() == [_message(0, 0, 1.5, 2.5), _message(0, 1, 1.0), junk]
        assert book.run == {"seed": 7}
        assert (book.device("north", "pump-2"), book.metric("pressure"), book.metric("new")) == (1, 1, 2)


def test_progress_counts_a_device_s_own_messages_apart_from_those_resent(tmp_path: Path) -> None:
    """A device goes on behind its last own message, while its numbers go on behind all of them."""
    with _filled(tmp_path / "ledger") as book:
        book.sent(_message(0, 1, 1.5, 2.5, flags=COPY | RESENT))
        book.sent(_message(0, 2, 9.5))
        book.commit()
        assert book.progress() == {0: Progress(next_message=3, own=2)}


@pytest.mark.parametrize("cut", [1, 31, 32, 33, 63])
def test_a_torn_write_is_cut_off_whole(tmp_path: Path, cut: int) -> None:
    """Of a write that a kill tore, no record is left, however many of them were complete: none of it was sent."""
    path = tmp_path / "ledger"
    _filled(path).close()
    whole = path.stat().st_size
    with Ledger(path) as book:
        book.sent(_message(0, 1, 3.5, 4.5))
    os.truncate(path, whole + cut)
    assert len(ledger.read(path).value) == 2
    with Ledger(path) as book:
        assert path.stat().st_size == whole
        book.sent(_message(0, 1, 5.5))
    assert ledger.read(path).value.tolist() == [1.5, 2.5, 5.5]


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    """A name that a kill tore is given anew; no record can refer to it."""
    path = tmp_path / "ledger"
    _filled(path).close()
    with (tmp_path / "ledger.jsonl").open("a") as lines:
        lines.write('{"device": {"index": 1, "si')
    assert ledger.read(path).devices == [("north", "pump-1")]
    with Ledger(path) as book:
        assert book.device("south", "pump-9") == 1
    assert ledger.read(path).devices == [("north", "pump-1"), ("south", "pump-9")]


def test_a_kill_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """After kill -9 the ledger holds each message whose commit had returned before the process said so."""
    path = tmp_path / "ledger"
    program = (
        "import sys, itertools, pathlib\n"
        "from headwater_shared.ledger import Message, Reading\n"
        "from headwater_shared.ledger_writer import Ledger\n"
        "book = Ledger(pathlib.Path(sys.argv[1]))\n"
        "book.device('s', 'd'), book.metric('m')\n"
        "for n in itertools.count():\n"
        "    book.sent(Message(0, n, (Reading(0, n, 1.0), Reading(0, n + 1_000_000, 1.0))))\n"
        "    book.commit()\n"
        "    print(n, flush=True)\n"
    )
    said = tmp_path / "said"
    with said.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=out)
    try:
        until(lambda: said.read_bytes().count(b"\n") > 500, what="500 commits")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    last = int(said.read_bytes().rsplit(b"\n", 2)[-2])
    with Ledger(path) as book:
        numbers = [message.number for message in book.unacknowledged()]
        assert numbers in (list(range(last + 1)), list(range(last + 2)))
        assert all(len(message.readings) == 2 for message in book.unacknowledged())


def test_only_one_fleet_writes_a_ledger(tmp_path: Path) -> None:
    """A second one is told so, and changes nothing."""
    book = _filled(tmp_path / "ledger")
    with pytest.raises(StateInUse, match="another fleet"):
        Ledger(tmp_path / "ledger")
    book.close()
    Ledger(tmp_path / "ledger").close()


@pytest.mark.parametrize("content", [b"short", b"something else, which is longer than one record of ours"])
def test_another_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """A path that holds something else is refused, to write and to read, and stays as it was."""
    path = tmp_path / "ledger"
    path.write_bytes(content)
    with pytest.raises(StateError, match="no ledger"):
        Ledger(path)
    with pytest.raises(StateError, match="no ledger"):
        ledger.read(path)
    assert path.read_bytes() == content


def test_a_newer_ledger_is_left_alone(tmp_path: Path) -> None:
    """A ledger of a version to come is refused, with the hint to use that version."""
    path = tmp_path / "ledger"
    content = struct.pack("<8sHHIq8s", b"HWLEDGER", 2, 40, 0, 0, b"") + bytes(100)
    path.write_bytes(content)
    for look in (Ledger, ledger.read):
        with pytest.raises(StateNewer, match="version 2") as refused:
            look(path)
        assert refused.value.hint
    assert path.read_bytes() == content


def test_a_ledger_that_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    """Reading a path without a file names it."""
    with pytest.raises(StateError, match="No such file"):
        ledger.read(tmp_path / "none")


def test_a_ledger_without_its_lines_is_an_error_that_says_so(tmp_path: Path) -> None:
    """Records alone say nothing: the names are in the other file."""
    _filled(tmp_path / "ledger").close()
    (tmp_path / "ledger.jsonl").unlink()
    with pytest.raises(StateError, match="lacks devices"):
        ledger.read(tmp_path / "ledger")


def test_payloads_that_nobody_can_read_are_kept_byte_by_byte(tmp_path: Path) -> None:
    """The dead letter that must come of one is known by topic and crc32 of the payload, an empty one too."""
    payloads = [b"", b"\xff\xfe", bytes(range(256))]
    with _filled(tmp_path / "ledger") as book:
        for number, payload in enumerate(payloads, 1):
            book.sent(Message(0, number, (), "hw/north/pump-1/data", payload))
        book.acknowledged(0, 2)
    truth = ledger.read(tmp_path / "ledger")
    assert [(u.message, u.crc, u.acknowledged) for u in truth.unreadable] == [
        (1, crc32(b""), False),
        (2, crc32(payloads[1]), True),
        (3, crc32(payloads[2]), False),
    ]
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    kept = [base64.b64decode(line["unreadable"]["payload"]) for line in lines if "unreadable" in line]
    assert kept == payloads


def test_an_empty_ledger_is_readable(tmp_path: Path) -> None:
    """A fleet that was ended before it sent anything leaves a ledger that says nothing."""
    Ledger(tmp_path / "ledger").close()
    truth = ledger.read(tmp_path / "ledger")
    assert (truth.series, len(truth.time), truth.unreadable, truth.open_messages) == ([], 0, [], 0)
    assert np.dtype(RECORD).itemsize == 32

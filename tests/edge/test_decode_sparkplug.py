"""Sparkplug B: births, aliases, data types, flags, deaths, sequence gaps, requests for births; and births over a restart."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from headwater_edge import health, sparkplug_nodes
from headwater_edge.decode import Decode
from headwater_edge.decoded import Decoded
from headwater_edge.source import REPLAY
from headwater_edge.sparkplug_nodes import ASK_AGAIN_US
from headwater_edge.sparkplug_schema import messages
from tests.edge.decoding import ARRIVED, Message, Taken, burst_of, decode_with, decoded_by, taken
from tests.edge.running import FILE, Publish, as_after_a_kill, running

MS = ARRIVED // 1000
DOUBLE, FLOAT, BOOLEAN, STRING, DATETIME, DATASET, TEMPLATE = 10, 9, 11, 12, 13, 16, 19


def payload(*metrics: dict[str, Any], seq: int | None = None, timestamp: int | None = MS) -> bytes:
    """Write a payload."""
    made = messages().Payload()
    if seq is not None:
        made.seq = seq
    if timestamp is not None:
        made.timestamp = timestamp
    for metric in metrics:
        made.metrics.add(**metric | ({"name": metric["name"].encode()} if "name" in metric else {}))
    return made.SerializeToString()  # type: ignore[no-any-return]


def message(
    kind: str, *metrics: dict[str, Any], seq: int | None = None, node: str = "n1", device: str = ""
) -> Message:
    """Write a message of a node, or of a device of it."""
    topic = f"spBv1.0/g1/{kind}/{node}" + (f"/{device}" if device else "")
    return topic.encode(), payload(*metrics, seq=seq)


TEMP = {"name": "Inlet/Temperature", "alias": 7, "datatype": DOUBLE, "double_value": 20.5}
PUMP = {"name": "pump", "alias": 8, "datatype": BOOLEAN, "boolean_value": True}
BD_SEQ = {"name": "bdSeq", "datatype": 8, "long_value": 3}
REBIRTH = {"name": "Node Control/Rebirth", "datatype": BOOLEAN, "boolean_value": False}
BIRTH = message("NBIRTH", BD_SEQ, REBIRTH, TEMP, PUMP, seq=0)
N1 = "g1/n1"


def born(*more: Message) -> Decode:
    decode = decode_with()
    for birth in (BIRTH, *more):
        assert decoded_by(decode, birth)[0].dead == []
    return decode


def test_a_birth_names_metrics_and_brings_their_values() -> None:
    """Names with levels become dots; bdSeq and the controls are no readings; the site is the group."""
    assert decoded_by(decode_with(), BIRTH) == [
        Taken([(f"{N1}/Inlet.Temperature", ARRIVED, 20.5), (f"{N1}/pump", ARRIVED, 1.0)], [])
    ]


def test_data_means_metrics_by_alias_or_by_name() -> None:
    """Values of a metric's own time, or of the payload's, or of none; a birth and its data may be in one burst."""
    data = message(
        "NDATA",
        {"alias": 7, "double_value": 21.0, "timestamp": MS - 1000},
        {"alias": 8, "boolean_value": False},
        {"name": "pump", "boolean_value": True},
        seq=1,
    )
    untimed = (data[0], payload({"alias": 7, "double_value": 0.0}, timestamp=None))
    assert decoded_by(decode_with(), BIRTH, data, untimed)[1:] == [
        Taken([(f"{N1}/Inlet.Temperature", ARRIVED - 1_000_000, 21.0), (f"{N1}/pump", ARRIVED, 0.0), (f"{N1}/pump", ARRIVED, 1.0)], []),
        Taken([(f"{N1}/Inlet.Temperature", None, 0.0)], []),
    ]  # fmt: skip


def test_devices_have_aliases_of_their_own_and_are_born_after_their_node() -> None:
    """The device is node:device; a new birth of the node ends what was known of its devices."""
    device = message(
        "DBIRTH", {"name": "level", "alias": 7, "datatype": FLOAT, "float_value": 1.5}, device="d1", seq=1
    )
    data = message("DDATA", {"alias": 7, "float_value": 2.5}, device="d1", seq=2)
    decode = born(device)
    assert decoded_by(decode, data) == [Taken([("g1/n1:d1/level", ARRIVED, 2.5)], [])]
    assert decoded_by(decode, BIRTH, data)[1].dead == ["unknown-alias"]
    assert decoded_by(decode, device, data)[1].dead == []


INTEGERS = {
    "Int8 in 8 bits": (1, "int_value", 0xFF, -1.0),
    "Int8 in 32 bits": (1, "int_value", 0xFFFF_FF80, -128.0),
    "Int16": (2, "int_value", 0x8000, -32768.0),
    "Int32": (3, "int_value", 0xFFFF_FFFE, -2.0),
    "Int32 in a long": (3, "long_value", 2**64 - 2, -2.0),
    "Int64": (4, "long_value", 2**64 - 5, -5.0),
    "UInt8": (5, "int_value", 0xFF, 255.0),
    "UInt16": (6, "int_value", 0xFFFF, 65535.0),
    "UInt32": (7, "int_value", 2**32 - 1, 4294967295.0),
    "UInt32 in a long": (7, "long_value", 2**32 - 1, 4294967295.0),
    "UInt64": (8, "long_value", 2**64 - 1, 2.0**64),
    "a positive Int16": (2, "int_value", 5, 5.0),
    "zero": (3, "int_value", 0, 0.0),
}


@pytest.mark.parametrize(("datatype", "field", "bits", "wanted"), INTEGERS.values(), ids=INTEGERS)
@pytest.mark.parametrize("said_again", [False, True])
def test_integers_are_signed_by_the_data_type_of_their_birth(
    datatype: int, field: str, bits: int, wanted: float, said_again: bool
) -> None:
    """Two's complement in whatever width the sender took; data may leave the type out."""
    decode = decode_with()
    decoded_by(
        decode, message("NBIRTH", {"name": "x", "alias": 0, "datatype": datatype, "is_null": True}, seq=0)
    )
    metric = {"alias": 0, field: bits} | ({"datatype": datatype} if said_again else {})
    assert decoded_by(decode, message("NDATA", metric)) == [Taken([(f"{N1}/x", ARRIVED, wanted)], [])]


def test_what_is_no_reading_is_skipped_and_counted() -> None:
    """Null, text, dates, bytes, data sets and templates, transient metrics, controls."""
    metrics = [
        {"name": "a", "datatype": DOUBLE, "is_null": True},
        {"name": "b", "datatype": STRING, "string_value": b"x"},
        {"name": "c", "datatype": DATETIME, "long_value": MS},
        {"name": "d", "datatype": DATASET, "dataset_value": b""},
        {"name": "e", "datatype": TEMPLATE, "template_value": b""},
        {"name": "f", "datatype": DOUBLE, "double_value": 1.0, "is_transient": True},
        {"name": "g", "datatype": DOUBLE, "double_value": 1.0, "is_null": True},
        REBIRTH,
    ]
    decode = decode_with()
    good = {"name": "h", "datatype": DOUBLE, "double_value": 1.0, "is_historical": True, "timestamp": 5000}
    found = decode.burst(burst_of(message("NBIRTH", *metrics, good, seq=0)))
    assert taken(found, decode.index, 1) == [Taken([(f"{N1}/h", 5_000_000, 1.0)], [])]
    assert found.skipped == len(metrics)
    assert decode.skipped == len(metrics)


def test_commands_and_states_of_others_are_no_dead_letters() -> None:
    """A broker's subscriber sees them too."""
    decode = decode_with()
    topics = (b"spBv1.0/g1/NCMD/n1", b"spBv1.0/g1/DCMD/n1/d1", b"spBv1.0/STATE/scada")
    found = decode.burst(burst_of(*((topic, b"{}") for topic in topics)))
    assert (list(found.readings), found.dead, found.skipped) == ([0, 0, 0], [], 3)
    for topic in (b"spBv1.0/g1/NDATA/n1/d1", b"spBv1.0/g1/DDATA/n1", b"spBv1.0/g1/XDATA/n1", b"spBv1.0/g1"):
        assert decoded_by(decode, (topic, payload())) == [Taken([], ["bad-topic"])]


def test_an_unknown_alias_is_a_dead_letter_and_asks_for_a_birth() -> None:
    """What is known of the message counts, the letter names what is not; a node is asked once in half a minute."""
    decode = born()
    data = message("NDATA", {"alias": 7, "double_value": 1.0}, {"alias": 9, "double_value": 2.0})
    other = message("NDATA", {"alias": 9, "double_value": 2.0}, node="n2")

    def ask(at_us: int, *sent: Message) -> Decoded:
        return decode.burst(burst_of(*sent, arrived_us=at_us))

    found = ask(ARRIVED, data, data, other)
    assert taken(found, decode.index, 3) == [
        Taken([(f"{N1}/Inlet.Temperature", ARRIVED, 1.0)], ["unknown-alias"])
    ] * 2 + [Taken([], ["unknown-alias"])]
    assert [letter.detail for letter in found.dead] == ["alias 9: no birth has named it"] * 3
    assert [topic for topic, _ in found.asks] == [b"spBv1.0/g1/NCMD/n1", b"spBv1.0/g1/NCMD/n2"]
    request = messages().Payload.FromString(found.asks[0][1])
    assert [(m.name, m.datatype, m.boolean_value) for m in request.metrics] == [
        (b"Node Control/Rebirth", BOOLEAN, True)
    ]
    assert request.timestamp == MS
    assert ask(ARRIVED + ASK_AGAIN_US - 1, data).asks == []
    assert [topic for topic, _ in ask(ARRIVED + ASK_AGAIN_US, data).asks] == [b"spBv1.0/g1/NCMD/n1"]
    assert len(ask(ARRIVED - 5, data).asks) == 1, "a clock that was set back does not silence it"


def test_a_replayed_message_changes_no_session() -> None:
    """A dead letter that is taken again counts its readings; what it says of births, deaths and sequence is of another time."""
    decode = born()
    decoded_by(decode, message("NDATA", seq=1))
    old = message("NBIRTH", {"name": "old", "alias": 7, "datatype": DOUBLE, "double_value": 5.0}, seq=0)
    death, data = (
        message("NDEATH", BD_SEQ),
        message("NDATA", {"alias": 7, "double_value": 1.0}, {"alias": 9}, seq=99),
    )
    again = burst_of(old, death, data)
    again.flags = [REPLAY] * 3
    found = decode.burst(again)
    assert taken(found, decode.index, 3) == [
        Taken([(f"{N1}/old", ARRIVED, 5.0)], []),
        Taken([], []),
        Taken([(f"{N1}/Inlet.Temperature", ARRIVED, 1.0)], ["unknown-alias"]),
    ]
    assert (found.births, found.asks, decode.formats.sparkplug.gaps) == ([], [], {})
    names = [decode.metric(data[0], what) for what in ("alias 7", "alias 9", "pump")]
    assert names == ["Inlet.Temperature", "alias 9", "pump"]


def test_an_integer_without_any_data_type_cannot_be_told() -> None:
    """By name and without a birth: a double counts, an integer may be negative and waits for its birth."""
    decode = decode_with()
    unborn = message("NDATA", {"name": "a", "double_value": 1.0}, {"name": "b", "int_value": 1})
    assert decoded_by(decode, unborn) == [Taken([(f"{N1}/a", ARRIVED, 1.0)], ["unknown-alias"])]


def test_deaths_end_aliases() -> None:
    """A node's death of the session that was born; an older one's changes nothing; a device's is its own."""
    device = message(
        "DBIRTH", {"name": "level", "alias": 7, "datatype": FLOAT, "float_value": 1.5}, device="d1", seq=1
    )
    ddata = message("DDATA", {"alias": 7, "float_value": 2.5}, device="d1")
    ndata = message("NDATA", {"alias": 7, "double_value": 2.5})
    old = message("NDEATH", BD_SEQ | {"long_value": 2})
    decode = born(device)
    assert [one.dead for one in decoded_by(decode, old, ndata, ddata)] == [[], [], []]
    gone = message("DDEATH", device="d1")
    assert [one.dead for one in decoded_by(decode, gone, ndata, ddata)] == [[], [], ["unknown-alias"]]
    found = decode.burst(burst_of(device, message("NDEATH", BD_SEQ), ndata, ddata))
    assert [letter.message for letter in found.dead] == [2, 3]
    assert found.births == [
        (b"spBv1.0/g1/DBIRTH/n1/d1", device[1]), (b"spBv1.0/g1/DBIRTH/n1/d1", None), (b"spBv1.0/g1/NBIRTH/n1", None),
    ]  # fmt: skip


def test_gaps_in_a_nodes_sequence_are_counted() -> None:
    """Sequence numbers go round at 256, over a node and its devices together; a repeat is none, a birth begins anew."""
    decode = born()
    for seq, missing in ((1, 0), (1, 0), (2, 0), (5, 2), (255, 251), (0, 251), (3, 253)):
        decoded_by(decode, message("NDATA", seq=seq))
        assert decode.formats.sparkplug.gaps.get(N1, 0) == missing
    decoded_by(decode, message("DDATA", device="d1", seq=5))
    decoded_by(decode, BIRTH, message("NDATA", seq=1))
    assert decode.formats.sparkplug.gaps == {N1: 254}


def test_a_payload_that_is_none_is_a_dead_letter() -> None:
    """Cut, no protobuf, a name that is no UTF-8, a time beyond all clocks, NaN; those beside it count."""
    decode = born()
    topic = b"spBv1.0/g1/NDATA/n1"
    good = message("NDATA", {"alias": 7, "double_value": 1.5})
    bad = [
        (topic, good[1][:-1]), (topic, b"\xff"), (topic, b"\x12\x03\x0a\x01\xff"),
        message("NDATA", {"alias": 7, "double_value": 1.0, "timestamp": 2**63}),
        message("NDATA", {"alias": 7, "double_value": float("nan")}),
    ]  # fmt: skip
    found = decoded_by(decode, *bad, good)
    assert [one.dead for one in found] == [["unreadable"]] * 3 + [["not-taken"]] * 2 + [[]]
    assert [len(one.readings) for one in found] == [0, 0, 0, 0, 0, 1]


def test_nodes_and_devices_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of names cannot fill the memory; those that are known go on."""
    monkeypatch.setattr("headwater_edge.sparkplug.MOST", 2)
    decode = decode_with()
    metric = {"name": "x", "datatype": DOUBLE, "double_value": 1.0}
    kinds = [message("NBIRTH", metric, node=node) for node in ("n1", "n2", "n3", "n1")]
    assert [one.dead for one in decoded_by(decode, *kinds)] == [[], [], ["too-many-devices"], []]
    assert sparkplug_nodes.MOST > 1000


def births(folder: Path) -> list[tuple[bytes, bytes]]:
    file = sqlite3.connect(folder / FILE)
    found = file.execute("SELECT topic, payload FROM birth ORDER BY topic").fetchall()
    file.close()
    return found


def test_births_survive_a_restart_and_a_kill(tmp_path: Path) -> None:
    """They are in the file with the tick that took them in; data counts after a start without another birth."""
    device = message(
        "DBIRTH", {"name": "level", "alias": 7, "datatype": FLOAT, "float_value": 1.5}, device="d1", seq=1
    )
    ndata, ddata = (
        message("NDATA", {"alias": 7, "double_value": 2.5}),
        message("DDATA", {"alias": 7, "float_value": 3.5}, device="d1"),
    )

    def publish(*sent: Message) -> list[Publish]:
        return [Publish(topic.decode(), body, at) for at, (topic, body) in enumerate(sent, 1)]

    async def test() -> None:
        folder = tmp_path / "edge"
        folder.mkdir()
        async with running(folder) as box:
            await box.connect(1, "n1")
            await box.publish(*publish(BIRTH, device))
            copy = as_after_a_kill(folder, tmp_path / "killed")
        for place in (folder, copy):
            async with running(place) as box:
                assert births(place) == [
                    (b"spBv1.0/g1/DBIRTH/n1/d1", device[1]),
                    (b"spBv1.0/g1/NBIRTH/n1", BIRTH[1]),
                ]
                before = box.agent.state.counters.accepted
                await box.publish(*publish(ndata, ddata))
                assert box.agent.state.counters.accepted == before + 2
                assert box.source.published == []
                await box.publish(*publish(message("NDEATH", BD_SEQ), ndata))
                assert births(place) == []
                assert [topic for topic, _ in box.source.published] == [b"spBv1.0/g1/NCMD/n1"]
                assert health.status(box.agent)["sequence_gaps"] == 0
            async with running(place) as box:
                before = box.agent.state.counters.accepted
                await box.publish(*publish(ndata))
                assert box.agent.state.counters.accepted == before

    asyncio.run(test())


def test_a_birth_that_cannot_be_read_again_stops_no_start() -> None:
    """Another is asked for by the first data."""
    decode = decode_with()
    decode.learn(
        [(b"spBv1.0/g1/NBIRTH/n1", b"\xff"), BIRTH, (b"spBv1.0/g1/NBIRTH/n2", b"\x12\x03\x0a\x01\xff")]
    )
    assert decoded_by(decode, message("NDATA", {"alias": 7, "double_value": 2.5}))[0].dead == []
    assert decoded_by(decode, message("NDATA", {"alias": 7, "double_value": 2.5}, node="n2"))[0].dead == [
        "unknown-alias"
    ]


def test_the_schema_is_the_one_on_the_wire() -> None:
    """Bytes written down by hand from the specification's field numbers, and fields that we do not declare."""
    by_hand = bytes.fromhex(
        "08e807"  # 1, timestamp: 1000
        "1213"  # 2, a metric of 19 bytes
        "0a0154"  # 1, name: T
        "1007"  # 2, alias: 7
        "18d00f"  # 3, timestamp: 2000
        "200a"  # 4, datatype: Double
        "690000000000003440"  # 13, double_value: 20.0
        "1805"  # 3, seq: 5
        "220161"  # 4, uuid: a
    )
    read = messages().Payload.FromString(by_hand)
    (metric,) = read.metrics
    assert (read.timestamp, read.seq) == (1000, 5)
    assert (metric.name, metric.alias, metric.timestamp, metric.datatype, metric.double_value) == (
        b"T",
        7,
        2000,
        10,
        20.0,
    )


def test_births_and_deaths_are_said_of_devices() -> None:
    """A node's death is its devices' too; that of an older session is nobody's."""
    decode = decode_with()
    born = decode.burst(burst_of(message("NBIRTH", BD_SEQ), message("DBIRTH", device="d1")))
    names = {one.device for _, one in born.said}
    assert len(names) == 2
    assert all(one.online for _, one in born.said)
    older = decode.burst(burst_of(message("NDEATH", BD_SEQ | {"long_value": 99})))
    assert older.said == []
    gone = decode.burst(burst_of(message("NDEATH", BD_SEQ)))
    assert {(at, one.device, one.online) for at, one in gone.said} == {(0, name, False) for name in names}

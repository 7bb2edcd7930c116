"""Schemas never change: their fingerprints are written down here, and computed by the specification alone."""

from __future__ import annotations

import json
from hashlib import blake2b
from importlib import resources
from itertools import product
from typing import Any

import pytest

from headwater_cloud import rule_records
from headwater_shared import avro, frame, peers, records
from headwater_shared.avro import UnknownVersion
from tests.fixtures import FIXTURES
from tests.fixtures.contents import BOOKS, FINDINGS, FRAMES, NOTED, PEERS, RECORDS
from tests.shared import avro_plain

FINGERPRINTS = {
    "action-1": "9940c4a3d92166e9",
    "agent-status-1": "59c241ff9f626831",
    "alert-1": "5033df148f895c0d",
    "alert-2": "f0e91d692f210de0",
    "anomaly-1": "2756c7efa62fc900",
    "anomaly-2": "49288c44697d5cd5",
    "clock-1": "1066cbd6a1c544ec",
    "command-1": "bb1fa3bbc0160e89",
    "device-1": "edb11de0e8bb092e",
    "evidence-1": "fa07360e9b00e8ae",
    "finding-1": "86319d8673a2ecf2",
    "frame-1": "bff8ca9bd1977b54",
    "have-1": "bc46230ff1160dfd",
    "heartbeat-1": "5213d262a2f4b04c",
    "order-1": "e31766b7f4be4a01",
    "peers-1": "8226e117930c1f08",
    "registry-1": "93bc240e34ad4850",
    "registry-2": "75eff2c93aafe332",
    "rules-1": "b79a136070f8bfac",
}
"""Frozen: to change a schema is to make the file of another version beside it, and to add it here."""

CONTENTS = {
    "action-1": "88ad8ea890649c27",
    "agent-status-1": "75a4c3d3891fa035",
    "alert-1": "1e02853031d944b1",
    "alert-2": "fe46adc31e36b0e6",
    "anomaly-1": "13ce9970a24ab375",
    "anomaly-2": "9c9e5f5afb108944",
    "clock-1": "415a656223d81c7c",
    "command-1": "7361f1f67546a112",
    "device-1": "756d2dc1e6e3978f",
    "evidence-1": "fee74e3efa3d3cff",
    "finding-1": "8c921689e144d2c6",
    "frame-1": "378ab94e7c756dc0",
    "have-1": "82eb91e439780f93",
    "heartbeat-1": "6aa154a48a298b49",
    "order-1": "88ecf97f952d4909",
    "peers-1": "a4d5630b6fb273bb",
    "registry-1": "062d885fcaf8d4a0",
    "registry-2": "8d858571b254019a",
    "rules-1": "bcee1c7dd8eea241",
}
"""Frozen, too: what the whole file says, however it is laid out."""

FILES = [*FRAMES, *PEERS, *FINDINGS, *BOOKS, *NOTED, *RECORDS]

SCHEMAS = sorted(
    path.name.removesuffix(".avsc")
    for path in (resources.files("headwater_shared") / "schemas").iterdir()
    if path.name.endswith(".avsc")
)


def test_every_schema_is_frozen() -> None:
    """Those that there are, and no other, have their fingerprint here, and a file in tests/fixtures/ that reads."""
    assert set(FINGERPRINTS) == set(SCHEMAS)
    assert {name.removesuffix(".avro") for name in FILES} >= set(SCHEMAS)
    for name in FILES:
        assert (FIXTURES / name).exists()


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_frozen_schema_is_not_touched(name: str) -> None:
    """Nothing in its file changes, also not what the fingerprint leaves out: a default or an alias makes readers read otherwise."""
    parsed = json.dumps(json.loads(avro.schema_text(name)), sort_keys=True)
    assert blake2b(parsed.encode(), digest_size=8).hexdigest() == CONTENTS[name], (
        f"{name}.avsc was changed: make the file of another version beside it"
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_fingerprints_do_not_change(name: str) -> None:
    """They are the CRC-64-AVRO of the canonical form, little-endian, and those that were written down."""
    plain = avro_plain.crc64(avro_plain.canonical(json.loads(avro.schema_text(name))).encode())
    assert plain.hex() == FINGERPRINTS[name]
    assert avro.fingerprint(name).hex() == FINGERPRINTS[name]


def test_every_schema_can_be_read() -> None:
    """Each is one that a kind of record is read from; the newest of its kind is the one that is written."""
    known = {name for names in records._KINDS.values() for name in names} | {
        frame.SCHEMA,
        peers.PEERS_SCHEMA,
        peers.FINDING_SCHEMA,
        rule_records.RULES_SCHEMA,
        rule_records.EVIDENCE_SCHEMA,
    }
    assert known == set(SCHEMAS)
    for names in records._KINDS.values():
        versions = [int(name.rpartition("-")[2]) for name in names]
        assert versions == sorted(versions, reverse=True)


def test_each_version_is_read_under_every_other_one() -> None:
    """By Avro's rules of resolution: whoever knows only one version, older or newer, understands the record when given its schema."""
    from fastavro import parse_schema, schemaless_reader

    kinds: dict[str, list[str]] = {}
    for name in sorted(SCHEMAS, key=lambda name: int(name.rpartition("-")[2])):
        kinds.setdefault(name.rpartition("-")[0], []).append(name)
    for names in kinds.values():
        for written, read in product(names, names):
            with (FIXTURES / f"{written}.avro").open("rb") as file:
                assert file.read(10) == avro.MARKER + avro.fingerprint(written)
                schemas: list[Any] = [parse_schema(json.loads(avro.schema_text(n))) for n in (written, read)]
                found: Any = schemaless_reader(file, *schemas)
            assert found.keys() == {field["name"] for field in schemas[1]["fields"]}


@pytest.mark.parametrize("body", [b"", b"\xc3", b"\x00\x01" + bytes(8), b"{}"])
def test_what_is_no_single_object_is_refused(body: bytes) -> None:
    """A ValueError that is no `UnknownVersion`: no newer version wrote it."""
    with pytest.raises(ValueError, match="marker") as refused:
        avro.decode(("clock-1",), body)
    assert not isinstance(refused.value, UnknownVersion)


@pytest.mark.parametrize("body", [b"\xc3\x01", b"\xc3\x01" + bytes(8) + b"whatever"])
def test_an_unknown_fingerprint_is_an_unknown_version(body: bytes) -> None:
    """The error shows the fingerprint and names what is known."""
    with pytest.raises(UnknownVersion, match=f"{body[2:10].hex()}.*clock-1, have-1"):
        avro.decode(("clock-1", "have-1"), body)


def test_bytes_behind_a_record_are_damage() -> None:
    """A record is the whole body: what follows it was not written by us."""
    body = (FIXTURES / "clock-1.avro").read_bytes()
    assert avro.decode(("clock-1",), body)[1] == {"shard": 7, "time_us": 1_800_000_000_000_000}
    with pytest.raises(ValueError, match="1 bytes too many"):
        avro.decode(("clock-1",), body + b"\x00")

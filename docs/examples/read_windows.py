"""Headwater's windows from Kafka, with confluent-kafka and fastavro alone.

python read_windows.py SERVERS TOPIC SCHEMAS, such as: localhost:9092 hw-in shared/headwater_shared/schemas
"""

from __future__ import annotations

import json
import sys
from io import BytesIO
from pathlib import Path

import fastavro
from confluent_kafka import Consumer
from fastavro.schema import fingerprint, to_parsing_canonical_form

servers, topic, folder = sys.argv[1:]
schemas = {}  # by fingerprint: bytes 2 to 10 of each record say under which it was written
for file in Path(folder).glob("*.avsc"):
    schema = json.loads(file.read_text())
    name = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    schemas[bytes.fromhex(name)] = fastavro.parse_schema(schema)

consumer = Consumer(
    {
        "bootstrap.servers": servers,
        "group.id": "read-windows",
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
    }
)
consumer.subscribe([topic])
while True:
    message = consumer.poll(1.0)
    if (
        message is None
        or message.error()
        or dict(message.headers() or ()).get("ce_type") != b"io.headwater.frame"
    ):
        continue
    body = message.value()
    frame = fastavro.schemaless_reader(BytesIO(body[10:]), schemas[body[2:10]], None)
    for row in range(len(frame["mean"])):  # whole numbers are eight bytes, the lowest first
        series, level, start, epoch, tick, revision, count = (
            int.from_bytes(frame[column][row], "little", signed=True)
            for column in ("series", "level", "start", "opened_epoch", "opened_tick", "revision", "count")
        )
        part = f"{frame['agent']}/{frame['epochs'][epoch].hex()}/{tick}"
        told = (
            frame["names"][series],
            frame["levels"][level],
            start,
            part,
            revision,
            count,
            frame["mean"][row],
        )
        print(*told, sep="\t", flush=True)

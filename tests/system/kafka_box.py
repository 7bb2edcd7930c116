"""A box whose bus is a real Kafka, and a device that is commanded by a local rule."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from headwater_shared.ledger import Message, Reading
from headwater_shared.ledger_writer import Ledger
from tests.kafka import MadeTopics
from tests.system.box import Box, box

_EDGE = """bus = "{bus}"
[[edge.limit]]
name = "stove-hot"
series = "home/*/temperature"
above = 80.0
clear = 70.0
[[edge.act]]
name = "cool-down"
rule = "stove-hot"
command = {{ name = "shut" }}
{tables}
"""


@contextmanager
def kafka_box(folder: Path, topics: MadeTopics, tables: str = "", kafka: str = "") -> Iterator[Box]:
    """A box on the topics; `tables` are more of the agent's, `kafka` keys of [kafka]."""
    bus = topics.server.address
    with box(folder, edge=_EDGE.format(bus=bus, tables=tables)) as here:
        text = here.settings.read_text().replace("[cloud]\n", f'[cloud]\nbus = "{bus}"\n')
        here.settings.write_text(f'{text}[kafka]\nprefix = "{topics.prefix}"\n{kafka}\n')
        yield here


class Commanded(NamedTuple):
    """A device that said that it is hot, when by its clock (us), and how long its command took, seconds."""

    device: str
    time_us: int
    took_s: float


def commanded(here: Box, device: str) -> Commanded:
    """Let a device say that it is hot, and wait for its command."""
    heard: queue.Queue[dict[str, Any]] = queue.Queue()
    ready: queue.Queue[int] = queue.Queue()
    client = Client(CallbackAPIVersion.VERSION2, device)

    def on_message(_: Client, __: object, message: MQTTMessage) -> None:
        heard.put(json.loads(message.payload))

    client.on_message = on_message
    client.on_subscribe = lambda *_: ready.put(1)
    client.connect("127.0.0.1", here.port)
    client.loop_start()
    try:
        client.subscribe(f"hw/home/{device}/cmd", 1)
        ready.get(timeout=10)
        now = time.time_ns() // 1000
        began = time.monotonic()
        sent = client.publish(f"hw/home/{device}/data/temperature", b'{"t":%d,"v":99.0}' % now, 1)
        sent.wait_for_publish(10)
        assert heard.get(timeout=10)["name"] == "shut"
        took = time.monotonic() - began
    finally:
        client.disconnect()
        client.loop_stop()
    return Commanded(device, now, took)


def note(ledger: Path, devices: Sequence[Commanded]) -> None:
    """Put what the devices sent, which was acknowledged, into the ledger of a fleet that has ended."""
    book = Ledger(ledger)
    metric = book.metric("temperature")
    for one in devices:
        number = book.device("home", one.device)
        book.sent(Message(number, 0, (Reading(metric, one.time_us, 99.0),)))
        book.acknowledged(number, 0)
    book.commit()
    book.close()

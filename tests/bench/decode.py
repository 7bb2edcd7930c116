"""`decode-*`: payloads to columns, us of CPU a reading, in bursts of 1,000 readings and one by one, in this process.

The baseline beside each is what a plain program does with the same messages: parse one, loop over it, put each reading into
a dict of lists by name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headwater_edge.decode import Decode, decoder
from headwater_edge.format_settings import FormatSettings
from headwater_edge.settings import EdgeSettings
from headwater_edge.source import Burst
from headwater_edge.sparkplug_schema import DOUBLE, messages
from headwater_edge.topics import SeriesIndex
from tests.bench.results import Result

_READINGS = 1000
_SECOND = 1_795_000_000
_ROUNDS = 200

Message = tuple[bytes, bytes]


def _json_singles(each: int) -> Iterator[Message]:
    for at in range(_READINGS):
        yield b"hw/s1/d%d/data/temp" % at, b'{"t":%d,"v":%r}' % (_SECOND * 1_000_000 + at, 20.5 + at / 100)


def _senml(each: int) -> Iterator[Message]:
    for at in range(_READINGS // each):
        pack: list[dict[str, Any]] = [
            {"bn": f"urn:dev:ow:10e2073a{at:08d}:", "bt": _SECOND + at, "n": "m0", "u": "V", "v": 120.1}
        ]
        pack += [{"n": f"m{n}", "t": -n, "v": 1.2 + n} for n in range(1, each)]
        yield b"hw/s1/d%d/senml" % at, json.dumps(pack).encode()


def _births(each: int) -> Iterator[Message]:
    for at in range(_READINGS // each):
        birth = messages().Payload(timestamp=_SECOND * 1000, seq=0)
        for n in range(each):
            birth.metrics.add(name=b"m%d" % n, alias=n + 1, datatype=DOUBLE, double_value=1.5)
        yield b"spBv1.0/g1/NBIRTH/n%d" % at, birth.SerializeToString()


def _sparkplug(each: int) -> Iterator[Message]:
    for at in range(_READINGS // each):
        data = messages().Payload(timestamp=_SECOND * 1000 + at, seq=1)
        for n in range(each):
            data.metrics.add(alias=n + 1, timestamp=_SECOND * 1000 + at, double_value=20.5 + n)
        yield b"spBv1.0/g1/NDATA/n%d" % at, data.SerializeToString()


def _zigbee(each: int) -> Iterator[Message]:
    names = ("temperature", "humidity", "pressure", "linkquality", "battery")[:each]
    for at in range(_READINGS // each):
        said = {name: round(22.75 + n + at / 100, 2) for n, name in enumerate(names)}
        yield b"zigbee2mqtt/0x%016x" % at, json.dumps(said).encode()


def _plain_json(topic: bytes, payload: bytes, into: dict[str, list[Any]]) -> None:
    said = json.loads(payload)
    into.setdefault(topic.decode(), []).append((said["t"], said["v"]))


def _plain_senml(topic: bytes, payload: bytes, into: dict[str, list[Any]]) -> None:
    base, since = "", 0.0
    for record in json.loads(payload):
        base, since = record.get("bn", base), record.get("bt", since)
        into.setdefault(base + record["n"], []).append((since + record.get("t", 0), record["v"]))


def _plain_sparkplug(topic: bytes, payload: bytes, into: dict[str, list[Any]]) -> None:
    place = topic.decode()
    for metric in messages().Payload.FromString(payload).metrics:
        value = getattr(metric, metric.WhichOneof("value"))
        into.setdefault(f"{place}/{metric.alias}", []).append((metric.timestamp, value))


def _plain_mapping(topic: bytes, payload: bytes, into: dict[str, list[Any]]) -> None:
    place = topic.decode()
    for name, value in json.loads(payload).items():
        into.setdefault(f"{place}/{name}", []).append((None, value))


_FORMATS: dict[str, tuple[Callable[[int], Iterator[Message]], Callable[..., None], int, str]] = {
    "decode-json": (_json_singles, _plain_json, 1, "json"),
    "decode-senml": (_senml, _plain_senml, 5, "json"),
    "decode-sparkplug": (_sparkplug, _plain_sparkplug, 5, "protobuf"),
    "decode-mapping": (_zigbee, _plain_mapping, 5, "json"),
}
"""By id: messages, the plain program, readings a message, and the plain program's parser."""


def _decoder() -> Decode:
    settings = EdgeSettings(format=(FormatSettings(use="zigbee2mqtt"),))
    return decoder(settings, SeriesIndex([], 32_000))


def _burst(some: list[Message]) -> Burst:
    return Burst(_SECOND * 1_000_000, [topic for topic, _ in some], [payload for _, payload in some])


def _us(way: Callable[[], Any], rounds: int) -> float:
    """Return us of CPU a reading: the median of the rounds."""
    spent = []
    for _ in range(rounds):
        began = time.process_time_ns()
        way()
        spent.append(time.process_time_ns() - began)
    return sorted(spent)[rounds // 2] / 1000 / _READINGS


def _measured(id_: str, each: int) -> tuple[float, float, float]:
    """Return what a burst costs, its messages one by one, and the plain program."""
    make, plain, _, _ = _FORMATS[id_]
    some = list(make(each))
    decode, together, alone = _decoder(), _burst(some), [_burst([message]) for message in some]
    if id_ == "decode-sparkplug":
        decode.burst(_burst(list(_births(each))))
    found = decode.burst(together)  # names are known from here on
    assert len(found.value) == _READINGS
    assert not found.dead

    def plainly() -> None:
        into: dict[str, list[Any]] = {}
        for topic, payload in some:
            plain(topic, payload, into)

    return (
        _us(lambda: decode.burst(together), _ROUNDS),
        _us(lambda: [decode.burst(one) for one in alone], _ROUNDS // 10),
        _us(plainly, _ROUNDS // 4),
    )


def _run(id_: str) -> Iterator[Result]:
    _, _, each, parser = _FORMATS[id_]
    figure, alone, baseline = _measured(id_, each)
    more: dict[str, Any] = {"one by one": alone, "readings a message": each}
    if each > 1:
        single = _measured(id_, 1)
        more["with one reading a message"] = {"burst": round(single[0], 3), "one by one": round(single[1], 3), "plain": round(single[2], 3)}  # fmt: skip
    yield Result(
        id_,
        figure,
        "us of CPU a reading, bursts of 1,000",
        baseline,
        f"in the same process: {parser}, a loop, a dict of lists, the same messages",
        "none: in memory",
        more,
    )


def json_payloads(_: Path) -> Iterator[Result]:
    """Headwater's JSON, one reading a message."""
    return _run("decode-json")


def senml(_: Path) -> Iterator[Result]:
    """SenML in JSON, packs of five."""
    return _run("decode-senml")


def sparkplug(_: Path) -> Iterator[Result]:
    """Sparkplug B data by alias, five doubles a message."""
    return _run("decode-sparkplug")


def mapping(_: Path) -> Iterator[Result]:
    """Zigbee2MQTT by its mapping, five values a message."""
    return _run("decode-mapping")

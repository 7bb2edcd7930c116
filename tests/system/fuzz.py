"""Payloads that cannot be read, and some that may be: made at random from a seed, each with what must become of it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import NamedTuple

T0_US = 1_795_000_000_000_000


class Payload(NamedTuple):
    """What is published; `dead` where nobody could read it, None where the bytes may happen to mean something."""

    topic: bytes
    body: bytes
    dead: bool | None


Maker = Callable[[random.Random], tuple[str | bytes, bytes]]

_SINGLE, _MULTI = "hw/fuzz/d1/data/m1", "hw/fuzz/d1/data"
_NO_JSON = (
    b"", b" ", b"\n", b"1,2", b"[3", b"4]", b'{"v":5}\n{"v":6}', b"5\n6", b"{", b"}", b'{"t":1', b'{"t":1,"v":', b"tru",
    b"nul", b"one", b"--5", b"1_000", b"0x10", b"1e", b".", b"+", b"-", b"'5'", b"{'t':1,'v':2}", b'{"t":1,"v":2,}',
    b'{"t":1 "v":2}', b'{"v":01}', b'{"v":+1}', b'{"v":.5}', b'{"v":1.}', b'{"v":NaN}', b'{"v":Infinity}',
    b'"\\ud800"', b'{"v":"\\x"}', b"\xef\xbb\xbf5", b"5;6", b"[1,2", b"<v>5</v>", b"v=5", b"\x00", b"5\x005", b"[5}",
)  # fmt: skip
_NOT_TAKEN = (
    b'{"t":"yesterday","v":1}', b'{"t":[1],"v":1}', b'{"t":{},"v":1}', b'{"t":true,"v":1}', b'{"t":1e300,"v":1}',
    b'{"t":99999999999999999999999999,"v":1}', b'{"t":"2026-13-01T00:00:00Z","v":1}', b'{"t":1e999,"v":1}',
    b'{"t":1795000000,"v":1e999}', b"1e400", b"-1e400",
)  # fmt: skip
_NO_TOPICS = (
    "fuzz", "hw", "hw/", "hw/a", "hw/a/b", "hw/a/b/cmds", "hw/a/b/data/", "hw/a/b/data/c/d", "hw//b/data", "hw/a//data",
    "x/a/b/data", "HW/a/b/data", "/hw/a/b/data", "hw/a/b/data/" + "c" * 200, "hw/a/\x01/data", "$SYS/a", "hw/a/b/datum",
)  # fmt: skip


def _no_json(chance: random.Random) -> tuple[str | bytes, bytes]:
    return _SINGLE, chance.choice(_NO_JSON)


def _not_taken(chance: random.Random) -> tuple[str | bytes, bytes]:
    return _SINGLE, chance.choice(_NOT_TAKEN)


def _no_topic(chance: random.Random) -> tuple[str | bytes, bytes]:
    return chance.choice(_NO_TOPICS), _whole(chance)


def _no_metric(chance: random.Random) -> tuple[str | bytes, bytes]:
    return _MULTI, chance.choice((b"5", b"-1.5e3", b"true", b"ON", b"[1,2,3]", b'"on"', b"null"))


def _cut_short(chance: random.Random) -> tuple[str | bytes, bytes]:
    whole = _whole(chance)
    return chance.choice((_SINGLE, _MULTI)), whole[: chance.randrange(1, len(whole))]


def _no_text(chance: random.Random) -> tuple[str | bytes, bytes]:
    whole = _whole(chance)
    at = whole.index(b'"') + 1  # inside the first key: nothing that stands in a text may be skipped unread
    return chance.choice((_SINGLE, _MULTI)), whole[:at] + bytes([chance.randrange(0x80, 0x100)]) + whole[at:]


def _noise(chance: random.Random) -> tuple[str | bytes, bytes]:
    return _SINGLE, b"\xfe" + chance.randbytes(chance.randrange(60))


def _deep(chance: random.Random) -> tuple[str | bytes, bytes]:
    depth = chance.choice((1_100, 5_000, 100_000))
    opened, closed = chance.choice(((b"[", b"]"), (b'{"v":', b"}")))
    return _SINGLE, (opened * depth + b"1" + closed * chance.choice((0, depth)))[:250_000]


def _whole(chance: random.Random) -> bytes:
    """A payload as a device would send it."""
    t = T0_US + chance.randrange(10**9)
    values = {f"m{n}": round(chance.gauss(50, 20), chance.randrange(4)) for n in range(chance.randint(1, 4))}
    return json.dumps(
        chance.choice(
            ({"t": t, "v": values["m0"]}, {"t": t, "values": values}, {"time": t // 1000, **values})
        )
    ).encode()


def _mutated(chance: random.Random) -> tuple[str | bytes, bytes]:
    """A good payload with some bytes changed, left out, doubled or put in."""
    body = bytearray(_whole(chance))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(body))
        match chance.randrange(5):
            case 0:
                body[at] ^= 1 << chance.randrange(8)
            case 1:
                del body[at]
            case 2:
                body[at:at] = body[at : at + chance.randint(1, 9)]
            case 3:
                body.insert(at, chance.randrange(256))
            case _:
                body[at:at] = chance.choice((b"[", b"}", b'"', b"\\", b",", b"null", b"1e308", b"\n", b"-"))
        if not body:
            break
    return chance.choice((_SINGLE, _MULTI)), bytes(body)


_DEAD: tuple[tuple[Maker, int], ...] = (
    (_no_json, 30), (_not_taken, 10), (_no_topic, 12), (_no_metric, 8), (_cut_short, 20), (_no_text, 10), (_noise, 10),
)  # fmt: skip


def payloads(seed: int, count: int) -> list[Payload]:
    """Make so many, in which all kinds are mixed."""
    chance = random.Random(seed)
    makers, weights = zip(*_DEAD, strict=True)
    out = []
    for n in range(count):
        if n % 997 == 0:
            maker, dead = _deep, True
        elif chance.random() < 0.5:
            maker, dead = _mutated, None
        else:
            maker, dead = chance.choices(makers, weights)[0], True
        topic, body = maker(chance)
        if dead is None and not _may_be_read(body):
            dead = True
        out.append(Payload(topic if isinstance(topic, bytes) else topic.encode(), body, dead))
    return out


def _may_be_read(body: bytes) -> bool:
    """Tell whether somebody might read this: Python's own reader of JSON does, or it is a number or a word by itself."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return not body.lstrip().startswith((b"{", b"["))
    return True

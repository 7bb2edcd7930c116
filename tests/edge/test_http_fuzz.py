"""5,000 requests that are broken somewhere: each ends well, and what is taken of them is what another parser reads, too."""

from __future__ import annotations

import asyncio
import random
import re

import h11
import pytest

from tests.edge.posting import Answer, Client, Served, post, run, served
from tests.support import until_async

MANY, AT_ONCE = 5_000, 50


def _whole(chance: random.Random) -> bytes:
    body = chance.choice(
        (b"1.5", b'{"v":1}', b'{"t":1795000000,"v":2}', b"1\n2\n3", b"", b"\r\n\r\n", bytes(300))
    )
    headers = chance.sample(
        ("User-Agent: x", "Accept: */*", "Connection: keep-alive", "Content-Type: application/x-ndjson", "Idempotency-Key: k",
         "Expect: 100-continue", "Connection: close", "Upgrade: h2c", "Connection: Upgrade", "Content-Encoding: gzip"),
        chance.randrange(4),
    )  # fmt: skip
    if chance.random() < 0.5:
        return post(body, *headers)
    at = chance.randrange(len(body) + 1)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:at], body[at:]) if part)
    return post(chunks + b"0\r\n\r\n", *headers, "Transfer-Encoding: chunked")


def _broken(chance: random.Random) -> bytes:
    """One or two requests with some bytes changed, left out, doubled or put in; or cut short; or no request at all."""
    data = bytearray(b"".join(_whole(chance) for _ in range(chance.choice((1, 1, 2)))))
    match chance.randrange(12):
        case 0:
            return bytes(data[: chance.randrange(1, len(data))])
        case 1:
            return chance.randbytes(chance.randrange(1, 200))
        case _:
            pass
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        match chance.randrange(6):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randint(1, 3)]
            case 2:
                data[at:at] = data[at : at + chance.randint(1, 30)]
            case 3:
                data.insert(at, chance.randrange(256))
            case 4:
                data[at:at] = chance.choice(
                    (b"\r\n", b"\n", b"\r", b"\x00", b" ", b":", b"\r\n\r\n", b"0\r\n", b"fffffff\r\n")
                )
            case _:
                data[at:at] = chance.choice(
                    (b"\r\nContent-Length: 5", b"\r\nTransfer-Encoding: chunked", b"\r\nHost: b", b"\r\n X: folded", b"\r\nContent-Length: 0")
                )  # fmt: skip
    return bytes(data) or b"\r"


def _read_by_h11(data: bytes) -> list[bytes]:
    """Return the bodies of the requests that h11 reads, up to where it gives up.

    Blank lines before a request and more than one space in its first line are allowed (RFC 9112, 2.2 and 3); h11 takes
    neither.
    """
    other = h11.Connection(h11.SERVER)
    bodies: list[bytes] = []
    body = b""
    other.receive_data(re.sub(rb"POST +(\S+) +HTTP", rb"POST \1 HTTP", data.lstrip(b"\r\n")))
    while True:
        try:
            event = other.next_event()
            if event is h11.NEED_DATA:
                return bodies
            if event is h11.PAUSED:
                other.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                other.send(h11.EndOfMessage())
                other.start_next_cycle()
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                bodies, body = [*bodies, body], b""
        except (h11.RemoteProtocolError, h11.LocalProtocolError):
            return bodies


async def _try(s: Served, data: bytes) -> list[Answer]:
    """Send it, then close our side; return all answers until the server has closed its own."""
    client: Client = await s.client()
    client.send(data)
    client.writer.write_eof()
    answers = []
    try:
        while True:
            answers.append(await client.answer())
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return [answer for answer in answers if answer.status != 100]
    finally:
        client.close()


@pytest.mark.parametrize("seed", range(5))
def test_broken_requests_end_well(seed: int) -> None:
    """No crash, no connection or byte left over, a status for each; and never more is taken than was sent whole."""

    async def test() -> None:
        chance = random.Random(seed)
        bodies: set[bytes] = set()
        async with served() as s:
            for _ in range(MANY // 5 // AT_ONCE):
                broken = [_broken(chance) for _ in range(AT_ONCE)]
                found = await asyncio.gather(*(_try(s, data) for data in broken))
                for data, answers in zip(broken, found, strict=True):
                    good = sum(answer.status == 200 for answer in answers)
                    read = _read_by_h11(data)
                    assert good <= len(read), data
                    bodies |= {*read, *(line.strip(b" \t\r") for body in read for line in body.split(b"\n"))}
                    assert {answer.status for answer in answers} <= {
                        200, 400, 403, 404, 405, 408, 411, 413, 415, 417, 431, 505
                    }, (data, answers)  # fmt: skip
                s._clients.clear()
            await until_async(lambda: s.source.connected == 0)
            await until_async(lambda: s.source.waiting == 0)
            assert set(s.payloads) <= bodies
            assert s.source.counts.answers[200] > MANY // 50
            assert s.source.counts.refused["malformed"] > MANY // 20
            assert (await s.ask(post(b"1"))).status == 200

    run(test)

"""HTTP push over real sockets: what is taken, when it is answered, and what is said of all else."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import subprocess
from pathlib import Path
from unittest.mock import Mock

import pytest

from headwater_edge import http_source
from headwater_edge.decode import DeadLetter
from headwater_edge.events import Keyed
from headwater_edge.http_connection import IN_FLIGHT
from headwater_edge.http_request import LONGEST_HEAD, MOST_LINES
from headwater_edge.http_settings import HttpSettings, http_limits
from headwater_edge.http_source import HttpSource
from headwater_edge.idempotency import Verdict
from headwater_edge.source import QOS1, Burst
from headwater_shared.errors import PortInUse, SettingsError
from tests.edge.posting import TOPIC, Served, post, run, served
from tests.support import program, until_async

LINES = "Content-Type: application/x-ndjson"


def test_the_path_is_the_topic_and_the_body_the_payload() -> None:
    """Percent-encoding is undone, a query is left out, and a proxy's whole URL is understood."""

    async def test() -> None:
        async with served() as s:
            for path in ("/hw/s1/d%C3%A4/data?x=1", "http://gateway:8080/hw/s1/d%c3%a4/data"):
                answer = await s.ask(post(b'{"a":1}', path=path))
                assert (answer.status, answer.said) == (200, {"messages": 1, "dead": 0})
                (burst,) = s.taken
                assert burst.topics == ["hw/s1/dä/data".encode()]
                assert burst.payloads == [b'{"a":1}']
                assert (burst.packet_ids, burst.flags, burst.events) == ([0], [QOS1], [])
                s.taken.clear()

    run(test)


def test_r05_the_answer_comes_after_the_commit() -> None:
    """Nothing is answered while the burst is not given back; each gets its own 200 then."""

    async def test() -> None:
        async with served(acknowledging=False) as s:
            first, second = await s.client(), await s.client()
            first.send(post(b"1"))
            second.send(post(b"2"))
            await s.gathered(2)
            third = await s.client()
            third.send(post(b"3"))
            await s.gathered(3)
            assert s.source.counts.answers == {}
            *before, last = s.bursts
            s.acknowledge(*before)
            assert (await first.answer()).status == (await second.answer()).status == 200
            assert s.source.counts.answers == {200: 2}
            s.acknowledge(last)
            assert (await third.answer()).status == 200

    run(test)


def test_a_connection_is_kept_for_the_next_request() -> None:
    """By HTTP/1.1 unless it says otherwise, by HTTP/1.0 if it says so."""

    async def test() -> None:
        async with served() as s:
            client = await s.client()
            for n in range(3):
                answer = await client.ask(post(b"%d" % n))
                assert (answer.status, answer.headers.get("connection")) == (200, None)
            assert (await client.ask(post(b"3", "Connection: close"))).headers["connection"] == "close"
            assert await client.ended() == b""
            old = await s.client()
            answer = await old.ask(post(b"4", "Connection: keep-alive", version="1.0"))
            assert answer.headers["connection"] == "keep-alive"
            assert (await old.ask(post(b"5", version="1.0"))).headers["connection"] == "close"
            assert await old.ended() == b""
            assert s.payloads == [b"%d" % n for n in range(6)]
            assert s.source.counts.accepted == 2

    run(test)


def test_a_body_may_come_in_chunks_and_in_pieces() -> None:
    """Chunks with extensions and trailers, a byte at a time."""

    async def test() -> None:
        async with served() as s:
            client = await s.client()
            whole = post(b'3;a=b\r\n{"v\r\n4\r\n":1}\r\n0\r\nX-Sum: 7\r\n\r\n', "Transfer-Encoding: chunked")
            for at in range(len(whole)):
                client.send(whole[at : at + 1])
                await client.writer.drain()
            assert (await client.answer()).status == 200
            assert s.payloads == [b'{"v":1}']

    run(test)


def test_what_is_sent_ahead_is_answered_in_order() -> None:
    """Requests without waiting for answers: all taken in one burst; a refusal waits for its turn."""

    async def test() -> None:
        async with served(acknowledging=False) as s:
            client = await s.client()
            wanted = []
            for n in range(2 * IN_FLIGHT):
                wrong = n % 7 == 3
                wanted.append(404 if wrong else 200)
                client.send(post(b"%d" % n, path="/no/topic" if wrong else f"/{TOPIC}"))
            await s.gathered(1)
            s.acknowledging = True
            s.acknowledge()
            assert [(await client.answer()).status for _ in wanted] == wanted
            assert s.payloads == [b"%d" % n for n, status in enumerate(wanted) if status == 200]
            assert len(s.taken) < 10

    run(test)


def test_who_sends_too_much_ahead_is_not_read() -> None:
    """While IN_FLIGHT requests are unanswered, no more than what one read brought is taken."""

    async def test() -> None:
        async with served(acknowledging=False, max_waiting="1GB") as s:
            client = await s.client()
            sent = 0
            for _ in range(100):
                client.send(post(b"x" * 100_000))
                sent += 1
            await s.gathered(IN_FLIGHT)
            assert s.source.counts.messages < IN_FLIGHT + 5
            s.acknowledging = True
            s.acknowledge()
            for _ in range(sent):
                assert (await client.answer()).status == 200
            assert len(s.payloads) == sent

    run(test)


def test_the_rest_of_the_last_request_that_may_be_taken_is_read() -> None:
    """One of which a read brought only the beginning is not yet there, and does not count against its sender."""

    async def test() -> None:
        async with served(acknowledging=False) as s:
            client = await s.client()
            *before, last = [post(b"%d" % n) for n in range(IN_FLIGHT)]
            client.send(b"".join(before) + last[:-1])
            await s.gathered(IN_FLIGHT - 1)
            client.send(last[-1:])
            await s.gathered(IN_FLIGHT)
            s.acknowledge()
            assert [(await client.answer()).status for _ in range(IN_FLIGHT)] == [200] * IN_FLIGHT

    run(test)


def test_r12_lines_are_messages_of_one_burst() -> None:
    """Each line is a payload, blank ones are none; all of a request is in one burst, and answered by one 200."""

    async def test() -> None:
        async with served(acknowledging=False) as s:
            client = await s.client()
            client.send(post(b'{"v":1}\r\n\n {"v":2}\n{"v":3}', LINES, "Idempotency-Key: k1"))
            await s.gathered(3)
            (burst,) = s.bursts
            assert burst.payloads == [b'{"v":1}', b'{"v":2}', b'{"v":3}']
            assert burst.topics == [TOPIC.encode()] * 3
            ((number, end),) = burst.runs
            ((at, event),) = burst.events
            assert isinstance(event, Keyed)
            assert (end, at, event.request, event.messages) == (3, 0, number, 3)
            s.acknowledge()
            assert (await client.answer()).said == {"messages": 3, "dead": 0}

    run(test)


def test_r12_a_key_is_that_of_a_user_and_a_topic() -> None:
    """The same key and bytes give the same event; another topic or key another key, another body another content."""

    async def test() -> None:
        async with served() as s:
            for body, key, path in (
                (b"1", "k", TOPIC), (b"1", "k", TOPIC), (b"1", "l", TOPIC), (b"1", "k", TOPIC + "2"), (b"2", "k", TOPIC),
            ):  # fmt: skip
                await s.ask(post(body, f"Idempotency-Key: {key}", path=f"/{path}"))
            await s.ask(post(gzip.compress(b"1"), "Idempotency-Key: k", "Content-Encoding: gzip"))
            events = [event for burst in s.taken for _, event in burst.events if isinstance(event, Keyed)]
            first, again, other_key, other_topic, other_body, packed = [(e.key, e.content) for e in events]
            assert first == again == packed
            assert len({first[0], other_key[0], other_topic[0]}) == 3
            assert other_body[0] == first[0]
            assert other_body[1] != first[1]
            assert len({event.request for event in events}) == 6

    run(test)


def test_an_answer_says_what_became_of_the_request() -> None:
    """Dead letters by message and reason; a known key as repeated, or 422 where it is another request's."""

    async def test() -> None:
        async with served(acknowledging=False) as s:
            client = await s.client()
            client.send(post(b"1\nx\n3", LINES) + post(b"4") + post(b"y") + post(b"6", "Idempotency-Key: k"))
            await s.gathered(6)
            (burst,) = s.bursts
            burst.dead = [
                DeadLetter(1, "unreadable", "no JSON", b"", b"x"),
                DeadLetter(4, "not-taken", "half", b"", b"y"),
            ]
            numbers = [number for number, _ in burst.runs]
            burst.verdicts = {numbers[1]: Verdict.REPEATED, numbers[3]: Verdict.REFUSED}
            s.acknowledge()
            assert (await client.answer()).said == {
                "messages": 3, "dead": 1, "dead_letters": [{"message": 1, "reason": "unreadable", "detail": "no JSON"}]
            }  # fmt: skip
            assert (await client.answer()).said == {"messages": 1, "dead": 0, "repeated": True}
            assert (await client.answer()).said["dead_letters"] == [
                {"message": 0, "reason": "not-taken", "detail": "half"}
            ]
            refused = await client.answer()
            assert refused.status == 422
            assert "another body" in refused.said["error"]

    run(test)


BAD: list[tuple[int, bytes, bool]] = [
    # status, request, whether the connection goes on
    (400, post(b"1", "Host:"), False),
    (400, post(b"1", "Host: a", "Host: b"), False),
    (400, post(b"1", "Idempotency-Key: "), True),
    (400, post(b"1", "Idempotency-Key: " + "k" * 256), True),
    (400, post(b"1", "Idempotency-Key: a b"), True),
    (400, post(b"1", "Idempotency-Key: a", "Idempotency-Key: a"), False),
    (400, post(b"1", path="/hw/s1/d1/data/%ff"), True),
    (400, post(b"1", "Content-Length: 1", "Content-Length: 1"), False),
    (400, post(b"1", "Content-Length: -1"), False),
    (400, post(b"1", "Content-Length: 1", "Transfer-Encoding: chunked"), False),
    (400, post(b"3\r\nabcXX0\r\n\r\n", "Transfer-Encoding: chunked"), False),
    (400, post(b"1\r\n1\r\n0\r\n\r\n", "Transfer-Encoding: chunked", version="1.0"), False),
    (400, post(b"1", "X : y"), False),
    (400, b"GARBAGE\r\n\r\n", False),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", False),  # TLS where there is none
    (400, b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", False),
    (400, b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", False),
    (400, post(b"", LINES), True),
    (400, post(b"\n \r\n\n", LINES), True),
    (400, post(b"no gzip", "Content-Encoding: gzip"), True),
    (400, post(gzip.compress(b"1")[:-1], "Content-Encoding: gzip"), True),
    (403, post(b"1", "Origin: http://evil.example"), True),
    (404, post(b"1", path="/"), True),
    (404, post(b"1", path="/hw/s1/d1/cmd"), True),
    (404, post(b"1", path="/hw/s1/d1/data/%2b"), True),
    (405, b"GET /hw/s1/d1/data HTTP/1.1\r\nHost: a\r\n\r\n", True),
    (405, post(b"1", method="PUT"), True),
    (405, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", True),
    (411, b"POST /hw/s1/d1/data HTTP/1.1\r\nHost: a\r\n\r\n", True),
    (413, post(b"", "Content-Length: 1000001"), False),
    (413, post(b"F4241\r\n", "Transfer-Encoding: chunked") + b"x" * 1_000_001, False),
    (413, post(gzip.compress(bytes(1_000_001)), "Content-Encoding: gzip"), True),
    (413, post(b"1\n" * (MOST_LINES + 1), LINES), True),
    (415, post(b"1", "Content-Type: multipart/form-data; boundary=x"), True),
    (415, post(b"1", "Content-Encoding: br"), True),
    (415, post(b"0\r\n\r\n", "Transfer-Encoding: gzip, chunked"), False),
    (415, post(b"1", "Transfer-Encoding: identity"), False),
    (417, post(b"1", "Expect: a-miracle"), False),
    (431, post(b"1", "X: " + "y" * LONGEST_HEAD), False),
    (431, post(b"1", *(f"X-{n}: y" for n in range(2000))), False),
    (505, b"GET /\r\n\r\n", False),
]  # fmt: skip


def test_what_is_wrong_is_said_and_nothing_of_it_taken() -> None:
    """Each with its status and a JSON body; the connection goes on where it is clear where the next request begins."""

    async def test() -> None:
        async with served() as s:
            for status, request, goes_on in BAD:
                client = await s.client()
                client.send(request)
                answer = await client.answer()
                assert answer.status == status, (request[:200], answer)
                assert answer.said["error"]
                assert answer.headers.get("connection") == (None if goes_on else "close"), request[:200]
                if goes_on:
                    assert (await client.ask(post(b"1"))).status == 200
                else:
                    client.writer.write_eof()
                    assert await client.ended() == b""
                client.close()
            assert set(s.payloads) == {b"1"}
            assert len(s.payloads) == sum(goes_on for _, _, goes_on in BAD)

    run(test)


def test_an_error_says_what_to_do() -> None:
    """405 names the method, 413 the setting, 404 the paths there are."""

    async def test() -> None:
        async with served() as s:
            answer = await s.ask(post(b"1", method="PUT"))
            assert answer.headers["allow"] == "POST"
            assert "the path is the MQTT topic" in answer.said["hint"]
            assert "edge.http.max_body" in (await s.ask(post(b"", "Content-Length: 9999999"))).said["hint"]
            assert "/hw/{site}/{device}/data" in (await s.ask(post(b"", path="/temperature"))).said["hint"]

    run(test)


def test_who_asks_first_is_told_before_the_body_is_sent() -> None:
    """100 Continue if it would be taken, once; else the error at once, and the connection ends."""

    async def test() -> None:
        async with served() as s:
            client = await s.client()
            whole = post(b"12345", "Expect: 100-continue")
            assert (await client.ask(whole[:-5])).status == 100
            assert (await client.ask(whole[-5:])).status == 200
            assert (await client.ask(post(b"1", "Expect: 100-Continue"))).status == 200  # did not wait
            client.send(post(b"x" * 5, "Expect: 100-continue", path="/nowhere")[:-5])
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (404, "close")
            assert s.payloads == [b"12345", b"1"]

    run(test)


def test_a_head_is_answered_without_a_body() -> None:
    """What follows on the connection is the next answer; and who speaks HTTP/1.0 is never told 100."""

    async def test() -> None:
        async with served() as s:
            client = await s.client()
            client.send(post(b"", method="HEAD") + post(b"1", "Expect: 100-continue", version="1.0"))
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 405 ")
            assert (await client.answer()).status == 200

    run(test)


def test_an_error_reaches_one_who_still_sends() -> None:
    """A body that is too long is refused at its head, and the answer is not lost by a reset while the client writes on."""

    async def test() -> None:
        async with served() as s:
            client = await s.client()
            client.send(post(b"", "Content-Length: 1500000"))
            for _ in range(9):
                client.send(b"x" * 100_000)
                await client.writer.drain()
            assert (await client.answer()).status == 413
            assert s.source.waiting == 0

    run(test)


def test_a_wish_for_another_protocol_is_left_out() -> None:
    """A request that asks to go on with HTTP/2, as Java's client does by itself, is served, body and all."""

    async def test() -> None:
        async with served() as s:
            wish = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB")
            client = await s.client()
            for n in range(2):
                assert (await client.ask(post(b"%d" % n, *wish))).status == 200
            chunked = post(b"1\r\n2\r\n0\r\n\r\n", *wish, "Transfer-Encoding: chunked")
            client.send(chunked[:-12])
            client.send(chunked[-12:])
            assert (await client.answer()).status == 200
            assert s.payloads == [b"0", b"1", b"2"]

    run(test)


def test_a_client_may_close_its_side_and_still_gets_its_answer() -> None:
    """As `nc -N` does."""

    async def test() -> None:
        async with served(acknowledging=False) as s:
            client = await s.client()
            client.send(post(b"1"))
            client.writer.write_eof()
            await s.gathered(1)
            s.acknowledge()
            assert (await client.answer()).status == 200
            assert await client.ended() == b""

    run(test)


def test_who_is_gone_gets_no_answer_and_harms_nobody() -> None:
    """Half a request holds nothing when its sender is gone; a whole one is committed all the same (R5)."""

    async def test() -> None:
        async with served(acknowledging=False) as s:
            half, whole = await s.client(), await s.client()
            half.send(post(b"x" * 1000)[:-1])
            await until_async(lambda: s.source.waiting == 999)
            half.writer.write_eof()
            assert (await half.answer()).status == 400
            assert s.source.waiting == 0
            whole.send(post(b"1"))
            await s.gathered(1)
            whole.writer.transport.abort()
            s.acknowledge()
            await until_async(lambda: s.source.connected == 0)
            assert s.payloads == [b"1"]

    run(test)


def test_slow_senders_and_silent_ones_are_ended() -> None:
    """A request that does not end in time gets 408, a connection without one is closed; one that waits for us is not."""

    async def test() -> None:
        async with served(acknowledging=False, request_time="20s", idle_time="2m") as s:
            head, body, silent, waiting = [await s.client() for _ in range(4)]
            requests = (post(b"1")[:30], post(b"12")[:-1], post(b"3"))
            for client, request in zip((head, body, waiting), requests, strict=True):
                client.send(request)
            await s.gathered(1)
            await until_async(lambda: s.source.counts.bytes == sum(map(len, requests)))
            await s.later(19)
            assert s.source.connected == 4
            await s.later(2)
            for client in (head, body):
                answer = await client.answer()
                assert (answer.status, answer.headers["connection"]) == (408, "close")
            await s.later(100)
            assert await silent.ended() == b""
            await s.later(10_000)
            s.acknowledge()
            assert (await waiting.answer()).status == 200
            await s.later(119)
            assert not waiting.reader.at_eof()
            await s.later(2)
            assert await waiting.ended() == b""

    run(test)


def test_one_who_does_not_read_is_ended() -> None:
    """While its answers are not read it is not read either, and its time comes."""

    async def test() -> None:
        async with served(acknowledging=False, request_time="20s") as s:
            client = await s.client()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(post(b"1") * 20)
            await s.gathered(20)
            (burst,) = s.bursts
            burst.dead = [DeadLetter(n, "long", "x" * 1_000_000, b"", b"") for n in range(20)]
            s.acknowledge()
            client.send(post(b"2"))
            await s.later(19)
            assert s.source.connected == 1
            await s.later(2)
            await until_async(lambda: s.source.connected == 0)
            assert s.payloads == [b"1"] * 20

    run(test)


def test_connections_beyond_the_limit_are_told_so() -> None:
    """503 and when to come again; who was there goes on, and room that was made is given away."""

    async def test() -> None:
        async with served(max_connections=2) as s:
            first, second = await s.client(), await s.client()
            assert (await first.ask(post(b"1"))).status == (await second.ask(post(b"2"))).status == 200
            third = await s.client()
            answer = await third.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert await third.ended() == b""
            assert (await first.ask(post(b"3"))).status == 200
            second.close()
            await until_async(lambda: s.source.connected == 1)
            assert (await s.ask(post(b"4"))).status == 200

    run(test)


def test_r18_memory_is_bounded_while_commits_wait() -> None:
    """What was taken waits for its answer; beyond `max_waiting` bytes the rest is told to come again, and is then taken."""

    async def test() -> None:
        async with served(acknowledging=False, max_body="100KB", max_waiting="1MB") as s:
            clients = [await s.client() for _ in range(20)]
            for client in clients:
                client.send(post(b"x" * 90_000))
            answers = [asyncio.ensure_future(client.answer()) for client in clients]
            await s.gathered(11)
            await until_async(lambda: sum(answer.done() for answer in answers) == 9, what="9 are refused")
            refused = [client for client, answer in zip(clients, answers, strict=True) if answer.done()]
            assert s.source.waiting <= 1_000_000
            s.acknowledge()
            s.acknowledging = True
            for client, answer in zip(clients, answers, strict=True):
                status, headers, _ = await answer
                assert (status, headers.get("retry-after")) == (
                    (503, "5") if client in refused else (200, None)
                )
            for client in refused:
                assert (await client.ask(post(b"x" * 90_000))).status == 200

    run(test)


def test_r18_while_paused_nothing_is_taken_and_what_was_is_answered() -> None:
    """503 to who posts, also in the middle of a body; the commit's answers still go out, and resume ends it."""

    async def test() -> None:
        async with served(acknowledging=False) as s:
            taken, half = await s.client(), await s.client()
            taken.send(post(b"1"))
            await s.gathered(1)
            half.send(post(b"22")[:-1])
            await until_async(lambda: s.source.waiting == 2)
            s.source.pause()
            half.send(b"2")
            answer = await half.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert (await s.ask(post(b"3"))).status == 503
            s.acknowledge()
            assert (await taken.answer()).status == 200
            s.source.resume()
            s.acknowledging = True
            assert (await half.ask(post(b"22"))).status == 200
            assert s.payloads == [b"1", b"22"]

    run(test)


def test_r19_many_posts_of_one_moment_are_one_burst() -> None:
    """500 devices on connections of their own: few bursts. Who waits for each answer is counted as waiting, others not."""

    async def test() -> None:
        async with served(acknowledging=False) as s:
            clients = [await s.client() for _ in range(100)]
            for client in clients:
                client.send(post(b"1") * 5)
            await s.gathered(500)
            assert len(s.bursts) <= 5
            assert sum(burst.waiting for burst in s.bursts) <= 100
            s.acknowledge()
            s.acknowledging = True
            one = await s.client()
            for _ in range(4):
                await one.ask(post(b"1"))
                assert s.taken[-1].waiting == 1
            s.seconds += 1
            await one.ask(post(b"1"))
            assert s.taken[-1].waiting == 0  # paced: it may wait as all others

    run(test)


def test_a_programming_error_ends_more_than_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst may be half made then: the error reaches the loop's handler as one of a callback, which ends the process."""

    async def test() -> None:
        found: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
        async with served() as s:
            for where, name in ((http_source, "messages"), (http_source, "hash64"), (s.source, "_reads")):
                error = ZeroDivisionError(name)
                monkeypatch.setattr(where, name, Mock(side_effect=error))
                client = await s.client()
                client.send(post(b"1", "Idempotency-Key: k"))
                assert await client.ended() == b""
                await until_async(lambda error=error: error in [one["exception"] for one in found])  # type: ignore[misc]
                assert all("handle" in one for one in found)
                monkeypatch.undo()

    run(test)


def test_r20_what_can_be_neither_read_nor_kept_is_refused() -> None:
    """507 at once, and its key is not journaled; the other requests of the burst are answered after the commit."""

    async def test() -> None:
        async with served(acknowledging=False) as s:
            deliver = s.deliver

            def full(burst: Burst) -> None:
                bad = [number for number, end in burst.runs if b"bad" in burst.payloads[end - 1]]
                s.source.refuse(bad)
                deliver(burst)

            s.source._deliver = full
            client = await s.client()
            client.send(
                b"".join(post(body, f"Idempotency-Key: {body.decode()}") for body in (b"1", b"bad", b"3"))
            )
            await s.gathered(3)
            (burst,) = s.bursts
            assert burst.whole
            assert [at for at, _ in burst.events] == [0, 2]
            assert s.source.counts.refused == {"dead-letters-full": 1}
            s.acknowledge()
            assert [(await client.answer()).status for _ in range(3)] == [200, 507, 200]

    run(test)


def test_gzip_is_undone_within_bounds() -> None:
    """One member or several; what it unpacks to is held to the same limit as any body."""

    async def test() -> None:
        async with served(max_body="10KB") as s:
            packed = "Content-Encoding: gzip"
            lines = b"".join(b'{"v":%d}\n' % n for n in range(500))
            assert (await s.ask(post(gzip.compress(lines), packed, LINES))).said["messages"] == 500
            two = gzip.compress(b"1\n2\n") + gzip.compress(b"3\n")
            assert (await s.ask(post(two, packed, LINES))).said["messages"] == 3
            bomb = gzip.compress(bytes(9_000_000))
            assert len(bomb) < 10_000
            assert (await s.ask(post(bomb, packed))).status == 413
            assert (await s.ask(post(gzip.compress(bytes(6_000)) * 2, packed))).status == 413

    run(test)


def test_under_tls(tmp_path: Path) -> None:
    """With a context of ours it is HTTPS; who speaks no TLS, or never ends the handshake, is let go."""
    if program("openssl") is None:
        pytest.skip("openssl is not installed")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=gateway", "-addext", "subjectAltName=DNS:gateway")  # fmt: skip
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    trusting = ssl.create_default_context(cafile=str(cert))

    async def test() -> None:
        async with served(tls=context, request_time="20s") as s:
            client = await s.client(trusting)
            for n in range(3):
                assert (await client.ask(post(b"%d" % n * 100_000))).status == 200
            assert (await client.ask(post(b"", "Content-Length: 2000000"))).status == 413
            plain = await s.client()
            plain.send(post(b"1"))
            assert not (await plain.ended()).startswith(b"HTTP")
            assert s.source.counts.refused["handshake"] == 1
            await s.client()  # says nothing
            await until_async(lambda: len(s.source._door._arriving) == 1)

    run(test)


def test_where_it_listens_follows_the_rules_of_the_house() -> None:
    """Not beyond loopback without users, not where another program is, and limits must make sense."""

    async def test() -> None:
        async with served() as s:
            with pytest.raises(PortInUse):
                async with served(port=s.source.port):
                    pass

    run(test)
    for wrong in ({"max_body": "10B"}, {"max_waiting": "10KB"}, {"idle_time": "0s"}):
        with pytest.raises(SettingsError, match=r"edge\.http"):
            http_limits(HttpSettings(**wrong))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="without users"):
        HttpSource(HttpSettings(host="0.0.0.0", port=0), None, Served().clock, iter(()), print)


def test_closing_ends_all_and_delivers_nothing_more() -> None:
    """What is not acknowledged then comes again, to whoever listens."""

    async def test() -> None:
        async with served(acknowledging=False) as s:
            taken, gathered = await s.client(), await s.client()
            taken.send(post(b"1"))
            await s.gathered(1)
            s.source._nap = s.source._loop.call_later(60, print)  # type: ignore[union-attr]  # a nap that is not over
            gathered.send(post(b"2"))
            await until_async(lambda: s.source.counts.messages == 2)
            await s.source.close()
            assert await taken.ended() == await gathered.ended() == b""
            s.acknowledge()
            assert s.payloads == [b"1"]

    run(test)

"""HTTP push on a whole agent: a real port, a real file and bus; what a request becomes, over kills and a full disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from headwater_edge import commit, journal
from headwater_edge.http_settings import HttpSettings
from headwater_edge.http_source import HttpSource
from headwater_shared.clock import SetClock
from tests.edge.posting import Client, post
from tests.edge.running import LOG, Running, as_after_a_kill, edge_settings, full, running
from tests.edge.test_agent import T0, check, rows, run
from tests.support import until_async

LINES = "Content-Type: application/x-ndjson"


class Posting:
    """An agent that runs, and a client of its HTTP source."""

    def __init__(self, box: Running, source: HttpSource, client: Client) -> None:
        self.box = box
        self.source = source
        self.client = client
        self.counters = box.agent.state.counters

    async def another(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.source.port))


@asynccontextmanager
async def posting(folder: Path, **settings: object) -> AsyncIterator[Posting]:
    """Run an agent with HTTP in a folder that is there."""
    clock = SetClock()
    async with running(folder, edge_settings(**settings), clock) as box:
        http = HttpSettings(port=0, max_body="100KB", max_waiting="300KB")
        source = box.agent.attach(lambda deliver: HttpSource(http, None, clock, count(1), deliver))
        await source.start()
        client = Client(*await asyncio.open_connection("127.0.0.1", source.port))
        try:
            yield Posting(box, source, client)
        finally:
            client.close()
            await source.close()


def timed(at: int, value: float) -> bytes:
    return f'{{"t":{T0 + at},"v":{value}}}'.encode()


def test_a_reading_goes_all_the_way(tmp_path: Path) -> None:
    """Posted alone, in lines and again: each is in its window on the bus once."""

    async def test() -> None:
        async with posting(tmp_path) as p:
            assert (await p.client.ask(post(timed(0, 1.5)))).said == {"messages": 1, "dead": 0}
            lines = b"\n".join(timed(at, at / 3) for at in range(1, 50))
            for _ in range(2):
                assert (await p.client.ask(post(lines, LINES))).said == {"messages": 49, "dead": 0}
            await p.box.agent.flush()
            await p.box.forwarded()
        check(tmp_path / LOG, (0, 1.5), *((at, at / 3) for at in range(1, 50)))

    run(test())


def test_r12_a_key_outlives_a_kill(tmp_path: Path) -> None:
    """The answer was lost with the agent: the same request to the next one is answered 200, and counted once.

    The readings have no time, so nothing but the key tells that they came before; without one they count again.
    """

    async def test() -> None:
        keyed = post(b"1.5\n1.5\n2.5", LINES, "Idempotency-Key: k1")
        first, second = tmp_path / "first", tmp_path / "second"
        first.mkdir()
        async with posting(first) as p:
            assert "repeated" not in (await p.client.ask(keyed)).said
            assert (await p.client.ask(post(b"7"))).status == 200
            as_after_a_kill(first, second)
        async with posting(second) as p:
            for _ in range(2):
                assert (await p.client.ask(keyed)).said == {"messages": 3, "dead": 0, "repeated": True}
            assert p.counters.accepted == 4
            assert (await p.client.ask(post(b"7"))).said == {"messages": 1, "dead": 0}
            assert p.counters.accepted == 5
            other = await p.client.ask(post(b"1.5\n1.5\n2.6", LINES, "Idempotency-Key: k1"))
            assert other.status == 422
            assert p.counters.accepted == 5

    run(test())


def test_r12_one_key_in_one_moment_is_one_request(tmp_path: Path) -> None:
    """Sent twice at once over two connections, while nothing is committed: both are acknowledged, one counts."""

    async def test() -> None:
        async with posting(tmp_path, tick="100ms", tick_readings=10_000) as p:
            other = await p.another()
            request = post(b"5", "Idempotency-Key: k")
            p.client.send(request)
            other.send(request)
            answers = [await p.client.answer(), await other.answer()]
            assert [answer.status for answer in answers] == [200, 200]
            assert sum("repeated" in answer.said for answer in answers) == 1
            assert p.counters.accepted == 1
            other.close()

    run(test())


def test_r12_a_request_is_in_one_commit(tmp_path: Path) -> None:
    """Thousands of lines in one request stand in one row of the journal, though each reading would end a tick."""

    async def test() -> None:
        async with posting(tmp_path, tick_readings=1) as p:
            lines = b"\n".join(b"%d" % n for n in range(5_000))
            assert (await p.client.ask(post(lines, LINES))).said == {"messages": 5_000, "dead": 0}
        ticks = [journal.decode(body) for (body,) in rows(tmp_path, "SELECT body FROM journal")]  # type: ignore[arg-type]
        assert [len(tick.messages) for tick in ticks if len(tick.messages)] == [5_000]

    run(test())


def test_r20_dead_letters_are_named_in_the_answer_and_kept_once(tmp_path: Path) -> None:
    """With reason and bytes in the file; a resend names them again and writes none, another request's key neither."""

    async def test() -> None:
        async with posting(tmp_path) as p:
            bodies = (b"1\noops\n3", b"1\noops\n3", b"1\nnever\n3")
            said = [(await p.client.ask(post(body, LINES, "Idempotency-Key: k"))).said for body in bodies]
            (letter,) = said[0]["dead_letters"]
            assert (letter["message"], letter["reason"], said[0]["dead"]) == (1, "unreadable", 1)
            assert said[1] == said[0] | {"repeated": True}
            assert "error" in said[2]
            assert rows(tmp_path, "SELECT reason, topic, bytes FROM dead_letter") == [
                ("unreadable", b"hw/s1/d1/data/temp", b"oops")
            ]
            assert (p.counters.dead, p.counters.accepted) == (1, 2)

    run(test())


def test_r18_a_full_disk_holds_answers_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is answered 200 that is not on disk; when more bytes wait than may, the rest is told to come again."""
    monkeypatch.setattr(commit, "_AGAIN_S", 0.01)

    async def test() -> None:
        async with posting(tmp_path) as p:
            assert (await p.client.ask(post(timed(0, 0.0)))).status == 200
            space = full(p.box)
            clients = [await p.another() for _ in range(8)]
            bodies = [b"\n".join(timed(1 + n * 2_000 + at, at / 3) for at in range(2_000)) for n in range(8)]
            for client, body in zip(clients, bodies, strict=True):
                client.send(post(body, LINES))
            answers = [asyncio.ensure_future(client.answer()) for client in clients]
            await until_async(lambda: p.box.agent.holding)
            await until_async(lambda: any(answer.done() for answer in answers), what="some are refused")
            assert {answer.result().status for answer in answers if answer.done()} == {503}
            assert p.source.counts.answers[200] == 1
            assert p.source.waiting <= 300_000
            space()
            statuses = [(await answer).status for answer in answers]
            assert set(statuses) == {200, 503}
            await until_async(lambda: not p.box.agent.holding, what="the disk is looked at again")
            for client, body, status in zip(clients, bodies, statuses, strict=True):
                if status == 503:
                    assert (await client.ask(post(body, LINES))).status == 200
                client.close()
            await p.box.agent.flush()
            await p.box.forwarded()
        check(
            tmp_path / LOG, (0, 0.0), *((1 + n * 2_000 + at, at / 3) for n in range(8) for at in range(2_000))
        )

    run(test())


def test_r19_who_waits_for_each_answer_is_not_kept_waiting(tmp_path: Path) -> None:
    """One that posts as soon as it is answered ends ticks early, as far as there are tokens; nobody else does."""

    async def test() -> None:
        async with posting(tmp_path, tick="60s", tick_readings=10_000) as p:
            for at in range(3):
                assert (await p.client.ask(post(timed(at, 1.0)))).status == 200
            assert p.box.agent.ticker.early_ends >= 3

    run(test())


def test_r20_a_request_is_refused_whole_while_dead_letters_are_full(tmp_path: Path) -> None:
    """507, and none of its readings counts; once there is room, the same under the same key is taken, once."""

    async def test() -> None:
        async with posting(tmp_path, dead_letters="1KB") as p:
            assert (await p.client.ask(post(b"x" * 2_000))).said["dead"] == 1
            mixed, plain = post(b"1\noops\n3", LINES, "Idempotency-Key: k"), post(b"4", "Idempotency-Key: l")
            other = await p.another()
            p.client.send(mixed)
            other.send(plain)
            refused = await p.client.answer()
            assert (refused.status, refused.headers["retry-after"]) == (507, "60")
            assert (await other.answer()).status == 200
            assert p.counters.accepted == 1
            p.box.agent.letters.gone(1, 2_000)
            answer = await p.client.ask(mixed)
            assert (answer.status, answer.said.get("repeated")) == (200, None)
            assert p.counters.accepted == 3
            other.close()

    run(test())

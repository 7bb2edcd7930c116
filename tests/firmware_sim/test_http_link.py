"""Devices that post: each message under its key until it is answered 200, whatever the server does meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from headwater_edge.events import Keyed
from headwater_edge.http_users import check_of
from headwater_edge.users import Users
from headwater_firmware_sim.pipeline import Result, burst
from headwater_shared import ledger as ledgers
from headwater_shared.errors import SettingsError
from tests.edge.posting import Served, run, served
from tests.support import until_async

DEVICES, SAMPLES = 4, 30


def _fleet(s: Served, ledger: Path, **more: object) -> Callable[[], Result]:
    return lambda: burst(
        "127.0.0.1", s.source.port, ledger, devices=DEVICES, samples=SAMPLES, driver="http", in_flight=5, **more  # type: ignore[arg-type]
    )  # fmt: skip


def _requests(s: Served) -> list[tuple[int, int, bytes]]:
    """Key, content and payload of all that was delivered."""
    return [
        (event.key, event.content, one.payloads[at])
        for one in [*s.taken, *s.bursts]
        for at, event in one.events
        if isinstance(event, Keyed)
    ]


def test_all_is_posted_once_where_nothing_goes_wrong(tmp_path: Path) -> None:
    """Each message has a key of its own, and the ledger has it as acknowledged."""

    async def test() -> None:
        async with served() as s:
            result = await asyncio.to_thread(_fleet(s, tmp_path / "ledger"))
            assert result.complete
            keys = [key for key, _, _ in _requests(s)]
            assert len(keys) == len(set(keys)) == result.tally.messages == result.tally.acknowledged
            assert (result.tally.refused, result.tally.resent) == (0, 0)
            truth = ledgers.read(tmp_path / "ledger")
            assert len(truth.time) == result.tally.readings

    run(test)


def test_what_is_not_answered_is_posted_again_under_its_key(tmp_path: Path) -> None:
    """503, a connection that is cut with requests unanswered, and a fleet that is ended and taken up again."""

    async def test() -> None:
        ledger, stop = tmp_path / "ledger", threading.Event()
        async with served(acknowledging=False) as s:
            first = asyncio.ensure_future(asyncio.to_thread(_fleet(s, ledger, drain_s=0.2, stop=stop)))
            await s.gathered(DEVICES)
            s.source.pause()
            for connection in list(s.source._door._connections):
                connection.abort()
            await until_async(lambda: s.source.counts.answers[503] >= DEVICES)
            s.source.resume()
            await until_async(lambda: len(_requests(s)) > 2 * DEVICES)
            stop.set()
            assert not (await first).complete
            before = len(_requests(s))
            s.acknowledging = True
            result = await asyncio.to_thread(_fleet(s, ledger))
            assert result.complete
            contents: dict[int, tuple[int, bytes]] = {}
            for key, content, payload in _requests(s):
                assert contents.setdefault(key, (content, payload)) == (content, payload)
            assert len(_requests(s)) > before
            assert result.tally.refused == 0
            acknowledged = ledgers.Messages([ledgers.records(ledger)], DEVICES).with_kind(*ledgers.CLOSED)
            assert acknowledged.sum() == len(contents)

    run(test)


def test_another_run_has_other_keys(tmp_path: Path) -> None:
    """The same seed at another time sends other readings under the same numbers: they are no repeats."""

    async def test() -> None:
        async with served() as s:
            for origin_s in (1_795_000_000, 1_795_000_500):
                origin_us = origin_s * 1_000_000
                run_of = _fleet(s, tmp_path / str(origin_s), origin_us=origin_us)
                assert (await asyncio.to_thread(run_of)).complete
            keys = [key for key, _, _ in _requests(s)]
            assert len(keys) == len(set(keys)) > DEVICES * SAMPLES

    run(test)


def test_a_user_is_told_apart(tmp_path: Path) -> None:
    """User and password go along; who is refused says what to set."""

    async def test() -> None:
        async with served(check_of(Users(passwords={"fleet": "secret"}, grants={"fleet": ["*/*"]}))) as s:
            with pytest.raises(SettingsError, match="--user"):
                await asyncio.to_thread(_fleet(s, tmp_path / "refused"))
            result = await asyncio.to_thread(_fleet(s, tmp_path / "let in", user="fleet", password="secret"))
            assert result.complete

    run(test)

"""Who may post: Basic and Bearer, what a user may send to, and how guessing is limited."""

from __future__ import annotations

import asyncio
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path

from headwater_edge import users_file
from headwater_edge.http_users import Allows, check_of
from headwater_edge.passwords import RANDOM, hashed
from headwater_edge.users import Users
from headwater_edge.users_file import User
from headwater_shared.errors import TryAgain
from tests.edge.posting import TOPIC, post, run, served
from tests.support import until_async

USERS = {"pump": "secret", "büro": "pa:ss?>~", "other": "x"}
CHECK = check_of(Users(passwords=USERS, grants=dict.fromkeys(USERS, ("*/*",))))


def basic(user: str, password: str) -> str:
    return f"Authorization: Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


class Checks:
    """Checks as slowly as a test wants, and counts."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.busy = False

    async def __call__(self, user: str, password: str, address: str) -> Allows | None:
        self.asked.append((user, password))
        await self.gate.wait()
        if self.busy:
            raise TryAgain("too many are asking")
        return (lambda topic: topic == TOPIC) if USERS.get(user) == password else None


def test_user_and_password_by_basic_or_bearer() -> None:
    """Names and passwords of any characters; a token is the same two in base64, in either alphabet."""

    async def test() -> None:
        async with served(CHECK) as s:
            for user, password in USERS.items():
                assert (await s.ask(post(b"1", basic(user, password)))).status == 200
                for coded in (b64encode, urlsafe_b64encode):
                    token = coded(f"{user}:{password}".encode()).decode().rstrip("=")
                    assert (await s.ask(post(b"1", f"authorization: bearer {token}"))).status == 200

    run(test)


def test_who_says_nothing_right_is_not_let_in() -> None:
    """401 that names the way, and nothing of the body is taken; the connection may try again."""

    async def test() -> None:
        async with served(CHECK) as s:
            client = await s.client()
            for header in (
                "X: y", "Authorization: Basic", "Authorization: Basic !!!", "Authorization: Basic cHVtcA==", "Authorization: Basic Og==",
                "Authorization: Digest username=pump", "Authorization: Bearer secret", basic("pump", "Secret"), basic("nobody", ""),
                basic("", ""), "Authorization: Basic " + "QUFB" * 1000,
            ):  # fmt: skip
                answer = await client.ask(post(b"1", header))
                assert answer.status == 401, header
                assert answer.headers["www-authenticate"].startswith("Basic realm=")
                assert answer.said["hint"]
            assert (await client.ask(post(b"1", basic("pump", "secret")))).status == 200
            assert s.payloads == [b"1"]

    run(test)


def test_a_user_may_send_to_what_is_its_own() -> None:
    """Any other topic is 403, whether a connection is new or known."""

    async def test() -> None:
        async with served(Checks()) as s:
            client = await s.client()
            for path, status in ((TOPIC + "2", 403), (TOPIC, 200), (TOPIC + "2", 403)):
                assert (
                    await client.ask(post(b"1", basic("pump", "secret"), path=f"/{path}"))
                ).status == status

    run(test)


def test_a_password_is_not_checked_at_each_request() -> None:
    """Once a minute for all connections, and once for many at the same time; a wrong one each time."""

    async def test() -> None:
        checks = Checks()
        checks.gate.clear()
        async with served(checks) as s:
            clients = [await s.client() for _ in range(20)]
            for client in clients:
                client.send(post(b"1", basic("pump", "secret")) * 2)
            await until_async(lambda: len(s.source._checks) == 40)
            checks.gate.set()
            for client in clients:
                assert [(await client.answer()).status for _ in range(2)] == [200, 200]
            assert len(checks.asked) == 1
            await s.later(59)
            assert (await clients[0].ask(post(b"1", basic("pump", "secret")))).status == 200
            assert len(checks.asked) == 1
            await s.later(2)
            assert (await clients[0].ask(post(b"1", basic("pump", "secret")))).status == 200
            for _ in range(2):
                assert (await clients[0].ask(post(b"1", basic("pump", "wrong")))).status == 401
            assert len(checks.asked) == 4

    run(test)


def test_nothing_more_is_read_while_a_password_is_checked() -> None:
    """Neither is the body asked for; once it is known who sends, all goes on. One who leaves meanwhile harms nobody."""

    async def test() -> None:
        checks = Checks()
        async with served(checks) as s:
            for password, status in (("secret", 200), ("wrong", 401)):
                checks.gate.clear()
                client, gone, patient = await s.client(), await s.client(), await s.client()
                client.send(post(b"x" * 900_000, basic("pump", password)))
                gone.send(post(b"1", basic("other", password)))
                whole = post(b"z", basic("pump", password), "Expect: 100-continue")
                patient.send(whole[:-1])
                await until_async(lambda: len(s.source._checks) == 3)
                assert s.source.waiting < 600_000
                gone.close()
                checks.gate.set()
                assert (await client.answer()).status == status
                first = await patient.answer()
                assert first.status == (100 if status == 200 else 401)
                if status == 200:
                    assert (await patient.ask(whole[-1:])).status == 200
            assert set(s.payloads) <= {b"x" * 900_000, b"z", b"1"}

    run(test)


def test_guessing_is_limited_to_ten_a_minute() -> None:
    """Then 429, whatever is sent, and it is not even looked at; other users from there go on, and so does this one later."""

    async def test() -> None:
        checks = Checks()
        async with served(checks) as s:
            for n in range(10):
                assert (await s.ask(post(b"1", basic("pump", f"guess{n}")))).status == 401
            answer = await s.ask(post(b"1", basic("pump", "secret")))
            assert answer.status == 429
            assert 1 <= int(answer.headers["retry-after"]) <= 61
            assert len(checks.asked) == 10
            assert (await s.ask(post(b"1", basic("other", "x")))).status == 200
            await s.later(61)
            assert (await s.ask(post(b"1", basic("pump", "secret")))).status == 200

    run(test)


def test_a_check_that_cannot_be_made_now_is_429() -> None:
    """Nothing is known of the user: the same may be tried again."""

    async def test() -> None:
        checks = Checks()
        checks.busy = True
        async with served(checks) as s:
            answer = await s.ask(post(b"1", basic("pump", "secret")))
            assert (answer.status, "retry-after" in answer.headers) == (429, True)
            checks.busy = False
            assert (await s.ask(post(b"1", basic("pump", "secret")))).status == 200

    run(test)


def test_who_guesses_locks_out_nobody_elsewhere() -> None:
    """Wrong passwords count by the address that they come from: the user comes in from another at once."""

    async def test() -> None:
        check = check_of(Users(passwords=USERS, grants=dict.fromkeys(USERS, ("*/*",))))
        for n in range(100):
            assert await check("pump", f"guess {n}", "10.0.0.1") is None
        assert await check("pump", "secret", "10.0.0.1") is None
        assert await check("pump", "secret", "10.0.0.2") is not None

    run(test)


def test_what_a_user_may_is_looked_up_each_time(tmp_path: Path) -> None:
    """A user that is removed, or may less, may so at once, though its password was right a moment ago."""

    async def test() -> None:
        seconds = [1_000.0]
        file = tmp_path / "users.json"
        user = User(hashed(b"secret", RANDOM), ("s1/*",))
        with users_file.changed(file) as kept:
            kept["pump"] = user
        users = Users(file, monotonic=lambda: seconds[0])
        async with served(check_of(users), anyone=lambda: not users.closed()) as s:
            client = await s.client()
            sent = post(b"1", basic("pump", "secret"))
            for grants, status in ((("s1/*",), 200), (("s2/*",), 403), (("s1/d1",), 200), (None, 403)):
                with users_file.changed(file) as kept:
                    if grants is None:
                        del kept["pump"]
                    else:
                        kept["pump"] = User(user.password, grants)
                seconds[0] += 1.1
                assert (await client.ask(sent)).status == status
        users.close()

    run(test)

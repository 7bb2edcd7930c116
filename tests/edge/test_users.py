"""Users: their file, their passwords, what each may speak for, and what becomes of those who guess."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
from pathlib import Path

import pytest

from headwater_edge import users as users_module
from headwater_edge import users_file
from headwater_edge.grants import Grant, check
from headwater_edge.guesses import Guesses, network
from headwater_edge.passwords import RANDOM, Hash, hashed, matches, random_password, read
from headwater_edge.users import Users, WrongPassword
from headwater_edge.users_file import User
from headwater_shared.errors import SettingsError


class Seconds:
    """A monotonic clock that tests move."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def _file(path: Path, **users: User) -> Path:
    with users_file.changed(path) as kept:
        kept.clear()
        kept.update(users)
    return path


def _user(password: str, *grants: str) -> User:
    return User(hashed(password.encode(), RANDOM), grants or None)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Counts the slow looks at passwords, by the name of the thread that they run in."""
    found: list[str] = []

    def counted(password: bytes, kept: Hash) -> bool:
        found.append(threading.current_thread().name)
        return matches(password, kept)

    monkeypatch.setattr(users_module, "matches", counted)
    return found


def test_a_password_is_kept_as_scrypt_with_salt_and_cost() -> None:
    """Two hashes of one password differ; only that password matches; the text says what it costs."""
    one, other = hashed(b"swordfish"), hashed(b"swordfish")
    assert one != other
    assert one.startswith("scrypt:14:8:1:")
    assert matches(b"swordfish", read(one))
    assert not matches(b"Swordfish", read(one))
    assert len(random_password()) >= 27
    assert random_password() != random_password()


@pytest.mark.parametrize(
    "text",
    ["", "swordfish", "scrypt:14:8:1:c2FsdHNhbHQ=", "scrypt:40:8:1:c2FsdHNhbHQ=:AA==", "argon2:14:8:1:c2FsdHNhbHQ=:AA==",
     "scrypt:14:8:1:c2FsdHNhbHQ=:AAAA", "scrypt:14:0:1:c2FsdHNhbHQ=:AA==", "scrypt:14:8:1:x:y", "scrypt:-1:8:1:c2FsdHNhbHQ=:AA=="],
)  # fmt: skip
def test_a_hash_that_is_none_or_costs_too_much_is_refused(text: str) -> None:
    """Whoever can write into the file cannot have the agent spend a gigabyte on a log-in."""
    with pytest.raises(ValueError, match=r"scrypt|salt"):
        read(text)


@pytest.mark.parametrize(
    ("rules", "allowed", "denied"),
    [
        (None, ["hw/a/pump-7/data", "hw/b/pump-7/data/flow", "hw/a/pump-7/cmd/ack"],
         ["hw/a/pump-77/data", "hw/a/xpump-7/data", "tele/pump-7/SENSOR", "hw/pump-7/a/data", "hw/a/pump-7"]),
        (["north/*"], ["hw/north/pump-7/data"], ["hw/south/pump-7/data", "hw/north/", "hw/northern/p/data"]),
        (["no?th/p*-7", "s/d"], ["hw/north/pump-7/data", "hw/s/d/data"], ["hw/noth/p-7/data", "hw/s/dd/data", "hw/north/pump-7"]),
        (["a.c/d"], ["hw/a.c/d/data"], ["hw/abc/d/data"]),
        (["topic:tele/+/SENSOR"], ["tele/x/SENSOR"], ["tele/x/y/SENSOR", "tele/x/STATE", "hw/a/pump-7/data"]),
        (["topic:zigbee/#"], ["zigbee", "zigbee/x/y"], ["zigbeex/y"]),
        (["topic:#"], ["anything", "hw/a/b/data"], ["$SYS/broker"]),
        ([], [], ["hw/a/pump-7/data", ""]),
    ],
)  # fmt: skip
def test_what_a_grant_allows(rules: list[str] | None, allowed: list[str], denied: list[str]) -> None:
    """By site and device with wildcards within a name, by filters of MQTT, or the device of one's own name; else nothing."""
    check(rules or ())
    grant = Grant("pump-7", rules)
    for _ in range(2):  # the second time from memory
        assert [topic for topic in allowed if not grant.allows(topic.encode())] == []
        assert [topic for topic in denied if grant.allows(topic.encode())] == []
    assert not grant.allows(b"hw/a/\xff/data")


def test_the_own_name_is_no_pattern() -> None:
    """A user who is called as all devices are called in a grant speaks for none of them; one whose name has a site, for
    that site's device only.
    """
    assert not Grant("*", None).allows(b"hw/a/pump/data")
    assert not Grant(".*", None).allows(b"hw/a/pump/data")
    assert not Grant("pump+", None).allows(b"hw/a/pump/data")
    assert not Grant("+/+", None).allows(b"hw/a/pump/data")
    grant = Grant("north/pump-7", None)
    assert grant.allows(b"hw/north/pump-7/data")
    assert not grant.allows(b"hw/south/pump-7/data")


def test_a_flood_of_topics_fills_no_memory() -> None:
    """However many allowed topics come, few are remembered."""
    grant = Grant("fleet", ["*/*"])
    assert all(grant.allows(b"hw/s/d%d/data" % n) for n in range(40_000))
    assert grant.allows(b"hw/s/d/data/" + b"m" * 200)
    assert len(grant.known) <= 16_384
    assert max(map(len, grant.known)) <= 128


@pytest.mark.parametrize(
    "rule", ["", "north", "a/b/c", "/", "a/+", "topic:", "topic:a/#/b", "topic:a#", "topic:a/b+"]
)
def test_a_grant_that_names_nothing_is_refused(rule: str) -> None:
    """A typo does not become a grant that matches nothing, or everything."""
    with pytest.raises(SettingsError, match="names no devices and no topics"):
        check([rule])


def test_the_file_is_read_by_nobody_else(tmp_path: Path) -> None:
    """Mode 0600, no password in it, and a block that fails changes nothing."""
    path = _file(tmp_path / "users.json", pump=_user("swordfish", "north/*"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"swordfish" not in path.read_bytes()
    before = path.read_bytes()
    with pytest.raises(SettingsError, match="names no devices"), users_file.changed(path) as users:
        users["pump"] = User("", ("nonsense",))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["users.json"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"version": 2, "users": {}}, "newer version"),
        ({"version": 1, "users": {"a": {"pasword": ""}}}, "pasword"),
        ({"version": 1, "users": {"a": {"password": "swordfish"}}}, "user 'a'"),
        ({"version": 1, "users": {"": {}}}, "no name"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, body: object, says: str) -> None:
    """The message names the file and what is wrong."""
    path = tmp_path / "users.json"
    path.write_text(json.dumps(body))
    with pytest.raises(SettingsError, match=says) as error:
        Users(path)
    assert str(path) in str(error.value)


async def _checked(users: Users, user: str, password: str, address: str = "10.0.0.1") -> bool:
    found = await users.check(user, password.encode(), address)
    assert found is None or found.user == user
    return found is not None


def test_who_is_let_in(tmp_path: Path, tries: list[str]) -> None:
    """The right password of a user in the file or in the settings; tried in a thread, and only once if it comes again."""
    users = Users(
        _file(tmp_path / "u", pump=_user("one", "north/*"), card=User("", ("a/b",))), {"fleet": "two"}
    )

    async def all_of_them() -> None:
        for _ in range(3):
            assert await _checked(users, "pump", "one")
            assert await _checked(users, "fleet", "two")
            assert not await _checked(users, "pump", "two")
            assert not await _checked(users, "fleet", "one")
            assert not await _checked(users, "nobody", "one")
            assert not await _checked(
                users, "card", ""
            )  # it has a certificate, and no password is its password
            assert not await _checked(users, "pump", "")

    assert users
    asyncio.run(all_of_them())
    users.close()
    # pump's right one; nobody's; card's. What is not a known right password is known to be wrong.
    assert len(tries) == 3
    assert set(tries) == {"passwords_0"}


def test_a_thousand_devices_come_back(tmp_path: Path, tries: list[str]) -> None:
    """1,000 that ask for the same at once, again and again, cost one slow look."""
    users = Users(_file(tmp_path / "u", fleet=_user("one")))

    async def storm() -> list[bool]:
        return await asyncio.gather(
            *(_checked(users, "fleet", "one", f"10.0.{n % 4}.{n % 250}") for n in range(1_000))
        )

    for _ in range(2):
        assert asyncio.run(storm()) == [True] * 1_000
        users._thread = None  # of the loop before
    assert len(tries) == 1


def test_the_loop_goes_on_while_a_password_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow look does not stop the loop: it runs until the loop itself lets it go on."""
    goes_on = threading.Event()
    monkeypatch.setattr(users_module, "matches", lambda *_: goes_on.wait(10))
    users = Users(_file(tmp_path / "u", pump=_user("one")))

    async def both() -> bool:
        check = asyncio.ensure_future(users.check("pump", b"one"))
        while not users._trying:
            turn = asyncio.Event()
            asyncio.get_running_loop().call_soon(turn.set)
            await turn.wait()
        goes_on.set()  # by the loop, which nothing holds up
        return await check is not None

    assert asyncio.run(both())
    users.close()


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A new user comes in, a removed one and one with a new password stay out and do not stand, others are not asked
    again; a file that is wrong, or gone, changes nothing; and who had to say who they are still has to when none is left.
    """
    seconds = Seconds()
    path = _file(tmp_path / "u", a=_user("one"), b=_user("one"), c=_user("one", "x/y"))
    users = Users(path, monotonic=seconds)

    async def states(password: str) -> list[bool]:
        return [await _checked(users, name, password) for name in "abcd"]

    async def story() -> None:
        assert await states("one") == [True, True, True, False]
        old = {name: users.grant(name) for name in "abc"}
        same = users_file.read(path)["a"]
        _file(path, a=same, c=_user("two"), d=_user("one"))
        assert users.stands(old["b"])  # looked at once a second
        seconds.now += 1.1
        assert await states("one") == [True, False, False, True]
        assert [users.stands(old[name]) for name in "abc"] == [True, False, False]
        generation = users.generation
        for broken in (lambda: path.write_text("{"), path.unlink):
            broken()
            seconds.now += 1.1
            assert await states("one") == [True, False, False, True]
            assert users.generation == generation
        _file(path)
        seconds.now += 1.1
        assert await states("one") == [False] * 4
        assert users
        users.close()

    asyncio.run(story())


def test_a_grant_is_added_to_by_the_settings(tmp_path: Path) -> None:
    """A user's grants are those of the file and those of the settings; an empty list locks out."""
    path = _file(tmp_path / "u", a=_user("one", "s/a"), b=_user("one"), c=User("", ()))
    users = Users(path, grants={"a": ["s/more"], "pump-7.plant": ["s/pump-7"], "thief": []})
    assert users.grant("a").allows(b"hw/s/a/data")
    assert users.grant("a").allows(b"hw/s/more/data")
    assert users.grant("b").allows(b"hw/s/b/data")
    assert users.grant("pump-7.plant").allows(b"hw/s/pump-7/data")
    assert users.grant("thief").nothing
    assert users.grant("c").nothing
    assert not users.stands(Grant("thief", ["s/d"]))
    assert users.grant("unknown").allows(b"hw/s/unknown/data")


def test_a_user_in_two_places_is_refused(tmp_path: Path) -> None:
    """Which of two passwords counts is not left to chance."""
    with pytest.raises(SettingsError, match=r"stands in .* and in edge\.users"):
        Users(_file(tmp_path / "u", a=_user("one")), {"a": "two"})


def _outcome(users: Users, user: str, password: str, address: str) -> str:
    async def look() -> str:
        try:
            if users.recall(user, password.encode(), address) is None:
                await users.try_out(user, password.encode(), address)
            return "in" if users.recall(user, password.encode(), address) else "unknown"
        except WrongPassword as error:
            return f"{'wrong' if error.looked else 'waits'} {error.wait_s:g}"

    try:
        return asyncio.run(look())
    finally:
        users.close()
        users._thread = None


def test_who_guesses_waits_longer_with_each_guess(tmp_path: Path) -> None:
    """After five wrong passwords the sixth waits 1 s, then 2 s, up to a minute, the right one too; another address, and
    another user from the same one, wait for nothing; a password known to be wrong is no guess; time forgives.
    """
    seconds = Seconds()
    users = Users(_file(tmp_path / "u", a=_user("one"), b=_user("one")), monotonic=seconds)
    assert _outcome(users, "a", "one", "10.0.0.1") == "in"
    for n in range(5):
        assert _outcome(users, "a", f"guess {n}", "10.0.0.1") == "wrong 0"
    for _ in range(50):
        assert _outcome(users, "a", "guess 1", "10.0.0.1") == "wrong 0"
    waits = []
    for n in range(5, 13):
        waits.append(_outcome(users, "a", f"guess {n}", "10.0.0.1"))
        assert _outcome(users, "a", "another", "10.0.0.1").startswith("waits")
        assert _outcome(users, "a", "one", "10.0.0.1").startswith("waits")
        assert _outcome(users, "a", "one", "10.0.0.2") == "in"
        assert _outcome(users, "b", "one", "10.0.0.1") == "in"
        seconds.now += float(waits[-1].split()[1])
    assert waits == [f"wrong {wait}" for wait in (1, 2, 4, 8, 16, 32, 60, 60)]
    assert _outcome(users, "a", "one", "10.0.0.1") == "in"
    seconds.now += 601
    assert _outcome(users, "a", "guess 99", "10.0.0.1") == "wrong 0"


def test_guessing_many_users_from_one_address_waits_too(tmp_path: Path, tries: list[str]) -> None:
    """After twenty wrong ones, of whatever users, an address causes no more slow looks for a while; those of it whose
    passwords are known come in all the same.
    """
    users = Users(_file(tmp_path / "u", a=_user("one")), monotonic=Seconds())
    assert _outcome(users, "a", "one", "10.0.0.1") == "in"
    found = [_outcome(users, f"user-{n}", "guess", "10.0.0.1") for n in range(100)]
    assert found[:20] == ["wrong 0"] * 20
    assert all(outcome.startswith("waits") for outcome in found[21:])
    assert len(tries) <= 22
    assert _outcome(users, "a", "one", "10.0.0.1") == "in"


def test_guesses_have_a_bounded_memory() -> None:
    """A guesser with many addresses, users and passwords makes the agent remember no more than so many."""
    seconds = Seconds()
    guesses = Guesses(0, seconds)
    for n in range(30_000):
        guesses.wrong(n)
    assert len(guesses) == 10_000
    users = Users(passwords={"a": "one"}, monotonic=seconds)
    for n in range(10_000):
        with pytest.raises(WrongPassword):
            users.recall("a", b"%d" % n, "10.0.0.1")
    assert len(users._wrong) <= 4_096


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "somewhere", False),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, same: bool) -> None:
    """An IPv4 address, or the 64 leading bits of an IPv6 one."""
    assert (network(one) == network(other)) is same


def test_no_user_means_nobody_is_asked() -> None:
    """Without users, and with the grants of certificates alone, no password is asked for."""
    assert not Users()
    assert not Users(grants={"pump-7": ["a/b"]})

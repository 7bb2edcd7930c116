"""What a store answers is sorted: done, halved until the line is found, waited for; nothing is lost, and nothing in the way of the rest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headwater_cloud.influx_file import Dead
from headwater_cloud.influx_v1 import V1, seconds_of
from headwater_cloud.influx_v2 import V2
from headwater_cloud.influx_write import Answer, Later, Points, Verdict, Writer, judge
from tests.cloud.line_store import LineStore, Said, line_store


@pytest.fixture
def store() -> Iterator[LineStore]:
    with line_store() as made:
        yield made


class Wrote:
    """A writer into a store, and what it buried."""

    def __init__(self, store: LineStore) -> None:
        self.dead: list[Dead] = []
        self.transport = V1(store.url, "", "", 5.0)
        self.writer = Writer(self.transport, self.dead.extend, chance=lambda: 1.0, wall_us=lambda: 7)

    def write(self, count: int) -> list[str]:
        lines = b"".join(b"m v=%di %d\n" % (n, n) for n in range(count))
        return self.writer.write(Points("db", None, False, lines, count, lambda n: f"key {n}"))

    def later(self, count: int = 1) -> Later:
        with pytest.raises(Later) as raised:
            self.write(count)
        return raised.value


@pytest.fixture
def wrote(store: LineStore) -> Iterator[Wrote]:
    made = Wrote(store)
    yield made
    made.transport.close()


BAD = Said(400, '{"error":"partial write: field type conflict dropped=1"}')


def test_bad_lines_are_found_and_all_others_are_written(store: LineStore, wrote: Wrote) -> None:
    """Three of a hundred: each is a dead letter with its key, bytes and the store's words, and the others are there."""
    bad = {3, 50, 99}
    store.answer = lambda _, lines: BAD if any(f"m v={n}i {n}" in lines for n in bad) else None
    assert wrote.write(100) == ["key 3", "key 50", "key 99"]
    assert [one.line for one in wrote.dead] == [b"m v=%di %d\n" % (n, n) for n in sorted(bad)]
    assert all("400" in one.why and "field type conflict" in one.why for one in wrote.dead)
    assert len(store.points) == 97
    assert (wrote.writer.counts.points, wrote.writer.counts.dead) == (97, 3)


def test_the_reason_at_the_end_of_long_words_is_kept(store: LineStore, wrote: Wrote) -> None:
    """InfluxDB 2 says the whole line first, and then what is wrong with it."""
    store.say(Said(400, f"""{{"code":"invalid","message":"unable to parse '{"x" * 2000}': the reason"}}"""))
    wrote.write(1)
    (dead,) = wrote.dead
    assert "the reason" in dead.why
    assert "unable to parse" in dead.why
    assert len(dead.why) < 400


def test_a_request_that_is_too_long_is_halved(store: LineStore, wrote: Wrote) -> None:
    """413 says nothing of the lines: all are written."""
    store.answer = lambda _, lines: Said(413) if len(lines) > 10 else None
    assert wrote.write(64) == []
    assert len(store.points) == 64


def test_dead_letters_are_kept_though_the_store_goes_away_meanwhile(store: LineStore, wrote: Wrote) -> None:
    """The bad line was found, then the store fell silent: the letter is durable, the rest is tried again."""
    seen = []

    def answer(_: str, lines: list[str]) -> Said | None:
        seen.append(lines)
        if len(seen) > 2:
            return Said(503)
        return BAD if "m v=0i 0" in lines else None

    store.answer = answer
    wrote.later(2)
    assert [one.key for one in wrote.dead] == ["key 0"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_store_is_left_alone_as_long_as_it_asks(store: LineStore, wrote: Wrote, status: int) -> None:
    """Retry-After, and a little more, so that not all come back at once; ten minutes at most."""
    store.say(Said(status, "busy", (("Retry-After", "20"),)))
    assert wrote.later().after_s == pytest.approx(22)
    store.say(Said(status, "busy", (("Retry-After", "999999"),)))
    assert wrote.later().after_s == pytest.approx(660)


def test_waits_double_up_to_a_minute_and_begin_anew(store: LineStore, wrote: Wrote) -> None:
    """A store that fails is asked less and less often; one success ends that."""
    store.say(Said(500, "engine: cache-max-memory-size exceeded"))
    assert [wrote.later().after_s for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    store.say(None)
    wrote.write(1)
    store.say(Said(500))
    assert wrote.later().after_s == 0.5


def test_a_database_that_is_missing_is_made(store: LineStore, wrote: Wrote) -> None:
    """With how long it keeps points; where it may not be made, the wait says how a person does it."""
    store.databases = set()
    lines = Points("hw_1m", 7 * 86_400_000_000, False, b"m v=1i 1\n", 1, str)
    assert wrote.writer.write(lines) == []
    assert store.made == ['CREATE DATABASE "hw_1m" WITH DURATION 604800s REPLICATION 1 NAME "autogen"']
    store.say(Said(404, '{"error":"database not found"}'))
    assert 'CREATE DATABASE "db"' in wrote.later().hint


def test_a_page_of_something_between_makes_no_dead_letter(store: LineStore, wrote: Wrote) -> None:
    """A proxy's 400, a redirect: it knows nothing of lines, so they wait."""
    for said in (Said(400, "<html>Bad Request</html>"), Said(302), Said(418, "{}")):
        store.say(said)
        assert str(said.status) in wrote.later().message
    assert wrote.dead == []


def test_r28_only_what_influxdb_says_to_a_write_counts_as_taken(store: LineStore, wrote: Wrote) -> None:
    """A captive portal says 200 and shows a page: the points are tried again, and a person is told what stands there."""
    store.say(Said(200, "<html>Log in to the network</html>"))
    later = wrote.later()
    assert "200 <html>Log in" in later.message
    assert "204" in later.hint
    assert not later.unsure
    assert (wrote.writer.counts.points, store.points) == (0, {})
    store.say(None)
    wrote.write(1)
    assert len(store.points) == 1


def test_nobody_there_is_waited_for(wrote: Wrote, store: LineStore) -> None:
    """Nobody listens: nothing was sent, so nothing can arrive late, and requests are no smaller for it."""
    store.close()
    later = wrote.later(64)
    assert "[cloud.influx] url" in later.hint
    assert (later.after_s, later.unsure) == (0.5, False)
    requests = wrote.writer.counts.requests
    assert not wrote.later(64).unsure
    assert wrote.writer.counts.requests == requests + 1


def test_r28_a_connection_that_is_cut_may_have_brought_it(wrote: Wrote, store: LineStore) -> None:
    """There was one: what was sent may be under way, whatever ended it."""

    def cut(_database: str, _lines: list[str]) -> Said | None:
        raise ConnectionAbortedError

    store.answer = cut
    assert wrote.later().unsure


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Answer(204), Verdict.DONE),
        (Answer(200), Verdict.WAIT),
        (Answer(200, "<html>Log in</html>"), Verdict.WAIT),
        (Answer(201, '{"message":"ok"}'), Verdict.WAIT),
        (Answer(302), Verdict.WAIT),
        (Answer(400, '{"error":"partial write: points beyond retention policy dropped=7"}'), Verdict.DONE),
        (
            Answer(
                422,
                '{"code":"unprocessable entity","message":"partial write: dropped 4 points outside retention policy of duration 24h"}',
            ),
            Verdict.DONE,
        ),
        (
            Answer(422, '{"code":"unprocessable entity","message":"failure: field type conflict"}'),
            Verdict.SPLIT,
        ),
        (Answer(400, '{"error":"unable to parse"}'), Verdict.SPLIT),
        (Answer(401, '{"code":"unauthorized"}'), Verdict.WAIT),
        (Answer(403), Verdict.WAIT),
        (Answer(404), Verdict.MAKE),
        (Answer(500), Verdict.WAIT),
        (Answer(0, "refused"), Verdict.WAIT),
    ],
)
def test_verdicts(answer: Answer, verdict: Verdict) -> None:
    """The table of docs/influx.md."""
    assert judge(answer)[0] is verdict


def test_retry_after_is_seconds_or_a_date() -> None:
    """Anything else is nothing."""
    assert (seconds_of("7"), seconds_of(""), seconds_of("soon")) == (7.0, 0.0, 0.0)
    assert seconds_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert seconds_of("Wed, 21 Oct 2099 07:28:00 GMT") > 1e9


def test_the_way_to_2_x_says_what_came(store: LineStore) -> None:
    """Over influxdb-client: its errors become answers, its retries are off."""
    pytest.importorskip("influxdb_client")
    away = V2("http://127.0.0.1:9", "home", "token", 2.0)
    answer = away.send("b", b"m v=1i 1\n", nanoseconds=False)
    assert (answer.status, answer.sent) == (0, False)
    assert "influx bucket create --org home --name b" in away.missing("b")
    away.close()

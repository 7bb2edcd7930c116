"""Dead letters on the bus: listed, shown, taken again with their identity, let go; on both buses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from headwater_cloud import dead_letters
from headwater_cloud.cli import app
from headwater_shared import avro
from headwater_shared.bus import Record
from headwater_shared.errors import Refused
from headwater_shared.kafka_bus import KafkaBus
from headwater_shared.topics import DEAD_LETTERS, IN
from tests.cloud.made import SHARD, TEMP, Agent, row
from tests.cloud.side import Side, windows_of
from tests.cloud.test_retention import A, B, pass_days
from tests.kafka import KafkaServer, MadeTopics
from tests.support import until

SENT = ("frame", "anomaly", "heartbeat")


def call(settings: Path, *words: str) -> list[str]:
    """Run `headwater-cloud dead-letters`; an error that a person can act on is raised."""
    done = CliRunner().invoke(app, ["dead-letters", *words, "--settings", str(settings)])
    if isinstance(done.exception, Refused):
        raise done.exception
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output.splitlines()


@pytest.fixture
def settings(side: Side) -> Path:
    path = side.folder / "headwater.toml"
    path.write_text(f'[common]\ndata = "{side.folder}"\n')
    return path


def before_the_upgrade(side: Side, *some: Record) -> None:
    """A cloud side of before takes records in, which knows what agents send under other fingerprints only."""
    known = avro.fingerprint
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(avro, "fingerprint", lambda name: bytes(8) if name.startswith(SENT) else known(name))
        side.take(*some)
    side.reopen()


def test_r23_a_frame_of_an_unknown_fingerprint_is_counted_after_an_upgrade(
    side: Side, settings: Path
) -> None:
    """Its seq was taken when its bytes were safe, and the agent has let it go; replayed it is let through all the same, and
    counts once, also if it is replayed again, or comes again by itself.
    """
    agent = Agent()
    sent = [agent.frame(row(10 * n, 1.0 + n, opened=("a1", 1, n))) for n in range(3)]
    before_the_upgrade(side, *sent)
    assert windows_of(side) == []
    assert side.haves() == {("a1", 1, SHARD): [1, 3]}
    assert len(call(settings, "list")) == 3
    assert call(settings, "replay", "--reason", "unknown-version") == ["3 put on the bus again, 0 not"]
    side.run()
    assert side.rows("SELECT count(*), sum(count) FROM window") == [(3, 3)]
    assert call(settings, "list") == ["no dead letters"]
    counted = windows_of(side)
    assert call(settings, "replay", "0", "2") == ["2 put on the bus again, 0 not"]
    side.take(*sent)
    side.reopen()
    side.run()
    assert windows_of(side) == counted
    assert side.haves() == {("a1", 1, SHARD): [1, 3]}
    assert side.reports() == []
    assert len(side.topic(DEAD_LETTERS)) == 3 + 2, "the letters, and a note of each replay"


def test_a_record_is_replayed_as_it_was(side: Side, settings: Path) -> None:
    """Bytes, key and every header come back, those that the letter has under other names too; one says which letter it was."""
    sent = Agent().frame(row(0, 1.0))
    sent = msgspec.structs.replace(
        sent, headers={**sent.headers, "reason": "own", "region": "east", "traceparent": "00-x"}
    )
    before_the_upgrade(side, sent)
    call(settings, "replay", "0")
    again = side.topic(IN)[-1]
    assert (again.partition, again.key, again.body) == (sent.partition, sent.key, sent.body)
    assert again.headers == {**sent.headers, "replay-of": "hw-dead-letters/0/0"}


def test_a_letter_of_before_is_replayed_by_what_is_in_it(side: Side, settings: Path) -> None:
    """Letters that kept no headers of their record count by the identity in their body."""
    before_the_upgrade(side, Agent().frame(row(0, 1.0)))
    (letter,) = side.topic(DEAD_LETTERS)
    headers = {name: text for name, text in letter.headers.items() if not name.startswith("was-")}
    side.put(Record(letter.topic, 0, letter.key, headers, letter.body))
    call(settings, "replay", "1")
    side.run()
    assert side.rows("SELECT sum(count) FROM window") == [(1,)]


def test_anomalies_commands_and_what_bears_no_identity_come_again_too(side: Side, settings: Path) -> None:
    """Replayed after an upgrade, an anomaly is an alert, and a heartbeat takes effect."""
    agent = Agent()
    before_the_upgrade(side, agent.frame(row(0, 1.0)), agent.anomaly("begin", 5), agent.heartbeat(10))
    assert side.told() == []
    call(settings, "replay", "--reason", "*")
    side.run()
    assert side.told() == ["firing"]
    assert side.rows("SELECT complete_us > 0 FROM progress") == [(1,)]


def test_what_can_still_not_be_read_is_a_dead_letter_anew(side: Side, settings: Path) -> None:
    """A replay before the upgrade loses nothing: the letter comes back under another number, and can be replayed once more."""
    sent = Agent().frame(row(0, 1.0))
    before_the_upgrade(side, sent)
    call(settings, "replay", "0")
    before_the_upgrade(side)
    (line,) = call(settings, "list")
    assert line.startswith("2 ")
    assert len(call(settings, "list", "--replayed")) == 2
    call(settings, "replay", "--reason", "*")
    side.run()
    assert side.rows("SELECT sum(count) FROM window") == [(1,)]
    assert side.topic(IN)[-1].headers == {**sent.headers, "replay-of": "hw-dead-letters/0/2"}


def test_an_unreadable_first_row_is_no_new_file(side: Side) -> None:
    """What cannot be read may name a predecessor all the same: only a row that can be read says that it follows none (R6)."""
    agent = Agent()
    side.take(agent.frame(row(0, 1.0)))
    agent.restart(2)
    before_the_upgrade(side, agent.frame(row(10, 1.0)))
    assert side.reports() == []


def test_letters_are_listed_and_shown(side: Side, settings: Path) -> None:
    """The newest first, those of a reason, the last so many; whole with headers and bytes; as JSON."""
    agent = Agent()
    sent = [agent.frame(row(10 * n, 1.0)) for n in range(4)]
    bad = [msgspec.structs.replace(one, body=b"\xc3\x01broken") for one in sent[:3]]
    side.take(*bad)
    side.take(msgspec.structs.replace(sent[3], headers={"ce_type": "x", "ce_id": "1"}))
    assert [line.split()[0] for line in call(settings, "list")] == ["3", "2", "1", "0"]
    assert [line.split()[0] for line in call(settings, "list", "--last", "2", "--reason", "unknown-v*")] == [
        "2",
        "1",
    ]
    assert call(settings, "list", "--reason", "late") == ["no dead letters of the reason late"]
    shown = "\n".join(call(settings, "show", "2"))
    assert re.search(rf"identity +a1/{1:016x}/{SHARD}/3\n", shown)
    assert re.search(rf"where +hw-in/{SHARD}/2\n", shown)
    assert re.search(r"bytes +'\\xc3\\x01broken'", shown)
    first = json.loads(call(settings, "list", "--json", "--last", "1")[0])
    assert (first["number"], first["reason"], first["was"]) == (3, "unknown-kind", "x")
    with pytest.raises(Refused, match="there is no dead letter 17"):
        call(settings, "show", "17")


def test_r28_late_parts_are_shown_and_never_written(side: Side, settings: Path) -> None:
    """A person sees what came too late, window by window; a replay says why it does not take them."""
    agent = Agent()
    side.take(agent.frame(row(0, 1.0, opened=A)), agent.frame(row(1, 2.0, opened=B)))
    pass_days(side, 8)
    side.prune()
    side.take(Agent("late", 5).frame(row(0, 1.0, 5.0, opened=A, revision=1)))
    rows = windows_of(side)
    (line,) = call(settings, "list")
    assert "1 parts of windows that are no longer revised" in line
    assert f"  {TEMP}  10s  2027-01-15T08:00:00Z  count 2, mean 3, min 1, max 5" in call(
        settings, "show", "0"
    )
    assert call(settings, "replay", "0")[0] == "0 put on the bus again, 1 not"
    side.run()
    assert windows_of(side) == rows


def test_letters_are_read_back_in_portions(
    side: Side, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, whatever retention and purges took: each once, the newest first, marked where it was replayed."""
    monkeypatch.setattr(dead_letters, "_AT_ONCE", 3)
    agent = Agent()
    side.take(*(msgspec.structs.replace(agent.frame(), body=b"%d" % n) for n in range(11)))
    call(settings, "purge", "4", "0")
    call(settings, "replay", "1", "6", "9", "10")
    side.run()
    found = [(letter.number, letter.replayed) for letter in dead_letters.back(side.log)]
    again = [1, 6, 9, 10]
    assert [number for number, _ in found[-9:]] == [10, 9, 8, 7, 6, 5, 3, 2, 1]
    assert sorted(number for number, replayed in found if replayed) == again
    assert len(found) == 9 + len(again)


def test_letters_are_let_go(side: Side, settings: Path) -> None:
    """One by one, or all that the bus took before a time; nothing else goes, and neither without being asked."""
    agent = Agent()
    for n in range(5):
        side.take(msgspec.structs.replace(agent.frame(), body=b"%d" % n))
        side.clock.advance(86_400)
    assert call(settings, "purge", "1", "3") == ["2 purged"]
    assert [line.split()[0] for line in call(settings, "list")] == ["4", "2", "0"]
    assert call(settings, "purge", "--before", "2027-01-17T12:00:00Z") == ["2 purged"]
    assert [line.split()[0] for line in call(settings, "list")] == ["4"]
    for words in ((), ("4", "--before", "2027-01-17")):
        with pytest.raises(Refused, match="name letters, or --before"):
            call(settings, "purge", *words)
    with pytest.raises(Refused, match="name letters, or --reason"):
        call(settings, "replay")


def test_where_there_is_no_log_nothing_is_made(tmp_path: Path) -> None:
    """A wrong folder is an error, not an empty log."""
    path = tmp_path / "headwater.toml"
    path.write_text(f'[common]\ndata = "{tmp_path}/nowhere"\n')
    with pytest.raises(Refused, match="there is no log"):
        call(path, "list")
    assert not (tmp_path / "nowhere").exists()


def test_on_kafka_too(kafka: KafkaServer, tmp_path: Path) -> None:
    """List, show, replay; purge from the beginning on, which is all that Kafka can."""
    topics = MadeTopics(kafka)
    path = tmp_path / "headwater.toml"
    path.write_text(f'[cloud]\nbus = "{kafka.address}"\n[kafka]\nprefix = "{topics.prefix}"\n')
    bus = KafkaBus(topics.client, topics.prefix)
    try:
        from headwater_cloud.outputs import DeadLetter, dead_letter_record
        from headwater_shared.bus import Stored

        one = Agent().frame(row(0, 1.0))
        stored = [Stored(one.topic, SHARD, n, 0, one.key, one.headers, one.body) for n in range(3)]
        bus.append_once("test", 1, [dead_letter_record(DeadLetter("damaged", "a test", s)) for s in stored])
        until(lambda: len(call(path, "list")) == 3, 10, "the letters are there")
        second = int(call(path, "list")[1].split()[0])
        assert "reason                      damaged" in call(path, "show", str(second))
        assert call(path, "replay", str(second)) == ["1 put on the bus again, 0 not"]
        (again,) = bus.read(IN.name, {SHARD: 0}, 10)
        assert (again.key, again.body, again.headers["ce_id"]) == (one.key, one.body, one.headers["ce_id"])
        assert len(call(path, "list")) == 2
        with pytest.raises(Refused, match="from the beginning of a topic on only"):
            call(path, "purge", str(second))
        assert call(path, "purge", "--before", "2100-01-01") == ["3 purged"]
        assert call(path, "list") == ["no dead letters"]
    finally:
        bus.close()
        topics.delete()

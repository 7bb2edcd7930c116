"""Traces of what no run gives when it is asked to: `python -m tests.golden.synthetic` writes them anew.

The outcome is that of the local runner at batches of 1; a test holds it against every other cut. Clocks go on at the end, act by
act, until every gap and every silence must have been reported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import msgspec

from headwater_cloud.book import AlertPolicy, Book, Compare, Maintenance, Pattern, Step
from headwater_cloud.outputs import REPLAY_OF
from headwater_cloud.rule_records import home_of, rules_record
from headwater_shared import actions
from headwater_shared.alert_records import Action, Doing
from headwater_shared.bus import Record
from headwater_shared.identity import shard_of, stable_id
from tests.cloud.made import SHARD, T0, Agent, S, clock_record, row, without
from tests.cloud.side import in_memory
from tests.cloud.test_rollups import registered
from tests.golden import local, trace
from tests.golden.outcome import Outcome
from tests.golden.trace import Act, Input, Trace

OTHER = shard_of("s2")
_PATIENT_S = (61, 301, 61)
"""Longer than `gap_after`, then than `silent_after`."""


class Tape:
    """Puts records down, each at the time of the bus."""

    def __init__(self) -> None:
        self.now_us = T0
        self.acts: list[Act] = [[]]

    def put(self, *some: Record) -> None:
        for one in some:
            self.acts[-1].append(Input(one.partition, self.now_us, one.key, dict(one.headers), one.body))

    def clocks(self, seconds: float, *shards: int) -> None:
        """Time passes; clock records of some shards."""
        self.now_us += round(seconds * S)
        self.put(*(clock_record(shard, self.now_us) for shard in shards or (SHARD, OTHER)))

    def end(self) -> list[Act]:
        """Let clocks go on for as long as anything can wait for."""
        shards = sorted({one.partition for act in self.acts for one in act})
        for seconds in _PATIENT_S:
            self.acts.append([])
            self.clocks(seconds, *shards)
        return self.acts


def broken(one: Record, body: bytes) -> Record:
    return msgspec.structs.replace(one, body=body)


def streams(tape: Tape) -> None:
    """Gaps that stay and gaps that close, files that went back, twins under one epoch, a file that was begun anew, repeats."""
    one, two = Agent("a1"), Agent("a2", epoch=50)
    tape.clocks(0)
    sent = [one.frame(row(10 * n, 0.1 * n, 0.2, opened=("a1", 1, n + 1))) for n in range(12)]
    tape.put(sent[0], sent[1], one.anomaly("begin", 12), sent[3], sent[7], sent[1], one.heartbeat(20))
    tape.clocks(30)
    for n in range(6):
        at = ("a2", 50, n)
        tape.put(
            two.frame(row(10 * n, 0.3, series="s2/d1/x", opened=at)),
            two.anomaly("begin", n, series="s2/d1/x", rule="r"),
        )
        tape.put(two.frame(row(10 * n + 1, 0.7, 1e9, opened=at)), two.heartbeat(n * 10, shard=OTHER))
    tape.put(sent[2], sent[2], sent[8], one.heartbeat(120), one.anomaly("end", 14, begin=12))
    tape.clocks(45)
    one.seqs[SHARD] -= 2
    tape.put(one.frame(row(50, 8.0, opened=("a1", 1, 99))))  # a twin goes on under the same epoch
    one.restart(2)
    tape.put(
        one.frame(row(3, 5.0, opened=("a1", 2, 1)), row(10, 0.1, 0.2, 0.3, opened=("a1", 1, 2), revision=1))
    )
    two.seqs[OTHER] = 3  # restored from a backup
    two.restart(51)
    tape.put(two.frame(row(60, 1.0, series="s2/d1/x", opened=("a2", 51, 90))))
    new = Agent("a2", epoch=52)
    tape.put(new.frame(row(70, 1.0, series="s2/d1/x", opened=("a2", 52, 1))), new.heartbeat(80, shard=OTHER))
    tape.put(*sent[4:6], one.heartbeat(200))
    tape.clocks(20)


def revisions(tape: Tape) -> None:
    """Revisions in any order, of two agents and three epochs, a part that is taken away and comes back, equal revisions, marks."""
    one, two = Agent("a1"), Agent("a2", epoch=9)
    tape.clocks(0)
    whole = [
        one.frame(row(5, *[1.5 * k for k in range(n + 1)], opened=("a1", 1, 3), revision=n)) for n in range(6)
    ]
    tape.put(whole[3], whole[0], whole[5], whole[1])
    tape.put(two.frame(*(row(5, 7.0, 1e-300, opened=("a2", 9, n)) for n in range(4))))
    gone = row(25, 3.0, 4.0, opened=("a1", 1, 4))
    tape.put(one.frame(gone), one.frame(without(gone, 1)), one.frame(gone._replace(revision=2)))
    lost = row(35, 3.0, opened=("a1", 1, 5))
    tape.put(one.frame(without(lost, 4)), one.frame(lost))
    tape.put(one.frame(row(45, 1.0, opened=("a1", 1, 6))), two.frame(row(45, 1.0, 2.0, opened=("a1", 1, 6))))
    tape.put(one.frame(row(45, -0.0, 0.0, 1e308, -1e308, opened=("a1", 1, 7))))
    one.restart(2)
    tape.put(one.frame(row(5, 11.0, opened=("a1", 2, 1)), row(5, 1.0, opened=("a1", 1, 3), revision=4)))
    for level in ("1m", "10m", "1h"):
        tape.put(
            one.frame(row(5, 1.0, 2.0, level=level, opened=("a1", 2, 2))),
            two.frame(row(65, 5.0, level=level, opened=("a2", 9, 7))),
        )
    tape.put(*whole, one.heartbeat(100), two.heartbeat(100))
    tape.clocks(30)


def clocks(tape: Tape) -> None:
    """Clock records missing at first, twice, late, in the future, damaged; heartbeats that wait for what is missing."""
    one = Agent("a1")
    sent = [one.frame(row(10 * n, 1.0, opened=("a1", 1, n))) for n in range(8)]
    tape.put(sent[0], sent[5], one.heartbeat(60), one.heartbeat(30, last_seq=1))
    tape.now_us += 100 * S
    tape.put(sent[6])
    tape.clocks(1)
    tape.clocks(0)
    before = clock_record(SHARD, tape.now_us)
    tape.clocks(20, SHARD)
    tape.put(
        before,
        clock_record(SHARD, tape.now_us + 3600 * S),
        broken(before, b"\xc3\x01"),
        clock_record(OTHER, tape.now_us - 4 * S),
    )
    tape.put(*sent[1:4], one.heartbeat(70))
    tape.clocks(59, SHARD)
    tape.put(sent[4])
    tape.clocks(2, SHARD)


def damaged(tape: Tape) -> None:
    """What nobody can read: cut off, flipped, of an unknown kind or version, in the wrong partition, with and without an identity; a replay."""
    one = Agent("a1")
    tape.clocks(0)
    good = one.frame(row(0, 1.0))
    readable = one.frame(row(10, 1.0))
    unknown = broken(readable, readable.body[:2] + bytes(8) + readable.body[10:])
    cut = one.frame(row(20, 1.0))
    cut = broken(cut, cut.body[:-9])
    tape.put(good, unknown, unknown, cut, broken(one.anomaly("begin", 5), b"no avro"))
    nan = one.anomaly("begin", 9, float("nan"))
    nameless = msgspec.structs.replace(
        good, headers={"ce_type": "io.headwater.frame", "ce_id": "no identity"}, body=b"\xc3\x01no frame"
    )
    tape.put(
        nan,
        nameless,
        nameless,
        msgspec.structs.replace(good, headers={"ce_type": "org.other.kind", "ce_id": "1"}),
    )
    tape.put(msgspec.structs.replace(good, partition=OTHER), broken(one.heartbeat(10), b""))
    for at in range(0, len(good.body), max(1, len(good.body) // 40)):
        flipped = bytearray(one.frame(row(30 + at, 1.0)).body)
        flipped[at % len(flipped)] ^= 0x55
        tape.put(
            msgspec.structs.replace(
                good,
                headers={**good.headers, "ce_id": f"a1/{1:016x}/{SHARD}/{one.seqs[SHARD]}"},
                body=bytes(flipped),
            )
        )
    tape.put(one.frame(row(900, 2.0)), one.heartbeat(900))
    tape.clocks(5)
    again = {**readable.headers, REPLAY_OF: "hw-dead-letters/0/0"}
    for body in (
        readable.body,
        readable.body,
        unknown.body,
    ):  # as an upgrade, and a person, put it on the bus again
        tape.put(msgspec.structs.replace(readable, headers=again, body=body))


APART = Compare("apart", "temp", cohort="street", level="1m", severity="critical")


def peers(tape: Tape) -> None:
    """Sensors of two sites in one cohort: one drifts and is set right, another one is wrong once and is revised later, all see a hot
    hour, one window is taken away, a cohort of four is silent, and rules come while windows are open.
    """
    one, two, away = Agent("a1"), Agent("a2", epoch=9), Agent("a3", epoch=5)
    tape.clocks(0)
    sensors = [f"s{1 + n % 2}/d{n}" for n in range(10)]
    tape.put(*(registered(name, "street") for name in sensors))
    tape.put(*(registered(f"s1/v{n}", "valves") for n in range(4)))
    tape.put(*(rules_record(Book(compare=(APART,), time_us=T0), shard) for shard in (SHARD, OTHER)))

    def minute(at: int, values: dict[str, float], revision: int = 0) -> None:
        made = [
            row(
                60 * at,
                value,
                value,
                series=f"{name}/temp",
                level="1m",
                opened=("a1", 1, 100 + at),
                revision=revision,
            )
            for name, value in values.items()
        ]
        for agent, site in ((one, "s1/"), (two, "s2/")):
            some = [each for each in made if each.series.startswith(site)]
            if some:
                tape.put(agent.frame(*some))

    def usual(at: int) -> dict[str, float]:
        heat = 300.0 if 6 <= at < 9 else 0.0
        return {name: 12.0 + 0.2 * n + 0.1 * (at % 3) + heat for n, name in enumerate(sensors)}

    for at in range(12):
        drifts = {"s1/d4": 12.8 + 4.0 * at} if at < 9 else {}
        wrong = {"s2/d7": 90.0} if at == 3 else {}
        valves = {f"s1/v{n}": 5.0 + 40.0 * (n == 2) for n in range(4)}
        minute(at, {**usual(at), **drifts, **wrong, **valves})
        for _ in range(3):
            tape.clocks(20)
        if at == 5:  # the same rule, but only what is far: what is judged from now on
            for _ in range(2):  # first all is rolled up by the rule of before, whatever the cut into batches
                tape.acts.append([])
                tape.clocks(20)
            stricter = Book(compare=(msgspec.structs.replace(APART, least=25.0),), time_us=tape.now_us)
            tape.put(*(rules_record(stricter, shard) for shard in (SHARD, OTHER)))
    tape.acts.append([])
    tape.clocks(100)
    minute(3, {"s2/d7": 13.4}, revision=1)
    gone = row(60 * 4, 1.0, series="s1/d4/temp", level="1m", opened=("a1", 1, 104))
    tape.put(one.frame(without(gone, 1)))
    late = row(60 * 2, 500.0, series="s2/d9/temp", level="1m", opened=("a3", 5, 1))
    tape.put(away.frame(late))
    for _ in range(3):
        tape.clocks(20)
    # The last word of each agent, behind which no clock is of the same act: that it is silent since then is the same for every runner.
    tape.put(one.heartbeat(720), two.heartbeat(720, shard=OTHER), away.heartbeat(200, shard=OTHER))


def alerts(tape: Tape) -> None:
    """Eight devices of a site fail within two minutes; some are acknowledged, one by the id that it had before late input moved its begin,
    one before its anomaly came; one is muted, one ended by hand; a maintenance begins and ends; ends come before begins, and again.
    """
    one, late = Agent("a1"), Agent("a2", epoch=9)
    tape.clocks(0)
    quiet = Maintenance("m", "s1/d7", T0 + 100 * S, T0 + 200 * S, "ann", "new bearing")
    policy = AlertPolicy(calm_us=30 * S, escalate_us=90 * S)
    tape.put(
        *(rules_record(Book(alerts=policy, maintenance=(quiet,), time_us=T0), n) for n in (SHARD, OTHER))
    )

    def did(what: Doing, device: int, begin: float, *, whole: bool = False, until: float = 0) -> Record:
        series = f"s1/d{device}/temp"
        alert = stable_id("too-hot", series, T0 + round(begin * S))
        action = Action(
            f"{what}-{device}-{begin}", SHARD, alert, f"s1/d{device}", "too-hot", series, T0 + round(begin * S), what, whole, "ann",
            "because", tape.now_us, T0 + round(until * S) if until else 0,
        )  # fmt: skip
        return actions.record_of(action, "synthetic")

    for n in range(8):
        tape.put(one.anomaly("begin", 10.0 * n, 90.0 + n, series=f"s1/d{n}/temp"))
        tape.clocks(10)
    tape.put(
        did("ack", 0, 0),
        did("mute", 1, 10, until=150),
        did("resolve", 2, 20),
        did("comment", 3, 30),
        did("ack", 5, 45),
    )
    tape.clocks(20)
    tape.put(
        late.anomaly("begin", 45, 88.0, series="s1/d5/temp"),
        late.anomaly("end", 52, begin=45, series="s1/d5/temp"),
    )
    tape.put(did("ack", 5, 50), did("ack", 0, 0))
    tape.acts.append([])
    tape.put(
        one.anomaly("end", 130, 70.0, begin=40, series="s1/d4/temp"),
        one.anomaly("end", 95, begin=70, series="s1/d7/temp"),
    )
    tape.put(
        one.anomaly("end", 140, series="s1/d8/temp", begin=135),
        one.anomaly("begin", 118, series="s1/d7/temp"),
    )
    tape.clocks(60)
    tape.put(
        late.anomaly("begin", 135, series="s1/d8/temp"),
        one.anomaly("begin", 300, series="s2/d1/flow", rule="stuck"),
    )
    tape.put(
        one.anomaly("end", 60, begin=0, series="s1/d0/temp"),
        late.anomaly("end", 60, begin=0, series="s1/d0/temp"),
    )
    tape.clocks(60)
    tape.put(did("ack", 3, 30, whole=True))
    tape.clocks(5)
    tape.put(one.anomaly("begin", 180, series="s1/d9/temp"), did("unmute", 1, 10))
    tape.put(one.heartbeat(300), late.heartbeat(300))


MINUTE = 60 * S
PATTERNS = (
    Pattern("bearing", within_us=20 * MINUTE, sequence=(Step("anomaly", "shakes"), Step("anomaly", "warm", for_us=MINUTE)), severity="critical"),
    Pattern("not-stopped", within_us=20 * MINUTE, sequence=(
        Step("anomaly", "shakes"), Step("command", "stop", status="done", absent=True), Step("anomaly", "warm"),
    )),
    Pattern("no-flow", within_us=5 * MINUTE, sequence=(
        Step("command", "start", status="done"), Step("window", series="*/flow", level="10s", above=1.0, absent=True),
    )),
    Pattern("hot-windows", sequence=(Step("window", series="*/temp", level="10s", above=80.0, for_us=30 * S),)),
    Pattern("both", within_us=10 * MINUTE, all=(Step("anomaly", "warm"), Step("device", "offline", for_us=2 * MINUTE))),
    Pattern("power", "site", 2 * MINUTE, of=Step("device", "offline"), count=3, distinct="device", calm_us=3 * MINUTE, text="{devices}"),
    Pattern("model", "cohort", 30 * MINUTE, of=Step("anomaly", "warm"), count=4, distinct="device", for_us=MINUTE),
)  # fmt: skip


def patterns(tape: Tape) -> None:
    """A pattern of each kind: sequence, negation, absence, windows for a while, all, a count in a site and in a cohort over shards;
    late, revised, twice; an agent that comes back with its backlog; a rule that changes and one that goes.
    """
    one, two, home = Agent("a1"), Agent("a2", epoch=9), home_of("+pumps")
    every = (SHARD, OTHER, home)
    tape.clocks(0, *every)
    tape.put(*(registered(name, "pumps") for name in ("s1/d1", "s1/d2", "s1/d3", "s2/d1", "s2/d2")))
    tape.put(*(rules_record(Book(PATTERNS, time_us=T0), shard) for shard in every))
    shakes = [one.anomaly("begin", 60, series=f"s1/{d}/v", rule="shakes") for d in ("d1", "d2")]
    warm = [
        one.anomaly("begin", at, series=f"s1/{d}/temp", rule="warm") for d, at in (("d1", 240), ("d2", 300))
    ]
    stopped = one.ended("s1/d2", "stop", "done", 120)
    tape.put(warm[0], shakes[1], warm[1], one.heartbeat(310), shakes[0], shakes[0])  # the stop comes late
    tape.put(
        one.ended("s1/d3", "start", "done", 100),
        one.ended("s1/d1", "start", "done", 130),
        one.ended("s1/d1", "start", "open", 129),
    )
    tape.clocks(200, *every)
    tape.acts.append([])
    tape.put(stopped, one.anomaly("end", 360, begin=300, series="s1/d2/temp", rule="warm"))
    tape.put(
        *(
            one.frame(row(at, 20.0 * (at != 20) + 70, series="s1/d1/temp", opened=("a1", 1, at + 1)))
            for at in range(0, 60, 10)
        )
    )
    tape.put(one.frame(row(150, 3.0, series="s1/d1/flow", opened=("a1", 1, 99))), one.heartbeat(500))
    tape.clocks(200, *every)
    tape.put(one.frame(row(20, 99.0, series="s1/d1/temp", opened=("a1", 1, 21), revision=1)))
    for n, device in enumerate(("s1/d1", "s1/d2", "s1/d3")):
        tape.put(
            one.status(device, "offline", 420 + 20 * n),
            one.status(device, "online", 500 + 200 * n, "offline", 420 + 20 * n),
        )
    tape.clocks(100, *every)
    tape.acts.append([])
    # The other gateway was away, and comes back with an old story.
    tape.put(
        *(
            two.anomaly("begin", at, series=f"s2/{d}/temp", rule="warm")
            for d, at in (("d1", 200), ("d2", 700))
        )
    )
    tape.put(
        two.anomaly("end", 420, begin=200, series="s2/d1/temp", rule="warm"),
        two.heartbeat(800, shard=OTHER),
        one.heartbeat(800),
    )
    tape.clocks(600, *every)
    tape.acts.append([])
    changed = (msgspec.structs.replace(PATTERNS[0], text="other words", since_us=tape.now_us), *PATTERNS[2:])
    tape.put(one.anomaly("begin", 900, series="s1/d3/v", rule="shakes"))
    tape.put(*(rules_record(Book(changed, time_us=tape.now_us), shard) for shard in every))
    tape.put(one.anomaly("begin", 1500, series="s1/d3/temp", rule="warm"), one.heartbeat(1700))
    tape.put(one.anomaly("end", 1600, begin=240, series="s1/d1/temp", rule="warm"))
    tape.clocks(300, *every)
    tape.put(one.heartbeat(2500), two.heartbeat(2500, shard=OTHER))


STORIES: dict[str, Callable[[Tape], None]] = {
    "streams": streams,
    "revisions": revisions,
    "clocks": clocks,
    "damaged": damaged,
    "peers": peers,
    "alerts": alerts,
    "patterns": patterns,
}


def made(name: str) -> Trace:
    """The trace of a story."""
    tape = Tape()
    STORIES[name](tape)
    nothing = Outcome(
        windows=[], anomalies=[], commands=[], devices=[], device_changes=[], alerts=[], changes={}, latest={}, complete=[],
        reports=[], dead=[], late=[], haves={}, gaps=[], silent=[],
    )  # fmt: skip
    about = (STORIES[name].__doc__ or "").strip()
    unread = Trace(about, tape.end(), nothing)
    with in_memory() as folder:
        return msgspec.structs.replace(unread, outcome=local.play(unread, folder, 1))


def written() -> Iterator[str]:
    """Write all of them; say what each holds."""
    for name in STORIES:
        found = made(name)
        size = trace.write(trace.FOLDER / f"{name}.trace", found)
        yield f"{name}: {sum(map(len, found.acts))} records, {len(found.outcome.windows)} windows, {size:,} bytes"


if __name__ == "__main__":
    os.environ.setdefault("HEADWATER_CRASH", "")
    for line in written():
        print(line)

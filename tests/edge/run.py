"""One agent's step in the tests: state and journal beside a plain account of what must be counted (R1, R2, R3)."""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from headwater_edge import journal, snapshot
from headwater_edge.detection.signed import NO_KEY, Seal
from headwater_edge.events import Event, Flush, Start
from headwater_edge.output import Output
from headwater_edge.rows import commit_of
from headwater_edge.settings import StepSettings
from headwater_edge.snapshot import Picture
from headwater_edge.state import State
from headwater_edge.step import step
from headwater_shared.clock import SetClock
from headwater_shared.parts import level_of
from tests.edge.feed import Feed, Message
from tests.edge.merged import Merged, assert_equal_windows, assert_sessions
from tests.reference import Window, bits, digest, sessions, windows

Counted = tuple[str, int, float, int | None]
"""Series, event time, value, and the time that the device sent."""


@dataclass
class Account:
    """What must be counted, said in plain Python from the rules' own words."""

    by_meaning: bool = True
    by_arrival: bool = False
    counted: list[Counted] = field(default_factory=list)
    _seen: set[tuple[str, int, int]] = field(default_factory=set)
    _uses: dict[tuple[str, int], object] = field(default_factory=dict)

    def take(self, message: Message, session: str, arrived_us: int) -> bool:
        """Take a message; tell whether it is new (R3)."""
        content = (message.crc, sorted((name, t is None, t or 0, bits(v)) for name, t, v in message.readings))
        key = (session, message.packet_id)
        if message.packet_id:
            if message.dup and self._uses.get(key) == content:
                return False
            self._uses[key] = content
        timed = [(name, t, bits(v)) for name, t, v in message.readings if t is not None]
        before = set(self._seen) if len(timed) > 1 else self._seen
        for name, t, v in message.readings:
            # Copies in one message both count.
            if t is None or not self.by_meaning or (name, t, bits(v)) not in before:
                self.counted.append((name, arrived_us if t is None or self.by_arrival else t, v, t))
        self._seen.update(timed)
        return True

    def end_session(self, session: str) -> None:
        """The session ended: its packet ids mean nothing any more."""
        for key in [key for key in self._uses if key[0] == session]:
            del self._uses[key]

    def windows(self, settings: StepSettings) -> dict[tuple[str, str, int], Window]:
        """What the windows must be, by the reference; digests are of the times as sent, none is none."""
        found: dict[tuple[str, str, int], Window] = {}
        for name, patterns in levels_of(settings):
            level = level_of(name)
            ours = [reading for reading in self.counted if fits(reading[0], patterns)]
            said = [(series, t, v) for series, t, v, _ in ours]
            if level.gap_us:
                of_level = sessions(said, level.gap_us, duplicates=True)
            else:
                of_level = windows(said, level.length_us, level.hop_us, duplicates=True)
            starts = sorted(of_level)
            for series, t, v, sent in ours:
                if sent == t:
                    continue
                # The windows of its series that begin before it and are as long as that, or the session just before.
                at = bisect_right(starts, (series, t)) - 1
                while True:
                    window = of_level[starts[at]]
                    window.digest = (window.digest - digest(t, v) + digest(sent, v)) % 2**64
                    at -= 1
                    if at < 0 or starts[at][0] != series or starts[at][1] <= t - level.length_us:
                        break
            found |= {(series, name, start): window for (series, start), window in of_level.items()}
        return found


def levels_of(settings: StepSettings) -> list[tuple[str, tuple[str, ...]]]:
    """Return each level with the patterns of the series that have it."""
    some = [(level.name, level.series) for level in settings.some_levels]
    return [(name, ("*",)) for name in settings.levels] + some


def fits(series: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(series, pattern) for pattern in patterns)


def double_bits(value: float) -> bytes:
    return struct.pack("<d", value)


class Run:
    """Steps a state as the agent does, and keeps what the file would: journal rows, pictures, what went out."""

    def __init__(self, settings: StepSettings, seal: Seal = NO_KEY) -> None:
        self.settings = settings
        self.seal = seal
        self.clock = SetClock()
        self.feed = Feed()
        self.state = State(settings)
        self.account = Account(settings.by_meaning, settings.levels[0].endswith("@arrival"))
        self.merged = Merged()
        self.rows: list[bytes] = []
        """Journal row of each tick."""
        self.put_out: list[list[bytes]] = []
        """Uncompressed hashes of each tick's outbox rows."""
        self.pictures: list[Picture] = []
        self.outputs: list[Output] = []
        self._epoch = 0

    def tick(
        self, *messages: Message, events: tuple[Event, ...] = (), sessions: dict[int, str] | None = None
    ) -> Output:
        """Step one tick of messages; `sessions` names the session of a connection if it is not its number."""
        now = self.clock.now()
        tick = self.feed.tick(now, messages, *events)
        for message in messages:
            name = (sessions or {}).get(message.connection, str(message.connection))
            self.account.take(message, name, now.wall_us)
        row = journal.encode(tick)
        output = step(self.state, tick)
        commit = commit_of(tick, output, [])
        assert commit.journal == row, "a step changed its tick"
        self.rows.append(row)
        self.put_out.append([out.hash for out in commit.outbox])
        for device in output.devices:
            self.merged.number(device.epoch, device.shard, device.seq)
        for anomaly in output.anomalies:
            self.merged.number(anomaly.epoch, anomaly.shard, anomaly.seq)
        for frame in output.frames:
            assert frame.epoch == self.state.epoch
            self.merged.take(frame)
        for command in output.commands:
            self.merged.number(command.epoch, command.shard, command.seq)
        self.outputs.append(output)
        return output

    def start(self) -> Output:
        """A new epoch begins."""
        self._epoch += 1
        return self.tick(events=(Start(self._epoch, "test"),))

    def flush(self) -> Output:
        return self.tick(events=(Flush(),))

    def picture(self) -> None:
        """Take a snapshot as the agent does, written and read back."""
        taken = snapshot.take(self.state)
        self.pictures.append(snapshot.decode(taken.tick, snapshot.encode(taken, self.seal), self.seal))

    def restored(self, picture: Picture | None = None) -> State:
        """Bring the state back from a snapshot (or from nothing) and the journal, as a start does."""
        state = snapshot.restore(picture) if picture else State(self.settings)
        for row, hashes in list(zip(self.rows, self.put_out, strict=True))[state.tick :]:
            tick = journal.decode(row)
            again = commit_of(tick, step(state, tick), [])
            assert [out.hash for out in again.outbox] == hashes, f"tick {state.tick} put out something else"
            assert again.journal == row
        return state

    def crash(self, picture: Picture | None = None) -> None:
        """Go on with what the file gives back: equal to the last bit (R31)."""
        state = self.restored(picture)
        assert snapshot.fingerprint(state) == snapshot.fingerprint(self.state)
        self.state = state

    def check(self, *, sessions_too: bool = False) -> None:
        """Compare all that went out with what must be counted; sessions to the last of them only if asked for."""
        found, wanted = self.merged.windows(), self.account.windows(self.settings)
        if not sessions_too:
            for name, patterns in levels_of(self.settings):
                if level_of(name).gap_us:
                    self._check_sessions(name, patterns, found)
            found, wanted = _without_sessions(found), _without_sessions(wanted)
        assert_equal_windows(found, wanted)

    def _check_sessions(
        self, level: str, patterns: tuple[str, ...], found: dict[tuple[str, str, int], Window]
    ) -> None:
        """Whatever starts there were, each reading is in one session."""
        for series in {name for name, *_ in self.account.counted} | {name for name, *_ in found}:
            mine = {start: window for (n, of, start), window in found.items() if (n, of) == (series, level)}
            counted = [(t, digest(sent, v), v) for name, t, v, sent in self.account.counted if name == series]
            gap_us = level_of(level).gap_us
            assert_sessions(mine, counted if fits(series, patterns) else [], gap_us, f"{series} {level}")


def _without_sessions(of: dict[tuple[str, str, int], Window]) -> dict[tuple[str, str, int], Window]:
    return {place: window for place, window in of.items() if not place[1].startswith("session-")}

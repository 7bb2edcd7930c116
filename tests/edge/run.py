"""One agent's step in the tests: state and journal beside a plain account of what must be counted (R1, R2, R3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from headwater_edge import journal, snapshot
from headwater_edge.events import Event, Flush, Start
from headwater_edge.output import Output
from headwater_edge.rows import commit_of
from headwater_edge.settings import StepSettings
from headwater_edge.snapshot import Picture
from headwater_edge.state import State
from headwater_edge.step import step
from headwater_shared.clock import SetClock
from headwater_shared.parts import tumbling
from tests.edge.feed import Feed, Message
from tests.edge.merged import Merged, assert_equal_windows
from tests.reference import Window, bits, digest, windows

Counted = tuple[str, int, float, bool]
"""Series, event time, value, and whether the device sent the time."""


@dataclass
class Account:
    """What must be counted, said in plain Python from the rules' own words."""

    by_meaning: bool = True
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
            if t is None:
                self.counted.append((name, arrived_us, v, False))
            elif not self.by_meaning or (name, t, bits(v)) not in before:  # copies in one message both count
                self.counted.append((name, t, v, True))
        self._seen.update(timed)
        return True

    def end_session(self, session: str) -> None:
        """The session ended: its packet ids mean nothing any more."""
        for key in [key for key in self._uses if key[0] == session]:
            del self._uses[key]

    def windows(self, levels: tuple[str, ...]) -> dict[tuple[str, str, int], Window]:
        """What the windows must be, by the reference; a reading without a time has the digest of none."""
        found: dict[tuple[str, str, int], Window] = {}
        for level in levels:
            length = tumbling(level).length_us
            of_level = windows(((s, t, v) for s, t, v, _ in self.counted), length, duplicates=True)
            for series, t, v, timed in self.counted:
                if not timed:
                    window = of_level[series, t // length * length]
                    window.digest = (window.digest - digest(t, v) + digest(None, v)) % 2**64
            found |= {(series, level, start): window for (series, start), window in of_level.items()}
        return found


def double_bits(value: float) -> bytes:
    return struct.pack("<d", value)


class Run:
    """Steps a state as the agent does, and keeps what the file would: journal rows, pictures, what went out."""

    def __init__(self, settings: StepSettings) -> None:
        self.settings = settings
        self.clock = SetClock()
        self.feed = Feed()
        self.state = State(settings)
        self.account = Account(settings.by_meaning)
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
        for anomaly in output.anomalies:
            self.merged.number(anomaly.epoch, anomaly.shard, anomaly.seq)
        for frame in output.frames:
            assert frame.epoch == self.state.epoch
            self.merged.take(frame)
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
        self.pictures.append(snapshot.decode(taken.tick, snapshot.encode(taken)))

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

    def check(self) -> None:
        """Compare all that went out with what must be counted."""
        assert_equal_windows(self.merged.windows(), self.account.windows(self.settings.levels))

"""The step against the plain reference: whatever comes in whatever order, each reading is in each window once."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge.sessions import NEVER
from headwater_edge.settings import StepSettings
from tests.edge.feed import DAY, Message, Reading, S, connect, step_settings_of
from tests.edge.run import Run
from tests.reference import bits

SERIES = ("s1/d1/temp", "s1/d1/flow", "s1/d2/temp", "s2/d3/temp", "s2/d3/flow")
VALUES = (0.0, -0.0, 1.5, -2.25, 20.1, 20.2, 1e-300, -1e12, 3.0, 1e6)
OFFSETS = (
    0,
    1,
    S,
    3 * S,
    10 * S - 1,
    10 * S,
    11 * S,
    59 * S,
    61 * S,
    90 * S,
    100 * S,
    3600 * S,
    5 * 3600 * S,
)
"""How far the next reading of a device is from its newest one."""

SETTINGS = (
    step_settings_of(),
    step_settings_of(devices=True, levels=("1s", "3s", "7s"), held="2s", lateness="0s", idle="1s"),
    step_settings_of(levels=("10s", "1m"), held="0s", lateness="30s"),
    step_settings_of(levels=("10s",), duplicates="transport"),
)


@dataclass
class Devices:
    """What sends: keeps event times per device, packet ids per connection, and what may be sent again."""

    run: Run
    newest: dict[str, int] = field(default_factory=dict)
    packet_id: int = 0
    resendable: list[tuple[Message, int]] = field(default_factory=list)
    """Messages at QoS 1 whose packet id was not used since, each with its tick."""
    known: set[tuple[str, int, int]] = field(default_factory=set)

    def reading(self, series: int, back: bool, offset: int, value: float, timed: bool) -> Reading | None:
        """Make a reading that no other has the identity of."""
        name = SERIES[series % len(SERIES)]
        if not timed:
            return name, None, value
        device = name.rpartition("/")[0]
        newest = self.newest.setdefault(device, DAY)
        time_us = newest - offset if back else newest + offset
        if (name, time_us, bits(value)) in self.known:
            return None
        self.known.add((name, time_us, bits(value)))
        self.newest[device] = max(newest, time_us)
        return name, time_us, value

    def message(self, readings: list[Reading | None], qos1: bool, connection: int) -> Message:
        said = tuple(reading for reading in readings if reading is not None)
        if not qos1:
            return Message(said, connection)
        self.packet_id = self.packet_id % 1000 + 1
        message = Message(said, connection, self.packet_id)
        self.resendable.append((message, self.run.state.tick))
        del self.resendable[:-900]
        return message

    def again(self, which: int, as_new: bool) -> Message | None:
        """Send a message again: with DUP, or as a new one as far back as the agent holds panes."""
        if not self.resendable:
            return None
        message, _ = self.resendable[-1 - which % len(self.resendable)]
        if not as_new:
            return replace(message, dup=True)
        if not all(t is not None and self._held(name, t) for name, t, _ in message.readings):
            return None
        self.packet_id = self.packet_id % 1000 + 1
        # The older message of that packet id, if any, can no longer be sent again (R3).
        self.resendable = [(m, t) for m, t in self.resendable if m.packet_id != self.packet_id]
        return replace(message, packet_id=self.packet_id)

    def _held(self, name: str, time_us: int) -> bool:
        state = self.run.state
        if name not in state.names:
            return True
        device = state.device[state.names.index(name)]
        return time_us >= int(state.watermarks.mark[device]) - state.settings.held_us


readings = st.tuples(
    st.integers(0, 4),
    st.booleans(),
    st.sampled_from(OFFSETS),
    st.sampled_from(VALUES),
    st.sampled_from((1, 1, 1, 0)),
)
messages = st.tuples(st.lists(readings, min_size=1, max_size=4), st.booleans(), st.integers(1, 2))
sent = st.one_of(
    messages.map(lambda m: ("new", *m)),
    st.tuples(st.just("again"), st.integers(0, 40), st.booleans()),
)
acts = st.one_of(
    st.lists(sent, max_size=6).map(lambda sends: ("tick", sends)),
    st.sampled_from((0.0, 0.5, 5.0, 12.0, 100.0, 4000.0)).map(lambda s: ("advance", s)),
    st.sampled_from(("picture", "start", "crash", "flush", "crash and start")).map(lambda name: (name, None)),
)


def _act(run: Run, devices: Devices, name: str, what: object) -> None:
    if name == "tick":
        assert isinstance(what, list)
        made = []
        for kind, *more in what:
            if kind == "new":
                says, qos1, connection = more
                made.append(devices.message([devices.reading(*r) for r in says], qos1, connection))
            else:
                message = devices.again(*more)
                made += [message] if message else []
        run.tick(*made)
    elif name == "advance":
        assert isinstance(what, float)
        run.clock.advance(what)
    elif name == "picture":
        run.picture()
    elif name == "flush":
        run.flush()
    if name.startswith("crash"):
        run.crash(run.pictures[-1] if run.pictures else None)
    if name.endswith("start"):
        _start(run, devices)


@given(st.sampled_from(SETTINGS), st.lists(acts, max_size=25))
def test_windows_equal_the_reference_whatever_comes(
    settings: StepSettings, todo: list[tuple[str, object]]
) -> None:
    """Any interleaving of messages, resends, jumps, silences, flushes, snapshots, crashes and starts gives the
    reference's windows at every level, parts whose revisions rise, and seqs without gaps.
    """
    run, devices = _connected(settings)
    for name, what in todo:
        _act(run, devices, name, what)
    run.flush()
    run.check()


def _connected(settings: StepSettings) -> tuple[Run, Devices]:
    run = Run(settings)
    devices = Devices(run)
    _start(run, devices)
    return run, devices


def _start(run: Run, devices: Devices) -> None:
    """A new epoch, and both clients are back: the first with the session that it had, the second with a new one."""
    run.start()
    run.account.end_session("2")
    devices.resendable = [(message, tick) for message, tick in devices.resendable if message.connection == 1]
    run.tick(events=(connect(1, "kept", expiry_s=NEVER), connect(2, "clean", clean=True, expiry_s=0)))


@pytest.mark.parametrize(
    "settings", SETTINGS, ids=("default", "short levels", "late devices", "by transport")
)
@pytest.mark.parametrize("seed", [1, 2])
def test_windows_equal_the_reference_over_a_long_run(seed: int, settings: StepSettings) -> None:
    """Large ticks: rings turn over, logs are cut and pruned, and every window is still the reference's."""
    chance = random.Random(seed)
    run, devices = _connected(settings)
    for _ in range(150):
        made = []
        for _ in range(chance.choice((0, 1, 5, 40, 80))):
            if chance.random() < 0.15:
                message = devices.again(chance.randrange(300), chance.random() < 0.5)
                made += [message] if message else []
                continue
            says = [_reading(chance, devices) for _ in range(chance.choice((1, 1, 1, 5)))]
            made.append(devices.message(says, chance.random() < 0.8, chance.randint(1, 2)))
        run.tick(*made)
        run.clock.advance(
            chance.choice((0.25, 0.25, 1.0, 1.0, 15.0, 70.0, 4000.0)) if chance.random() < 0.9 else 0.0
        )
        if chance.random() < 0.03:
            run.picture()
        if chance.random() < 0.02:
            run.crash(run.pictures[-1] if run.pictures else None)
            _start(run, devices)
        if chance.random() < 0.01:
            run.flush()
    run.flush()
    run.check()
    counters = run.state.counters
    assert counters.accepted == len(run.account.counted)
    assert counters.late > 100
    assert counters.revisions > 100
    assert counters.by_transport > 100


def _reading(chance: random.Random, devices: Devices) -> Reading | None:
    back = chance.random() < 0.3
    near = (0, 1, 20_000, S, S, 2 * S, 5 * S)
    far = (61 * S, 90 * S, 100 * S, 600 * S, 3600 * S, 3 * 3600 * S, 30 * 3600 * S)
    offset = chance.choice(far if chance.random() < (0.3 if back else 0.02) else near)
    value = round(chance.gauss(20, 5), chance.choice((0, 1, 3, 12)))
    return devices.reading(chance.randrange(5), back, offset, value, chance.random() < 0.95)

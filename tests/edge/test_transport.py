"""Duplicates by transport (R3) against a plain model: QoS 1 and 2 mixed on the same ids, sessions that end, restarts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_edge import unreleased
from headwater_edge.duplicates import Transport
from headwater_edge.events import Release
from headwater_edge.source import DUP, QOS1, QOS2
from headwater_edge.tick import Messages
from headwater_edge.unreleased import releases_of

BROKER = 3
"""The session that is one with a broker."""


def _transport() -> Transport:
    return Transport(lambda: [BROKER])


@dataclass
class Model:
    """R3 in plain Python, one packet after the other."""

    uses: dict[tuple[int, int], object] = field(default_factory=dict)
    """The last use of each id: its content, with the QoS before it at 2."""
    unreleased: set[tuple[int, int]] = field(default_factory=set)

    def publish(self, session: int, packet_id: int, qos: int, dup: bool, content: int) -> bool:
        """Tell whether a PUBLISH is a repeat."""
        key = session, packet_id
        if not qos:
            return False
        if qos == 2:
            repeat = key in self.unreleased
            if session == BROKER:
                repeat = repeat and dup and self.uses.get(key) == (2, content)
            self.unreleased.add(key)
            self.uses[key] = 2, content
            return repeat
        self.unreleased.discard(key)
        if dup and self.uses.get(key) == content:
            return True
        self.uses[key] = content
        return False

    def release(self, session: int, packet_id: int) -> bool:
        """Tell whether a PUBREL releases something."""
        known = (session, packet_id) in self.unreleased
        self.unreleased.discard((session, packet_id))
        return known

    def end(self, session: int) -> None:
        self.uses = {key: use for key, use in self.uses.items() if key[0] != session}
        self.unreleased = {key for key in self.unreleased if key[0] != session}


Publish = tuple[str, int, int, int, bool, int]
Sent = list[Publish]

publishes = st.tuples(
    st.just("publish"),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 1),
)
pubrels = st.tuples(st.just("release"), st.integers(1, 3), st.integers(1, 2))
ticks = st.lists(st.one_of(publishes, publishes, publishes, pubrels), max_size=16).map(
    lambda sent: ("tick", sent)
)
acts = st.one_of(
    ticks, ticks, ticks, st.just(("restart", None)), st.integers(1, 2).map(lambda session: ("end", session))
)


def _tick(transport: Transport, sent: list[tuple]) -> tuple[list[bool], set[tuple[int, int]]]:  # type: ignore[type-arg]
    """Give a tick to the transport; sessions and connections have the same numbers."""
    columns: list[tuple[int, int, int, int]] = []
    events = []
    for kind, session, packet_id, *more in sent:
        if kind == "release":
            events.append((len(columns), Release(session, [packet_id])))
        else:
            qos, dup, content = more
            flags = (0, QOS1, QOS2)[qos] | (DUP if dup and qos else 0)
            columns.append((session, packet_id if qos else 0, flags, content))
    made = np.array(columns, np.int64).reshape(-1, 4)
    none = np.zeros(0, np.int64)
    messages = Messages(
        none, none, none, none, made[:, 1].astype(np.uint16), made[:, 2].astype(np.uint8),
        np.ones(len(made), np.int32),
    )  # fmt: skip
    releases = releases_of(events, {session: session for session in range(1, 4)})
    found, unknown = transport.duplicates(made[:, 0], messages, made[:, 3].astype(np.uint64), releases)
    return found.tolist(), set(unknown)


@settings(max_examples=200)
@given(st.lists(acts, min_size=2, max_size=30))
def test_r03_repeats_are_those_of_a_plain_model(todo: list[tuple[str, object]]) -> None:
    """Whatever is published, released, ended and restarted in whatever order, at whatever QoS: the same messages are
    repeats, and the same PUBRELs release nothing.
    """
    transport, model = _transport(), Model()
    live = {1, 2, 3}
    for act, what in todo:
        if act == "tick":
            assert isinstance(what, list)
            repeats, known, said = [], set(), set()
            for kind, session, packet_id, *more in what:
                if kind == "publish":
                    repeats.append(model.publish(session, packet_id, *more))
                    continue
                said.add((session, packet_id))
                if model.release(session, packet_id):
                    known.add((session, packet_id))
            assert _tick(transport, what) == (repeats, said - known)
        elif act == "restart":
            dumped, transport = transport.dump(), _transport()
            transport.load({name: column.copy() for name, column in dumped.items()})
        else:
            assert isinstance(what, int)
            model.end(what)
            transport.end_sessions(np.array(sorted(live - {what}), np.int64))


def test_r03_a_snapshot_of_before_qos_2_is_read() -> None:
    """It has no unreleased ids: there were none."""
    transport = _transport()
    dumped = transport.dump()
    del dumped["unreleased"]
    transport.load(dumped)
    assert _tick(transport, [("publish", 1, 1, 2, False, 5), ("publish", 1, 1, 2, True, 6)]) == (
        [False, True],
        set(),
    )


def test_r03_a_broker_that_forgot_which_ids_are_in_use_loses_nothing() -> None:
    """It came back from an older state, and gives unreleased ids to new messages: DUP=0, or DUP=1 with other bytes."""
    transport = _transport()
    _tick(transport, [("publish", BROKER, packet_id, 2, False, 0) for packet_id in (1, 2, 3)])
    again = [
        ("publish", BROKER, 1, 2, False, 0),
        ("publish", BROKER, 2, 2, True, 1),
        ("publish", BROKER, 3, 2, True, 0),
    ]
    assert _tick(transport, again) == ([False, False, True], set())


def test_r03_unreleased_ids_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that never release cost so much memory and no more; the oldest sessions' ids are let go."""
    monkeypatch.setattr(unreleased, "MOST", 4)
    transport = _transport()
    for session in (1, 2, 3):
        _tick(transport, [("publish", session, packet_id, 2, False, 0) for packet_id in (1, 2)])
    assert len(transport.unreleased.key) == 4
    again = [("publish", session, 1, 2, True, 0) for session in (3, 2)]
    assert _tick(transport, again) == ([True, True], set())
    assert _tick(transport, [("publish", 1, 1, 2, True, 0)]) == ([False], set())

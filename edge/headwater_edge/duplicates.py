"""Duplicates, by transport (R3) and by meaning (R2): each is acknowledged, and counted once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from headwater_edge.membership import distinct, is_in
from headwater_edge.recent import Recent
from headwater_edge.source import DUP, QOS2
from headwater_edge.tick import Messages, Readings
from headwater_edge.unreleased import Releases, Unreleased, use_keys
from headwater_shared.digest import NO_TIME, value_bits

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Mask = NDArray[np.bool_]

USES_KEPT = 1024
"""Last uses of packet ids that are kept a session: as many as the listener lets be in flight.

A device that has the acknowledgement of a later message has those of all before it (MQTT 4.6 orders them), so what is
older than a whole window of messages is never sent again.
"""
FAR_AHEAD = USES_KEPT // 2
FAR_KEPT = 16_384
FAR_SESSIONS = 64
"""MQTT 3.1.1 has no Receive Maximum: of a session that brought more than `FAR_AHEAD` messages in one tick more is kept,
of the latest such sessions (16 MB at most)."""
ALL_IDS = 65_535
"""... and of a session with a broker: Mosquitto 2.0.11 may have all packet ids in flight, whatever it was allowed."""

_FIRST = 8192
_LOW = 0xFFF


def contents_of(
    messages: Messages, readings: Readings, serial: Ints, digests: Words, unreadable: list[tuple[int, int]]
) -> Words:
    """Return what R3 compares of each message: its series with the sum of their digests, or a crc; shape (m,).

    Args:
        serial: by number of a series, what no other series ever has.
    """
    series_mixed = digests * (2 * serial[readings.series].view(np.uint64) + np.uint64(1))
    if len(readings) == len(messages) and not unreadable and bool((messages.readings == 1).all()):
        return series_mixed
    sums = np.zeros(len(readings) + 1, np.uint64)
    np.cumsum(series_mixed, out=sums[1:])
    ends = np.cumsum(messages.readings)
    contents: Words = sums[ends] - sums[ends - messages.readings]
    for message, crc in unreadable:
        contents[message] += np.uint64(crc + 1)
    return contents


class Transport:
    """The last use of each (session, packet id): a log of columns that is cut back when it has doubled; and at QoS 2
    which of them are not released.

    `of_brokers` returns the sessions that may have all packet ids in flight.
    """

    def __init__(self, of_brokers: Callable[[], Sequence[int]] = list) -> None:
        self._of_brokers = of_brokers
        self.unreleased = Unreleased()
        self.key: Words = np.zeros(0, np.uint64)
        self.content: Words = np.zeros(0, np.uint64)
        self.far: Ints = np.zeros(0, np.int64)
        """Sessions that send far ahead, the latest last."""
        self._new: list[tuple[Words, Words]] = []
        self._size = 0
        self._cut_at = _FIRST

    def duplicates(
        self, sessions: Ints, messages: Messages, contents: Words, releases: Releases
    ) -> tuple[Mask, frozenset[tuple[int, int]]]:
        """Tell which messages of a tick are repeats, and take note of the others.

        At QoS 1 a repeat has DUP=1 and is equal to the last use of its packet id; at QoS 2 it is any message whose
        id was not released since, whatever it holds. From a broker it must be both: one that comes back from an older
        state of its disk has forgotten which ids are in use, and gives them to new messages.

        Args:
            sessions: the session of each message; shape (m,).
            contents: from `contents_of`; shape (m,).
            releases: from `releases_of`.

        Returns:
            (mask of shape (m,), never true without a packet id; (connection, packet id) of the PUBRELs that released
            nothing).
        """
        found = np.zeros(len(messages), np.bool_)
        unknown: frozenset[tuple[int, int]] = frozenset()
        named = messages.packet_id > 0
        if not named.any() and not releases.said:
            return found, unknown
        key = use_keys(sessions, messages.packet_id)
        if len(messages) > FAR_AHEAD:
            self._look_far(sessions[named])
        twice = named & ((messages.flags & QOS2) != 0)
        if len(self.unreleased.key) or releases.said or twice.any():
            (asked,), (once,) = np.nonzero(twice), np.nonzero(named & ~twice)
            found[asked], unknown = self.unreleased.take((asked, key[asked]), (once, key[once]), releases)
            contents = np.where(twice, ~contents, contents)  # no use at QoS 1 is equal to one at QoS 2
        asked_again = ~twice
        if found.any():
            from_broker = is_in(sessions, np.array(self._of_brokers(), np.int64))
            asked_again |= found & from_broker
            found &= ~from_broker
        (resent,) = np.nonzero(named & asked_again & ((messages.flags & DUP) != 0))
        kept = named & ~found
        if len(resent):
            self._find(found, key, contents, kept, resent)
            kept &= ~found
        self._new.append((key[kept], contents[kept]) if not kept.all() else (key, contents))
        self._size += int(kept.sum())
        if self._size > self._cut_at:
            self._cut()
        return found, unknown

    def _find(self, found: Mask, keys: Words, contents: Words, named: Mask, resent: Ints) -> None:
        """Order earlier uses and this tick's by key and time; a resent message repeats the use just before it."""
        self._gather()
        earlier = is_in(self.key, keys[resent])
        (asked,) = np.nonzero(named & is_in(keys, keys[resent]))
        before = int(earlier.sum())
        key = np.concatenate([self.key[earlier], keys[asked]])
        content = np.concatenate([self.content[earlier], contents[asked]])
        message = np.concatenate([np.full(before, -1), asked])
        order = np.argsort(key, kind="stable")  # earlier uses come in the order of use, then the tick's
        key, content, message = key[order], content[order], message[order]
        same = np.zeros(len(key), np.bool_)
        same[1:] = (key[1:] == key[:-1]) & (content[1:] == content[:-1])
        repeat = np.zeros(len(found), np.bool_)
        repeat[message[same & (message >= 0)]] = True
        found[resent] = repeat[resent]

    def _look_far(self, sessions: Ints) -> None:
        """Take note of the sessions that send far ahead; `sessions` has that of each message."""
        (found,) = np.nonzero(np.bincount(sessions & _LOW, minlength=1) > FAR_AHEAD)
        if is_in(found, self.far & _LOW).all():  # a cheap look, in most ticks enough
            return
        numbers, counts = np.unique(sessions, return_counts=True)
        far = numbers[counts > FAR_AHEAD]
        if len(far):
            self.far = np.append(self.far[~is_in(self.far, far)], far)[-FAR_SESSIONS:]

    def _gather(self) -> None:
        if self._new:
            self.key = np.concatenate([self.key, *(key for key, _ in self._new)])
            self.content = np.concatenate([self.content, *(content for _, content in self._new)])
            self._new = []

    def _cut(self, live: Ints | None = None) -> None:
        """Keep the last uses of each session, `USES_KEPT` or more; of one id used twice the later one counts."""
        self._gather()
        session = (self.key >> np.uint64(16)).astype(np.int64)
        newest_first = np.argsort(-session[::-1], kind="stable")
        ordered = session[::-1][newest_first]
        begins = np.flatnonzero(_equal_before(ordered) == 0)
        rank = np.arange(len(ordered)) - np.repeat(begins, np.diff(np.append(begins, len(ordered))))
        wanted = rank < USES_KEPT
        wanted |= is_in(ordered, self.far) & (rank < FAR_KEPT)
        wanted |= is_in(ordered, np.array(self._of_brokers(), np.int64)) & (rank < ALL_IDS)
        if live is not None:
            wanted &= is_in(ordered, live)
        kept = np.sort(len(session) - 1 - newest_first[wanted])
        self.key, self.content = self.key[kept], self.content[kept]
        self._size = len(kept)
        self._cut_at = max(_FIRST, 4 * self._size)

    def end_sessions(self, live: Ints) -> None:
        """Forget the uses of all sessions but those that live."""
        self.far = self.far[is_in(self.far, live)]
        self._cut(live)
        self.unreleased.end_sessions(live)

    def dump(self) -> dict[str, NDArray[np.generic]]:
        self._gather()
        return {
            "key": self.key.copy(),
            "content": self.content.copy(),
            "cut_at": np.array([self._cut_at]),
            "unreleased": self.unreleased.key.copy(),
            "far": self.far.copy(),
        }

    def load(self, columns: dict[str, NDArray[np.generic]]) -> None:
        self.key = columns["key"].astype(np.uint64)
        self.content = columns["content"].astype(np.uint64)
        self._new = []
        self._size = len(self.key)
        self._cut_at = int(columns["cut_at"][0])
        self.far = columns.get("far", np.zeros(0)).astype(np.int64)
        self.unreleased.key = columns.get("unreleased", np.zeros(0)).astype(np.uint64)


def by_meaning(
    recent: Recent, last_sent: Ints, series: NDArray[np.int32], sent: Ints, value: NDArray[np.float64],
    message: Ints,
) -> tuple[Mask, NDArray[np.int32]]:  # fmt: skip
    """Tell which readings repeat one of an earlier message: same series, time as sent and value bits (R2).

    A reading newer than all that its series ever sent needs no look-up.

    Args:
        last_sent: the largest time as sent of each series so far; it is moved on here.
        message: which message brought each reading, rising; copies inside one message are not duplicates.

    Returns:
        (mask of shape (n,), series that sent two values at one time).
    """
    n = len(series)
    found = np.zeros(n, np.bool_)
    nobody = np.zeros(0, np.int32)
    one_each = len(last_sent) <= 4 * n and bool((np.bincount(series) <= 1).all())
    if one_each and bool((sent > last_sent[series]).all()):  # most ticks: no order is needed
        last_sent[series] = sent
        return found, nobody
    order = np.argsort(series, kind="stable")
    s, t = series[order], sent[order]
    begin = np.empty(n, np.bool_)
    begin[0] = True
    np.not_equal(s[1:], s[:-1], out=begin[1:])
    before = np.empty(n, np.int64)
    before[1:] = t[:-1]
    before[begin] = last_sent[s[begin]]
    timed = t != NO_TIME
    old = (t <= before) & timed
    if not timed.all():
        old |= timed & ~begin & (before == NO_TIME)  # behind one without a time nothing is known: look it up
        np.maximum.at(last_sent, s, t)
    if not old.any():
        ends = np.flatnonzero(np.append(begin[1:], True))
        last_sent[s[ends]] = np.maximum(last_sent[s[ends]], t[ends])
        return found, nobody
    doubtful = np.zeros(len(last_sent), np.bool_)
    doubtful[s[old]] = True
    (asked,) = np.nonzero(doubtful[series] & (sent != NO_TIME))
    low, high = sent[asked].min(), sent[asked].max()
    k = recent.size
    (rows,) = np.nonzero((recent.sent[:k] >= low) & (recent.sent[:k] <= high) & doubtful[recent.series[:k]])
    all_series = np.concatenate([recent.series[rows], series[asked]]).astype(np.int64)
    all_sent = np.concatenate([recent.sent[rows], sent[asked]])
    all_bits = value_bits(np.concatenate([recent.value[rows], value[asked]]))
    all_message = np.concatenate([np.full(len(rows), -1), message[asked]])
    by = np.lexsort((all_message, all_bits, all_sent, all_series))
    same_time = _equal_before(all_series[by]) & _equal_before(all_sent[by])
    same = same_time & _equal_before(all_bits[by])
    firsts = np.flatnonzero(~same)
    first_message = np.repeat(all_message[by][firsts], np.diff(np.append(firsts, len(by))))
    repeated = np.empty(len(by), np.bool_)
    repeated[by] = all_message[by] > first_message
    found[asked] = repeated[len(rows) :]
    coarse = distinct(all_series[by][same_time & ~same]).astype(np.int32)
    np.maximum.at(last_sent, series, np.where(found, NO_TIME, sent))
    return found, coarse


def _equal_before(column: NDArray[np.generic]) -> Mask:
    """Tell which items equal the one before them; the first does not."""
    same = np.zeros(len(column), np.bool_)
    np.equal(column[1:], column[:-1], out=same[1:])
    return same

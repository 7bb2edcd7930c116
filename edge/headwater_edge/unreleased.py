"""QoS 2: the packet ids of each session between a PUBLISH and its PUBREL; what comes under them is a repeat (R3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_edge.events import Event, Release
from headwater_edge.membership import is_in

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Mask = NDArray[np.bool_]

MOST = 1 << 20
"""Ids that are kept of all sessions together (8 MB). A session has 65,535 at most, and one that keeps to our Receive
Maximum about a thousand; beyond it the oldest sessions' are let go."""

_ENDS, _RELEASES, _PUBLISHES = 0, 1, 2


def use_keys(sessions: NDArray[np.integer], packet_ids: NDArray[np.integer]) -> Words:
    """Number each (session, packet id)."""
    joined: Words = (sessions.astype(np.uint64) << np.uint64(16)) | packet_ids.astype(np.uint64)
    return joined


class Releases(NamedTuple):
    """The PUBRELs of a tick: k packet ids, each with the message that it stands before."""

    at: Ints
    key: Words
    said: list[tuple[int, int]]
    """(connection, packet id)."""


def releases_of(events: Sequence[tuple[int, Event]], sessions: Mapping[int, int]) -> Releases:
    """Make columns of a tick's `Release` events; `sessions` has the session of each connection."""
    at: list[int] = []
    whose: list[int] = []
    said: list[tuple[int, int]] = []
    for before, event in events:
        if isinstance(event, Release):
            count = len(event.packet_ids)
            at += [before] * count
            whose += [sessions.get(event.connection, 0)] * count
            said += [(event.connection, packet_id) for packet_id in event.packet_ids]
    ids = np.array([packet_id for _, packet_id in said], np.int64)
    return Releases(np.array(at, np.int64), use_keys(np.array(whose, np.int64), ids), said)


class Unreleased:
    """The set of unreleased (session, packet id), as one rising column."""

    def __init__(self) -> None:
        self.key: Words = np.zeros(0, np.uint64)

    def take(
        self, published: tuple[Ints, Words], once: tuple[Ints, Words], releases: Releases
    ) -> tuple[Mask, frozenset[tuple[int, int]]]:
        """Take a tick in; tell which messages at QoS 2 are repeats, and which PUBRELs released nothing.

        What an id is worth depends only on what came under it just before: so all that came is ordered by id and
        time, and each item looks at its neighbour.

        Args:
            published: messages at QoS 2: their indices, rising, and keys.
            once: those at QoS 1, which end what is unreleased under their id; the client uses it for something else.
            releases: from `releases_of`.

        Returns:
            (mask over the published, (connection, packet id) of the PUBRELs that released nothing).
        """
        ends = is_in(once[1], np.concatenate([self.key, published[1]]))
        key = np.concatenate([once[1][ends], releases.key, published[1]])
        if not len(key):
            return np.zeros(0, np.bool_), frozenset()
        sizes = (int(ends.sum()), len(releases.key), len(published[1]))
        kind = np.repeat([_ENDS, _RELEASES, _PUBLISHES], sizes)
        # A PUBREL stands before the message of its index.
        at = np.concatenate([2 * once[0][ends] + 1, 2 * releases.at, 2 * published[0] + 1])
        order = np.lexsort((at, key))
        key, kind = key[order], kind[order]
        first = np.ones(len(key), np.bool_)
        first[1:] = key[1:] != key[:-1]
        open_before = np.empty(len(key), np.bool_)
        open_before[1:] = kind[:-1] == _PUBLISHES
        open_before[first] = is_in(key[first], self.key)
        last = np.append(first[1:], True)
        self._replace(key[last], key[last & (kind == _PUBLISHES)])
        answer = np.empty(len(key), np.bool_)
        answer[order] = open_before
        begin = sizes[0] + sizes[1]
        was_open = answer[sizes[0] : begin]
        unknown = {releases.said[which] for which in np.flatnonzero(~was_open).tolist()}
        if unknown:  # an id that is released twice in a tick is known
            unknown.difference_update(releases.said[which] for which in np.flatnonzero(was_open).tolist())
        return answer[begin:], frozenset(unknown)

    def _replace(self, touched: Words, opened: Words) -> None:
        """Both rise."""
        kept = self.key[~is_in(self.key, touched)] if len(self.key) else self.key
        self.key = np.insert(kept, np.searchsorted(kept, opened), opened)[-MOST:]

    def end_sessions(self, live: Ints) -> None:
        """Forget the ids of all sessions but those that live."""
        self.key = self.key[is_in((self.key >> np.uint64(16)).astype(np.int64), live)]

"""What a burst becomes: columns of readings, and the dead letters of what could not be taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from headwater_edge.events import Answered, DeviceSaid

IN_PART = frozenset(
    {
        "not-taken",
        "too-many-series",
        "too-many-new-series",
        "unknown-alias",
        "out-of-range",
        "not-listed",
    }
)
"""Reasons that a message of many readings may have for some of them: its detail names which, see `Refused`."""


Births = Sequence[tuple[bytes, bytes | None]]
"""(topic, payload) that a codec must have again after a restart; None: no longer."""


class Refused(NamedTuple):
    """A reading that is not taken, while others of its message may be."""

    what: str
    """Its metric, as its series names it; `alias N` where only a birth of Sparkplug could tell."""
    why: str
    reason: str = "not-taken"


class DeadLetter(NamedTuple):
    """What could not be taken of a message: all of it, or the readings that `detail` names (R20).

    Where some readings of a message were refused, `detail` is `metric: why` of each, joined by `; `; `reason` is theirs
    if it is one for all, else `not-taken`.
    """

    message: int
    reason: str
    detail: str
    topic: bytes
    body: bytes
    readings: list[tuple[str, int, float]] | None = None
    """Those that were not taken (series, time as sent, value), where they are known by that (`beyond-horizon`)."""


class Decoded(NamedTuple):
    """A burst as columns: how many readings each message brought, then the readings message by message."""

    readings: NDArray[np.int32]
    series: NDArray[np.int32]
    sent: NDArray[np.int64]
    """As the device sent them; `NO_TIME` and what else `stamps.split` knows where it sent none."""
    value: NDArray[np.float64]
    dead: list[DeadLetter]
    births: Births = ()
    asks: Sequence[tuple[bytes, bytes]] = ()
    """(topic, payload) to publish at once to who listens there, such as a request for a birth."""
    skipped: int = 0
    """Values that are no readings: text, null, data sets; and messages of topics that are ignored."""
    answers: Sequence[tuple[int, Answered]] = ()
    """(message, what a device said of a command): events of the tick, each before its message."""
    said: Sequence[tuple[int, DeviceSaid]] = ()
    """(message, what it says of a device), ascending."""

    def unreadable(self) -> list[tuple[int, int]]:
        """Return (message, crc32 of its payload) of the dead letters: what R3 compares of them."""
        return [(letter.message, crc32(letter.body)) for letter in self.dead]


def named(detail: str) -> set[str]:
    """Return which readings a dead letter names, if its reason is one of `IN_PART` and its message names values."""
    return {item.partition(": ")[0] for item in detail.split("; ")}


def letter_of(message: int, refused: Sequence[Refused], topic: bytes, body: bytes) -> DeadLetter:
    """Make the dead letter of a message of which some readings were refused."""
    reasons = {one.reason for one in refused}
    reason = reasons.pop() if len(reasons) == 1 else "not-taken"
    return DeadLetter(message, reason, "; ".join(f"{one.what}: {one.why}" for one in refused), topic, body)


def woven(parts: list[tuple[Sequence[int], Decoded]], n: int) -> Decoded:
    """Put the readings of messages that were decoded apart back into the order of arrival.

    Args:
        parts: for each, which of the n messages it decoded, and what they became; its dead letters name them among all.
    """
    if len(parts) == 1 and len(parts[0][0]) == n:
        return parts[0][1]
    counts = np.zeros(n, np.int32)
    for which, decoded in parts:
        counts[which] = decoded.readings
    message = np.concatenate([np.repeat(which, decoded.readings) for which, decoded in parts])
    order = np.argsort(message, kind="stable")
    every = [decoded for _, decoded in parts]
    return Decoded(
        counts,
        np.concatenate([decoded.series for decoded in every])[order],
        np.concatenate([decoded.sent for decoded in every])[order],
        np.concatenate([decoded.value for decoded in every])[order],
        sorted((letter for decoded in every for letter in decoded.dead), key=lambda letter: letter.message),
        [birth for decoded in every for birth in decoded.births],
        [ask for decoded in every for ask in decoded.asks],
        sum(decoded.skipped for decoded in every),
        sorted((answer for decoded in every for answer in decoded.answers), key=lambda answer: answer[0]),
        sorted((one for decoded in every for one in decoded.said), key=lambda one: one[0]),
    )


def without(
    decoded: Decoded,
    bad: NDArray[np.bool_],
    refused: Sequence[Refused],
    topics: list[bytes],
    payloads: list[bytes],
) -> Decoded:
    """Take readings out again: their messages become dead letters, or the dead letters that they are say more.

    Args:
        bad: which readings; shape (n,).
        refused: one for each that is bad, in their order.
    """
    message = np.repeat(np.arange(len(decoded.readings)), decoded.readings)
    by_message: dict[int, list[Refused]] = {}
    for at, one in zip(message[bad].tolist(), refused, strict=True):
        by_message.setdefault(at, []).append(one)
    dead = {letter.message: letter for letter in decoded.dead}
    for at, more in by_message.items():
        letter, before = letter_of(at, more, topics[at], payloads[at]), dead.get(at)
        if before is not None:
            reason = letter.reason if letter.reason == before.reason else "not-taken"
            letter = letter._replace(reason=reason, detail=f"{before.detail}; {letter.detail}")
        dead[at] = letter
    return decoded._replace(
        readings=decoded.readings
        - np.bincount(message[bad], minlength=len(decoded.readings)).astype(np.int32),
        series=decoded.series[~bad],
        sent=decoded.sent[~bad],
        value=decoded.value[~bad],
        dead=sorted(dead.values(), key=lambda letter: letter.message),
    )

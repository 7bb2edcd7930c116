"""What a burst of messages becomes, in plain tuples, for the tests of every codec."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from headwater_edge.decode import Decode, Decoded, decoder
from headwater_edge.format_settings import FormatSettings
from headwater_edge.settings import EdgeSettings
from headwater_edge.source import Burst
from headwater_edge.stamps import split
from headwater_edge.topics import SeriesIndex
from headwater_shared.digest import NO_TIME

ARRIVED = 1_795_000_000_000_000
"""When every burst of these tests arrives, in microseconds."""

Message = tuple[bytes, bytes]
"""Topic and payload."""


class Taken(NamedTuple):
    """What became of one message: its readings by name, and its dead letters' reasons."""

    readings: list[tuple[str, int | None, float]]
    dead: list[str]


def burst_of(*messages: Message, arrived_us: int = ARRIVED) -> Burst:
    return Burst(arrived_us, [topic for topic, _ in messages], [payload for _, payload in messages])


def taken(decoded: Decoded, index: SeriesIndex, n: int) -> list[Taken]:
    """Say of each message of a burst what became of it; a time before "now" is said as the arrival and that."""
    out = [Taken([], []) for _ in range(n)]
    assert len(decoded.readings) == n
    assert decoded.readings.sum() == len(decoded.series) == len(decoded.sent) == len(decoded.value)
    sent, after = split(decoded.sent)
    at = 0
    for message, count in enumerate(decoded.readings.tolist()):
        for row in range(at, at + count):
            time_us: int | None = int(sent[row])
            if time_us == NO_TIME:
                late = 0 if after is None else int(after[row])
                time_us = ARRIVED + late if late else None
            out[message].readings.append(
                (index.names[decoded.series[row]], time_us, float(decoded.value[row]))
            )
        at += count
    for letter in decoded.dead:
        out[letter.message].dead.append(letter.reason)
    return out


def decoded_by(decode: Decode, *messages: Message) -> list[Taken]:
    """Decode one burst."""
    return taken(decode.burst(burst_of(*messages)), decode.index, len(messages))


def decode_with(*formats: FormatSettings, cap: int = 5000, **more: object) -> Decode:
    """Make a decoder with some formats in its settings."""
    settings = EdgeSettings(format=formats, site="home", **more)  # type: ignore[arg-type]
    return decoder(settings, SeriesIndex([], cap, settings.new_series_per_hour))


def assert_at_once_as_one_by_one(make: Callable[[], Decode], messages: list[Message]) -> None:
    """A burst of messages gives what its messages give, each a burst of its own; and says all dead letters' bytes."""
    together, alone = make(), make()
    found = together.burst(burst_of(*messages))
    wanted = [decoded_by(alone, message)[0] for message in messages]
    assert taken(found, together.index, len(messages)) == wanted
    assert sorted(together.index.names) == sorted(alone.index.names)
    assert np.isfinite(found.value).all()
    for letter in found.dead:
        assert (letter.topic, letter.body) == messages[letter.message]

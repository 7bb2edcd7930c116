"""Reads devices' answers to commands: no readings, but events of the tick that takes them in (R14)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from headwater_edge.events import Answered
from headwater_edge.source import Burst
from headwater_edge.taking import Taking
from headwater_shared.errors import Unreadable

_REASON = 200
"""Characters of a reason that are kept."""
_ID = 64


class _Answer(msgspec.Struct):
    """The payload; what else a device says in it is not ours."""

    id: str
    status: Literal["done", "refused"]
    reason: str = ""


_decode = msgspec.json.Decoder(_Answer).decode


class Answers:
    """A codec (`formats.Codec`) for topics of answers; it is its own place, for the topic itself says whose answer it is."""

    def __init__(self) -> None:
        self.codec = self

    def place(self, where: object) -> Answers:
        """Make what is remembered of a topic."""
        return self

    def take(self, burst: Burst, which: Sequence[int], places: Sequence[Any], taking: Taking) -> None:
        """Take answers; each becomes an event that stands before its message."""
        for message in which:
            topic, payload = burst.topics[message], burst.payloads[message]
            try:
                said = _decode(payload)
                if not 0 < len(said.id) <= _ID:
                    raise ValueError("its id is none")
                event = Answered(topic.decode(), said.id, said.status, said.reason[:_REASON])
            except (msgspec.DecodeError, ValueError) as error:
                why = f'no answer to a command: {error}; it is {{"id": ..., "status": "done" or "refused"}}'
                taking.refuse(message, Unreadable(why, reason="bad-answer"), topic, payload)
                continue
            taking.answers.append((message, event))
            taking.took()

"""What a step depends on besides readings: journaled events, each with the message that it stands before (R12, R13)."""

from __future__ import annotations

from typing import Literal

import msgspec


class Start(msgspec.Struct, frozen=True, tag="start", array_like=True):
    """The agent started: a new epoch; open panes are sealed, all connections of the old one are gone (R1, R6)."""

    epoch: int
    version: str
    announces: bool = False
    """Every shard of the epoch before hears of this one, if only by an empty frame (rows of format 1 did not say so)."""


class Settings(msgspec.Struct, frozen=True, tag="settings", array_like=True):
    """The settings as parsed, those that a step depends on, as JSON; windows that they move are closed first (R12)."""

    body: str


class WillMessage(msgspec.Struct, frozen=True, array_like=True):
    """What a client wants published if its connection ends without a farewell; `delay_s` seconds after that."""

    topic: bytes
    payload: bytes
    qos: int
    delay_s: int


class Connect(msgspec.Struct, frozen=True, tag="connect", array_like=True):
    """A client was let in: `connection` is new in this epoch. Its CONNACK waits for the commit (R13).

    `expiry_s`: seconds its session outlives the connection; 0 ends with it, 0xFFFFFFFF never.
    `keep_alive_s`: the longest silence it promised, 0 for none.
    """

    connection: int
    client: str
    user: str
    clean: bool
    expiry_s: int
    keep_alive_s: int = 0
    will: WillMessage | None = None


class Subscribe(msgspec.Struct, frozen=True, tag="subscribe", array_like=True):
    """A client subscribed to its device's commands: filters that were granted, with their QoS."""

    connection: int
    filters: list[tuple[str, int]]


class Unsubscribe(msgspec.Struct, frozen=True, tag="unsubscribe", array_like=True):
    """A client gave up filters."""

    connection: int
    filters: list[str]


class Disconnect(msgspec.Struct, frozen=True, tag="disconnect", array_like=True):
    """A connection is over, by DISCONNECT (`clean`) or otherwise; `expiry_s` as changed by it, or -1."""

    connection: int
    clean: bool
    expiry_s: int = -1


class Release(msgspec.Struct, frozen=True, tag="release", array_like=True):
    """A client sent PUBREL for these packet ids: what is published under them from here on is new (R3, R13)."""

    connection: int
    packet_ids: list[int]


class WillsPublished(msgspec.Struct, frozen=True, tag="wills", array_like=True):
    """The messages from here on are wills that were due, by their numbers: each is published once (R13)."""

    numbers: list[int]


class Answered(msgspec.Struct, frozen=True, tag="answered", array_like=True):
    """A device said on a topic of answers what became of the command `id` (R14)."""

    topic: str
    id: str
    status: Literal["done", "refused"]
    reason: str = ""


class Order(msgspec.Struct, frozen=True, array_like=True):
    """A command as the cloud side asked for it; `fault` says why it cannot be read, if it cannot."""

    id: str
    device: str
    name: str
    arguments: str
    ttl_us: int
    time_us: int
    who: str
    fault: str = ""


class OrdersRead(msgspec.Struct, frozen=True, tag="orders", array_like=True):
    """Orders were read from the bus, up to an offset: reading goes on from there, whatever crashes (R12, R14)."""

    bus: str
    """Which one: another one has other offsets."""
    offset: int
    last: str
    """The `ce_id` of the record before that offset: if another one is there, it is not the topic that it was."""
    orders: list[Order]


class DeviceSaid(msgspec.Struct, frozen=True, tag="device-said", array_like=True):
    """A message says of a device (`site/device`) that it is there or gone: an availability topic, a birth, a death."""

    device: str
    online: bool


class Flush(msgspec.Struct, frozen=True, tag="flush", array_like=True):
    """Close every window now, as at the end of a demo."""


class LetterGone(msgspec.Struct, frozen=True, tag="letter-gone", array_like=True):
    """The nth dead letter of a tick goes: its message follows, flagged `REPLAY` and taken again, or a person gave it up (R20)."""

    tick: int
    n: int


class Keyed(msgspec.Struct, frozen=True, tag="keyed", array_like=True):
    """The next `messages` messages are one request with an idempotency key: all of it counts once, or nothing (R12).

    `key` and `content` are hashes of 64 bits: of who sent it where under which key, and of what it says.
    """

    request: int
    """Its number: none twice in an epoch, and no connection's."""
    key: int
    content: int
    messages: int


class SetAside(msgspec.Struct, frozen=True, tag="set-aside", array_like=True):
    """The file before this one was damaged: it was set aside, and what could be read of it was taken over (R15).

    `epoch` and `seqs`: the last epoch that it is known to have had, and the last seq of each shard in it, where the state
    that was reached is of an older one; 0 if it is of that one.
    """

    file: str
    """What the damaged one is called now."""
    why: str
    tick: int
    """The last tick of which anything could be read; ticks go on after it."""
    reached: int
    """Up to this tick the state is whole."""
    lost_ticks: int
    """Ticks whose readings could not be read."""
    lost_rows: int
    """Outbox rows that could not be read; empty frames stand for them."""
    salvaged: int
    """Readings that became dead letters `salvaged`."""
    epoch: int = 0
    seqs: dict[int, int] = {}


class Coalesced(msgspec.Struct, frozen=True, tag="coalesced", array_like=True):
    """Outbox rows that nobody was given were written anew in this tick's commit: finer parts went (R22)."""

    level: str
    """That of the windows that hold their readings."""
    frames: int
    """Rows that were written anew."""
    parts: int
    """Finer parts that went."""
    windows: int
    """Windows of the level that hold what they held."""


class DetectorSlow(msgspec.Struct, frozen=True, tag="detector-slow", array_like=True):
    """A detector took too long for these series (of a device: all of its series), as was measured beside the step (R12)."""

    detect: str
    """Name of the rule."""
    detector: str
    series: list[str]


class SeriesEvicted(msgspec.Struct, frozen=True, tag="series-evicted", array_like=True):
    """Series that were idle for long are let go before this tick's readings are taken in; others may have their numbers (R12)."""

    series: list[int]


Event = (
    Start
    | SetAside
    | Coalesced
    | Settings
    | Connect
    | Subscribe
    | Unsubscribe
    | Disconnect
    | DeviceSaid
    | Flush
    | LetterGone
    | Keyed
    | Release
    | WillsPublished
    | Answered
    | DetectorSlow
    | SeriesEvicted
    | OrdersRead
)

"""The records beside the frames: anomalies, commands, orders, device status, registry, heartbeats, clock records, what the cloud has, alerts, actions."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from headwater_shared import avro
from headwater_shared.agent_status import AgentStatus
from headwater_shared.alert_records import Action, Alert
from headwater_shared.identity import stable_id

FRAME, ANOMALY, HEARTBEAT, CLOCK, HAVE, ALERT = "frame", "anomaly", "heartbeat", "clock", "have", "alert"
COMMAND = "command"
ORDER = "order"
DEVICE = "device"
REGISTRY = "registry"
ACTION = "action"
AGENT_STATUS = "agent-status"
"""Kinds of record: the end of `ce_type`."""

CE_TYPE = "io.headwater."
MADE = "made"
"""A header of what an agent sends at once: when the tick was that put it out, in microseconds of the agent's clock."""


class Predecessor(NamedTuple):
    """The epoch before, and its last seq in the shard (0 if it put nothing there)."""

    epoch: int
    seq: int


class Score(msgspec.Struct, frozen=True):
    """What one detector says: -log10 of a tail probability."""

    detector: str
    rarity: float


class Anomaly(msgspec.Struct, frozen=True):
    """What a detector found in one series: its begin or its end."""

    agent: str
    epoch: int
    shard: int
    seq: int
    tick: int
    predecessor: Predecessor | None
    id: str
    rule: str
    series: str
    phase: Literal["begin", "end"]
    begin_us: int
    time_us: int
    value: float
    limit: float
    """What the value broke; NaN for what detectors found in a window, whose mean the value is."""
    severity: str
    text: str
    sample_times: list[int] = []
    sample_values: list[float] = []
    scores: list[Score] = []
    degree: float = 0.0
    """How anomalous the window is, 0 to 1."""


CommandStatus = Literal["open", "done", "refused", "expired", "undone"]
"""A command is let out (`open`) and then ends; one that was done, or expired and may have been, can be `undone` later."""


class Command(msgspec.Struct, frozen=True):
    """What became of a command to a device: that it was let out, or how it ended (R14)."""

    agent: str
    epoch: int
    shard: int
    seq: int
    tick: int
    predecessor: Predecessor | None
    id: str
    status: CommandStatus
    reason: str
    act: str
    rule: str
    anomaly: str
    series: str
    device: str
    topic: str
    name: str
    arguments: str
    undoes: str
    begin_us: int
    time_us: int
    ttl_us: int


class Order(msgspec.Struct, frozen=True):
    """A command that the cloud side asks an agent to give to one of its devices; the same id is the same command (R14)."""

    agent: str
    id: str
    device: str
    name: str
    arguments: str
    ttl_us: int
    time_us: int
    who: str


class Device(msgspec.Struct, frozen=True):
    """The status of one device (`site/device`) after a change; times are of the agent's wall clock."""

    agent: str
    epoch: int
    shard: int
    seq: int
    tick: int
    predecessor: Predecessor | None
    id: str
    device: str
    status: Literal["online", "silent", "offline"]
    before: str
    """The status before; empty: none was known."""
    before_us: int
    """Since when it was that; 0: none was known."""
    reason: str
    time_us: int
    heard_us: int
    """When a reading of it came last."""


class RegistryChange(msgspec.Struct, frozen=True):
    """What is known of a device (`site/device`) after a change, whole; of several the one of the latest time counts.

    Not of an agent's stream: it has no seq, and may be read in any order and as often as it comes.
    """

    device: str
    time_us: int
    """When it was changed, by the clock of who changed it, but later than what it replaces."""
    removed: bool = False
    """Nothing is known of it any more; all that follows is empty."""
    model: str = ""
    place: str = ""
    owner: str = ""
    cohort: str = ""
    metrics: dict[str, str] = {}
    """Unit by metric."""
    runbook: str = ""
    """Where it says what to do when it fails: a link or a sentence."""


class Heartbeat(msgspec.Struct, frozen=True):
    """Complete up to T, last seq N, of one agent in one shard; it has no seq of its own."""

    agent: str
    epoch: int
    shard: int
    last_seq: int
    predecessor: Predecessor | None
    complete_us: int
    time_us: int


class ClockRecord(msgspec.Struct, frozen=True):
    """It is at least this late."""

    shard: int
    time_us: int


class Have(msgspec.Struct, frozen=True):
    """Seqs that the cloud has: first, last, first, last, ...; both included, ascending."""

    agent: str
    epoch: int
    shard: int
    intervals: list[int]


def device_id(device: str, status: str, time_us: int) -> str:
    """Return the id of a change: it tells when a device became what it is."""
    return stable_id("device", device, status, time_us)


_KINDS: dict[type[msgspec.Struct], tuple[str, ...]] = {
    Anomaly: ("anomaly-2", "anomaly-1"),
    Command: ("command-1",),
    Order: ("order-1",),
    Device: ("device-1",),
    RegistryChange: ("registry-2", "registry-1"),
    Heartbeat: ("heartbeat-1",),
    ClockRecord: ("clock-1",),
    Have: ("have-1",),
    Alert: ("alert-2", "alert-1"),
    Action: ("action-1",),
    AgentStatus: ("agent-status-1",),
}
"""The schemas each kind can be read from, the one it is written under first."""


T = TypeVar(
    "T", Anomaly, Command, Order, Device, RegistryChange, Heartbeat, ClockRecord, Have, Alert, Action, AgentStatus
)  # fmt: skip


def encode(
    record: Anomaly
    | Command
    | Order
    | Device
    | RegistryChange
    | Heartbeat
    | ClockRecord
    | Have
    | Alert
    | Action
    | AgentStatus,
) -> bytes:
    """Encode under the newest schema of its kind."""
    datum: dict[str, Any] = msgspec.structs.asdict(record)
    if "epoch" in datum:
        datum["epoch"] = datum["epoch"].to_bytes(8, "little")
    if datum.get("predecessor") is not None:
        epoch, seq = datum["predecessor"]
        datum["predecessor"] = {"epoch": epoch.to_bytes(8, "little"), "seq": seq}
    if "scores" in datum:
        datum["scores"] = [msgspec.structs.asdict(score) for score in datum["scores"]]
    if "metrics" in datum:
        datum["metrics"] = dict(sorted(datum["metrics"].items()))  # equal records are equal bytes
    if isinstance(record, Alert):  # who reads version 1 knows two states
        datum["stands"] = record.state
        datum["state"] = "firing" if record.state in ("firing", "acknowledged") else "resolved"
    schema = _KINDS[type(record)][0]
    if isinstance(record, Anomaly) and not record.scores and not record.degree:
        schema = "anomaly-1"  # what rules found says no more than before: who reads that goes on reading it
    if isinstance(record, RegistryChange) and not record.runbook:
        schema = "registry-1"
    return avro.encode(schema, datum)


def decode(kind: type[T], body: bytes) -> T:
    """Decode a record of the kind named.

    Raises:
        ValueError: the body is no such record, or of a version that is not known here.
    """
    _, datum = avro.decode(_KINDS[kind], body)
    if "epoch" in datum:
        datum["epoch"] = int.from_bytes(datum["epoch"], "little")
    if datum.get("predecessor") is not None:
        before = datum["predecessor"]
        datum["predecessor"] = Predecessor(int.from_bytes(before["epoch"], "little"), before["seq"])
    if "metrics" in datum:
        datum["metrics"] = dict(sorted(datum["metrics"].items()))
    if kind is Have and not _ascend(datum["intervals"]):
        raise ValueError(f"a damaged have record: {datum['intervals'][:8]} are no intervals of seqs")
    if kind is AgentStatus and len({len(datum[name]) for name in ("names", "labels", "values")}) > 1:
        raise ValueError("a damaged agent-status record: its columns are not of one length")
    if "scores" in datum:
        datum["scores"] = [Score(**score) for score in datum["scores"]]
    stands = datum.pop("stands", "")
    if stands:
        datum["state"] = stands
    if kind in (Alert, Action):
        return msgspec.convert(datum, kind)  # states and what people do are words that must be known
    return kind(**datum)


def _ascend(intervals: list[int]) -> bool:
    """Tell whether these are pairs from 1 on: what a `have` record covers is deleted (R22), so nothing else is believed."""
    before = 0
    for first, last in zip(intervals[::2], intervals[1::2], strict=False):
        if not before < first <= last:
            return False
        before = last
    return len(intervals) % 2 == 0


def headers(kind: str, ce_id: str, source: str, time_us: int, **more: str) -> dict[str, str]:
    """Make the CloudEvents headers (Kafka binding, binary mode) of a record."""
    return {
        "ce_specversion": "1.0",
        "ce_id": ce_id,
        "ce_type": CE_TYPE + kind,
        "ce_source": source,
        "ce_time": _rfc3339(time_us),
        "content-type": "application/avro",
        **more,
    }


def identity_text(agent: str, epoch: int, shard: int, seq: int) -> str:
    """Write the identity on the bus (R23) as the `ce_id` of a frame, an anomaly or a device status: agent/epoch/shard/seq, epoch in hex."""
    return f"{agent}/{epoch:016x}/{shard}/{seq}"


def identity_of(text: str) -> tuple[str, int, int, int] | None:
    """Read what `identity_text` wrote: agent, epoch, shard, seq; None if it is something else."""
    match = re.fullmatch(r"([^/]+)/([0-9a-f]{16})/([0-9]{1,9})/([0-9]{1,18})", text)
    return (match[1], int(match[2], 16), int(match[3]), int(match[4])) if match else None


def kind_of(record_headers: Any) -> str:
    """Return the kind that the headers name: the whole type, if it is none of ours, or an empty string."""
    return str(record_headers.get("ce_type", "")).removeprefix(CE_TYPE)


def _rfc3339(time_us: int) -> str:
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    except OverflowError:  # no year of a calendar
        return "9999-12-31T23:59:59Z" if time_us > 0 else "0001-01-01T00:00:00Z"
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")

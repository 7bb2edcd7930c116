"""The state of one shard, in pieces that a runner keeps: each a few kilobytes, written when it changed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import msgspec

from headwater_cloud import device_registry, dirty, rule_records
from headwater_cloud.alert_state import AlertState
from headwater_cloud.book import Book
from headwater_cloud.completeness import Agents, Progress
from headwater_cloud.dedupe import Epoch, Epochs
from headwater_cloud.device_registry import Changes
from headwater_cloud.dirty import Dirty
from headwater_cloud.kept_evidence import KeyEvidence
from headwater_shared import records
from headwater_shared.records import RegistryChange
from headwater_shared.registry import Entry, cohort_of

PIECE_LIMIT = 256_000
"""Bytes: what every engine can keep and log as one value (R24)."""

_CLOCK = "clock"
_DIRTY = "dirty"
_RULES = "rules"


class Shard(msgspec.Struct):
    """What the operators know of one shard."""

    number: int
    clock_us: int = 0
    """The largest clock record: the only clock of the operators."""
    epochs: Epochs = {}
    agents: Agents = {}
    registered: Changes = {}
    registry: dict[str, Entry] = {}
    """What `registered` says of the devices (`site/device`) that are not removed."""
    dirty: Dirty = {}
    """Levels and starts that are to be rolled up."""
    book: Book = Book()
    """The rules that it goes by."""
    evidence: dict[str, KeyEvidence] = {}
    """By device, and by site, cohort or agent whose home it is."""
    watching: Any = None
    """What waits for a time; of `watch`, in memory only."""
    alerts: AlertState = msgspec.field(default_factory=AlertState)
    known_cohorts: dict[str, int] = {}
    of_devices: Any = None
    """Cohorts by device, as `rolled` numbers them; in memory only, None when the registry changed."""

    def pieces(
        self, epochs: Iterable[tuple[str, int]], agents: Iterable[str], devices: Iterable[str] = ()
    ) -> dict[str, bytes]:
        """Encode the clock and the pieces named, by name."""
        out = {_CLOCK: msgspec.msgpack.encode(self.clock_us)}
        for agent, epoch in epochs:
            out[f"epoch/{epoch:016x}/{agent}"] = _encoded(self.epochs[agent, epoch])
        for agent in agents:
            out[f"agent/{agent}"] = msgspec.msgpack.encode(self.agents[agent])
        for device in devices:
            out[f"registry/{device}"] = records.encode(self.registered[device])
        return out

    def dirty_piece(self) -> dict[str, bytes]:
        """Encode what is dirty."""
        return {_DIRTY: dirty.encoded(self.dirty)}

    def evidence_pieces(self, keys: Iterable[str], *, rules: bool) -> dict[str, bytes]:
        """Encode the evidence of keys and, if they are new, the rules."""
        out = {f"evidence/{key}": msgspec.msgpack.encode(self.evidence[key]) for key in keys}
        return out | ({_RULES: rule_records.encoded(self.book)} if rules else {})

    def is_home(self, key: str) -> bool:
        """Tell whether a site, a cohort or an agent is decided here."""
        return rule_records.home_of(key) == self.number

    def cohort_of(self, device: str) -> str:
        """Return the cohort of a device (`site/device`), "" for none."""
        entry = self.registry.get(device)
        return "" if entry is None else cohort_of(entry)


def load(number: int, pieces: Iterable[tuple[str, bytes]]) -> Shard:
    """Put a shard together again from its pieces."""
    shard = Shard(number)
    for name, body in pieces:
        kind, _, rest = name.partition("/")
        if kind == "epoch":
            epoch, _, agent = rest.partition("/")
            shard.epochs[agent, int(epoch, 16)] = _decoded(body)
        elif kind == "agent":
            shard.agents[rest] = msgspec.msgpack.decode(body, type=Progress)
        elif kind == "registry":
            change = records.decode(RegistryChange, body)
            device_registry.put(shard.registered, shard.registry, change)
        elif kind == "evidence":
            shard.evidence[rest] = msgspec.msgpack.decode(body, type=KeyEvidence)
        elif kind == _RULES:
            shard.book = rule_records.book_of(body)
        elif kind == _DIRTY:
            shard.dirty = dirty.decoded(body)
        elif kind.partition("#")[0] in ("alerts", "acts", "incidents"):
            shard.alerts.load(kind, rest, body)
        elif kind == _CLOCK:
            shard.clock_us = msgspec.msgpack.decode(body, type=int)
    return shard


def _encoded(epoch: Epoch) -> bytes:
    """Encode an epoch; a step from bound to bound takes a byte where a bound takes five: thousands of seqs may be missing."""
    bounds = epoch.intervals
    steps = [bound - before for before, bound in zip([0, *bounds], bounds, strict=False)]
    return msgspec.msgpack.encode(msgspec.structs.replace(epoch, intervals=steps, in_steps=True))


def _decoded(body: bytes) -> Epoch:
    epoch = msgspec.msgpack.decode(body, type=Epoch)
    if epoch.in_steps:  # pieces of before hold the bounds
        epoch.intervals, epoch.in_steps = list(accumulate(epoch.intervals)), False
    return epoch

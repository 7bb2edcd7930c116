"""Records of a second stage's topic become parts: of their own series, and of the same over all sites; others are what is compared (R25)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from headwater_cloud.names import Names
from headwater_cloud.outputs import DeadLetter, Why
from headwater_cloud.rolled import series_of
from headwater_cloud.rollup import AGENT, topic_of
from headwater_cloud.rows import PartRows
from headwater_shared import frame, peers, records
from headwater_shared.avro import UnknownVersion
from headwater_shared.bus import Stored
from headwater_shared.frame import Frame
from headwater_shared.identity import ALL, SHARDS, is_rollup, site_of
from headwater_shared.peers import PEERS, Peers


class Taken(NamedTuple):
    """What a batch holds."""

    rows: PartRows
    peers: dict[int, list[Peers]]
    """By partition."""
    clocks: dict[int, int]
    """By partition the latest clock of a shard that anything of it was made at."""
    dead: list[DeadLetter]


def take(batch: Sequence[Stored], names: Names, known: Mapping[int, Why] | None = None) -> Taken:
    """Decode a batch; `names` grows. `known`: see `consume`."""
    rows: list[PartRows] = []
    out = Taken(PartRows.empty(), {}, {}, [])
    for stored in batch:
        if known and stored.offset in known:
            out.dead.append(DeadLetter(*known[stored.offset], stored))
            continue
        compared = records.kind_of(stored.headers) == PEERS
        try:
            if compared:
                body = peers.decode(stored.body)
                _check_place(body, stored)
                clock_us = body.head.clock_us
                out.peers.setdefault(stored.partition, []).append(body)
            else:
                found = frame.decode(stored.body)
                _check(found)
                rows += _rows(found, names)
                clock_us = int(found.parts.revision.max(initial=0))
        except UnknownVersion as error:
            out.dead.append(DeadLetter("unknown-version", str(error), stored))
        except ValueError as error:
            out.dead.append(DeadLetter("damaged", str(error), stored))
        else:
            out.clocks[stored.partition] = max(out.clocks.get(stored.partition, 0), clock_us)
    return out._replace(rows=PartRows.concatenate(rows))


def _check_place(found: Peers, stored: Stored) -> None:
    topic, partition = topic_of(series_of((str(found.head.shard), found.head.metric), found.head.cohort))
    if (stored.topic, stored.partition) != (topic.name, partition) or not 0 <= found.head.shard < SHARDS:
        raise ValueError(f"it belongs to partition {partition} of {topic.name}")


def _check(found: Frame) -> None:
    for name in found.parts.names:
        if not is_rollup(name) or site_of(name) == ALL:
            raise ValueError(f"{name!r} is no rollup of a site")


def _rows(found: Frame, names: Names) -> list[PartRows]:
    """The opener of a part is (site, shard): the latest row of each counts, and they add up."""
    parts = found.parts
    sites = [site_of(name) for name in parts.names]
    openers = {site: names.opener_numbers(f"{AGENT}/{site}", parts.epochs) for site in {*sites}}
    of_name = np.array([openers[site] for site in sites], np.int64).reshape(len(sites), len(parts.epochs))
    fleet = [ALL + name[len(site) :] for name, site in zip(parts.names, sites, strict=True)]
    return [
        PartRows(
            names.level_numbers(parts.levels)[parts.level],
            parts.start,
            names.series_numbers(series)[parts.series],
            of_name[parts.series, parts.epoch],
            parts.tick,
            parts.revision,
            parts.flags,
            parts.aggregates,
            parts.sketches,
        )
        for series in (parts.names, fleet)
        if len(parts)
    ]

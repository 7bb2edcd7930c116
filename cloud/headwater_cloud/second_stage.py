"""Records of a second stage's topic become parts: of their own series, and of the same over all sites (R25)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from headwater_cloud.names import Names
from headwater_cloud.outputs import DeadLetter, Why
from headwater_cloud.rollup import AGENT
from headwater_cloud.rows import PartRows
from headwater_shared import frame
from headwater_shared.avro import UnknownVersion
from headwater_shared.bus import Stored
from headwater_shared.frame import Frame
from headwater_shared.identity import ALL, is_rollup, site_of


def take(
    batch: Sequence[Stored], names: Names, known: Mapping[int, Why] | None = None
) -> tuple[PartRows, list[DeadLetter]]:
    """Decode a batch; `names` grows. `known`: see `consume`."""
    rows: list[PartRows] = []
    dead = []
    for stored in batch:
        if known and stored.offset in known:
            dead.append(DeadLetter(*known[stored.offset], stored))
            continue
        try:
            found = frame.decode(stored.body)
            _check(found)
        except UnknownVersion as error:
            dead.append(DeadLetter("unknown-version", str(error), stored))
        except ValueError as error:
            dead.append(DeadLetter("damaged", str(error), stored))
        else:
            rows += _rows(found, names)
    return PartRows.concatenate(rows), dead


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

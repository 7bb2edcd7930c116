"""The record of a status frame: an agent's metrics as they stand, on `hw-in` beside its stream. `records` reads and writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from headwater_shared.agent_metrics import OF_DEVICES, TOLD
from headwater_shared.metric import Shown

MOST_VALUES = 500
"""Of one frame: an agent with very many labels tells the first ones."""


class AgentStatus(msgspec.Struct, frozen=True):
    """An agent's own metrics as they stand; the three columns are of one length."""

    agent: str
    site: str
    """Of most of its devices; empty: it has none yet."""
    time_us: int
    """What the agent's clock shows."""
    names: list[str]
    """The metric, as the agent's own page names it."""
    labels: list[str]
    """A JSON object of the value's labels, empty for none."""
    values: list[float]


def status_of(
    agent: str, site: str, time_us: int, samples: Iterable[tuple[str, Mapping[str, str], float]]
) -> AgentStatus:
    """Make a frame of all samples of the agent's page that frames tell; what is by device is summed up."""
    found: dict[tuple[str, str], float] = {}
    for name, labels, value in samples:
        if name in TOLD:
            kept = {label: text for label, text in labels.items() if label != OF_DEVICES}
            key = name, msgspec.json.encode(kept).decode() if kept else ""
            found[key] = found.get(key, 0.0) + value
    some = list(found.items())[:MOST_VALUES]
    return AgentStatus(
        agent, site, time_us, [name for (name, _), _ in some], [text for (_, text), _ in some], [one for _, one in some]
    )  # fmt: skip


def known(name: str, labels: str) -> tuple[Shown, tuple[str, ...]] | None:
    """Return what the cloud shows a value as, and the values of its labels after agent and site; None: this version does not know it."""
    metric = TOLD.get(name)
    if metric is None:
        return None
    wanted = metric.labels[2:]
    try:
        given = msgspec.json.decode(labels, type=dict[str, str]) if labels else {}
    except msgspec.DecodeError:
        return None
    return (metric, tuple(given[label] for label in wanted)) if given.keys() == set(wanted) else None

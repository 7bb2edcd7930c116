"""Status frames: the agent's own metrics go to the cloud beside its stream, for nobody can reach an agent behind NAT.

They have no seq and no row in the outbox: a lost one does not matter, the next tells all again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from headwater_shared import records
from headwater_shared.agent_status import AgentStatus, status_of
from headwater_shared.bus import Record
from headwater_shared.identity import agent_shard, site_of
from headwater_shared.logs import get_logger
from headwater_shared.topics import IN

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = get_logger()

EVERY_S = 30.0
"""Real seconds from one frame to the next."""
CHANGED_S = 5.0
"""The same where the mode of forwarding changed, or whether anything is taken in."""

Tell = Callable[[], AgentStatus]


class Statuses:
    """When the last frame went, and what it told of. One thread uses it, the forwarder's."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self.tell: Tell | None = None
        """What makes a frame; None: none go out."""
        self._said_s = -EVERY_S
        self._said: object = None
        self._failed = False

    def forget(self) -> None:
        """The bus did not take the last one: it goes with the next append."""
        self._said_s = -EVERY_S

    def due(self, mode: object, now_s: float) -> list[Record]:
        """Return the frame that is due, if one is. It counts as said.

        Whatever keeps it from being made is said once, and nothing else waits for it.

        Args:
            mode: what is told of at once when it changes.
            now_s: monotonic and real.
        """
        if self.tell is None or now_s - self._said_s < (EVERY_S if mode == self._said else CHANGED_S):
            return []
        self._said_s, self._said = now_s, mode
        try:
            return [self._record(self.tell())]
        except Exception as error:  # noqa: BLE001 - readings go on, whatever it is
            if not self._failed:
                self._failed = True
                log.warning("no status frames", error=f"{type(error).__name__}: {error}")
            return []

    def _record(self, status: AgentStatus) -> Record:
        name = f"{self._agent}/status-{status.time_us}"
        source = f"headwater-edge/{self._agent}"
        headers = records.headers(records.AGENT_STATUS, name, source, status.time_us)
        return Record(IN.name, agent_shard(self._agent), self._agent, headers, records.encode(status))


def status(agent: str, time_us: int, devices: Iterable[str], registry: CollectorRegistry) -> AgentStatus:
    """Make a frame of all that the agent's registry shows now.

    Args:
        agent: its name.
        time_us: what its clock shows.
        devices: `site/device`.
        registry: what `/metrics` shows.
    """
    sites = Counter(map(site_of, devices))
    site = min(sites, key=lambda one: (-sites[one], one), default="")
    samples = (
        (sample.name, sample.labels, sample.value)
        for metric in registry.collect()
        for sample in metric.samples
    )
    return status_of(agent, site, time_us, samples)

"""While the agent holds back, limit rules run on what arrives, and what they find is said at once (R18).

It is provisional: not journaled, and with the id that the anomaly will have when the reading is taken in, so that who acts on
both knows them as one; and so are the commands that it leads to, which the courier sends. It goes to log, status and
metrics, and as a local alert to whom the settings say.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from headwater_edge import stamps
from headwater_edge.acts import Evidence, orders
from headwater_edge.courier import Courier
from headwater_edge.decoded import Decoded
from headwater_edge.gather import Gather
from headwater_edge.limits import Limits
from headwater_edge.output import Output
from headwater_edge.rules import Change
from headwater_edge.state import State
from headwater_edge.topics import SeriesIndex
from headwater_shared.digest import NO_TIME
from headwater_shared.identity import stable_id
from headwater_shared.logs import get_logger
from headwater_shared.records import Anomaly

log = get_logger()


class Provisional:
    """The limit rules beside the step, over what no step has seen yet."""

    def __init__(
        self,
        state: State,
        index: SeriesIndex,
        courier: Courier,
        tell: Callable[[Anomaly], None] = lambda _: None,
    ) -> None:
        """`tell`: who is to know besides the log."""
        self._state = state
        self._courier = courier
        self._index = index
        self._limits: Limits | None = None
        self._taken_up: set[int] = set()
        self._looked = 0
        """Bursts of what gathers that were judged."""
        self.stepped: Output | None = None
        """What the last tick put out, whether or not it is committed."""
        self._tell = tell
        self.found = 0
        """Begins and ends that were said."""

    @property
    def broken(self) -> int:
        """Limits that are broken, as far as can be said before their readings are taken in; 0 while the agent takes all in."""
        return int(self._limits.active.sum()) if self._limits is not None else 0

    def look(self, gather: Gather) -> None:
        """Judge what gathers and will not be stepped for long; at first also what came just before."""
        waiting = gather.decoded[self._looked :]
        self._looked += len(waiting)
        for arrived_us, decoded in waiting:
            self._judge(decoded, arrived_us)
            self._courier.hear(decoded.answers)

    def stuck(self) -> None:
        """The last tick was stepped and cannot be committed: what it would have done and said goes out at once."""
        for anomaly in self.stepped.anomalies if self.stepped is not None else ():
            self._tell(anomaly)
        known, said = self._state.commands.by_id, self.stepped.commands if self.stepped is not None else []
        for let_out in [known[one.id] for one in said if one.status == "open" and one.id in known]:
            self._courier.act_provisionally([let_out], let_out.series)

    def _judge(self, decoded: Decoded, arrived_us: int) -> None:
        """Judge a burst's readings, those that repeat one too: they change nothing again."""
        if not self._state.detectors.limits.rules or not len(decoded.value):
            return
        if self._limits is None:
            rules, names = self._state.detectors.limits, self._state.names
            self._limits = rules.followed_by(rules.rules, names)  # with what is broken now
        self._limits.grow(self._index.names)
        self._take_up(decoded)
        series, value = decoded.series, decoded.value.copy()
        known = series < len(self._state.names)
        value[known] = self._state.meaning.of(series[known], value[known])
        sent, _ = stamps.split(decoded.sent)
        event = np.where(sent == NO_TIME, arrived_us, sent)
        for change in self._limits.run(series, event, value):
            rule, name = change.rule, self._index.names[change.series]
            self.found += 1
            id_ = stable_id(rule.name, name, change.begin_us)
            log.warning(
                "provisional: a limit is broken" if change.begins else "provisional: a limit holds again",
                rule=rule.name,
                series=name,
                value=change.value,
                limit=change.limit,
                severity=rule.severity,
                id=id_,
                text=rule.text,
            )
            self._tell(
                Anomaly(
                    self._state.settings.agent, self._state.epoch, 0, 0, 0, None, id_, rule.name, name,
                    "begin" if change.begins else "end", change.begin_us, change.time_us,
                    change.value, change.limit, rule.severity, rule.text,
                )
            )  # fmt: skip
            if change.begins:
                self._act(change, name)

    def _take_up(self, decoded: Decoded) -> None:
        """Make pairs for series that have numbers of such as were let go, and that no step has seen yet."""
        known, names = self._state.names, self._index.names
        numbers = [n for n in np.unique(decoded.series).tolist() if n < len(known) and not known[n]]
        fresh = [number for number in numbers if number not in self._taken_up]
        if fresh and self._limits is not None:
            self._taken_up.update(fresh)
            self._limits.take_up(fresh, [names[number] for number in fresh])

    def _act(self, change: Change, series: str) -> None:
        rule = change.rule
        begin = Evidence(
            stable_id(rule.name, series, change.begin_us),
            rule.name,
            series,
            rule.severity,
            rule.text,
            change.value,
            change.limit,
            change.begin_us,
        )
        self._courier.act_provisionally(orders(self._state.settings.acts, begin), series)

    def over(self) -> None:
        """The agent goes on: the step says the rest."""
        self._courier.go_on()
        self._looked = 0
        self._limits = None
        self._taken_up.clear()

"""Network scripts: what the network between devices and server does to them, from when to when."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal

import msgspec

from headwater_shared.settings import Duration, Section, duration


class Trouble(Section, frozen=True, forbid_unknown_fields=True):
    """A table `[[scenario.network]]`; times count from the origin of the run."""

    kind: Annotated[
        Literal["cut", "delay", "drop", "one-way"],
        msgspec.Meta(
            description="cut: connections end, and none can be made. delay: all is late by `by`. drop: a share of what is sent is lost, "
            "and the connection with it. one-way: nothing gets through in one direction."
        ),
    ]
    begin: Annotated[Duration, msgspec.Meta(description="When it begins, from the origin of the run.")]
    end: Annotated[Duration, msgspec.Meta(description="When it is over.")]
    site: Annotated[str, msgspec.Meta(description="Devices of which site; * and ? match any text.")] = "*"
    device: Annotated[str, msgspec.Meta(description="Which of them, by name.")] = "*"
    by: Annotated[Duration, msgspec.Meta(description="delay: how late, each way.")] = "200ms"
    share: Annotated[float, msgspec.Meta(gt=0, le=1, description="drop: of what is written at once.")] = 0.05
    blocked: Annotated[
        Literal["up", "down"],
        msgspec.Meta(
            description="one-way: what does not get through: up is what devices send, down the answers."
        ),
    ] = "down"

    def concerns(self, site: str, device: str) -> bool:
        return fnmatchcase(site, self.site) and fnmatchcase(device, self.device)

    def interval_us(self, origin_us: int, scale: float) -> tuple[int, int]:
        """Return begin (included) and end (excluded) in event time."""
        begin, end = (origin_us + round(duration(text) * scale) for text in (self.begin, self.end))
        return begin, end

"""What is wrong with time on a device: a clock that is off, one that begins in 1970, hours without a network."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

import msgspec

from headwater_shared.settings import Duration, Section, duration

_ON_AT_BOOT_US = 5_000_000
"""What a clock without a battery shows when a device begins to measure, since 1970."""


class WrongClock(Section, frozen=True, forbid_unknown_fields=True):
    """A table `[[scenario.clocks]]`."""

    device: Annotated[str, msgspec.Meta(description="Which devices, by name; * and ? match any text.")]
    ahead: Annotated[Duration, msgspec.Meta(description="How far their clocks are ahead ...")] = "0s"
    behind: Annotated[Duration, msgspec.Meta(description="... or behind.")] = "0s"
    boots: Annotated[
        Duration,
        msgspec.Meta(
            description="From the origin on they say 1970, as after a boot, until so long after it they are set."
        ),
    ] = "0s"

    def shown_us(self, time_us: int, origin_us: int, scale: float) -> int:
        """Return what the clock shows at a time; all in microseconds."""
        since_us = time_us - origin_us
        if 0 <= since_us < duration(self.boots) * scale:
            return _ON_AT_BOOT_US + since_us
        return time_us + round((duration(self.ahead) - duration(self.behind)) * scale)


class Absence(Section, frozen=True, forbid_unknown_fields=True):
    """A table `[[scenario.away]]`: devices out of reach of any network, which keep what they measure and send it when back."""

    device: Annotated[str, msgspec.Meta(description="Which devices, by name; * and ? match any text.")]
    before: Annotated[Duration, msgspec.Meta(description="They left so long before the origin ...")]
    end: Annotated[Duration, msgspec.Meta(description="... and are back so long after it.")]
    period: Annotated[Duration, msgspec.Meta(description="Between two samples before the origin.")] = "1m"
    batch: Annotated[int, msgspec.Meta(ge=1, le=500, description="Samples of one message.")] = 50


def clock_of(clocks: list[WrongClock], device: str) -> WrongClock | None:
    """Return what is wrong with a device's clock: the first table that fits."""
    return next((clock for clock in clocks if fnmatchcase(device, clock.device)), None)


def absence_of(away: list[Absence], device: str) -> Absence | None:
    """Return when a device is away: the first table that fits."""
    return next((absence for absence in away if fnmatchcase(device, absence.device)), None)

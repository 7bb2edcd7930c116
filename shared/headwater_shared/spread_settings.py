"""Spreading a site over several shards: the settings of both sides (R25)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from headwater_shared.errors import SettingsError
from headwater_shared.identity import SHARDS, valid_name
from headwater_shared.settings import Section
from headwater_shared.spread import Spread


class SpreadSettings(Section, frozen=True, forbid_unknown_fields=True):
    """A site with so many readings that one shard is too few: its devices are spread over several, from a time on.

    Every agent that serves the site has the same entries, before that time comes; later ones are added, those that rule already stay.
    The cloud side has them too, so that the device registry reaches those shards.
    """

    site: Annotated[str, Meta(description="The site.")]
    over: Annotated[
        int, Meta(ge=1, le=SHARDS, description="Over so many shards; 1 is back on its own.", examples=[4])
    ]
    from_: Annotated[
        str,
        Meta(
            description="For windows that start at or after this time (ISO 8601); before it, as ever.",
            examples=["2026-12-01T00:00:00Z"],
        ),
    ] = msgspec.field(name="from")


def spread_of(settings: Iterable[SpreadSettings]) -> tuple[Spread, ...]:
    """Resolve the entries, in order.

    Raises:
        SettingsError: a site or a time that is none, or two entries of a site from the same time on.
    """
    found: dict[tuple[str, int], Spread] = {}
    for one in settings:
        if not valid_name(one.site):
            raise SettingsError(
                f"[[spread]]: {one.site!r} is no site", hint="1 to 128 characters without / + #"
            )
        from_us = _time_us(one)
        if (one.site, from_us) in found:
            raise SettingsError(
                f"[[spread]]: two entries of site {one.site!r} are from {one.from_} on",
                hint="keep one of them",
            )
        found[one.site, from_us] = Spread(one.site, from_us, one.over)
    return tuple(sorted(found.values()))


def _time_us(one: SpreadSettings) -> int:
    try:
        moment = datetime.fromisoformat(one.from_)
    except ValueError:
        raise SettingsError(
            f"[[spread]]: from = {one.from_!r} is no time", hint='write one like "2026-12-01T00:00:00Z"'
        ) from None
    if moment.tzinfo is None:
        raise SettingsError(
            f"[[spread]]: from = {one.from_!r} has no zone", hint=f'write "{one.from_}Z" if it is UTC'
        )
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

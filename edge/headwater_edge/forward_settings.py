"""Settings of the forwarder."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from headwater_shared.settings import Duration, Section, Size


class ForwardSettings(Section, frozen=True, forbid_unknown_fields=True):
    """How the outbox goes to the bus."""

    drain: Annotated[
        Size,
        Meta(
            description="Bytes a second, compressed, at which a backlog is sent; anomalies and live windows go before it and are not limited."
        ),
    ] = "2MB"
    stall: Annotated[
        Duration,
        Meta(
            description="Rows wait for so long, none is sent, and the bus says that it is well: the agent ends, and is started again."
        ),
    ] = "60s"

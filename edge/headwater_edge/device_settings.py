"""The settings of devices: when one is silent or offline, and which may speak at all."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from headwater_shared.settings import Duration, Section, duration


class DeviceSettings(Section, frozen=True, forbid_unknown_fields=True):
    """What is known of devices, and which may speak."""

    only: Annotated[
        tuple[str, ...],
        Meta(
            description='Devices that may speak: "SITE/DEVICE" (* and ? match any text), "registry" for those of the device registry, '
            '"file:PATH" for a file of one a line. Readings of others are dead letters. Empty: all may.'
        ),
    ] = ()
    status: Annotated[
        bool,
        Meta(description="Say when a device becomes online, silent or offline, to the cloud side and here."),
    ] = True
    silent_after: Annotated[
        Duration,
        Meta(description='A device that is there but sends no reading for so long is silent; "0s": never.'),
    ] = "5m"
    silent: Annotated[
        dict[str, Duration],
        Meta(
            description='The same for some devices: "SITE/DEVICE" = "1h"; * and ? match any text, the first that fits counts.'
        ),
    ] = msgspec.field(default_factory=dict)
    offline_after: Annotated[
        Duration,
        Meta(
            description="A device whose connection ended is offline after so long, if it has not come back; one with a will when that "
            "is due."
        ),
    ] = "10s"


class PresenceRules(msgspec.Struct, frozen=True):
    """What device status depends on, resolved; microseconds, 0 for never. Off is what steps did before there was any."""

    on: bool = False
    silent_us: int = 0
    silent: dict[str, int] = {}
    offline_us: int = 10_000_000


def presence_rules(settings: DeviceSettings) -> PresenceRules:
    """Resolve the settings.

    Raises:
        SettingsError: a length of time that is none.
    """
    silent = {pattern: duration(text) for pattern, text in settings.silent.items()}
    return PresenceRules(
        settings.status, duration(settings.silent_after), silent, duration(settings.offline_after)
    )

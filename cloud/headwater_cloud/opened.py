"""The bus of the settings, open for a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headwater_cloud.settings import CloudSettings, in_data
from headwater_shared.bus import Bus
from headwater_shared.buses import opener
from headwater_shared.errors import Refused
from headwater_shared.kafka_settings import KafkaSettings, is_kafka
from headwater_shared.settings import Common, load


@contextmanager
def opened(settings: Path | None) -> Iterator[Bus]:
    """Open it for the block.

    Raises:
        Refused: there is no such log; a command makes none.
    """
    common, cloud = load(settings, "common", Common), load(settings, "cloud", CloudSettings)
    log = in_data(common.data, cloud.bus)
    if not is_kafka(cloud.bus) and not log.exists():
        raise Refused(f"there is no log {log}", hint="look at data in [common] and bus in [cloud]")
    bus = opener(cloud.bus, Path(common.data), load(settings, "kafka", KafkaSettings))()
    try:
        yield bus
    finally:
        bus.close()

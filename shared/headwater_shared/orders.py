"""Orders, commands from the cloud side, as both sides see them: what one may say, and its record on the bus (R14)."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from headwater_shared import records
from headwater_shared.bus import Record
from headwater_shared.identity import agent_partition, valid_name
from headwater_shared.records import Order
from headwater_shared.topics import COMMANDS

LONGEST_US = 7 * 86_400_000_000
"""A time to live is at most as long as the topic keeps an order."""
LONGEST = 4_096
"""Bytes of a command's name and arguments: they are in every snapshot of its agent while it is open."""
NAME = 128
"""Characters of a command's name, and of who asked for it."""
_DEEPEST = 32
_ID = re.compile(r"[!-~]{1,64}")


def record_of(order: Order, source: str) -> Record:
    """Make the record of an order, on the partition that its agent reads; `source` is the `ce_source`."""
    headers = records.headers(records.ORDER, order.id, source, order.time_us, ce_subject=order.device)
    partition = agent_partition(order.agent, COMMANDS.partitions)
    return Record(COMMANDS.name, partition, order.agent, headers, records.encode(order))


def is_named(order_id: str, device: str) -> bool:
    """Tell whether an id and a device (site/device) are such: without them nobody can be told what became of an order."""
    site, _, name = device.partition("/")
    return _ID.fullmatch(order_id) is not None and valid_name(site) and valid_name(name)


def fault(name: str, arguments: str, ttl_us: int) -> str:
    """Return why nobody could carry out such an order, "" if somebody may."""
    if not 0 < len(name) <= NAME:
        return f"it has no name, or one of more than {NAME} characters"
    if not 0 < ttl_us <= LONGEST_US:
        return "its time to live is not between nothing and seven days"
    if len((name + arguments).encode()) > LONGEST:
        return f"it has more than {LONGEST} bytes"
    try:
        said = msgspec.json.decode(arguments, type=dict[str, Any])
        msgspec.json.encode(said)  # not every number that can be read can be written
    except (msgspec.DecodeError, RecursionError, OverflowError, UnicodeError):
        return "its arguments are no JSON object"
    return f"its arguments are nested more than {_DEEPEST} deep" if _deeper(said, _DEEPEST) else ""


def _deeper(value: object, than: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return than == 0 or any(_deeper(one, than - 1) for one in inner)

"""The roster: each device with its flash and the rest of its script, new or taken up again from the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from headwater_firmware_sim.device import Device
from headwater_firmware_sim.flash import Flash
from headwater_firmware_sim.misbehave import Step, script
from headwater_firmware_sim.plan import Plan
from headwater_shared.ledger import Message
from headwater_shared.ledger_writer import Ledger, Progress


class Member(NamedTuple):
    """What a driver needs of one device."""

    device: Device
    flash: Flash
    script: Iterator[Step]


def muster(plan: Plan, book: Ledger) -> list[Member]:
    """Make the devices of a plan; each goes on where the ledger says that it was, with what it still keeps."""
    metric_ids = [book.metric(name) for name in plan.scenario.metrics]
    progress = book.progress()
    kept: dict[int, list[Message]] = defaultdict(list)
    for message in book.unacknowledged():
        kept[message.device].append(message)
    members = []
    for number in range(plan.devices):
        device = Device(plan, number, metric_ids)
        index = book.device(device.site, device.name)
        so_far = progress.get(index, Progress(0, 0))
        flash = Flash(device, book, so_far.next_message, kept[index])
        members.append(Member(device, flash, islice(script(device), so_far.own, None)))
    book.commit()
    return members

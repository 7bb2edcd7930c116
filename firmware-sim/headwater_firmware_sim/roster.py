"""The roster: each device with its flash and the rest of its script, new or taken up again from the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from headwater_firmware_sim.device import Device
from headwater_firmware_sim.flash import Flash
from headwater_firmware_sim.misbehave import Step, script
from headwater_firmware_sim.orders import Orders
from headwater_firmware_sim.plan import Plan
from headwater_shared.clock import Clock, RealClock
from headwater_shared.ledger import Executed, Message
from headwater_shared.ledger_writer import Ledger, Progress


class Member(NamedTuple):
    """What a driver needs of one device."""

    device: Device
    flash: Flash
    script: Iterator[Step]


def muster(
    plan: Plan,
    book: Ledger,
    clock: Clock | None = None,
    make: Callable[[Plan, int, list[int]], Device] = Device,
) -> list[Member]:
    """Make the devices of a plan; each goes on where the ledger says that it was, with what it still keeps and was told to do.

    Args:
        clock: event time; the real one by default.
        make: makes each of them, of a plan, its number and the ledger's numbers of the metrics.
    """
    clock = clock or RealClock()
    executed: dict[int, list[Executed]] = defaultdict(list)
    for one in book.were_executed:
        executed[one.device].append(one)
    metric_ids = [book.metric(name) for name in plan.scenario.metrics]
    progress = book.progress()
    kept: dict[int, list[Message]] = defaultdict(list)
    for message in book.unacknowledged():
        kept[message.device].append(message)
    members = []
    for number in range(plan.members):
        device = make(plan, number, metric_ids)
        if plan.lives_us and device.begin_us >= device.end_us:
            continue  # the run ends before it would come
        index = book.device(device.site, device.name)
        so_far = progress.get(index, Progress(0, 0))
        orders = Orders(device, book, clock, executed[index])
        flash = Flash(device, book, so_far.next_message, kept[index], orders)
        members.append(Member(device, flash, islice(script(device), so_far.own, None)))
    book.commit()
    return members

"""A process that appends to a bus until it is ended: `python -m tests.contracts.bus_writer BUS ADDRESS NAME HOW COUNT SIZE`.

Each batch holds SIZE records to two partitions; body: writer, batch, place. It prints each batch's number once the bus
said that it is durable, so the reader of the output knows what must be there.
"""

from __future__ import annotations

import sys

from headwater_shared.bus import Record
from tests.contracts.buses import BUSES


def batch(name: str, number: int, size: int) -> list[Record]:
    """The records of one batch, the same every time."""
    padding = "x" * (number * 37 % 500)
    return [
        Record("hw-in", place % 2, f"{name}", {"ce_id": f"{name}/{number}/{place}"}, f"{name} {number} {place} {padding}".encode())
        for place in range(size)
    ]  # fmt: skip


def main() -> None:
    kind, address, name, how, count, size = sys.argv[1:]
    bus = BUSES[kind](address)
    for number in range(int(count)):
        records = batch(name, number, int(size))
        if how == "once":
            bus.append_once(name, number * int(size) + 1, records)
        else:
            bus.append(records)
        print(number, flush=True)
    bus.close()


if __name__ == "__main__":
    main()

"""`headwater-cloud status`: how the cloud side is, on the log of one box and on Kafka."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from headwater_cloud import query
from headwater_cloud.commands import SettingsFile
from headwater_cloud.look import LETTERS, Holder, State, local_holder, look
from headwater_cloud.opened import opened
from headwater_cloud.settings import CloudSettings, in_data
from headwater_shared.kafka_settings import KafkaSettings, connection, is_kafka
from headwater_shared.settings import Common, load
from headwater_shared.topics import IN

ALONE = "cloud"
"""The group of the local runner (`runner.GROUP`, which a command need not import)."""
_NOBODY = "nobody works on it: start 'headwater-cloud run', or workers"


def status(
    settings: SettingsFile = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object, every shard and agent in it.")
    ] = False,
) -> None:
    """Show lag and holder of each shard, what the cloud side has of each agent, gaps, skew and dead letters."""
    common, cloud = load(settings, "common", Common), load(settings, "cloud", CloudSettings)
    holders = local_holder(Path(common.data) / "cloud.json")
    committed: dict[int, int] = {}
    with opened(settings) as bus:
        if is_kafka(cloud.bus):
            from headwater_cloud import kafka_group

            kafka = load(settings, "kafka", KafkaSettings)
            client, topic = connection(cloud.bus, kafka), kafka.prefix + IN.name
            members, committed = kafka_group.look(client, kafka.prefix + cloud.group, topic)
            if not members:  # one process, which tells Kafka twice a minute how far it is
                committed |= kafka_group.look(client, kafka.prefix + ALONE, topic)[1]
            holders = [Holder(*member) for member in members] or holders
        state = look(bus, cloud.bus, in_data(common.data, cloud.file), holders, committed)
    if as_json:
        print(msgspec.json.encode(state).decode())
    else:
        print(*_lines(state), sep="\n")


def _lines(state: State) -> Iterator[str]:
    yield f"bus          {state.bus}, {state.lag} records behind"
    for holder in state.holders:
        yield f"works on it  {holder.name} ({holder.where}): {_ranges(holder.shards) or 'no shard'}"
    if not state.holders:
        yield f"works on it  {_NOBODY}"
    late = sorted((one for one in state.shards if one.lag), key=lambda one: -one.lag)
    for one in late[:10]:
        yield f"behind       shard {one.shard}: {one.lag} of {one.end} records, held by {one.holder or 'nobody'}"
    if state.busiest is not None:
        yield f"skew         shard {state.busiest} has {state.skew:.1f} times the mean"
    yield "reports      " + (_counts(state.reports) or "none")
    yield "dead letters " + (_counts(state.dead) or "none")
    if sum(state.dead.values()) >= LETTERS:
        yield f"             of the last {LETTERS:,}"
    if state.agents:
        yield ""
        names = ("agent", "shard", "epoch", "last seq", "missing", "complete", "silent since")
        rows = [
            (
                one.agent, one.shard, one.epoch, one.last_seq, one.missing or "-", _time(one.complete_us), _time(one.silent_us),
            )
            for one in state.agents
        ]  # fmt: skip
        yield from query.shown(names, iter(rows), "table")


def _counts(some: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in some.items())


def _time(us: int) -> str:
    return query.iso(us) if us else "-"


def _ranges(numbers: Sequence[int]) -> str:
    """Write shards as people do: 0-31, 40."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)

"""Acting, in the step: what anomalies, orders from the cloud side and answers do to commands, and the records of it (R14)."""

from __future__ import annotations

import msgspec

from headwater_edge import commands
from headwater_edge.acts import orders
from headwater_edge.events import Answered, OrdersRead
from headwater_edge.numbering import numbered
from headwater_edge.orders import command_of, refusal
from headwater_edge.output import Output
from headwater_edge.state import State
from headwater_edge.tick import Tick
from headwater_shared.records import Command, CommandStatus


def act(state: State, tick: Tick, out: Output) -> None:
    """Let the tick's anomalies and orders lead to commands, take its answers, and end what is past its time to live."""

    def put(command: commands.Command, status: CommandStatus, reason: str) -> None:
        out.commands.append(_record(state, command, status, reason, tick.now.wall_us))

    every, now = state.commands, tick.now
    for anomaly in out.anomalies:
        if anomaly.phase == "end":
            every.over(anomaly, now, put)
            continue
        for order in orders(state.settings.acts, anomaly):
            every.begin(order, anomaly, now, put)
    for _, event in tick.events:
        if isinstance(event, OrdersRead):
            horizon_us = state.settings.horizon_us
            for one in state.orders.take(event, every.by_id, now, state.age_us, horizon_us):
                every.order(command_of(one), refusal(state, one, now), now, put)
        elif isinstance(event, Answered):
            every.answer(event, now, put)
    every.ripen(now, put)


def _record(
    state: State, command: commands.Command, status: CommandStatus, reason: str, now_us: int
) -> Command:
    said = msgspec.json.decode(command.command)
    return Command(
        *numbered(state, state.spreading.map.shard(command.series, command.begin_us)),
        id=command.id,
        status=status,
        reason=reason,
        act=command.act,
        rule=command.rule,
        anomaly=command.anomaly,
        series=command.of_series,
        device=command.device,
        topic=command.topic,
        name=said["name"],
        arguments=msgspec.json.encode(said["arguments"]).decode(),
        undoes=command.undoes,
        begin_us=command.begin_us,
        time_us=now_us,
        ttl_us=command.ttl_us,
    )

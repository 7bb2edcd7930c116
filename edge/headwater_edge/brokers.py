"""The brokers of one agent: checked and attached, and what they say of themselves beside the agent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from headwater_edge import broker_counts
from headwater_edge.acts import OF_ORDERS, ActSettings, answer_filters
from headwater_edge.broker import Broker
from headwater_edge.broker_filters import covers
from headwater_edge.broker_settings import BrokerSettings, check_brokers
from headwater_edge.broker_talk import session_name
from headwater_edge.pipeline import Agent
from headwater_shared.clock import Clock
from headwater_shared.settings import secret

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


def passwords_of(brokers: Sequence[BrokerSettings]) -> list[str]:
    """Check the settings of all brokers, and return their passwords in plain text, "" for none.

    Raises:
        SettingsError: something in them cannot work.
    """
    check_brokers(brokers)
    return [secret(broker.password) if broker.password else "" for broker in brokers]


def attach_brokers(
    agent: Agent,
    name: str,
    brokers: Sequence[BrokerSettings],
    passwords: Sequence[str],
    clock: Clock,
    connections: Iterator[int],
    registry: CollectorRegistry,
    acts: Sequence[ActSettings] = (),
) -> list[Broker]:
    """Attach a source for each broker; `name` is the agent's, `connections` numbers connections of all sources.

    The answers to commands of acts, and to orders of the cloud side, are subscribed to beside the settings' filters.
    """
    of_acts = answer_filters(acts)
    answers = list(dict.fromkeys([*of_acts, OF_ORDERS]))
    attached = [
        _attach(agent, name, with_answers(broker, answers), password, clock, connections)
        for broker, password in zip(brokers, passwords, strict=True)
    ]
    for one in attached:
        one.counts.spared = frozenset({OF_ORDERS} - {*of_acts})
    broker_counts.register(registry, [broker.counts for broker in attached])
    return attached


def _attach(
    agent: Agent, name: str, settings: BrokerSettings, password: str, clock: Clock, connections: Iterator[int]
) -> Broker:
    sessions, session = agent.state.sessions, session_name(settings.name)
    return agent.attach(
        lambda deliver: Broker(
            settings, name, password, clock, connections, deliver,
            remembered=lambda: sessions.filters_of(session),
        )
    )  # fmt: skip


def with_answers(broker: BrokerSettings, answers: Sequence[str]) -> BrokerSettings:
    """Add filters for answers that no filter of the broker lets through already: an answer that comes twice is one (R14)."""
    more = tuple(one for one in answers if not any(covers(filter_, one) for filter_ in broker.filters))
    return msgspec.structs.replace(broker, filters=(*broker.filters, *more))


def with_troubles(health: dict[str, Any], brokers: Sequence[Broker]) -> dict[str, Any]:
    """Add to the agent's health what is wrong with its brokers."""
    troubles = [trouble for broker in brokers for trouble in broker.counts.troubles()]
    return {**health, "reasons": [*health["reasons"], *troubles]}


def with_status(status: dict[str, Any], brokers: Sequence[Broker]) -> dict[str, Any]:
    """Add the brokers to the agent's status."""
    return status | {f"broker {broker.name}": broker.counts.status() for broker in brokers}

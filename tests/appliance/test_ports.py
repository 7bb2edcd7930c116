"""Ports for servers that are started later, and again."""

from __future__ import annotations

from headwater_appliance.ports import steady_port


def test_two_servers_are_never_given_one_port() -> None:
    """Not even where the first one does not listen yet: a Kafka had two listeners on one port."""
    ports = [steady_port() for _ in range(1_000)]
    assert len(set(ports)) == len(ports)

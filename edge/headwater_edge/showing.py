"""What is put out for others goes to those who subscribed to it at the listener, and may still."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headwater_edge.answers import fits, publish
from headwater_edge.sockets import Sockets


def show(sockets: Sockets, readers_of: Callable[[str], Sequence[int]], topic: str, payload: bytes) -> int:
    """Send a message at QoS 0; return how many clients it was sent to.

    Args:
        sockets: the listener's connections.
        readers_of: the connections whose sessions subscribed to what is put out on a topic.
    """
    reached = 0
    for number in readers_of(topic):
        connection = sockets.by_number.get(number)
        if connection is None or not connection.connacked:
            continue
        if connection.grant is not None and not connection.grant.reads(topic):
            continue
        packet = publish(connection.v5, topic.encode(), payload)
        if fits(packet, connection.packet_maximum):
            sockets.send(connection, packet)
            reached += 1
    return reached

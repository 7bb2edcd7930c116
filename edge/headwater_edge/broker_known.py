"""What a broker's connections remember of topics and lengths."""

from __future__ import annotations

from headwater_edge import broker_packets as packets
from headwater_edge.broker_settings import BrokerSettings, Terms
from headwater_edge.publishes import Known
from headwater_edge.source import RETAIN


def known_of(settings: BrokerSettings, terms: Terms) -> Known:
    """Make what a broker's connections remember of topics and lengths; retained messages are no plain ones (R9)."""
    # A client of 3.1.1 cannot ask for short packets, and one that it does not take would come for ever.
    known = Known(terms.max_packet if settings.version == "5" else packets.LONGEST)
    known.plain_bits |= RETAIN
    return known

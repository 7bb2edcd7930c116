"""Why a connection to a broker is over, or never was: a word to count it by, a sentence, and what a person should do."""

from __future__ import annotations

import ssl

from headwater_edge.protocol import BadPacket
from headwater_shared.errors import HeadwaterError, TryAgain


class BrokerLost(TryAgain):
    """The connection is over, or never was: connect again later. `reason` is the short word that it is counted by."""

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


def closed(let_in: bool) -> BrokerLost:
    if let_in:
        return BrokerLost("the broker closed the connection", reason="closed")
    return BrokerLost(
        "the broker closed the connection without an answer to CONNECT",
        reason="refused",
        hint="does the broker speak this version of MQTT, and TLS or not as the settings say?",
    )


def named(error: HeadwaterError | OSError) -> HeadwaterError:
    """Give an error its reason, and the hint that fits a broker."""
    if isinstance(error, BadPacket):
        hint = "raise max_packet of this broker" if error.reason == "too-large" else ""
        return BrokerLost(f"the broker sent {error.message}", reason=error.reason, hint=hint)
    if isinstance(error, HeadwaterError):
        return error
    hint = _hint_tls(error) if isinstance(error, ssl.SSLError) else ""
    return BrokerLost(f"the connection broke: {error.strerror or error}", reason="broken", hint=hint)


def unreachable(place: str, error: OSError) -> BrokerLost:
    if isinstance(error, TimeoutError):
        return BrokerLost(f"{place} does not answer", reason="unreachable")
    message = f"{place}: {error.strerror or error}"
    if isinstance(error, ssl.SSLError):
        return BrokerLost(message, reason="tls", hint=_hint_tls(error))
    hint = "does the broker run, and is host what it is called?"
    return BrokerLost(message, reason="unreachable", hint=hint)


def _hint_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "set ca to the file of the authority that signed its certificate, and host to a name in it"
    return "does the broker speak TLS on this port, and does it want a certificate (cert, key)?"

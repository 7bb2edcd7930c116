"""Says what went wrong in a TLS handshake the way a person can act on it: which side does not like what, and what to do."""

from __future__ import annotations

import ssl

from headwater_shared.errors import Refused


class HandshakeFailed(Refused):
    """There will be no TLS with this client. `reason` is the word that it is counted by."""

    def __init__(self, message: str, *, reason: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


_OURS = {
    "UNKNOWN_CA": "give the device the certificate of the authority that ours is of (ca.pem of `headwater certs`)",
    "CERTIFICATE_EXPIRED": "renew our certificate, or set the device's clock",
    "BAD_CERTIFICATE": "is the name that the device connects to in our certificate?",
    "CERTIFICATE_UNKNOWN": "is the name that the device connects to in our certificate, and its authority known to the device?",
    "UNSUPPORTED_CERTIFICATE": "the device knows no elliptic curves: give the agent a certificate with an RSA key",
}
"""What a client's alert says of our certificate, and what to do."""
_VERSIONS = {
    "UNSUPPORTED_PROTOCOL",
    "VERSION_TOO_LOW",
    "WRONG_SSL_VERSION",
    "UNKNOWN_PROTOCOL",
    "WRONG_VERSION_NUMBER",
}


def explained(error: ssl.SSLError) -> HandshakeFailed:
    """Explain an error of OpenSSL's."""
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return HandshakeFailed(
            f"its certificate is not accepted: {error.verify_message}",
            reason="tls-certificate",
            hint="it must be of an authority in edge.listener.tls.ca, be for clients, and neither too old nor too young",
        )
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return HandshakeFailed(
            "it has no certificate",
            reason="tls-no-certificate",
            hint="give it one, or set edge.listener.tls.clients to optional",
        )
    if "_ALERT_" in reason:
        return _alerted(reason.partition("_ALERT_")[2])
    if reason in _VERSIONS:
        return HandshakeFailed(
            "it speaks a TLS older than 1.2", reason="tls-version", hint="let the device speak TLS 1.2 or 1.3"
        )
    return HandshakeFailed(
        f"the TLS handshake failed: {reason.lower().replace('_', ' ') or error}",
        reason="tls-handshake",
        hint="compare what the device can with TLS 1.2 and 1.3 as OpenSSL has them",
    )


def _alerted(alert: str) -> HandshakeFailed:
    words = alert.lower().replace("_", " ")
    if alert in _OURS:
        return HandshakeFailed(
            f"it does not accept our certificate: {words}", reason="tls-distrusted", hint=_OURS[alert]
        )
    if alert == "PROTOCOL_VERSION":
        return HandshakeFailed(
            "it speaks neither TLS 1.2 nor 1.3",
            reason="tls-version",
            hint="let the device speak TLS 1.2 or 1.3",
        )
    return HandshakeFailed(
        f"it ended the TLS handshake: {words}", reason="tls-handshake", hint="see the device's own log"
    )


def no_tls(first: bytes) -> HandshakeFailed:
    """Explain a client whose first byte is not that of TLS."""
    hint = "this port speaks MQTT over TLS"
    if first[:1] == b"\x10":
        hint = "the device speaks MQTT without TLS; this port speaks it with TLS only: switch TLS on, or use the plain port"
    elif first[:4] in {b"GET ", b"POST", b"HEAD", b"PUT "}:
        hint = "the device speaks HTTP; this port speaks MQTT over TLS"
    return HandshakeFailed(f"no TLS: it begins with {first[:8]!r}", reason="no-tls", hint=hint)


def went_away() -> HandshakeFailed:
    """Explain a client that closed the connection before the handshake was over."""
    return HandshakeFailed(
        "it went away in the middle of the TLS handshake",
        reason="tls-handshake",
        hint="many devices do so that do not know our certificate's authority, or connect to a name that it is not for",
    )


def no_identity(what: str) -> HandshakeFailed:
    """Explain a certificate that does not say whose it is."""
    return HandshakeFailed(
        f"its certificate has no {what}, or more than one",
        reason="tls-identity",
        hint="see edge.listener.tls.identity",
    )

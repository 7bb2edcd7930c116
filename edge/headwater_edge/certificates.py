"""The TLS context of the listener: made from the files in the settings, and anew when they change.

Connections keep the context that they began with. Files that do not fit each other (one of two is replaced, the other
not yet) change nothing, and are said once.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from headwater_edge.listener_settings import TlsSettings
from headwater_shared.clock import Clock
from headwater_shared.errors import SettingsError
from headwater_shared.logs import get_logger

log = get_logger()

_LOOK_S = 1.0
"""Between two looks at the files."""
_SOON_S = 30 * 86_400
"""A certificate that ends within so many seconds is said so when it is read."""


class Certificates:
    """The files, and the context made of them.

    Raises:
        SettingsError: a file is missing, or they make no context.
    """

    def __init__(self, settings: TlsSettings, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        if settings.clients != "no-certificate" and not settings.ca:
            raise SettingsError(
                f'edge.listener.tls.clients = "{settings.clients}" needs edge.listener.tls.ca',
                hint="name the file of the authority that the devices' certificates are of",
            )
        self._files = [Path(name) for name in (settings.certificate, settings.key, settings.ca) if name]
        self._seen = self._look()
        self._looked = monotonic()
        self.ends_s: float | None = None
        """When the certificate ends, seconds since 1970, if that could be found out."""
        self._context = _context(settings)
        self._examine()

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection; the files are looked at once a second at most."""
        now = self._monotonic()
        if now - self._looked >= _LOOK_S:
            self._looked = now
            seen = self._look()
            if seen != self._seen:
                self._seen = seen
                self._again()
        return self._context

    def _again(self) -> None:
        try:
            self._context = _context(self._settings)
        except SettingsError as error:
            log.error("the certificate is kept as it was", error=error)
            return
        log.info("certificate read again", file=self._settings.certificate)
        self._examine()

    def _examine(self) -> None:
        """Look at the certificate as a client would that trusts it, and say what such a client would not like."""
        self.ends_s, trouble = _seen_by_a_client(self._context, self._settings.certificate)
        if self.ends_s is not None and self.ends_s < self._clock.now().wall_us / 1e6 + _SOON_S:
            trouble = f"it ends on {datetime.fromtimestamp(self.ends_s, UTC):%Y-%m-%d}"
        if trouble:
            file, hint = self._settings.certificate, "devices will refuse it: make a new one in time"
            log.warning("the certificate is not good for long", file=file, error=trouble, hint=hint)

    def _look(self) -> list[tuple[int, int, int] | None]:
        found: list[tuple[int, int, int] | None] = []
        for file in self._files:
            try:
                state = file.stat()
                found.append((state.st_mtime_ns, state.st_size, state.st_ino))
            except OSError:
                found.append(None)
        return found


def _context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 1  # a device that comes back resumes with one; two would be twice the work
    try:
        # An encrypted key must not ask for its passphrase on a terminal that nobody watches.
        context.load_cert_chain(settings.certificate, settings.key or None, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"the certificate {settings.certificate} with the key {settings.key or settings.certificate} cannot be used: "
            f"{_why(error)}",
            hint="both are PEM, the key is of this certificate and has no passphrase; `headwater certs` makes a pair",
        ) from None
    if settings.clients != "no-certificate":
        _trust(context, settings)
    return context


def _seen_by_a_client(context: ssl.SSLContext, certificate: str) -> tuple[float | None, str]:
    """Shake hands with ourselves, in memory: when the certificate ends, and what is wrong with it, as OpenSSL says it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it is trusted itself, whoever it is of
    client.load_verify_locations(certificate)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server)
    try:
        for end in (theirs, ours, theirs):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
        found = theirs.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return None, error.verify_message
    except (ssl.SSLError, ValueError) as error:
        return None, _why(error)
    ends = found.get("notAfter")
    return (ssl.cert_time_to_seconds(ends), "") if isinstance(ends, str) else (None, "")


def _trust(context: ssl.SSLContext, settings: TlsSettings) -> None:
    """Ask devices for certificates of the authorities in the file; if it holds revocations, they count."""
    try:
        context.load_verify_locations(settings.ca)
        revocations = "BEGIN X509 CRL" in Path(settings.ca).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"the authorities in {settings.ca} cannot be used: {_why(error)}",
            hint="it is PEM, with each authority's certificate",
        ) from None
    context.verify_mode = ssl.CERT_REQUIRED if settings.clients == "required" else ssl.CERT_OPTIONAL
    if revocations:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)

"""Settings of Kafka, where a `bus` is "kafka://host:port,...": who we are, and how the brokers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from headwater_shared.errors import SettingsError
from headwater_shared.settings import Secret, Section, secret

SCHEME = "kafka://"


class KafkaSettings(Section, frozen=True, forbid_unknown_fields=True):
    """How Kafka is reached, where a bus is "kafka://host:port,..."."""

    prefix: Annotated[
        str,
        Meta(
            pattern=r"^([a-z0-9][a-z0-9_-]*)?$",
            description="Stands before the name of every topic, where several installations share a cluster.",
        ),
    ] = ""
    user: Annotated[str, Meta(description="User for SASL; empty: the brokers want none.")] = ""
    password: Annotated[Secret | None, Meta(description='Its password: "env:VARIABLE" or "file:PATH".')] = (
        None
    )
    mechanism: Annotated[
        Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"],
        Meta(description="How the password is shown; PLAIN only under TLS."),
    ] = "SCRAM-SHA-512"
    tls: Annotated[bool, Meta(description="Connect under TLS.")] = False
    ca: Annotated[
        str | None,
        Meta(description="File of the authority that signed the brokers' certificates; else the system's."),
    ] = None
    certificate: Annotated[
        str | None, Meta(description="File of our own certificate, where brokers want one; with `key`.")
    ] = None
    key: Annotated[str | None, Meta(description="File of its key.")] = None
    registry: Annotated[
        str,
        Meta(
            pattern=r"^(https?://.+)?$",
            description="A schema registry (Confluent's REST API), such as http://127.0.0.1:8081, that `headwater-cloud topics --apply` puts "
            "the schemas into.",
        ),
    ] = ""
    registry_user: Annotated[str, Meta(description="Its user; empty: it wants none.")] = ""
    registry_password: Annotated[
        Secret | None, Meta(description='Its password: "env:VARIABLE" or "file:PATH".')
    ] = None


def is_kafka(address: str) -> bool:
    """Tell whether the `bus` of the settings is Kafka, and not the file of a SQLite log."""
    return address.startswith(SCHEME)


def check(address: str, settings: KafkaSettings) -> None:
    """See that the settings do not contradict each other; no secret and no file is looked up.

    Raises:
        SettingsError: they do.
    """
    _servers(address)
    if settings.user and settings.password is None:
        raise SettingsError(
            f"Kafka's user {settings.user!r} has no password",
            hint='set password = "env:VARIABLE" or "file:PATH" in [kafka]',
        )
    if settings.user and settings.mechanism == "PLAIN" and not settings.tls:
        raise SettingsError(
            "PLAIN without TLS would show Kafka's password to everybody on the way",
            hint='set tls = true in [kafka], or mechanism = "SCRAM-SHA-512"',
        )
    if not settings.tls and (settings.ca or settings.certificate or settings.key):
        raise SettingsError("Kafka's certificates are set, and TLS is not", hint="set tls = true in [kafka]")
    if bool(settings.certificate) != bool(settings.key):
        raise SettingsError(
            "Kafka wants certificate and key together, and one is set", hint="set both in [kafka], or none"
        )


def connection(address: str, settings: KafkaSettings) -> dict[str, str | int]:
    """Return what every client of librdkafka is told, to connect.

    Raises:
        SettingsError: the settings contradict each other, or a secret or a certificate cannot be had.
    """
    check(address, settings)
    found: dict[str, str | int] = {"bootstrap.servers": _servers(address)}
    if settings.user and settings.password is not None:
        found |= {
            "sasl.mechanism": settings.mechanism,
            "sasl.username": settings.user,
            "sasl.password": secret(settings.password),
        }
    if settings.tls:
        _readable(settings)
        files = {
            "ssl.ca.location": settings.ca,
            "ssl.certificate.location": settings.certificate,
            "ssl.key.location": settings.key,
        }
        found |= {name: file for name, file in files.items() if file}
    protocol = ("SASL_" if settings.user else "") + ("SSL" if settings.tls else "PLAINTEXT")
    return found | {"security.protocol": protocol}


def _servers(address: str) -> str:
    servers = address.removeprefix(SCHEME).strip("/")
    if not servers or "/" in servers:
        raise SettingsError(f"{address!r} names no Kafka", hint='write "kafka://host:9092,other:9092"')
    return servers


def _readable(settings: KafkaSettings) -> None:
    """See that the certificates can be used: librdkafka says it by an error of its own, which names neither file nor key."""
    import ssl  # only where there is TLS

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    name = f"ca = {settings.ca!r}"
    try:
        if settings.ca:
            folder = Path(settings.ca).is_dir()
            context.load_verify_locations(**{"capath" if folder else "cafile": settings.ca})
        if settings.certificate and settings.key:
            name = f"certificate = {settings.certificate!r} with key = {settings.key!r}"
            context.load_cert_chain(settings.certificate, settings.key, password="")  # asks nobody
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            f"kafka.{name} cannot be used: {error.strerror or error}",
            hint="check the path, its owner, and that it is PEM",
        ) from None

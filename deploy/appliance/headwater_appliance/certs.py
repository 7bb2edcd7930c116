"""`headwater certs`: a small authority, and certificates of it for the agent and its devices, for a site that has none.

Keys are on the curve P-256, with which a small device signs ten times as fast as with RSA; unencrypted, 0600. The library is
imported here, when it is used, so that no other process carries it.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from headwater_shared.errors import Refused, SettingsError
from headwater_shared.extras import load
from headwater_shared.identity import valid_name

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

AUTHORITY, SERVER, DEVICES = "ca", "server", "devices"
"""File names in the folder; a device's stands below `devices/`, as its name says."""
AUTHORITY_DAYS, SERVER_DAYS, DEVICE_DAYS = 3650, 825, 1825
"""By default: a device in the field outlives several certificates of the agent, which is renewed without touching it."""
_EARLIER = timedelta(days=1)
"""So much before now a certificate begins: not every clock is right."""
_LONGEST_NAME = 64
"""Characters of a common name (X.520)."""


class Written(NamedTuple):
    """A certificate that was made: its file and its key's, and the day on which it ends."""

    certificate: Path
    key: Path
    ends: datetime


def make_authority(folder: Path, name: str, days: int, now: datetime) -> Written:
    """Make the authority.

    Raises:
        Refused: there is one already.
        PartMissing: the library is not installed.
    """
    load("cryptography", "certs")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    file = Path(AUTHORITY)
    _must_be_new(folder, file)
    key, subject = _new_key(), _subject(name)
    builder = (
        _begun(subject, subject, key, days, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
    )
    return _written(folder, file, builder.sign(key, hashes.SHA256()), key)


def make_server(folder: Path, names: Sequence[str], days: int, now: datetime) -> Written:
    """Make the agent's certificate, for the names and addresses that devices connect to.

    Raises:
        Refused: there is one already, or no authority.
        SettingsError: a name is none of a host.
        PartMissing: the library is not installed.
    """
    load("cryptography", "certs")
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    more = [
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([_alternative(name) for name in names]), False),
    ]
    return _signed(folder, Path(SERVER), names[0], more, days, now)


def make_device(folder: Path, name: str, days: int, now: datetime) -> Written:
    """Make a device's certificate; its common name, DEVICE or SITE/DEVICE, says what it may speak for.

    Raises:
        Refused: there is one already, or no authority.
        SettingsError: the name is none of a device.
        PartMissing: the library is not installed.
    """
    load("cryptography", "certs")
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    words = name.split("/")
    if len(words) > 2 or not all(valid_name(word) and word.strip(".") for word in words):
        raise SettingsError(
            f"{name!r} is no name of a device", hint='write "pump-7", or "north/pump-7" with its site'
        )
    more = [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)]
    return _signed(folder, Path(DEVICES, *words), name, more, days, now)


def _signed(
    folder: Path,
    file: Path,
    name: str,
    more: Sequence[tuple[x509.ExtensionType, bool]],
    days: int,
    now: datetime,
) -> Written:
    """Make a certificate of the authority in the folder, which must outlive it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    _must_be_new(folder, file)
    authority, authority_key = _authority(folder)
    key = _new_key()
    days = min(days, (authority.not_valid_after_utc - now).days)
    if days < 1:
        raise Refused(f"the authority in {folder} has ended", hint="make a new one in another folder")
    builder = (
        _begun(_subject(name), authority.subject, key, days, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
    )
    for extension, critical in more:
        builder = builder.add_extension(extension, critical=critical)
    return _written(folder, file, builder.sign(authority_key, hashes.SHA256()), key)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int, now: datetime
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    if not 0 < len(name) <= _LONGEST_NAME:
        raise SettingsError(
            f"{name[:80]!r} is no name for a certificate", hint=f"1 to {_LONGEST_NAME} characters"
        )
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        if not name or "/" in name or " " in name:
            raise ValueError
        return x509.DNSName(name)
    except ValueError:
        raise SettingsError(
            f"{name!r} is neither a host's name nor an address", hint='write "gateway.local" or "192.168.1.5"'
        ) from None


def _new_key() -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    certificate, key_file = folder / f"{AUTHORITY}.pem", folder / f"{AUTHORITY}.key"
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise Refused(
            f"no authority in {folder}: {error}", hint=f"headwater certs ca --folder {folder}"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refused(f"{key_file} is a key of another kind", hint="use the authority's own tools with it")
    return found, key


def _must_be_new(folder: Path, file: Path) -> None:
    for path in (folder / f"{file}.pem", folder / f"{file}.key"):
        if path.exists():
            raise Refused(f"{path} exists already", hint="move it away first, or name another folder")


def _written(
    folder: Path, file: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> Written:
    """Write key and certificate; never over others."""
    from cryptography.hazmat.primitives import serialization

    pem, key_pem = folder / f"{file}.pem", folder / f"{file}.key"
    pem.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    body = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _create(key_pem, body, 0o600)
    _create(pem, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return Written(pem, key_pem, certificate.not_valid_after_utc)


def _create(path: Path, body: bytes, mode: int) -> None:
    try:
        path.touch(mode, exist_ok=False)
    except FileExistsError:
        raise Refused(f"{path} exists already", hint="move it away first, or name another folder") from None
    path.write_bytes(body)
    with path.open("rb") as file:
        os.fsync(file.fileno())

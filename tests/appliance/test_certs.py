"""`headwater certs`: what it makes is what OpenSSL and the agent accept, and it writes over nothing."""

from __future__ import annotations

import ssl
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from headwater_appliance import certs
from headwater_appliance.cli import app
from headwater_shared.errors import HeadwaterError, NeedsPerson, PartMissing, Refused, SettingsError

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def _run(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(app, ["certs", *words, "--folder", str(folder)])
    if done.exception is not None and isinstance(done.exception, HeadwaterError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def _read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_site_s_certificates_as_typed(tmp_path: Path) -> None:
    """Authority, server and devices: files and modes, names, and how long each is good for; what is said is what to do next."""
    folder = tmp_path / "certs"
    assert "keep" in _run(folder, "ca", "--name", "Plant 7")
    said = _run(folder, "server", "gateway.local", "192.168.1.5", "::1")
    assert f'certificate = "{folder}/server.pem"' in said
    _run(folder, "device", "pump-7", "north/pump-7")
    found = {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode)
        for path in folder.rglob("*")
        if path.is_file()
    }
    names = ("ca", "server", "devices/pump-7", "devices/north/pump-7")
    assert found == {f"{name}.pem": 0o644 for name in names} | {f"{name}.key": 0o600 for name in names}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    server = _read(folder / "server.pem")
    alternatives = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternatives.get_values_for_type(x509.DNSName) == ["gateway.local"]
    assert [str(one) for one in alternatives.get_values_for_type(x509.IPAddress)] == ["192.168.1.5", "::1"]
    device = _read(folder / "devices" / "north" / "pump-7.pem")
    assert [name.value for name in device.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [
        "north/pump-7"
    ]
    lasts = [
        (_read(folder / f"{name}.pem").not_valid_after_utc - datetime.now(UTC)).days + 1 for name in names
    ]
    assert lasts == [3650, 825, 1825, 1825]
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "devices" / "pump-7.pem", folder / "devices" / "pump-7.key")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    """A second authority, server or device of a name is refused, and the first is left as it is, its key too."""
    certs.make_authority(tmp_path, "a", 100, NOW)
    certs.make_server(tmp_path, ["a"], 10, NOW)
    certs.make_device(tmp_path, "d", 10, NOW)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(Refused, match="exists already"):
        certs.make_authority(tmp_path, "a", 100, NOW)
    with pytest.raises(Refused, match="exists already"):
        certs.make_server(tmp_path, ["a"], 10, NOW)
    (tmp_path / "devices" / "d.pem").unlink()  # a key alone is not written over either
    with pytest.raises(Refused, match="exists already"):
        certs.make_device(tmp_path, "d", 10, NOW)
    assert all(path.read_bytes() == body for path, body in before.items() if path.name != "d.pem")


def test_none_outlives_the_authority(tmp_path: Path) -> None:
    """A certificate ends with the authority at the latest, and of one that has ended none is made."""
    authority = certs.make_authority(tmp_path, "a", 100, NOW)
    assert certs.make_server(tmp_path, ["a"], 825, NOW).ends <= authority.ends
    assert certs.make_device(tmp_path, "early", 825, NOW - timedelta(hours=3)).ends <= authority.ends
    with pytest.raises(Refused, match="has ended"):
        certs.make_device(tmp_path, "late", 825, NOW + timedelta(days=100))


def test_what_makes_no_certificate(tmp_path: Path) -> None:
    """No authority, a name that is none, and a library that is not there: each says what to do."""
    with pytest.raises(Refused, match="no authority in") as error:
        certs.make_server(tmp_path, ["a"], 10, NOW)
    assert f"headwater certs ca --folder {tmp_path}" in str(error.value)
    certs.make_authority(tmp_path, "a", 100, NOW)
    for name in ("..", "a/../b", "a/b/c", "", "a/+", "x" * 100):
        with pytest.raises(SettingsError, match="no name"):
            certs.make_device(tmp_path, name, 10, NOW)
    for name in ("http://gateway", "a b", ""):
        with pytest.raises(SettingsError):
            certs.make_server(tmp_path, [name], 10, NOW)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["ca.key", "ca.pem"]


def test_the_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the hint is the line to type."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(PartMissing) as error:
        certs.make_authority(tmp_path, "a", 100, NOW)
    assert "pip install 'headwater[certs]'" in str(error.value)
    assert error.value.exit_code == NeedsPerson.exit_code

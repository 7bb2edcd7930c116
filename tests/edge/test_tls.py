"""TLS on real sockets: versions, certificates, identities, reloads; bytes that are never forgotten; what goes wrong is named."""

from __future__ import annotations

import fcntl
import random
import shutil
import socket
import ssl
import subprocess
import termios
from array import array
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from headwater_appliance import certs
from headwater_edge import sockets, tls
from headwater_edge.certificates import Certificates
from headwater_edge.events import Connect
from headwater_edge.listener_settings import TlsSettings
from headwater_edge.tls_faults import HandshakeFailed
from headwater_edge.users import Users
from headwater_firmware_sim import packets
from headwater_firmware_sim.packets import V5, V311
from headwater_shared.clock import SetClock
from headwater_shared.errors import SettingsError
from tests.edge.listening import (
    NOW,
    Client,
    Listening,
    Made,
    Seconds,
    dial,
    listening,
    make_certificates,
    until_closed,
)
from tests.support import part_required, until

REFUSED = (ssl.SSLError, ConnectionError, AssertionError)
"""What a client sees that is not let in: TLS 1.3 tells it only after its own part of the handshake."""
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small authority, a server, a device, and what is wrong."""
    return make_certificates(tmp_path_factory.mktemp("certs"))


def _wrap(sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(sock, server_hostname="localhost")


@pytest.mark.parametrize("tls", VERSIONS)
@pytest.mark.parametrize("version", [V311, V5])
def test_both_versions_on_a_port_of_their_own(made: Made, tls: str, version: int) -> None:
    """MQTT 3.1.1 and 5 over TLS 1.2 and 1.3, beside the plain port; the end of TLS is said by both sides."""
    context = made.client(minimum_version=VERSIONS[tls], maximum_version=VERSIONS[tls])
    with listening(tls=made.settings()) as here, dial(here.port) as plain:
        with _wrap(dial(here.tls_port), context) as sock:
            assert sock.version() == f"TLSv{tls}"
            client = Client(sock, version=version)
            assert all(client.acknowledged() for _ in range(3))
            assert Client(plain, "plain", version=version).acknowledged()
            client.send(b"\xe0\x00")
            sock.unwrap()  # raises if the listener does not say the same
        assert here.listener.counts.handshakes == 1
        assert len(here.got.readings) == 4


def test_no_byte_is_forgotten(made: Made) -> None:
    """Epoll announces bytes in the socket once; what TLS has of them, and what is left behind a full read, is taken
    nonetheless: records of any length, cut anywhere, many in one write, a megabyte at once.
    """
    with listening(tls=made.settings(), nap="5ms") as here, ExitStack() as stack:
        for listens in here.listener._listening:
            listens.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        raw = stack.enter_context(dial(here.tls_port))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        engine = made.client().wrap_bio(incoming, outgoing, server_hostname="localhost")

        def shaken() -> bool:
            try:
                engine.do_handshake()
            except ssl.SSLWantReadError:
                return False
            return True

        while not shaken():
            raw.sendall(outgoing.read())
            incoming.write(raw.recv(65_536))
        engine.write(packets.connect(V311, "c", clean=True, keep_alive_s=60))
        sent = 0

        def arrived(count: int) -> None:
            until(lambda: len(here.got.readings) >= count, what=f"{count} messages")
            assert len(here.got.readings) == count

        def messages(count: int, size: int) -> bytes:
            nonlocal sent
            sent += count
            topic = "hw/s/d/data/m"
            return b"".join(packets.publish(V311, topic, b"7" * size, n % 60_000 + 1) for n in range(count))

        engine.write(messages(3, 2))
        raw.sendall(outgoing.read())
        arrived(sent)
        for size in (1, 100, 5_000):  # each message in many records of a few bytes, all in one write
            body = messages(2, size)
            for at in range(0, len(body), 7):
                engine.write(body[at : at + 7])
            raw.sendall(outgoing.read())
            arrived(sent)
        engine.write(messages(1, 50))
        body = outgoing.read()
        for byte in body:  # the listener sees half a record again and again
            raw.sendall(bytes([byte]))
        arrived(sent)
        body = messages(2_000, 500)
        while body:
            body = body[engine.write(body) :]
        raw.sendall(outgoing.read())  # a megabyte: more than one read takes, and more than a record holds
        arrived(sent)
        _all_at_once(here, raw, engine, outgoing, messages(600, 500))
        arrived(sent)
        engine.write(messages(1, 50))
        with pytest.raises(ssl.SSLWantReadError):
            engine.unwrap()
        raw.sendall(outgoing.read())  # the message and the end of TLS in one write
        arrived(sent)
        assert until_closed(raw)
        until(lambda: here.listener.counts.ended["closed"] == 1, what="it is over")


def _all_at_once(
    here: Listening, raw: socket.socket, engine: ssl.SSLObject, outgoing: ssl.MemoryBIO, body: bytes
) -> None:
    """Let all of it be in the listener's socket, more than one read takes, before the listener reads again: nothing comes
    after it that epoll would announce.
    """
    (connection,) = here.listener._sockets.by_number.values()
    here.do(here.listener.pause)
    while body:
        body = body[engine.write(body) :]
    records = outgoing.read()
    raw.sendall(records)

    def there() -> bool:
        waiting = array("i", [0])
        fcntl.ioctl(connection.sock.fileno(), termios.FIONREAD, waiting)
        return waiting[0] == len(records) > 4 * 65_536

    until(there, what="all of it is there")
    here.do(here.listener.resume)


def test_changed_keys(made: Made, tmp_path: Path) -> None:
    """A client that changes its keys and asks for ours goes on: `openssl s_client` does so at the command K."""
    openssl = shutil.which("openssl")
    assert openssl is not None
    with listening(tls=made.settings()) as here, (tmp_path / "out").open("wb") as out:
        words = ("-connect", f"127.0.0.1:{here.tls_port}", "-CAfile", str(made.ca), "-tls1_3")
        with subprocess.Popen(
            [openssl, "s_client", *words], stdin=subprocess.PIPE, stdout=out, stderr=out
        ) as client:
            assert client.stdin is not None
            lines = [packets.connect(V311, "c", clean=True, keep_alive_s=60)]
            for n in range(1, 4):
                lines += [b"K\n", packets.publish(V311, "hw/s/d/data/m", b"%d" % n, n)]
            for wanted, line in enumerate(
                lines, 1
            ):  # one at a time: s_client takes what it reads at once for one line
                client.stdin.write(line)
                client.stdin.flush()
                mark = b"KEYUPDATE" if line == b"K\n" else b""
                _heard(tmp_path / "out", mark, wanted // 2 if mark else (wanted + 1) // 2)
            client.terminate()
            client.wait(10)
        assert [body for _, body in here.got.readings] == [b"1", b"2", b"3"]


def _heard(out: Path, mark: bytes, count: int) -> None:
    """Wait until s_client has written down the mark, or else CONNACK and PUBACKs, so many times."""

    def there() -> bool:
        said = out.read_bytes()
        found = said.count(mark) if mark else said.count(b"\x20\x02\x00\x00") + said.count(b"\x40\x02\x00")
        return found >= count

    until(there, what=f"{mark!r} {count} times")


@pytest.mark.parametrize("clients", ["optional", "required"])
@pytest.mark.parametrize("tls", VERSIONS)
def test_a_certificate_says_who_the_device_is(made: Made, clients: str, tls: str) -> None:
    """Its common name is the user, without a password; it may speak for the device of that name only."""
    context = made.client(made.device, minimum_version=VERSIONS[tls], maximum_version=VERSIONS[tls])
    users = Users(passwords={"other": "one"})
    with listening(users, tls=made.settings(clients=clients)) as here, dial(here.tls_port) as raw:
        with _wrap(raw, context) as sock:
            client = Client(sock, version=V5, user="other")  # what it calls itself is not asked
            assert client.acknowledged("hw/north/pump-7/data/m")
            assert not client.acknowledged("hw/north/pump-8/data/m")
        assert [event.user for event in here.got.events if isinstance(event, Connect)] == ["north/pump-7"]


def test_a_certificate_that_is_optional(made: Made) -> None:
    """Who has none says who it is by user and password; where none is optional and there are no users, anyone comes in."""
    users = Users(passwords={"pump": "one"})
    settings = made.settings(clients="optional")
    with listening(users, tls=settings) as here, _wrap(dial(here.tls_port), made.client()) as sock:
        assert Client(sock, user="pump", password="one").acknowledged("hw/north/pump/data/m")
    with listening(tls=settings) as here, _wrap(dial(here.tls_port), made.client()) as sock:
        assert Client(sock).acknowledged()


def test_a_session_that_is_resumed_is_the_same_device(made: Made) -> None:
    """A device that comes back with a ticket shows no certificate again, and is known all the same."""
    context = made.client(made.device)
    with listening(tls=made.settings(clients="required")) as here:
        session = None
        for resumed in (False, True):
            raw = dial(here.tls_port)
            with context.wrap_socket(raw, server_hostname="localhost", session=session) as sock:
                assert Client(sock).acknowledged("hw/north/pump-7/data/m")
                assert sock.session_reused is resumed
                session = sock.session
        assert [event.user for event in here.got.events if isinstance(event, Connect)] == ["north/pump-7"] * 2


FAULTS = {
    "a wrong authority at the client": ("distrusted", "give the device the certificate of the authority"),
    "a server's certificate that has ended": ("distrusted", "renew our certificate"),
    "a name that the certificate is not for": (
        "distrusted",
        "is the name that the device connects to in our certificate",
    ),
    "a device of another authority": ("certificate", "it must be of an authority in edge.listener.tls.ca"),
    "a device's certificate that has ended": ("certificate", "certificate has expired"),
    "a server's certificate at a device": ("certificate", "be for clients"),
    "no certificate": ("no-certificate", "set edge.listener.tls.clients to optional"),
    "TLS 1.1": ("version", "let the device speak TLS 1.2 or 1.3"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_handshake_is_named(made: Made, fault: str) -> None:
    """The client is refused, the log says in one line which side does not like what, and what to do; others go on."""
    reason, hint = FAULTS[fault]
    more = {"clients": "required"} if reason in {"certificate", "no-certificate"} else {}
    if "server's certificate that has ended" in fault:
        more = {"certificate": str(made.old_server.certificate), "key": str(made.old_server.key)}
    own = {
        "a device of another authority": made.stranger,
        "a device's certificate that has ended": made.old_device,
        "a server's certificate at a device": made.server,
    }.get(fault)
    context = made.client(own, made.other_ca if "wrong authority" in fault else None)
    if fault == "TLS 1.1":
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    name = "elsewhere" if "a name" in fault else "localhost"
    with listening(tls=made.settings(**more)) as here, dial(here.port) as plain, dial(here.tls_port) as raw:
        with pytest.raises(REFUSED), context.wrap_socket(raw, server_hostname=name) as sock:
            Client(sock)
        line = here.said(hint)
        assert line["reason"] == f"tls-{reason}"
        assert here.listener.counts.refused == {f"tls-{reason}": 1}
        assert Client(plain).acknowledged()


def test_tls_on_the_plain_port_and_plain_on_the_tls_port(made: Made) -> None:
    """Whoever takes one port for the other is named, and told which is which."""
    with listening(tls=made.settings()) as here:
        with dial(here.port) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
            _wrap(raw, made.client())
        here.said("the device speaks TLS; this port does not")
        for first, said in (
            (packets.connect(V311, "c", clean=True, keep_alive_s=60), "the device speaks MQTT without TLS"),
            (b"GET / HTTP/1.1\r\n\r\n", "the device speaks HTTP"),
        ):
            with dial(here.tls_port) as raw:
                raw.sendall(first)
                assert until_closed(raw) == b""
            assert here.said(said)["reason"] == "no-tls"


def test_half_a_handshake_is_given_up(made: Made) -> None:
    """Who says nothing, half a word, or all but the last one is ended in time, and named; a client beside is served."""
    seconds = Seconds()
    with listening(tls=made.settings(), monotonic=seconds) as here, ExitStack() as stack:
        half = [stack.enter_context(dial(here.tls_port)) for _ in range(3)]
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        engine = made.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            engine.do_handshake()
        hello = outgoing.read()
        half[1].sendall(hello[:50])
        half[2].sendall(hello)
        assert half[2].recv(10)
        until(lambda: here.do(lambda: len(here.listener._sockets.door)) == 3, what="all are there")
        with dial(here.tls_port) as raw, _wrap(raw, made.client()) as sock:
            client = Client(sock)
            seconds.now += 9
            here.sweep()
            assert client.acknowledged()
            seconds.now += 2
            here.sweep()
            for each in half:
                until_closed(each)
            assert client.acknowledged()
        here.said("it has not finished its TLS handshake in time")
        assert here.listener.counts.refused == {"unauthenticated": 3}
        assert here.do(lambda: len(here.listener._sockets.door)) == 0


def test_random_bytes_end_their_connection_only(made: Made) -> None:
    """300 clients that send noise: a hello with flipped bits, cut anywhere, or a broken record once TLS stands; each ends,
    nothing else does, and a client beside is served all the time.
    """
    chance = random.Random(3)
    with listening(tls=made.settings()) as here, _wrap(dial(here.tls_port), made.client()) as sock:
        beside = Client(sock, "beside")
        for n in range(300):
            with dial(here.tls_port) as raw:
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                engine = made.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
                with pytest.raises(ssl.SSLWantReadError):
                    engine.do_handshake()
                noise = bytearray(outgoing.read())
                if n % 3 == 2:
                    raw.sendall(noise)
                    incoming.write(raw.recv(65_536))
                    engine.do_handshake()
                    raw.sendall(outgoing.read())
                    engine.write(packets.connect(V311, f"noise-{n}", clean=True, keep_alive_s=60))
                    noise = bytearray(outgoing.read())
                for _ in range(chance.randint(1, 8)):
                    noise[chance.randrange(len(noise))] ^= 1 << chance.randrange(8)
                raw.sendall(noise[: chance.randint(1, len(noise))] if n % 3 == 1 else noise)
                raw.shutdown(socket.SHUT_WR)
                until_closed(raw)
            if n % 50 == 0:
                assert beside.acknowledged()
        assert beside.acknowledged()
        until(lambda: here.do(lambda: len(here.listener._sockets)) == 1, what="all but one are gone")
        assert here.do(lambda: len(here.listener._sockets.door)) == 0


def test_many_handshakes_do_not_hold_up_the_others(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many steps of handshakes in one pass, the rest in the next: all are let in, and none is forgotten."""
    most: list[int] = []
    read = sockets.Sockets.read

    def counted(self: sockets.Sockets) -> bool:
        found = read(self)
        most.append(sockets._HANDSHAKES - self._handshakes)
        return found

    monkeypatch.setattr(sockets.Sockets, "read", counted)
    context = made.client()
    with listening(tls=made.settings(), nap="20ms") as here, ExitStack() as stack:
        engines = []
        for _ in range(40):
            raw = stack.enter_context(dial(here.tls_port))
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            engine = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            with pytest.raises(ssl.SSLWantReadError):
                engine.do_handshake()
            engines.append((raw, incoming, outgoing, engine))
        for raw, _, outgoing, _ in engines:
            raw.sendall(outgoing.read())
        for raw, incoming, outgoing, engine in engines:
            incoming.write(raw.recv(65_536))
            engine.do_handshake()
            raw.sendall(outgoing.read())
        until(lambda: here.listener.counts.handshakes == 40, what="all are through")
        assert max(most) == sockets._HANDSHAKES


def test_a_certificate_is_read_again_when_it_changes(made: Made, tmp_path: Path) -> None:
    """New connections get the new one, those that are there go on; a pair that does not fit changes nothing, and is said."""
    seconds = Seconds()
    for name in ("server.pem", "server.key"):
        (tmp_path / name).write_bytes((made.folder / "good" / name).read_bytes())
    settings = made.settings(certificate=str(tmp_path / "server.pem"), key=str(tmp_path / "server.key"))
    with listening(tls=settings, monotonic=seconds) as here, ExitStack() as stack:

        def serial() -> str:
            with dial(here.tls_port) as raw, context.wrap_socket(raw, server_hostname="localhost") as sock:
                found = sock.getpeercert()
                assert found is not None
                assert Client(sock).acknowledged()
                return str(found["notAfter"])

        context = made.client(verify_flags=ssl.VERIFY_DEFAULT)
        before = serial()
        raw = stack.enter_context(dial(here.tls_port))
        stays = Client(stack.enter_context(_wrap(raw, context)), "stays")
        folder = tmp_path / "next"
        folder.mkdir()
        for name in ("ca.pem", "ca.key"):
            (folder / name).write_bytes((made.folder / "good" / name).read_bytes())
        certs.make_server(folder, ["localhost"], 900, NOW)
        (tmp_path / "server.pem").write_bytes(
            (folder / "server.pem").read_bytes()
        )  # its key is not there yet
        seconds.now += 1.1
        assert serial() == before
        here.said("the certificate is kept as it was", "key values mismatch")
        (tmp_path / "server.key").write_bytes((folder / "server.key").read_bytes())
        seconds.now += 1.1
        assert serial() != before
        here.said("certificate read again")
        assert stays.acknowledged()


@pytest.mark.parametrize("clients", ["no-certificate", "required"])
def test_a_certificate_that_ends_is_said(made: Made, tmp_path: Path, clients: str) -> None:
    """One that has ended, or ends within a month, is named when it is read; when it ends is a metric."""
    registry = CollectorRegistry()
    good = made.settings(clients=clients)
    for settings, said in (
        (good, ""),
        (
            made.settings(certificate=str(made.old_server.certificate), key=str(made.old_server.key)),
            "has expired",
        ),
        (_ending(made, tmp_path), f"it ends on {NOW + timedelta(days=20):%Y-%m-%d}"),
    ):
        with structlog.testing.capture_logs() as logged:
            clock = SetClock(int(NOW.timestamp() * 1e6))
            found = Certificates(settings, clock, Seconds())
        assert [said in line["error"] for line in logged] == ([True] if said else [])
        assert (found.ends_s is None) is (said == "has expired")
    with listening(tls=good, registry=registry):
        ends = registry.get_sample_value("headwater_edge_listener_certificate_expiry_timestamp_seconds")
        assert ends == made.server.ends.timestamp()


def _ending(made: Made, folder: Path) -> TlsSettings:
    for name in ("ca.pem", "ca.key"):
        (folder / name).write_bytes((made.folder / "good" / name).read_bytes())
    own = certs.make_server(folder, ["localhost"], 20, NOW)
    return made.settings(certificate=str(own.certificate), key=str(own.key))


def test_a_revoked_certificate(made: Made, tmp_path: Path) -> None:
    """Revocations in the authorities' file count: a device on the list is refused, and named."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    authority = x509.load_pem_x509_certificate(made.ca.read_bytes())
    key = serialization.load_pem_private_key(made.ca.with_suffix(".key").read_bytes(), None)
    device = x509.load_pem_x509_certificate(made.device.certificate.read_bytes())
    revoked = (
        x509.RevokedCertificateBuilder().serial_number(device.serial_number).revocation_date(NOW).build()
    )
    listed = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(NOW - timedelta(days=1))
        .next_update(NOW + timedelta(days=3650))
        .add_revoked_certificate(revoked)
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
    )
    (tmp_path / "ca.pem").write_bytes(made.ca.read_bytes() + listed.public_bytes(serialization.Encoding.PEM))
    settings = made.settings(clients="required", ca=str(tmp_path / "ca.pem"))
    with listening(tls=settings) as here, dial(here.tls_port) as raw:
        with pytest.raises(REFUSED), _wrap(raw, made.client(made.device)) as sock:
            Client(sock)
        here.said("certificate revoked")


def test_what_makes_no_listener_is_refused(made: Made, tmp_path: Path) -> None:
    """Files that are missing or do not fit, an address for anyone, and nothing to listen on: said before the start."""
    (tmp_path / "text").write_text("no PEM")
    wrong = {
        "cannot be used": made.settings(certificate=str(tmp_path / "none")),
        "key values mismatch": made.settings(key=str(made.device.key)),
        "needs edge.listener.tls.ca": made.settings(clients="required", ca=""),
        "the authorities in": made.settings(clients="required", ca=str(tmp_path / "text")),
        "without users would let anyone in": made.settings(host="0.0.0.0", clients="optional"),
    }
    for said, settings in wrong.items():
        with pytest.raises(SettingsError, match=said), listening(tls=settings):
            pass
    with pytest.raises(SettingsError, match="nobody could connect"), listening(plain=False):
        pass
    with listening(tls=made.settings(host="0.0.0.0", clients="required"), plain=False) as here:
        assert here.port == 0
        with dial(here.tls_port) as raw, _wrap(raw, made.client(made.device)) as sock:
            assert Client(sock).acknowledged("hw/north/pump-7/data/m")


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto_pub_over_tls(made: Made, version: str) -> None:
    """A real client, with and without a certificate of its own, and with the wrong authority."""
    part_required("mosquitto")
    with listening(tls=made.settings(clients="optional")) as here:

        def publish(*more: str, ca: Path = made.ca) -> int:
            words = (
                "-V",
                version,
                "-h",
                "localhost",
                "-p",
                str(here.tls_port),
                "--cafile",
                str(ca),
                "-q",
                "1",
            )
            done = subprocess.run(
                ["mosquitto_pub", *words, "-t", "hw/north/pump-7/data/m", "-m", "1", *more],
                timeout=10, check=False, capture_output=True,
            )  # fmt: skip
            return done.returncode

        assert publish() == 0
        assert publish("--cert", str(made.device.certificate), "--key", str(made.device.key)) == 0
        assert [event.user for event in here.got.events if isinstance(event, Connect)] == ["", "north/pump-7"]
        assert publish(ca=made.other_ca) != 0
        here.said("it does not accept our certificate: unknown ca")
        assert len(here.got.readings) == 2


@pytest.mark.parametrize(
    ("certificate", "by_san", "who"),
    [
        (
            {"subject": ((("organizationName", "x"),), (("commonName", "north/pump-7"),))},
            False,
            "north/pump-7",
        ),
        ({"subject": ((("commonName", "a"),), (("commonName", "b"),))}, False, ""),
        ({"subject": ((("organizationName", "x"),),)}, False, ""),
        ({"subject": ((("commonName", "a\0b"),),)}, False, ""),
        ({"subject": ((("commonName", "a" * 300),),)}, False, ""),
        (
            {"subjectAltName": (("IP Address", "1.2.3.4"), ("DNS", "pump-7.plant"), ("DNS", "x"))},
            True,
            "pump-7.plant",
        ),
        ({"subjectAltName": (("URI", "urn:pump:7"),)}, True, "urn:pump:7"),
        ({"subject": ((("commonName", "a"),),)}, True, ""),
    ],
)
def test_who_the_holder_of_a_certificate_is(certificate: dict[str, Any], by_san: bool, who: str) -> None:
    """One common name, or the first alternative name; what says nothing, or two things, is nobody."""
    if who:
        assert tls._identity(certificate, by_san=by_san) == who
    else:
        with pytest.raises(HandshakeFailed, match="its certificate has no"):
            tls._identity(certificate, by_san=by_san)

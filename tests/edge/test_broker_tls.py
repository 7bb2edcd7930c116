"""The broker client under TLS and with users, against a real Mosquitto; certificates made by openssl."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from headwater_edge.events import Subscribe
from tests.brokers import MosquittoServer, mosquitto_server, publish
from tests.edge.test_broker import Agent, client, numbered
from tests.support import free_port, program, until_async


class Secured(NamedTuple):
    """A Mosquitto that wants TLS and a client certificate on one port, and is plain on another for the devices."""

    server: MosquittoServer
    tls_port: int
    folder: Path

    def keys(self, **more: Any) -> dict[str, Any]:
        """Return the settings of a client that is let in."""
        named = {name: str(self.folder / f"{name}.pem") for name in ("ca", "cert", "key")}
        return {"host": "localhost", "tls": True, **named, **more}


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=30)


def _certificates(folder: Path) -> None:
    """Make an authority, the broker's certificate and the agent's."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    ca = ("-CA", "ca.pem", "-CAkey", "ca.key")
    _openssl(
        folder,
        "req",
        "-x509",
        *key,
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=authority",
        "-days",
        "2",
    )
    for name, out, names in (("broker", "broker", ["DNS:localhost"]), ("agent", "cert", [])):
        extra = [word for each in names for word in ("-addext", f"subjectAltName={each}")]
        keyout = "key.pem" if out == "cert" else f"{out}.key"
        _openssl(
            folder, "req", "-x509", *key, *ca, "-keyout", keyout, "-out", f"{out}.pem",
            "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:FALSE", "-days", "2", *extra,
        )  # fmt: skip


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The broker."""
    if program("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    _certificates(folder)
    (folder / "users").write_text("")
    subprocess.run(
        ["mosquitto_passwd", "-b", str(folder / "users"), "plant", "secret"], check=True, timeout=30
    )
    tls_port = free_port()
    tls = (
        f"listener {tls_port} 127.0.0.1\ncafile {folder}/ca.pem\ncertfile {folder}/broker.pem\nkeyfile {folder}/broker.key\n"
        f"require_certificate true\nallow_anonymous false\npassword_file {folder}/users\n"
    )
    with mosquitto_server(
        folder / "broker", "per_listener_settings true\nmax_queued_messages 0", listener=tls
    ) as server:
        yield Secured(server, tls_port, folder)


def run_with(secured: Secured, agent: Agent, keys: dict[str, Any], *reasons: str) -> str:
    """Connect with these settings; return why that failed, "" if it did not."""

    async def test() -> str:
        async with client(secured.tls_port, agent, **keys):
            counts = agent.broker.counts
            await until_async(lambda: agent.of_kind(Subscribe) or counts.lost, what="in, or refused")
            if counts.lost:
                assert set(counts.lost) <= set(reasons), counts
                return counts.why
            publish(secured.server.port, *numbered(*range(3000)))
            seen = 0
            while seen < 3000:
                await until_async(lambda: agent.payloads, what="messages")
                seen += len(agent.payloads)
                agent.acknowledge()
            return ""

    return asyncio.run(test())


def test_readings_over_tls(secured: Secured) -> None:
    """Certificate checked both ways, user and password; thousands of messages, acknowledged."""
    keys = secured.keys(user="plant", receive_maximum=500)
    agent = Agent(password="secret")
    assert run_with(secured, agent, keys) == ""
    assert agent.broker.counts.acknowledgements == 3000


def test_a_wrong_password_is_refused(secured: Secured) -> None:
    """And said in the broker's words."""
    why = run_with(secured, Agent(password="wrong"), secured.keys(user="plant"), "refused")
    assert "not authorized" in why or "bad user name" in why


def test_a_broker_whose_certificate_is_of_another_authority_is_not_talked_to(secured: Secured) -> None:
    """The system's authorities do not know it; and its name must be the host's."""
    agent = Agent(password="secret")
    assert "CERTIFICATE_VERIFY_FAILED" in run_with(secured, agent, secured.keys(user="plant", ca=""), "tls")
    other = secured.keys(user="plant", host="127.0.0.1")
    assert "IP address mismatch" in run_with(secured, Agent(password="secret"), other, "tls")


def test_without_the_certificate_that_it_wants_the_broker_refuses(secured: Secured) -> None:
    """With TLS 1.3 only after the handshake."""
    keys = secured.keys(user="plant", cert="", key="")
    assert run_with(secured, Agent(password="secret"), keys, "tls", "broken", "refused")


def test_a_plain_client_at_a_port_with_tls_is_told_what_it_looks_like(secured: Secured) -> None:
    """The broker just closes."""
    assert "without an answer" in run_with(secured, Agent(), {"host": "localhost"}, "refused")


def test_tls_at_a_plain_port_is_told_what_it_looks_like(secured: Secured) -> None:
    """And the other way round."""

    async def test() -> None:
        agent = Agent()
        async with client(secured.server.port, agent, **secured.keys()):
            await until_async(lambda: agent.broker.counts.lost["tls"], what="refused")

    asyncio.run(test())

"""HTTP push on a real box: real clients, and kill -9 of the agent under a fleet that posts, with the audit."""

from __future__ import annotations

import gzip
import http.client
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headwater_appliance.ports import steady_port
from tests.support import program, until
from tests.system import kills, result
from tests.system.box import CLOUD, EDGE, Box, box
from tests.system.kills import Kill, Run
from tests.system.load import load
from tests.system.replayed import assert_replays

KILLS = (
    Kill(EDGE, records=2_000, unacknowledged=1_000),
    Kill(EDGE, "commit.before:3"),
    Kill(EDGE, "commit.during:4"),
    Kill(EDGE, "acknowledge.before:3"),
)
SECONDS = 25.0
"""Of event time: 100 samples of each device."""
T_S = 1_795_000_000


def _http(port: int) -> str:
    return f"[edge.http]\nport = {port}\n"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of 200 devices that post as fast as they are answered, with misbehaviour of every kind, and with kills."""
    port = steady_port()
    with box(tmp_path_factory.mktemp("killed"), edge=_http(port)) as here:
        here.port = port  # where the fleet sends, and what is looked at after a kill
        kills.prepare(here, KILLS)
        with load(here, SECONDS, "--driver", "http") as fleet:
            told = kills.run(here, fleet, KILLS)
            return Run(here, fleet.ledger, told, result.read(here.data / "cloud.db"))


def test_kills_under_http_lose_nothing_and_count_nothing_twice(killed: Run) -> None:
    """The audit: lost 0, twice 0. Some devices send no times, so it is their keys that kept resends apart."""
    assert killed.told.sending == len(KILLS)
    assert killed.told.unacknowledged[0] > 1_000
    assert killed.told.fleet["unacknowledged"] == killed.told.fleet["refused"] == 0
    assert killed.told.fleet["resent"] > 4_000
    assert killed.told.status["by_transport"] > 500
    acknowledged, counted, dead = kills.audited(killed.box, killed.ledger)
    assert counted + dead >= acknowledged > 20_000
    assert dead > 0
    assert not killed.box.troubles()


def test_its_windows_are_the_references(killed: Run) -> None:
    """Of the series whose devices send times, every window at every level is what the readings say (R31)."""
    series = set(sorted(result.timed_series(killed.ledger))[::3])
    result.assert_same_windows(killed.result.windows, result.reference(killed.ledger, series), series)


def test_its_journal_replays_to_the_last_bit(killed: Run) -> None:
    """With the keys in it: run again without kills, the outbox and the state of each snapshot are the same (R31)."""
    replayed = assert_replays(killed.box.data / "edge.db", killed.box.settings)
    assert replayed.epochs == 2 + len(KILLS)
    assert replayed.snapshots > 0


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A box that the clients of this module post to."""
    with box(tmp_path_factory.mktemp("box"), edge=_http(0)) as made:
        made.up()
        yield made
        made.end(EDGE)
        made.end(CLOUD)
        assert not made.troubles()


def _port(here: Box) -> int:
    port: int = here.ready(EDGE)["http"]
    return port


def _curl(port: int, *words: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
    if program("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        ["curl", "-s", "-w", "\n%{http_code}", *words[:-1], f"http://127.0.0.1:{port}{words[-1]}"],
        input=body, capture_output=True, timeout=20, check=True,
    )  # fmt: skip
    said, status = done.stdout.rsplit(b"\n", 1)
    return int(status), json.loads(said)


def _post_with_curl(port: int, path: str) -> None:
    for time, words in enumerate(
        (
            (),
            ("--http1.0",),
            ("--http2",),
            ("-H", "Expect: 100-continue"),
            ("-H", "Transfer-Encoding: chunked"),
        )
    ):
        body = json.dumps({"t": T_S + time, "v": time})
        assert _curl(port, *words, "-d", body, f"{path}/v") == (200, {"messages": 1, "dead": 0})


def _post_with_http_client(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for time in range(4):
        connection.request("POST", f"{path}/v", json.dumps({"t": T_S + time, "v": time}))
        assert connection.getresponse().read() == b'{"messages":1,"dead":0}\n'
    lines = gzip.compress(json.dumps({"t": T_S + 4, "v": 4}).encode() + b"\n")
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    connection.request("POST", f"{path}/v", iter([lines[:9], lines[9:]]), headers, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()


def _post_with_urllib(port: int, path: str) -> None:
    for time in range(5):
        body = json.dumps({"t": T_S + time, "v": time}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}/v", body)
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own http
            assert answer.status == 200


def _post_with_requests(port: int, path: str) -> None:
    requests = pytest.importorskip("requests")
    with requests.Session() as session:
        for time in range(5):
            body = {"t": T_S + time, "values": {"v": time}}
            headers = {"Idempotency-Key": f"{path}-{time}"}
            for repeated in (False, True):
                answer = session.post(
                    f"http://127.0.0.1:{port}{path}", json=body, headers=headers, timeout=10
                )
                assert answer.json() == {"messages": 1, "dead": 0} | ({"repeated": True} if repeated else {})


CLIENTS = {
    "curl": _post_with_curl,
    "http.client": _post_with_http_client,
    "urllib": _post_with_urllib,
    "requests": _post_with_requests,
}


@pytest.mark.parametrize("name", sorted(CLIENTS))
def test_what_any_client_posts_is_stored(here: Box, name: str) -> None:
    """HTTP/1.0, 1.1, a wish for 2, with and without waiting for 100, in chunks, packed: each value is in its window."""
    CLIENTS[name](_port(here), f"/hw/clients/{name}/data")
    here.closed()
    stored = result.read(here.data / "cloud.db").windows
    counts = [
        w.count for (series, level, _), w in stored.items() if (series, level) == (f"clients/{name}/v", "10s")
    ]
    assert sum(counts) == 5


def test_the_page_as_pasted(here: Box) -> None:
    """Every command of docs/connect-http.md that posts to this machine, run as it stands, is answered 200."""
    if program("curl") is None:
        pytest.skip("curl is not installed")
    page = Path(__file__).parents[2] / "docs" / "connect-http.md"
    blocks = page.read_text().split("```sh\n")[1:]
    commands = [
        block.partition("```")[0] for block in blocks if "127.0.0.1:8080" in block.partition("```")[0]
    ]
    assert len(commands) >= 3
    for command in commands:
        pasted = command.replace(":8080", f":{_port(here)}")
        said = subprocess.run(
            ["bash", "-ec", pasted], capture_output=True, text=True, timeout=30, check=True
        ).stdout
        for line in said.splitlines():
            assert json.loads(line)["messages"] >= 1, said


def test_what_came_and_went_is_shown(here: Box) -> None:
    """In the agent's metrics, by status and reason."""
    port = _port(here)
    assert _curl(port, "-d", "5", "/nowhere")[0] == 404
    with urllib.request.urlopen(f"http://127.0.0.1:{here.ready(EDGE)['health']}/metrics", timeout=10) as page:
        metrics = dict(line.rsplit(" ", 1) for line in page.read().decode().splitlines() if line[:1] != "#")
    assert float(metrics['headwater_edge_http_answers_total{status="404"}']) >= 1
    assert float(metrics['headwater_edge_http_refused_total{reason="topic"}']) >= 1
    assert float(metrics["headwater_edge_http_waiting_bytes"]) == 0
    until(lambda: here.status().get("tick", 0) > 0)


def test_a_second_program_on_the_port_is_named(tmp_path: Path, here: Box) -> None:
    """The agent does not start, and says who may have it."""
    with box(tmp_path, edge=_http(_port(here))) as other:
        other.start(EDGE)
        process = other.running.pop(EDGE)
        assert process.wait(20) == 78
        assert f"127.0.0.1:{_port(here)} is taken by another program" in other.log(EDGE).read_text()

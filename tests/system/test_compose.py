"""docker-compose.yml is right as far as that can be seen without docker, and its services run with what it gives them."""

from __future__ import annotations

import getpass
import re
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer

from headwater_appliance.ports import steady_port
from headwater_cloud import cli as cloud_cli
from headwater_cloud.settings import CloudSettings
from headwater_edge import cli as edge_cli
from headwater_edge.checked import read as read_edge
from headwater_firmware_sim import cli as sim_cli
from headwater_shared.kafka_settings import KafkaSettings
from headwater_shared.settings import Common, load
from tests.kafka import KafkaServer
from tests.support import ROOT, part_required, until
from tests.system.composed import FILE, Composed, binds, ours, read, services
from tests.system.influx_setup import set_up

_CLIS = {"headwater-edge": edge_cli.app, "headwater-cloud": cloud_cli.app, "headwater-sim": sim_cli.app}
_FIRST = ("agent-north", "fleet-north")
JOBS = ("topics", "influxdb-init")
"""What does something and ends."""
_SHARED = {
    "cloud": {"worker-1", "worker-2", "sink"},
    "tokens": {"influxdb-init", "sink", "grafana"},
}
"""Volumes that more than one service has."""


def _schema_says(path: Path) -> subprocess.CompletedProcess[str]:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(check, capture_output=True, text=True, timeout=30, check=False)


def test_it_is_valid_by_the_compose_specification() -> None:
    """The file fits the schema that the Compose specification publishes."""
    said = _schema_says(FILE)
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_schema_refuses_what_is_not_compose(tmp_path: Path) -> None:
    """The check can fail: a key that the specification does not know is found."""
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(FILE.read_text().replace("    stop_grace_period:", "    stop_grace_time:"))
    assert _schema_says(wrong).returncode == 1


def test_what_is_published_is_published_on_the_loopback() -> None:
    """Nobody but this machine reaches a port, and no two services want the same."""
    ports = [port for one in services().values() for port in one.get("ports", [])]
    assert len(ports) == 10
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports), ports
    assert len({port.split(":")[1] for port in ports}) == len(ports)
    assert not any(one.get("network_mode") for one in services().values())


def test_every_image_has_a_pinned_tag() -> None:
    """No image is `latest`: what was tried is what runs."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=3\.\d+\.\d+-slim-bookworm$", dockerfile, re.MULTILINE)
    images = {one["image"] for one in services().values()}
    assert all(re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", image) for image in images), images
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"headwater:{version}" in images


@pytest.mark.parametrize("name", list(services()))
def test_each_service_is_limited_and_knows_how_it_is(name: str) -> None:
    """CPU, memory and processes have a limit, nothing has rights that it does not need, and health is asked or known not to be."""
    one = services()[name]
    assert set(one["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert one["restart"] in ("unless-stopped", "on-failure:5")
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert one["logging"]["options"]["max-size"]
    ends = name in JOBS or name.startswith("fleet-")
    assert bool(one["healthcheck"].get("disable")) is ends
    assert one.get("profiles", []) == (["fleet"] if name.startswith("fleet-") else [])


def test_a_worker_is_asked_at_the_port_of_its_slot() -> None:
    """Health is on `health_port` for the worker of slot 1, and one above it for each further slot."""
    for name in ("worker-1", "worker-2"):
        slot = int(services()[name]["command"][-1])
        assert name == f"worker-{slot}"
        assert services()[name]["healthcheck"]["test"][-1] == str(CloudSettings().health_port + slot - 1)


def test_what_it_names_is_there() -> None:
    """Files that are mounted exist and are read-only; volumes and secrets are declared; a volume is one service's, but for those that are shared."""
    volumes: dict[str, set[str]] = {}
    for name, one in services().items():
        for inside, outside in binds(one).items():
            assert (ROOT / outside).exists()
            assert f"{outside}:{inside}:ro" in one["volumes"]
        for text in one.get("volumes", []):
            if not text.startswith("."):
                volumes.setdefault(text.split(":")[0], set()).add(name)
        assert set(one.get("secrets", [])) <= set(read()["secrets"]), name
        for other, how in one.get("depends_on", {}).items():
            disabled = services()[other]["healthcheck"].get("disable", False)
            assert (how["condition"] == "service_healthy") is not disabled
    assert sorted(volumes) == sorted(read()["volumes"])
    assert {volume: whose for volume, whose in volumes.items() if len(whose) > 1} == _SHARED


def test_secrets_are_files_that_git_does_not_see(tmp_path: Path) -> None:
    """secrets.sh makes each password that the file names, once; no password stands in the tree."""
    script = str(ROOT / "deploy" / "compose" / "secrets.sh")
    for _ in range(2):
        subprocess.run([script, str(tmp_path / "s")], check=True, timeout=10)
        made = {path.name: path.read_text() for path in (tmp_path / "s").iterdir()}
    assert set(made) == set(read()["secrets"])
    assert all(re.fullmatch(r"[0-9a-f]{48}", text) for text in made.values())
    assert len(set(made.values())) == len(made)
    subprocess.run([script, str(tmp_path / "s")], check=True, timeout=10)
    assert made == {path.name: path.read_text() for path in (tmp_path / "s").iterdir()}
    for secret in read()["secrets"].values():
        ignored = subprocess.run(
            ["git", "check-ignore", "-q", secret["file"]], cwd=ROOT, timeout=10, check=False
        )
        assert ignored.returncode == 0


@pytest.mark.parametrize("name", ours())
def test_every_command_is_one_that_the_program_takes(name: str) -> None:
    """Commands and options of each service exist, by the program's own reading of them."""
    program, *words = map(str, services()[name]["command"])
    command: Any = typer.main.get_command(_CLIS[program])
    while hasattr(command, "commands"):  # of a group
        name, *words = words
        command = command.commands[name]
    assert command.make_context(name, words).params


@pytest.mark.parametrize("name", [name for name in ours() if binds(services()[name])])
def test_the_settings_are_right(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a service mounts, and its environment, are settings without a fault, by the loader of the program that reads them."""
    here = Composed(tmp_path, {})
    for key, text in here.environment(name).items():
        monkeypatch.setenv(key, text)
    file = Path(next(word for word in here.command(name) if word.endswith(".toml")))
    assert load(file, "common", Common).data.startswith(str(here.volume(name)))
    assert load(file, "kafka", KafkaSettings) == KafkaSettings()
    if name.startswith("agent-"):
        edge = read_edge(file)
        assert edge.name == edge.site == name.removeprefix("agent-")
        assert edge.users, "an agent that other containers reach wants to know who they are"
        assert [one.name for one in edge.broker] == (["mosquitto"] if name == "agent-west" else [])


_PROPERTIES = {
    "INSIDE://:9092": "INSIDE://127.0.0.1:{plain}",
    "INSIDE://kafka:9092": "INSIDE://127.0.0.1:{plain}",
    "HOST://:9094": "HOST://127.0.0.1:{secure}",
    "HOST://127.0.0.1:9094": "HOST://127.0.0.1:{secure}",
    "localhost:9093": "127.0.0.1:{controller}",
    "/var/lib/kafka/data": "{folder}/data",
}
"""What of Kafka's properties is otherwise on this box."""


def _kafka(folder: Path) -> KafkaServer:
    """Return a Kafka with the server.properties of the compose file."""
    text = (ROOT / "deploy" / "compose" / "kafka" / "server.properties").read_text()
    for there, here in _PROPERTIES.items():
        assert there in text
        text = text.replace(there, here)
    folder.mkdir()
    return KafkaServer(folder, text)


def test_its_services_run_with_what_it_gives_them(tmp_path: Path) -> None:
    """Kafka, the broker, two agents, the topics' job, a worker, two fleets, the sink and Alertmanager run as they are written: the agents start
    before there is a topic, devices come in with the passwords of the secrets, what they send is stored in windows, the sink writes them to an
    InfluxDB 2 with the token that the job made for it, Alertmanager takes alerts, and every health check says so.
    """
    part_required("mosquitto")
    part_required("alertmanager")
    server = _kafka(tmp_path / "kafka")
    broker, alertmanager, sink = steady_port(), steady_port(), steady_port()
    here = Composed(
        tmp_path,
        {
            "kafka:9092": server.servers,
            "http://alertmanager:9093": f"http://127.0.0.1:{alertmanager}",
            'health_host = "0.0.0.0"': 'health_host = "127.0.0.1"',
            "listener 1883": f"listener {broker} 127.0.0.1",
            r"-h 127.0.0.1\n": rf"-h 127.0.0.1\n-p {broker}\n",
            'host = "0.0.0.0"': 'host = "127.0.0.1"',
            # In the container it is user 1883 from the start; here it would become a user who cannot look into this folder.
            "log_dest stdout": f"log_dest stdout\nuser {getpass.getuser()}",
        },
    )
    ports = {"agent-north": steady_port(), "agent-west": steady_port()}
    health = {name: steady_port() for name in ports}
    with set_up() as store, ExitStack() as running:
        here.replace["http://influxdb:8086"] = store.url
        server.begin()
        running.callback(server.stop)
        running.callback(_end, here.start("mosquitto"))
        for name, port in ports.items():
            own = {
                "HEADWATER_EDGE__LISTENER__PORT": str(port),
                "HEADWATER_EDGE__HEALTH_PORT": str(health[name]),
            }
            if name == "agent-west":
                own |= {
                    "HEADWATER_EDGE__BROKER__0__HOST": "127.0.0.1",
                    "HEADWATER_EDGE__BROKER__0__PORT": str(broker),
                }
            running.callback(_end, here.start(name, own))
        for name in ports:
            until(partial(_ready, here, name, health[name]), 120, f"{name} is ready")
        until(
            partial(_well, here, "mosquitto", services()["mosquitto"]["healthcheck"]["test"][1:]),
            60,
            "the broker is",
        )
        server.wait()
        assert here.start("topics").wait(120) == 0, here.log("topics").read_text()
        # Not before: whether an agent has met a bus without topics by then is a matter of moments.
        for name in ports:
            until(partial(_well, here, name, ["healthy", str(health[name])]), 120, f"{name} is healthy")
        (tmp_path / "secrets" / "influxdb_admin_token").write_text(store.token)
        assert here.start("influxdb-init").wait(60) == 0, here.log("influxdb-init").read_text()
        running.callback(_end, here.start("alertmanager", None, f"--web.listen-address=127.0.0.1:{alertmanager}"))  # fmt: skip
        own_port = steady_port()
        shifted = {
            "HEADWATER_CLOUD__HEALTH_PORT": str(own_port),
            "HEADWATER_CLOUD__INFLUX__HEALTH_PORT": str(sink),
        }
        worker = [here.start("worker-2", shifted)]
        running.callback(lambda: _end(worker[-1]))
        more = ["--duration=2", "--devices=10", "--host=127.0.0.1"]
        fleets = [
            here.start("fleet-north", None, *more, f"--port={ports['agent-north']}"),
            here.start("fleet-west", None, *more, f"--port={broker}"),
        ]
        asked = subprocess.run(_kafka_health(server), capture_output=True, timeout=60, check=False)
        assert asked.returncode == 0, asked.stdout
        for fleet in fleets:
            assert fleet.wait(120) == 0, (
                here.log("fleet-north").read_text() + here.log("fleet-west").read_text()
            )
        for name in ports:
            flush = ["headwater-edge", "flush", "--settings", "/etc/headwater/agent.toml"]
            assert here.run(name, flush).returncode == 0
        query = ["headwater-cloud", "query", "*/pump-001/flow", "--settings", "/etc/headwater/cloud.toml"]

        def stored() -> bool:
            if worker[-1].poll() is not None:  # `restart` of the compose file: what ends is started again
                worker.append(here.start("worker-2", shifted))
            said = here.run("worker-2", query)
            assert said.returncode == 0, said.stderr
            return "north/pump-001/flow" in said.stdout and "west/pump-001/flow" in said.stdout

        until(stored, 120, "the windows of both sites are stored")
        until(partial(_well, here, "worker-2", ["healthy", str(own_port + 1)]), 60, "Alertmanager takes what fires")  # fmt: skip
        running.callback(_end, here.start("sink", shifted))
        until(lambda: store.points("headwater_10s", "windows"), 60, "the sink writes")
        until(partial(_well, here, "sink", ["healthy", str(sink)]), 30, "the sink is well")


def _well(here: Composed, name: str, words: list[str]) -> bool:
    said = here.run(name, words)
    assert said.returncode == 0, said.stdout + said.stderr + here.log(name).read_text()[-1000:]
    return True


def _ready(here: Composed, name: str, port: int) -> bool:
    """Say whether an agent takes readings, with or without a bus."""
    return '"ready":true' in here.run(name, ["healthy", str(port)]).stdout


def _kafka_health(server: KafkaServer) -> list[str]:
    """Return what the script of the image runs, with the options of the compose file."""
    script, *options = services()["kafka"]["healthcheck"]["test"][1:]
    assert script.endswith("/kafka-broker-api-versions.sh")
    words = [word.replace("127.0.0.1:9092", server.servers) for word in options]
    return server.java("org.apache.kafka.tools.BrokerApiVersionsCommand", *words)[:-1]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)

"""The images are built from what their Dockerfiles name: sources are there, what uv.lock says is what is installed, also on 64-bit ARM."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.markers import Marker

from tests.support import ROOT, free_port, until
from tests.system.composed import BALENA, read, services

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
AGENT = ROOT / "deploy" / "balena" / "agent"
TEMPLATE = AGENT / "Dockerfile.template"


class Line(NamedTuple):
    """One instruction of a Dockerfile."""

    word: str
    rest: str


def _lines(path: Path) -> list[Line]:
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*", "", text)
    return [Line(*line.split(" ", 1)) for line in joined.splitlines() if line.strip()]


def _copied(path: Path) -> Iterator[str]:
    """What is copied from the folder that is built, without options and the place where it goes."""
    for line in _lines(path):
        words = [word for word in line.rest.split() if not word.startswith("--")]
        if line.word == "COPY" and "--from" not in line.rest:
            yield from words[:-1]


@pytest.mark.parametrize("path", [DOCKERFILE, TEMPLATE], ids=lambda path: str(path.name))
def test_an_image_runs_as_a_user_of_its_own_and_says_how_it_is(path: Path) -> None:
    """Two stages on one pinned official image, a user with a fixed number who owns /data, no shell around the process."""
    lines = _lines(path)
    images = [line.rest.split()[0] for line in lines if line.word == "FROM"]
    assert len(images) == 2
    assert len(set(images)) == 1
    pinned = re.search(r"python:(?:\$\{PYTHON\}|3\.\d+\.\d+-slim-bookworm)", images[0])
    assert pinned
    assert [line.rest for line in lines if line.word == "USER"] == ["10001:10001"]
    assert any(
        "useradd --uid 10001" in line.rest and "-o headwater -g headwater" in line.rest for line in lines
    )
    assert lines[-1].word == "CMD"
    assert lines[-1].rest.startswith("[")


def test_the_images_agree() -> None:
    """Both images have the same Python, and uv is the version that wrote uv.lock."""
    text = DOCKERFILE.read_text()
    python = re.search(r"^ARG PYTHON=(\S+)$", text, re.MULTILINE)
    assert python
    assert TEMPLATE.read_text().count(f"FROM python:{python[1]}") == 2
    uv = re.search(r"uv_version=(\S+)", (ROOT / "deploy" / "venv.sh").read_text())
    assert uv
    assert f"uv=={uv[1]}\n" in text
    assert any(
        line.word == "HEALTHCHECK" and 'CMD ["healthy", "9641"]' in line.rest for line in _lines(DOCKERFILE)
    )


def test_what_is_copied_is_there_and_is_sent_to_the_builder() -> None:
    """Each COPY names something of the tree that .dockerignore lets through, and nothing of a data folder or a secret is."""
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert rules[0] == "*"

    def sent(name: str) -> bool:
        return any(
            name == rule[1:] or name.startswith(f"{rule[1:]}/") for rule in rules if rule.startswith("!")
        )

    copied = list(_copied(DOCKERFILE))
    assert {"uv.lock", "pyproject.toml", "shared", "edge", "cloud", "firmware-sim"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists()
        assert sent(name), name
    assert not any(
        sent(name) for name in ("deploy/compose/secrets/fleet", "headwater-data", ".venv", ".git", "tests")
    )


@pytest.mark.fault  # it installs all libraries anew
def test_the_steps_of_the_image_install_the_four_commands(tmp_path: Path) -> None:
    """What the Dockerfile copies, and no more, is enough for its own `uv sync` lines; the commands run without the checkout."""
    build, home = tmp_path / "build", tmp_path / "headwater"
    build.mkdir()
    environment = {
        **os.environ,
        "UV_PROJECT_ENVIRONMENT": str(home),
        "UV_LINK_MODE": "copy",
        "UV_PYTHON": sys.executable,
    }
    uv = str(Path(sys.executable).parent / "uv")
    first = _lines(DOCKERFILE)[: [line.word for line in _lines(DOCKERFILE)].index("FROM", 2)]
    for line in first:
        if line.word == "COPY":
            *names, to = line.rest.split()
            for name in names:
                target = build / to / ("" if len(names) == 1 else name)
                (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, target)
        elif line.word == "RUN" and line.rest.startswith("uv sync"):
            subprocess.run(
                [uv, *line.rest.split()[1:]],
                check=True,
                cwd=build,
                env=environment,
                timeout=300,
                capture_output=True,
            )
    shutil.rmtree(build)
    for name in ("headwater", "headwater-edge", "headwater-cloud", "headwater-sim"):
        said = subprocess.run(
            [str(home / "bin" / name), "--help"], capture_output=True, text=True, timeout=60, check=False
        )
        assert said.returncode == 0, said.stderr
    imports = "import quixstreams, confluent_kafka, mqtt5, headwater_cloud; print(headwater_cloud.__file__)"
    said = subprocess.run(
        [str(home / "bin" / "python"), "-W", "ignore", "-c", imports],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert said.stdout.startswith(str(home))


def _locked() -> dict[str, list[str]]:
    """The names of the wheels of each version that uv.lock names, by name==version."""
    packages: list[dict[str, Any]] = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    return {
        f"{one['name']}=={one['version']}": [
            wheel["url"].rsplit("/", 1)[1] for wheel in one.get("wheels", [])
        ]
        for one in packages
        if "version" in one
    }


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pack.sh puts beside the template of balena's image."""
    folder = tmp_path_factory.mktemp("agent")
    script = ROOT / "deploy" / "balena" / "pack.sh"
    environment = {
        **os.environ,
        "HEADWATER_PACK_INTO": str(folder),
        "UV": str(Path(sys.executable).parent / "uv"),
    }
    subprocess.run([str(script)], check=True, env=environment, timeout=60, capture_output=True)
    return folder


@pytest.mark.parametrize("machine", ["aarch64", "x86_64"])
def test_every_library_of_the_agent_has_a_wheel_for_the_machine(packed: Path, machine: str) -> None:
    """On a Pi nothing is compiled: what pack.sh names, in the version of uv.lock and with its hashes, comes as a wheel."""
    text = (packed / "requirements.txt").read_text()
    there = {"python_version": "3.11", "python_full_version": "3.11.14", "platform_machine": machine}
    lines = re.findall(r"^([a-z0-9-]+==[^ ;]+)(?: ; (.*))? \\$", text, re.MULTILINE)
    named = [
        name
        for name, marker in lines
        if not marker or Marker(marker).evaluate({**there, "sys_platform": "linux"})
    ]
    assert len(named) > 20
    assert text.count("--hash=sha256:") > len(lines)
    locked = _locked()
    fits = re.compile(
        rf"-(py3|cp311|py2\.py3|cp3\d+-abi3|cp311-cp311)-.*(any|manylinux\w*_{machine}\S*)\.whl$"
    )
    missing = [name for name in named if not any(fits.search(wheel) for wheel in locked[name])]
    assert missing == []


_FIELDS = frozenset(
    [
        "build",
        "cap_add",
        "cap_drop",
        "cgroup_parent",
        "command",
        "cpu_shares",
        "cpu_quota",
        "cpuset",
        "devices",
        "depends_on",
        "dns",
        "dns_opt",
        "dns_search",
        "domainname",
        "entrypoint",
        "environment",
        "expose",
        "extra_hosts",
        "group_add",
        "healthcheck",
        "hostname",
        "image",
        "ipc",
        "labels",
        "mac_address",
        "mem_limit",
        "mem_reservation",
        "network_mode",
        "networks",
        "oom_kill_disable",
        "oom_score_adj",
        "pid",
        "pids_limit",
        "ports",
        "privileged",
        "read_only",
        "restart",
        "security_opt",
        "shm_size",
        "stop_grace_period",
        "stop_signal",
        "sysctls",
        "tmpfs",
        "ulimits",
        "user",
        "userns_mode",
        "volumes",
        "working_dir",
    ]
)
"""What balena's supervisor knows of a service: https://docs.balena.io/reference/supervisor/docker-compose (as of 2026)."""
_LABELS = re.compile(
    r"io\.balena\.(features\.(balena-socket|dbus|sysfs|procfs|kernel-modules|firmware|journal-logs|supervisor-api|balena-api)"
    r"|update\.(strategy|handover-timeout))"
)
_STRATEGIES = ("download-then-kill", "kill-then-download", "delete-then-download", "hand-over")


def _refused(file: dict[str, Any]) -> Iterator[str]:
    """What balena would not take, or would take otherwise than docker does."""
    if not str(file.get("version", "2")).startswith("2"):
        yield "version: balena reads version 2"
    for name in set(file) - {"version", "services", "volumes", "networks"}:
        yield f"{name}: not known at the top"
    volumes = file.get("volumes", {})
    for name, one in file["services"].items():
        yield from (f"{name}.{field}: not supported" for field in set(one) - _FIELDS)
        for volume in one.get("volumes", []):
            if not isinstance(volume, str) or volume.split(":")[0] not in volumes:
                yield f"{name}.volumes: {volume} is no named volume in the short form"
        if not isinstance(one.get("depends_on", []), list):
            yield f"{name}.depends_on: only a list"
        for label, value in one.get("labels", {}).items():
            if not _LABELS.fullmatch(label):
                yield f"{name}.labels: {label} is not known"
            if label.endswith("strategy") and value not in _STRATEGIES:
                yield f"{name}.labels: {value} is no strategy"
    if "${" in str(file):
        yield "variables are not put in"


def test_balenas_file_keeps_to_what_balena_takes() -> None:
    """deploy/balena has no field, label, mount or variable that balena's supervisor does not know."""
    assert list(_refused(read(BALENA))) == []


def test_balenas_subset_refuses_what_is_docker_only() -> None:
    """The check can fail: the file for docker at the top would not do."""
    found = {line.split(": ")[0] for line in _refused(read())}
    assert {
        "secrets",
        "agent-north.deploy",
        "agent-north.logging",
        "worker-1.depends_on",
        "fleet-west.profiles",
    } <= found


def test_one_agent_writes_the_volume_at_a_time() -> None:
    """All that must survive an update is in a named volume, and the old agent ends before the new one begins (R32)."""
    agent = services(BALENA)["agent"]
    assert agent["volumes"] == ["state:/data"]
    assert agent["labels"]["io.balena.update.strategy"] == "download-then-kill"
    assert "HEADWATER_COMMON__DATA=/data/state" in TEMPLATE.read_text()


def test_the_builder_refuses_a_machine_without_wheels() -> None:
    """On 32 bits the build ends with a line that says what to choose; on 64 bits it goes on."""
    (run,) = [line.rest for line in _lines(TEMPLATE) if line.word == "RUN" and "BALENA_ARCH" in line.rest]
    for arch, code in {"aarch64": 0, "amd64": 0, "armv7hf": 1, "rpi": 1}.items():
        command = run.replace("%%BALENA_ARCH%%", arch).replace("%%BALENA_MACHINE_NAME%%", "a-machine")
        said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=10, check=False)
        assert said.returncode == code
        assert ("use a 64-bit device type" in said.stderr) is bool(code)


@pytest.mark.fault  # it installs the agent's libraries anew: seconds, and many on a busy machine
def test_what_is_packed_is_an_agent(packed: Path, tmp_path: Path) -> None:
    """The image's steps on this box: the libraries by their hashes, the wheel, and start.sh; the agent is called as its device, its
    state is under /data, and it starts again with it, with more settings from a file there.
    """
    uv, home = str(Path(sys.executable).parent / "uv"), tmp_path / "opt"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(home)], check=True, timeout=60)
    install = [uv, "pip", "install", "-q", "--python", str(home / "bin" / "python")]
    locked = ["--only-binary=:all:", "--require-hashes", "-r", str(packed / "requirements.txt")]
    subprocess.run([*install, *locked], check=True, timeout=120)
    (wheel,) = packed.glob("headwater-*.whl")
    subprocess.run([*install, "--no-deps", str(wheel)], check=True, timeout=60)
    data, health = tmp_path / "data", free_port()
    data.mkdir()
    start = tmp_path / "start.sh"
    start.write_text((AGENT / "start.sh").read_text().replace("/data/", f"{data}/"))
    environment = {
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "BALENA_DEVICE_UUID": "5a1b2c3d4e5f60718293a4b5c6d7e8f9",
        **dict(re.findall(r"(HEADWATER_\w+)=(\S+)", TEMPLATE.read_text().replace("/data/", f"{data}/"))),
        "HEADWATER_EDGE__HEALTH_PORT": str(health),
        "HEADWATER_EDGE__LISTENER__PORT": "0",
    }
    healthy = [str(home / "bin" / "python"), str(packed / "healthy.py"), str(health)]
    for more in ("", 'site = "hall-3"'):
        if more:
            (data / "headwater.toml").write_text(f"[edge]\n{more}\n")
        with (tmp_path / "log").open("ab") as out:
            agent = subprocess.Popen(["sh", str(start)], env=environment, cwd=data, stdout=out, stderr=out)
        try:
            until(
                lambda: subprocess.run(healthy, capture_output=True, timeout=10, check=False).returncode == 0,
                30,
            )
            running = (data / "state" / "edge.settings.json").read_text()
            assert '"5a1b2c3d4e5f"' in running
            assert ("hall-3" in running) is bool(more)
        finally:
            agent.terminate()
            agent.wait(30)
    assert (data / "state" / "edge.db").exists()

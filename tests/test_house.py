"""The house around the code: one distribution, its extras, its Makefile, and the rules that every module keeps."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGES = {
    "headwater_shared": "shared",
    "headwater_edge": "edge",
    "headwater_cloud": "cloud",
    "headwater_firmware_sim": "firmware-sim",
    "headwater_appliance": "deploy/appliance",
}
MAY_IMPORT = {
    "headwater_shared": set[str](),
    "headwater_edge": {"headwater_shared"},
    "headwater_cloud": {"headwater_shared"},
    "headwater_firmware_sim": {"headwater_shared"},
    "headwater_appliance": set(PACKAGES) - {"headwater_appliance"},
}
OF_THE_CLOUD = {"apprise", "starlette", "uvicorn", "quixstreams", "confluent-kafka", "influxdb-client"}
MOST_LINES = 350

SOURCES = [
    path for package, folder in PACKAGES.items() for path in sorted((ROOT / folder / package).rglob("*.py"))
]
SOURCES += sorted((ROOT / "deploy" / "grafana").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _locked(*extras: str) -> set[str]:
    """All that an install with these extras and nothing else brings along, read from uv.lock."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    packages = {package["name"]: package for package in lock["package"]}
    ours = packages["headwater"]
    wanted = [
        *ours["dependencies"],
        *(one for extra in extras for one in ours["optional-dependencies"][extra]),
    ]
    found: set[str] = set()
    while wanted:
        dependency = wanted.pop()
        package = packages[dependency["name"]]
        for extra in dependency.get("extra", []):
            wanted += package["optional-dependencies"][extra]
        if dependency["name"] not in found:
            found.add(dependency["name"])
            wanted += package.get("dependencies", [])
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a release is."""
    folder = tmp_path_factory.mktemp("wheel")
    build = f"from hatchling.build import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], check=True, cwd=ROOT, timeout=60, capture_output=True)
    (built,) = folder.glob("headwater-*.whl")
    return built


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_the_five_packages_whole(wheel: Path) -> None:
    """Every module, schema and type marker of the five folders is in the wheel, and no test or other folder is."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *(f"{f}/{p}" for p, f in PACKAGES.items())],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=30,
    ).stdout.splitlines()  # fmt: skip
    files = {name[name.index("headwater_") :] for name in tracked if (ROOT / name).exists()}
    assert held == files
    assert any(name.endswith(".avsc") for name in held)
    assert {name.split("/")[0] for name in held} == set(PACKAGES)


def test_the_four_commands(wheel: Path) -> None:
    """The distribution brings four commands, each of its own part."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/entry_points.txt"))
        text = archive.read(name).decode()
    assert dict(re.findall(r"^(\S+) = (\S+)$", text, re.MULTILINE)) == {
        "headwater": "headwater_appliance.cli:main",
        "headwater-edge": "headwater_edge.cli:main",
        "headwater-cloud": "headwater_cloud.cli:main",
        "headwater-sim": "headwater_firmware_sim.cli:main",
    }


def test_extras_do_not_leak_into_the_base(wheel: Path) -> None:
    """What is required without an extra is exactly the base of DESIGN.md's table, and isal (DECISIONS.md, 2026-11-26)."""
    requires = _metadata(wheel).get_all("Requires-Dist") or []
    base = {re.split(r"[ <>=!;\[]", line)[0] for line in requires if "extra ==" not in line}
    assert base == {
        "fastavro", "isal", "msgspec", "numpy", "prometheus-client", "rich", "sqlite-utils", "structlog", "typer",
    }  # fmt: skip


def test_an_edge_only_install_pulls_in_nothing_of_the_cloud() -> None:
    """Neither the cloud's libraries nor the heavy extras come with `headwater[edge]`, at any depth of the lock."""
    edge = _locked("edge")
    assert {"mqtt5", "aiomqtt", "cbor2", "protobuf"} <= edge
    assert not edge & (OF_THE_CLOUD | {"river", "scipy", "onnxruntime", "opentelemetry-sdk"})
    assert not edge & (_locked("cloud") - _locked())
    assert len(edge) <= 40  # a Pi downloads each of them


def test_each_extra_is_there_and_pinned_where_it_must_be() -> None:
    """All extras of DESIGN.md's table, and those of single commands; the engine to the patch, its Kafka client below 2.13."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) == {
        "edge",
        "sim",
        "certs",
        "cloud",
        "river",
        "onnx",
        "train",
        "kafka",
        "quix",
        "influx",
        "otel",
        "parquet",
    }
    assert extras["quix"] == ["quixstreams==3.28.1"]
    assert extras["kafka"] == ["confluent-kafka<2.13"]


def test_the_lock_fits_the_project() -> None:
    """uv.lock is the one that uv would write for pyproject.toml now; read from the file, without the network."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    (ours,) = (package for package in lock["package"] if package["name"] == "headwater")
    locked = {(one["name"], one.get("marker", "")) for one in ours["metadata"]["requires-dist"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {(re.split(r"[ <>=!;\[]", line)[0], "") for line in project["dependencies"]}
    for extra, lines in project["optional-dependencies"].items():
        wanted |= {(re.split(r"[ <>=!;\[]", line)[0], f"extra == '{extra}'") for line in lines}
    assert locked == wanted
    assert ours["version"] == project["version"]


def test_every_dependency_is_decided() -> None:
    """DECISIONS.md says of each dependency what it is for, why this one, and what it weighs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    lines += [line for extra in project["project"]["optional-dependencies"].values() for line in extra]
    decided = {
        name for bold in re.findall(r"\*\*(.+?)\*\*", _text("DECISIONS.md")) for name in bold.split(", ")
    }
    assert {re.split(r"[ <>=!;\[]", line)[0] for line in lines} - decided == set()


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _make(*arguments: str, cwd: Path = ROOT) -> str:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=cwd,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout


def test_help_lists_every_target() -> None:
    """`make` alone is `make help`, and names each target that a person may call, with what it does."""
    phony = next(line for line in _text("Makefile").splitlines() if line.startswith(".PHONY:"))
    listed = re.findall(r"^make ([\w-]+) +\S.*$", _make("help"), re.MULTILINE)
    assert listed == phony.removeprefix(".PHONY:").split()
    assert listed == [
        "help", "demo", "demo-kafka", "demo-stack", "test", "check", "bench", "fault", "mutants", "dashboards", "clean",
    ]  # fmt: skip
    assert _make() == _make("help")


def test_ci_runs_check_and_test_with_every_part() -> None:
    """CI is `make check test`, and no part that can be installed may be missing there."""
    script = _text(".ci/run")
    assert "make check test" in script
    assert "HEADWATER_REQUIRE=mosquitto" in script
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_make_test_leaves_faults_and_benches_out() -> None:
    """Neither marker is collected by plain pytest, so no habit runs them by accident."""
    options = tomllib.loads(_text("pyproject.toml"))["tool"]["pytest"]["ini_options"]["addopts"]
    assert options[options.index("-m") + 1] == "not fault and not bench"


def _venv(tmp_path: Path, *programs: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the set-up in a bare checkout on a machine that has a shell and just these programs."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy/venv.sh", tmp_path / "deploy/venv.sh")
    path = tmp_path / "bin"
    path.mkdir()
    for tool in ("dirname", "sh"):
        (path / tool).symlink_to(str(shutil.which(tool)))
    for name, script in programs:
        (path / name).write_text(f"#!/bin/sh\n{script}\n")
        (path / name).chmod(0o755)
    return subprocess.run(
        ["sh", "deploy/venv.sh"], cwd=tmp_path, env={"PATH": str(path)}, capture_output=True, text=True, timeout=30, check=False
    )  # fmt: skip


def test_without_python_one_line_says_what_to_install(tmp_path: Path) -> None:
    """No Python at all, or none that is new enough: one line, with the command."""
    done = _venv(tmp_path, ("python3", "exit 1"))  # the test for 3.11 fails
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "Python 3.11 or newer is missing" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr


def test_without_ensurepip_one_line_says_what_to_install(tmp_path: Path) -> None:
    """Debian's Python without python3-venv cannot make a virtual environment: the line names the package."""
    debian = f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"'
    done = _venv(tmp_path, ("python3", debian))
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert f"sudo apt-get install python{version}-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()


def _parts(tmp_path: Path, user: int) -> subprocess.CompletedProcess[str]:
    """Run tests/parts.sh on a machine without Mosquitto, whose apt-get only writes down what it was asked for."""
    script = _text("tests/parts.sh").replace(":/usr/sbin:/usr/local/sbin", "")
    (tmp_path / "parts.sh").write_text(script)
    path = tmp_path / "bin"
    path.mkdir()
    (path / "sh").symlink_to(str(shutil.which("sh")))
    for name, body in (("id", f"echo {user}"), ("apt-get", f'echo "$@" >> {tmp_path}/asked')):
        (path / name).write_text(f"#!/bin/sh\n{body}\n")
        (path / name).chmod(0o755)
    return subprocess.run(
        ["sh", "parts.sh"], cwd=tmp_path, env={"PATH": str(path)}, capture_output=True, text=True, timeout=30, check=True
    )  # fmt: skip


def test_missing_parts_of_the_system_are_installed_for_root(tmp_path: Path) -> None:
    """As root the lists are fetched, then Mosquitto with its clients, the tools of XFS, a JVM and Maven are installed."""
    _parts(tmp_path, user=0)
    update, install = (tmp_path / "asked").read_text().splitlines()
    assert update.split()[0] == "update"
    assert install.split()[0] == "install"
    assert install.split()[-9:] == [
        "mosquitto",
        "mosquitto-clients",
        "xfsprogs",
        "default-jre-headless",
        "maven",
        "influxdb",
        "victoria-metrics",
        "prometheus",
        "prometheus-alertmanager",
    ]


def test_missing_parts_of_the_system_are_named_to_others(tmp_path: Path) -> None:
    """Anyone else gets one line with the command to type, and the other tests run."""
    done = _parts(tmp_path, user=1000)
    assert not (tmp_path / "asked").exists()
    assert done.stdout.endswith(
        "sudo apt-get install mosquitto mosquitto-clients xfsprogs default-jre-headless maven influxdb victoria-metrics prometheus"
        " prometheus-alertmanager\n"
    )
    assert done.stdout.count("\n") == 1


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_arrows_run_one_way(package: str) -> None:
    """Parts know shared and not each other; shared knows no part; only the appliance knows them all."""
    for path in (ROOT / PACKAGES[package] / package).rglob("*.py"):
        parts = {name.split(".")[0] for name in _imports(ast.parse(path.read_text()))} & set(PACKAGES)
        assert parts <= MAY_IMPORT[package] | {package}, _name(path)


def test_only_logs_imports_structlog() -> None:
    """structlog drags rich along unless headwater_shared.logs imports it, so no other module does."""
    guilty = [
        _name(path) for path in SOURCES
        if path.name != "logs.py" and any(name.split(".")[0] == "structlog" for name in _imports(ast.parse(path.read_text())))
    ]  # fmt: skip
    assert guilty == []


def test_every_module_says_what_it_is_for_and_is_short() -> None:
    """A docstring whose first line stands alone, and no more lines than a person reads at once."""
    for path in SOURCES + TESTS:
        text = path.read_text()
        first = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
        assert first, f"{_name(path)} has no docstring"
        if path in SOURCES:
            assert len(text.splitlines()) <= MOST_LINES, (
                f"{_name(path)} is too long: it has more than one reason to exist"
            )


def test_nothing_is_called_what_says_nothing() -> None:
    """No class or module is a Manager, Helper, Util, Processor or Base; Alertmanager is a program's name."""
    empty = re.compile(r"(?<!Alert)(Manager|Helper|Utils?|Processor|Base)$|^Base", re.IGNORECASE)
    for path in SOURCES:
        classes = [
            node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
        ]
        assert [name for name in (*classes, path.stem) if empty.search(name)] == [], _name(path)


def test_no_test_sleeps() -> None:
    """Tests wait with `until`, or set a clock: a sleep is either too short on a slow machine or too long on all others."""
    sleeping = re.compile(
        r"\b(time|asyncio|trio|anyio)\s*\.\s*sleep\s*\(|from (time|asyncio) import .*\bsleep\b"
    )
    assert [
        _name(path) for path in TESTS if sleeping.search(path.read_text()) and path != Path(__file__)
    ] == []


def test_every_test_states_its_fact() -> None:
    """Each test has a docstring that says what is so if it passes."""
    silent = [
        f"{_name(path)}: {node.name}"
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def test_the_agent_imports_httptools_only_for_http() -> None:
    """An agent without `[edge.http]` pays nothing for it; its modules are all imported without, but for the source's own."""
    code = (
        "import sys; from headwater_edge import cli, http_settings, process, settings; "
        "print(sorted({'httptools', 'h11', 'headwater_edge.http_source'} & set(sys.modules))); "
        "from headwater_edge import http_source; print('httptools' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30, cwd=ROOT
    )
    assert done.stdout.split("\n") == ["[]", "True", ""]


MAY_PICKLE = {"models", "river", "unpickle", "weigh"}
"""Modules of edge/detection/: of which only the restricted unpickler reads pickles, and `weigh` those that it has just made."""


def test_r21_nothing_is_unpickled_but_by_the_restricted_unpickler() -> None:
    """No module imports what reads pickles, but a few of detection; and of those only two read, and import nothing of pickle by name."""
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        read = {name.split(".")[0] for name in _imports(tree)}
        assert not read & {"dill", "cloudpickle", "joblib", "shelve", "marshal", "_pickle"}, _name(path)
        if "pickle" not in read:
            continue
        assert path.parent.name == "detection", _name(path)
        assert path.stem in MAY_PICKLE, _name(path)
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "pickle"
        }
        reads = {"unpickle": {"Unpickler"}, "weigh": {"loads"}}.get(path.stem, set())
        assert used <= {"dumps", "UnpicklingError", *reads}, _name(path)
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "pickle"], (
            _name(path)
        )


def test_no_step_imports_numpy_ma() -> None:
    """Three megabytes for nothing: ticks out of order, with duplicates, at many levels, never need masked arrays."""
    script = (
        "import sys; from tests.fixtures.scenes import SCENES, play; scene = list(SCENES.values())[-1]; "
        "run = scene.run(); play(run, scene.before + scene.afters[0]); run.flush(); "
        "print('numpy.ma' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"

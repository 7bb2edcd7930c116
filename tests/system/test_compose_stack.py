"""What docker-compose.yml puts behind Headwater is read by the programs that it is for, and its job is run by sh against the v2 contract."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from headwater_appliance.stack_servers import find
from headwater_cloud.influx_lines import database
from headwater_cloud.settings import CloudSettings
from headwater_edge.settings import EdgeSettings, step_settings
from tests.support import ROOT, free_port, part_required
from tests.system.composed import binds, ours, services
from tests.system.influx_setup import SetUp, set_up

_JOB = ROOT / "deploy" / "compose" / "influxdb" / "init.sh"


@pytest.fixture
def store() -> Iterator[SetUp]:
    with set_up() as made:
        yield made


def _job(store: SetUp, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the job as the compose file does, with its variables; files and the address are those of here."""
    given = services()["influxdb-init"]["environment"]
    (folder / "admin").write_text(store.token)
    (folder / "tokens").mkdir(exist_ok=True)
    here = {"INFLUX_URL": store.url, "ADMIN_TOKEN": str(folder / "admin"), "TOKENS": str(folder / "tokens")}
    script, *rest = services()["influxdb-init"]["entrypoint"]
    assert rest == ["/setup/init.sh"]
    return subprocess.run(
        [script, str(_JOB)],
        env={"PATH": os.environ["PATH"], **given, **here, **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_job_makes_buckets_mappings_and_tokens_once(store: SetUp, tmp_path: Path) -> None:
    """A bucket a level with its retention, each a database of InfluxQL; the sink's token writes and reads these, Grafana's only reads; again: nothing."""
    done = _job(store, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    keep = CloudSettings().kept()
    levels = step_settings(EdgeSettings()).levels
    wanted = {database("headwater", level): (keep.of(level) or 0) // 1_000_000 for level in levels}
    assert {name: one.retention_s for name, one in store.buckets.items()} == wanted | {"headwater_found": 0}
    ids = {one.id: name for name, one in store.buckets.items()}
    assert {one["database"]: (ids[one["bucketID"]], one["retention_policy"], one["default"]) for one in store.mapped} == {
        name: (name, "autogen", True) for name in store.buckets
    }  # fmt: skip
    may = [
        {(one["action"], ids[one["resource"]["id"]]) for one in token["permissions"]}
        for token in store.tokens
    ]
    reads = {("read", name) for name in store.buckets}
    assert may == [reads | {("write", name) for name in store.buckets}, reads]
    told = {path.name: path.read_text() for path in (tmp_path / "tokens").iterdir()}
    assert told == {"sink": "a-token-0==", "grafana": "a-token-1=="}
    again = _job(store, tmp_path)
    assert (again.returncode, again.stdout) == (0, ""), again.stderr
    assert len(store.mapped) == len(store.buckets)
    assert len(store.tokens) == 2
    assert store.token not in done.stdout + done.stderr


def test_a_level_more_makes_tokens_that_know_it(store: SetUp, tmp_path: Path) -> None:
    """With a bucket more the tokens are made anew."""
    assert _job(store, tmp_path).returncode == 0
    more = services()["influxdb-init"]["environment"]["BUCKETS"] + " headwater_1d=0"
    assert _job(store, tmp_path, BUCKETS=more).returncode == 0
    assert (tmp_path / "tokens" / "sink").read_text() == "a-token-2=="
    new = {one["resource"]["id"] for one in store.tokens[2]["permissions"]}
    assert new == {one.id for one in store.buckets.values()}


def test_the_job_says_what_the_store_said(store: SetUp, tmp_path: Path) -> None:
    """A wrong token, and nobody there: an exit code that has docker try again, and a line that says why."""
    (tmp_path / "other").mkdir()
    given = store.token
    store.token = "another"
    (tmp_path / "admin").write_text(given)
    done = _job(store, tmp_path, ADMIN_TOKEN=str(_written(tmp_path / "wrong", "wrong")))
    assert done.returncode == 1
    assert "401" in done.stderr
    assert "unauthorized" in done.stderr
    nobody = _job(store, tmp_path, INFLUX_URL=f"http://127.0.0.1:{free_port()}")
    assert nobody.returncode == 75
    assert "does not answer" in nobody.stderr


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _mounted(name: str, folder: Path) -> Path:
    """Lay out what a service sees of the tree, as docker does; return the folder that stands for its root."""
    for inside, outside in sorted(binds(services()[name]).items()):
        to, source = folder / inside.strip("/"), ROOT / outside
        if source.is_dir():
            shutil.copytree(source, to, dirs_exist_ok=True)
        else:
            assert not to.parent.exists() or to.exists(), (
                f"docker cannot make {inside} where all is read-only"
            )
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, to)
    return folder


def _checked(program: str, package: str, *words: str) -> str:
    part_required(package.removeprefix("prometheus-"))
    done = subprocess.run([find(program, package), *words], capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prometheus_reads_what_is_mounted(tmp_path: Path) -> None:
    """promtool finds settings, rules and targets where the container has them, and the targets are all of our processes at their ports."""
    root = _mounted("prometheus", tmp_path)
    assert "--config.file=/etc/prometheus/prometheus.yml" in services()["prometheus"]["command"]
    said = _checked("promtool", "prometheus", "check", "config", str(root / "etc/prometheus/prometheus.yml"))
    assert "SUCCESS" in said
    assert "rule files found" in said
    groups = YAML(typ="safe").load((root / "etc/prometheus/targets/headwater.yml").read_text())
    targets = {target for group in groups for target in group["targets"]}
    asked = {f"{name}:{services()[name]['healthcheck']['test'][-1]}" for name in ours() if services()[name]["healthcheck"].get("test")}  # fmt: skip
    assert targets == asked


def test_alertmanager_reads_what_is_mounted(tmp_path: Path) -> None:
    """amtool finds routes, receivers and templates where the container has them."""
    root = _mounted("alertmanager", tmp_path)
    assert "--config.file=/etc/alertmanager/alertmanager.yml" in services()["alertmanager"]["command"]
    said = _checked("amtool", "prometheus-alertmanager", "check-config", str(root / "etc/alertmanager/alertmanager.yml"))  # fmt: skip
    assert "SUCCESS" in said
    ignored = subprocess.run(["git", "check-ignore", "-q", "deploy/alertmanager/secrets/x"], cwd=ROOT, timeout=10, check=False)  # fmt: skip
    assert ignored.returncode == 0


def test_grafana_has_what_its_provisioning_names(tmp_path: Path) -> None:
    """Each variable is in the environment, the token is the one that the job makes, the dashboards lie where the provider looks."""
    root = _mounted("grafana", tmp_path)
    service = services()["grafana"]
    folder = root / "etc/grafana/provisioning"
    text = "".join(file.read_text() for file in (folder / "datasources").iterdir())
    named = set(re.findall(r"\$\{(\w+)\}", re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)))
    assert named
    assert named <= set(service["environment"])
    assert re.findall(r"\$__file\{([^}]+)\}", text) == ["/run/tokens/grafana"]
    assert "tokens:/run/tokens:ro" in service["volumes"]
    (provider,) = YAML(typ="safe").load((folder / "dashboards" / "headwater.yml").read_text())["providers"]
    there = root / provider["options"]["path"].strip("/")
    assert {file.suffix for file in there.iterdir()} == {".json"}
    assert (root / service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].strip("/")).exists()

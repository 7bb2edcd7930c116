"""The servers of Debian's packages that other tests run against do what those tests take for granted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headwater_appliance.stack_servers import Alertmanager, Influx, Prometheus, Server, VictoriaMetrics, find
from headwater_shared.errors import PartMissing
from tests.stack import influxql, make, running

_SERVERS: list[tuple[type[Server], tuple[str, ...]]] = [
    (Influx, ()),
    (VictoriaMetrics, ()),
    (Prometheus, ("global: {scrape_interval: 1s}\n",)),
    (Alertmanager, ("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n",)),
]


@pytest.mark.parametrize(("kind", "settings"), _SERVERS, ids=[kind.__name__ for kind, _ in _SERVERS])
def test_it_starts_ends_and_starts_again(tmp_path: Path, kind: type[Any], settings: tuple[str, ...]) -> None:
    """It answers on its port each time, also after a kill, and no longer once it is ended."""
    server = make(kind, tmp_path / "it", *settings)
    with running(server) as one:
        one.kill()
        assert not server.answers()
        one.start()
    assert not server.answers()


def test_what_influxdb_has_it_keeps_over_a_kill(tmp_path: Path) -> None:
    """A database that was made is there after kill -9."""
    server = make(Influx, tmp_path / "influx")
    with running(server) as one:
        influxql(server, "CREATE DATABASE headwater_1m")
        one.kill()
        one.start()
        assert influxql(server, "SHOW DATABASES") == [{"name": "headwater_1m"}]


def test_a_program_that_is_missing_names_its_package() -> None:
    """The hint can be pasted."""
    with pytest.raises(PartMissing) as said:
        find("no-such-program", "some-package")
    assert said.value.hint == "sudo apt-get install some-package"

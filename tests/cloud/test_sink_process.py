"""The sink as a process of its own: killed anywhere, asked by commands, and saying what is wrong."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from headwater_cloud import changes, influx_file
from headwater_cloud.changes import Cursor
from headwater_cloud.cli import app
from headwater_cloud.influx_settings import InfluxSettings, check, place_of
from headwater_cloud.settings import CloudSettings
from headwater_shared.errors import Refused, SettingsError
from headwater_shared.settings import load
from headwater_shared.sqlite_file import open_writer
from tests.cloud.followed import windows_of_file, windows_of_store
from tests.cloud.line_store import LineStore, Said, line_store
from tests.cloud.made import T0, Agent, row
from tests.cloud.side import Side
from tests.support import until

A = ("a1", 1, 1)


@pytest.fixture
def store() -> Iterator[LineStore]:
    with line_store() as made:
        yield made


@pytest.fixture
def settings(side: Side, store: LineStore) -> Path:
    """The settings of a box whose cloud side is stepped by the test."""
    with side.store.transaction() as connection:
        changes.register(connection, wanted=True)
    side.clock.wall_us = T0
    path = side.folder / "headwater.toml"
    path.write_text(
        f'[common]\ndata = "{side.folder}"\n[cloud.influx]\nurl = "{store.url}"\nprefix = "hw"\nhealth_port = 0\nbatch = 3\ntimeout = "1s"\n'
    )
    return path


class Process:
    """The sink, running."""

    def __init__(self, settings: Path, crash: str = "") -> None:
        env = {**os.environ, "HEADWATER_CRASH": crash}
        self.settings = settings
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headwater_cloud", "--sink", str(settings)], env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )  # fmt: skip

    def health(self) -> dict[str, Any]:
        """What it says; empty while it does not answer."""
        try:
            place = msgspec.json.decode((self.settings.parent / "sink.json").read_bytes())
            made = http.client.HTTPConnection("127.0.0.1", place["health"], timeout=5)
            made.request("GET", "/health")
            return msgspec.json.decode(made.getresponse().read(), type=dict[str, Any])
        except (OSError, http.client.HTTPException, msgspec.DecodeError):
            return {}

    def end(self) -> int:
        self.process.send_signal(SIGTERM)
        return self.process.wait(20)


@contextmanager
def running(settings: Path, crash: str = "") -> Iterator[Process]:
    made = Process(settings, crash)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait(20)


STEPS = (
    "sink.begun", "sink.read", "sink.send.before:2", "sink.send.after:2", "sink.written:2", "sink.move.before:2", "sink.move.during:2",
    "sink.move.after:2",
)  # fmt: skip


def test_r28_a_sink_that_is_killed_anywhere_leaves_a_store_that_is_equal(
    side: Side, settings: Path, store: LineStore
) -> None:
    """kill -9 at each step of the way, with revisions and new windows between: the store has the windows of the file, each field equal."""
    agent = Agent()
    for number, step in enumerate(STEPS):
        side.take(
            agent.frame(
                row(0, *map(float, range(number + 1)), opened=A, revision=number),
                *(row(100 * number + 10 * n, 1.0 + n) for n in range(1, 5)),
            )
        )
        with running(settings, step) as process:
            assert process.process.wait(30) == -9, step
    with running(settings):
        until(lambda: windows_of_store(store) == windows_of_file(side.folder), 30, "all is in the store")


def test_commands_ask_the_process_or_write_into_its_file(
    side: Side, settings: Path, store: LineStore
) -> None:
    """`list`, `retry` and `rerun`, while it runs and while it does not."""
    side.take(Agent().frame(row(0, 1.0), row(20, 2.0)))
    store.answer = lambda _, lines: (
        Said(400, '{"error":"field type conflict"}') if any(f" {T0}" in line for line in lines) else None
    )

    def ask(*words: str) -> Any:
        found = CliRunner().invoke(app, ["sink", *words, "--settings", str(settings), "--json"])
        assert found.exit_code == 0, found.output
        return msgspec.json.decode(found.output)

    with running(settings) as process:
        until(lambda: process.health().get("sink", {}).get("dead_letters") == 1, 30, "one is refused")
        (dead,) = ask("list")["dead_letters"]
        assert dead["key"] == ["window", "10s", "s1/d1/temp", T0]
        assert "field type conflict" in dead["why"]
        assert process.health()["status"] == "ok"
        store.say(None)
        assert ask("retry") == {"retried": 1, "running": True}
        until(lambda: process.health()["sink"]["dead_letters"] == 0, 30, "it is taken")
        assert windows_of_store(store) == windows_of_file(side.folder)
        store.points.clear()
        assert ask("rerun", "--from", "2027-01-15T08:00:20Z") == {"begun": True, "running": True}
        until(lambda: len(windows_of_store(store)) == 1, 30, "history is written again")
        assert process.end() == 0
    assert ask("rerun", "--from", "2020-01-01", "--to", "2030-01-01") == {"begun": True}
    with running(settings):
        until(lambda: windows_of_store(store) == windows_of_file(side.folder), 30, "history is written again")


@pytest.mark.parametrize("changed", ["url", "prefix"])
def test_r28_another_store_gets_all_that_the_file_holds(
    side: Side, settings: Path, store: LineStore, changed: str
) -> None:
    """The settings name another one: it is not taken for one that has what the former one has; a dead letter goes there, too. The same one gets
    nothing twice.
    """
    agent = Agent()
    side.take(agent.frame(row(0, 1.0), row(20, 2.0)))
    store.answer = lambda _, lines: (
        Said(400, '{"error":"field type conflict"}') if any(f" {T0}" in line for line in lines) else None
    )
    with running(settings) as process:
        until(lambda: process.health().get("sink", {}).get("dead_letters") == 1, 30, "one is refused")
        until(lambda: len(windows_of_store(store)) == 1, 30, "the other is there")
        assert process.end() == 0
    store.requests.clear()
    side.take(agent.frame(row(40, 3.0)))
    with running(settings) as process:
        until(lambda: len(windows_of_store(store)) == 2, 30, "what is new is there")
        assert process.end() == 0
    assert not [line for _, lines in store.requests for line in lines if f" {T0 + 20_000_000}" in line]
    store.points.clear()
    with line_store() as second:
        other = second if changed == "url" else store
        other.say(None)
        before, after = (store.url, second.url) if changed == "url" else ('"hw"', '"other"')
        settings.write_text(settings.read_text().replace(before, after))
        with running(settings) as process:
            until(lambda: windows_of_store(other) == windows_of_file(side.folder), 30, "all is in it")
            until(lambda: process.health()["sink"]["dead_letters"] == 0, 30, "the dead letter, too")
        if changed == "prefix":
            assert {database.partition("_")[0] for database, _, _ in other.points} == {"other"}


def test_a_store_that_fails_is_said_and_so_is_its_end(side: Side, settings: Path, store: LineStore) -> None:
    """`/health` fails with what to do, while the cloud side goes on; metrics have it too."""
    store.say(Said(401, '{"error":"authorization failed"}'))
    side.take(Agent().frame(row(0, 1.0)))
    with running(settings) as process:
        until(lambda: bool(process.health().get("reasons")), 30, "it says what is wrong")
        said = process.health()
        assert "hint: it does not know who writes" in said["reasons"][0]
        assert said["sink"]["failing"]
        store.say(None)
        until(lambda: process.health().get("status") == "ok", 30, "it goes on")
        until(lambda: windows_of_store(store) == windows_of_file(side.folder), 30, "all is in the store")


def test_only_one_sink_follows(side: Side, settings: Path) -> None:
    """Another one of the same folder says who has it."""
    with running(settings) as process:
        until(lambda: bool(process.health()), 30, "it answers")
        second = subprocess.run(
            [sys.executable, "-m", "headwater_cloud", "--sink", str(settings)], capture_output=True, text=True, timeout=30, check=False
        )  # fmt: skip
        assert second.returncode == 78
        assert f"in use by process {process.process.pid}" in second.stderr


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('url = "127.0.0.1:8086"', "url"),
        ('url = "http://u:p@h:8086"', "password"),
        ('url = "http://h:8086"\napi = "2"', "org and token"),
        ('url = "http://h:8086"\nuser = "me"', "user and password"),
        ('url = "http://h:8086"\norg = "home"', "org and token"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path, text: str, wrong: str) -> None:
    """With what to write instead."""
    (tmp_path / "h.toml").write_text(f"[cloud.influx]\n{text}\n")
    with pytest.raises(SettingsError, match=wrong):
        check(load(tmp_path / "h.toml", "cloud", CloudSettings).influx)


def test_what_the_sink_remembers_of_its_store_is_where_it_is_and_no_secret(tmp_path: Path) -> None:
    """Other letters of one address are the same store; a file of version 1, which names none, is of the one that it meets."""
    first = InfluxSettings(url="http://Box:8086/", api="2", org="home", token="env:A")
    place = place_of(first)
    assert place == "2|http://box:8086|home|headwater"
    path = tmp_path / influx_file.FILE
    open_writer(
        path, application=influx_file.APPLICATION, schema=influx_file.SCHEMA[:1], page_size=4096
    ).close()
    with closing(influx_file.InfluxFile(path)) as file:
        file.begin(Cursor(1, 2, 3, whole=False))
        assert file.of_store(place) == ""
        assert file.of_store(place) == ""
        assert file.cursor() == Cursor(1, 2, 3, whole=False)
        assert file.of_store("1|http://box:8086||headwater") == place
        assert (file.cursor(), file.job(), file.known()) == (None, None, set())


def test_commands_without_a_sink_say_so(tmp_path: Path) -> None:
    """Nothing is made by asking."""
    (tmp_path / "h.toml").write_text(f'[common]\ndata = "{tmp_path}"\n')
    found = CliRunner().invoke(app, ["sink", "list", "--settings", str(tmp_path / "h.toml")])
    assert found.output == f"nothing was written yet: no sink ran with the data folder {tmp_path}\n"
    found = CliRunner().invoke(app, ["sink", "retry", "--settings", str(tmp_path / "h.toml")])
    assert isinstance(found.exception, Refused)

"""`headwater notify` against a cloud side that runs: a test by each route, what waits and why, and again."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headwater_cloud.cli import app
from headwater_shared.sqlite_log import SqliteLog
from tests.cloud.made import Agent
from tests.cloud.notified import LINES
from tests.cloud.receivers import Hook, webhook
from tests.cloud.side import LOG
from tests.support import free_port, until


@contextmanager
def cloud_side(settings: Path, crash: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A real process, ended at the end."""
    env = {**os.environ, **({"HEADWATER_CRASH": crash} if crash else {})}
    with (settings.parent / "said").open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "headwater_cloud", str(settings)], env=env, stdout=said, stderr=said
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


@pytest.fixture
def hook() -> Iterator[Hook]:
    with webhook() as one:
        yield one


def settings_of(folder: Path, hook: Hook, more: str = "") -> Path:
    """The settings of a cloud side with a webhook; what follows them is the route's, too."""
    (folder / "data").mkdir()
    path = folder / "headwater.toml"
    path.write_text(
        f'[common]\ndata = "{folder / "data"}"\n[cloud]\nhealth_port = 0\n[[cloud.notify]]\nname = "hook"\nto = "webhook"\nurl = "{hook.url}"\nretry = "60s"\n{more}'
    )
    return path


def run(*words: str) -> tuple[int, str]:
    """A command: its exit code, and what it says or raises."""
    found = CliRunner().invoke(app, ["notify", *words])
    said = (
        str(found.exception)
        if found.exception is not None and not isinstance(found.exception, SystemExit)
        else found.output
    )
    return found.exit_code, said


def test_notify_test_list_and_retry(folder: Path, hook: Hook) -> None:
    """A test arrives by each route; with the receiver away it does not, and the exit code says so. What waits is listed with why and when
    next; `retry` has it go at once.
    """
    settings = settings_of(folder, hook)
    here = ("--settings", str(settings))
    assert "the cloud side does not run here" in run("test", *here)[1]
    assert run("list", *here) == (
        0,
        f"nothing was told yet: no cloud side ran with the data folder {folder / 'data'}\n",
    )
    with cloud_side(settings):
        until((folder / "data" / "notify.json").exists, 30, "it answers")
        code, said = run("test", *here)
        assert (code, [line.split() for line in said.splitlines()]) == (
            0,
            [["file", "delivered"], ["hook", "delivered"]],
        )
        assert hook.got[0].said["text"] == "a test: notifications reach you this way"
        hook.answer = 503, {}
        code, said = run("test", "hook", *here)
        assert code == 1
        assert "NOT delivered: 127.0.0.1 answers 503" in said
        code, said = run("test", "nosuch", *here)
        assert code == 1
        assert "there is no route 'nosuch'; there are file, hook" in said
        with closing(SqliteLog(folder / "data" / LOG)) as log:
            log.append([Agent().anomaly("begin", 1)])
        until(lambda: json.loads(run("list", *here, "--json")[1])["undelivered"], 20, "it is listed")
        (one,) = until(
            lambda: [
                one for one in json.loads(run("list", *here, "--json")[1])["undelivered"] if one["tries"]
            ],
            20,
        )
        assert (one["route"], one["state"], one["why"]) == ("hook", "waiting", "127.0.0.1 answers 503")
        assert one["next_us"] > time.time_ns() // 1000
        assert "waiting, 1 tries, next" in run("list", *here)[1]
        health = json.loads(_asked(folder, "health")[1])
        assert health["reasons"] == ["notifications do not go out by 'hook': 127.0.0.1 answers 503"]
        assert 'headwater_cloud_notifications_waiting{route="hook"} 1.0' in _asked(folder, "metrics")[1]
        hook.answer = 200, {}
        assert run("retry", "hook", *here) == (0, "1 are tried again\n")
        until(lambda: len(hook.got) == 2, 20, "it arrives")
        until(lambda: run("list", *here) == (0, "everything was delivered\n"), 20)
        assert (folder / "data" / LINES).read_text().count('"firing"') == 2  # the first one is the test
        assert _asked(folder, "notify/test", "POST")[0] == 403, (
            "a page of another site cannot make a browser send the header"
        )
        assert _asked(folder, "notify/test", "GET")[0] == 403
        assert _asked(folder, "ack/nonsense", "GET")[0] == 404


def test_an_alertmanager_that_is_away_is_listed(folder: Path, hook: Hook) -> None:
    """What it is told stands in no list: `headwater notify list` must not say of an alert that nobody is called for that all was delivered."""
    away = (
        f'[[cloud.notify]]\nname = "on-call"\nto = "alertmanager"\nurl = "http://127.0.0.1:{free_port()}"\n'
    )
    settings = settings_of(folder, hook, away)
    here = ("--settings", str(settings))
    with cloud_side(settings):
        until((folder / "data" / "notify.json").exists, 30, "it answers")
        with closing(SqliteLog(folder / "data" / LOG)) as log:
            log.append([Agent().anomaly("begin", 1)])
        until(lambda: json.loads(run("list", *here, "--json")[1])["failing"], 20, "it is listed")
        said = run("list", *here)[1]
        assert re.fullmatch(
            r"on-call +Alertmanager takes nothing since .*: .*Connection refused; of alerts that changed 1 waits, .*\n",
            said,
        )
        assert run("list", "hook", *here) == (0, "everything was delivered\n")
    assert run("list", *here) == (0, "everything was delivered\n")


def _asked(folder: Path, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and text of what the process answers."""
    port = json.loads((folder / "data" / "notify.json").read_bytes())["health"]
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as made:
        made.request(method, f"/{path}")
        answer = made.getresponse()
        return answer.status, answer.read().decode()


NOTIFY_STEPS = ("read", "taken", "sending", "written", "sent", "recorded")


@pytest.mark.fault
@pytest.mark.covers("R29")
def test_r29_a_real_process_killed_at_each_step_tells_each_once_or_marked(folder: Path, hook: Hook) -> None:
    """Two routes; kill -9 at the first and the third time of each step of the courier, with news before each; at the end each route has each, and
    twice, marked, at most what was on its way.
    """
    settings, data = settings_of(folder, hook, "most = 0\n"), folder / "data"
    agent, told = Agent(), 0
    deaths = [f"cloud.notify.{step}:{nth}" for nth in (1, 3) for step in NOTIFY_STEPS]
    with closing(SqliteLog(data / LOG)) as log:
        for death in deaths:
            with cloud_side(settings, death) as process:
                for _ in range(3):
                    # A site each: those of one would be one incident, and one notification.
                    log.append([agent.anomaly("begin", told, series=f"s{told}/d/temp")])
                    told += 1
                    until(partial(_told_or_dead, data, told, process), 30)
                until(lambda process=process: process.poll() is not None, 30, f"it dies at {death}")  # type: ignore[misc]
        with cloud_side(settings):
            until(lambda: len(_ids(hook)) == told, 60, "the webhook has each")
            lines = until(
                lambda: [line for line in [*_lines(data)] if len(set(_lines(data))) == told],
                60,
                "the file has each",
            )
    marked = [
        line
        for line in map(json.loads, (data / LINES).read_text().splitlines())
        if line.get("possible_repeat")
    ]
    assert len(lines) - told <= len(marked) <= len(deaths)
    again = [id_ for id_ in set(lines) if lines.count(id_) > 1]
    assert set(again) <= {line["id"] for line in marked}


def _told_or_dead(data: Path, told: int, process: subprocess.Popen[bytes]) -> bool:
    """Whether the last notification stands in the file, so that the next one is a message of its own."""
    return process.poll() is not None or ((data / LINES).exists() and len(set(_lines(data))) == told)


def _lines(data: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (data / LINES).read_text().splitlines()]


def _ids(hook: Hook) -> set[str]:
    return {one["id"] for posted in hook.got for one in posted.said.get("notifications", [posted.said])}

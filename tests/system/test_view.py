"""What a technician sees of a real box: status, devices, anomalies, charts, export and the live view; whole, and with parts down."""

from __future__ import annotations

import base64
import csv
import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from headwater_appliance.box import box_of
from headwater_appliance.cli import app
from headwater_appliance.devices import devices
from headwater_appliance.growth import outbox_of
from headwater_appliance.look import look, rates
from headwater_cloud.history import History
from headwater_cloud.query import iso
from headwater_edge import words
from headwater_shared.errors import HeadwaterError
from tests.support import ROOT, until
from tests.system.box import CLOUD, EDGE, Box, box, command
from tests.system.wire import Wire

LONG = "a-very-long-name-of-a-device-" + "x" * 60


@cache
def began() -> datetime:
    """When the readings of this module begin, and windows of 10 s with them: two minutes before it is first asked for."""
    return datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=2)


HEAT = [20.0 + second / 7 for second in range(60)] + [91.5, 92.25, 70.0]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A running box: a stove that gets too hot for two seconds, a device whose clock is an hour ahead, one with a gap and a long
    name, and a message that cannot be read; all windows closed.
    """
    with box(tmp_path_factory.mktemp("plant")) as here:
        here.up()
        with Wire(here.port, "all") as wire:
            sent = 0

            def send(device: str, metric: str, at: datetime, value: float) -> None:
                nonlocal sent
                body = msgspec.json.encode({"time": at.isoformat(), "values": {metric: value}})
                wire.send(wire.publish(f"hw/{device}/data", body))
                sent += 1
                if sent % 20 == 0:
                    wire.read_acknowledgements(sent)

            for second, heat in enumerate(HEAT):
                send("north/stove", "temperature", began() + timedelta(seconds=second), heat)
            for second in (0, 1, 60, 61):
                send(f"south/{LONG}", "pressure", began() + timedelta(seconds=second), 1.0 + second)
            send("south/ahead", "level", began() + timedelta(hours=1, minutes=2), 5.0)
            wire.send(wire.publish("hw/north/stove/data/temperature", b"21,5 degrees"))
            wire.read_acknowledgements(sent + 1)
        here.closed()
        until(lambda: _json(here, "anomalies")[0]["end_us"], what="the anomaly and its end are stored")
        yield here


def _run(here: Box, *words_: str, expected: int = 0, width: int = 100) -> str:
    """Run a command in this process, as `headwater` runs it; return what it says."""
    sized = {"COLUMNS": str(width), "LINES": "50"}
    done = CliRunner().invoke(app, [*words_, "--settings", str(here.settings)], env=sized)
    code, said = done.exit_code, done.output
    if isinstance(done.exception, HeadwaterError):
        code, said = done.exception.exit_code, f"{said}{done.exception}"
    assert code == expected, said
    return said


def _json(here: Box, *words_: str, expected: int = 0) -> list[dict[str, Any]]:
    return [
        msgspec.json.decode(line) for line in _run(here, *words_, "--json", expected=expected).splitlines()
    ]


def _at_width(here: Box, width: int, *words_: str) -> list[str]:
    return [line.rstrip() for line in _run(here, *words_, width=width).splitlines()]


def _plain(text: str) -> str:
    return " ".join(text.split())


def _in_terminal(arguments: list[str]) -> str:
    """Run a command whose output is a terminal; return what it wrote, without what moves the cursor and colours."""
    ours, its = pty.openpty()
    process = subprocess.Popen(arguments, cwd=ROOT, stdin=its, stdout=its, stderr=its, env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "45"})  # fmt: skip
    os.close(its)
    said = b""
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # EIO: it has ended
            break
        if not piece:
            break
        said += piece
    os.close(ours)
    assert process.wait(30) == 0, said.decode()
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode())


@pytest.mark.parametrize("width", [80, 120])
def test_status_is_one_screen(plant: Box, width: int) -> None:
    """It fits the width and a screen's height, and names what runs, what came in, the disk's budget, the clock, and what to do."""
    lines = _at_width(plant, width, "status")
    assert max(map(len, lines)) <= width
    assert len(lines) <= 40
    text = "\n".join(lines)
    for word in (
        "agent",
        "cloud side",
        "readings",
        "68 counted",
        "edge.disk.quota",
        "free",
        "clock",
        "devices",
        "3 known",
    ):
        assert word in text, word
    assert re.search(r"1 message could not be taken in", text)
    assert "headwater-edge dead-letters list" in text


def test_status_as_json_names_what_a_script_needs(plant: Box) -> None:
    """Processes with pid and uptime, the agent's own numbers, rates of two looks, files, clock, devices, troubles with remedies."""
    (found,) = _json(plant, "status")
    assert found["works"]
    for part in (EDGE, CLOUD):
        process = found["agent" if part == EDGE else "cloud"]["process"]
        assert process["pid"] == plant.running[part].pid
        assert process["uptime_s"] > 0
    assert found["agent"]["accepted"] == 68
    assert found["agent"]["version"] == found["installed"]
    assert found["outbox"]["rows"] == 0
    assert found["rates_over_s"] >= 1
    assert set(found["disk"]["files_bytes"]) == {"edge.db", "log.db", "cloud.db"}
    assert found["devices"]["known"] == 3
    assert all(trouble["remedy"] for trouble in found["troubles"])


def test_rates_come_from_two_looks(plant: Box) -> None:
    """Between two looks exactly what came in between is counted, over exactly the time between; nothing is guessed after a restart."""
    settings = box_of(plant.settings)
    before = look(settings)
    with Wire(plant.port, "more") as wire:
        for number in range(30):
            wire.send(wire.publish("hw/east/rates/data/level", str(number).encode()))
        wire.read_acknowledgements(30)
    after = look(settings)
    found = rates(before, after)
    assert found["readings"] * (after.mono_s - before.mono_s) == pytest.approx(30)
    after.agent = after.agent | {"epoch": "another"}
    assert "readings" not in rates(before, after)
    words.say(plant.data / "edge.sock", "flush")
    until(lambda: plant.status()["outbox"] == 0, what="the cloud side has everything")


@pytest.mark.parametrize("width", [80, 120])
def test_devices_are_listed_by_name(plant: Box, width: int) -> None:
    """A line a device, however long its name, with what is wrong with its times and where windows are missing."""
    lines = _at_width(plant, width, "devices")
    assert max(map(len, lines)) <= width
    for name in ("north/stove", "south/ahead"):
        assert [line for line in lines if line.startswith(name)], name
    (ahead,) = [line for line in lines if line.startswith("south/ahead")]
    assert ahead.endswith("ahead")
    (long,) = [line for line in lines if line.startswith("south/a-very")]
    assert re.search(r" 1 +5 +own", long), long  # a series, five windows of 10 s between the seconds 1 and 60
    assert LONG in "".join(line.split()[0] for line in lines[1:-1])  # whole, on several lines


def test_devices_can_be_chosen(plant: Box) -> None:
    """By site, by pattern, and those that are silent; numbers are the agent's and the cloud side's."""
    of_site = _json(plant, "devices", "south")
    assert [one["device"] for one in of_site] == [f"south/{LONG}", "south/ahead"]
    (stove,) = _json(plant, "devices", "*/st?ve")
    assert (stove["site"], stove["series"]) == ("north", 1)
    assert {one["device"] for one in _json(plant, "devices", "--silent")} == {
        one["device"] for one in _json(plant, "devices") if one["silent"]
    }
    assert "no device matches" in _run(plant, "devices", "nowhere")


def test_silence_is_the_agent_s_word(plant: Box) -> None:
    """What was heard just now is not silent, though its stamps are old; without the agent the latest stamp is what is known."""
    settings = box_of(plant.settings)
    with closing(History(plant.data / "cloud.db")) as history:
        by_agent = {one.device: one for one in devices(settings, history)}
        alone = {
            one.device: one
            for one in devices(
                settings._replace(common=msgspec.structs.replace(settings.common, data="/nowhere")), history
            )
        }
    now_us = round(datetime.now(UTC).timestamp() * 1e6)
    assert (by_agent["north/stove"].heard_s or 0) < alone["north/stove"].silence_s(now_us) - 60
    assert alone["north/stove"].silent(now_us)
    assert alone["north/stove"].per_s == 0.0
    assert alone["north/stove"].last_us == round((began() + timedelta(seconds=62)).timestamp() * 1e6)


def test_anomalies_tell_why_and_what_was_seen(plant: Box) -> None:
    """Begin, end, reason, and the readings up to it; by series, rule, severity and time."""
    (found,) = _json(plant, "anomalies")
    assert (found["rule"], found["series"], found["severity"]) == (
        "too-hot",
        "north/stove/temperature",
        "critical",
    )
    assert found["reason"] == "it was 91.5, the limit is 80"
    assert 91.5 in found["samples"]["values"]
    begin = began() + timedelta(seconds=60)
    assert datetime.fromisoformat(found["begin"]) == begin
    assert datetime.fromisoformat(found["end"]) == begin + timedelta(seconds=2)
    for chosen, number in (
        (("north/*",), 1), (("south/*",), 0), (("--rule", "too-*"), 1), (("--rule", "cold"), 0), (("--severity", "critical"), 1),
        (("--from", begin.isoformat()), 1), (("--to", begin.isoformat()), 0),
    ):  # fmt: skip
        assert len(_json(plant, "anomalies", *chosen)) == number, chosen
    lines = _at_width(plant, 80, "anomalies")
    assert max(map(len, lines)) <= 80
    assert "north/stove/temperature  too-hot  over after 2.0 s" in lines[0]
    assert "█" in lines[-1]
    assert "no anomaly matches" in _run(plant, "anomalies", "south/*")


@pytest.mark.parametrize("width", [80, 120])
def test_a_chart_shows_range_and_mean(plant: Box, width: int) -> None:
    """Labels of the largest and the least value, marks for mean and range, the times of its ends; nothing beyond the width."""
    lines = _at_width(plant, width, "query", "north/stove/temperature", "--chart", "--height", "8")
    assert max(map(len, lines)) < width
    assert lines[0].startswith("north/stove/temperature  10s, 7 windows")
    assert re.match(r" +92.25 ┤", lines[1])
    assert re.match(r" +20 ┤", lines[8])
    assert "●" in lines[8]
    assert "│" in lines[1][11:]
    assert f"{began():%Y-%m-%d %H:%M:%S}" in lines[9]


def test_a_gap_in_a_chart_is_a_gap(plant: Box) -> None:
    """Where no window is, no column is."""
    lines = _at_width(plant, 80, "query", f"south/{LONG}/pressure", "--chart", "--height", "3")
    drawn = "".join(
        max(column) for column in zip(*(line[11:].ljust(60) for line in lines[1:4]), strict=True)
    ).rstrip()
    assert re.fullmatch(r"\S+ {20,}\S+", drawn), drawn


def test_an_export_is_exact(plant: Box, tmp_path: Path) -> None:
    """CSV and Parquet hold every window of the level, digests and floats to the last bit, whatever the size of a page."""
    from pyarrow import parquet

    text = _run(plant, "export", "--level", "10s")
    rows = list(csv.DictReader(io.StringIO(text)))
    _run(plant, "export", "--level", "10s", "-o", str(tmp_path / "w.parquet"))
    table = parquet.read_table(tmp_path / "w.parquet").to_pylist()
    with closing(History(plant.data / "cloud.db")) as history:
        truth = {}
        for name in history.series():
            found = history.windows(name, "10s")
            of = found.aggregates
            for at, start in enumerate(found.start.tolist()):
                truth[name, start] = (
                    int(of.count[at]),
                    float(of.mean[at]),
                    int(of.digest[at]),
                    float(found.p95[at]),
                )
        from headwater_cloud.export import windows

        small = [row for page in windows(history, "10s", page=2) for row in page]
        assert small == [row for page in windows(history, "10s") for row in page]
    assert len(truth) == len(rows) == len(table) == len(small) > 10
    for row, of_table in zip(rows, table, strict=True):
        start = round(datetime.fromisoformat(row["start"]).timestamp() * 1e6)
        wanted = truth[row["series"], start]
        assert (int(row["count"]), float(row["mean"]), int(row["digest"], 16), float(row["p95"])) == wanted
        assert (of_table["count"], of_table["mean"], of_table["digest"], of_table["p95"]) == wanted
        assert round(of_table["start"].timestamp() * 1e6) == start


def test_an_export_can_be_narrowed(plant: Box) -> None:
    """By series and by time; what matches nothing says so."""
    some = _json(
        plant,
        "export",
        "--series",
        "north/*",
        "--level",
        "10s",
        "--from",
        (began() + timedelta(seconds=30)).isoformat(),
    )
    assert {row["series"] for row in some} == {"north/stove/temperature"}
    assert min(row["start"] for row in some) >= iso(
        round((began() + timedelta(seconds=30)).timestamp() * 1e6)
    )
    assert "no series matches" in _run(plant, "export", "--series", "nix", expected=1)
    assert "levels: 10s, 1m" in _run(plant, "export", "--level", "7s", expected=1)


def test_anomalies_alerts_and_dead_letters_are_exported(plant: Box) -> None:
    """Each with its own columns; the bytes of a dead letter come back as they were."""
    (anomaly,) = _json(plant, "export", "anomalies")
    assert (anomaly["rule"], anomaly["value"], anomaly["limit"]) == ("too-hot", 91.5, 80.0)
    (alert,) = _json(plant, "export", "alerts")
    assert (alert["id"], alert["state"]) == (anomaly["id"], "resolved")
    (letter,) = _json(plant, "export", "dead-letters")
    assert base64.b64decode(letter["payload"]) == b"21,5 degrees"
    assert letter["topic"] == "hw/north/stove/data/temperature"


def test_an_export_writes_over_nothing_and_leaves_no_half(plant: Box, tmp_path: Path) -> None:
    """A file that is there is refused; one that could not be finished is not there."""
    there = tmp_path / "there.csv"
    there.write_text("mine")
    assert "is there already" in _run(plant, "export", "-o", str(there), expected=1)
    assert there.read_text() == "mine"
    _run(plant, "export", "--series", "nix", "-o", str(tmp_path / "none.csv"), expected=1)
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]


def test_a_missing_extra_names_the_pip_line(plant: Box, tmp_path: Path) -> None:
    """Without pyarrow Parquet says what to install, and exits with 78."""
    script = "import sys; sys.modules['pyarrow'] = None; from headwater_appliance.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "export", "-o", str(tmp_path / "x.parquet"), "--settings", str(plant.settings)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    assert "pip install 'headwater[parquet]'" in done.stderr


def test_devices_show_what_the_registry_knows(plant: Box) -> None:
    """At once what `headwater registry` says, which the running cloud side takes up, too; and what was said on the bus of a device."""
    data = ["--data", str(plant.data)]

    def run(*line: str) -> None:
        subprocess.run(line, check=True, timeout=60, stdout=subprocess.DEVNULL)

    run(command("headwater"), "registry", "set", "north/stove", "--model", "S1", "--place", "Kitchen", *data)
    (stove,) = _json(plant, "devices", "north/stove")
    assert (stove["model"], stove["place"]) == ("S1", "Kitchen")

    def stored() -> set[str]:
        with closing(History(plant.data / "cloud.db")) as history:
            return {change.model for change in history.registry().values()}

    until(lambda: "S1" in stored(), what="the cloud side has it")
    settings = ["--settings", str(plant.settings)]
    run(command("headwater-cloud"), "devices", "set", "south/ahead", "--model", "L2", *settings)
    until(lambda: _json(plant, "devices", "south/ahead")[0]["model"] == "L2", what="the table has it")
    run(command("headwater-cloud"), "devices", "remove", "south/ahead", *settings)
    run(command("headwater"), "registry", "remove", "north/stove", *data)
    until(lambda: all(one["model"] is None for one in _json(plant, "devices")), what="both are removed")


def test_watch_shows_the_box_live(plant: Box) -> None:
    """In a terminal a whole screen with facts, anomalies and devices; elsewhere a line a look; with --json an object a line."""
    shown = _in_terminal(
        [command("headwater"), "watch", "--times", "2", "--every", "0.3", "--settings", str(plant.settings)]
    )
    for word in (
        "Headwater on",
        "edge.disk.quota",
        "latest anomalies",
        "too-hot: ",
        "north/stove",
    ):
        assert word in shown, word
    lines = _run(plant, "watch", "--times", "2", "--every", "0.3").splitlines()
    assert len(lines) == 2
    assert re.search(r"\d devices, \d silent  [\d.]+/\w+ readings", lines[0])
    assert [one["works"] for one in _json(plant, "watch", "--times", "2", "--every", "0.3")] == [True, True]


def test_the_view_of_the_demo_stands_below_its_lines(plant: Box) -> None:
    """In a terminal the demo's lines are printed above the live view; where it is none there is no view."""
    script = (
        "from pathlib import Path; from headwater_appliance.box import box_of\n"
        "from headwater_appliance.watch_view import below_lines\n"
        f"with below_lines(box_of(Path({str(plant.settings)!r}))) as draw:\n"
        "    print('ALERT one'); print(draw()); print('OVER two')"
    )
    shown = _in_terminal([sys.executable, "-c", script])
    assert "True" in shown
    assert shown.index("ALERT one") < shown.index("Headwater on") < shown.index("OVER two")
    assert "Headwater on" in shown[shown.index("OVER two") :]  # drawn again below it
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["ALERT one", "False", "OVER two"]


def test_status_works_with_parts_down(tmp_path: Path) -> None:
    """Nothing ever ran, the cloud side killed, the agent standing still, all ended: each is said with its remedy, and scripts see a code."""
    with box(tmp_path) as here:
        said = _run(here, "status", expected=3)
        assert "Headwater does not run here, in the data folder" in " ".join(said.split())
        assert "headwater up --settings" in said
        assert "or name the settings" not in said
        assert "no device has sent anything yet" in _run(here, "devices")
        here.up()
        with Wire(here.port, "one") as wire:
            wire.send(wire.publish("hw/north/stove/data/temperature", b"21.5"))
            wire.read_acknowledgements(1)
        here.kill(CLOUD)
        words.say(here.data / "edge.sock", "flush")
        said = _plain(_run(here, "status", "--over", "0.1", expected=1))
        assert "the cloud side does not run: readings wait at the agent, nothing is lost" in said
        (found,) = _json(here, "status", "--over", "0.1", expected=1)
        assert found["outbox"]["rows"] > 0
        here.freeze(EDGE)
        said = _plain(_run(here, "status", "--over", "0.1", expected=1))
        assert "runs and does not answer" in said
        here.kill(EDGE)
        (found,) = _json(here, "status", "--over", "0.1", expected=3)
        assert found["agent"]["process"] is None
        assert found["agent"]["version"] == found["installed"]
        settings = box_of(here.settings)
        waits = outbox_of(settings, settings.clock().now().wall_us, None)
        assert not waits.unread


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_told_whose_it_is() -> None:
    """Whoever may not ask the agent is told as whom to look, and not that nothing runs."""
    script = """
import os, sys, zoneinfo
import headwater_edge.put_out  # Python itself may lie where that user may not look
from pathlib import Path
from headwater_appliance import box, doctor
os.setuid(65534)
for one in doctor.examine(Path(sys.argv[1])):
    print(one.check, one.verdict, one.text, one.remedy)
box.look_at(Path(sys.argv[1]))
"""
    with tempfile.TemporaryDirectory() as folder:  # others may come to it, unlike to pytest's
        Path(folder).chmod(0o755)
        settings, data = Path(folder, "headwater.toml"), Path(folder, "data")
        data.mkdir()
        settings.write_text(f'[common]\ndata = "{data}"\n')
        done = subprocess.run(
            [sys.executable, "-c", script, str(settings)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    told = f"{data} is root's, who runs Headwater"
    assert f"Refused: {told}\n  hint: look as that user: sudo -u root headwater ..." in done.stderr, (
        done.stderr
    )
    lines = done.stdout.splitlines()
    assert lines[1] == f"data-folder wrong {told} look as that user: sudo -u root headwater ..."
    assert all(" not-checked " in line for line in lines[2:])

"""Logs are lines that machines and people can read, and cost no more than they must."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import pytest

from headwater_shared import logs
from headwater_shared.errors import SettingsError


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_is_one_object_a_line_in_utc() -> None:
    """Event, fields, level, part and a time that says UTC."""
    out = io.StringIO()
    logs.configure("json", part="edge", stream=out)
    logs.get_logger().info("journal salvaged", rows=3, name="ü\n")
    (line,) = _lines(out)
    written = datetime.fromisoformat(line.pop("timestamp"))
    assert line == {"event": "journal salvaged", "rows": 3, "name": "ü\n", "level": "info", "part": "edge"}
    assert abs((datetime.now(UTC) - written).total_seconds()) < 60


def test_a_terminal_gets_text_and_a_pipe_gets_json() -> None:
    """With "auto" who looks decides the form."""
    terminal, pipe = Terminal(), io.StringIO()
    logs.configure(stream=terminal)
    logs.get_logger().warning("disk is full", free=0)
    logs.configure(stream=pipe)
    logs.get_logger().warning("disk is full", free=0)
    assert "disk is full" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    assert _lines(pipe)[0]["free"] == 0


def test_below_the_level_nothing_is_written() -> None:
    """The level is the least that is logged."""
    out = io.StringIO()
    logs.configure("json", "warning", stream=out)
    log = logs.get_logger()
    log.info("no")
    log.warning("yes")
    assert [line["event"] for line in _lines(out)] == ["yes"]


def test_a_logger_made_before_follows_the_settings() -> None:
    """Modules make their loggers at import, before anyone read settings."""
    log = logs.get_logger()
    out = io.StringIO()
    logs.configure("json", stream=out)
    log.info("here")
    assert _lines(out)[0]["event"] == "here"


def test_an_error_brings_its_hint() -> None:
    """Message and hint of our errors are fields of their own; other exceptions say their kind."""
    out = io.StringIO()
    logs.configure("json", stream=out)
    logs.get_logger().error("not started", error=SettingsError("bad port", hint="choose another"))
    logs.get_logger().error("not started", error=ValueError("x"))
    first, second = _lines(out)
    assert (first["error"], first["hint"]) == ("bad port", "choose another")
    assert second["error"] == "ValueError: x"


@pytest.mark.parametrize("mode", ["json", "text"])
def test_a_traceback_is_shown(mode: Any) -> None:
    """`log.exception` shows where it came from, in both forms."""
    out = io.StringIO()
    logs.configure(mode, stream=out)
    try:
        raise ValueError("boom")
    except ValueError:
        logs.get_logger().exception("failed")
    assert "Traceback" in out.getvalue()
    assert "ValueError: boom" in out.getvalue()


def test_what_libraries_log_comes_along() -> None:
    """Warnings of libraries stand in the same lines, their chatter does not."""
    out = io.StringIO()
    logs.configure("json", "info", stream=out)
    logging.getLogger("paho").info("chatter")
    logging.getLogger("paho").warning("lost %s", "connection")
    (line,) = _lines(out)
    assert (line["event"], line["library"], line["level"]) == ("lost connection", "paho", "warning")


def test_what_a_library_says_again_and_again_is_a_line_in_a_while() -> None:
    """The same but for numbers is counted, and said again later; something else, and a traceback, at once."""
    out, now = io.StringIO(), [0.0]
    logs.configure("json", stream=out)
    handler = logs.FromLogging(lambda: now[0])

    def says(text: str, *values: object, of: str = "quix", error: Exception | None = None) -> None:
        found = (type(error), error, None) if error else None
        handler.emit(logging.LogRecord(of, logging.WARNING, "", 0, text, values, found))

    for tries in range(5):
        says("%d/2 brokers are down", tries)
        now[0] += 1.0
    says("another matter")
    says("0/2 brokers are down", of="paho")
    for _ in range(2):
        says("it failed", error=ValueError("x"))
    now[0] = 30.0
    says("2/2 brokers are down")
    says("2/2 brokers are down")
    found = [(line["event"], line["library"], line.get("left_out")) for line in _lines(out)]
    assert found == [
        ("0/2 brokers are down", "quix", None), ("another matter", "quix", None), ("0/2 brokers are down", "paho", None),
        ("it failed", "quix", None), ("it failed", "quix", None), ("2/2 brokers are down", "quix", 4),
    ]  # fmt: skip


def test_a_stream_that_fails_stops_nobody() -> None:
    """A closed or full stderr costs the line, not the process."""
    closed: TextIO = io.StringIO()
    closed.close()
    logs.configure("json", stream=FullDisk())
    logs.get_logger().error("let go")
    logs.get_logger().error("let go")


class FullDisk(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        """Fail as the system does."""
        raise OSError(28, "No space left on device", text)


def test_rich_is_not_imported() -> None:
    """Logging in a process of its own brings neither rich nor typer along, and hides rich from nobody else."""
    code = (
        "import sys; from headwater_shared import logs; logs.configure('text'); logs.get_logger().info('x');"
        "assert not {'rich', 'typer'} & set(sys.modules), sorted(sys.modules); import rich.console"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, capture_output=True)

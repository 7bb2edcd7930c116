"""Logs: one JSON object a line, or lines for people where a person looks; on stderr, times in UTC.

Every module takes its logger from here: `log = get_logger()`, then `log.info("journal salvaged", rows=3)`: a fixed event in
lower case, and what varies as fields. An exception goes into the field `error`, its hint comes along. Below warning,
what libraries write through the standard library's logging is not shown.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TextIO

import msgspec

from headwater_shared.errors import HeadwaterError

if TYPE_CHECKING:
    import structlog
    from structlog.typing import FilteringBoundLogger, Processor
else:
    # structlog imports rich wherever it is installed, for the colours of tracebacks: 8 MB that no agent needs.
    _hide_rich = "rich" not in sys.modules
    if _hide_rich:
        sys.modules["rich"] = None
    try:
        import structlog
    finally:
        if _hide_rich:
            del sys.modules["rich"]

Event = MutableMapping[str, Any]

_NUMBERS = re.compile(r"\d+")
_AGAIN_S = 30.0
_REMEMBERED = 200
"""Sayings of libraries."""


def get_logger() -> FilteringBoundLogger:
    """A logger that follows `configure`, also one that was made before it."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def configure(
    mode: Literal["auto", "json", "text"] = "auto",
    level: str = "info",
    *,
    part: str = "",
    stream: TextIO | None = None,
) -> None:
    """Set up the logs of this process; `part` (edge, cloud, ...) stands in each line. Call again to change it."""
    out = sys.stderr if stream is None else stream
    text = mode == "text" or (mode == "auto" and out.isatty())
    least = logging.getLevelNamesMapping()[level.upper()]
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Part(part),
        _error_with_hint,
        *(_for_people(out) if text else _for_machines()),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(_Unfailing(out)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,  # a logger made at import must follow a later call
    )
    logging.basicConfig(handlers=[FromLogging()], level=max(least, logging.WARNING), force=True)


def _for_people(out: TextIO) -> list[Processor]:
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain)]


def _for_machines() -> list[Processor]:
    encoder = msgspec.json.Encoder(enc_hook=repr)
    return [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=lambda event, **_: encoder.encode(event).decode()),
    ]


def _error_with_hint(_logger: object, _method: str, event: Event) -> Event:
    error = event.get("error")
    if isinstance(error, HeadwaterError):
        event["error"] = error.message
        if error.hint:
            event.setdefault("hint", error.hint)
    elif isinstance(error, BaseException):
        event["error"] = f"{type(error).__name__}: {error}"
    return event


class _Part:
    """Says in each line which part of Headwater wrote it."""

    def __init__(self, part: str) -> None:
        self._part = part

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        if self._part:
            event.setdefault("part", self._part)
        return event


class _Unfailing:
    """A stream whose end or full disk stops no agent: what cannot be logged is let go."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # ValueError: the stream was closed
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


class FromLogging(logging.Handler):
    """Brings what libraries log into the same lines. What one says again, but for its numbers, is left out for a while, and counted:
    the clients of Kafka say many times a second that it is away.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._said: dict[tuple[str, str], tuple[float, int]] = {}
        """When last, and how often since."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        more: dict[str, Any] = {}
        if not record.exc_info:
            key, now = (record.name, _NUMBERS.sub("", text)), self._monotonic()
            last, left_out = self._said.get(key, (now - _AGAIN_S, 0))
            if now - last < _AGAIN_S:
                self._said[key] = last, left_out + 1
                return
            if len(self._said) >= _REMEMBERED:
                self._said.clear()
            self._said[key] = now, 0
            more = {"left_out": left_out} if left_out else {}
        get_logger().log(record.levelno, text, library=record.name, exc_info=record.exc_info or None, **more)

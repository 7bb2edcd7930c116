"""What one payload becomes, and why not: for a person who connects a device."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from headwater_edge.decode import Decode, decoder
from headwater_edge.format_settings import FormatSettings, shipped
from headwater_edge.formats import Formats
from headwater_edge.settings import EdgeSettings
from headwater_edge.source import Burst
from headwater_edge.stamps import split
from headwater_edge.store import births, read_store
from headwater_edge.topics import SeriesIndex
from headwater_shared.digest import NO_TIME
from headwater_shared.errors import Refused, SettingsError, Unreadable


def payload_of(text: str) -> bytes:
    """Read a payload as it is typed: text, `hex:0a1b`, or `@file`.

    Raises:
        Refused: the file cannot be read, or it is no hex.
    """
    try:
        if text.startswith("@"):
            return Path(text[1:]).read_bytes()
        if text.startswith("hex:"):
            return bytes.fromhex(text[4:])
    except OSError as error:
        raise Refused(
            f"{text[1:]} cannot be read: {error.strerror}", hint="name a file after the @"
        ) from None
    except ValueError:
        raise Refused(f"{text[:40]!r} is no hex", hint="two digits a byte: hex:0a1b") from None
    return text.encode()


def explain(topic: str, payload: bytes, settings: EdgeSettings, file: Path, now_us: int) -> dict[str, Any]:
    """Decode one message as an agent with these settings would.

    Args:
        file: the agent's file; Sparkplug's births are taken from it, if it is there.
        now_us: when the message arrives.

    Returns:
        `readings` (series, time, value each; the time is None where it is that of arrival), `dead` (reason, detail),
        `skipped`, `said` (device, online each), `asks` (topics of requests), and `hint`.
    """
    decode = _decoder(settings, file)
    burst = Burst(now_us, [topic.encode()], [payload])
    found = decode.burst(burst)
    sent, after = split(found.sent)
    readings = []
    for at, (series, time, value) in enumerate(
        zip(found.series.tolist(), sent.tolist(), found.value.tolist(), strict=True)
    ):
        time_us = time if time != NO_TIME else None
        if time_us is None and after is not None and after[at]:
            time_us = now_us + int(after[at])
        readings.append({"series": decode.index.names[series], "time": _iso(time_us), "value": value})
    return {
        "readings": readings,
        "dead": [{"reason": letter.reason, "detail": letter.detail} for letter in found.dead],
        "skipped": found.skipped,
        "said": [{"device": one.device, "online": one.online} for _, one in found.said],
        "asks": [topic.decode(errors="replace") for topic, _ in found.asks],
        "hint": _hint(topic) if any(letter.reason == "bad-topic" for letter in found.dead) else "",
    }


def lines(told: dict[str, Any]) -> list[str]:
    """Say what `explain` found, a line each."""
    out = [f"{r['series']} = {r['value']:.15g}  {r['time'] or 'when it arrives'}" for r in told["readings"]]
    out += [f"dead letter {letter['reason']}: {letter['detail']}" for letter in told["dead"]]
    out += [f"{one['device']} is {'online' if one['online'] else 'offline'}" for one in told["said"]]
    if told["skipped"]:
        out.append(f"skipped: {told['skipped']} that are no readings (text, null, a topic that brings none)")
    out += [f"asks for a birth on {topic}" for topic in told["asks"]]
    if told["hint"]:
        out.append(f"hint: {told['hint']}")
    return out or ["no reading"]


def _decoder(settings: EdgeSettings, file: Path) -> Decode:
    decode = decoder(settings, SeriesIndex([], settings.max_series), file.parent)
    if file.exists():
        reader = read_store(file)
        decode.learn(births(reader))
        reader.close()
    return decode


def _hint(topic: str) -> str:
    """Name the shipped format that a topic looks like."""
    for name in shipped():
        try:
            formats = Formats(SeriesIndex([], 100), [FormatSettings(use=name)])
            formats.place_of(topic)
        except (Unreadable, SettingsError):
            continue
        return f'it looks like {name}: write use = "{name}" under [[edge.format]]'
    return "docs/formats.md tells how to describe a format of your own"


def _iso(time_us: int | None) -> str | None:
    if time_us is None:
        return None
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    except OverflowError:
        return f"{time_us} us"
    return moment.isoformat().replace("+00:00", "Z")

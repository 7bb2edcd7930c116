"""Settings of formats: which topics, which codec, and how foreign JSON maps to readings; what is shipped uses them too."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from headwater_shared.errors import SettingsError
from headwater_shared.settings import Section


class FormatSettings(Section, frozen=True, forbid_unknown_fields=True):
    """How the payloads of some topics are read; the first that fits a topic is taken, Headwater's own topics come last."""

    use: Annotated[
        str,
        Meta(
            description="A format that is shipped: zigbee2mqtt, tasmota, shelly-gen1, shelly-gen2, esphome, homeassistant, "
            "telegraf; of the keys below only site is set beside it."
        ),
    ] = ""
    topics: Annotated[
        tuple[str, ...],
        Meta(
            description="Topics it is for, with {site}, {device} and {metric} where those stand; + is any level, # all "
            "below. A placeholder that stands there twice takes both texts."
        ),
    ] = ()
    ignore: Annotated[
        tuple[str, ...], Meta(description="Topics among them that bring no readings: counted, not kept.")
    ] = ()
    availability: Annotated[
        tuple[str, ...],
        Meta(
            description="Topics on which it is said that a {device} is there or gone (online or offline, true or false, ON or OFF, "
            'or an object such as {"state": "online"}): they become its status.'
        ),
    ] = ()
    codec: Annotated[
        Literal["mapping", "json", "senml", "sparkplug", "influx"],
        Meta(
            description="mapping: JSON of any shape, by the keys below; json: Headwater's own JSON on other topics; SenML "
            "(JSON or CBOR), Sparkplug B, Influx line protocol."
        ),
    ] = "mapping"
    site: Annotated[str, Meta(description="Site where the topic names none; by default that of [edge].")] = ""
    device: Annotated[
        str,
        Meta(
            description="Device where the topic names none (influx: the tag that names it, host by default)."
        ),
    ] = ""
    metric: Annotated[str, Meta(description="Name of a bare value where the topic names no metric.")] = ""
    time: Annotated[
        str,
        Meta(
            description="Path to the time, such as meta.ts; without one a reading is stamped when it arrives."
        ),
    ] = ""
    rows: Annotated[
        str, Meta(description="Path to the object, or the list of objects, that hold values (and times).")
    ] = ""
    values: Annotated[
        dict[str, str],
        Meta(
            description='Metric = path of its value; a * in both stands for any key or place in a list: "power.*" = '
            '"phases.*.p". Empty: every number and switch, inner names joined by dots.'
        ),
    ] = msgspec.field(default_factory=dict)
    rename: Annotated[
        dict[str, str], Meta(description="Other names for metrics that are found so: found = wanted.")
    ] = msgspec.field(default_factory=dict)
    skip: Annotated[
        tuple[str, ...], Meta(description="Found metrics that are left out; * and ? match any text.")
    ] = ()


class _Shipped(msgspec.Struct, forbid_unknown_fields=True):
    format: tuple[FormatSettings, ...]


@cache
def shipped() -> dict[str, tuple[FormatSettings, ...]]:
    """Read the formats that come with the package, by name: TOML of the same tables as the settings."""
    files = sorted(
        (file for file in resources.files("headwater_edge").joinpath("shipped").iterdir()),
        key=lambda file: file.name,
    )
    return {
        file.name.removesuffix(".toml"): msgspec.convert(
            tomllib.loads(file.read_text("utf-8")), _Shipped
        ).format
        for file in files
        if file.name.endswith(".toml")
    }


def resolved(settings: tuple[FormatSettings, ...], site: str) -> list[FormatSettings]:
    """Return the formats with those of `use` in their place, and a site in each.

    Raises:
        SettingsError: `use` names none that there is, or stands beside other keys.
    """
    out = []
    for one in settings:
        if not one.use:
            out.append(msgspec.structs.replace(one, site=one.site or site))
            continue
        if one != FormatSettings(use=one.use, site=one.site):
            raise SettingsError(
                f"[[edge.format]] use = {one.use!r} stands beside other keys",
                hint="only site may; to change a shipped format write its keys out (docs/formats.md shows them)",
            )
        found = shipped().get(one.use)
        if found is None:
            raise SettingsError(
                f"[[edge.format]] use = {one.use!r} is not shipped", hint=f"there are {', '.join(shipped())}"
            )
        out += [msgspec.structs.replace(format_, site=one.site or site) for format_ in found]
    return out

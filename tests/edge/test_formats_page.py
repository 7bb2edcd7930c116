"""docs/formats.md is true: each line to paste gives what stands below it, each setting loads, each row of the table holds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from headwater_edge.decode import decoder
from headwater_edge.explain import payload_of
from headwater_edge.format_settings import FormatSettings, shipped
from headwater_edge.settings import EdgeSettings
from headwater_edge.topics import SeriesIndex
from headwater_shared.settings import load
from tests.edge.decoding import decode_with, decoded_by
from tests.support import ROOT

PAGE = (ROOT / "docs" / "formats.md").read_text()
SETTINGS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES = re.findall(r"^(mosquitto_pub .*|headwater-edge decode .*)\n# (.*)$", PAGE, re.MULTILINE)
KNOWN = re.findall(r"^\| `([\w-]+)` \| `(?:NAME/|\w+/).*?\| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)


def settings(folder: Path) -> EdgeSettings:
    path = folder / "page.toml"
    path.write_text("\n".join(SETTINGS))
    return load(path, "edge", EdgeSettings)


def test_the_page_has_examples() -> None:
    """The search finds them; without this the others could pass on nothing."""
    assert (len(SETTINGS), len(EXAMPLES), len(KNOWN)) == (4, 5, len(shipped()))


@pytest.mark.parametrize(("line", "wanted"), EXAMPLES, ids=[line.split()[-1][:20] for line, _ in EXAMPLES])
def test_each_line_gives_what_stands_below_it(tmp_path: Path, line: str, wanted: str) -> None:
    """Series and values, in their order, read with all the page's settings at once."""
    words = shlex.split(line)
    topic, payload = (
        (words[2], words[3])
        if words[1] == "decode"
        else (words[words.index("-t") + 1], words[words.index("-m") + 1])
    )
    decode = decoder(settings(tmp_path), SeriesIndex([], 100))
    (one,) = decoded_by(decode, (topic.encode(), payload_of(payload)))
    said = re.findall(r"([^ ,]\S*) = (\S+?)(?:,|$| at| five)", wanted)
    assert [(name, value) for name, _, value in one.readings] == [
        (name, float(value)) for name, value in said
    ]
    assert one.dead == []


TOPICS = {
    "zigbee2mqtt": ["zigbee2mqtt/NAME"],
    "tasmota": ["tele/NAME/SENSOR"],
    "shelly-gen1": ["shellies/NAME/relay/0/power"],
    "shelly-gen2": ["NAME/status/switch:0"],
    "esphome": ["NAME/sensor/temperature/state", "NAME/switch/pump/state"],
    "homeassistant": ["homeassistant/light/kitchen/state"],
    "telegraf": ["telegraf/x"],
}


@pytest.mark.parametrize(("use", "payloads", "wanted"), KNOWN, ids=[use for use, _, _ in KNOWN])
def test_each_known_device_becomes_what_the_table_says(use: str, payloads: str, wanted: str) -> None:
    """The example's payload on the row's first topics."""
    decode = decode_with(FormatSettings(use=use))
    found = [
        name
        for topic, payload in zip(TOPICS[use], re.findall(r"`(.*?)`", payloads), strict=True)
        for name, _, _ in decoded_by(decode, (topic.encode(), payload.encode()))[0].readings
    ]
    assert found == re.findall(r"`(.*?)`", wanted)

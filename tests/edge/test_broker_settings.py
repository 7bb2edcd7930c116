"""The settings of brokers: filters that are none, that overlap, that are shared; values with which nothing would work."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_edge.broker_filters import check_filters, overlap
from headwater_edge.broker_settings import BrokerSettings, check_brokers, terms, tls_context
from headwater_edge.settings import EdgeSettings
from headwater_shared.errors import SettingsError
from headwater_shared.settings import load

WORDS = ("a", "b", "", "$s")
TOPICS = ["/".join(levels) for n in range(1, 5) for levels in product(WORDS, repeat=n)]


def _matches(topic: str, pattern: str) -> bool:
    """Tell whether a filter matches a topic, level by level as MQTT 4.7 says it: the plain reference."""
    levels, wanted = topic.split("/"), pattern.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(levels) or (level != "+" and level != levels[at]):
            return False
    return len(levels) == len(wanted)


def _matches_with_parent(topic: str, pattern: str) -> bool:
    """`a/#` matches `a`, too."""
    return _matches(topic, pattern) or (pattern.endswith("/#") and _matches(topic, pattern[:-2]))


@st.composite
def filters(draw: st.DrawFn) -> str:
    """A valid filter over few words, of up to three levels, with or without # at its end."""
    levels = draw(st.lists(st.sampled_from((*WORDS, "+")), max_size=3))
    end = draw(st.booleans())
    return "/".join([*levels, "#"] if end or not levels else levels) or "+"


@given(filters(), filters())
def test_r09_two_filters_overlap_where_a_topic_matches_both(first: str, second: str) -> None:
    """For any two filters the test says what trying all topics of up to four levels says."""
    both = any(_matches_with_parent(t, first) and _matches_with_parent(t, second) for t in TOPICS if t)
    assert overlap(first, second) == both
    assert overlap(second, first) == both


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ("hw/+/+/data/#", "hw/s/d/data", True),
        ("hw/+/+/data", "hw/+/+/data/+", False),
        ("hw/a/#", "hw/b/#", False),
        ("hw/a/#", "hw/+/d/data", True),
        ("#", "$SYS/#", False),
        ("+/x", "$SYS/x", False),
        ("#", "#", True),
        ("a/+/c", "a/b/+", True),
        ("a/b", "a/b/#", True),
        ("a", "a/+", False),
    ],
)
def test_r09_overlap_of_filters_that_people_write(first: str, second: str, wanted: bool) -> None:
    """Cases worth reading."""
    assert overlap(first, second) is overlap(second, first) is wanted


@pytest.mark.parametrize(
    ("several", "said"),
    [
        ((), "no filters"),
        (("hw/#", "hw/+/+/data"), "overlap"),
        (("$share/g/hw/#",), "shared subscription"),
        (("hw/#/data",), "no topic filter"),
        (("hw/a#",), "no topic filter"),
        (("hw/a+/b",), "no topic filter"),
        (("",), "no topic filter"),
        (("a\0b",), "no topic filter"),
        (("a" * 65_536,), "no topic filter"),
    ],
)
def test_r03_r09_filters_that_cannot_be_are_refused_with_the_reason(
    several: tuple[str, ...], said: str
) -> None:
    """Overlapping ones (R9), shared subscriptions (R3), and what is no filter."""
    with pytest.raises(SettingsError, match=said) as caught:
        check_filters("edge.broker 'plant'", several)
    assert "edge.broker 'plant'" in caught.value.message
    assert caught.value.hint


def test_r09_tables_of_one_broker_may_not_overlap_either() -> None:
    """Two tables with the same host and port are two sessions with one broker: it would send to both."""
    first = BrokerSettings(name="a", host="gw.local", filters=("hw/#",))
    check_brokers([first, BrokerSettings(name="b", host="gw.local", port=1884, filters=("hw/#",))])
    check_brokers([first, BrokerSettings(name="b", host="gw.local", filters=("zigbee2mqtt/+",))])
    with pytest.raises(SettingsError, match="overlap"):
        check_brokers([first, BrokerSettings(name="b", host="GW.local", filters=("hw/s/#",))])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"name": "a/b"}, "no name"),
        ({"max_packet": "10B"}, "max_packet"),
        ({"keep_alive": "100ms"}, "keep_alive"),
        ({"canary_timeout": "5s"}, "canary_timeout"),
        ({"reconnect": "0s"}, "reconnect"),
        ({"reconnect_most": "1s"}, "reconnect"),
        ({"nap": "2s"}, "nap"),
        ({"ca": "x.pem"}, "without tls"),
        ({"tls": True, "cert": "x.pem"}, "cert without key"),
        ({"password": "env:X"}, "without a user"),
    ],
)
def test_values_with_which_nothing_would_work_are_refused(keys: dict[str, object], said: str) -> None:
    """Each names the broker, the key and what to write."""
    broker = BrokerSettings(**({"name": "plant", "host": "h"} | keys))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=said) as caught:
        check_brokers([broker])
    assert caught.value.hint


def test_a_broker_needs_a_name_of_its_own() -> None:
    """The name is that of the session in the journal."""
    one = BrokerSettings(name="plant", host="h")
    with pytest.raises(SettingsError, match="two brokers"):
        check_brokers([one, BrokerSettings(name="plant", host="g")])


def test_a_certificate_that_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    """And one that is something else."""
    with pytest.raises(SettingsError, match="there is no file"):
        tls_context(BrokerSettings(name="plant", host="h", tls=True, ca=str(tmp_path / "ca.pem")))
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match="cannot be used") as caught:
        tls_context(BrokerSettings(name="plant", host="h", tls=True, ca=str(tmp_path / "ca.pem")))
    assert "PEM" in caught.value.hint
    assert tls_context(BrokerSettings(name="plant", host="h")) is None


def test_several_brokers_in_a_settings_file(tmp_path: Path) -> None:
    """Each is a table; what is left out has its default."""
    file = tmp_path / "headwater.toml"
    file.write_text(
        '[[edge.broker]]\nname = "plant"\nhost = "10.0.0.1"\n'
        '[[edge.broker]]\nname = "office"\nhost = "10.0.0.2"\nversion = "3.1.1"\nfilters = ["tele/+/SENSOR"]\n'
    )
    plant, office = load(file, "edge", EdgeSettings).broker
    check_brokers([plant, office])
    assert (plant.version, plant.filters) == ("5", ("hw/+/+/data/#",))
    assert terms(office).expiry_s == 7 * 86_400

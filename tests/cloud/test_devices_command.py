"""`headwater-cloud devices` on both buses: what people say of devices reaches topic, shards and store, or nothing of it does."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from headwater_cloud.cli import app
from headwater_cloud.devices_command import KeptOnBus
from headwater_cloud.history import History
from headwater_cloud.process import Process
from headwater_cloud.registry_topic import RegistryTopic
from headwater_cloud.settings import CloudSettings
from headwater_shared.clock import SetClock
from headwater_shared.errors import BusUnavailable, Refused, SettingsError
from headwater_shared.kafka_settings import KafkaSettings, connection
from headwater_shared.registry import Entry
from headwater_shared.settings import Common
from headwater_shared.topics import IN, REGISTRY
from tests.cloud.side import FILE, LOG, Side
from tests.cloud.test_device_registry import entries, said
from tests.cloud.test_devices import change
from tests.cloud.test_registry_copies import Away, looked
from tests.support import until

CSV = "device,site,model,room,temp [°C]\npump-1,s1,P100,Hall 2,x\npump-2,s2,P200,Hall 3,\n"
IMPORTED = {
    "s1/pump-1": Entry("P100", "Hall 2", metrics={"temp": "°C"}),
    "s2/pump-2": Entry("P200", "Hall 3"),
}


def settings_of(folder: Path, bus: str = LOG, prefix: str = "") -> Path:
    path = folder / "headwater.toml"
    kafka = f'[kafka]\nprefix = "{prefix}"\n' if prefix else ""
    path.write_text(f'[common]\ndata = "{folder}"\n[cloud]\nbus = "{bus}"\nfile = "{FILE}"\n{kafka}')
    return path


def call(settings: Path, *words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, ["devices", *words, "--settings", str(settings)], input=text)


def test_what_is_imported_set_and_removed_is_what_the_shards_know(tmp_path: Path) -> None:
    """By the copies alone: the cloud side need not look at the topic for that."""
    side, settings = Side(tmp_path), settings_of(tmp_path)
    result = call(settings, "import", "-", text=CSV)
    assert "2 added: s1/pump-1, s2/pump-2" in result.output
    side.run()
    assert entries(side) == IMPORTED
    call(settings, "set", "s1/pump-1", "--owner", "Anna", "--cohort", "old", "--metric", "temp=")
    call(settings, "remove", "s2/pump-2")
    side.run()
    assert entries(side) == {"s1/pump-1": Entry("P100", "Hall 2", "Anna", "old")}
    assert looked(side) == 0, "topic and shards agree"
    side.close()


def test_the_list_has_each_devices_status_where_there_is_one(tmp_path: Path) -> None:
    """As its agent said last; as a table, and as JSON; by pattern."""
    side, settings = Side(tmp_path), settings_of(tmp_path)
    assert "no device" in call(settings, "list").output
    call(settings, "set", "s1/d1", "--model", "P100", "--metric", "temp=°C")
    call(settings, "set", "s1/d2")
    side.take(change(1, "silent", 5))
    lines = call(settings, "list").output.splitlines()
    assert [line.split() for line in lines] == [
        ["device", "status", "model", "place", "owner", "cohort", "runbook", "metrics"],
        ["s1/d1", "silent", "P100", "-", "-", "-", "-", "temp", "[°C]"],
        ["s1/d2", "-", "-", "-", "-", "-", "-", "-"],
    ]
    found = json.loads(call(settings, "list", "*/d1", "--json").output)["devices"]
    assert found == [{"device": "s1/d1", "model": "P100", "metrics": {"temp": "°C"}, "status": "silent"}]
    side.close()


def test_a_mistake_changes_nothing(tmp_path: Path) -> None:
    """Bad rows are named by line with what to do, a dry run says what would be; neither puts anything on the bus."""
    side, settings = Side(tmp_path), settings_of(tmp_path)
    result = call(settings, "import", "-", text="device,metrics\ns1/a,temp=°C\nb,\ns1/c+d,\ns1/e,=x\n")
    assert isinstance(result.exception, Refused)
    assert "3 lines of - are wrong; nothing was changed" in str(result.exception)
    for words in (
        "line 3: nothing says the site of 'b': a column, SITE/DEVICE, or --site",
        "line 4: 's1/c+d'",
        "line 5:",
    ):
        assert words in result.output
    assert "2 would be added" in call(settings, "import", "-", "--dry-run", text=CSV).output
    assert isinstance(call(settings, "remove", "s1/a").exception, Refused)
    assert isinstance(call(settings, "set", "no-site").exception, SettingsError)
    assert (side.topic(REGISTRY), side.topic(IN)) == ([], [])
    side.close()


def test_where_there_is_no_log_none_is_made(tmp_path: Path) -> None:
    """The settings are wrong, or Headwater never ran: said with what to do."""
    result = call(settings_of(tmp_path), "set", "s1/d1")
    assert isinstance(result.exception, Refused)
    assert "--settings" in str(result.exception)
    assert not (tmp_path / LOG).exists()


def _change_to(after: dict[str, Entry], kept: KeptOnBus) -> None:
    with kept.changed([]) as devices:
        devices.clear()
        devices.update(after)


def test_a_command_that_died_between_topic_and_copies_is_healed_by_the_same_command(tmp_path: Path) -> None:
    """Nothing changes any more, and yet the copies are made: of a set, of an import, of a removal that says that it is done."""
    side, settings = Side(tmp_path), settings_of(tmp_path)

    def dies(after: dict[str, Entry]) -> None:
        with closing(Away(tmp_path / LOG)) as log:
            log.away = IN.name
            with pytest.raises(BusUnavailable):
                _change_to(after, KeptOnBus(log, SetClock()))

    dies({"s1/d1": Entry("P100")})
    side.run()
    assert entries(side) == {}
    call(settings, "set", "s1/d1", "--model", "P100")
    side.run()
    assert entries(side) == {"s1/d1": Entry("P100")}

    dies(IMPORTED)
    assert "nothing changes" in call(settings, "import", "-", "--replace", text=CSV).output
    side.run()
    assert entries(side) == IMPORTED

    dies({"s2/pump-2": IMPORTED["s2/pump-2"]})
    assert "there is no s1/pump-1" in str(call(settings, "remove", "s1/pump-1").exception)
    side.run()
    assert list(entries(side)) == ["s2/pump-2"]
    side.close()


def test_a_clock_that_is_behind_does_not_make_the_later_word_the_older(tmp_path: Path) -> None:
    """The change is a microsecond later than what it replaces, whoever's clock was ahead; also of a removed device."""
    side, settings = Side(tmp_path), settings_of(tmp_path)
    topic = RegistryTopic(side.log)
    ahead = said(10**9, Entry("P100"))
    topic.learn(ahead)
    topic.write(["s1/d1"])
    topic.copy(["s1/d1"])
    call(settings, "set", "s1/d1", "--model", "P200")
    side.run()
    assert entries(side) == {"s1/d1": Entry("P200")}
    call(settings, "remove", "s1/d1")
    call(settings, "set", "s1/d1", "--model", "P300")
    side.run()
    assert entries(side) == {"s1/d1": Entry("P300")}
    topic.read()
    assert topic.latest["s1/d1"].time_us == ahead.time_us + 3
    side.close()


def test_over_kafka_it_is_the_same(kafka_bus: str, tmp_path: Path) -> None:
    """Import, set, list, remove, with a cloud side that runs beside; one that lost its file gets all of it from the topic."""
    address, _, prefix = kafka_bus.rpartition("/")
    settings = settings_of(tmp_path, address, prefix)
    call(settings, "import", "-", text=CSV)

    def known(folder: str, wanted: dict[str, Entry]) -> None:
        cloud = CloudSettings(bus=address, wait="10ms", health_port=0)
        process = Process(Common(data=str(tmp_path / folder)), cloud, kafka=KafkaSettings(prefix=prefix))
        try:

            def reached() -> bool:
                process.turn()
                shards = process.runner._shards.values()
                return {d: entry for one in shards for d, entry in one.registry.items()} == wanted

            until(reached)
        finally:
            process.close()

    known("cloud", IMPORTED)
    result = call(settings, "set", "s1/pump-1", "--owner", "Anna")
    assert (result.exit_code, "Anna" in result.output) == (0, True)
    call(settings, "remove", "s2/pump-2")
    assert [one["device"] for one in json.loads(call(settings, "list", "--json").output)["devices"]] == [
        "s1/pump-1"
    ]
    left = {"s1/pump-1": Entry("P100", "Hall 2", "Anna", metrics={"temp": "°C"})}
    known("cloud", left)
    known("another", left)
    with closing(History(tmp_path / "cloud" / "cloud.db")) as history:
        rows = history.connection.execute("SELECT device, removed, owner FROM registry ORDER BY 1").fetchall()
    assert rows == [("s1/pump-1", 0, "Anna"), ("s2/pump-2", 1, "")]


def test_a_topic_that_was_not_made_yet_stops_nothing_else(kafka_bus: str, tmp_path: Path) -> None:
    """After an update, before `headwater-cloud topics --apply`: the cloud side takes what comes, and tries the registry again."""
    from confluent_kafka.admin import AdminClient

    address, _, prefix = kafka_bus.rpartition("/")
    admin = AdminClient({**connection(address, KafkaSettings()), "log_level": 0})
    for done in admin.delete_topics([prefix + REGISTRY.name]).values():
        done.result(30)
    cloud = CloudSettings(bus=address, wait="1ms", health_port=0)
    process = Process(Common(data=str(tmp_path)), cloud, kafka=KafkaSettings(prefix=prefix))
    try:
        began = time.monotonic()
        for _ in range(20):
            process.turn()
        assert (process.trouble, process.health()["ready"]) == ("", True)
        assert process.runner._registry._look_at > began + 30
        result = call(settings_of(tmp_path, address, prefix), "set", "s1/d1")
        assert isinstance(result.exception, BusUnavailable)
        assert "topics --apply" in str(result.exception)
    finally:
        process.close()

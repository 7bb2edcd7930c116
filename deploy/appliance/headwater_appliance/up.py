"""`headwater up`: agent and cloud side as processes of their own on this box."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from headwater_appliance.answers import Answers
from headwater_appliance.box import Box, box_of
from headwater_appliance.log_file import LogFile
from headwater_appliance.service import Service
from headwater_appliance.supervise import Budget, Part, Supervisor, python, stops_on_signals
from headwater_appliance.up_settings import UpSettings
from headwater_cloud.influx_settings import check as check_influx
from headwater_cloud.notify_settings import check_zones, read_routes
from headwater_cloud.settings import CloudSettings
from headwater_edge.settings import EdgeSettings
from headwater_shared.errors import SettingsError
from headwater_shared.kafka_settings import KafkaSettings, is_kafka
from headwater_shared.kafka_settings import check as check_kafka
from headwater_shared.logs import configure, get_logger
from headwater_shared.reload import Running, Wish, write_running
from headwater_shared.settings import Common, duration, load, size

log = get_logger()

_TELL_S = 1.0
"""How often is looked whether the service manager is to be told something."""


class Checked(NamedTuple):
    """The settings of a whole box."""

    common: Common
    edge: EdgeSettings
    cloud: CloudSettings
    up: UpSettings


def parts(settings: Path | None, checked: Checked | None = None) -> list[Part]:
    """Return the processes of one box; with the settings, whether they answer is watched too."""
    box = box_of(settings)
    edge, cloud = agent(settings), cloud_side(settings, box)
    sink = sink_of(settings, box)
    if checked is None:
        return [edge, *cloud, *sink]
    limit_s = duration(checked.up.unanswered) / 1e6
    places = [process.place for process in box.cloud_processes]
    return [
        edge._replace(answers=Answers(box.edge_place, checked.edge.health_host, limit_s)),
        *(
            part._replace(answers=Answers(place, checked.cloud.health_host, limit_s))
            for part, place in zip(cloud, places, strict=True)
        ),
        *(
            part._replace(answers=Answers(process.place, checked.cloud.health_host, limit_s))
            for part in sink
            if (process := box.sink_process) is not None
        ),
    ]


def agent(settings: Path | None, name: str = "edge") -> Part:
    """Return the agent of some settings."""
    return Part(name, python("headwater_edge", *([str(settings)] if settings else [])))


def cloud_side(settings: Path | None, box: Box) -> list[Part]:
    """Return the process of the cloud side, or its workers."""
    command = python("headwater_cloud", *([str(settings)] if settings else []))
    if not box.cloud.workers:
        return [Part("cloud", command)]
    return [
        Part(process.name, [*command, "--slot", str(slot)])
        for slot, process in enumerate(box.cloud_processes, 1)
    ]


def sink_of(settings: Path | None, box: Box) -> list[Part]:
    """Return the process that writes into InfluxDB, if the settings have one: no other part ends with it."""
    if box.sink_process is None:
        return []
    command = python("headwater_cloud", "--sink", *([str(settings)] if settings else []))
    return [Part(box.sink_process.name, command, beside=True)]


def check(settings: Path | None) -> Checked:
    """Read and check every table of a box, so that a mistake is told once and before anything starts.

    Raises:
        SettingsError: naming file, line and key.
    """
    from headwater_edge.checked import check as check_edge
    from headwater_edge.checked import read

    edge, cloud = read(settings), load(settings, "cloud", CloudSettings)
    check_edge(edge)
    cloud.kept()
    read_routes(
        cloud.notify, cloud.notifications, secrets=False
    )  # the addresses are the cloud side's to check
    check_zones(cloud.zones)
    if cloud.influx.url:
        check_influx(cloud.influx)
    if cloud.workers and not is_kafka(cloud.bus):
        raise SettingsError(
            f"cloud.workers = {cloud.workers}, and the bus of the cloud side is the file {cloud.bus}, which one process reads",
            hint='set workers = 0, or bus = "kafka://host:9092" in [cloud] and [edge]',
        )
    kafka = load(settings, "kafka", KafkaSettings)
    for bus in filter(is_kafka, (edge.bus, cloud.bus)):
        check_kafka(bus, kafka)
    return Checked(load(settings, "common", Common), edge, cloud, load(settings, "up", UpSettings))


def environment(common: Common) -> dict[str, str]:
    """Return what the parts must agree on: a scaled clock begins now, for all of them."""
    if "@" in common.clock or not common.clock.startswith("scaled"):
        return {}
    return {
        "HEADWATER_CLOCK": os.environ.get(
            "HEADWATER_CLOCK", f"{common.clock}@{datetime.now(UTC).isoformat()}"
        )
    }


def up(settings: Path | None) -> int:
    """Run agent and cloud side until a signal; return the exit code."""
    wish = Wish()
    checked = check(settings)
    common, own = checked.common, checked.up
    data = Path(common.data)
    log_file = None
    if own.log_file is not None:
        log_file = LogFile(data / own.log_file, size(own.log_size), own.log_files)
    stream = log_file.stream() if log_file is not None else None
    configure(common.log, common.log_level, part="up", stream=stream)
    data.mkdir(parents=True, exist_ok=True)

    def ready() -> None:  # not before: another `up` may run on this folder, and it is the one that is meant
        write_running(data, "up", Running(os.getpid(), {"up": msgspec.to_builtins(own)}))

    async def keep() -> int:
        kept = parts(settings, checked)
        supervisor = Supervisor(
            kept,
            environment(common),
            budget=Budget(own.restarts, duration(own.within) / 1e6),
            log_file=log_file,
        )
        stops_on_signals(supervisor)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _hung_up(supervisor, wish))
        needed = {part.name for part in kept if not part.beside}
        telling = asyncio.ensure_future(_tell(supervisor, needed, Service(), ready))
        try:
            return await supervisor.run()
        finally:
            telling.cancel()

    try:
        return asyncio.run(keep())
    finally:
        if log_file is not None:
            log_file.close()


def _hung_up(supervisor: Supervisor, wish: Wish) -> Callable[[], None]:
    def hung_up() -> None:
        if wish.is_end():
            supervisor.stop()
        else:
            supervisor.hang_up()

    return hung_up


async def _tell(
    supervisor: Supervisor, needed: set[str], service: Service, when_ready: Callable[[], None]
) -> None:
    """Tell the service manager, and `when_ready`, once that all that is needed is ready; and the manager again and again that this loop goes round."""
    ready = stopping = False
    wait_s = min(_TELL_S, service.watchdog_s / 3) if service.watchdog_s else _TELL_S
    while True:
        if not ready and supervisor.ready >= needed:
            ready = True
            when_ready()
            service.say(READY="1", STATUS="agent and cloud side run")
        if supervisor.stopping and not stopping:
            stopping = True
            service.say(STOPPING="1", STATUS="ending")
        if service.watchdog_s:
            service.say(WATCHDOG="1")
        await (asyncio.sleep(wait_s) if stopping else supervisor.or_stop(wait_s))  # parts may end at once

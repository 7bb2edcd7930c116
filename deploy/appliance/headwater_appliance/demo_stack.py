"""What stands around Headwater in `headwater demo --stack`: a broker before it, a store, Prometheus and Alertmanager behind it; started, and ended by pid."""

from __future__ import annotations

import asyncio
import getpass
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from headwater_appliance import demo_stack_settings as settings_of
from headwater_appliance.demo_kafka import why
from headwater_appliance.demo_stack_hook import Hook
from headwater_appliance.demo_where import place
from headwater_appliance.stack_servers import Alertmanager, Influx, Prometheus, Server, find
from headwater_appliance.supervise import Part, Supervisor
from headwater_shared.errors import PartMissing, TryAgain

_READY_S = 60.0


class Mosquitto(Server):
    """The broker that a site already has, with sessions that outlive it."""

    program, package = "mosquitto", "mosquitto"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        settings = settings_of.MOSQUITTO.format(user=getpass.getuser(), port=self.port, folder=folder)
        (folder / "mosquitto.conf").write_text(settings)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [self.executable, "-c", str(self.folder / "mosquitto.conf")]

    def answers(self) -> bool:
        """Ask whether it takes connections."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


class Stack(NamedTuple):
    """The servers of a demo, and the webhook behind them."""

    broker: Mosquitto
    store: Influx
    prometheus: Prometheus
    alertmanager: Alertmanager
    hook: Hook

    def lines(self) -> list[str]:
        """Say where each is found."""
        return [
            place("InfluxDB", f"{self.store.url}  (influx -port {self.store.port})"),
            place("Prometheus", self.prometheus.url),
            place("Alertmanager", self.alertmanager.url),
        ]

    def settings(self) -> str:
        """Return the settings of the cloud side that name what stands behind it."""
        return settings_of.BEHIND.format(store=self.store.url, alertmanager=self.alertmanager.url)

    def scrape(self, ports: dict[str, int]) -> None:
        """Tell Prometheus what to scrape: the health port of each process, by name."""
        targets = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"part": _part_of(name)}}
            for name, port in ports.items()
        ]
        file = self.prometheus.folder / settings_of.TARGETS
        partly = file.with_suffix(".new")
        partly.write_bytes(msgspec.json.encode(targets))
        partly.replace(file)


def _part_of(process: str) -> str:
    return "sink" if process == "sink" else "cloud" if process.startswith("worker") else "edge"


_NEEDED = ((Mosquitto, "Mosquitto"), (Influx, "InfluxDB"), (Prometheus, "Prometheus"), (Alertmanager, "Alertmanager"))  # fmt: skip


def programs() -> None:
    """See that every program is on this machine.

    Raises:
        PartMissing: some are not; the hint names all their packages.
    """
    missing: list[str] = []
    for kind, _ in _NEEDED:
        try:
            find(kind.program, kind.package)
        except PartMissing:
            missing.append(kind.package)
    if missing:
        raise PartMissing(
            f"not on this machine: {', '.join(missing)}", hint=f"sudo apt-get install {' '.join(missing)}"
        )


@asynccontextmanager
async def stack(folder: Path, say: Callable[[str], None]) -> AsyncIterator[Stack]:
    """Run all of them while the block lasts.

    Args:
        folder: for all that is theirs; made.
        say: is told of each that answers.

    Raises:
        TryAgain: one does not answer.
        PartMissing: this is no checkout.
    """
    folders = {kind: folder / kind.__name__.lower() for kind, _ in _NEEDED}
    for one in folders.values():
        one.mkdir(parents=True)
    with Hook() as hook:
        alertmanager = Alertmanager(folders[Alertmanager], settings_of.alertmanager(hook.url))
        where = f"127.0.0.1:{alertmanager.port}"
        prometheus = Prometheus(folders[Prometheus], settings_of.prometheus(folders[Prometheus], where))
        found = Stack(Mosquitto(folders[Mosquitto]), Influx(folders[Influx]), prometheus, alertmanager, hook)
        found.scrape({})
        with (folder / "log").open("ab") as out:
            servers: list[Server] = [found.broker, found.store, prometheus, alertmanager]
            parts = [Part(type(one).__name__.lower(), one.command()) for one in servers]
            supervisor = Supervisor(parts, out=out)
            running = asyncio.ensure_future(supervisor.run())
            try:
                names = dict(_NEEDED)
                await asyncio.gather(
                    *(_answers(one, names[type(one)], supervisor, folder / "log", say) for one in servers)
                )
                yield found
            finally:
                supervisor.stop()
                await running


async def _answers(
    server: Server, name: str, supervisor: Supervisor, log: Path, say: Callable[[str], None]
) -> None:
    began = time.monotonic()
    while not await asyncio.to_thread(server.answers):
        if supervisor.restarts or time.monotonic() > began + _READY_S:
            said = why(log.read_text(errors="replace"))  # noqa: ASYNC240 - it is the end
            raise TryAgain(f"{name} does not start: {said}\n(all of it is in {log})")
        await asyncio.sleep(0.1)
    say(place(f"{name} answers", f"after {time.monotonic() - began:.1f} s"))

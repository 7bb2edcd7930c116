"""The agent's process: settings in, listener and agent up, until a signal or a failure."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from headwater_edge import aside, device_list, health, metrics, open_commands, statuses, words
from headwater_edge.about import about_of
from headwater_edge.broker import Broker
from headwater_edge.brokers import attach_brokers, passwords_of, with_status, with_troubles
from headwater_edge.checked import read
from headwater_edge.detection.key import FileSeal, key_path
from headwater_edge.detection.onnx_kept import MODELS
from headwater_edge.detection.told import told
from headwater_edge.letter_office import LetterOffice
from headwater_edge.listener import Listener
from headwater_edge.opening import is_damage
from headwater_edge.pipeline import Agent
from headwater_edge.places import ADOPT, FILE, PLACE, SOCKET
from headwater_edge.put_out import check_put_out
from headwater_edge.reload import Reloading
from headwater_edge.settings import EdgeSettings
from headwater_edge.showing import show
from headwater_edge.users import Users
from headwater_shared import extras, tracing
from headwater_shared.buses import opener
from headwater_shared.clock import Clock, RealClock, parse_clock
from headwater_shared.errors import HeadwaterError, Refused, StartAgain
from headwater_shared.health import Pulse, serve
from headwater_shared.kafka_settings import KafkaSettings
from headwater_shared.logs import configure, get_logger
from headwater_shared.reload import Wish
from headwater_shared.settings import Common, load, secret

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from headwater_edge.http_source import HttpSource
    from headwater_shared.agent_status import AgentStatus

log = get_logger()

_BEAT_S = 1.0
"""How often the loop shows that it goes round; `headwater up` ends a process whose loop stands still."""


async def run(
    common: Common,
    settings: EdgeSettings,
    *,
    kafka: KafkaSettings | None = None,
    adopt: bool = False,
    file: Path | None = None,
    wish: Wish | None = None,
) -> None:
    """Run until SIGTERM or SIGINT, or until the agent's writer fails; SIGHUP reads the settings of `file` again.

    Raises:
        HeadwaterError: it cannot start.
        sqlite3.Error: a commit's outcome is unknown: start again from the file (R11).
    """
    broker_passwords = passwords_of(settings.broker)
    check_put_out(settings)
    data = Path(common.data)
    data.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - before anything waits for the loop
    clock = parse_clock(os.environ.get("HEADWATER_CLOCK", common.clock))
    passwords = {name: secret(value) for name, value in settings.users.items()}
    users = Users(data / settings.users_file, passwords, settings.grants)
    open_bus = opener(settings.bus, data, kafka or KafkaSettings())
    MODELS.look_beside(data / FILE, keep=True)
    seal = FileSeal(key_path(data, settings.state_key), settings.name)
    tracing.configure(common.otel, "edge", settings.name)
    agent = Agent(settings, data / FILE, clock, open_bus, _version(), adopt=adopt, seal=seal)
    registry = metrics.registry(agent)
    numbers = count(1)
    sessions = agent.state.sessions
    listener = agent.attach(
        lambda deliver: Listener(
            settings.listener,
            users,
            clock,
            numbers,
            deliver,
            registry=registry,
            connections_for=sessions.connections_for,
            qos_of=sessions.qos_of,
        )
    )
    listener.sockets.admission.allowed = agent.index.allowed
    http = _http(agent, settings, users, clock, numbers, registry) if settings.http.port is not None else None
    brokers = attach_brokers(
        agent, settings.name, settings.broker, broker_passwords, clock, numbers, registry, settings.act
    )
    agent.forward.statuses.tell = partial(_told, agent, registry)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    reloading = Reloading(agent, users, common, settings, file, wish)
    await agent.start()
    loop.set_exception_handler(_unexpected(agent))
    async with AsyncExitStack() as open_parts:
        open_parts.callback(tracing.close)
        open_parts.push_async_callback(agent.close)
        pulse = Pulse()
        served = serve(
            settings.health_host,
            settings.health_port,
            lambda: with_troubles(health.health(agent), brokers) | {"last_turn_s": pulse.last_turn_s},
            registry,
        )
        open_parts.callback(served.close)
        open_parts.callback(asyncio.ensure_future(_beat(pulse)).cancel)
        open_parts.callback(users.close)
        open_parts.push_async_callback(listener.close)
        await listener.start()
        if http is not None:
            open_parts.push_async_callback(http.close)
            await http.start()
        for broker in brokers:
            open_parts.push_async_callback(broker.close)
            broker.start()
        shown = partial(show, listener.sockets, sessions.readers_of)
        agent.put_out.start(data / FILE, shown, broker_passwords, about_of(settings, data), _version())
        open_parts.push_async_callback(agent.put_out.close)
        office = LetterOffice(agent, data / FILE)
        heard = await words.listen(data / SOCKET, _words(agent, office, brokers, reloading, clock))
        open_parts.callback(heard.close)
        where = {"mqtt": listener.port, "mqtts": listener.tls_port, "health": served.port}
        where |= {"http": http.port} if http is not None else {}
        reloading.write()
        reloading.start()
        _say_where(data / PLACE, where)
        log.info("ready", **where, file=str(data / FILE), tick=agent.committed)
        stopping = asyncio.ensure_future(stop.wait())
        both: set[asyncio.Future[Any]] = {stopping, agent.failed}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if agent.failed.done():
            agent.failed.result()
    log.info("ended", tick=agent.committed)


def _told(agent: Agent, registry: CollectorRegistry) -> AgentStatus:
    """Make a status frame; called in the forwarder's thread."""
    devices = list(agent.state.device_numbers)
    return statuses.status(agent.state.settings.agent, agent.clock.now().wall_us, devices, registry)


async def _beat(pulse: Pulse) -> None:
    while True:
        pulse.beat()
        await asyncio.sleep(_BEAT_S)


def _unexpected(agent: Agent) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """End the process when one of its callbacks fails.

    A burst may be half taken in, a commit never reported: going on, the agent would hold devices back for ever. What
    was not acknowledged comes again to the next process (R11).
    """

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        error = context.get("exception")
        if error is not None and "handle" in context and not agent.failed.done():
            agent.failed.set_exception(error)

    return handle


def _words(
    agent: Agent, office: LetterOffice, brokers: Sequence[Broker], reloading: Reloading, clock: Clock
) -> dict[str, words.Word]:
    async def flush(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"tick": await agent.flush()}

    async def status(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return with_status(health.status(agent), brokers) | {"reload": reloading.last}

    async def commands(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return open_commands.told(agent.state.commands, agent.courier.waiting)

    async def devices(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return device_list.listed(agent.state, clock.now())

    async def detectors(request: Mapping[str, Any]) -> Mapping[str, Any]:
        return told(agent.state.detection, str(request.get("series", "*")), int(request.get("most", 1000)))

    async def replay(request: Mapping[str, Any]) -> Mapping[str, Any]:
        taken, refused = await office.replay(_letters(request))
        return {"taken": taken, "refused": refused}

    async def purge(request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"gone": await office.purge(_letters(request))}

    async def try_alert(request: Mapping[str, Any]) -> Mapping[str, Any]:
        name, agent_name = str(request.get("alert", "")), agent.state.settings.agent
        return {"alerts": await agent.put_out.alerts.try_out(name, agent_name, RealClock().now().wall_us)}

    return {
        "flush": flush, "status": status, "devices": devices, "commands": commands, "detectors": detectors, "try-alert": try_alert, "replay": replay, "purge": purge,
    }  # fmt: skip


def _letters(request: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Return the dead letters that a word is about.

    Raises:
        Refused: it names them otherwise.
    """
    try:
        return msgspec.convert(request.get("letters"), list[tuple[int, int]])
    except msgspec.ValidationError as error:
        raise Refused(f"letters are a list of [tick, n]: {error}") from None


def _http(
    agent: Agent,
    settings: EdgeSettings,
    users: Users,
    clock: Clock,
    numbers: Iterator[int],
    registry: CollectorRegistry,
) -> HttpSource:
    """Attach HTTP push; its library is imported only here.

    Raises:
        SettingsError, PartMissing: it cannot be had.
    """
    extras.load("httptools", "edge")
    from headwater_edge.http_source import HttpSource
    from headwater_edge.http_users import check_of

    check = check_of(users)
    return agent.attach(
        lambda deliver: HttpSource(
            settings.http,
            check,
            clock,
            numbers,
            deliver,
            anyone=lambda: not users.closed(),
            reads=lambda topic: agent.decode.formats.reads(topic),  # noqa: PLW0108 - others come with a reload
            registry=registry,
        )
    )


def _say_where(place: Path, where: Mapping[str, int]) -> None:
    """Write down where this process listens, whole or not at all, also if the power goes."""
    half = place.with_suffix(".new")
    with half.open("wb") as file:
        file.write(msgspec.json.encode({**where, "pid": os.getpid()}))
        file.flush()
        os.fsync(file.fileno())
    half.replace(place)


def _as_many_files_as_allowed() -> None:
    """Each connection needs a descriptor, and shells give out a thousand, though they allow many more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _version() -> str:
    try:
        return version("headwater")
    except PackageNotFoundError:
        return "unknown"


def _damaged(file: Path, error: Exception) -> StartAgain:
    """Note what was found, so that the next start does not go on with the file."""
    aside.suspect(file, str(error))
    return StartAgain(
        f"{file} is damaged: {error}", hint="the next start sets it aside, and saves what can be read"
    )


def _unknown(file: Path, error: sqlite3.Error) -> StartAgain:
    """What is said of an error of the disk other than a full one (R11)."""
    return StartAgain(
        f"{file}: reading or writing failed, and nobody knows how far it came: {error}",
        hint="what was acknowledged is in the file; look at the disk (dmesg), if it happens again",
    )


def main(arguments: list[str]) -> int:
    """Run the agent with the settings file named, or with the defaults; return the exit code.

    With `--adopt` the state file becomes this device's, whatever it was bound to.
    """
    adopt = ADOPT in arguments
    files = [Path(argument) for argument in arguments if argument != ADOPT]
    wish = Wish()
    try:
        file = files[0] if files else None
        common, settings = load(file, "common", Common), read(file)
        kafka = load(file, "kafka", KafkaSettings)
        configure(common.log, common.log_level, part="edge")
        _as_many_files_as_allowed()
        try:
            asyncio.run(run(common, settings, kafka=kafka, adopt=adopt, file=file, wish=wish))
        except Exception as error:
            state = Path(common.data) / FILE
            if is_damage(error):
                raise _damaged(state, error) from None
            if isinstance(error, sqlite3.Error):
                raise _unknown(state, error) from None
            raise
    except HeadwaterError as error:
        print(f"headwater-edge: {error}", file=sys.stderr)  # noqa: T201 - the last word to a person
        return error.exit_code
    return 0

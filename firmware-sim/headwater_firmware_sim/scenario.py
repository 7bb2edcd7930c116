"""A scenario: which devices there are, what they measure, how they misbehave and what breaks, in one TOML file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec

from headwater_firmware_sim.absence import Absence, WrongClock
from headwater_firmware_sim.faults import BearingWear, Fault
from headwater_firmware_sim.network import Trouble
from headwater_firmware_sim.reactions import Reaction
from headwater_firmware_sim.signals import Signal
from headwater_shared.errors import SettingsError
from headwater_shared.identity import valid_name
from headwater_shared.settings import Duration, Section, duration, load


class Metric(Section, frozen=True, forbid_unknown_fields=True):
    """One quantity: a base, a share of the spread that is the device's own, and the signals, as a sensor rounds it."""

    base: Annotated[float, msgspec.Meta(description="What it is about.")]
    unit: Annotated[str, msgspec.Meta(description="For people.")] = ""
    spread: Annotated[
        float, msgspec.Meta(ge=0, description="Standard deviation of the base from device to device.")
    ] = 0.0
    decimals: Annotated[int, msgspec.Meta(ge=0, le=9, description="Digits behind the point.")] = 2
    low: Annotated[float | None, msgspec.Meta(description="The least that the sensor can say.")] = None
    high: Annotated[float | None, msgspec.Meta(description="The most that the sensor can say.")] = None
    signals: list[Signal] = msgspec.field(default_factory=list)


Devices = Annotated[int, msgspec.Meta(ge=0, description="How many devices in turn use this format.")]
"""`multi`: all values in one JSON message; `single`: a JSON message each; `bare`: the number alone, without a time."""


class Formats(Section, frozen=True, forbid_unknown_fields=True):
    """Which share of the devices sends which kind of payload."""

    multi: Devices = 1
    single: Devices = 0
    bare: Devices = 0


class Misbehaviour(Section, frozen=True, forbid_unknown_fields=True):
    """How often devices misbehave, as a share of their samples."""

    copies: Annotated[
        float,
        msgspec.Meta(ge=0, le=1, description="A timed sample is sent once more, later, as a new message."),
    ] = 0.0
    disorder: Annotated[
        float,
        msgspec.Meta(ge=0, le=1, description="A sample is sent behind the next ones, up to 3 s of them."),
    ] = 0.0
    unreadable: Annotated[
        float, msgspec.Meta(ge=0, le=1, description="Something that nobody can read is sent besides.")
    ] = 0.0
    lost_connections: Annotated[
        float,
        msgspec.Meta(
            ge=0, le=1, description="The socket is dropped; what was in flight is sent again with DUP."
        ),
    ] = 0.0
    reboots: Annotated[
        float,
        msgspec.Meta(
            ge=0, le=1, description="The session is lost; what was in flight is sent again as new messages."
        ),
    ] = 0.0


class Scenario(Section, frozen=True, forbid_unknown_fields=True):
    """The table `[scenario]` of the file."""

    devices: Annotated[int, msgspec.Meta(ge=1, le=1_000_000, description="How many devices there are.")]
    sites: Annotated[
        list[str],
        msgspec.Meta(min_length=1, description="Their sites; device after device goes to the next."),
    ]
    metrics: Annotated[dict[str, Metric], msgspec.Meta(min_length=1, max_length=1000)]
    models: Annotated[
        list[str],
        msgspec.Meta(
            description="Their models, by which devices are peers; each site has as many of each in turn."
        ),
    ] = msgspec.field(default_factory=list)
    about: Annotated[str, msgspec.Meta(description="One line for people.")] = ""
    name: Annotated[str, msgspec.Meta(description="Devices are called so, and a number: pump-001.")] = (
        "device"
    )
    period: Annotated[Duration, msgspec.Meta(description="Between two samples of a device.")] = "1s"
    jitter: Annotated[
        float, msgspec.Meta(ge=0, le=0.5, description="How irregular samples are, as a share of the period.")
    ] = 0.02
    formats: Formats = Formats()
    misbehaviour: Misbehaviour = Misbehaviour()
    faults: list[Fault] = msgspec.field(default_factory=list)
    commands: Annotated[
        dict[str, Reaction], msgspec.Meta(description="What devices do with commands, by their names.")
    ] = msgspec.field(default_factory=dict)
    clocks: list[WrongClock] = msgspec.field(default_factory=list)
    away: list[Absence] = msgspec.field(default_factory=list)
    network: list[Trouble] = msgspec.field(default_factory=list)
    lives: Annotated[
        Duration,
        msgspec.Meta(
            description="How long a device lives; then one with a new name takes its place. Nothing: for ever."
        ),
    ] = "0s"

    def device_name(self, index: int) -> str:
        """Return the name of device 0, 1, ..., which is its MQTT client id too."""
        return f"{self.name}-{index + 1:03d}"

    def site(self, index: int) -> str:
        return self.sites[index % len(self.sites)]

    def model(self, index: int) -> str:
        """Return the model of a device, "" if the scenario has none."""
        return self.models[index // len(self.sites) % len(self.models)] if self.models else ""

    def format(self, index: int) -> str:
        """Return the payload format of a device: `multi`, `single` or `bare`, as many of each in turn as `formats` says."""
        wanted = self.formats
        turn = index % (wanted.multi + wanted.single + wanted.bare)
        if turn < wanted.multi:
            return "multi"
        return "single" if turn < wanted.multi + wanted.single else "bare"


def read(name: str, sites: Sequence[str] = ()) -> Scenario:
    """Read a scenario that ships with the package, by its name, or a file of one's own; `sites` stand in for its own.

    Raises:
        SettingsError: there is none, or something in it is wrong; the message names file, line and key.
    """
    shipped = dict(names())
    path = shipped.get(name, Path(name))
    if name not in shipped and not path.exists():
        raise SettingsError(
            f"there is no scenario {name!r}", hint=f"name one of {', '.join(shipped)}, or a TOML file"
        )
    found = load(path, "scenario", Scenario, known=("scenario",))
    _check_sites(path, found)
    if sites:
        found = msgspec.structs.replace(found, sites=list(sites))
    _check(path, found)
    return found


def names() -> Iterator[tuple[str, Path]]:
    """List the scenarios that ship with the package: name and file."""
    folder = Path(str(resources.files("headwater_firmware_sim"))) / "scenarios"
    for path in sorted(folder.glob("*.toml")):
        yield path.stem, path


def _check(path: Path, found: Scenario) -> None:
    """Refuse what the types cannot say."""
    for name in (found.name, *found.sites, *found.metrics):
        if not valid_name(name):
            raise SettingsError(
                f"{path}: {name!r} cannot be part of a topic", hint="use 1 to 128 characters, no /, + or #"
            )
    if found.formats.multi + found.formats.single + found.formats.bare == 0:
        raise SettingsError(f"{path}: formats gives no device a format", hint="write formats = { multi = 1 }")
    if duration(found.period) <= 0:
        raise SettingsError(f"{path}: period must be longer than nothing", hint='write period = "1s"')
    for name, reaction in found.commands.items():
        _check_reaction(path, found, name, reaction)
    names = [found.device_name(index) for index in range(found.devices)]
    _check_faults(path, found, names)
    for clock in found.clocks:
        _check_device(path, "[[scenario.clocks]]", clock.device, names)
    for absence in found.away:
        _check_device(path, "[[scenario.away]]", absence.device, names)
    for trouble in found.network:
        if not any(trouble.concerns(found.site(index), name) for index, name in enumerate(names)):
            raise SettingsError(
                f"{path}: no device is concerned by the network script of site {trouble.site!r}, device {trouble.device!r}",
                hint=f"sites: {', '.join(found.sites)}; devices: {names[0]} to {names[-1]}",
            )
        _check_order(path, f"a network script ({trouble.kind})", trouble.begin, trouble.end)


def _check_sites(path: Path, found: Scenario) -> None:
    """Refuse faults of sites that the file does not have; those that stand in for its own may be called otherwise."""
    for fault in found.faults:
        if not any(fnmatchcase(site, fault.site) for site in found.sites):
            raise SettingsError(
                f"{path}: a fault names the site {fault.site!r}, which is not there",
                hint=f"sites: {', '.join(found.sites)}",
            )


def _check_reaction(path: Path, found: Scenario, name: str, reaction: Reaction) -> None:
    wrong = next((metric for metric in reaction.towards if metric not in found.metrics), "")
    if wrong:
        raise SettingsError(
            f"{path}: the command {name!r} names the metric {wrong!r}, which is not there",
            hint=f"metrics: {', '.join(found.metrics)}",
        )
    if reaction.ends and reaction.ends not in found.commands:
        raise SettingsError(
            f"{path}: the command {name!r} ends {reaction.ends!r}, which is not there",
            hint=f"commands: {', '.join(found.commands)}",
        )
    if duration(reaction.within) <= 0:
        raise SettingsError(
            f"{path}: within of {name!r} must be longer than nothing", hint='write within = "20s"'
        )


def _check_faults(path: Path, found: Scenario, names: list[str]) -> None:
    for fault in found.faults:
        _check_device(path, "a fault", fault.device, names)
        metrics = [fault.metric, fault.second] if isinstance(fault, BearingWear) else [fault.metric]
        for metric in metrics:
            if metric not in found.metrics and (metric or isinstance(fault, BearingWear)):
                raise SettingsError(
                    f"{path}: a fault names the metric {metric!r}, which is not there",
                    hint=f"metrics: {', '.join(found.metrics)}",
                )
        _check_order(path, f"a fault of {fault.device}", fault.begin, fault.end)


def _check_device(path: Path, what: str, device: str, names: list[str]) -> None:
    if not any(fnmatchcase(name, device) for name in names):
        raise SettingsError(
            f"{path}: {what} names the device {device!r}, which is not there",
            hint=f"they are {names[0]} to {names[-1]}",
        )


def _check_order(path: Path, what: str, begin: str, end: str) -> None:
    if duration(end) <= duration(begin):
        raise SettingsError(f"{path}: {what} ends before it begins", hint="let end be later than begin")

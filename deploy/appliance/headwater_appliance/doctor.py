"""What `headwater doctor` finds: a check a thing that can go wrong, each with its remedy; in the order of a start.

A check only looks. What it measures it measures in a file of its own, which is gone afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from headwater_appliance import doctor_data, doctor_machine, doctor_notify, doctor_running
from headwater_appliance.box import Box, box_of, may_look
from headwater_appliance.findings import Bad, Good, Note, Verdict
from headwater_appliance.up import check as check_settings
from headwater_shared.errors import HeadwaterError

Check = Callable[[Box], Verdict]


class Finding(msgspec.Struct, frozen=True):
    """What a check found."""

    check: str
    verdict: Literal["good", "note", "wrong", "not-checked"]
    text: str
    remedy: str = ""


CHECKS: Sequence[tuple[str, Check]] = (
    ("data-folder", doctor_machine.data_folder),
    ("free-space", doctor_machine.free_space),
    ("disk-speed", doctor_machine.disk_speed),
    ("memory", doctor_machine.memory),
    ("clock", doctor_machine.clock),
    ("file-limit", doctor_machine.file_limit),
    ("ports", doctor_running.ports),
    ("permissions", doctor_machine.permissions),
    ("certificate", doctor_machine.certificate),
    ("sqlite", doctor_data.sqlite),
    ("files", doctor_data.files),
    ("set-aside", doctor_data.set_aside),
    ("agent", doctor_running.agent),
    ("cloud-side", doctor_running.cloud_side),
    ("notify", doctor_notify.notifications),
    ("sink", doctor_running.sink),
    ("forwarding", doctor_running.forwarding),
    ("dead-letters", doctor_data.dead_letters),
    ("broker", doctor_running.broker),
)
"""By name, in the order in which they are made: the machine, then the files, then what runs."""


_SETTINGS = "settings"


def names() -> list[str]:
    """Return what the checks are called."""
    return [_SETTINGS, *(name for name, _ in CHECKS)]


def examine(settings: Path | None, only: Sequence[str] = ()) -> Iterator[Finding]:
    """Make the checks, or only those named, and yield what each found as soon as it is known."""
    try:
        check_settings(settings)
        box = box_of(settings)
    except HeadwaterError as error:
        yield Finding(_SETTINGS, "wrong", error.message, error.hint)
        yield from _not_checked("the settings must be mended first", only)
        return
    if not only or _SETTINGS in only:
        yield Finding(_SETTINGS, "good", f"{settings or 'the defaults'} can be read")
    try:
        may_look(box)
    except HeadwaterError as error:
        yield Finding("data-folder", "wrong", error.message, error.hint)
        yield from _not_checked(
            "this user may not look at the data folder",
            [name for name in only or names() if name != "data-folder"],
        )
        return
    for name, check in CHECKS:
        if not only or name in only:
            yield _made(name, check, box)


def _not_checked(why: str, only: Sequence[str]) -> Iterator[Finding]:
    for name, _ in CHECKS:
        if not only or name in only:
            yield Finding(name, "not-checked", why)


def _made(name: str, check: Check, box: Box) -> Finding:
    try:
        found = check(box)
    except (HeadwaterError, OSError) as error:
        hint = getattr(error, "hint", "")
        return Finding(
            name,
            "wrong",
            f"cannot be checked: {str(error).splitlines()[0]}",
            hint or "see that this user may read the data folder",
        )
    if isinstance(found, Bad):
        return Finding(name, "wrong", found.text, found.remedy)
    if isinstance(found, Note):
        return Finding(name, "note", found.text, found.remedy)
    assert isinstance(found, Good)
    return Finding(name, "good", found.text)

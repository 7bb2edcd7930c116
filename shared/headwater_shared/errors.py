"""Every error of Headwater that someone can act on, grouped by what the caller should do.

    HeadwaterError                 message, and the hint: what the person should do
    |
    +-- NeedsPerson                stop, tell the person, do not start again by yourself        exit code 78
    |   +-- SettingsError          the settings file, an option or a variable must be changed
    |   +-- PartMissing            a library, an extra or a part of the system must be installed
    |   +-- PortInUse              another program listens there
    |   +-- StateError             this process must not touch this state file
    |       +-- StateNewer         it was written by a newer version
    |       +-- StateInUse         another process has it
    |       +-- StateForeign       it is bound to other hardware
    |
    +-- TryAgain                   nothing is known of what was asked for: do the same later    exit code 75
    |   +-- BusUnavailable         the bus did not take it, or did not say so
    |
    +-- StartAgain                 what is in memory may differ from the file: exit, start from the file (R11)   75
    |   +-- BusReplaced            the bus is another one than was opened: what is known of it holds no longer
    |
    +-- Refused                    what was asked for is not done; say so to who asked, all else goes on     exit code 1
    |
    +-- Unreadable                 these bytes go to the dead letters with the reason; all else goes on

A supervisor starts again what ended with any other code than 78. Programming errors are not in this tree.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class HeadwaterError(Exception):
    """What went wrong, in one sentence that names the thing, and what the person should do about it."""

    exit_code: ClassVar[int] = 1
    """What a command exits with when this reaches the top."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Message and hint, the hint on a line of its own."""
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class NeedsPerson(HeadwaterError):
    """Only a person can change this: stop, and do not start again."""

    exit_code = 78  # EX_CONFIG of sysexits.h


class SettingsError(NeedsPerson):
    """A setting, an option or a variable is wrong; the message names the file, the line and the key."""


class PartMissing(NeedsPerson):
    """A library or a part of the system is not installed; the hint is the line that installs it."""


class PortInUse(NeedsPerson):
    """The address is taken by another program."""


class StateError(NeedsPerson):
    """This process must not touch this state file; nothing was changed in it."""


class StateNewer(StateError):
    """The state file was written by a newer version of Headwater."""


class StateInUse(StateError):
    """Another process has the state file open for writing."""


class StateForeign(StateError):
    """The state file is bound to other hardware (R6)."""


class TryAgain(HeadwaterError):
    """Whether it was done is not known: do exactly the same again, later."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class BusUnavailable(TryAgain):
    """The bus did not take the records, or did not say that it did: append the same records again."""


class StartAgain(HeadwaterError):
    """A commit failed in a way that leaves its outcome unknown: exit, and start again from the file (R11)."""

    exit_code = 75


class BusReplaced(StartAgain):
    """Where the bus was is another one, or none: offsets and what was sent are about the one that is gone."""


class Refused(HeadwaterError):
    """What was asked for is not done, and asking again changes nothing; all else goes on."""


class Unreadable(HeadwaterError):
    """Bytes that cannot be read: a dead letter. `reason` is the short word that dead letters are counted by."""

    def __init__(self, message: str, *, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


def cannot_listen(host: str, port: int, error: OSError) -> NeedsPerson:
    """What a person should do when an address cannot be bound; the caller raises it from `error`."""
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return PortInUse(
            f"{where} is taken by another program",
            hint=f"is Headwater running already? `ss -ltnp 'sport = :{port}'` shows who listens; or set another port",
        )
    if error.errno == errno.EACCES:
        return SettingsError(f"{where} needs rights that this user lacks", hint="choose a port from 1024 on")
    return SettingsError(
        f"{where} cannot be listened on: {error.strerror or error}", hint="check the host in the settings"
    )

"""Room for a socket a device: the limit of open files is raised as far as it may be, or it is said what a person must do."""

from __future__ import annotations

import resource

from headwater_shared.errors import SettingsError

_BESIDES = 64
"""Files that are open besides: the ledger, libraries, pipes."""


def make_room(devices: int) -> None:
    """Raise this process's limit of open files to what so many devices need.

    Raises:
        SettingsError: it may not be raised so far.
    """
    wanted = devices + _BESIDES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        most = wanted if hard == resource.RLIM_INFINITY else max(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    except (ValueError, OSError):
        raise SettingsError(
            f"{devices:,} devices need {wanted:,} open files, and this process may have {hard:,}",
            hint=f"`ulimit -Hn {wanted}` as root before, or LimitNOFILE={wanted} in its unit, or fewer --devices",
        ) from None

"""The systemd unit: `headwater up` as a service that is told ready, watched, reloaded and kept from what it does not need."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_UNIT = """\
# Made by `headwater systemd`. Install it, as root:
#   headwater systemd --settings {settings} > /etc/systemd/system/headwater.service
#   systemctl daemon-reload && systemctl enable --now headwater
# Then: systemctl status headwater, journalctl -u headwater -f, systemctl reload headwater
[Unit]
Description=Headwater: sensor readings from devices to decisions
Wants=network-online.target
After=network-online.target time-sync.target
# Headwater counts restarts itself; this never gives up for good.
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStartPre=+/usr/bin/install -d -m 0750 -o {user} {data}
ExecStartPre=+/usr/bin/install -d -m 0700 -o {user} {key}
ExecStart={command} up --settings {settings}
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory={folder}
User={user}
Environment=PYTHONUNBUFFERED=1
# Passwords that the settings name as "env:NAME" stand here, one NAME=... a line, readable by root only.
EnvironmentFile=-/etc/headwater/environment
NotifyAccess=main
# A start may run a journal again, or salvage a damaged file.
TimeoutStartSec=30min
WatchdogSec=60
# All is ended cleanly within 20 s; what is not acknowledged by then comes again.
TimeoutStopSec=40
KillMode=mixed
Restart=always
RestartSec=10
# 78: only a person can mend it (settings, a port that is taken, a file of a newer version). See the journal.
RestartPreventExitStatus=78
LimitNOFILE=65536
OOMScoreAdjust=-500

# It writes its data folder, and the key beside it that state is signed with, and nothing else.
ReadWritePaths=-{data} -{key}
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0027

[Install]
WantedBy=multi-user.target
"""


def unit(settings: Path, data: Path, user: str, ports: list[int]) -> str:
    """Return the text of a unit.

    Args:
        settings: the settings file; the service starts in its folder.
        data: the data folder, relative to that one, or absolute.
        user: who it runs as.
        ports: that it listens on: one below 1024 needs a capability.
    """
    settings = settings.absolute()
    whole = settings.parent / data
    homes = [Path("/home"), Path("/root"), Path("/run/user")]
    paths = (settings, whole, Path(sys.executable))
    # What lies in a home must be seen there; else homes are empty to it.
    in_home = any(home in path.parents for home in homes for path in paths)
    return _UNIT.format(
        settings=_word(settings),
        command=_word(command()),
        folder=str(settings.parent).replace("%", "%%"),
        data=_word(whole),
        key=_word(whole.with_name(f"{whole.name}-key")),
        user=user,
        home="read-only" if in_home else "yes",
        capabilities="CAP_NET_BIND_SERVICE" if any(0 < port < 1024 for port in ports) else "",
    )


def command() -> Path:
    """Return the path of the command `headwater` of this installation."""
    return Path(os.path.abspath(sys.executable)).parent / "headwater"  # noqa: PTH100 - a link into the environment stays one


def _word(path: Path) -> str:
    """Write a path as a unit file has it."""
    text = str(path).replace("%", "%%")
    return f'"{text}"' if any(char.isspace() for char in text) else text

"""What systemd is told: that all is ready, that this process lives, that it ends (`sd_notify`, one datagram each)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class Service:
    """The service manager that started us; nothing where none did."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        wanted_us = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self.watchdog_s = int(wanted_us) / 1e6 if wanted_us.isdigit() and mine and name else 0.0
        """It must hear of us at least so often; 0: it does not wait for that."""

    def say(self, **words: str) -> None:
        """Tell it something, such as `say(READY="1", STATUS="...")`; it may be gone, which is no trouble of ours."""
        if not self._address:
            return
        text = "\n".join(f"{name}={value}" for name, value in words.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as talk:
            talk.setblocking(False)
            talk.sendto(text.encode(), self._address)

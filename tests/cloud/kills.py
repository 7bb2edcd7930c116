"""kill -9 of the cloud side's process at any of its steps: what lies on the disk at that moment is all that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection

import pytest

from headwater_cloud import alertmanager, notify_store, posted, publish, runner, send_file
from headwater_cloud.store import Store
from headwater_shared import sqlite_log
from tests.cloud.side import copied


class Killed(BaseException):
    """The process is no more. Nothing catches this."""


class Steps:
    """The steps that a process passes: the named ones of `headwater_shared.crash`, and each commit of its file."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.passed: list[str] = []
        self._at = -1
        self._from = self._to = Path()
        for module in (runner, publish, sqlite_log, notify_store, send_file, posted, alertmanager):
            patch.setattr(module, "reached", self._reached)
        whole = Store.transaction

        @contextmanager
        def transaction(store: Store) -> Iterator[Connection]:
            with whole(store) as connection:
                yield connection
                self._reached("store.before")
            self._reached("store.after")

        patch.setattr(Store, "transaction", transaction)

    def killed(self, run: Callable[[], None], folder: Path, at: int, to: Path) -> Path | None:
        """Run, and die at step number `at`, counted from 0.

        Returns:
            The files as the kill left them, copied `to` there; None if it came to its end first.
        """
        self.passed.clear()
        self._at, self._from, self._to = at, folder, to
        try:
            run()
        except Killed:
            return to
        finally:
            self._at = -1
        return None

    def _reached(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) == self._at + 1:
            copied(self._from, self._to)
            raise Killed(name)

"""What a route of kind "alertmanager" has posted, in the courier's file: by it a later process knows what is to be resolved."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from headwater_cloud.notify_store import NotifyStore
from headwater_shared.crash import reached


class Posted(NamedTuple):
    """One set of labels. Times are real ones, in microseconds, for Alertmanager lives in real time."""

    labels: str
    """JSON, in one order."""
    alert: str
    """The alert that it was posted for last."""
    begin_us: int
    over_us: int | None
    """Since when it is over, or no longer sent; None: it fires."""
    taken_us: int | None
    """When Alertmanager took that it is over."""


def load(store: NotifyStore, route: str) -> dict[str, Posted]:
    """Read what a route has posted, by labels."""
    rows = store.rows(
        "SELECT labels, alert, begin_us, over_us, taken_us FROM posted WHERE route = ? ORDER BY labels", route
    )
    return {str(row[0]): Posted(*row) for row in rows}  # type: ignore[arg-type]


def save(store: NotifyStore, route: str, rows: Iterable[Posted], gone: Iterable[str] = ()) -> None:
    """Write rows, and forget some labels, in one commit: before a first post, so that nothing fires there that nobody here knows of."""
    with store.transaction() as connection:
        connection.executemany(
            "INSERT OR REPLACE INTO posted VALUES (?, ?, ?, ?, ?, ?)", [(route, *row) for row in rows]
        )
        connection.executemany(
            "DELETE FROM posted WHERE route = ? AND labels = ?", [(route, labels) for labels in gone]
        )
    reached("cloud.alertmanager.noted")


def only(store: NotifyStore, routes: Collection[str]) -> None:
    """Forget what other routes have posted: there are none that would resolve it, and it ends there within the hour."""
    with store.transaction() as connection:
        connection.execute(
            f"DELETE FROM posted WHERE route NOT IN ({', '.join('?' * len(routes))})", tuple(routes)
        )

"""The cloud side's process: settings in, the runner's loop, until a signal or a failure."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headwater_cloud import changes, maintenance, worker
from headwater_cloud.agents_shown import AgentsShown
from headwater_cloud.notifying import Notifying, count_in, kept
from headwater_cloud.place import say_where
from headwater_cloud.reload import Reloading
from headwater_cloud.runner import Runner
from headwater_cloud.settings import CloudSettings, in_data
from headwater_cloud.shard_metrics import ShardMetrics
from headwater_cloud.store import Store, damaged
from headwater_shared import health, logs, registry, tracing
from headwater_shared.buses import opener
from headwater_shared.clock import parse_clock
from headwater_shared.errors import BusUnavailable, HeadwaterError, TryAgain
from headwater_shared.identity import SHARDS
from headwater_shared.kafka_settings import KafkaSettings, is_kafka
from headwater_shared.reload import Wish
from headwater_shared.settings import Common, duration, load
from headwater_shared.spread_settings import spread_of
from headwater_shared.sqlite_file import says_damaged
from headwater_shared.sqlite_log import wall_us
from headwater_shared.stop import Stop
from headwater_shared.topics import IN

log = logs.get_logger()

PLACE = "cloud.json"
"""In the data folder: where the process answers (for those who asked for any free port)."""

_CLOCK_S = 1.0
_PRUNE_S = 30.0
_AFTER_TROUBLE_S = 1.0


class Process:
    """The runner, what it writes to, and the little that is done by the clock on the wall."""

    def __init__(
        self,
        common: Common,
        settings: CloudSettings,
        file: Path | None = None,
        wish: Wish | None = None,
        *,
        kafka: KafkaSettings | None = None,
    ) -> None:
        data = Path(common.data)
        data.mkdir(parents=True, exist_ok=True)
        self._data = data
        self.stop = Stop()
        self.trouble = ""
        """Why the last step did not work, for `/health`."""
        self.steps = 0
        self.pulse = health.Pulse()
        self.lag = 0
        self.reloading = Reloading(common, settings, file, wish)
        self._go_by(settings)
        tracing.configure(common.otel, "cloud")
        clock = parse_clock(os.environ.get("HEADWATER_CLOCK", common.clock))
        notifying = Notifying(common, settings, clock)
        open_bus = opener(settings.bus, data, kafka or KafkaSettings())
        cloud_file = in_data(common.data, settings.file)
        self._store = Store(cloud_file)
        with self._store.transaction() as connection:
            changes.register(connection, wanted=bool(settings.influx.url))
        self.courier = notifying.courier()
        self.pages = notifying.pages(self.courier, open_bus)
        self._bus = open_bus()
        self.courier.begin()
        self.runner = Runner(
            self._bus,
            self._store,
            clock,
            batch=settings.batch,
            limits=settings.limits(),
            log_identity=self._identity(),
            registry_file=data / registry.FILE,
            spread=spread_of(settings.spread),
            told=self.courier.wake,
            book=settings.book(),
            maintenance=maintenance.looking(data / maintenance.FILE, clock),
        )
        count_in(self.runner.metrics, self.courier)
        self.runner.metrics.registry.register(
            ShardMetrics(cloud_file, self.runner.shards, clock, self.health)
        )
        self.agents = AgentsShown(cloud_file, lambda: range(SHARDS))
        self._clock_at = self._prune_at = time.monotonic()

    def _identity(self) -> str:
        """Return which bus this is; Kafka may come later than we do, or be there and not yet have its leaders."""
        while True:
            try:
                self._bus.ends(IN.name)
                return self._bus.identity
            except BusUnavailable as error:
                if not is_kafka(self._settings.bus):
                    raise
                log.warning("waiting for the bus", error=error)
                self.stop.wait(_AFTER_TROUBLE_S)

    def _go_by(self, settings: CloudSettings) -> None:
        self._settings = settings
        self._wait_s = duration(settings.wait) / 1e6
        self._keep = kept(settings, self._data)

    def turn(self) -> None:
        """One turn of the loop: a step, and what is due, whatever became of the step; then a rest, unless there is more."""
        self.pulse.beat()
        if self.reloading.once():
            self._go_by(self.reloading.settings)
            self.runner.follow(self._settings.batch, self._settings.limits())
            self.runner.rules.follow(self._settings.book())
        troubles: list[str] = []
        read = _tried(self.runner.step, troubles)
        # Time must go on, and the log must not grow, while the bus takes nothing, say.
        _tried(self._do_what_is_due, troubles)
        self.trouble = "; ".join(dict.fromkeys(troubles))
        if troubles:
            rest = _AFTER_TROUBLE_S
        else:
            self.steps += 1
            rest = 0.0 if read >= self._settings.batch else self._wait_s
        if rest:
            self.stop.wait(rest)

    def _do_what_is_due(self) -> int:
        now = time.monotonic()
        if now >= self._clock_at:
            self.runner.append_clock()
            self._clock_at = max(self._clock_at + _CLOCK_S, now)
        if now >= self._prune_at and not self.runner.prune(self._keep):
            self.runner.read_for_good()
            self._bus.retain(wall_us())
            self._prune_at = now + _PRUNE_S
        self.runner.look_at_registry()
        self.runner.look_at_rules()
        self.lag = self.runner.lag()
        self.runner.metrics.lag.set(self.lag)
        return self.lag

    def health(self) -> Mapping[str, Any]:
        """What `/health` and `/ready` say."""
        return {
            "ready": self.steps > 0,
            "reasons": [*([self.trouble] if self.trouble else []), *self.courier.troubles()],
            "lag_records": self.lag,
            "notify": self.courier.status(),
            "last_turn_s": self.pulse.last_turn_s,
        } | ({"reload": self.reloading.last} if self.reloading.last else {})

    def close(self) -> None:
        try:
            self.runner.close()
        except TryAgain as error:
            log.warning("ending with work left, which waits in the file", error=error)
        finally:
            self.courier.close()
            self._bus.close()
            self._store.close()
            self.stop.close()
            tracing.close()


def _tried(act: Callable[[], int], troubles: list[str]) -> int:
    try:
        return act()
    except TryAgain as error:
        log.warning("trying again", error=error)
        troubles.append(error.message)
        return 0


def run(
    common: Common,
    settings: CloudSettings,
    file: Path | None = None,
    wish: Wish | None = None,
    *,
    kafka: KafkaSettings | None = None,
) -> None:
    """Run until SIGTERM or SIGINT, which end it after the current commit; SIGHUP reads the settings of `file` again.

    Raises:
        NeedsPerson: it cannot start.
        StartAgain: a commit failed: start again from the file.
    """
    process = Process(common, settings, file, wish, kafka=kafka)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.stop.set())
    if wish is not None:
        wish.wake = process.stop.wake
    server = health.serve(
        settings.health_host,
        settings.health_port,
        process.health,
        process.runner.metrics.registry,
        process.pages.pages(),
        process.agents.text,
    )
    process.pages.at(server.port)
    process.courier.start()
    process.reloading.write()
    say_where(Path(common.data) / PLACE, server.port)
    log.info("ready", health=server.port, file=str(in_data(common.data, settings.file)))
    try:
        while not process.stop.is_set():
            process.turn()
    finally:
        server.close()
    process.close()
    log.info("ended")


def main(arguments: list[str]) -> int:
    """Run with the settings file named, or with the defaults, `--slot N` as a worker; return the exit code."""
    wish = Wish()
    try:
        slot = int(arguments.pop()) if "--slot" in arguments else None
        file = Path(arguments[0]) if arguments and arguments[0] != "--slot" else None
        common, settings = load(file, "common", Common), load(file, "cloud", CloudSettings)
        kafka = load(file, "kafka", KafkaSettings)
        logs.configure(common.log, common.log_level, part="cloud")
        try:
            if slot is None:
                run(common, settings, file, wish, kafka=kafka)
            else:
                worker.run(common, settings, kafka, slot, file, wish)
        except sqlite3.DatabaseError as error:
            if not says_damaged(error):
                raise
            raise damaged(in_data(common.data, settings.file), error) from None
    except HeadwaterError as error:
        print(f"headwater-cloud: {error}", file=sys.stderr)  # noqa: T201 (it is the last word to a person)
        return error.exit_code
    return 0

"""One worker of sizes M and L: settings in, the Quix runner, its clock records and its health, until a signal or a failure.

Workers of one group share the shards; each has a slot, which no two live ones may have. Whatever goes wrong ends the
process: what it had in memory is in Kafka, and whoever starts it again (systemd, docker, `headwater up`) loses seconds.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headwater_cloud import clock_records, maintenance
from headwater_cloud.agents_shown import AgentsShown
from headwater_cloud.courier import Courier
from headwater_cloud.notifying import Notifying, count_in, kept
from headwater_cloud.place import say_where
from headwater_cloud.registry_copies import RegistryCopies
from headwater_cloud.rules_copies import RulesCopies
from headwater_cloud.settings import CloudSettings, in_data
from headwater_cloud.shard_metrics import ShardMetrics
from headwater_shared import health, logs, registry, tracing
from headwater_shared.clock import Clock, parse_clock, wall_of
from headwater_shared.errors import BusUnavailable, HeadwaterError, SettingsError, StartAgain
from headwater_shared.extras import load as load_extra
from headwater_shared.kafka_settings import KafkaSettings, connection, is_kafka
from headwater_shared.reload import Wish
from headwater_shared.settings import Common, duration, load
from headwater_shared.spread_settings import spread_of
from headwater_shared.sqlite_file import WriterLock
from headwater_shared.topics import IN

log = logs.get_logger()


_CLOCK_S = 1.0
_WAIT_S = 1.0


def run(
    common: Common,
    settings: CloudSettings,
    kafka: KafkaSettings,
    slot: int,
    file: Path | None = None,
    wish: Wish | None = None,
) -> None:
    """Run until SIGTERM or SIGINT, which end it after the current checkpoint; SIGHUP reads the rules of `file` again.

    Raises:
        NeedsPerson: it cannot start.
        StartAgain: it failed; the next start goes on from the last checkpoint.
    """
    if not is_kafka(settings.bus):
        raise SettingsError(
            f"the bus of the cloud side is the file {settings.bus}, and workers share Kafka's partitions",
            hint='set bus = "kafka://host:9092" in [cloud]; one process on a SQLite log is `headwater-cloud run`',
        )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)  # until the engine has handlers of its own
    client = connection(settings.bus, kafka)
    load_extra("confluent_kafka", "kafka")
    load_extra("rocksdict", "quix")  # quixstreams itself is imported where its warnings are let go of
    from headwater_cloud.quix_engine import Engine
    from headwater_cloud.quix_runner import QuixRunner
    from headwater_cloud.shared_store import SharedStore
    from headwater_shared.kafka_bus import KafkaBus

    data = Path(common.data)
    data.mkdir(parents=True, exist_ok=True)
    tracing.configure(common.otel, "cloud", f"worker-{slot}")
    clock = parse_clock(os.environ.get("HEADWATER_CLOCK", common.clock))
    notifying = Notifying(common, settings, clock)
    cloud_file = in_data(common.data, settings.file)
    with WriterLock(data / f"worker-{slot}"):
        bus = KafkaBus(client, kafka.prefix)
        _wait_for(bus)
        keep = kept(settings, data)
        sink = SharedStore(cloud_file, keep)
        sink.take_up(bus.identity, kafka.prefix + settings.group, followed=bool(settings.influx.url))
        engine = Engine(
            kafka.prefix + settings.group,
            slot,
            str(data / f"worker-{slot}.state"),
            duration(settings.commit) / 1e6,
        )
        with _starting_again():  # two that start at once meet where Quix makes its changelog topics
            runner = QuixRunner(
                client, kafka.prefix, engine, sink, lambda shown_us: wall_of(clock, shown_us), settings.limits(), keep.parts_us
            )  # fmt: skip
        courier = notifying.courier(alone=False)
        pages = notifying.pages(courier, lambda: KafkaBus(client, kafka.prefix))
        courier.begin()
        count_in(runner.metrics, courier)
        copies = RegistryCopies(bus, data / registry.FILE, spread_of(settings.spread))
        rules = _Rules(
            RulesCopies(bus, clock, settings.book(), maintenance.looking(data / maintenance.FILE, clock)),
            file,
            wish,
        )
        beside = _Beside(bus, clock, runner, copies, rules, courier)
        runner.metrics.registry.register(ShardMetrics(cloud_file, runner.held, clock, beside.health))
        server = health.serve(
            settings.health_host, settings.health_port + slot - 1 if settings.health_port else 0,
            beside.health, runner.metrics.registry, pages.pages(),
            AgentsShown(cloud_file, runner.shards).text,
        )  # fmt: skip
        pages.at(server.port)
        say_where(data / f"worker-{slot}.json", server.port)
        log.info("ready", slot=slot, health=server.port)
        beside.start()
        courier.start()
        try:
            with _starting_again():
                runner.run()
                beside.well()
        finally:
            beside.end()
            server.close()
            courier.close()
            sink.close()
            tracing.close()
    log.info("ended")


def _end(*_: object) -> None:
    """End well: nothing is begun yet."""
    raise SystemExit(0)


@contextmanager
def _starting_again() -> Iterator[None]:
    """Whatever the engine fails by, a new process goes on from its last checkpoint."""
    try:
        yield
    except HeadwaterError:
        raise
    except Exception as error:
        log.exception("the engine failed")
        raise StartAgain(
            f"Quix ended: {type(error).__name__}: {error}", hint="it starts again from its last checkpoint"
        ) from error


def _wait_for(bus: Any) -> None:
    """Kafka may come later than we do, or be there and not yet have its leaders."""
    while True:
        try:
            bus.ends(IN.name)
            return
        except BusUnavailable as error:
            log.warning("waiting for the bus", error=error)
            time.sleep(_WAIT_S)


class _Rules:
    """The rules of the settings, read again when that is asked for: of all settings a worker takes up these only."""

    def __init__(self, copies: RulesCopies, file: Path | None, wish: Wish | None) -> None:
        self.copies = copies
        self._file, self._wish = file, wish

    def follow(self) -> None:
        """Read the settings again if that was asked for; a mistake changes nothing."""
        if self._wish is None or not self._wish.asked:
            return
        self._wish.asked = False
        try:
            self.copies.follow(load(self._file, "cloud", CloudSettings).book())
        except SettingsError as error:
            log.error("the rules stay as they are", error=error)


class _Beside(threading.Thread):
    """What is done by the clock on the wall, in a thread of its own: clock records of the shards held, how far behind they are, and
    the registry's and the rules' copies for them. Without it no window would close, so whatever it fails by ends the process.
    """

    def __init__(
        self, bus: Any, clock: Clock, runner: Any, copies: RegistryCopies, rules: _Rules, courier: Courier
    ) -> None:
        super().__init__(name="clock", daemon=True)
        self._bus, self._clock, self._runner, self._copies = bus, clock, runner, copies
        self._rules, self._courier = rules, courier
        self._over = threading.Event()
        self._trouble = ""
        self._failed: Exception | None = None
        self._lag = 0

    def run(self) -> None:
        while not self._over.wait(_CLOCK_S):
            try:
                clock_records.append(self._bus, self._clock, self._runner.shards())
                ends = self._bus.ends(IN.name)
                self._lag = sum(
                    max(0, ends.get(shard, 0) - offset) for shard, offset in self._runner.offsets().items()
                )
                self._runner.metrics.lag.set(self._lag)
                self._trouble = ""
                held = self._runner.held()
                never = [shard for shard in self._runner.shards() if shard not in ends]  # have had input
                self._copies.look(held, [*held, *never], time.monotonic())
                self._rules.follow()
                self._rules.copies.look(held, [*held, *never], time.monotonic())
            except BusUnavailable as error:
                self._trouble = error.message
                log.warning("no clock records", error=error)
            except Exception as error:  # noqa: BLE001 - `well` raises it
                self._failed, self._trouble = error, str(error)
                self._runner.stop()
                return

    def well(self) -> None:
        """Raise what it failed by, if it did."""
        if self._failed is not None:
            raise self._failed

    def end(self) -> None:
        self._over.set()
        self.join()
        self._bus.close()

    def health(self) -> Mapping[str, Any]:
        """What `/health` and `/ready` say."""
        shards = self._runner.shards()
        return {
            "ready": bool(shards or self._runner.began) and not self._trouble,
            "reasons": [*([self._trouble] if self._trouble else []), *self._courier.troubles()],
            "lag_records": self._lag,
            "shards": shards,
            "notify": self._courier.status(),
            "last_turn_s": self._runner.last_turn_s,
        }

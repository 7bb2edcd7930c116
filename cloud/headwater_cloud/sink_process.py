"""The sink's process: settings in, the follower's loop, until a signal. Whatever the store does, it goes on and says what is wrong."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector

from headwater_cloud import influx_file, sink_pages
from headwater_cloud.follow import Follower, Step
from headwater_cloud.influx_file import InfluxFile
from headwater_cloud.influx_settings import InfluxSettings, check, place_of
from headwater_cloud.influx_write import Later, Transport, Writer
from headwater_cloud.metric_names import SINK
from headwater_cloud.place import say_where
from headwater_cloud.settings import CloudSettings, in_data
from headwater_cloud.sink_metrics import SinkMetrics
from headwater_shared import health, logs
from headwater_shared.errors import HeadwaterError, SettingsError, TryAgain
from headwater_shared.settings import Common, duration, load, secret
from headwater_shared.stop import Stop

log = logs.get_logger()

PLACE = "sink.json"
"""In the data folder: where the process answers."""

_POLL_S = 0.25
"""How often the cloud's file is looked at."""
_AFTER_TROUBLE_S = 1.0
_AFTER_FAILURE_S = 10.0
_BEAT_S = 1.0
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class SinkProcess:
    """The follower, and what it says of itself.

    Raises:
        StateInUse: another process follows already. SettingsError, PartMissing: it cannot start.
    """

    def __init__(self, common: Common, settings: CloudSettings) -> None:
        influx = settings.influx
        if not influx.url:
            raise SettingsError(
                "there is no store", hint='write url = "http://127.0.0.1:8086" in [cloud.influx]'
            )
        check(influx)
        data = Path(common.data)
        data.mkdir(parents=True, exist_ok=True)
        self.stop, self.pulse, self.registry = Stop(), health.Pulse(), CollectorRegistry()
        self.trouble = ""
        self.failing = False
        self.steps = 0
        self._job = False
        ProcessCollector(registry=self.registry)
        metric = SINK["headwater_sink_write_seconds"]
        self._seconds = Histogram(metric.name, metric.text, registry=self.registry, buckets=_BUCKETS)
        self._transport = transport_of(influx)
        self.file = InfluxFile(data / influx_file.FILE)
        if before := self.file.of_store(place := place_of(influx)):
            log.warning("the store is another one: everything is written into it", before=before, now=place)
        self._writer = Writer(self._transport, self.file.bury, took=self._took, missing=self._lost)
        self._follower = Follower(
            in_data(common.data, settings.file), self.file, self._writer, prefix=influx.prefix, batch=influx.batch,
            max_series=influx.max_series, keep=settings.kept(),
            settle_s=duration(influx.timeout) / 1e6, unsure=True,
        )  # fmt: skip
        self.registry.register(SinkMetrics(self.status))

    def turn(self) -> None:
        """One step, and a rest unless there is more."""
        self.pulse.beat()
        rest_s = 0.0
        try:
            step = self._follower.step()
        except Later as later:
            self._say(str(later), failing=True)
            rest_s = later.after_s
        except TryAgain as error:
            self._say(str(error), failing=False)
            rest_s = _AFTER_TROUBLE_S
        except HeadwaterError:
            raise
        except Exception as error:
            log.exception("the sink failed")
            self._say(f"the sink failed: {type(error).__name__}: {error}", failing=False)
            rest_s = _AFTER_FAILURE_S
        else:
            self._say("", failing=False)
            self.steps += 1
            self._job = step.job
            rest_s = _POLL_S if step == Step(0, False, 0) else step.again_s
        self._rest(rest_s)

    def _rest(self, seconds: float) -> None:
        """Wait, and say that the loop goes round: a store may want to be left alone for minutes."""
        until_s = time.monotonic() + seconds
        while not self.stop.is_set() and (left_s := until_s - time.monotonic()) > 0:
            self.stop.wait(min(left_s, _BEAT_S))
            self.pulse.beat()

    def _lost(self, database: str) -> None:
        if self.file.lost(database):
            log.warning("the store lost a database: everything is written again", database=database)

    def _took(self, seconds: float) -> None:
        self.pulse.beat()
        self._seconds.observe(seconds)

    def status(self) -> dict[str, Any]:
        """What `/health` and `/metrics` say."""
        counts, rows = self._writer.counts, self._follower.rows
        oldest_s = self._follower.oldest_s
        return {
            "points": counts.points,
            "requests": counts.requests,
            "failed": counts.failed,
            "split": counts.split,
            "beyond_retention": counts.beyond,
            "left_out": rows.left_out,
            "dead_letters": self._follower.dead_letters,
            "tag_sets": rows.tag_sets,
            "behind": self._follower.behind,
            "behind_s": round(max(0.0, time.time() - oldest_s), 1) if oldest_s else 0.0,
            "catching_up": self._job,
            "failing": self.failing,
        }

    def health(self) -> Mapping[str, Any]:
        """What `/health` and `/ready` say."""
        reasons = [self.trouble] if self.trouble else []
        if self._follower.rows.refused:
            reasons.append(
                f"{len(self._follower.rows.refused)} sets of tags or more are beyond max_series and not written, such as "
                f"{self._follower.rows.example}\n  hint: raise max_series in [cloud.influx], start the sink, then `headwater-cloud sink rerun`"
            )
        return {
            "ready": self.steps > 0,
            "reasons": reasons,
            "sink": self.status(),
            "last_turn_s": self.pulse.last_turn_s,
        }

    def close(self) -> None:
        self._follower.close()
        self._transport.close()
        self.file.close()
        self.stop.close()

    def _say(self, trouble: str, *, failing: bool) -> None:
        if trouble and trouble != self.trouble:
            log.warning("the sink waits", why=trouble)
        elif self.trouble and not trouble:
            log.info("the sink goes on")
        self.trouble, self.failing = trouble, failing


def transport_of(influx: InfluxSettings) -> Transport:
    """Return the way to the store of some settings.

    Raises:
        SettingsError: a secret is not there. PartMissing: influxdb-client is not installed.
    """
    timeout_s = duration(influx.timeout) / 1e6
    if influx.api == "2":
        from headwater_cloud.influx_v2 import V2

        return V2(influx.url, influx.org, secret(influx.token or ""), timeout_s)
    from headwater_cloud.influx_v1 import V1

    return V1(influx.url, influx.user, secret(influx.password) if influx.password else "", timeout_s)


def run(common: Common, settings: CloudSettings) -> None:
    """Run until SIGTERM or SIGINT, which end it after the request that is under way.

    Raises:
        NeedsPerson: it cannot start.
    """
    process = SinkProcess(common, settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.stop.set())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # its settings are read at the start
    server = health.serve(
        settings.health_host, settings.influx.health_port, process.health, process.registry, sink_pages.pages(process.file)
    )  # fmt: skip
    say_where(Path(common.data) / PLACE, server.port)
    log.info("ready", health=server.port, store=settings.influx.url)
    try:
        while not process.stop.is_set():
            process.turn()
    finally:
        server.close()
        process.close()
    log.info("ended")


def main(arguments: list[str]) -> int:
    """Run with the settings file named, or with the defaults; return the exit code."""
    try:
        file = Path(arguments[0]) if arguments else None
        common, settings = load(file, "common", Common), load(file, "cloud", CloudSettings)
        logs.configure(common.log, common.log_level, part="sink")
        run(common, settings)
    except HeadwaterError as error:
        print(f"headwater-cloud sink: {error}", file=sys.stderr)  # noqa: T201 (it is the last word to a person)
        return error.exit_code
    return 0

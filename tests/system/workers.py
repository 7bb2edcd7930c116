"""Two workers on a real Kafka with an agent under load: what is done to them, and what the file that they share must hold."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from headwater_edge import words
from headwater_shared.bus import Stored
from headwater_shared.kafka_bus import KafkaBus
from headwater_shared.sqlite_file import read_only
from headwater_shared.topics import DEAD_LETTERS
from tests.kafka import MadeTopics
from tests.support import until
from tests.system import kills
from tests.system.box import EDGE, WORKER, Box
from tests.system.kafka_box import kafka_box
from tests.system.load import Load, load
from tests.system.test_kafka import SLOWLY

ONE, TWO = WORKERS = (WORKER.format(1), WORKER.format(2))
STARTS_AGAIN = 75
"""The exit code of a process that must start from what is committed."""


def offsets(here: Box) -> dict[int, int]:
    """How far each shard's rows in the file go."""
    if not (here.data / "cloud.db").exists():
        return {}
    with closing(read_only(here.data / "cloud.db")) as reader:
        try:
            return dict(reader.execute('SELECT partition, next FROM "offset"').fetchall())
        except sqlite3.OperationalError:  # it is being made
            return {}


class Audited(NamedTuple):
    """What the last line of an audit said that found nothing lost and nothing twice."""

    acknowledged: int
    counted: int
    dead: int


class Told(NamedTuple):
    """One line of the file of notifications."""

    id: str
    repeat: bool


@dataclass
class Under:
    """A box whose workers have work to do."""

    here: Box
    topics: MadeTopics
    module: str = ""
    """What is run in place of the worker."""
    agent: str = ""
    """What is run in place of the agent."""
    env: dict[str, str] = field(default_factory=dict)
    """Of the first worker."""
    fleet: Load = field(init=False)

    def offsets(self) -> dict[int, int]:
        """How far each shard's rows in the file go."""
        return offsets(self.here)

    def worked_on(self) -> int:
        """How many records of the input the rows in the file are made of."""
        return sum(self.offsets().values())

    def get_on(self, records: int = 20) -> None:
        """Wait until the workers have done some more."""
        before = self.worked_on()
        self.until(lambda: self.worked_on() > before + records, "the workers get on")

    def every_shard_gets_on(self) -> None:
        """Wait until each shard that has rows has more: somebody holds it."""
        before = self.offsets()
        self.until(lambda: all(self.offsets()[n] > at for n, at in before.items()), "every shard gets on")

    def until(self, condition: Callable[[], bool], what: str, deadline: float = 240.0) -> None:
        """Wait, and meanwhile start workers again that ended by themselves to be started again."""

        def looked() -> bool:
            for part in WORKERS:
                if part in self.here.running and self.ended(part):
                    self.start(part)
            return condition()

        until(looked, deadline, what)

    def ended(self, part: str) -> bool:
        """Tell whether a part has ended by itself; then it wants to be started again."""
        code = self.here.running[part].poll()
        if code is None:
            return False
        assert (part in WORKERS, code) == (True, STARTS_AGAIN), self.here.log(part).read_text()[-2000:]
        del self.here.running[part]
        return True

    def start(self, part: str, crash: str = "") -> None:
        """Start a part as it was started first, or so that it will crash."""
        worker = part in WORKERS
        self.here.start(
            part,
            crash=crash,
            module=self.module if worker else self.agent,
            env=self.env if part == ONE else {},
        )

    def kill(self, *parts: str) -> None:
        """Kill -9 all at once, and start them again."""
        for part in parts:
            if not self.ended(part):
                self.here.kill(part)
        for part in parts:
            self.start(part)

    def ready(self) -> None:
        """Wait until both workers say so."""
        places = {part: self.here.data / f"{part}.json" for part in WORKERS}

        def says(part: str) -> bool:
            process = self.here.running.get(part)
            return (
                process is not None
                and places[part].exists()
                and (json.loads(places[part].read_bytes())["pid"] == process.pid)
            )

        self.until(lambda: all(map(says, WORKERS)), "both workers are ready")

    def settle(self) -> Audited:
        """See the fleet to its end, all windows closed and everything in the file; audit, and end all."""
        self.until(lambda: not self.fleet.sending(), "the fleet is through", 1200)
        self.fleet.finished()
        self.here.ready(EDGE)
        words.say(self.here.data / "edge.sock", "flush")
        self.until(lambda: self.here.status().get("outbox") == 0, "the cloud side has everything")
        self.ready()
        found = Audited(*kills.audited(self.here, self.fleet.ledger))  # rollups follow while the workers run
        self.until(
            lambda: {one.id for one in self.told()} == set(self.to_tell()), "people are told everything"
        )
        for part in (EDGE, *WORKERS):
            self.here.end(part)
        assert found.counted + found.dead >= found.acknowledged > 10_000
        return found

    def to_tell(self) -> list[str]:
        """Ids of what people are to be told."""
        with closing(read_only(self.here.data / "cloud.db")) as reader:
            return [id_ for (id_,) in reader.execute("SELECT id FROM notification ORDER BY n")]

    def told(self) -> list[Told]:
        """What people were told, by the file of lines."""
        path = self.here.data / "notifications.jsonl"
        lines = map(json.loads, path.read_bytes().splitlines()) if path.exists() else ()
        return [Told(one["id"], one.get("possible_repeat", False)) for one in lines]

    def teller(self) -> str:
        """Which worker tells people; "" while none does that runs."""
        pid = (self.here.data / "notify.db.lock").read_text().strip()
        return next((part for part, process in self.here.running.items() if str(process.pid) == pid), "")

    def dead_letters(self) -> list[Stored]:
        """What the cloud side did not take."""
        bus = KafkaBus(self.topics.client, self.topics.prefix)
        try:
            return bus.read(DEAD_LETTERS.name, {0: 0}, 10_000)
        finally:
            bus.close()


@contextmanager
def under_load(
    folder: Path, topics: MadeTopics, seconds: float, *, module: str = "", agent: str = "", env: dict[str, str] | None = None,
    common: str = "", tables: str = "",
) -> Iterator[Under]:  # fmt: skip
    """Run an agent and two workers, and a fleet that sends so many seconds of event time.

    Args:
        module, agent: what is run in place of the workers and of the agent.
        common: more of the table [common].
        tables: more of the agent's tables.
    """
    with kafka_box(folder, topics, tables) as here:
        if common:
            here.settings.write_text(here.settings.read_text().replace("[common]\n", f"[common]\n{common}\n"))
        run = Under(here, topics, module, agent, env or {})
        for part in (EDGE, *WORKERS):
            run.start(part)
        here.ready(EDGE)
        run.ready()
        with load(here, seconds, *SLOWLY) as run.fleet:
            yield run

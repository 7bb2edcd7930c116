"""One history of an agent, the cloud side and their devices: each act does one thing, and the end compares with the books.

The files are real, and so is all that reads and writes them; the loop, the writer, the forwarder and the runner are turned
by hand (`by_hand`). An act is plain data: a history that found something is kept as a test as it was printed.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from msgspec.structs import replace

from headwater_cloud.intervals import holds
from headwater_edge import checked, commit, opening, reload, restart, snapshot, store
from headwater_edge.commit import Job
from headwater_edge.dead_letters import latest
from headwater_edge.events import Disconnect, LetterGone, Start
from headwater_edge.letter_office import LetterOffice
from headwater_edge.pipeline import Agent
from headwater_edge.restart import Resumed
from headwater_edge.settings import EdgeSettings, step_settings
from headwater_edge.source import Burst
from headwater_edge.store import Chores, Commit
from headwater_shared.bus import Bus
from headwater_shared.clock import SetClock
from headwater_shared.records import Predecessor
from tests.cloud.side import Side
from tests.edge.running import FILE, ScriptedSource, unsent
from tests.fault.books import Books, Key, Taken
from tests.fault.by_hand import Fuse, HandLoop, Killed, Left, by_hand, let_go, write_once
from tests.fault.devices import Fleet, Said, SentBurst
from tests.fault.ends import replayed, stored_windows
from tests.fault.road import Road
from tests.reference import bits

Act = tuple[Any, ...]

_ROUNDS = 300
_CAREFUL = 2
"""A third attempt at a start runs the journal in processes of its own (R15), which has tests of its own."""


class Link(ScriptedSource):
    """The agent's source; what is acknowledged is the history's to hear."""

    def __init__(self, deliver: Callable[[Burst], None], history: History) -> None:
        super().__init__(deliver)
        self._history = history
        self.deliver = deliver

    def acknowledge(self, bursts: Sequence[Burst], sessions: Mapping[int, bool]) -> None:
        for burst in bursts:
            assert isinstance(burst, SentBurst)
            self._history.acknowledged(burst, sessions)


class History:
    """What happens, and what came of it. Not for two at once: it patches the modules that it turns by hand."""

    def __init__(self, files: Path, folder: Path, settings: EdgeSettings) -> None:
        """Begin in a folder with copies of the files of `new_files`."""
        for path in files.iterdir():
            shutil.copyfile(path, folder / path.name)
        self.settings = settings
        self.clock = SetClock()
        self._path = folder / FILE
        self._left = Left(self._path)
        self.edge, self.cloud = Fuse(self._left.look), Fuse()
        self.side = Side(folder, batch=7)
        self.road = Road()
        self.fleet = Fleet(by_meaning=settings.windows.duplicates == "meaning")
        self.books = Books(step_settings(settings))
        self.agent: Agent | None = None
        self.crashes = 0
        self.evicted: list[str] = []
        self.returned: list[str] = []
        """Series that were let go, and that came back."""
        self._rotten_at = -1
        self._attempts = 0
        """Starts that did not come to their end, one after the other."""
        self._taken: dict[int, Taken] = {}
        """By tick, what was handed to the writer and is not in the books."""
        self._hashes: dict[int, list[bytes]] = {}
        """By tick, what it put out."""
        self._identities: dict[int, list[str]] = {}
        self._differences: list[str] = []
        """What replays put out that is not in the outbox."""
        self._starts: list[tuple[int, int]] = []
        """(first tick, epoch) of each start."""
        self._ages: dict[int, int] = {}
        """By tick, how old the agent was."""
        self._tasks: list[asyncio.Task[Any]] = []
        self._works: list[Coroutine[Any, Any, Any]] = []
        """Of the tasks."""
        self._replaying: dict[tuple[int, int], set[Key]] = {}
        """By dead letter (tick, n) that is being taken again."""
        self._taken_again: set[tuple[int, int]] = set()

    def run(self, acts: Sequence[Act]) -> None:
        """Do the acts, bring everything to its end, and compare."""
        with by_hand(self.clock, self.edge, self.cloud) as patch:
            real_resume, real_write = restart.resume, store.write

            def resume(*args: Any) -> Resumed:
                resumed = real_resume(*args)
                self._differences += (
                    resumed.differences
                )  # not raised here: the start would go on with more care
                return resumed

            def write(connection: sqlite3.Connection, what: Commit | None, chores: Chores) -> None:
                if what is not None:
                    self._note(what)
                self._check_chores(connection, chores)
                real_write(connection, what, chores)

            patch.setattr(opening, "resume", resume)
            patch.setattr(commit, "write", write)
            try:
                for name, *what in acts:
                    getattr(self, f"act_{name}")(*what)
                self.finish()
            finally:
                if self.agent is not None:
                    let_go(self.agent, self._loop)
                self.side.drop()

    def _note(self, what: Commit) -> None:
        """Remember what a tick puts out."""
        self._hashes[what.tick] = [row.hash for row in what.outbox]
        self._identities[what.tick] = [
            f"{self.settings.name}/{row.epoch:016x}/{row.shard}/{row.seq}" for row in what.outbox
        ]

    def _check_chores(self, connection: sqlite3.Connection, chores: Chores) -> None:
        """What leaves the file may: rows that the cloud side has said to have (R22), that no kept snapshot needs (R12, R15) and
        that are older than the horizon (R4).
        """
        ticks = snapshot.ticks(connection) if chores.covered or chores.journal_to else []
        older = ticks[1] if len(ticks) > 1 else 0
        for n in chores.covered:
            row = connection.execute(
                "SELECT tick, epoch, shard, seq FROM outbox WHERE n = ?", (n,)
            ).fetchone()
            if row is not None:
                assert self.road.was_told(*row[1:]), "a row goes that the cloud side has not said to have"
                assert row[0] <= older, "a row goes that the older snapshot is not after"
        if chores.journal_to and self.agent is not None:
            assert chores.journal_to <= older, "a row leaves the journal that the older snapshot is not after"
            age_us = self.agent.state.age_us - self._ages[chores.journal_to]
            assert age_us >= self.agent.state.settings.horizon_us, (
                "a row leaves the journal within the horizon"
            )

    # The agent's process.

    def act_start(self) -> None:
        """Start the agent, if it is down; its first commit is still to come."""
        if self.agent is not None:
            return
        self._attempts += 1
        if self._attempts >= _CAREFUL:
            self.edge.left = 0
        self._loop = HandLoop(self.clock)
        try:
            with self._loop.running():
                agent = Agent(self.settings, self._path, self.clock, lambda: cast("Bus", self.road), "test")
        except Killed:
            self._loop.close()
            self._died()
            return
        self.agent = agent
        assert agent.set_aside is None, "an unbroken file is set aside"
        assert not self._differences, "a replay put out something else (R31)"
        self._book(agent.state.tick)
        self._taken.clear()
        submit = agent._writer.submit

        def submitted(job: Job) -> None:
            self._submitted(agent, job)
            submit(job)

        agent._writer.submit = submitted  # type: ignore[method-assign]
        self._link = agent.attach(lambda deliver: Link(deliver, self))
        self._office = LetterOffice(agent, self._path)
        self._started = self._task(agent.start())

    def _task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=self._loop)
        self._tasks.append(task)
        self._works.append(work)
        return task

    def _submitted(self, agent: Agent, job: Job) -> None:
        tick, output = job.tick, job.output
        taken = Taken(output.tick, tick.now, [])
        self.evicted += [one.name for one in output.evicted]
        self.returned += [one.name for one in tick.returned]
        self._ages[output.tick] = agent.state.age_us
        self._check_identities(job)
        for burst in agent._under_way:
            if isinstance(burst, SentBurst):
                burst.tick = output.tick
                taken.said += [(said, burst.arrived_us) for said in burst.said]
        readings, names = tick.readings, agent.state.names
        for _, at in output.beyond:
            assert agent.horizon.gone.begin.size, "beyond the horizon, and nothing has left the journal"
            key = (names[readings.series[at]], int(readings.sent[at]), bits(float(readings.value[at])))
            taken.beyond.add(key)
        for _, event in tick.events:
            if isinstance(event, LetterGone):
                taken.again |= self._replaying.get((event.tick, event.n), set())
                taken.letters.add((event.tick, event.n))
        self._taken[output.tick] = taken

    def _check_identities(self, job: Job) -> None:
        """A part bears the epoch in which its tick lay (R1); an epoch's first row in a shard names the one before, and where it ended (R6)."""
        for _, event in job.tick.events:
            if isinstance(event, Start):
                self._starts = [one for one in self._starts if one[0] < job.output.tick]
                self._starts.append((job.output.tick, event.epoch))
        begins = [tick for tick, _ in self._starts]
        for frame in job.output.frames:
            parts = frame.parts
            for tick, at in set(zip(parts.tick.tolist(), parts.epoch.tolist(), strict=True)):
                which = bisect_right(begins, tick)
                sealed = (
                    begins[which - 1] == tick
                )  # what a start closes may open a coarser pane, of the epoch before
                epochs = [epoch for _, epoch in self._starts[max(0, which - 1 - sealed) : which]]
                assert parts.epochs[at] in epochs, "a part of another epoch's tick"
        named = [(row.seq, row.shard, row.predecessor) for row in job.output.anomalies]
        named += [(row.seq, row.shard, row.predecessor) for row in job.output.frames]
        for seq, shard, predecessor in named:
            if seq == 1 and len(self._starts) > 1:
                before = self._starts[-2][1]
                ended = max(self._seqs_of(before, shard), default=0)
                assert predecessor == Predecessor(before, ended), "an epoch does not name the one before"

    def _seqs_of(self, epoch: int, shard: int) -> Iterator[int]:
        """The seqs of an epoch in a shard, of ticks that lie before the present epoch."""
        begun = self._starts[-1][0]
        start = f"{self.settings.name}/{epoch:016x}/{shard}/"
        for tick, names in self._identities.items():
            if tick < begun:
                yield from (int(name.removeprefix(start)) for name in names if name.startswith(start))

    def act_crash(self) -> None:
        """kill -9."""
        if self.agent is not None and not self.is_up and self._attempts >= _CAREFUL:
            self.act_settle()
        if self.agent is not None:
            self._left.look()
            let_go(self.agent, self._loop)
            self._died()

    def _died(self) -> None:
        self._left.put_back()
        self.crashes += 1
        self.agent = None
        self.edge.left = 0
        self.fleet.lose_all()
        self._replaying.clear()
        self._tasks.clear()
        for work in self._works:
            work.close()
        self._works.clear()

    def act_crash_at(self, step: int, name: str = "") -> None:
        """The agent dies at the nth of the named steps that it passes from now on; of those called so, if a name is given."""
        if self.is_up or self._attempts < _CAREFUL:
            self.edge.left, self.edge.name = step, name

    def _by_agent(self, call: Callable[[Agent], Any]) -> Any:
        """Let the agent do something, if it is there; it may die of it."""
        agent = self.agent
        if agent is None:
            return None
        try:
            answer = call(agent)
            for task in self._tasks:  # it may have died inside of one
                if task.done() and isinstance(error := task.exception(), Killed):
                    raise error
            return answer
        except Killed:
            let_go(agent, self._loop)
            self._died()
            return None

    @property
    def is_up(self) -> bool:
        if self.agent is None or not self._started.done():
            return False
        self._started.result()
        self._attempts = 0
        return True

    def act_work(self, what: str) -> bool:
        """Do one thing: turn the loop, do what was handed to a thread, or let the writer do its next job."""
        return bool(
            self._by_agent(
                lambda agent: (
                    self._loop.turn()
                    if what == "loop"
                    else self._loop.call()
                    if what == "look"
                    else write_once(agent)
                )
            )
        )

    def act_settle(self) -> None:
        """Work until there is nothing to do, and let a tick that gathers come to its end."""
        for _ in range(_ROUNDS):
            if self.act_work("loop") or self.act_work("look") or self.act_work("write"):
                continue
            agent = self.agent
            if agent is None or not (agent._gather or agent._awaited._gathers):
                return
            self.act_advance(0.25)
        assert self.is_up, "the agent does not come up"
        raise AssertionError("the agent does not come to rest")

    def act_snapshot(self) -> None:
        """The journal has become so heavy that a snapshot follows the next commit."""
        if self.agent is not None:
            self.agent.keeping._bytes = 2**40

    def act_age(self, seconds: float) -> None:
        """Time passes, and two snapshots are taken in it: what the horizon does not need leaves the journal (R4, R15)."""
        for _ in range(2):
            self.act_snapshot()
            self._deliver(SentBurst(self.clock.wall_us, events=[(0, Disconnect(0, clean=False))]))
            self.act_settle()
            self.act_advance(seconds)
            self.act_settle()

    def act_idle(self, which: int, offset_us: int, seconds: float) -> None:
        """Nobody says anything for so long that series are let go, when somebody speaks again (R12)."""
        self._come_back()
        self.act_age(seconds)
        self.act_age(seconds)
        client = self.fleet.clients[which % len(self.fleet.clients)]
        if client.connected:
            device = client.devices[which % len(client.devices)]
            self.fleet.send(
                client, self.fleet.message(device, [(which % 2, offset_us, 1.5, True)], 1, good=True)
            )
        self._then("settle")

    def act_do(self, what: Callable[[History], object]) -> None:
        """A test does something of its own, or looks."""
        what(self)

    def act_flush(self) -> None:
        """Close all windows."""
        if self.is_up:
            assert self.agent is not None
            with self._loop.running():
                self._task(self.agent.flush())

    def act_reload(self, lateness: str, held: str) -> None:
        """Other settings, which move every window: a running agent takes them up, another one starts with them (R12)."""
        windows = replace(self.settings.windows, lateness=lateness, held=held)
        self.settings = replace(self.settings, windows=windows)
        if self.is_up:
            assert self.agent is not None
            new = checked.check(self.settings, self.agent.index, self.agent.decode.formats)
            with self._loop.running():
                self._task(reload.take_up(self.agent, new))

    def act_replay(self) -> None:
        """A person has readings counted that are dead letters and nothing else (R20)."""
        if not self.is_up:
            return
        assert self.agent is not None
        wanted: set[Key] = set()
        ids = []
        for letter in latest(self.agent.horizon._reader, 100, "beyond-horizon"):
            keys = {(name, sent, bits(value)) for name, sent, value in letter.readings or ()}
            here = (letter.tick, letter.n)
            if keys <= self.books.dead.keys() and not keys & wanted and here not in self._replaying:
                wanted |= keys
                ids.append(here)
                self._replaying[here] = keys
        if ids:
            self._task(self._office.replay(ids))

    # Devices.

    def act_say(self, messages: Sequence[Any], posted: bool, then: str) -> None:
        """Devices have messages: (which, readings, QoS, whether it can be read); posted: as one request."""
        self._come_back()
        post: list[Said] = []
        for which, readings, qos, good in messages:
            client = self.fleet.clients[which % len(self.fleet.clients)]
            sure = client.clean or (posted and not qos)  # nothing tells what has no time from its repetition
            what = [(metric, offset, value, timed or sure) for metric, offset, value, timed in readings]
            if posted:
                post.append(self.fleet.message(self.fleet.poster[0], what, 1, good=True))
            elif client.connected:
                device = client.devices[which % len(client.devices)]
                good_now = good or client.clean
                self.fleet.send(client, self.fleet.message(device, what, qos, good=good_now))
        if post:
            self.fleet.post(post)
        self._then(then)

    def act_again(self, which: int, client: int, then: str) -> None:
        """A device sends readings once more, as a new message (R2)."""
        self._come_back()
        said = [one for one in self.fleet.said if one.good and all(t is not None for _, t, _ in one.readings)]
        sender = self.fleet.clients[client % len(self.fleet.clients)]
        if said and sender.connected and self.fleet.by_meaning:
            self.fleet.send(sender, self.fleet.again(said[-1 - which % len(said)]))
        self._then(then)

    def act_beyond(self, which: int, replay: bool) -> None:
        """Long after, a reading comes for the first time, of a moment when its series was heard: nobody can tell (R4, R20)."""
        self._come_back()
        timed = [(said, r) for said in self.books.arrived for r in said.readings if r[1] is not None]
        sender = self.fleet.clients[0]
        if not timed or not sender.connected:
            return
        self.act_age(100.0)
        old, (series, time_us, _) = timed[-1 - which % len(timed)]
        self.fleet.send(sender, self.fleet.again(old, ((series, time_us, 64.0 + len(timed)),)))
        self._then("settle")
        if replay:
            self.act_replay()
            self.act_settle()

    def act_connect(self, which: int, eager: bool, as_new: bool, then: str) -> None:
        """A client connects, or does so again."""
        if not self.is_up:
            return
        client = self.fleet.clients[which % len(self.fleet.clients)]
        client.connect(self.fleet.number(), eager=eager, as_new=as_new)
        self._then(then)

    def act_cut(self, which: int, noticed: bool) -> None:
        """A connection is lost with all that is under way on it."""
        burst = SentBurst(self.clock.wall_us)
        self.fleet.cut(self.fleet.clients[which % len(self.fleet.clients)], burst, noticed=noticed)
        if burst.events:
            self._deliver(burst)

    def _come_back(self) -> None:
        """The supervisor starts what is down, and clients connect that are not: mostly, not always."""
        self.act_start()
        if not self.is_up:
            self.act_settle()
        for at, client in enumerate(self.fleet.clients):
            if not client.connection:
                self.act_connect(at, False, False, "settle")

    def _then(self, then: str) -> None:
        """What follows: it waits, is read by the agent, is committed, is acknowledged; or the acknowledgement is lost, or all of it."""
        if then == "vanish":
            self.fleet.lose_all()
        if then not in ("wait", "vanish"):
            self.act_carry()
        if then == "settle":
            self.act_settle()
        if then in ("commit", "lose"):
            while self.act_work("loop") or self.act_work("look"):
                pass
            self.act_work("write")
        if then == "lose":
            self.fleet.lose_all()

    def act_carry(self) -> None:
        """The agent reads its sockets: what devices have to send arrives."""
        if not self.is_up:
            return
        burst = SentBurst(self.clock.wall_us)
        self.fleet.flow(burst, self.fleet.clients)
        if burst.topics or burst.events:
            burst.size = sum(map(len, burst.payloads))
            self._deliver(burst)

    def _deliver(self, burst: SentBurst) -> None:
        def deliver(_: Agent) -> None:
            with self._loop.running():
                self._link.deliver(burst)

        if self.is_up:
            self._by_agent(deliver)

    def acknowledged(self, burst: SentBurst, sessions: Mapping[int, bool]) -> None:
        """The agent gives a burst back: what it holds must be in the journal (R5)."""
        assert self.agent is not None
        there = "SELECT 1 FROM journal WHERE tick = ?"
        assert self.agent.horizon._reader.execute(there, (burst.tick,)).fetchone(), (
            "acknowledged, not committed"
        )
        self._book(burst.tick)
        assert all(said in self.books.arrived for said in burst.said)
        connections = dict.fromkeys(range(0))
        begin = 0
        for connection, end in burst.runs:
            connections |= dict.fromkeys(range(begin, end), connection)
            begin = end
        for client, number in burst.connects:
            if client.connection == number:
                client.accepted(present=sessions[number])
        for at, (said, sender) in enumerate(zip(burst.said, burst.clients, strict=True)):
            if sender is not None and sender.connection == connections[at]:
                sender.acknowledged(said)
        for client, number, packet_id in burst.released:
            if client.connection == number:
                client.completed(packet_id)
        self.fleet.requests = [one for one in self.fleet.requests if one not in burst.requests]

    def _book(self, tick: int) -> None:
        """Take what was committed, up to this tick, into the books."""
        for number in sorted(number for number in self._taken if number <= tick):
            taken = self._taken.pop(number)
            self.books.take(taken)
            self._taken_again |= taken.letters

    # Time, the bus, the cloud side.

    def act_advance(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)
        self.side.clock.advance(seconds)

    def act_jump(self, seconds: float) -> None:
        """The agent's wall clock is set."""
        self.clock.wall_us += round(seconds * 1e6)

    def act_believe(self, quality: int) -> None:
        """The agent's wall clock is believed, or not any more."""
        self.clock.quality = quality

    def act_rot(self) -> None:
        """While the agent is down a byte of its newest snapshot goes bad; the older one and the journal since are there for that (R15)."""
        if self.agent is not None or self.crashes == self._rotten_at:
            return
        self._rotten_at = self.crashes
        with closing(sqlite3.connect(self._path)) as connection:
            ticks = snapshot.ticks(connection)
            if len(ticks) > 1:
                at = (ticks[0], 1)
                (body,) = connection.execute(
                    "SELECT body FROM snapshot WHERE tick = ? AND section = ?", at
                ).fetchone()
                bad = body[:-1] + bytes([body[-1] ^ 1])
                connection.execute("UPDATE snapshot SET body = ? WHERE tick = ? AND section = ?", (bad, *at))
                connection.commit()
            self._left.look()
        self._left.put_back()

    def act_reboot(self, away_s: float) -> None:
        """The power fails, and comes back: monotonic time begins anew."""
        self.act_crash()
        self.clock.wall_us += round(away_s * 1e6)
        self.side.clock.advance(away_s)
        self.clock.mono_us = 5_000_000
        self.clock.boot += "+"

    def act_bus(self, away: bool, answer_lost: bool) -> None:
        """The bus goes, or comes back; or the next answer of it is lost."""
        self.road.away, self.road.answer_lost = away, answer_lost

    def act_outage(self) -> None:
        """The bus is away while windows close."""
        self.act_flush()
        self.act_settle()
        self.act_bus(True, False)
        self.act_forward()
        self.act_bus(False, False)

    def act_forward(self) -> None:
        """The forwarder does what its mode asks for."""
        if self.is_up:
            self._by_agent(lambda agent: agent.forward.once())

    def act_go_on(self, which: Sequence[int]) -> None:
        """Records reach the cloud side, in any order and some of them twice."""
        self.road.go_on(self.side.log, which)

    def act_have(self, most: int, repeat: int) -> None:
        """The agent may hear what the cloud side has, late and more than once."""
        self.road.have(self.side.log, most, repeat=repeat)

    def act_cloud(self, crash_at: int) -> None:
        """The cloud side reads a batch; 0: without a crash."""
        self.cloud.left = crash_at
        try:
            self.side.runner.step()
        except Killed:
            self.side.drop()
            self.side.open()
        self.cloud.left = 0

    def act_through(self, crash_at: int) -> None:
        """What was put out goes all the way to the cloud side, and what it has back to the agent."""
        self.act_forward()
        self.road.all_go_on(self.side.log)
        self.act_cloud(crash_at)
        self.act_cloud(0)
        self.act_have(100, 0)
        self.act_forward()

    # The end.

    def finish(self) -> None:
        """Everything comes back and sends until it is acknowledged; every window is closed, sent and taken in."""
        self.edge.left = self.cloud.left = 0
        self.road.away = self.road.answer_lost = False
        self.act_start()
        self.act_settle()
        self._started.result()
        for _ in range(20):
            for at, client in enumerate(self.fleet.clients):
                if not client.connected:
                    self.act_connect(at, False, False, "wait")
            self.act_carry()
            self.act_settle()
            if not self.fleet.waits:
                break
        assert not self.fleet.waits, "what was sent is not acknowledged"
        self.act_flush()
        self.act_settle()
        assert self.agent is not None
        self._book(self.agent.state.tick)
        assert all(said in self.books.arrived for said in self.fleet.said if said.qos), "lost on its way"
        for _ in range(50):
            self.act_forward()
            self.act_advance(1.0)
            self.act_settle()
            if self.agent.forward.mode == "live" and not unsent(self.agent):
                break
        self.road.all_go_on(self.side.log)
        self.side.run()
        self._check()

    def _check(self) -> None:
        assert self.agent is not None
        state, reader = self.agent.state, self.agent.horizon._reader
        self.books.check(stored_windows(self.side))
        bad = [said.payload for said in self.books.arrived if not said.good]
        dead = reader.execute("SELECT bytes FROM dead_letter WHERE reason != 'beyond-horizon'").fetchall()
        assert sorted(body for (body,) in dead) == sorted(bad), (
            "each message that cannot be read is dead once (R20)"
        )
        left = reader.execute("SELECT tick, n FROM dead_letter").fetchall()
        assert not self._taken_again & set(left), "a dead letter that was taken again is still there (R20)"
        put_out = {name for tick, names in self._identities.items() if tick <= state.tick for name in names}
        assert put_out <= self.road.appended.keys(), "rows of the outbox that were never sent"
        had = self.side.haves()
        for name in put_out:
            agent, epoch, shard, seq = name.split("/")
            intervals = had[agent, int(epoch, 16), int(shard)]
            assert holds(intervals, int(seq)), f"the cloud side has {name} and does not say so: {intervals}"
        kinds = {kind for kind, _ in self.side.reports()}
        assert not kinds & {"another-body", "went-back"}, self.side.reports()
        assert replayed(self.agent, self._hashes, step_settings(self.settings)) == snapshot.fingerprint(state)
        for task in self._tasks:
            assert task.done(), "something waits for ever"
            task.result()

"""The Kafka of a demo: started, given its topics, ended."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from headwater_appliance.kafka_server import KafkaServer
from headwater_appliance.supervise import Part, Supervisor, end_with_parent
from headwater_shared.errors import PartMissing, TryAgain

_READY_S = 60.0
_COMMAND = "from headwater_cloud.cli import main; main()"


def clients() -> None:
    """See that the libraries are there which agents, workers and the demo itself import later.

    Raises:
        PartMissing: one is not.
    """
    for module, extra in (("confluent_kafka", "kafka"), ("quixstreams", "quix")):
        if find_spec(module) is None:  # not imported: that takes quixstreams 1.6 s and 48 MB
            raise PartMissing(
                f"the library {module} is not installed",
                hint=f"make demo-kafka installs it; or pip install 'headwater[{extra}]'",
            )


@asynccontextmanager
async def kafka(folder: Path, jars: Path) -> AsyncIterator[str]:
    """Run a Kafka with Headwater's topics while the block lasts.

    Args:
        folder: for all that is Kafka's; made.
        jars: see `kafka_server.jars`.

    Yields:
        its address, as a `bus` of the settings.

    Raises:
        NeedsPerson: its folder cannot be used.
        TryAgain: it does not answer, or takes no topics.
    """
    folder.mkdir()  # noqa: ASYNC240 - at the start
    server = await asyncio.to_thread(KafkaServer, folder, jars)
    with (folder / "log").open("ab") as out:
        supervisor = Supervisor([Part("kafka", server.command())], out=out)
        running = asyncio.ensure_future(supervisor.run())
        try:
            await _answers(server, supervisor)
            await _topics(server)
            yield server.address
        finally:
            supervisor.stop()
            await running


async def _answers(server: KafkaServer, supervisor: Supervisor) -> None:
    deadline = time.monotonic() + _READY_S
    while not await asyncio.to_thread(server.answers):
        if supervisor.restarts or time.monotonic() > deadline:
            log = server.folder / "log"
            raise TryAgain(f"Kafka does not start: {why(log.read_text(errors='replace'))}\n(all of it is in {log})")  # fmt: skip
        await asyncio.sleep(0.1)


def why(log: str) -> str:
    """Return what says most of a log: the cause that is named last, or an error, or its last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith("Caused by:")]
    errors = [line for line in lines if " ERROR " in line or " FATAL " in line]
    return (causes[-1:] or errors[:1] or lines[-1:] or ["it says nothing"])[0][:500]


async def _topics(server: KafkaServer) -> None:
    """Make the topics as a person does: `headwater-cloud topics --apply`."""
    settings = server.folder / "topics.toml"
    settings.write_text(f'[cloud]\nbus = "{server.address}"\n')
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _COMMAND, "topics", "--apply", "--settings", str(settings),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True, preexec_fn=end_with_parent,
    )  # fmt: skip
    try:
        said, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise TryAgain(f"Kafka takes no topics: {said.decode(errors='replace').strip()[-500:]}")

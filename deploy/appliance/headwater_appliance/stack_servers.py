"""InfluxDB, VictoriaMetrics, Prometheus and Alertmanager of Debian's packages on this machine, for `demo --stack` and the tests: settings and commands.

Each has a folder of its own, the same ports and data however often it is started, and listens on the loopback only.
"""

from __future__ import annotations

import http.client
import shutil
from contextlib import suppress
from pathlib import Path

from headwater_appliance.ports import steady_port
from headwater_shared.errors import PartMissing

_SBIN = "/usr/sbin:/usr/local/sbin:/sbin"


class Server:
    """One server: `command` is what to start, `answers` asks whether it is ready. It starts nothing that stays."""

    program = ""
    package = ""
    _ready = "/"

    def __init__(self, folder: Path) -> None:
        """Take a port, and the folder, which is there.

        Raises:
            PartMissing: the program is not on this machine; the hint says which package has it.
        """
        self.folder = folder
        self.executable = find(self.program, self.package)
        self.port = steady_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Return the command that is the server."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Ask it whether it is ready; takes up to 2 s."""
        with suppress(OSError, http.client.HTTPException):
            asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            try:
                asked.request("GET", self._ready)
                return asked.getresponse().status in {200, 204}
            finally:
                asked.close()
        return False


class Influx(Server):
    """InfluxDB 1.x: /write and InfluxQL at /query, without users, or with them: then `admin` is to be made first."""

    program, package = "influxd", "influxdb"
    _ready = "/ping"

    def __init__(self, folder: Path, *, users: bool = False, cache_mb: int = 256) -> None:
        """As `Server`; `cache_mb`: of memory for points before they go to disk; what does not fit is refused."""
        super().__init__(folder)
        (folder / "influxdb.conf").write_text(
            f"""\
reporting-disabled = true
bind-address = "127.0.0.1:{steady_port()}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  index-version = "tsi1"
  query-log-enabled = false
  cache-max-memory-size = {cache_mb << 20}
  cache-snapshot-memory-size = {cache_mb << 18}
[monitor]
  store-enabled = false
[subscriber]
  enabled = false
[continuous_queries]
  enabled = false
[http]
  bind-address = "127.0.0.1:{self.port}"
  auth-enabled = {str(users).lower()}
  log-enabled = false
[logging]
  level = "warn"
  suppress-logo = true
"""
        )

    def command(self) -> list[str]:
        return [self.executable, "-config", str(self.folder / "influxdb.conf")]


class VictoriaMetrics(Server):
    """VictoriaMetrics, one node: takes line protocol at /write; of points that come again it keeps both, or the larger."""

    program, package = "victoria-metrics", "victoria-metrics"
    _ready = "/health"

    def command(self) -> list[str]:
        return [
            self.executable, f"-storageDataPath={self.folder}/data", f"-httpListenAddr=127.0.0.1:{self.port}",
            "-memory.allowedBytes=128MB", "-loggerLevel=WARN", "-retentionPeriod=100y",
        ]  # fmt: skip


class Prometheus(Server):
    """Prometheus with a prometheus.yml; the files that it names are looked for beside it."""

    program, package = "prometheus", "prometheus"
    _ready = "/-/ready"

    def __init__(self, folder: Path, settings: str) -> None:
        """As `Server`; `settings` becomes its prometheus.yml."""
        super().__init__(folder)
        (folder / "prometheus.yml").write_text(settings)

    def command(self) -> list[str]:
        return [
            self.executable, f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}", "--web.enable-lifecycle", "--log.level=warn",
            "--enable-feature=exemplar-storage",
        ]  # fmt: skip


class Alertmanager(Server):
    """Alertmanager with an alertmanager.yml, alone: no cluster."""

    program, package = "prometheus-alertmanager", "prometheus-alertmanager"
    _ready = "/-/ready"

    def __init__(self, folder: Path, settings: str, *, snapshot: str = "1m") -> None:
        """As `Server`; `settings` becomes its alertmanager.yml; `snapshot`: how often what it told is written, a kill forgets the rest."""
        super().__init__(folder)
        self._snapshot = snapshot
        (folder / "alertmanager.yml").write_text(settings)

    def command(self) -> list[str]:
        return [
            self.executable, f"--config.file={self.folder}/alertmanager.yml", f"--storage.path={self.folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}", "--cluster.listen-address=", "--log.level=warn",
            f"--data.maintenance-interval={self._snapshot}",
        ]  # fmt: skip


def find(program: str, package: str) -> str:
    """Return where a program is; Debian keeps some daemons out of a user's PATH.

    Raises:
        PartMissing: it is not on this machine.
    """
    found = shutil.which(program) or shutil.which(program, path=_SBIN)
    if found is None:
        raise PartMissing(f"{program} is missing", hint=f"sudo apt-get install {package}")
    return found

"""The settings of a stack's servers: those that ship (`deploy/`), with the waits of a demo and its own webhook for every receiver."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from headwater_shared.errors import PartMissing

_DEPLOY = Path(__file__).parents[2]
"""In a checkout: a package brings none of this along."""
TARGETS = "targets/headwater.yml"
"""What Prometheus scrapes, beside its settings."""
_ALERTMANAGERS = "alertmanagers/alertmanager.yml"

BEHIND = """\
[cloud.influx]
url = "{store}"
health_port = 0

[[cloud.notify]]
name = "on-call"
to = "alertmanager"
url = "{alertmanager}"
"""
MOSQUITTO = """\
user {user}
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
max_queued_messages 0
log_type error
log_type warning
"""


def alertmanager(hook: str) -> str:
    """Return the alertmanager.yml that ships, its waits shortened; each receiver is a path of the webhook's.

    Raises:
        PartMissing: it is not there.
    """
    text = _text("alertmanager/alertmanager.yml")
    routes, _, receivers = text.partition("\nreceivers:\n")
    names = re.findall(r"^  - name: (\S+)$", receivers, re.MULTILINE)
    routes = re.sub(r"^templates: .*\n", "", routes, flags=re.MULTILINE)
    routes = re.sub(r"group_wait: \w+", "group_wait: 1s", routes)
    routes = re.sub(r"group_interval: \w+", "group_interval: 2s", routes)
    own = [f"  - name: {name}\n    webhook_configs: [{{url: {hook}{name}, send_resolved: true}}]\n" for name in names]  # fmt: skip
    return f"{routes}\nreceivers:\n{''.join(own)}"


def prometheus(folder: Path, alertmanager: str) -> str:
    """Put the rules that ship beside a prometheus.yml to be, with an Alertmanager's host and port; return that which ships.

    Raises:
        PartMissing: it is not there.
    """
    text = _text("prometheus/prometheus.yml")
    shutil.copytree(_DEPLOY / "prometheus" / "rules", folder / "rules")
    for name in (TARGETS, _ALERTMANAGERS):
        (folder / name).parent.mkdir()
    (folder / _ALERTMANAGERS).write_text(f'- targets: ["{alertmanager}"]\n')
    return re.sub(r"(scrape|evaluation)_interval: \w+", r"\1_interval: 5s", text)


def _text(name: str) -> str:
    try:
        return (_DEPLOY / name).read_text()
    except FileNotFoundError:
        raise PartMissing(f"there is no {_DEPLOY / name}", hint="run `make demo-stack` in a checkout of Headwater") from None  # fmt: skip

"""A whole box that tells Alertmanager, both killed: a person hears once that it fires and once that it is over (R29)."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater_appliance.stack_servers import Alertmanager
from tests.cloud.receivers import webhook
from tests.cloud.test_real_alertmanager import SETTINGS, said
from tests.stack import make, running
from tests.support import until
from tests.system.box import CLOUD, EDGE, box
from tests.system.wire import Wire


@pytest.mark.covers("R29")
def test_r29_a_box_and_its_alertmanager_are_killed_and_people_hear_each_thing_once(tmp_path: Path) -> None:
    """The cloud side dies when it has written down what it will post, and again when it has posted; Alertmanager dies as well; the pump
    cools down while nobody watches.
    """
    with webhook() as hook, box(tmp_path / "box") as here:
        server = make(Alertmanager, tmp_path / "manager", SETTINGS.format(url=hook.url), snapshot="100ms")
        with running(server) as manager:
            route = f'[[cloud.notify]]\nname = "on-call"\nto = "alertmanager"\nurl = "{server.url}"\n'
            here.settings.write_text(here.settings.read_text() + route)
            here.start(EDGE)
            here.ready(EDGE)
            here.start(CLOUD, crash="cloud.alertmanager.noted")
            with Wire(here.port, "pump-7") as wire:
                wire.send(wire.publish("hw/north/pump-7/data", b'{"temperature": 91}'))
                wire.read_acknowledgements(1)
                here.killed(CLOUD)
                here.start(CLOUD, crash="cloud.alertmanager.posted")
                here.killed(CLOUD)
                until(lambda: said(hook) == [["firing north/pump-7/temperature"]], 20)
                log = server.folder / "data" / "nflog"
                written = log.stat().st_mtime_ns if log.exists() else 0
                until(lambda: log.exists() and log.stat().st_mtime_ns > written, 20)
                manager.kill()
                wire.send(wire.publish("hw/north/pump-7/data", b'{"temperature": 60}'))
                wire.read_acknowledgements(2)
            manager.start()
            here.start(CLOUD)
            until(lambda: said(hook)[1:] == [["resolved north/pump-7/temperature"]], 30)
            assert "on-call" in here.run("headwater-cloud", "notify", "test")
            here.end(CLOUD)
            assert not here.troubles()

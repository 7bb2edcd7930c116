"""The check of what people are to be told: does it reach them?"""

from __future__ import annotations

from headwater_appliance.box import Box
from headwater_appliance.findings import Bad, Good, Note, Verdict
from headwater_appliance.look import health_of
from headwater_appliance.shown import amount, named
from headwater_cloud import notify_file, notify_list


def notifications(box: Box) -> Verdict:
    """Do notifications reach people?"""
    path = box.data / notify_file.FILE
    if not path.exists():
        return Good("nobody was told anything yet")
    counts = notify_list.counts(path)
    refused = {name: of for name, (_, of) in counts.items() if of}
    waiting = sum(of for of, _ in counts.values())
    health, _ = health_of(box)
    routes = health.get("notify", {}).get("routes", {})
    failing = [f"{name} ({route['failing']})" for name, route in routes.items() if route["failing"]]
    look = f"{box.command('headwater notify list')} says what and why; {box.command('headwater notify test')} tries the routes"
    if failing:
        return Bad(
            f"notifications do not go out by {named(failing)}; {amount(waiting, 'notification')} wait, nothing is lost",
            look,
        )
    if refused:
        return Note(
            f"{amount(sum(refused.values()), 'notification')} were refused by {named(list(refused))}: nobody was told",
            f"{look}; {box.command('headwater notify retry')} tries them again",
        )
    gone = [name for name in counts if routes and name not in routes]
    if gone:
        return Note(
            f"notifications wait for {named(gone)}, and the settings have no such route any more", look
        )
    return Good(
        f"by {amount(len(routes), 'route')}"
        + (f"; {waiting:,} wait for quiet hours to end, or for their turn" if waiting else "")
    )

"""By what each route sends."""

from __future__ import annotations

from headwater_cloud.notify_hours import Zones
from headwater_cloud.notify_settings import Rules
from headwater_cloud.notify_words import Ack
from headwater_cloud.send_file import JsonLines
from headwater_cloud.send_webhook import Webhook
from headwater_cloud.sending import Send
from headwater_cloud.settings import in_data


def send_of(rules: Rules, data: str, zones: Zones, ack: Ack) -> Send:
    """Make what a route sends by; Apprise is imported only for a route that needs it."""
    if rules.settings.to == "file":
        return JsonLines(in_data(data, rules.settings.file))
    if rules.settings.to == "webhook":
        return Webhook(rules, zones, ack)
    from headwater_cloud.send_apprise import Services

    return Services(rules, zones, ack)

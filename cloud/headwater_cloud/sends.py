"""By what each route sends."""

from __future__ import annotations

from headwater_cloud.notify_settings import Rules
from headwater_cloud.send_file import JsonLines
from headwater_cloud.sending import Send
from headwater_cloud.settings import in_data


def send_of(rules: Rules, data: str) -> Send:
    """Make what a route sends by; libraries are imported only for a route that needs them."""
    return JsonLines(in_data(data, rules.settings.file))

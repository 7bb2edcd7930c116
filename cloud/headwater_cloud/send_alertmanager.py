"""A POST of alerts to one Alertmanager's `/api/v2/alerts`, and what its answer means.

https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import base64
import http.client
import threading
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from headwater_cloud.sending import Failed
from headwater_shared.errors import Refused
from headwater_shared.webhook import NEVER, Address, cut

_PATH = "/api/v2/alerts"
_STATUS = "/api/v2/status"
_HINT = "check url of this [[cloud.notify]], and the log of Alertmanager"


class Posts:
    """Posts to one address; user and password in it are sent as basic authentication. Calls do not overlap."""

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
        prefix = parts.path.rstrip("/").removesuffix(_PATH)
        self._address = Address(urlunsplit((parts.scheme, place, prefix + _PATH, "", "")), b"", timeout_s)
        self._status = prefix + _STATUS
        self._headers: dict[str, str] = {}
        if parts.username:
            words = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(words).decode()}"

    def began(self) -> str:
        """Ask when it was started: as long as that is the same it has all that it took. "" where it does not say."""
        made = self._address.connection()
        end = threading.Timer(self._address.timeout_s, cut, (made,))
        end.start()
        try:
            made.connect()
            made.request("GET", self._status, headers=self._headers)
            return str(msgspec.json.decode(made.getresponse().read())["uptime"])
        except (OSError, ValueError, http.client.HTTPException, LookupError, TypeError):
            return ""
        finally:
            end.cancel()
            made.close()

    def post(self, name: str, alerts: list[dict[str, Any]]) -> None:
        """Post some alerts, and wait for the answer, never longer than the time-out.

        Raises:
            Failed: none were taken; later they may be.
            Refused: some are not wanted, whenever they come; the others were taken, or none was: the answer does not say.
        """
        address, made = self._address, self._address.connection()
        end = threading.Timer(address.timeout_s, cut, (made,))
        end.start()
        try:
            made.connect()
            answer = address.post(made, name, msgspec.json.encode(alerts), **self._headers)
        except (OSError, ValueError, http.client.HTTPException) as error:  # of a host that is no name, too
            why = f"{address.host} does not answer within {address.timeout_s:g} s"
            if not isinstance(error, TimeoutError):
                why = f"{address.host}: {getattr(error, 'strerror', None) or str(error) or type(error).__name__}"
            raise Failed(why, hint=_HINT) from None
        finally:
            end.cancel()
        if answer.status in NEVER:
            raise Refused(f"{address.host} answers {answer.status}: it does not take some alert", hint=_HINT)
        if not 200 <= answer.status < 300:
            raise Failed(f"{address.host} answers {answer.status}", hint=_HINT, after_s=answer.retry_after_s)

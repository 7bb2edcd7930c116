"""What all clients of Kafka share: their settings, and what a person should do about an error."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from headwater_shared.errors import BusUnavailable

Config = Mapping[str, str | int]

ANSWER_MS = 10_000
"""Kafka owes an answer for so long; then the bus is away, and whoever asked does the same again later."""
_TIMEOUT = "socket.timeout.ms"
MESSAGE_BYTES = 16_000_000
"""A frame of all series of an agent fits; brokers take it because the topic says so (`kafka_topics`)."""

_TOPICS = "make the topics: headwater-cloud topics --apply"
_RIGHTS = "give Kafka's user its rights: docs/kafka.md lists them"
_USER = "check user, password and mechanism in [kafka]"
_HINTS = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: _TOPICS,
    KafkaError._UNKNOWN_TOPIC: _TOPICS,
    KafkaError._UNKNOWN_PARTITION: _TOPICS,
    KafkaError.MSG_SIZE_TOO_LARGE: _TOPICS,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: _RIGHTS,
    KafkaError.GROUP_AUTHORIZATION_FAILED: _RIGHTS,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: _RIGHTS,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: _RIGHTS,
    KafkaError._AUTHENTICATION: _USER,
    KafkaError.SASL_AUTHENTICATION_FAILED: _USER,
    KafkaError._SSL: "check tls and ca in [kafka], and the brokers' certificates",
}
_QUIET = logging.getLogger("headwater.kafka")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False
"""librdkafka writes a line for each attempt to connect; what matters is in the errors."""


class Troubles:
    """What the connection's own threads report: why nothing answers stands in no answer."""

    def __init__(self) -> None:
        self._cause: KafkaError | None = None

    def heard(self, error: KafkaError) -> None:
        """Take up a report; one that says what a person can do outlasts the others."""
        if self._cause is None or error.code() in _HINTS or self._cause.code() not in _HINTS:
            self._cause = error

    def unavailable(self, what: str, error: KafkaException | KafkaError) -> BusUnavailable:
        """Make the error for `what` did not work; the caller raises it."""
        found = error.args[0] if isinstance(error, KafkaException) else error
        text, hint = found.str(), _HINTS.get(found.code(), "")
        if self._cause is not None:
            text, hint = f"{text}; {self._cause.str()}", hint or _HINTS.get(self._cause.code(), "")
        self._cause = None
        return BusUnavailable(
            f"Kafka: {what}: {text}", hint=hint or "is it up? Everything waits until it answers"
        )


def answer_s(client: Config) -> float:
    """Return how long this client waits for an answer, seconds."""
    return int(client.get(_TIMEOUT, ANSWER_MS)) / 1000


def config(client: Config, troubles: Troubles, **more: Any) -> dict[str, Any]:
    """Return the settings of one client; in `more`, `_` stands for the dot. `client` goes before all others."""
    return {
        "error_cb": troubles.heard,
        "logger": _QUIET,
        "log_level": 3,
        "socket.keepalive.enable": True,
        _TIMEOUT: ANSWER_MS,
        "topic.metadata.propagation.max.ms": 2000,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 2000,
        **{name.replace("_", "."): value for name, value in more.items()},
        **client,
    }

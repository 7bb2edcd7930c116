"""Where each series belongs: its device, and its site with its metric, as numbers that columns are grouped by."""

from __future__ import annotations

from hashlib import blake2b
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
T = TypeVar("T")

_REMEMBERED = 256
"""Lists of devices whose names are known."""


class Places:
    """Grows with the series of `Names`; its numbers are this process's own."""

    def __init__(self) -> None:
        self.devices: list[str] = []
        """`site/device`."""
        self.groups: list[tuple[str, str]] = []
        """Site and metric."""
        self.device = np.zeros(0, np.int64)
        """Of each series, an index into `devices`."""
        self.group = np.zeros(0, np.int64)
        """Of each series, an index into `groups`."""
        self.metrics: list[str] = []
        self.metric = np.zeros(0, np.int64)
        """Of each series, an index into `metrics`."""
        self.order = np.zeros(0, np.uint64)
        """Of each series a hash of its name: one order of merging in every process, without sorting all names again."""
        self._devices: dict[str, int] = {}
        self._groups: dict[tuple[str, str], int] = {}
        self._lists: dict[bytes, list[str]] = {}
        self._metrics: dict[str, int] = {}

    def follow(self, series: list[str]) -> None:
        """Take up the series that have come; those known before are the first of them."""
        new = series[len(self.device) :]
        if not new:
            return
        device, group, metrics, order = [], [], [], []
        for name in new:
            of, _, metric = name.rpartition("/")
            device.append(_number(self._devices, self.devices, of))
            group.append(_number(self._groups, self.groups, (of.partition("/")[0], metric)))
            metrics.append(_number(self._metrics, self.metrics, metric))
            order.append(int.from_bytes(blake2b(name.encode(), digest_size=8).digest()))
        self.device = np.append(self.device, np.array(device, np.int64))
        self.group = np.append(self.group, np.array(group, np.int64))
        self.metric = np.append(self.metric, np.array(metrics, np.int64))
        self.order = np.append(self.order, np.array(order, np.uint64))

    def names_of(self, devices: Ints) -> list[str]:
        """Return the names of devices; mostly the same ones are asked for again."""
        key = devices.tobytes()
        names = self._lists.get(key)
        if names is None:
            if len(self._lists) >= _REMEMBERED:
                self._lists.clear()
            names = self._lists[key] = [self.devices[number] for number in devices.tolist()]
        return names


def _number(known: dict[T, int], names: list[T], name: T) -> int:
    number = known.setdefault(name, len(names))
    if number == len(names):
        names.append(name)
    return number

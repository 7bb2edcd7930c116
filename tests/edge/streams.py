"""Streams in which nothing happens: noise, drift, seasons, states and steps of many kinds; an alarm in them is a false one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection.points import Points

DAY = 86_400
WEEK = 7 * DAY
START = 1_795_046_400_000_000


def _recursive(phi: float, noise: NDArray[np.float64]) -> NDArray[np.float64]:
    out, last = np.empty(len(noise)), 0.0
    for at, one in enumerate(noise.tolist()):
        last = phi * last + one
        out[at] = last
    return out


def quiet(windows: int, step_s: float, seed: int) -> dict[str, NDArray[np.float64]]:
    """Return means of windows by the kind of stream; shape (windows,) each."""
    chance = np.random.default_rng(seed)
    t = np.arange(windows) * step_s
    noise = chance.normal(size=windows)
    day = np.sin(2 * np.pi * t / DAY + chance.uniform(0, 6))
    slow = 0.1 * _recursive(0.99, chance.normal(size=windows))
    cycle = (t + chance.uniform(0, 1200)) % 1200 < chance.uniform(300, 800)
    works = ((t / 3600 + chance.uniform(0, 24)) % 24 < 10) & ((t // DAY) % 7 < 5)
    flips = np.cumsum(chance.random(windows) < step_s / 7200) % 2
    return {
        "white": 20 + noise,
        "student t of 3": 20 + chance.standard_t(3, windows),
        "laplace": chance.laplace(size=windows),
        "lognormal": np.exp(noise),
        "uniform": chance.random(windows),
        "autoregressive": _recursive(0.9, noise),
        "slow": slow,
        "random walk": 0.1 * np.cumsum(noise),
        "drift": 20 + t / DAY * 2 + 0.3 * noise,
        "day": 15 + 5 * day + 0.3 * noise,
        "day and slow": 15 + 5 * day + slow,
        "day of noise": 15 + (1.2 + day) * noise,
        "day in half degrees": np.round((15 + 5 * day + 0.1 * noise) * 2) / 2,
        "cycle": 5 + 10 * cycle + 0.2 * noise,
        "working hours": 2 + 8 * works + 0.1 * noise,
        "on and off": flips * 1.0,
        "on and off, noisy": 5 * flips + 0.3 * noise,
        "constant": np.full(windows, 21.5),
        "counts": chance.poisson(3, windows) * 1.0,
        "rare counts": (chance.random(windows) < 0.001) * 1.0,
        "rate of a counter": np.round(100 + 20 * day + 5 * noise) / 10,
        "tenths": np.round(20 + 0.15 * noise, 1),
        "whole degrees": np.round(20 + slow),
        "sawtooth": t / 3600 % 1 * 10 + 0.1 * noise,
        "bursts": np.abs(_recursive(0.95, noise)) ** 3,
    }


def windows_of(columns: NDArray[np.float64], step_s: float) -> Iterator[Points]:
    """Yield a call a window over all columns; shape (windows, streams)."""
    streams = columns.shape[1]
    row, none, one = np.arange(streams), np.zeros(streams), np.ones(streams, np.int64)
    length = int(step_s * 1e6)
    for at, value in enumerate(np.ascontiguousarray(columns)):
        start = np.full(streams, START + at * length)
        yield Points(row, row, start, value, value, value, none, one, length)

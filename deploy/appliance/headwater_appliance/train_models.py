"""`python -m headwater_appliance.train_models FOLDER`: the models that ship, made anew from the simulator's pumps when all is well.

Two small networks by scikit-learn, and their manifests: `pumps`, an autoencoder over the five metrics of a pump in the last hour,
trained to put back metrics that were blanked out (Vincent et al. 2008, "Extracting and composing robust features with denoising
autoencoders"), so that each is told from the others; and `temperature`, which foretells a temperature from the eight hours before.
Golden scores are scikit-learn's own: the agent, with onnxruntime, must come to the same.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection import onnx_model
from headwater_firmware_sim import plan as plans
from headwater_firmware_sim import scenario as scenarios
from headwater_firmware_sim.device import Device
from headwater_shared import extras
from headwater_shared.errors import Refused

Floats = NDArray[np.float64]

LEVEL, LEVEL_US = "10m", 600_000_000
OPSET = 17
_PERIODS_S = (60.0, 600.0)
"""Between two readings: windows of ten, and of one, as in the demo."""
_ORIGIN_US = 1_700_000_000_000_000 // 86_400_000_000 * 86_400_000_000
MOST_BYTES = 50_000
_BLANKED = 0.2
"""Of the metrics of an input, while the autoencoder is trained."""


class Size(NamedTuple):
    """How much a training sees."""

    pumps: int = 12
    """Of each period of readings."""
    days: int = 15
    rounds: int = 60


class Scale(NamedTuple):
    """Centre and spread of each value of a window."""

    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, windows: Floats) -> Scale:
        """Take them from windows; three digits are enough, and what stands in the manifest is what was trained on."""
        values = windows.reshape(-1, windows.shape[-1])
        return cls(values.mean(0).round(3), np.maximum(values.std(0).round(3), 1e-3))


class Trained(NamedTuple):
    """What was made."""

    name: str
    onnx: bytes
    manifest: str


class _Golden(NamedTuple):
    inputs: Floats
    score: float
    came: Floats | None = None


def main(arguments: list[str]) -> int:
    """Write both models into a folder."""
    if len(arguments) != 1:
        print("usage: python -m headwater_appliance.train_models FOLDER", file=sys.stderr)
        return 2
    for path in write(Path(arguments[0])):
        print(f"{path} {path.stat().st_size:,} bytes")
    return 0


def write(folder: Path, size: Size = Size()) -> list[Path]:  # noqa: B008 - a tuple never changes
    """Train both, write them and load each as an agent does; return where they are.

    Raises:
        PartMissing: scikit-learn, skl2onnx or onnxruntime is not installed.
        SettingsError: one does not do what its manifest says.
        Refused: one is too large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metrics, windows = healthy(size)
    paths = []
    for made in (_pumps(metrics, windows, size), _temperature(metrics, windows, size)):
        path = folder / f"{made.name}.onnx"
        if len(made.onnx) >= MOST_BYTES:
            raise Refused(f"{path} would have {len(made.onnx):,} bytes", hint="fewer units a layer")
        path.write_bytes(made.onnx)
        path.with_suffix(".toml").write_text(made.manifest)
        onnx_model.read(path)
        paths.append(path)
    return paths


def healthy(size: Size, seed: int = 20261126) -> tuple[list[str], Floats]:
    """Return the metrics of pumps, and the means of their windows when nothing is wrong; shape (pumps, windows, metrics)."""
    metrics = list(scenarios.read("pumps").metrics)
    found = []
    for period_s in _PERIODS_S:
        plan = plans.make(
            "pumps", seed=seed, origin_us=_ORIGIN_US, seconds=size.days * 86_400.0, devices=size.pumps,
            rate=size.pumps * len(metrics) / period_s, misbehave=False,
        )  # fmt: skip
        plan.faults_of.clear()
        found += [_windows(Device(plan, index, list(range(len(metrics))))) for index in range(size.pumps)]
    return metrics, np.stack(found)


def _windows(device: Device) -> Floats:
    """Return the means of a device's windows; (windows, metrics)."""
    samples = list(device.samples())
    number = np.array([sample.time_us // LEVEL_US for sample in samples])
    values = np.array([sample.values for sample in samples])
    first = np.flatnonzero(np.diff(number, prepend=-1))
    sums: Floats = np.add.reduceat(values, first)
    return sums / np.diff(np.append(first, len(values)))[:, None]


def _spans(windows: Floats, length: int) -> Floats:
    """Return all runs of so many windows of each pump, side by side; (runs, length * metrics)."""
    runs = np.lib.stride_tricks.sliding_window_view(windows, length, axis=1)  # (pumps, runs, metrics, length)
    return runs.swapaxes(2, 3).reshape(-1, length * windows.shape[2])


def _pumps(metrics: list[str], windows: Floats, size: Size) -> Trained:
    length = 6
    scale = Scale.of(windows)
    whole = _spans((windows - scale.centre) / scale.spread, length)
    rng = np.random.default_rng(1)
    blank = np.tile(rng.random((len(whole), len(metrics))) < _BLANKED, length)
    network = _fitted((48, 6, 48), np.where(blank, 0.0, whole), whole, size)

    def golden(at: int, metric: str = "", more: float = 0.0) -> _Golden:
        raw = _spans(windows, length)[at].reshape(length, -1).round(3)
        if metric:
            raw[:, metrics.index(metric)] += more
        inputs = ((raw - scale.centre) / scale.spread).reshape(-1)
        there = ~np.isnan(inputs)
        off = network.predict(np.nan_to_num(inputs)[None])[0] - inputs
        return _Golden(raw.reshape(-1), float(np.sqrt(np.mean(off[there] ** 2))))

    n = len(whole)
    some = [golden(0), golden(n // 2), golden(n // 3, "current", np.nan), golden(n // 4, "vibration", 2.0)]
    about = "Five metrics of a pump in the last hour, from each other; from simulated pumps in two weeks when all was well."
    head = [
        'output = "reconstruction"', f"metrics = {_listed(metrics)}", f"windows = {length}",
        f'missing = {{ fill = "centre", most = {2 * length} }}',
    ]  # fmt: skip
    inputs = whole.shape[1]
    return Trained("pumps", _exported(network, inputs, inputs), _manifest(about, head, scale, some))


def _temperature(metrics: list[str], windows: Floats, size: Size) -> Trained:
    length = 48
    raw = windows[:, :, [metrics.index("temperature")]]
    scale = Scale.of(raw)
    runs = _spans((raw - scale.centre) / scale.spread, length + 1)
    network = _fitted((64, 32), runs[:, :-1], runs[:, -1], size)

    def golden(at: int, more: float = 0.0) -> _Golden:
        run = _spans(raw, length + 1)[at].round(3)
        run[-1] += more
        inputs = (run - scale.centre[0]) / scale.spread[0]
        return _Golden(run[:-1], float(abs(network.predict(inputs[None, :-1])[0] - inputs[-1])), run[-1:])

    n = len(runs)
    some = [golden(0), golden(n // 2), golden(n // 3, 8.0)]
    about = "A pump's temperature, from the eight hours before; from simulated pumps in two weeks when all was well."
    head = ['output = "forecast"', f"windows = {length}"]
    return Trained("temperature", _exported(network, length, 1), _manifest(about, head, scale, some))


def _fitted(layers: tuple[int, ...], inputs: Floats, outputs: Floats, size: Size) -> Any:
    networks = extras.load("sklearn.neural_network", "train")
    network = networks.MLPRegressor(
        hidden_layer_sizes=layers, activation="tanh", alpha=1e-4, batch_size=256, max_iter=size.rounds,
        n_iter_no_change=size.rounds, random_state=1,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it might still get a little better
        network.fit(inputs, outputs)
    return network


def _exported(network: Any, inputs: int, outputs: int) -> bytes:
    """Return a network as ONNX, with an output of shape (any, outputs): skl2onnx 1.20 gives several outputs the shape (any, 1)."""
    skl2onnx = extras.load("skl2onnx", "train")
    numpy_helper = extras.load("onnx.numpy_helper", "train")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = skl2onnx.to_onnx(network, np.zeros((1, inputs), np.float32), target_opset=OPSET)
    (last,) = (node for node in model.graph.node if node.op_type == "Reshape")
    (shape,) = (one for one in model.graph.initializer if one.name == last.input[1])
    shape.CopyFrom(numpy_helper.from_array(np.array([-1, outputs], np.int64), shape.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = outputs
    body: bytes = model.SerializeToString(deterministic=True)
    return body


def _manifest(about: str, head: list[str], scale: Scale, golden: list[_Golden]) -> str:
    scaling = f"centre = {_listed(scale.centre.tolist())}, spread = {_listed(scale.spread.tolist())}"
    lines = [
        "# Made by `python -m headwater_appliance.train_models`; docs/models.md says what the keys mean.", "[model]",
        f'about = "{about}"', f"opset = {OPSET}", f'level = "{LEVEL}"', *head,
        f'scaling = {{ by = "fixed", {scaling} }}', "tolerance = 1e-4",
    ]  # fmt: skip
    for one in golden:
        lines += ["", "[[model.golden]]", f"input = {_listed(one.inputs.round(3).tolist())}"]
        lines += [] if one.came is None else [f"next = {_listed(one.came.round(3).tolist())}"]
        lines += [f"score = {one.score:.6f}"]
    return "\n".join(lines) + "\n"


def _listed(values: list[Any]) -> str:
    return "[" + ", ".join(f'"{one}"' if isinstance(one, str) else repr(one) for one in values) + "]"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A model from a file: looked at, loaded, its golden vectors reproduced; from scaled inputs to scores."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater_edge.detection import onnx_file, onnx_manifest
from headwater_edge.detection.onnx_manifest import Fixed, Manifest
from headwater_edge.detection.points import Floats
from headwater_shared import extras
from headwater_shared.errors import SettingsError

Singles = NDArray[np.float32]

MOST_BYTES = 16 << 20
"""A model on a device has some KB; one of 16 MB would take a Pi a second a round."""
_MOST_BYTES_OF_MANIFEST = 1 << 20
FAR = 1e6
"""So many spreads from the centre is as far as it goes: squares and sums of it have room in a float32."""
_AT_ONCE = 4096
"""Rows a call: what a call needs of memory grows with them."""


class Judged(NamedTuple):
    """What a model says of n rows."""

    score: Floats
    """NaN where too much is missing; shape (n,)."""
    off: Singles
    """How far the newest window is from what came out, scaled, 0 where it is missing; shape (n, channels). Of scores: the score itself."""
    whole: bool = True
    """Nothing was missing."""


class Model:
    """A manifest, and onnxruntime's session of its file."""

    def __init__(self, body: bytes, manifest: Manifest, sha256: str, where: str) -> None:
        """Load what a file holds.

        Raises:
            SettingsError: it is no model that an agent runs, or does what its manifest does not say.
            PartMissing: onnxruntime is not installed.
        """
        self.manifest = manifest
        self.sha256 = sha256
        """Of file and manifest: a model's identity."""
        onnx_file.check(body, where, manifest.opset)
        self._session = _session(body, where)
        self._input, self._output = self._ends(where)
        self._check_golden(where)

    def judge(self, inputs: Singles, newest: Singles) -> Judged:
        """Score rows; one call of onnxruntime for some thousands of them.

        Args:
            inputs: scaled, NaN for what is missing, not changed; shape (n, inputs).
            newest: of them the channels of the newest window; of a forecast those that came, likewise; shape (n, channels).
        """
        if misses(inputs) or misses(newest):
            return self._judge_what_is_there(inputs, newest)
        out = self._run(inputs)
        kind = self.manifest.output
        if kind == "score":
            return Judged(out[:, 0].astype(np.float64), out)
        off = out
        off -= inputs if kind == "reconstruction" else newest
        score = _lengths(off)
        if off.shape[1] > 1:
            score /= math.sqrt(off.shape[1])
        return Judged(score, off[:, -self.manifest.channels :])

    def _judge_what_is_there(self, inputs: Singles, newest: Singles) -> Judged:
        """Fill what is missing, and leave it out of distances."""
        of = self.manifest
        absent = np.isnan(inputs)
        usable = absent.sum(axis=1) <= of.missing.most
        aim, unaimed = (newest, np.isnan(newest)) if of.output == "forecast" else (inputs, absent)
        if of.output != "score":
            usable &= ~unaimed.all(axis=1)
        score = np.full(len(inputs), np.nan)
        off = np.zeros((len(inputs), of.channels if of.output != "score" else 1), np.float32)
        (at,) = np.nonzero(usable)
        if not len(at):
            return Judged(score, off, whole=False)
        out = self._run(self._filled(inputs[at], absent[at]))
        if of.output == "score":
            score[at], off[at] = out[:, 0], out
            return Judged(score, off, whole=False)
        gone = unaimed[at]
        far = np.where(gone, np.float32(0), out - aim[at])
        score[at] = _lengths(far) / np.sqrt((~gone).sum(axis=1))
        off[at] = far[:, -of.channels :]
        return Judged(score, off, whole=False)

    def _filled(self, inputs: Singles, absent: NDArray[np.bool_]) -> Singles:
        of = self.manifest
        if of.missing.fill == "last":
            steps = inputs.reshape(-1, of.windows, of.channels)
            for step in range(1, of.windows):
                gone = np.isnan(steps[:, step])
                steps[:, step][gone] = steps[:, step - 1][gone]
        inputs[np.isnan(inputs)] = 0.0
        return inputs

    def _run(self, inputs: Singles) -> Singles:
        """Return what comes out, a fresh array; shape (n, outputs)."""
        if len(inputs) <= _AT_ONCE:
            found = self._session.run([self._output], {self._input: inputs})[0]
        else:
            found = np.concatenate([
                self._session.run([self._output], {self._input: inputs[at : at + _AT_ONCE]})[0]
                for at in range(0, len(inputs), _AT_ONCE)
            ])  # fmt: skip
        out: Singles = found.reshape(len(inputs), self.manifest.outputs)
        return out

    def _ends(self, where: str) -> tuple[str, str]:
        """Return the names of input and output; their shapes and types are those of the manifest."""
        of = self.manifest
        try:
            inputs, outputs = (
                [
                    (one.name, one.type, tuple(dim if isinstance(dim, int) else "any" for dim in one.shape))
                    for one in ends
                ]
                for ends in (self._session.get_inputs(), self._session.get_outputs())
            )
        except UnicodeDecodeError:
            raise SettingsError(f"{where}: a name in it is no text", hint="copy it again, whole") from None
        if len(inputs) != 1:
            raise SettingsError(
                f"{where} has {len(inputs)} inputs",
                hint="one, of shape (rows, values): put them side by side in the model",
            )
        chosen = [one for one in outputs if of.output_name in {"", one[0]}]
        if len(chosen) != 1:
            names = ", ".join(repr(one[0]) for one in outputs)
            raise SettingsError(
                f"{where} has the outputs {names}, and the manifest's output_name is {of.output_name!r}",
                hint="name the one that counts: output_name in the manifest",
            )
        for (name, kind, shape), width, what in (
            (inputs[0], of.inputs, "input"),
            (chosen[0], of.outputs, "output"),
        ):
            fits = {("any", width), ("any",) if what == "output" and width == 1 else ("any", width)}
            if kind != "tensor(float)" or shape not in fits:
                raise SettingsError(
                    f"{where}: its {what} {name!r} is {kind} of shape ({', '.join(map(str, shape))}), "
                    f"the manifest asks for tensor(float) of shape (any, {width})",
                    hint="export float32 with a dynamic first axis; docs/models.md says how, also for scikit-learn's (any, 1)",
                )
        return inputs[0][0], chosen[0][0]

    def _check_golden(self, where: str) -> None:
        """Reproduce the golden vectors: together, and each alone."""
        of = self.manifest
        inputs, newest = golden_inputs(of)
        wanted = np.array([one.score for one in of.golden])
        try:
            found = [self.judge(inputs, newest).score, np.concatenate([
                self.judge(inputs[at : at + 1], newest[at : at + 1]).score for at in range(len(inputs))
            ])]  # fmt: skip
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common class
            raise SettingsError(
                f"{where} does not run: {_words(error)}",
                hint="try it with onnxruntime on a desk, on its golden vectors",
            ) from None
        room = of.tolerance * np.maximum(1.0, np.abs(wanted))
        for scores in found:
            # Not "off > room": NaN must not pass.
            for at in np.flatnonzero(~(np.abs(scores - wanted) <= room)).tolist():
                raise SettingsError(
                    f"{where} gives its golden vector {at + 1} the score {scores[at]:.6g}, the manifest says {wanted[at]:.6g}",
                    hint="file and manifest are not of one export, or scaling, order or tolerance is wrong: export both again",
                )


def read(path: Path, found: tuple[bytes, bytes] | None = None) -> Model:
    """Load a model from FILE.onnx and its manifest FILE.toml.

    Args:
        path: of FILE.onnx.
        found: what both hold, if that was read already; they must still hold it.

    Raises:
        SettingsError: one of them is not there, too large, wrong, or does not do what the manifest says.
        PartMissing: onnxruntime is not installed.
    """
    if path.suffix != ".onnx":
        raise SettingsError(
            f"{path} is no FILE.onnx", hint="name the model's file; its manifest FILE.toml lies beside it"
        )
    found = found or bytes_of(path)
    manifest = onnx_manifest.read(path.with_suffix(".toml"))
    if bytes_of(path) != found:
        raise SettingsError(
            f"{path} changes while it is read", hint="try again when both files are there, whole"
        )
    return Model(found[0], manifest, sha256_of(*found), str(path))


def bytes_of(path: Path) -> tuple[bytes, bytes]:
    """Return what file and manifest hold.

    Raises:
        SettingsError: one of them cannot be read or is too large.
    """
    found = []
    for one, most in ((path, MOST_BYTES), (path.with_suffix(".toml"), _MOST_BYTES_OF_MANIFEST)):
        try:
            with one.open("rb") as file:
                found.append(file.read(most + 1))
        except FileNotFoundError:
            what = "model" if one == path else "manifest"
            raise SettingsError(
                f"there is no {what} {one}", hint="FILE.onnx and FILE.toml lie side by side; docs/models.md"
            ) from None
        except OSError as error:
            raise SettingsError(
                f"{one} cannot be read: {error.strerror}", hint="check its path and its owner"
            ) from None
        if len(found[-1]) > most:
            raise SettingsError(
                f"{one} has more than {most >> 20} MB",
                hint="train a smaller one: models on a device have some KB",
            )
    return found[0], found[1]


def sha256_of(body: bytes, manifest: bytes) -> str:
    """Return the identity of a model: the SHA-256 of the SHA-256s of file and manifest, in hex."""
    return hashlib.sha256(hashlib.sha256(body).digest() + hashlib.sha256(manifest).digest()).hexdigest()


def golden_inputs(of: Manifest) -> tuple[Singles, Singles]:
    """Return the golden vectors as `Model.judge` takes them."""
    centre, spread = (of.scaling.centre, of.scaling.spread) if isinstance(of.scaling, Fixed) else (0.0, 1.0)
    windows = np.array([one.input for one in of.golden], np.float64).reshape(-1, of.windows, of.channels)
    inputs = scaled(windows, centre, spread).reshape(-1, of.inputs)
    if of.output != "forecast":
        return inputs, inputs[:, -of.channels :]
    return inputs, scaled(np.array([one.next for one in of.golden], np.float64), centre, spread)


def scaled(values: Floats, centre: Any, spread: Any) -> Singles:
    """Return values as models see them; NaN stays."""
    with np.errstate(over="ignore"):
        out: Singles = (values - centre).astype(np.float32)
        out /= spread
    np.maximum(out, -FAR, out=out)
    return np.minimum(out, FAR, out=out)


def misses(values: Singles) -> bool:
    """Tell whether there is a NaN: the least of all is one then, and that is found several times faster than by isnan."""
    return bool(np.isnan(np.minimum.reduce(values.reshape(-1), initial=0.0)))


def _lengths(off: Singles) -> NDArray[np.float64]:
    """Return the length of each row; each is summed up by itself, in the order of its columns, whatever the others are."""
    if off.shape[1] == 1:
        return np.abs(off[:, 0], dtype=np.float64)
    lengths: Floats = np.sqrt(np.einsum("ij,ij->i", off, off)).astype(np.float64)
    return lengths


def _session(body: bytes, where: str) -> Any:
    runtime = extras.load("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.enable_mem_pattern = False  # it remembers something of each number of rows that it ever saw
    options.log_severity_level = 4
    try:
        # Without its fallback, which would print words and load the model a second time.
        return runtime.InferenceSession(body, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # noqa: BLE001 - its errors have no common class
        raise SettingsError(
            f"{where}: onnxruntime {runtime.__version__} does not take it: {_words(error)}",
            hint="export it again, for an older opset such as 17 if this one is too new for it",
        ) from None


def _words(error: Exception) -> str:
    """Return what onnxruntime says, without its own file names, in a line."""
    said = " ".join(str(error).replace("[ONNXRuntimeError]", "").split())
    said = said.lstrip(" :0123456789")
    words = [word for word in said.split(" ") if not word.startswith("/onnxruntime_src")]
    return " ".join(words)[:240]

"""ONNX files by hand, a few bytes each, and their manifests: what tests of models load, or must refuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

FLOAT, DOUBLE = 1, 11


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def chunk(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


def tensor(name: str, values: object, kind: int = FLOAT, more: bytes = b"") -> bytes:
    """TensorProto: dims 1, data_type 2, name 8, raw_data 9."""
    array = np.asarray(values, np.float32 if kind == FLOAT else np.float64)
    dims = b"".join(number(1, size) for size in array.shape)
    return dims + number(2, kind) + chunk(8, name) + chunk(9, array.tobytes()) + more


def external(name: str, shape: Sequence[int], file: str) -> bytes:
    """A tensor whose data lie in another file: external_data 13 (key 1, value 2), data_location 14."""
    dims = b"".join(number(1, size) for size in shape)
    where = chunk(13, chunk(1, "location") + chunk(2, file))
    return dims + number(2, FLOAT) + chunk(8, name) + where + number(14, 1)


def node(op: str, inputs: Sequence[str], output: str, domain: str = "", more: bytes = b"") -> bytes:
    """NodeProto: input 1, output 2, op_type 4, domain 7."""
    return (
        b"".join(chunk(1, name) for name in inputs)
        + chunk(2, output) + chunk(4, op) + (chunk(7, domain) if domain else b"") + more
    )  # fmt: skip


def end(name: str, *dims: int | str, kind: int = FLOAT) -> bytes:
    """ValueInfoProto: name 1, type 2 (tensor_type 1: elem_type 1, shape 2: dim 1: dim_value 1 or dim_param 2)."""
    shape = b"".join(chunk(1, number(1, dim) if isinstance(dim, int) else chunk(2, dim)) for dim in dims)
    return chunk(1, name) + chunk(2, chunk(1, number(1, kind) + chunk(2, shape)))


def model(
    nodes: Sequence[bytes], tensors: Sequence[bytes], inputs: Sequence[bytes], outputs: Sequence[bytes],
    opsets: Sequence[tuple[str, int]] = (("", 17),), more: bytes = b"",
) -> bytes:  # fmt: skip
    """ModelProto: ir_version 1, graph 7 (node 1, name 2, initializer 5, input 11, output 12), opset_import 8."""
    graph = (
        b"".join(chunk(1, one) for one in nodes) + chunk(2, "g") + b"".join(chunk(5, one) for one in tensors)
        + b"".join(chunk(11, one) for one in inputs) + b"".join(chunk(12, one) for one in outputs)
    )  # fmt: skip
    imports = b"".join(chunk(8, (chunk(1, name) if name else b"") + number(2, n)) for name, n in opsets)
    return number(1, 8) + chunk(7, graph) + imports + more


def linear(weights: object, bias: float = 0.0) -> bytes:
    """Y = X weights + bias, of shape (any, outputs)."""
    of = np.asarray(weights, np.float32)
    return model(
        [node("MatMul", ["X", "W"], "P"), node("Add", ["P", "B"], "Y")],
        [tensor("W", of), tensor("B", np.full(of.shape[1], bias))],
        [end("X", "n", of.shape[0])], [end("Y", "n", of.shape[1])],
    )  # fmt: skip


def network(inputs: int, hidden: int, outputs: int, seed: int = 1) -> bytes:
    """Two layers with a tanh between, of random weights."""
    rng = np.random.default_rng(seed)
    return model(
        [
            node("MatMul", ["X", "W"], "P"), node("Tanh", ["P"], "H"), node("MatMul", ["H", "V"], "Q"), node("Add", ["Q", "B"], "Y"),
        ],
        [
            tensor("W", rng.standard_normal((inputs, hidden)) / 4), tensor("V", rng.standard_normal((hidden, outputs)) / 4),
            tensor("B", rng.standard_normal(outputs)),
        ],
        [end("X", "n", inputs)], [end("Y", "n", outputs)],
    )  # fmt: skip


def placed(path: Path, body: bytes, manifest: str) -> Path:
    """Write a model and its manifest."""
    path.write_bytes(body)
    path.with_suffix(".toml").write_text(manifest)
    return path


BEFORE = """[model]
opset = 17
level = "10s"
output = "forecast"
windows = 2
scaling = { by = "fixed", centre = [20.0], spread = [2.0] }

[[model.golden]]
input = [20.0, 24.0]
next = [22.0]
score = 0.5
"""
"""Of `foretells`: it says that the mean goes on to that of the last windows; scaled 0, 2 foretell 1.5, and 1 came."""


def foretells() -> bytes:
    """A quarter of the older window and three quarters of the newer."""
    return linear([[0.25], [0.75]])


TOGETHER = """[model]
opset = 17
level = "10s"
output = "reconstruction"
metrics = ["flow", "power", "vibration"]
scaling = { by = "own", windows = 20 }
missing = { fill = "centre", most = 1 }

[[model.golden]]
input = [1.0, 1.0, 1.0]
score = 0.0

[[model.golden]]
input = [1.0, 1.0, 4.0]
score = 1.7320508

[[model.golden]]
input = [1.0, nan, 3.0]
score = 1.9039433
"""
"""Of `together`: scaled, vibration is the mean of flow and power, and each of these is the other; (1, 1, 4) gives (1, 1, 1)."""


def together() -> bytes:
    """Flow as power, power as flow, vibration as their mean."""
    return linear([[0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [0.0, 0.0, 0.0]])

"""Models that an agent must not run: each is refused with one line that says what is wrong, and one that says what to do."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from headwater_edge.detection import onnx_model
from headwater_shared.errors import SettingsError
from tests.edge import onnx_files as files
from tests.edge.onnx_files import (
    BEFORE,
    TOGETHER,
    chunk,
    end,
    external,
    linear,
    model,
    node,
    number,
    placed,
    tensor,
)

W = [tensor("W", [[0.25], [0.75]])]
X, Y = [end("X", "n", 2)], [end("Y", "n", 1)]


def product(inputs: list[str], domain: str = "", op: str = "MatMul", more: bytes = b"") -> list[bytes]:
    return [node(op, inputs, "Y", domain, more)]


def inner_graph() -> bytes:
    """If: a graph inside of an attribute (g 6), whose node is another domain's."""
    graph = chunk(1, node("Odd", ["X"], "Z", "my.ops")) + chunk(2, "inner")
    return chunk(5, chunk(1, "then_branch") + chunk(6, graph) + number(20, 5))


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is no ONNX file, or only a part of one"),
    "text": (b'{"not": "onnx"}', "is no ONNX file, or only a part of one"),
    "truncated in the graph": (files.foretells()[:40], "is no ONNX file, or only a part of one"),
    "truncated by a byte": (files.foretells()[:-1], "is no ONNX file, or only a part of one"),
    "another opset than stated": (
        model(product(["X", "W"]), W, X, Y, [("", 18)]), "has opset 18, its manifest says 17",
    ),
    "no opset": (model(product(["X", "W"]), W, X, Y, []), "has no single opset of ONNX, its manifest says 17"),
    "two opsets": (
        model(product(["X", "W"]), W, X, Y, [("", 17), ("ai.onnx", 18)]), "has no single opset of ONNX, its manifest says 17",
    ),
    "external data": (
        model(product(["X", "W"]), [external("W", [2, 1], "weights.bin")], X, Y), "keeps weights in another file (external data)",
    ),
    "external data in an attribute": (
        model(
            [node("Constant", [], "W", more=chunk(5, chunk(1, "value") + chunk(5, external("", [2, 1], "/etc/passwd")))),
             *product(["X", "W"])], [], X, Y,
        ), "keeps weights in another file (external data)",
    ),
    "an operator of one's own": (
        model(product(["X", "W"], "my.ops", "Odd"), W, X, Y, [("", 17), ("my.ops", 1)]),
        "needs the operator Odd of 'my.ops', which ONNX does not have",
    ),
    "an operator of Microsoft's": (
        model(product(["X", "W"], "com.microsoft", "FusedMatMul"), W, X, Y, [("", 17), ("com.microsoft", 1)]),
        "needs the operator FusedMatMul of 'com.microsoft', which ONNX does not have",
    ),
    "one in an inner graph": (
        model([*product(["X", "W"]), node("If", ["C"], "Z", more=inner_graph())], W, X, Y),
        "needs the operator Odd of 'my.ops', which ONNX does not have",
    ),
    "an operator that ONNX has not": (
        model(product(["X", "W"], op="Odd"), W, X, Y), "does not take it: INVALID_GRAPH",
    ),
    "random numbers": (
        model([node("RandomNormalLike", ["X"], "R"), *product(["R", "W"])], W, X, Y),
        "draws random numbers (operator RandomNormalLike)",
    ),
    "dropout as in training": (
        model([node("Dropout", ["X", "", "T"], "R"), *product(["R", "W"])], W, X, Y),
        "draws random numbers (operator Dropout)",
    ),
    "two inputs": (
        model([node("Add", ["X", "Z"], "R"), *product(["R", "W"])], W, [*X, end("Z", "n", 2)], Y), "has 2 inputs",
    ),
    "two outputs": (
        model([*product(["X", "W"]), node("Relu", ["Y"], "Z")], W, X, [*Y, end("Z", "n", 1)]),
        "has the outputs 'Y', 'Z', and the manifest's output_name is ''",
    ),
    "too few inputs": (
        linear([[1.0]]), "its input 'X' is tensor(float) of shape (any, 1), the manifest asks for tensor(float) of shape (any, 2)",
    ),
    "a fixed number of rows": (
        model(product(["X", "W"]), W, [end("X", 1, 2)], [end("Y", 1, 1)]),
        "its input 'X' is tensor(float) of shape (1, 2), the manifest asks for tensor(float) of shape (any, 2)",
    ),
    "doubles": (
        model(
            product(["X", "W"]), [tensor("W", [[0.25], [0.75]], files.DOUBLE)], [end("X", "n", 2, kind=files.DOUBLE)],
            [end("Y", "n", 1, kind=files.DOUBLE)],
        ),
        "its input 'X' is tensor(double) of shape (any, 2), the manifest asks for tensor(float) of shape (any, 2)",
    ),
    "too many outputs": (
        linear([[1.0, 1.0], [1.0, 1.0]]),
        "its output 'Y' is tensor(float) of shape (any, 2), the manifest asks for tensor(float) of shape (any, 1)",
    ),
    "other values than the golden ones": (
        linear([[0.25], [0.7]]), "gives its golden vector 1 the score 0.4, the manifest says 0.5",
    ),
    "no number comes out": (
        model(
            [node("Sqrt", ["X"], "R"), node("Sub", ["R", "M"], "S"), node("Sqrt", ["S"], "T"), *product(["T", "W"])],
            [*W, tensor("M", [9.0])], X, Y,
        ),
        "gives its golden vector 1 the score nan, the manifest says 0.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_no_agent_should_run_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    """Whatever is wrong with it: one line that names it, and what to do."""
    body, said = BAD[name]
    path = placed(tmp_path / "bad.onnx", body, BEFORE)
    with pytest.raises(SettingsError) as refused:
        onnx_model.read(path)
    assert refused.value.message.startswith(str(path))
    assert said in refused.value.message
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 400 + len(str(path))
    assert refused.value.hint
    assert "\n" not in refused.value.hint


def test_an_opset_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    """Even if file and manifest agree on it: too new for onnxruntime, or older than it promises to run."""
    for opset, said in ((99, "does not take it"), (6, "the oldest that runs is 7")):
        body = model(product(["X", "W"]), W, X, Y, [("", opset)])
        path = placed(tmp_path / "odd.onnx", body, BEFORE.replace("17", str(opset)))
        with pytest.raises(SettingsError, match=said):
            onnx_model.read(path)


def test_bytes_that_anybody_damaged_never_end_the_process(tmp_path: Path) -> None:
    """Each byte of a model changed at random: it is refused, or its golden vectors hold as before."""
    rng = np.random.default_rng(1)
    good = files.foretells()
    refused = 0
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= int(rng.integers(1, 256))
        path = placed(tmp_path / "bad.onnx", bytes(bad), BEFORE)
        try:
            found = onnx_model.read(path)
        except SettingsError:
            refused += 1
        else:
            score = found.judge(*onnx_model.golden_inputs(found.manifest)).score
            assert score == pytest.approx([0.5], abs=1e-4)
    assert refused > len(good) / 3


def test_an_oversized_file_is_refused_unread(tmp_path: Path) -> None:
    """A sparse terabyte: neither read nor given to anyone."""
    path = placed(tmp_path / "huge.onnx", b"", BEFORE)
    os.truncate(path, 1 << 40)
    with pytest.raises(SettingsError, match="has more than 16 MB"):
        onnx_model.read(path)
    path = placed(tmp_path / "wordy.onnx", files.foretells(), BEFORE + "#" * (1 << 20))
    with pytest.raises(SettingsError, match=r"wordy.toml has more than 1 MB"):
        onnx_model.read(path)


MANIFESTS: dict[str, tuple[str, str]] = {
    "unknown key": (BEFORE.replace("level", "levels"), "unknown key 'levels' in [model]"),
    "unknown key of scaling": (BEFORE.replace("spread =", "spreads ="), "unknown key 'spreads' in [model.scaling]"),
    "lacks a key": (BEFORE.replace("opset = 17\n", ""), "[model] lacks the key 'opset'"),
    "lacks golden vectors": (BEFORE.partition("\n\n")[0], "[model] lacks the key 'golden'"),
    "golden vectors, but none": (BEFORE.partition("\n\n")[0] + "\ngolden = []", "golden"),
    "no such output": (BEFORE.replace('"forecast"', '"oracle"'), "'oracle' is not among its values"),
    "no such value": (BEFORE.replace("windows = 2", 'windows = 2\nvalues = ["median"]'), "'median' is not among its values"),
    "a centre too few": (BEFORE.replace("[20.0]", "[]"), "scaling needs 1 centres and spreads"),
    "a spread of nothing": (BEFORE.replace("[2.0]", "[0.0]"), "a spread of the scaling is not above 0"),
    "a golden input too few": (BEFORE.replace("[20.0, 24.0]", "[20.0]"), "golden vector 1 has 1 inputs instead of 2"),
    "a forecast without its next": (BEFORE.replace("next = [22.0]\n", ""), "golden vector 1 has 0 values in `next` instead of 1"),
    "a golden score that is none": (BEFORE.replace("0.5", "nan"), "golden vector 1 holds what is no number"),
    "a golden input that misses": (BEFORE.replace("[20.0, 24.0]", "[20.0, nan]"), "golden vector 1 misses more than missing.most"),
    "all may be missing": (BEFORE.replace("windows = 2", "windows = 2\nmissing = { most = 2 }"), "missing.most must be below 2"),
    "the window before, of one": (TOGETHER.replace('"centre"', '"last"'), 'missing.fill = "last" needs several windows'),
    "a metric twice": (TOGETHER.replace('"power"', '"flow"'), "a metric or a value stands there twice"),
    "too many windows": (BEFORE.replace("windows = 2", "windows = 5000"), "5,000 inputs are too many"),
    "no TOML": ("[model", "this is not TOML"),
    "another table": (BEFORE.replace("[model]", "[modell]"), "modell"),
}  # fmt: skip


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_says_too_little_or_too_much_is_refused(name: str, tmp_path: Path) -> None:
    """One line that names the file and the key, and what to do."""
    manifest, said = MANIFESTS[name]
    assert manifest not in {BEFORE, TOGETHER}
    path = placed(tmp_path / "odd.onnx", files.foretells(), manifest)
    with pytest.raises(SettingsError) as refused:
        onnx_model.read(path)
    assert str(path.with_suffix(".toml")) in refused.value.message
    assert said in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.hint


def test_a_model_without_its_manifest_or_its_file_is_refused(tmp_path: Path) -> None:
    """Each is named, and so is a name that is no model's."""
    path = placed(tmp_path / "half.onnx", files.foretells(), BEFORE)
    path.with_suffix(".toml").unlink()
    for name, said in (
        ("half.onnx", "there is no manifest"),
        ("none.onnx", "there is no model"),
        ("half.h5", "is no FILE.onnx"),
    ):
        with pytest.raises(SettingsError, match=said):
            onnx_model.read(tmp_path / name)


def test_one_of_several_outputs_can_be_named(tmp_path: Path) -> None:
    """The manifest says which of them counts."""
    body = model([*product(["X", "W"]), node("Neg", ["Y"], "Z")], W, X, [*Y, end("Z", "n", 1)])
    path = placed(
        tmp_path / "two.onnx", body, BEFORE.replace("windows = 2", 'windows = 2\noutput_name = "Y"')
    )
    assert onnx_model.read(path).manifest.output_name == "Y"


def test_good_models_are_taken(tmp_path: Path) -> None:
    """Those that the tests of refusals are made from: nothing else was wrong with them."""
    for name, body, manifest in (("a", files.foretells(), BEFORE), ("b", files.together(), TOGETHER)):
        found = onnx_model.read(placed(tmp_path / f"{name}.onnx", body, manifest))
        assert len(found.sha256) == 64

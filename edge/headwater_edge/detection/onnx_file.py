"""What an ONNX file must not hold: looked at before onnxruntime gets it, which would take most of this without a word.

onnxruntime's own errors do not suffice [ran, 1.32]: it loads Microsoft's operators beside ONNX's, operators that draw random
numbers, opsets that nobody has released, and looks for external data in the working directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headwater_edge.detection import onnx_schema
from headwater_shared.errors import SettingsError

OLDEST_OPSET = 7
"""onnxruntime promises nothing for those before."""
_EXTERNAL = 1
_DOMAINS = {b"", b"ai.onnx", b"ai.onnx.ml"}
_RANDOM = {
    b"RandomNormal", b"RandomNormalLike", b"RandomUniform", b"RandomUniformLike", b"Multinomial", b"Bernoulli",
}  # fmt: skip


def check(body: bytes, where: str, opset: int) -> None:
    """Look whether a file is one that an agent runs; onnxruntime looks at the rest.

    Args:
        body: what it holds.
        where: how errors name it.
        opset: that its manifest states.

    Raises:
        SettingsError: it is not.
    """
    messages = onnx_schema.messages()
    try:
        model = messages.Model.FromString(body)
    except messages.DecodeError:
        model = messages.Model()
    if not model.ir_version or not model.graph.node:
        raise SettingsError(
            f"{where} is no ONNX file, or only a part of one",
            hint="copy it again, whole; export writes .onnx",
        )
    _check_opset(model, where, opset)
    for node in _nodes(model):
        _check_node(node, where)
    for tensor in _tensors(model):
        if tensor.data_location == _EXTERNAL or tensor.external_data:
            raise SettingsError(
                f"{where} keeps weights in another file (external data)",
                hint="export it in one file: onnx.save(model, file, save_as_external_data=False); PyTorch: external_data=False",
            )


def _check_opset(model: Any, where: str, wanted: int) -> None:
    ours = [one.version for one in model.opset_import if one.domain in {b"", b"ai.onnx"}]
    if ours != [wanted]:
        found = f"opset {ours[0]}" if len(ours) == 1 else "no single opset of ONNX"
        raise SettingsError(
            f"{where} has {found}, its manifest says {wanted}",
            hint=f"export it for opset {wanted} (scikit-learn: target_opset, PyTorch: opset_version), or correct `opset`",
        )
    if wanted < OLDEST_OPSET:
        raise SettingsError(
            f"{where} has opset {wanted}; the oldest that runs is {OLDEST_OPSET}", hint="export it for 17"
        )


def _check_node(node: Any, where: str) -> None:
    name = node.op_type.decode(errors="replace")
    if node.domain not in _DOMAINS:
        raise SettingsError(
            f"{where} needs the operator {name} of {node.domain.decode(errors='replace')!r}, which ONNX does not have",
            hint="export it with ONNX's own operators; not as optimised by onnxruntime or quantised; functions inlined",
        )
    if node.op_type in _RANDOM or (node.op_type == b"Dropout" and any(node.input[2:3])):
        raise SettingsError(
            f"{where} draws random numbers (operator {name})",
            hint="export it for inference: PyTorch model.eval(); the same windows must give the same scores",
        )


def _nodes(model: Any) -> Iterator[Any]:
    """Yield all nodes, those of inner graphs and functions, too."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            for graph in _graphs(attribute):
                waiting.extend(graph.node)


def _tensors(model: Any) -> Iterator[Any]:
    """Yield all tensors that hold data, those inside of nodes, too."""
    graphs = [model.graph]
    for node in _nodes(model):
        for attribute in node.attribute:
            graphs += _graphs(attribute)
            yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)


def _graphs(attribute: Any) -> list[Any]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]

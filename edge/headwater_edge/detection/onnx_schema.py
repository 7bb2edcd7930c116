"""What is read of an ONNX file before onnxruntime gets it, as classes of protobuf; all else in it is passed over.

onnx.proto of ONNX 1.17 (the numbers of the fields are its own). The library `onnx` would be 27 MB on a Pi for these few fields;
protobuf is there wherever onnxruntime is, which depends on it, and reads bytes that nobody vouches for within bounds.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from headwater_shared import extras

_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Model": {"ir_version": (1, "INT64"), "graph": (7, "Graph"), "opset_import": (8, "*Opset"), "functions": (25, "*Function")},
    "Opset": {"domain": (1, "BYTES"), "version": (2, "INT64")},
    "Graph": {"node": (1, "*Node"), "initializer": (5, "*Tensor"), "sparse_initializer": (15, "*Sparse")},
    "Node": {"input": (1, "*BYTES"), "op_type": (4, "BYTES"), "attribute": (5, "*Attribute"), "domain": (7, "BYTES")},
    "Attribute": {
        "t": (5, "Tensor"), "g": (6, "Graph"), "tensors": (10, "*Tensor"), "graphs": (11, "*Graph"),
        "sparse_tensor": (22, "Sparse"), "sparse_tensors": (23, "*Sparse"),
    },
    "Tensor": {"external_data": (13, "*BYTES"), "data_location": (14, "INT32")},
    "Sparse": {"values": (1, "Tensor"), "indices": (2, "Tensor")},
    "Function": {"node": (7, "*Node"), "domain": (10, "BYTES")},
}  # fmt: skip
"""By message its fields: number and type, a star for repeated ones. Text is bytes, as in sparkplug_schema.py."""


class Messages(NamedTuple):
    """Classes of protobuf."""

    Model: Any
    DecodeError: type[Exception]


@cache
def messages() -> Messages:
    """Make the classes, in a pool of their own.

    Raises:
        PartMissing: protobuf is not installed.
    """
    descriptor_pb2 = extras.load("google.protobuf.descriptor_pb2", "onnx")
    pools = extras.load("google.protobuf.descriptor_pool", "onnx")
    factory = extras.load("google.protobuf.message_factory", "onnx")
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="onnx", package="headwater.onnx", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            plain = kind.removeprefix("*")
            if plain in _MESSAGES:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".headwater.onnx.{plain}"
            else:
                added.type = getattr(kinds, f"TYPE_{plain}")
    pool = pools.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("headwater.onnx.Model")
    return Messages(
        factory.GetMessageClass(found), extras.load("google.protobuf.message", "onnx").DecodeError
    )

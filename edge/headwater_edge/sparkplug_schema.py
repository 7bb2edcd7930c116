"""The messages of Sparkplug B that are read, as classes of protobuf; fields that nobody here reads are left out.

Sparkplug 3.0, chapter 6.4 (the numbers of the fields are the specification's). A field that is not declared is passed
over by protobuf, so a payload costs only what is read of it; data sets and templates are declared as bytes, which they
are on the wire, so that it is known that they are there. Text is bytes, too: whether bytes that are no UTF-8 raise, and
when, is left to each implementation of protobuf.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from headwater_shared import extras

INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64 = 1, 2, 3, 4, 5, 6, 7, 8
FLOAT, DOUBLE, BOOLEAN, STRING, DATETIME, TEXT = 9, 10, 11, 12, 13, 14
"""Numbers of the data types (6.4.16)."""

_METRIC = {
    "name": (1, "BYTES"), "alias": (2, "UINT64"), "timestamp": (3, "UINT64"), "datatype": (4, "UINT32"),
    "is_historical": (5, "BOOL"), "is_transient": (6, "BOOL"), "is_null": (7, "BOOL"),
}  # fmt: skip
_VALUE = {
    "int_value": (10, "UINT32"), "long_value": (11, "UINT64"), "float_value": (12, "FLOAT"), "double_value": (13, "DOUBLE"),
    "boolean_value": (14, "BOOL"), "string_value": (15, "BYTES"), "bytes_value": (16, "BYTES"), "dataset_value": (17, "BYTES"),
    "template_value": (18, "BYTES"), "extension_value": (19, "BYTES"),
}  # fmt: skip


class Messages(NamedTuple):
    """Classes of protobuf."""

    Payload: Any
    DecodeError: type[Exception]


@cache
def messages() -> Messages:
    """Make the classes, in a pool of their own.

    Raises:
        PartMissing: protobuf is not installed.
    """
    descriptor_pb2 = extras.load("google.protobuf.descriptor_pb2", "edge")
    pools = extras.load("google.protobuf.descriptor_pool", "edge")
    factory = extras.load("google.protobuf.message_factory", "edge")
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="sparkplug_b", package="headwater.sparkplug", syntax="proto2"
    )
    metric = file.message_type.add(name="Metric")
    metric.oneof_decl.add(name="value")
    for name, (number, kind) in (_METRIC | _VALUE).items():
        added = metric.field.add(
            name=name, number=number, type=getattr(kinds, f"TYPE_{kind}"), label=kinds.LABEL_OPTIONAL
        )
        if name in _VALUE:
            added.oneof_index = 0
    payload = file.message_type.add(name="Payload")
    payload.field.add(name="timestamp", number=1, type=kinds.TYPE_UINT64, label=kinds.LABEL_OPTIONAL)
    payload.field.add(
        name="metrics",
        number=2,
        type=kinds.TYPE_MESSAGE,
        type_name=".headwater.sparkplug.Metric",
        label=kinds.LABEL_REPEATED,
    )
    payload.field.add(name="seq", number=3, type=kinds.TYPE_UINT64, label=kinds.LABEL_OPTIONAL)
    pool = pools.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("headwater.sparkplug.Payload")
    error = extras.load("google.protobuf.message", "edge").DecodeError
    return Messages(factory.GetMessageClass(found), error)

"""Makes classes of protobuf messages from a table of their fields.

The published classes of TF Serving's messages come with tensorflow-serving-api, which imports
TensorFlow. The client, the warm-up requests and the gRPC server make the few classes that they need
here instead. The classes are in a private pool, so they do not clash with the published ones.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf import descriptor_pool
from google.protobuf import message_factory


def classes(
    package: str, fields: Mapping[str, Mapping[str, tuple[int, str]]]
) -> dict[str, Any]:
  """{name: class} of messages.

  Args:
    package: package of the messages; it appears only in their full names.
    fields: {message: {field: (number, type)}}. A type is "int64", "string", ..., or another message
      of the table, with "repeated " before it if there may be several values.
  """
  kinds = descriptor_pb2.FieldDescriptorProto
  file = descriptor_pb2.FileDescriptorProto(
      name=f"{package}.proto", package=package, syntax="proto3"
  )
  for message, described in fields.items():
    added = file.message_type.add(name=message)
    for name, (number, kind) in described.items():
      *repeated, kind = kind.split()
      label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
      field = added.field.add(name=name, number=number, label=label)
      if kind in fields:
        field.type, field.type_name = kinds.TYPE_MESSAGE, f".{package}.{kind}"
      else:
        field.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return {
      name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
      for name in fields
  }

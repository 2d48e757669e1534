"""TF Serving's gRPC API on a `core.Server`, with the published stubs; `serve` runs it.

It has `PredictionService.Predict` and `GetModelMetadata`, and `ModelService.GetModelStatus`; the
other methods are UNIMPLEMENTED. Codes and the wording of errors are TF Serving's.
"""

import functools
import logging
import math
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Coroutine
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from imae_tf.export import messages
from imae_tf.export.server import batching
from imae_tf.export.server import core
from imae_tf.export.server import version as versions
from imae_tf.export.server.batching import Arrays
from imae_tf.export.server.batching import ServingError

_SIGNATURES = "signature_def"
_MOST_DETAILS = 2000  # bytes; they are sent in a header, which must be short
_log = logging.getLogger(__name__)


def grpc_server(server: core.Server, *, max_request_bytes: int = 32 * 2**20) -> grpc.aio.Server:
  """A `grpc.aio.Server` without a port yet; make it in the event loop that runs it.

  Args:
    server: a `core.Server`.
    max_request_bytes: most bytes in a message, and in a tensor; a larger message gets
      RESOURCE_EXHAUSTED.
  """
  listener = grpc.aio.server(
      options=[
          ("grpc.max_receive_message_length", max_request_bytes),
          ("grpc.max_send_message_length", -1),
          ("grpc.so_reuseport", 0),  # otherwise two servers could share a port by mistake
      ]
  )
  prediction = _PredictionService(server, max_request_bytes)
  prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, listener)
  model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(server), listener)
  return listener


def _with_status(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
  """Turns errors of a method into the status of its call."""

  @functools.wraps(method)
  async def call(self: Any, request: Any, context: grpc.aio.ServicerContext) -> Any:
    try:
      if self._server.leaving:  # before the listener stops, which cancels calls that just came
        raise batching.closing()
      return await method(self, request, context)
    except ServingError as error:
      code, details = grpc.StatusCode[error.code], error.message
    except Exception:
      _log.exception("%s failed.", method.__name__)
      code, details = grpc.StatusCode.INTERNAL, "Internal error; the server's log has more."
    details = details.encode()[:_MOST_DETAILS].decode(errors="ignore")
    await context.abort(code, details)

  return call


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):

  def __init__(self, server: core.Server, max_bytes: int) -> None:
    self._server = server
    self._max_bytes = max_bytes

  @_with_status
  async def Predict(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
    asked = _version(self._server, request)
    _, signatures = self._server.metadata(asked)
    name = request.model_spec.signature_name or core.DEFAULT_SIGNATURE
    if name not in signatures:
      raise versions.no_signature(name)
    _asked_for(request.output_filter, signatures[name].outputs)  # before anything is run
    inputs = self._inputs(request.inputs, signatures[name].inputs)
    version, outputs = await self._server.answer(
        name, inputs, asked, context.time_remaining()
    )
    response = predict_pb2.PredictResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.version.value = version
    response.model_spec.signature_name = name
    for key in _asked_for(request.output_filter, outputs):
      response.outputs[key].CopyFrom(_tensor(outputs[key]))
    return response

  def _inputs(self, protos: Mapping[str, Any], expected: Mapping[str, Any]) -> Arrays:
    """{name: array} of a request; together they take no more bytes than a request may have."""
    versions.check_names(set(protos), set(expected))
    inputs: Arrays = {}
    room = self._max_bytes
    for name, proto in protos.items():
      self._server.check_rows(max([dim.size for dim in proto.tensor_shape.dim[:1]], default=0))
      inputs[name] = _array(name, proto, room)
      room -= inputs[name].nbytes
    return inputs

  @_with_status
  async def GetModelMetadata(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
    if not request.metadata_field:
      raise ServingError(
          "INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field"
      )
    for field in request.metadata_field:
      if field != _SIGNATURES:
        raise ServingError("INVALID_ARGUMENT", f"Metadata field {field} is not supported")
    version, signatures = self._server.metadata(_version(self._server, request))
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.version.value = version
    described = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in signatures.items():
      described.signature_def[name].CopyFrom(signature)
    response.metadata[_SIGNATURES].Pack(described)
    return response


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):

  def __init__(self, server: core.Server) -> None:
    self._server = server

  @_with_status
  async def GetModelStatus(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
    response = get_model_status_pb2.GetModelStatusResponse()
    name, version, _ = _spec(request)
    for number, state, code, message in self._server.status(version, name):
      response.model_version_status.add(
          version=number,
          state=state,
          status={"error_code": code, "error_message": message},
      )
    return response


def _version(server: core.Server, request: Any) -> int | None:
  """The version that a request names; None for the newest."""
  name, version, label = _spec(request)
  if not name:
    raise ServingError("INVALID_ARGUMENT", "ModelSpec has no name specified.")
  return server.resolve(name, version, label)


def _spec(request: Any) -> tuple[str, int | None, str]:
  """(model's name, version or None, label) of a request."""
  if not request.HasField("model_spec"):
    raise ServingError("INVALID_ARGUMENT", "Missing ModelSpec")
  spec = request.model_spec
  version = spec.version.value if spec.HasField("version") else None
  return spec.name, version, spec.version_label


def _array(name: str, proto: Any, max_bytes: int) -> np.ndarray:
  """A TensorProto as an array; checks its size first, because one value may fill a large shape."""
  sizes = [dim.size for dim in proto.tensor_shape.dim]
  try:
    dtype = tf.as_dtype(proto.dtype)
    if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
      raise ValueError(f"no shape: {sizes}")
    if math.prod(sizes) * (dtype.size or 1) > max_bytes:
      raise ValueError(f"the shape {sizes}, of more than {max_bytes} bytes")
    if dtype == tf.string and len(proto.string_val) != math.prod(sizes):
      raise ValueError(f"{len(proto.string_val)} strings for the shape {sizes}")
    return tf.make_ndarray(proto)
  except Exception as error:  # make_ndarray raises many types
    raise ServingError(
        "INVALID_ARGUMENT",
        f"expected a TensorProto of a type, a shape and its values as {name}, got {error}; make"
        " it with tf.make_tensor_proto.",
    ) from None


def _tensor(array: np.ndarray) -> Any:
  """A TensorProto with values in `float_val`, like TF Serving's, as many clients read only that."""
  if array.dtype != np.float32:
    return tf.make_tensor_proto(array)
  proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT)
  proto.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
  # Packed floats are written as bytes; appending them one by one takes a hundred times as long.
  packed = _packed_floats()(float_val=np.ascontiguousarray(array, "<f4").tobytes())
  proto.MergeFromString(packed.SerializeToString())
  return proto


@functools.cache
def _packed_floats() -> Any:
  return messages.classes("imae_tf.rpc", {"Floats": {"float_val": (5, "bytes")}})["Floats"]


def _asked_for(names: Sequence[str], outputs: Collection[str]) -> Collection[str]:
  """The names of the outputs to send."""
  for i, name in enumerate(names):
    if name not in outputs:
      raise ServingError(
          "INVALID_ARGUMENT",
          f"output tensor alias not found in signature: {name} Outputs expected to be in the set"
          f" {{{','.join(outputs)}}}.",
      )
    if name in names[:i]:
      raise ServingError("INVALID_ARGUMENT", f"duplicate output tensor alias: {name}")
  return names or outputs

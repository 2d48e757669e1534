"""Makes and reads the messages of TF Serving's gRPC API, for the client's gRPC channel.

The published classes come with tensorflow-serving-api, which imports TensorFlow. So the few fields
that are used are described here, with the numbers of `tensor.proto`, `model.proto`,
`predict.proto`, `get_model_status.proto` and `get_model_metadata.proto`; protobuf skips the others.
"""

import functools
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf import message

from imae_tf.export import messages

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

AVAILABLE = 30  # the state of a version that answers
_FLOAT, _STRING = 1, 7  # DataType

# See `messages.classes`.
_FIELDS = {
    "Dim": {"size": (1, "int64")},
    "Shape": {"dim": (2, "repeated Dim")},
    "Tensor": {
        "dtype": (1, "int32"),  # an enum, which is written like an int32
        "tensor_shape": (2, "Shape"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "repeated float"),
        "string_val": (8, "repeated bytes"),
    },
    "Int64Value": {"value": (1, "int64")},
    "ModelSpec": {
        "name": (1, "string"),
        "version": (2, "Int64Value"),
        "signature_name": (3, "string"),
        "version_label": (4, "string"),
    },
    # An entry of a map<string, TensorProto>, which is written as repeated entries.
    "Item": {"key": (1, "string"), "value": (2, "Tensor")},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "repeated Item")},
    "PredictResponse": {"outputs": (1, "repeated Item")},
    "GetModelStatusRequest": {"model_spec": (1, "ModelSpec")},
    "ModelVersionStatus": {"version": (1, "int64"), "state": (2, "int32")},
    "GetModelStatusResponse": {"model_version_status": (1, "repeated ModelVersionStatus")},
    "GetModelMetadataRequest": {
        "model_spec": (1, "ModelSpec"), "metadata_field": (2, "repeated string")
    },
    "GetModelMetadataResponse": {"model_spec": (1, "ModelSpec")},
}


def predict_request(
    model_name: str,
    version: int | str | None,
    signature: str,
    inputs: Mapping[str, np.ndarray | Sequence[bytes]],
) -> bytes:
  """A serialized PredictRequest.

  Args:
    model_name: name of the model on the server.
    version: an integer, a label, or None for the newest version.
    signature: name of the signature.
    inputs: {name: float32 array, or list of bytes}.
  """
  items = [_make("Item", key=name, value=_tensor(inputs[name])) for name in sorted(inputs)]
  spec = _model_spec(model_name, version, signature_name=signature)
  return _make("PredictRequest", model_spec=spec, inputs=items).SerializeToString()


def predict_outputs(serialized: bytes) -> dict[str, np.ndarray]:
  """{name: float32 array} from a serialized PredictResponse.

  Raises:
    ValueError: the message is damaged, or has other types than floats.
  """
  outputs = _parse("PredictResponse", serialized).outputs
  return {item.key: _array(item.value) for item in outputs}


def status_request(model_name: str) -> bytes:
  """A serialized GetModelStatusRequest."""
  return _make("GetModelStatusRequest", model_spec=_model_spec(model_name)).SerializeToString()


def available_versions(serialized: bytes) -> list[int]:
  """The versions that answer, [integer], from a serialized GetModelStatusResponse.

  Raises:
    ValueError: the message is damaged.
  """
  statuses = _parse("GetModelStatusResponse", serialized).model_version_status
  return [status.version for status in statuses if status.state == AVAILABLE]


def metadata_request(model_name: str, version: int | str | None) -> bytes:
  """A serialized GetModelMetadataRequest; the arguments are as in `predict_request`."""
  spec = _model_spec(model_name, version)
  fields = ["signature_def"]  # the only one there is, and a server wants one
  request = _make("GetModelMetadataRequest", model_spec=spec, metadata_field=fields)
  return request.SerializeToString()


def answering_version(serialized: bytes) -> int:
  """The number of the version that a serialized GetModelMetadataResponse names.

  Raises:
    ValueError: the message is damaged, or names no version.
  """
  spec = _parse("GetModelMetadataResponse", serialized).model_spec
  if not spec.HasField("version"):
    raise ValueError("no version")
  return spec.version.value


def _model_spec(name: str, version: int | str | None = None, **fields: Any) -> Any:
  if isinstance(version, str):
    fields["version_label"] = version
  elif version is not None:
    fields["version"] = _make("Int64Value", value=version)
  return _make("ModelSpec", name=name, **fields)


def _tensor(value: np.ndarray | Sequence[bytes]) -> Any:
  if isinstance(value, np.ndarray):
    content = np.ascontiguousarray(value, "<f4").tobytes()
    return _make(
        "Tensor", dtype=_FLOAT, tensor_shape=_shape(value.shape), tensor_content=content
    )
  return _make("Tensor", dtype=_STRING, tensor_shape=_shape([len(value)]), string_val=value)


def _shape(sizes: Sequence[int]) -> Any:
  return _make("Shape", dim=[_make("Dim", size=size) for size in sizes])


def _array(tensor: Any) -> np.ndarray:
  shape = [dim.size for dim in tensor.tensor_shape.dim]
  if tensor.dtype != _FLOAT:
    raise ValueError(f"a tensor of DataType {tensor.dtype}")
  if tensor.tensor_content:
    return np.frombuffer(tensor.tensor_content, "<f4").astype(np.float32).reshape(shape)
  values = np.array(tensor.float_val, np.float32)
  missing = int(np.prod(shape)) - len(values)
  if missing > 0 and len(values):  # the last value is repeated for those that are left out
    values = np.pad(values, (0, missing), "edge")
  return values.reshape(shape)


def _parse(name: str, serialized: bytes) -> Any:
  try:
    return _messages()[name].FromString(serialized)
  except message.DecodeError as error:
    raise ValueError(f"no {name}") from error


def _make(kind: str, /, **fields: Any) -> Any:
  return _messages()[kind](**fields)


@functools.cache
def _messages() -> dict[str, Any]:
  return messages.classes("imae_tf.wire", _FIELDS)

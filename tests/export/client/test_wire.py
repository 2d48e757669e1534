"""The client's own messages against the published ones of tensorflow-serving-api."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2

from imae_tf.export.client import wire

VERSIONS = [None, 0, 7, 2**40, "stable"]


def published_request(version, signature, inputs):
  request = predict_pb2.PredictRequest()
  request.model_spec.name = "imae"
  request.model_spec.signature_name = signature
  if isinstance(version, str):
    request.model_spec.version_label = version
  elif version is not None:
    request.model_spec.version.value = version
  for name, value in inputs.items():
    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
  return request


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_request_of_arrays_is_the_published_one(rng, version, rows):
  inputs = {"y": rng.random((rows, 5), "float32"), "z": rng.random((rows, 3), "float32")}
  expected = published_request(version, "decode", inputs).SerializeToString(deterministic=True)
  assert wire.predict_request("imae", version, "decode", inputs) == expected


def test_request_of_transposed_and_double_arrays(rng):
  x = rng.random((4, 3))  # float64
  request = wire.predict_request("imae", None, "encode", {"x": x.T})
  parsed = predict_pb2.PredictRequest.FromString(request)
  np.testing.assert_array_equal(tf.make_ndarray(parsed.inputs["x"]), x.T.astype("float32"))


@pytest.mark.parametrize("content", [[], [b"a"], [b"", b"\x00\xff" * 500, b"c"]])
def test_request_of_bytes_is_the_published_one(content):
  inputs = {"image_bytes": np.array(content, object)}
  expected = published_request(3, "encode_image_bytes", {})
  if content:
    expected.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(inputs["image_bytes"]))
  else:
    expected.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([], tf.string))
  got = wire.predict_request("imae", 3, "encode_image_bytes", {"image_bytes": content})
  assert got == expected.SerializeToString(deterministic=True)


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (2, 5), (3, 8, 8, 1)])
@pytest.mark.parametrize("as_field", [True, False])
def test_outputs_of_a_published_response(rng, shape, as_field):
  values = rng.standard_normal(shape).astype("float32")
  response = predict_pb2.PredictResponse()
  response.model_spec.name = "imae"
  response.model_spec.version.value = 4
  if as_field:  # as TF Serving answers by default
    tensor = response.outputs["z"]
    tensor.dtype = tf.float32.as_datatype_enum
    tensor.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    tensor.float_val.extend(values.ravel())
  else:
    response.outputs["z"].CopyFrom(tf.make_tensor_proto(values))
  outputs = wire.predict_outputs(response.SerializeToString())
  assert list(outputs) == ["z"] and outputs["z"].dtype == np.float32
  np.testing.assert_array_equal(outputs["z"], values)
  outputs["z"] += 1  # an array of one's own


def test_equal_values_may_be_left_out():
  response = predict_pb2.PredictResponse()
  response.outputs["z"].CopyFrom(tf.make_tensor_proto(0.25, tf.float32, shape=(2, 3)))
  response.outputs["z"].ClearField("tensor_content")
  response.outputs["z"].float_val[:] = [1.0, 0.25]
  outputs = wire.predict_outputs(response.SerializeToString())
  np.testing.assert_array_equal(outputs["z"], tf.make_ndarray(response.outputs["z"]))


@pytest.mark.parametrize(
    "tensor", [tf.make_tensor_proto([1.0], tf.float64), tf.make_tensor_proto([b"a"])]
)
def test_other_types_are_refused(tensor):
  response = predict_pb2.PredictResponse()
  response.outputs["z"].CopyFrom(tensor)
  with pytest.raises(ValueError, match="a tensor of DataType"):
    wire.predict_outputs(response.SerializeToString())


def test_a_shape_that_does_not_fit_is_refused():
  response = predict_pb2.PredictResponse()
  response.outputs["z"].CopyFrom(tf.make_tensor_proto([1.0, 2.0, 3.0]))
  response.outputs["z"].tensor_shape.dim[0].size = 2
  with pytest.raises(ValueError):
    wire.predict_outputs(response.SerializeToString())


@pytest.mark.parametrize(
    "function", [wire.predict_outputs, wire.available_versions, wire.answering_version]
)
def test_damaged_replies(function):
  with pytest.raises(ValueError, match="no .*Response"):
    function(b"\xff\xff\xff")


def test_status():
  expected = get_model_status_pb2.GetModelStatusRequest()
  expected.model_spec.name = "imae"
  assert wire.status_request("imae") == expected.SerializeToString(deterministic=True)
  states = get_model_status_pb2.ModelVersionStatus
  response = get_model_status_pb2.GetModelStatusResponse()
  for version, state in ((9, states.END), (10, states.AVAILABLE), (11, states.LOADING)):
    status = response.model_version_status.add(version=version, state=state)
    status.status.error_message = "OK"
  assert wire.available_versions(response.SerializeToString()) == [10]


@pytest.mark.parametrize("version", VERSIONS)
def test_metadata(version):
  expected = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
  expected.model_spec.CopyFrom(published_request(version, "", {}).model_spec)
  assert wire.metadata_request("imae", version) == expected.SerializeToString(deterministic=True)


@pytest.mark.parametrize("version", [0, 7, 2**40])
def test_version_of_metadata(version):
  response = get_model_metadata_pb2.GetModelMetadataResponse()
  response.model_spec.name = "imae"
  response.model_spec.version.value = version
  response.metadata["signature_def"].Pack(get_model_metadata_pb2.SignatureDefMap())
  assert wire.answering_version(response.SerializeToString()) == version
  response.model_spec.ClearField("version")
  with pytest.raises(ValueError, match="no version"):
    wire.answering_version(response.SerializeToString())


def test_names_of_the_methods():
  for path, module in (
      (wire.PREDICT, prediction_service_pb2), (wire.GET_MODEL_METADATA, prediction_service_pb2),
      (wire.GET_MODEL_STATUS, model_service_pb2),
  ):
    _, service, method = path.split("/")
    found = module.DESCRIPTOR.services_by_name[service.rpartition(".")[2]]
    assert found.full_name == service and method in found.methods_by_name

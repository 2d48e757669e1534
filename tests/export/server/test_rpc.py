"""The gRPC API through the published stubs: the codes of the SavedModel, statuses, deadlines."""

import asyncio
import threading

import exports
import grpc
import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from imae_tf.export.server import core
from imae_tf.export.server import rpc

MAX_BYTES = 1_000_000
PIXELS = np.random.default_rng(3).integers(0, 256, (3, 8, 8), np.uint8)
_TIMEOUT = 30  # seconds; a machine may be busy
Code = grpc.StatusCode


class Endpoint:
  """A gRPC server in a thread of its own, and the stubs of a channel to it."""

  def __init__(self, server):
    self._server, self._ready, self._loop = server, threading.Event(), None
    self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
    self._thread.start()
    assert self._ready.wait(_TIMEOUT)
    # Larger messages than the server takes must leave the client.
    options = [("grpc.max_send_message_length", -1)]
    self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", options)
    self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
    self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)

  async def _run(self):
    self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
    listener = rpc.grpc_server(self._server, max_request_bytes=MAX_BYTES)
    self.port = listener.add_insecure_port("127.0.0.1:0")
    await listener.start()
    self._ready.set()
    await self._stop.wait()
    await listener.stop(0)

  def close(self):
    self.channel.close()
    self._loop.call_soon_threadsafe(self._stop.set)
    self._thread.join()


@pytest.fixture(scope="module")
def endpoint(server):
  endpoint = Endpoint(server)
  yield endpoint
  endpoint.close()


def request(signature="", outputs=(), model="imae", version=None, label="", **inputs):
  message = predict_pb2.PredictRequest(output_filter=outputs)
  message.model_spec.name = model
  message.model_spec.signature_name = signature
  if version is not None:
    message.model_spec.version.value = version
  if label:
    message.model_spec.version_label = label
  for name, value in inputs.items():
    proto = value if isinstance(value, tf.make_tensor_proto(0).__class__) else (
        tf.make_tensor_proto(value)
    )
    message.inputs[name].CopyFrom(proto)
  return message


def predict(endpoint, *args, **kwargs):
  response = endpoint.prediction.Predict(request(*args, **kwargs), timeout=_TIMEOUT)
  return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}


def failure(method, message, timeout=_TIMEOUT):
  with pytest.raises(grpc.RpcError) as caught:
    method(message, timeout=timeout)
  return caught.value


class TestPredict:

  @pytest.mark.parametrize("n", [0, 1, 7])
  def test_codes_and_images(self, endpoint, reference, n):
    x = exports.images(n)
    codes = reference("encode", x=x)
    for signature in ("", "serving_default", "encode"):
      exports.assert_same_arrays(predict(endpoint, signature, x=x), codes)
    y, z = codes["y"], codes["z"]
    exports.assert_same_arrays(
        predict(endpoint, "decode", y=y, z=z), reference("decode", y=y, z=z)
    )
    exports.assert_same_arrays(
        predict(endpoint, "reconstruct", x=x), reference("reconstruct", x=x)
    )

  def test_image_bytes(self, endpoint, reference):
    contents = [exports.encoded(pixels) for pixels in PIXELS]
    expected = reference("encode", x=PIXELS[..., None].astype("float32") / 255)
    exports.assert_same_arrays(
        predict(endpoint, "encode_image_bytes", image_bytes=contents), expected
    )

  def test_the_response_names_what_answered(self, endpoint):
    response = endpoint.prediction.Predict(request(x=exports.images(1), outputs=["z"]))
    assert list(response.outputs) == ["z"]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("imae", 1, "serving_default")

  def test_values_are_written_where_clients_look_for_them(self, endpoint, reference):
    x = exports.images(7)
    z = endpoint.prediction.Predict(request(x=x)).outputs["z"]
    assert (len(z.float_val), z.tensor_content) == (7 * exports.K1, b"")
    np.testing.assert_allclose(z.float_val, reference("encode", x=x)["z"].ravel(), atol=1e-5)

  def test_every_way_to_write_a_tensor(self, endpoint, reference):
    x = exports.images(1)
    expected = reference("encode", x=x)
    values = tf.make_tensor_proto(0.0).__class__(
        dtype=types_pb2.DT_FLOAT, tensor_shape=tf.TensorShape(x.shape).as_proto(),
        float_val=x.ravel(),
    )
    exports.assert_same_arrays(predict(endpoint, x=values), expected)
    half = tf.make_tensor_proto(0.5, tf.float32, x.shape)  # one value for all
    exports.assert_same_arrays(
        predict(endpoint, x=half), reference("encode", x=np.full_like(x, 0.5))
    )


def tensor(**fields):
  return tf.make_tensor_proto(0.0).__class__(dtype=types_pb2.DT_FLOAT, **fields)


def shape(*sizes):
  dims = [{"size": size} for size in sizes]
  return {"tensor_shape": {"dim": dims}}


X = exports.images(2)
# (what, request, code, words)
BAD = [
    ("no model", predict_pb2.PredictRequest(), Code.INVALID_ARGUMENT, "Missing ModelSpec"),
    ("an empty name", request(model="", x=X), Code.INVALID_ARGUMENT,
     "ModelSpec has no name specified."),
    ("another model", request(model="foo", x=X), Code.NOT_FOUND,
     "Servable not found for request: Latest(foo)"),
    ("another version", request(version=9, x=X), Code.NOT_FOUND, "Specific(imae, 9)"),
    ("a label", request(label="stable", x=X), Code.INVALID_ARGUMENT,
     "Unrecognized servable version label: stable"),
    ("another signature", request("embed", x=X), Code.FAILED_PRECONDITION,
     'Serving signature key "embed" not found.'),
    ("no inputs", request(), Code.INVALID_ARGUMENT, "input size does not match signature: 0!=1"),
    ("another input", request(a=X), Code.INVALID_ARGUMENT, "Missing but required: {x}"),
    ("too many inputs", request(x=X, y=X), Code.INVALID_ARGUMENT, "Sent extra: {y}"),
    ("a signature without inputs", request("__saved_model_init_op"), Code.FAILED_PRECONDITION,
     "not found"),
    ("another signature and no tensor", request("embed", x=tensor(**shape(-1))),
     Code.FAILED_PRECONDITION, "not found"),
    ("an output that is not there, of bad pixels", request(x=X * 9, outputs=["w"]),
     Code.INVALID_ARGUMENT, "alias not found in signature: w"),
    ("an output that is not there", request(x=X, outputs=["w"]), Code.INVALID_ARGUMENT,
     "output tensor alias not found in signature: w"),
    ("an output twice", request(x=X, outputs=["z", "z"]), Code.INVALID_ARGUMENT,
     "duplicate output tensor alias: z"),
    ("another dtype", request(x=X.astype("float64")), Code.INVALID_ARGUMENT,
     "expected x of type float32, got float64"),
    ("strings", request(x=["a"]), Code.INVALID_ARGUMENT, "got string"),
    ("another shape", request(x=X.reshape(2, 64)), Code.INVALID_ARGUMENT,
     "[N, 8, 8, 1], got [2 64]"),
    ("NaN", request(x=X * np.nan), Code.INVALID_ARGUMENT, "expected pixels in [0, 1]"),
    ("another range", request(x=X * 255), Code.INVALID_ARGUMENT, "divide bytes by 255"),
    ("no tensor", request(x=tf.make_tensor_proto(0.0).__class__()), Code.INVALID_ARGUMENT,
     "expected a TensorProto"),
    ("an unknown dtype", request(x=tensor().__class__(dtype=99)), Code.INVALID_ARGUMENT,
     "expected a TensorProto"),
    ("less content than its shape",
     request(x=tensor(**shape(2, 8, 8, 1), tensor_content=b"abcd")), Code.INVALID_ARGUMENT,
     "expected a TensorProto"),
    ("a negative size", request(x=tensor(**shape(-1, 8, 8, 1), float_val=[0.5])),
     Code.INVALID_ARGUMENT, "expected a TensorProto"),
    ("a tensor bomb", request(x=tensor(**shape(1, 2**40, 8, 1), float_val=[0.5])),
     Code.INVALID_ARGUMENT, f"of more than {MAX_BYTES} bytes"),
    ("a tensor bomb in each of many inputs", request(**{
        f"a{i}": tensor(**shape(200_000), float_val=[0.5]) for i in range(40)}),
     Code.INVALID_ARGUMENT, "input size does not match signature: 40!=1"),
    ("two tensors of more than a request may hold", request("decode", **{
        name: tensor(**shape(100, 1500), float_val=[0.5]) for name in "yz"}),
     Code.INVALID_ARGUMENT, "of more than"),
    ("many rows of nothing", request("encode_image_bytes", image_bytes=[b""] * 5000),
     Code.INVALID_ARGUMENT, "at most 4096 rows in a request, got 5000"),
    ("an output of a long name that is no ASCII", request(x=X, outputs=["\U0001f600" * 3000]),
     Code.INVALID_ARGUMENT, "alias not found in signature"),
    ("one string for a large shape", request("encode_image_bytes", image_bytes=tensor().__class__(
        dtype=types_pb2.DT_STRING, string_val=[b"a"], **shape(1000))),
     Code.INVALID_ARGUMENT, "1 strings for the shape [1000]"),
    ("an image bomb", request("encode_image_bytes", image_bytes=[
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08"]), Code.INVALID_ARGUMENT,
     "expected images of [8, 8] (height, width) pixels, got [65536 65536]"),
    ("a truncated image", request("encode_image_bytes", image_bytes=[
        exports.encoded(PIXELS[0])[:60]]), Code.INVALID_ARGUMENT, "Invalid PNG"),
    ("a large message", request(x=np.zeros((5000, 8, 8, 1), "float32")), Code.RESOURCE_EXHAUSTED,
     "larger than max"),
]


class TestBadRequests:

  @pytest.mark.parametrize(
      "message,code,words", [pytest.param(*case[1:], id=case[0]) for case in BAD]
  )
  def test_status_and_sentence(self, endpoint, message, code, words):
    error = failure(endpoint.prediction.Predict, message)
    assert error.code() == code, error
    assert words in error.details()

  def test_a_bug_is_internal(self, endpoint, server, monkeypatch):
    monkeypatch.setattr(server, "predict", lambda *args: 1 / 0)
    error = failure(endpoint.prediction.Predict, request(x=X))
    assert (error.code(), "Internal error" in error.details()) == (Code.INTERNAL, True)

  def test_a_method_that_is_not_there(self, endpoint):
    error = failure(
        endpoint.prediction.Classify, classification_pb2.ClassificationRequest()
    )
    assert error.code() == Code.UNIMPLEMENTED

  def test_a_full_queue_a_deadline_and_a_cancelled_call(self, base, reference):
    server = core.Server(
        base, poll_s=0, max_queue=2, max_batch_size=100, batch_timeout_s=1.0
    )
    endpoint = Endpoint(server)
    call = endpoint.prediction.Predict
    x = exports.images(1)
    vanished = call.future(request(x=x), timeout=_TIMEOUT)
    waiting = call.future(request(x=x), timeout=_TIMEOUT)
    while server._batcher._waiting < 2:
      pass
    assert failure(call, request(x=x)).code() == Code.RESOURCE_EXHAUSTED
    vanished.cancel()
    codes = {name: tf.make_ndarray(p) for name, p in waiting.result().outputs.items()}
    exports.assert_same_arrays(codes, reference("encode", x=x))
    late = failure(call, request(x=x), timeout=0.2)
    assert late.code() == Code.DEADLINE_EXCEEDED
    server.close(0)
    assert failure(call, request(x=x)).code() == Code.UNAVAILABLE
    endpoint.close()

  @hypothesis.settings(
      max_examples=100, deadline=None,
      suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
  )
  @hypothesis.given(
      dtype=st.integers(0, 30),
      sizes=st.lists(st.integers(-2, 9), max_size=5),
      content=st.binary(max_size=64),
      floats=st.lists(st.floats(width=32), max_size=3),
      strings=st.lists(st.binary(max_size=8), max_size=3),
      signature=st.sampled_from(["encode", "encode_image_bytes"]),
  )
  def test_any_tensor(self, endpoint, dtype, sizes, content, floats, strings, signature):
    proto = tensor(
        **shape(*sizes), tensor_content=content, float_val=floats, string_val=strings
    )
    proto.dtype = dtype
    name = "x" if signature == "encode" else "image_bytes"
    try:
      response = endpoint.prediction.Predict(
          request(signature, **{name: proto}), timeout=_TIMEOUT
      )
    except grpc.RpcError as error:
      assert error.code() == Code.INVALID_ARGUMENT and error.details()
    else:
      assert set(response.outputs) == {"y", "z", "z_scale"}


class TestModel:

  def test_metadata(self, endpoint, server):
    message = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    message.model_spec.name = "imae"
    response = endpoint.prediction.GetModelMetadata(message)
    assert (response.model_spec.name, response.model_spec.version.value) == ("imae", 1)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert dict(signatures.signature_def) == server.metadata()[1]

  @pytest.mark.parametrize("fields", [[], ["weights"]])
  def test_bad_metadata_fields(self, endpoint, fields):
    message = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    message.model_spec.name = "imae"
    error = failure(endpoint.prediction.GetModelMetadata, message)
    assert error.code() == Code.INVALID_ARGUMENT

  def test_status(self, endpoint):
    message = get_model_status_pb2.GetModelStatusRequest()
    error = failure(endpoint.model.GetModelStatus, message)
    assert (error.code(), error.details()) == (Code.INVALID_ARGUMENT, "Missing ModelSpec")
    message.model_spec.name = "foo"
    error = failure(endpoint.model.GetModelStatus, message)
    assert error.details() == "Could not find any versions of model foo"
    message.model_spec.name, message.model_spec.version_label = "imae", "any"
    [status] = endpoint.model.GetModelStatus(message).model_version_status
    states = get_model_status_pb2.ModelVersionStatus
    assert (status.version, status.state) == (1, states.AVAILABLE)
    assert (status.status.error_code, status.status.error_message) == (0, "")
    message.model_spec.version.value = 9
    error = failure(endpoint.model.GetModelStatus, message)
    assert error.code() == Code.NOT_FOUND

  def test_status_of_a_corrupt_version(self, endpoint, server, base):
    (base / "2").mkdir()
    server.refresh()
    message = get_model_status_pb2.GetModelStatusRequest()
    message.model_spec.name = "imae"
    broken, old = endpoint.model.GetModelStatus(message).model_version_status
    states = get_model_status_pb2.ModelVersionStatus
    assert (broken.version, broken.state, old.state) == (2, states.END, states.AVAILABLE)
    assert broken.status.error_code and broken.status.error_message

"""The warm-up file, read as the server reads it: with the published messages."""

import numpy as np
import pytest
import tensorflow as tf
from exports import K1
from exports import K2
from exports import make_model
from exports import names
from exports import SHAPE

from imae_tf.errors import ImaeError
from imae_tf.export import publish
from imae_tf.export import savedmodel
from imae_tf.export import warmup

prediction_log_pb2 = pytest.importorskip(
    "tensorflow_serving.apis.prediction_log_pb2", reason="needs the serving extra"
)
SIGNATURES = ["serving_default", "encode", "decode", "reconstruct", "encode_image_bytes"]


@pytest.fixture(scope="module")
def model():
  return make_model()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
  path = tmp_path_factory.mktemp("warmup") / "model"
  savedmodel.write(model, path)
  return path


def records(path):
  file = path / "assets.extra" / "tf_serving_warmup_requests"  # the name that servers look for
  return list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())


@pytest.fixture(scope="module")
def requests(path):
  """[(signature, {input: array})] through the published messages."""
  logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records(path)]
  assert all(log.WhichOneof("log_type") == "predict_log" for log in logs)
  requests = [log.predict_log.request for log in logs]
  assert {request.model_spec.name for request in requests} == {"imae"}
  return [
      (
          request.model_spec.signature_name,
          {name: tf.make_ndarray(value) for name, value in request.inputs.items()},
      )
      for request in requests
  ]


def test_one_image_and_several_for_every_signature(requests, path):
  assert [name for name, _ in requests] == SIGNATURES * 2
  assert len(requests) <= 1000  # more, and a server refuses the version
  for index, (name, inputs) in enumerate(requests):
    rows = 1 if index < len(SIGNATURES) else 8
    shapes = {key: value.shape for key, value in inputs.items()}
    if name == "decode":
      assert shapes == {"y": (rows, K2), "z": (rows, K1)}
    elif name == "encode_image_bytes":
      assert shapes == {"image_bytes": (rows,)}
    else:
      assert shapes == {"x": (rows, *SHAPE)}


def test_every_request_succeeds_in_the_session_loader(requests, path, model):
  answers = []
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(path)).signature_def
    for name, inputs in requests:
      signature = signatures[name]
      assert set(signature.inputs) == set(inputs)
      outputs = {key: tensor.name for key, tensor in signature.outputs.items()}
      fed = {signature.inputs[key].name: value for key, value in inputs.items()}
      answers.append(session.run(outputs, fed))
  for (name, inputs), outputs in zip(requests, answers, strict=True):
    if name == "decode":
      expected = {"x": model.decode(**inputs)}
    elif name == "reconstruct":
      expected = {"x": model.reconstruct(**inputs)}
    elif name == "encode_image_bytes":
      pixels = [tf.io.decode_png(content).numpy() for content in inputs["image_bytes"]]
      expected = model.encode(np.stack(pixels).astype("float32") / 255)
    else:
      expected = model.encode(**inputs)
    assert set(outputs) == set(expected)
    for key, value in expected.items():
      np.testing.assert_allclose(outputs[key], value, rtol=0, atol=1e-5)


def test_the_bytes_are_those_of_the_published_messages(path):
  for record in records(path):
    log = prediction_log_pb2.PredictionLog.FromString(record)
    assert log.SerializeToString(deterministic=True) == record
    again = prediction_log_pb2.PredictionLog()  # what is unknown would not be copied
    again.predict_log.request.model_spec.name = log.predict_log.request.model_spec.name
    again.predict_log.request.model_spec.signature_name = (
        log.predict_log.request.model_spec.signature_name
    )
    for name, tensor in log.predict_log.request.inputs.items():
      array = tf.make_ndarray(tensor)
      again.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    assert again.SerializeToString(deterministic=True) == record


def test_read_gives_what_the_published_messages_give(path, requests):
  read = warmup.read(path)
  assert [name for name, _ in read] == [name for name, _ in requests]
  for (_, ours), (_, theirs) in zip(read, requests, strict=True):
    assert set(ours) == set(theirs)
    for name in ours:
      assert ours[name].dtype == theirs[name].dtype
      np.testing.assert_array_equal(ours[name], theirs[name])


def test_a_savedmodel_without_requests_has_none(tmp_path):
  assert warmup.read(tmp_path) == []


def test_models_of_two_channels_have_no_request_of_image_files(tmp_path):
  savedmodel.write(make_model(image_shape=(4, 4, 2)), tmp_path / "model")
  assert [name for name, _ in warmup.read(tmp_path / "model")] == SIGNATURES[:4] * 2


def test_a_failing_request_is_not_published(model, tmp_path, monkeypatch):
  inputs = warmup._inputs
  doubled = lambda *args: {name: 2 * value for name, value in inputs(*args).items()}
  monkeypatch.setattr(warmup, "_inputs", doubled)
  with pytest.raises(ImaeError, match=r"expected pixels in \[0, 1\].* nothing was published"):
    publish.publish(model, tmp_path)
  assert names(tmp_path) == []


def test_outputs_that_are_not_finite_are_not_published(tmp_path):
  model = make_model()
  *_, bias = model.decoder.weights
  bias.assign(np.full(bias.shape, np.nan))  # the codes are fine, the images are not
  with pytest.raises(ImaeError, match="expected finite outputs of decode"):
    publish.publish(model, tmp_path)
  assert names(tmp_path) == []

"""Writes and reads the requests that TF Serving uses to warm a version up before it gets traffic.

`savedmodel` writes them; `publish` and imae-serve read them. A server loads a version only if every
request succeeds. `assets.extra/tf_serving_warmup_requests` is a TFRecord file of `PredictionLog`
messages. Their Python classes come with tensorflow-serving-api, which an export should not need. So
the few fields that are used are described here, with the numbers of `prediction_log.proto`,
`predict.proto` and `model.proto`.
"""

import functools
import os
import pathlib
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from imae_tf.export import messages

REQUESTS = "assets.extra/tf_serving_warmup_requests"

_ROWS = (1, 8)  # images of a request: one request with one image, and one with several
_FIELDS = {
    "ModelSpec": {"name": (1, "string"), "signature_name": (3, "string")},
    # An entry of a map<string, TensorProto>. On the wire a message inside another is bytes.
    "Input": {"key": (1, "string"), "value": (2, "bytes")},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "repeated Input")},
    "PredictLog": {"request": (1, "PredictRequest")},
    "PredictionLog": {"predict_log": (6, "PredictLog")},
}


def write(
    path: str | os.PathLike[str],
    signatures: Iterable[str],
    image_shape: Sequence[int],
    num_categories: int,
    latent_dim: int,
) -> None:
  """Writes the requests of a SavedModel, two for each signature; the images are noise.

  Args:
    path: folder of the SavedModel.
    signatures: names of the signatures to warm up.
    image_shape: (H, W, C).
    num_categories: K2.
    latent_dim: K1.
  """
  path = pathlib.Path(path) / REQUESTS
  path.parent.mkdir(exist_ok=True)
  with tf.io.TFRecordWriter(str(path)) as writer:
    for rows in _ROWS:
      for name in signatures:
        inputs = _inputs(name, rows, image_shape, num_categories, latent_dim)
        writer.write(_record(name, inputs))


def read(path: str | os.PathLike[str]) -> list[tuple[str, dict[str, np.ndarray]]]:
  """[(signature, {input: array})] of a SavedModel's requests; empty without the file."""
  path = pathlib.Path(path) / REQUESTS
  if not path.exists():
    return []
  requests = []
  for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
    request = _messages()["PredictionLog"].FromString(record).predict_log.request
    inputs = {item.key: _array(item.value) for item in request.inputs}
    requests.append((request.model_spec.signature_name, inputs))
  return requests


def _inputs(
    signature: str, rows: int, image_shape: Sequence[int], num_categories: int, latent_dim: int
) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (rows, *image_shape), np.uint8)
  if signature == "encode_image_bytes":
    images = [tf.io.encode_png(image).numpy() for image in pixels]
    return {"image_bytes": np.array(images, object)}
  if signature == "decode":
    y = np.eye(num_categories, dtype="float32")[rng.integers(num_categories, size=rows)]
    return {"y": y, "z": rng.standard_normal((rows, latent_dim), "float32")}
  return {"x": pixels.astype("float32") / 255}


def _record(signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
  log = _messages()["PredictionLog"]()
  request = log.predict_log.request
  request.model_spec.name = "imae"  # servers do not compare this name with theirs
  request.model_spec.signature_name = signature
  for name, value in sorted(inputs.items()):
    request.inputs.add(key=name, value=tf.make_tensor_proto(value).SerializeToString())
  return log.SerializeToString(deterministic=True)


def _array(serialized: bytes) -> np.ndarray:
  return tf.make_ndarray(tensor_pb2.TensorProto.FromString(serialized))


@functools.cache
def _messages() -> dict[str, Any]:
  return messages.classes("imae_tf.warmup", _FIELDS)

"""Small servers of TF Serving's two protocols, made of the published messages.

The model behind them is a few lines of NumPy, and what goes wrong is the test's choice.
"""

import base64
import collections
import concurrent.futures
import io
import json
import math
import threading
import time

import grpc
import numpy as np
import PIL.Image
import starlette.applications
import starlette.concurrency
import starlette.responses
import starlette.routing
import tensorflow as tf
import uvicorn
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

SHAPE = (8, 8, 1)
K1, K2 = 3, 2
_HTTP = {
    "INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "FAILED_PRECONDITION": 412,
    "RESOURCE_EXHAUSTED": 429, "INTERNAL": 500, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}


def codes_of(x):
  """What the fake model encodes; any change of a pixel or of the order shows."""
  flat = x.reshape(len(x), math.prod(SHAPE))
  p = flat.mean(axis=1, keepdims=True)
  return {"y": np.hstack([p, 1 - p]), "z": flat[:, :K1], "z_scale": flat[:, -K1:]}


def images_of(y, z):
  return np.tile((y[:, :1] + np.abs(z[:, :1])).reshape(-1, 1, 1, 1), (1, *SHAPE))


class Refusal(Exception):
  """Makes a server answer with a canonical code and a message."""

  def __init__(self, code, message):
    super().__init__(message)
    self.code, self.message = code, message


class Fake:
  """The model and the mishaps of both servers.

  Attributes:
    failures: what goes wrong with the requests to come, (code, message), one each.
    requests: (signature, rows, version) of each one that was answered.
    answer: if set, what is answered instead, {name: array}.
    delay: seconds until an answer.
    versions: that are served; the first request that `retires` the first one finds it gone.
    at_once: the most requests that were being answered at the same time.
  """

  def __init__(self):
    self._lock, self._now = threading.Lock(), 0
    self.reset()

  def reset(self):
    """Forgets everything, once it has answered those who no longer wait."""
    while self._now:
      time.sleep(0.01)
    self.failures, self.requests, self.answer = collections.deque(), [], None
    self.delay, self.versions, self.retires = 0, [3], None
    self.at_once = 0

  def predict(self, signature, inputs, version):
    with self._lock:
      self._now += 1
      self.at_once = max(self.at_once, self._now)
    try:
      return self._predict(signature, inputs, version)
    finally:
      with self._lock:
        self._now -= 1

  def _predict(self, signature, inputs, version):
    time.sleep(self.delay)
    with self._lock:
      if self.failures:
        raise Refusal(*self.failures.popleft())
      if self.retires is not None and len(self.requests) >= self.retires:
        self.versions, self.retires = [v + 1 for v in self.versions], None
      if version is not None and version not in [*self.versions, "stable"]:
        raise Refusal("NOT_FOUND", f"Servable not found for request: Specific(imae, {version})")
      rows = len(next(iter(inputs.values())))
      self.requests.append((signature, rows, version))
    if self.answer is not None:
      return self.answer
    if signature == "decode":
      return {"x": images_of(**inputs)}
    x = self._images(inputs)
    if x.shape[1:] != SHAPE:
      raise Refusal("INVALID_ARGUMENT", f"expected images x of shape [N, 8, 8, 1], got {x.shape}")
    return {"x": x / 2} if signature == "reconstruct" else codes_of(x)

  def _images(self, inputs):
    if "x" in inputs:
      return inputs["x"]
    images = []
    for content in inputs["image_bytes"]:
      image = np.asarray(PIL.Image.open(io.BytesIO(content)), np.float32)[..., None] / 255
      if image.shape != SHAPE:
        raise Refusal("INVALID_ARGUMENT", f"expected images of shape [8, 8, 1], got {image.shape}")
      images.append(image)
    return np.stack(images) if images else np.zeros([0, *SHAPE], np.float32)


def rest_app(fake):
  """TF Serving's REST API on a `Fake`."""

  async def predict(request):
    body = json.loads(await request.body())
    place = request.path_params["place"].removesuffix(":predict")
    version = None
    if "/versions/" in place:
      version = int(place.rpartition("/")[2])
    elif "/labels/" in place:
      version = place.rpartition("/")[2]
    inputs = {}
    for name, value in body["inputs"].items():
      if name == "image_bytes":
        inputs[name] = [base64.b64decode(item["b64"], validate=True) for item in value]
      else:
        inputs[name] = np.array(value, np.float32)
    try:
      run = starlette.concurrency.run_in_threadpool
      outputs = await run(fake.predict, body["signature_name"], inputs, version)
    except Refusal as refusal:
      return starlette.responses.JSONResponse(
          {"error": refusal.message}, status_code=_HTTP[refusal.code]
      )
    outputs = {name: value.tolist() for name, value in outputs.items()}
    if len(outputs) == 1:
      outputs = outputs.popitem()[1]
    return starlette.responses.JSONResponse({"outputs": outputs})

  async def get(request):
    if request.path_params["place"].endswith("/metadata"):
      sizes = {"y": [K2], "z": [K1], "z_scale": [K1]}
      codes = {
          name: {"tensor_shape": {"dim": [{"size": str(s)} for s in (-1, *size)]}}
          for name, size in sizes.items()
      }
      images = {"x": {"tensor_shape": {"dim": [{"size": str(s)} for s in (-1, *SHAPE)]}}}
      signatures = {
          "encode": {"outputs": codes}, "encode_image_bytes": {"outputs": codes},
          "decode": {"outputs": images}, "reconstruct": {"outputs": images},
      }
      metadata = {"signature_def": {"signature_def": signatures}}
      return starlette.responses.JSONResponse({"metadata": metadata})
    status = [{"version": str(v), "state": "AVAILABLE"} for v in fake.versions]
    status += [{"version": "99", "state": "LOADING"}]
    return starlette.responses.JSONResponse({"model_version_status": status})

  return starlette.applications.Starlette(routes=[
      starlette.routing.Route("/v1/models/{place:path}", predict, methods=["POST"]),
      starlette.routing.Route("/v1/models/{place:path}", get, methods=["GET"]),
  ])


class RestServer:
  """`rest_app` in a thread of its own, from here until `stop`."""

  def __init__(self, fake, port=0):
    config = uvicorn.Config(rest_app(fake), port=port, log_level="critical")
    self._server = uvicorn.Server(config)
    self._thread = threading.Thread(target=self._server.run, daemon=True)
    self._thread.start()
    while not self._server.started:
      time.sleep(0.01)
    self.port = self._server.servers[0].sockets[0].getsockname()[1]
    self.endpoint = f"http://127.0.0.1:{self.port}"

  def stop(self):
    self._server.should_exit = self._server.force_exit = True
    self._thread.join()


class _Predict(prediction_service_pb2_grpc.PredictionServiceServicer):

  def __init__(self, fake):
    self._fake = fake

  def Predict(self, request, context):
    spec = request.model_spec
    chosen = spec.WhichOneof("version_choice")
    version = {
        None: None, "version": spec.version.value, "version_label": spec.version_label
    }[chosen]
    inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
    try:
      outputs = self._fake.predict(spec.signature_name, inputs, version)
    except Refusal as refusal:
      context.abort(getattr(grpc.StatusCode, refusal.code), refusal.message)
    response = predict_pb2.PredictResponse()
    for name, value in outputs.items():
      response.outputs[name].CopyFrom(tf.make_tensor_proto(np.asarray(value, np.float32)))
    return response


class _Status(model_service_pb2_grpc.ModelServiceServicer):

  def __init__(self, fake):
    self._fake = fake

  def GetModelStatus(self, request, context):
    response = get_model_status_pb2.GetModelStatusResponse()
    states = get_model_status_pb2.ModelVersionStatus
    for version in self._fake.versions:
      response.model_version_status.add(version=version, state=states.AVAILABLE)
    response.model_version_status.add(version=99, state=states.LOADING)
    return response


class GrpcServer:
  """TF Serving's gRPC API on a `Fake`, from here until `stop`."""

  def __init__(self, fake, port=0):
    pool = concurrent.futures.ThreadPoolExecutor(16)
    self._server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _Predict(fake), self._server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Status(fake), self._server)
    self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
    self._server.start()
    self.endpoint = f"grpc://127.0.0.1:{self.port}"

  def stop(self):
    self._server.stop(grace=None).wait()


SERVERS = {"http": RestServer, "grpc": GrpcServer}

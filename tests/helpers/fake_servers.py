"""Small servers of TF Serving's two protocols, made of the published messages.

The model behind them is a few lines of NumPy, and what goes wrong is the test's choice.
"""

import asyncio
import base64
import collections
import concurrent.futures
import contextlib
import io
import json
import math
import socket
import threading
import time

import grpc
import numpy as np
import PIL.Image
import pytest
import starlette.applications
import starlette.concurrency
import starlette.responses
import starlette.routing
import tensorflow as tf
import uvicorn
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from imae_tf.export import client as clients

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
    answered_by: the versions that did so.
    headers: those of all requests, {name in lower case: value}.
    answer: if set, what is answered instead, {name: array}.
    delay: seconds until an answer.
    versions: that are served; the first request that `retires` the first one finds it gone.
    labels: {label: version}; the first request that `moves` them finds them at the next one.
    at_once: the most requests that were being answered at the same time.
  """

  def __init__(self):
    self._lock, self._now = threading.Lock(), 0
    self.failures, self.requests, self.answer = collections.deque(), [], None
    self.delay, self.versions, self.retires = 0, [3], None
    self.labels, self.moves, self.answered_by, self.headers = {"stable": 3}, None, [], []
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
        self._move()
      if self.moves is not None and len(self.requests) >= self.moves:
        self.moves = None
        self._move()
      self.answered_by.append(self.resolved(version))
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

  def resolved(self, version):
    """The version, an integer, that a version, a label or None stands for."""
    if isinstance(version, str):
      if version not in self.labels:
        raise Refusal("INVALID_ARGUMENT", f"Unrecognized servable version label: {version}")
      version = self.labels[version]
    version = max(self.versions) if version is None else version
    if version not in self.versions:
      raise Refusal("NOT_FOUND", f"Servable not found for request: Specific(imae, {version})")
    return version

  def _move(self):
    self.labels = {label: version + 1 for label, version in self.labels.items()}

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
    fake.headers.append(dict(request.headers))
    body = json.loads(await request.body())
    version = _version_of(request.path_params["place"].removesuffix(":predict"))
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
      return _refused(refusal)
    outputs = {name: value.tolist() for name, value in outputs.items()}
    if len(outputs) == 1:
      outputs = outputs.popitem()[1]
    return starlette.responses.JSONResponse({"outputs": outputs})

  async def get(request):
    fake.headers.append(dict(request.headers))
    place = request.path_params["place"]
    if place.endswith("/metadata"):
      try:
        version = fake.resolved(_version_of(place.removesuffix("/metadata")))
      except Refusal as refusal:
        return _refused(refusal)
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
      spec = {"name": "imae", "signature_name": "", "version": str(version)}
      return starlette.responses.JSONResponse({"model_spec": spec, "metadata": metadata})
    status = [{"version": str(v), "state": "AVAILABLE"} for v in fake.versions]
    status += [{"version": "99", "state": "LOADING"}]
    return starlette.responses.JSONResponse({"model_version_status": status})

  return starlette.applications.Starlette(routes=[
      starlette.routing.Route("/v1/models/{place:path}", predict, methods=["POST"]),
      starlette.routing.Route("/v1/models/{place:path}", get, methods=["GET"]),
  ])


def _version_of(place):
  """The version, label or None of a path."""
  name = place.rpartition("/")[2]
  if "/versions/" in place:
    return int(name)
  return name if "/labels/" in place else None


def _refused(refusal):
  return starlette.responses.JSONResponse(
      {"error": refusal.message}, status_code=_HTTP[refusal.code]
  )


class RestServer:
  """`rest_app` in a thread of its own, from here until `stop`."""

  def __init__(self, fake, port=0, host="127.0.0.1"):
    config = uvicorn.Config(rest_app(fake), host=host, port=port, log_level="critical")
    self._server = uvicorn.Server(config)
    self._thread = threading.Thread(target=self._server.run, daemon=True)
    self._thread.start()
    while not self._server.started:
      assert self._thread.is_alive()
      time.sleep(0.01)
    self.port = self._server.servers[0].sockets[0].getsockname()[1]
    self.endpoint = f"http://{host}:{self.port}"

  def stop(self):
    self._server.should_exit = self._server.force_exit = True
    self._thread.join()


class _Predict(prediction_service_pb2_grpc.PredictionServiceServicer):

  def __init__(self, fake):
    self._fake = fake

  def Predict(self, request, context):
    self._fake.headers.append(dict(context.invocation_metadata()))
    spec = request.model_spec
    inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
    try:
      outputs = self._fake.predict(spec.signature_name, inputs, self._asked(spec))
    except Refusal as refusal:
      context.abort(getattr(grpc.StatusCode, refusal.code), refusal.message)
    response = predict_pb2.PredictResponse()
    for name, value in outputs.items():
      response.outputs[name].CopyFrom(tf.make_tensor_proto(np.asarray(value, np.float32)))
    return response

  def GetModelMetadata(self, request, context):
    self._fake.headers.append(dict(context.invocation_metadata()))
    if list(request.metadata_field) != ["signature_def"]:
      context.abort(grpc.StatusCode.INVALID_ARGUMENT, "at least one metadata_field")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = request.model_spec.name
    try:
      response.model_spec.version.value = self._fake.resolved(self._asked(request.model_spec))
    except Refusal as refusal:
      context.abort(getattr(grpc.StatusCode, refusal.code), refusal.message)
    return response

  def _asked(self, spec):
    chosen = spec.WhichOneof("version_choice")
    return {
        None: None, "version": spec.version.value, "version_label": spec.version_label
    }[chosen]


class _Status(model_service_pb2_grpc.ModelServiceServicer):

  def __init__(self, fake):
    self._fake = fake

  def GetModelStatus(self, request, context):
    self._fake.headers.append(dict(context.invocation_metadata()))
    response = get_model_status_pb2.GetModelStatusResponse()
    states = get_model_status_pb2.ModelVersionStatus
    for version in self._fake.versions:
      response.model_version_status.add(version=version, state=states.AVAILABLE)
    response.model_version_status.add(version=99, state=states.LOADING)
    return response


class GrpcServer:
  """TF Serving's gRPC API on a `Fake`, from here until `stop`."""

  def __init__(self, fake, port=0, host="127.0.0.1"):
    pool = concurrent.futures.ThreadPoolExecutor(16)
    self._server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _Predict(fake), self._server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Status(fake), self._server)
    self.port = self._server.add_insecure_port(f"{host}:{port}")
    self._server.start()
    self.endpoint = f"grpc://{host}:{self.port}"

  def stop(self):
    self._server.stop(grace=None).wait()


SERVERS = {"http": RestServer, "grpc": GrpcServer}


class Canned:
  """An HTTP server with one answer for everything; the value of the block is its port.

  Attributes:
    asked: the paths; of a proxy, the URLs.
  """

  def __init__(self, status, body, headers=None):
    self.asked = []

    async def answer(scope, receive, send):
      if scope["type"] == "http":
        self.asked.append(scope["path"])
        await starlette.responses.Response(body, status, headers)(scope, receive, send)

    self._app = answer

  def __enter__(self):
    self._server = uvicorn.Server(uvicorn.Config(self._app, port=0, log_level="critical"))
    self._thread = threading.Thread(target=self._server.run, daemon=True)
    self._thread.start()
    while not self._server.started:
      assert self._thread.is_alive()
      time.sleep(0.01)
    return self._server.servers[0].sockets[0].getsockname()[1]

  def __exit__(self, *error):
    self._server.should_exit = self._server.force_exit = True
    self._thread.join()


class Proxy:
  """Passes bytes between clients and a local server until it is cut.

  Args:
    port: of the server.
    delay: seconds from a connection until its first byte is passed.
    drip: seconds for each byte of an answer.
  """

  def __init__(self, port, delay=0, drip=0):
    self._target, self._sockets, self._delay, self._drip = port, [], delay, drip
    self._listener = socket.create_server(("127.0.0.1", 0))
    self.port = self._listener.getsockname()[1]
    self._threads = []
    self._start(self._accept)

  def _start(self, function, *arguments):
    self._threads.append(threading.Thread(target=function, args=arguments, daemon=True))
    self._threads[-1].start()

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()

  def cut(self):
    """Resets all connections; new ones are let through."""
    for one in self._sockets:
      with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)

  def close(self):
    with contextlib.suppress(OSError):
      self._listener.shutdown(socket.SHUT_RDWR)
    self.cut()
    for thread in self._threads:
      thread.join()
    for one in (self._listener, *self._sockets):
      one.close()

  def _accept(self):
    with contextlib.suppress(OSError):
      while True:
        near, _ = self._listener.accept()
        far = socket.create_connection(("127.0.0.1", self._target))
        self._sockets += [near, far]
        for pair in ((near, far), (far, near)):
          self._start(self._pass, *pair, self._drip if pair[0] is far else 0)

  def _pass(self, source, target, drip):
    time.sleep(self._delay)
    with contextlib.suppress(OSError):
      while content := source.recv(1 if drip else 65536):
        target.sendall(content)
        time.sleep(drip)
      target.shutdown(socket.SHUT_WR)


class Awaiting:
  """An `AsyncClient` that is used like a `Client`."""

  def __init__(self, *args, **kwargs):
    self._loop = asyncio.new_event_loop()
    self._client = clients.AsyncClient(*args, **kwargs)

  def close(self):
    self._loop.run_until_complete(self._client.aclose())

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()
    self._loop.close()

  def __getattr__(self, name):
    method = getattr(self._client, name)
    return lambda *args: self._loop.run_until_complete(method(*args))


KINDS = {"blocking": clients.Client, "awaiting": Awaiting}


# ---- fixtures, for the modules of tests that name them ----------------------------------------


@pytest.fixture
def fake():
  """The model of `server`."""
  return Fake()


@pytest.fixture(scope="module", params=SERVERS)
def protocol(request):
  return request.param


@pytest.fixture
def server(fake, protocol):
  """For one test alone: what an earlier one has given up may still arrive."""
  server = SERVERS[protocol](fake)
  yield server
  server.stop()


@pytest.fixture(params=KINDS)
def connect(request, monkeypatch):
  """A function that opens a client, closed in the end, whose pauses are short."""
  monkeypatch.setattr(clients, "_FIRST_PAUSE_S", 0.02)
  with contextlib.ExitStack() as stack:
    yield lambda *args, **kwargs: stack.enter_context(KINDS[request.param](*args, **kwargs))


@pytest.fixture
def client(server, connect, fake):
  return connect(server.endpoint)


@pytest.fixture
def free_port():
  with socket.socket() as holder:
    holder.bind(("127.0.0.1", 0))
    return holder.getsockname()[1]


def images(n, seed=0):
  return np.random.default_rng(seed).random((n, *SHAPE), "float32")


def write_images(folder, sizes):
  """The paths of PNG files of these sizes, of random pixels."""
  rng = np.random.default_rng(1)
  paths = [folder / f"{index}.png" for index in range(len(sizes))]
  for path, size in zip(paths, sizes):
    PIL.Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(path)
  return paths

"""imae-serve as its clients see it, over sockets, and what faults do to it.

With TF_MODEL_SERVER naming a `tensorflow_model_server`, that is started in its place, and
tests of what only imae-serve promises are skipped.
"""

import base64
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import bad_requests
import exports
import grpc
import httpx
import numpy as np
import programs
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc
from waits import until

TF_MODEL_SERVER = os.environ.get("TF_MODEL_SERVER")
PREDICT = "/v1/models/imae:predict"
STATUS = "/v1/models/imae"
_TIMEOUT = 120  # seconds; a machine may be busy

ours_alone = pytest.mark.skipif(bool(TF_MODEL_SERVER), reason="a promise of imae-serve")


def publish(model, base, number):
  base.mkdir(exist_ok=True)
  shutil.copytree(model, base / ".tmp-copy")
  os.rename(base / ".tmp-copy", base / str(number))


class ImaeServe:
  """A started `imae-serve` and clients of it."""

  def __init__(self, base, folder, **flags):
    self.base, self._folder = base, folder
    folder.mkdir(exist_ok=True)
    self.program = programs.Program(
        "serve", folder,
        **{"base": base, "rest_port": 0, "grpc_port": 0, "poll_seconds": 0.1, **flags},
    )
    try:
      until(lambda: "Page " in self._text("out") or self._fails())
    except BaseException:
      self.program.signal_when(signal.SIGKILL, lambda: True)
      raise
    [(host, port)] = re.findall(r"^REST +http://([^/]+):(\d+)/", self._text("out"), re.MULTILINE)
    [self.grpc] = re.findall(r"^gRPC +(\S+)$", self._text("out"), re.MULTILINE)
    self.address, self.url = (host, int(port)), f"http://{host}:{port}"

  def stop(self):
    """SIGTERM, and how the program ended."""
    self.program.signal_when(signal.SIGTERM, lambda: True)
    return self.program.wait()

  def _text(self, stream):
    path = self._folder / f"serve-{stream}.txt"
    return path.read_text() if path.exists() else ""

  def _fails(self):
    assert "imae-serve: error" not in self._text("err"), self._text("err")
    return False


class ModelServer:
  """The same for TF Serving itself."""

  def __init__(self, base, folder):
    del folder
    self.base = base
    ports = []
    for _ in range(2):
      with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        ports.append(sock.getsockname()[1])
    self._process = subprocess.Popen([
        TF_MODEL_SERVER, "--model_name=imae", f"--model_base_path={base}",
        f"--rest_api_port={ports[0]}", f"--port={ports[1]}", "--file_system_poll_wait_seconds=1",
        "--max_num_load_retries=0",  # of a broken version, a minute each
    ])
    self.address, self.grpc = ("127.0.0.1", ports[0]), f"127.0.0.1:{ports[1]}"
    self.url = f"http://127.0.0.1:{ports[0]}"
    until(self._answers)

  def stop(self):
    self._process.terminate()
    self._process.wait(_TIMEOUT)

  def _answers(self):
    assert self._process.poll() is None
    with contextlib.suppress(httpx.TransportError):
      return httpx.get(self.url + STATUS).status_code == 200


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
  """A server of version 1, for tests that change nothing."""
  folder = tmp_path_factory.mktemp("server")
  publish(models[0], folder / "base", 1)
  server = (ModelServer if TF_MODEL_SERVER else ImaeServe)(folder / "base", folder)
  yield server
  server.stop()


@pytest.fixture(scope="module")
def client(server):
  with httpx.Client(base_url=server.url, timeout=_TIMEOUT) as client:
    yield client


@pytest.fixture(scope="module")
def stubs(server):
  with grpc.insecure_channel(server.grpc) as channel:
    yield (prediction_service_pb2_grpc.PredictionServiceStub(channel),
           model_service_pb2_grpc.ModelServiceStub(channel))


def predict_request(signature, inputs, name="imae"):
  request = predict_pb2.PredictRequest()
  request.model_spec.name = name
  request.model_spec.signature_name = signature
  for key, value in inputs.items():
    request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
  return request


class TestCodes:

  @pytest.mark.parametrize("n", [1, 7])
  def test_rest(self, client, models, n):
    x = exports.images(n)
    expected = exports.reference(models[0])("encode", x=x)
    answer = client.post(PREDICT, json={"inputs": x.tolist()})
    assert answer.status_code == 200, answer.text
    exports.assert_same_columns(answer.json()["outputs"], expected)
    answer = client.post(PREDICT, json={"instances": x.tolist()}).json()["predictions"]
    columns = {name: [row[name] for row in answer] for name in answer[0]}
    exports.assert_same_columns(columns, expected)

  @pytest.mark.parametrize("n", [0, 1, 7])
  def test_rest_of_image_files(self, client, models, n):
    pixels = bad_requests.PIXELS[:n]
    files = [{"b64": base64.b64encode(exports.encoded(p)).decode()} for p in pixels]
    document = {"signature_name": "encode_image_bytes", "inputs": files}
    answer = client.post(PREDICT, json=document)
    expected = exports.reference(models[0])("encode", x=pixels[..., None].astype("float32") / 255)
    exports.assert_same_columns(answer.json()["outputs"], expected)

  @pytest.mark.parametrize("n", [0, 1, 7])
  def test_grpc(self, stubs, models, n):
    x = exports.images(n)
    codes = exports.reference(models[0])("encode", x=x)
    decoded = {"y": codes["y"], "z": codes["z"]}
    for signature, inputs in (("", {"x": x}), ("decode", decoded), ("reconstruct", {"x": x})):
      answer = stubs[0].Predict(predict_request(signature, inputs), timeout=_TIMEOUT)
      outputs = {name: tf.make_ndarray(proto) for name, proto in answer.outputs.items()}
      expected = exports.reference(models[0])(signature or "serving_default", **inputs)
      exports.assert_same_columns(outputs, expected)
      assert answer.model_spec.version.value == 1

  def test_status_and_metadata(self, client, stubs):
    states = get_model_status_pb2.ModelVersionStatus
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "imae"
    [status] = stubs[1].GetModelStatus(request).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, states.AVAILABLE, 0)
    [status] = client.get(STATUS).json()["model_version_status"]
    assert status == {
        "version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}
    }
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "imae"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    stubs[0].GetModelMetadata(request).metadata["signature_def"].Unpack(signatures)
    listed = client.get(f"{STATUS}/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert set(listed) == set(signatures.signature_def)


class TestBadRequests:

  def test_every_one_has_tf_servings_status(self, client):
    for what, method, path, body, status, _ in bad_requests.BAD:
      if TF_MODEL_SERVER and what.startswith("deep"):
        continue  # its parser recurses: it might not survive
      response = client.request(method, path, content=body)
      assert response.status_code == status, (what, response.text)
      if path.lower().startswith("/v1"):
        assert list(response.json()) == ["error"] and response.json()["error"], what
    assert client.get(STATUS).status_code == 200

  @pytest.mark.parametrize(
      "request_,code",
      [
          (predict_request("encode", {"x": exports.images(1)}, name="foo"), "NOT_FOUND"),
          (predict_request("embed", {"x": exports.images(1)}), "FAILED_PRECONDITION"),
          (predict_request("encode", {"x": exports.images(1) * 2}), "INVALID_ARGUMENT"),
          (predict_request("encode", {"x": np.zeros((2, 64), "float32")}), "INVALID_ARGUMENT"),
          (predict_request("encode", {}), "INVALID_ARGUMENT"),
          (predict_request("encode", {"x": ["a"]}), "INVALID_ARGUMENT"),
          (predict_request("encode_image_bytes", {"image_bytes": [b"a"]}), "INVALID_ARGUMENT"),
      ],
  )
  def test_grpc_codes(self, stubs, request_, code):
    with pytest.raises(grpc.RpcError) as caught:
      stubs[0].Predict(request_, timeout=_TIMEOUT)
    assert caught.value.code().name == code

  @ours_alone
  def test_a_body_of_50_mb(self, client, server):
    response = client.post(PREDICT, content=b" " * 50_000_000)
    assert response.status_code == 413
    assert "expected a body of at most 33554432 bytes" in response.json()["error"]
    # A client that asks first is told before it sends anything.
    with socket.create_connection(server.address, _TIMEOUT) as sock:
      sock.sendall(b"POST /v1/models/imae:predict HTTP/1.1\r\nHost: localhost\r\n"
                   b"Content-Length: 50000000\r\nExpect: 100-continue\r\n\r\n")
      assert sock.recv(1000).startswith(b"HTTP/1.1 413 ")


class TestFaults:

  def test_slow_clients_hold_nobody_up(self, client, server):
    head = b"POST /v1/models/imae:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    with contextlib.ExitStack() as stack:
      for i in range(100):
        sock = stack.enter_context(socket.create_connection(server.address, _TIMEOUT))
        sock.sendall(head[: 20 + i] if i % 2 else head + b"\r\n{")
      for _ in range(10):
        assert client.post(PREDICT, json={"instances": bad_requests.X}).status_code == 200

  def test_vanished_clients_harm_nobody(self, client, server, stubs):
    body = bad_requests.rows(bad_requests.X * 50).encode()
    head = b"POST /v1/models/imae:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    for i in range(60):
      with socket.create_connection(server.address, _TIMEOUT) as sock:
        if i % 3 == 0:  # no polite goodbye either
          sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.sendall((head % len(body) + body)[: None if i % 2 else len(body) // 2])
    for _ in range(30):
      request = predict_request("encode", {"x": exports.images(100)})
      stubs[0].Predict.future(request, timeout=_TIMEOUT).cancel()
    assert client.post(PREDICT, json={"instances": bad_requests.X}).status_code == 200
    answer = stubs[0].Predict(predict_request("", {"x": exports.images(1)}), timeout=_TIMEOUT)
    assert len(answer.outputs) == 3

  def test_what_is_no_http(self, client, server):
    with socket.create_connection(server.address, _TIMEOUT) as sock:
      sock.sendall(b"\x00\x01\x02 hello\r\n\r\n")
      assert b"200" not in sock.recv(1000)
    assert client.get(STATUS).status_code == 200


def test_versions_come_damaged_and_whole(models, tmp_path):
  """A corrupt version leaves the old one serving and says why; the next takes over."""
  publish(models[0], tmp_path / "base", 1)
  server = (ModelServer if TF_MODEL_SERVER else ImaeServe)(tmp_path / "base", tmp_path)
  x = exports.images(2)
  with httpx.Client(base_url=server.url, timeout=_TIMEOUT) as client:

    def assert_codes_of(model):
      answer = client.post(PREDICT, json={"inputs": x.tolist()}).json()["outputs"]
      exports.assert_same_columns(answer, exports.reference(model)("encode", x=x))

    def states():
      listed = client.get(STATUS).json()["model_version_status"]
      return {status["version"]: status for status in listed}

    broken = shutil.copytree(models[1], tmp_path / "broken")
    data = next((broken / "variables").glob("*.data-*"))
    os.truncate(data, data.stat().st_size // 2)
    publish(broken, tmp_path / "base", 2)
    until(lambda: "2" in states() and states()["2"]["status"]["error_code"] != "OK")
    assert len(states()["2"]["status"]["error_message"]) > 10
    assert states()["1"]["state"] == "AVAILABLE"
    assert_codes_of(models[0])
    publish(models[1], tmp_path / "base", 3)
    until(lambda: states().get("3", {}).get("state") == "AVAILABLE")
    until(lambda: states()["1"]["state"] == "END")
    assert_codes_of(models[1])
    assert client.post("/v1/models/imae/versions/1:predict", json={
        "inputs": x.tolist()}).status_code == 404
  server.stop()


class RestLoad:
  """Clients that send requests over kept connections until nobody listens any more."""

  def __init__(self, server, count):
    self.answered, self.failed, self._url = 0, [], server.url
    self._threads = [threading.Thread(target=self._run) for _ in range(count)]
    for thread in self._threads:
      thread.start()

  def _run(self):
    body = bad_requests.rows(bad_requests.X)
    with httpx.Client(base_url=self._url, timeout=_TIMEOUT) as client:
      while True:
        try:
          response = client.post(PREDICT, content=body)
        except httpx.ConnectError:
          return  # nothing was sent
        except Exception as error:
          self.failed.append(repr(error))
          return
        if response.status_code != 200:
          self.failed.append(response.text)
        self.answered += 1

  def join(self):
    for thread in self._threads:
      thread.join(_TIMEOUT)
      assert not thread.is_alive()


class GrpcLoad(RestLoad):

  def __init__(self, server, count):
    self._address = server.grpc
    super().__init__(server, count)

  def _run(self):
    request = predict_request("encode", {"x": exports.images(2)})
    with grpc.insecure_channel(self._address) as channel:
      predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
      while True:
        try:
          predict(request, timeout=_TIMEOUT)
        except grpc.RpcError as error:
          if error.code() != grpc.StatusCode.UNAVAILABLE:
            self.failed.append(repr(error))
          return
        self.answered += 1


@ours_alone
def test_sigterm_under_load_drops_nothing(models, tmp_path):
  publish(models[0], tmp_path / "base", 1)
  server = ImaeServe(tmp_path / "base", tmp_path)
  loads = [RestLoad(server, 8), GrpcLoad(server, 4)]
  until(lambda: all(load.answered > 50 for load in loads))
  result = server.stop()
  for load in loads:
    load.join()
  assert [load.failed for load in loads] == [[], []]
  assert (result.status, result.stderr) == (0, "")


@ours_alone
def test_a_second_signal_ends_what_slow_clients_hold_up(models, tmp_path):
  publish(models[0], tmp_path / "base", 1)
  server = ImaeServe(tmp_path / "base", tmp_path)
  with socket.create_connection(server.address, _TIMEOUT) as sock:
    sock.sendall(b"POST /v1/models/imae:predict HTTP/1.1\r\nHost: localhost\r\n"
                 b"Content-Length: 1000\r\n\r\n{")
    until(lambda: httpx.get(server.url + STATUS).status_code == 200)
    server.program.signal_when(signal.SIGTERM, lambda: True)
    until(lambda: _refuses(server.address))
    started = time.monotonic()
    result = server.stop()
  assert time.monotonic() - started < 10  # 20 s without
  assert (result.status, result.stderr) == (0, "")


def _refuses(address):
  try:
    socket.create_connection(address, _TIMEOUT).close()
  except ConnectionRefusedError:
    return True
  return False


@ours_alone
@pytest.mark.slow
def test_the_benchmark_finds_no_error_and_no_growth(tmp_path):
  """64 clients for a minute four times, 20 swaps under load, 100,000 requests: 10 minutes."""
  output = tmp_path / "serving.json"
  subprocess.run(
      [sys.executable, "-m", "benchmarks.serving", f"--output={output}"],
      cwd=pathlib.Path(__file__).parents[2], check=True,
  )
  figures = json.loads(output.read_text())
  for load in (*figures["runs"], figures["swaps"], figures["memory"]):
    assert load["errors"] == 0 and load["requests"] > 1000, load
  assert figures["clients"] == 64 and figures["swaps"]["swaps"] == 20
  assert figures["memory"]["requests"] >= 100_000
  assert figures["memory"]["growth_mb"] < 20, figures["memory"]


@ours_alone
def test_one_line_where_it_cannot_serve(models, tmp_path, server):
  def error_of(**flags):
    flags = {"base": server.base, "rest_port": 0, "grpc_port": 0, **flags}
    result = programs.run("serve", tmp_path, **flags)
    assert result.status == 1 and result.stdout == ""
    assert re.fullmatch(r"imae-serve: error: expected [^\n]+\n", result.stderr), result.stderr
    return result.stderr

  assert "got none; give the --base of an imae-export" in error_of(base=tmp_path / "nowhere")
  (tmp_path / "corrupt" / "7").mkdir(parents=True)
  assert "got 7 (" in error_of(base=tmp_path / "corrupt")
  for flag in ({"max_request_mb": "nan"}, {"poll_seconds": "inf"}, {"batch_timeout_ms": -1}):
    [name] = flag
    result = programs.run("serve", tmp_path, base=server.base, **flag)
    assert result.status == 1 and name in result.stderr and "Traceback" not in result.stderr
  port = server.address[1]
  assert f"a free address for --rest_port, got 127.0.0.1:{port}" in error_of(rest_port=port)
  port = int(server.grpc.split(":")[1])
  assert f"a free address for --grpc_port, got 127.0.0.1:{port}" in error_of(grpc_port=port)


@ours_alone
def test_it_listens_on_this_machine_alone(server):
  assert server.address[0] == "127.0.0.1" and server.grpc.startswith("127.0.0.1:")
  for port in (server.address[1], int(server.grpc.split(":")[1])):
    with pytest.raises(ConnectionRefusedError):
      socket.create_connection(("127.0.0.2", port), 5)  # 0.0.0.0 would answer


@ours_alone
@pytest.mark.parametrize("host,shown", [("127.0.0.2", "127.0.0.2"), ("::1", "[::1]")])
def test_on_every_loopback_address_other_names_are_refused(models, tmp_path, host, shown):
  publish(models[0], tmp_path / "base", 1)
  try:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    socket.create_server((host, 0), family=family).close()
  except OSError as error:
    pytest.skip(f"this machine has no {host}: {error}")
  server = ImaeServe(tmp_path / "base", tmp_path, host=host)
  try:
    assert server.url.startswith(f"http://{shown}:") and server.grpc.startswith(f"{shown}:")
    assert httpx.get(server.url + STATUS).status_code == 200
    assert httpx.get(server.url + STATUS, headers={"Host": "evil.example"}).status_code == 400
  finally:
    server.stop()


@ours_alone
@pytest.mark.parametrize("missing", ["uvicorn", "grpc", "tensorflow_serving"])
def test_without_the_serving_extra(tmp_path, missing):
  code = f"import sys; sys.modules[{missing!r}] = None; sys.argv[0] = 'imae-serve'\n"
  code += "from imae_tf.export.server import serve; serve.cli()"
  result = subprocess.run(
      [sys.executable, "-c", code, f"--base={tmp_path}"], capture_output=True, text=True,
      cwd=pathlib.Path("/"), check=False,
  )
  assert result.returncode == 1
  assert result.stderr == (
      f"imae-serve: error: expected {missing} to serve a model, got none; run pip install"
      " 'imae_tf[serving]'.\n"
  )

"""The client against a small server of both protocols, made of the published messages."""

import asyncio
import concurrent.futures
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time

import exports
import fake_servers
import numpy as np
import PIL.Image
import pytest
import real_server
import starlette.applications
import starlette.responses
import starlette.routing
import tensorflow as tf
import uvicorn

from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.export import channels
from imae_tf.export import client as clients
from imae_tf.export import savedmodel

K1, K2, SHAPE = fake_servers.K1, fake_servers.K2, fake_servers.SHAPE
codes_of, images_of = fake_servers.codes_of, fake_servers.images_of


class Awaiting:
  """An `AsyncClient` that is used like a `Client`."""

  def __init__(self, *args, **kwargs):
    self._loop = asyncio.new_event_loop()
    self._client = clients.AsyncClient(*args, **kwargs)

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._loop.run_until_complete(self._client.aclose())
    self._loop.close()

  def __getattr__(self, name):
    method = getattr(self._client, name)
    return lambda *args: self._loop.run_until_complete(method(*args))


KINDS = {"blocking": clients.Client, "awaiting": Awaiting}


@pytest.fixture(scope="module")
def shared_fake():
  return fake_servers.Fake()


@pytest.fixture
def fake(shared_fake):
  """The model of `server`, as new."""
  shared_fake.reset()
  return shared_fake


@pytest.fixture(scope="module", params=fake_servers.SERVERS)
def protocol(request):
  return request.param


@pytest.fixture(scope="module")
def server(shared_fake, protocol):
  server = fake_servers.SERVERS[protocol](shared_fake)
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


def assert_codes_equal(actual, expected, atol=1e-6):
  exports.assert_same_arrays(actual, expected, atol)


class TestAnswers:

  @pytest.mark.parametrize("n", [0, 1, 64, 65, 1000])
  def test_encode_keeps_the_order(self, client, fake, n):
    x = images(n)
    assert_codes_equal(client.encode(x), codes_of(x))
    sizes = [rows for _, rows, _ in fake.requests]
    assert sum(sizes) == n and max(sizes, default=0) <= 64
    assert {signature for signature, _, _ in fake.requests} <= {"encode"}

  def test_bytes_are_divided_by_255(self, client):
    pixels = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), np.uint8)
    assert_codes_equal(client.encode(pixels), codes_of(pixels.astype("float32") / 255))

  def test_float32_arrives_exactly(self, client):
    x = np.nextafter(images(9), 2, dtype="float32") % 1
    np.testing.assert_array_equal(client.encode(x)["z"], codes_of(x)["z"])

  @pytest.mark.parametrize("n", [0, 3, 130])
  def test_decode_and_reconstruct(self, client, n):
    codes = codes_of(images(n))
    decoded = client.decode(codes["y"], codes["z"])
    np.testing.assert_allclose(decoded, images_of(codes["y"], codes["z"]), atol=1e-6)
    np.testing.assert_allclose(client.reconstruct(images(n)), images(n) / 2, atol=1e-6)

  @pytest.mark.parametrize("n", [0, 1, 70])
  def test_files(self, client, fake, tmp_path, n):
    pixels = np.random.default_rng(1).integers(0, 256, (n, *SHAPE), np.uint8)
    paths = [tmp_path / f"{index}.png" for index in range(n)]
    for path, image in zip(paths, pixels):
      PIL.Image.fromarray(image[..., 0]).save(path)
    assert_codes_equal(client.encode_files(map(str, paths)), codes_of(pixels / np.float32(255)))
    assert {signature for signature, _, _ in fake.requests} <= {"encode_image_bytes"}

  @pytest.mark.parametrize("version", [3, "stable", None])
  def test_version_and_label(self, server, connect, fake, version):
    connect(server.endpoint, version=version).encode(images(2))
    assert fake.requests == [("encode", 2, version)]

  def test_served_version(self, client, fake):
    fake.versions = [9, 10]  # and 99, which is still being loaded
    assert client.served_version() == 10

  def test_large_images_go_in_smaller_chunks(self, server, connect, fake, monkeypatch):
    monkeypatch.setattr(clients, "_CHUNK_BYTES", 50_000)
    fake.answer = {
        "y": np.zeros([1, K2]), "z": np.zeros([1, K1]), "z_scale": np.zeros([1, K1])
    }
    x = np.zeros([3, 64, 64, 3], np.float32)  # 49 kB each in gRPC, more in JSON
    assert connect(server.endpoint).encode(x)["y"].shape == (3, K2)
    assert [rows for _, rows, _ in fake.requests] == [1, 1, 1]

  def test_both_protocols_give_the_same_codes(self, fake):
    x = images(100)
    answers = []
    for kind in fake_servers.SERVERS.values():
      server = kind(fake)
      with clients.Client(server.endpoint) as client:
        answers.append(client.encode(x))
      server.stop()
    for name, value in answers[0].items():
      np.testing.assert_array_equal(value, answers[1][name])


class TestVersions:

  def test_all_chunks_go_to_one_version(self, client, fake):
    client.encode(images(200))
    assert {version for _, _, version in fake.requests} == {3}

  def test_a_version_that_goes_away_takes_its_rows_with_it(self, client, fake):
    fake.retires = 2  # chunks are answered by version 3
    x = images(400)
    assert_codes_equal(client.encode(x), codes_of(x))
    assert sum(rows for _, rows, version in fake.requests if version == 4) == 400

  def test_a_version_that_was_asked_for_is_not_replaced(self, server, connect, fake):
    client = connect(server.endpoint, version=3)
    fake.retires = 2
    with pytest.raises(clients.NotFoundError, match="expected a model that .* serves, got .*imae"):
      client.encode(images(400))


class TestRetries:

  @pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
  def test_busy_then_success(self, client, fake, code):
    fake.failures.extend([(code, "the queue is full"), (code, "the queue is full")])
    x = images(3)
    assert_codes_equal(client.encode(x), codes_of(x))
    assert not fake.failures and len(fake.requests) == 1

  @pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
  def test_busy_for_good(self, server, connect, fake, code):
    fake.failures.extend([(code, "the queue is full")] * 10)
    with pytest.raises(clients.UnavailableError, match="got .*: the queue is full; try") as raised:
      connect(server.endpoint, retries=3).encode(images(3))
    assert raised.value.code == code
    assert len(fake.failures) == 6

  @pytest.mark.parametrize(
      "code,kind",
      [
          ("INVALID_ARGUMENT", clients.RefusedError),
          ("NOT_FOUND", clients.NotFoundError),
          ("DEADLINE_EXCEEDED", clients.DeadlineError),
          ("INTERNAL", clients.ClientError),
      ],
  )
  def test_other_failures_are_not_repeated(self, client, fake, code, kind):
    fake.failures.extend([(code, "the server's own sentence.")] * 2)
    with pytest.raises(kind) as raised:
      client.encode(images(3))
    assert type(raised.value) is kind and isinstance(raised.value, ImaeError)
    assert code == "INTERNAL" or raised.value.code == code
    if code != "DEADLINE_EXCEEDED":
      assert "the server's own sentence" in str(raised.value)
    assert len(fake.failures) == 1

  def test_wrong_shape_is_the_servers_to_refuse(self, client):
    with pytest.raises(clients.RefusedError, match=r"expected images x of shape \[N, 8, 8, 1\]"):
      client.encode(np.zeros([2, 9, 8, 1]))

  def test_no_server(self, protocol, connect, free_port):
    client = connect(f"{protocol}://127.0.0.1:{free_port}", retries=2)
    start = time.monotonic()
    with pytest.raises(clients.UnavailableError, match="expected a server with free capacity at"):
      client.encode(images(1))
    assert time.monotonic() - start < 3

  def test_a_server_that_comes_later(self, protocol, connect, free_port, fake, monkeypatch):
    monkeypatch.setattr(clients, "_FIRST_PAUSE_S", 0.2)
    client = connect(f"{protocol}://127.0.0.1:{free_port}", retries=8)
    with concurrent.futures.ThreadPoolExecutor() as pool:
      answer = pool.submit(client.encode, images(2))
      time.sleep(0.5)
      assert not answer.done()
      server = fake_servers.SERVERS[protocol](fake, free_port)
      assert_codes_equal(answer.result(), codes_of(images(2)))
    server.stop()

  def test_a_server_that_vanishes_in_the_middle(self, server, protocol, connect, fake):
    with Proxy(server.port) as proxy:
      client = connect(f"{protocol}://127.0.0.1:{proxy.port}")
      client.encode(images(1))  # the connection stands
      fake.delay = 0.4
      with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(client.encode, images(2))
        time.sleep(0.2)
        proxy.cut()
        fake.delay = 0
        assert_codes_equal(answer.result(), codes_of(images(2)))

  def test_a_server_that_vanishes_for_good(self, server, protocol, connect, fake):
    with Proxy(server.port) as proxy:
      client = connect(f"{protocol}://127.0.0.1:{proxy.port}", retries=2)
      client.encode(images(1))
      fake.delay = 0.4
      with concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(client.encode, images(2))
        time.sleep(0.2)
        proxy.close()
        with pytest.raises(clients.UnavailableError):
          answer.result()

  def test_timeout(self, server, connect, fake):
    fake.delay = 1
    client = connect(server.endpoint, timeout_s=0.2)
    with pytest.raises(clients.DeadlineError, match="no answer within 0.2 s; raise timeout_s"):
      client.encode(images(1))

  def test_pauses_grow_to_a_bound(self, server, monkeypatch, fake):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    fake.failures.extend([("UNAVAILABLE", "")] * 9)
    monkeypatch.setattr(fake, "_predict", _without_sleep(fake))
    with clients.Client(server.endpoint, retries=9) as client:
      client.encode(images(1))
    pauses = [pause for pause in pauses if pause]
    bounds = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]
    assert len(pauses) >= 9
    for pause, bound in zip([p for p in pauses if p >= 0.05], bounds):
      assert bound / 2 <= pause <= bound


def _without_sleep(fake):
  def predict(signature, inputs, version):
    if fake.failures:
      raise fake_servers.Refusal(*fake.failures.popleft())
    return codes_of(inputs["x"])

  return predict


class Proxy:
  """Passes bytes between clients and a local server until it is cut."""

  def __init__(self, port):
    self._target, self._sockets = port, []
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
          self._start(self._pass, *pair)

  def _pass(self, source, target):
    with contextlib.suppress(OSError):
      while content := source.recv(65536):
        target.sendall(content)
      target.shutdown(socket.SHUT_WR)


class TestWrongReplies:

  @pytest.mark.parametrize(
      "answer",
      [
          {"probabilities": np.zeros([2, 5])},
          {"y": np.zeros([2, K2]), "z": np.zeros([2, K1])},
          {"y": np.zeros([3, K2]), "z": np.zeros([3, K1]), "z_scale": np.zeros([3, K1])},
          {"y": np.zeros([2]), "z": np.zeros([2]), "z_scale": np.zeros([2])},
      ],
  )
  def test_another_model(self, client, fake, answer):
    fake.answer = answer
    with pytest.raises(clients.ReplyError, match="got .*; check the endpoint and the model's name"):
      client.encode(images(2))

  @pytest.mark.parametrize(
      "body",
      [
          b"", b"<html>hello</html>", b"[]", b"{}", b"null", b'{"outputs": [[1], [1, 2]]}',
          b'{"outputs": {"y": [["a"]], "z": [[1]], "z_scale": [[1]]}}', b'{"outputs": 3}', b"\xff",
          b'{"outputs": {"y": [[1], [1, 2]], "z": [[1]], "z_scale": [[1]]}}',
      ],
  )
  def test_bodies_of_another_server(self, connect, body):
    with Canned(200, body) as port:
      with pytest.raises(clients.ReplyError, match="got another one"):
        connect(f"http://127.0.0.1:{port}").encode(images(1))

  @pytest.mark.parametrize(
      "status,body,kind,sentence",
      [
          (404, b"<html>nowhere</html>", clients.NotFoundError, "got HTTP 404: <html>nowhere"),
          (400, b"", clients.RefusedError, "got HTTP 400: Bad Request"),
          (413, b"too large", clients.RefusedError, "got HTTP 413: too large"),
          (302, b"", clients.ClientError, "got HTTP 302"),
          (500, b'{"error": 3}', clients.ClientError, "got HTTP 500: 3"),
      ],
  )
  def test_statuses_of_another_server(self, connect, status, body, kind, sentence):
    with Canned(status, body) as port:
      with pytest.raises(kind, match=sentence):
        connect(f"http://127.0.0.1:{port}").encode(images(1))

  def test_a_body_that_is_not_the_gzip_it_claims(self, connect):
    with Canned(200, b"plain", {"Content-Encoding": "gzip"}) as port:
      with pytest.raises(clients.ClientError, match="expected an answer"):
        connect(f"http://127.0.0.1:{port}").encode(images(1))

  def test_grpc_asked_of_a_rest_port(self, fake, connect):
    server = fake_servers.RestServer(fake)
    with pytest.raises(clients.UnavailableError):
      connect(f"grpc://127.0.0.1:{server.port}", retries=1).encode(images(1))
    server.stop()

  def test_rest_asked_of_a_grpc_port(self, fake, connect):
    server = fake_servers.GrpcServer(fake)
    with pytest.raises(clients.ClientError):
      connect(f"http://127.0.0.1:{server.port}", retries=1).encode(images(1))
    server.stop()


class Canned:
  """An HTTP server with one answer for everything; the value of the block is its port."""

  def __init__(self, status, body, headers=None):
    async def answer(request):
      return starlette.responses.Response(body, status, headers)

    methods = ["GET", "POST"]
    route = starlette.routing.Route("/{path:path}", answer, methods=methods)
    self._app = starlette.applications.Starlette(routes=[route])

  def __enter__(self):
    self._server = uvicorn.Server(uvicorn.Config(self._app, port=0, log_level="critical"))
    self._thread = threading.Thread(target=self._server.run, daemon=True)
    self._thread.start()
    while not self._server.started:
      time.sleep(0.01)
    return self._server.servers[0].sockets[0].getsockname()[1]

  def __exit__(self, *error):
    self._server.should_exit = self._server.force_exit = True
    self._thread.join()


class TestConcurrency:

  @pytest.mark.parametrize("concurrency", [1, 4])
  def test_chunks_fly_at_the_same_time(self, server, fake, concurrency):
    fake.delay = 0.05
    x = images(80)

    async def encode():
      async with clients.AsyncClient(
          server.endpoint, chunk_size=10, concurrency=concurrency
      ) as client:
        return await client.encode(x)

    assert_codes_equal(asyncio.run(encode()), codes_of(x))
    assert fake.at_once == concurrency

  def test_many_calls_of_one_client(self, server, fake):
    async def encode_all():
      async with clients.AsyncClient(server.endpoint) as client:
        return await asyncio.gather(*(client.encode(images(5, seed)) for seed in range(50)))

    for seed, answer in enumerate(asyncio.run(encode_all())):
      assert_codes_equal(answer, codes_of(images(5, seed)))

  def test_a_failed_chunk_stops_the_others(self, server, fake):
    fake.failures.append(("INVALID_ARGUMENT", "no"))
    fake.delay = 0.02

    async def encode():
      async with clients.AsyncClient(server.endpoint, chunk_size=1, concurrency=2) as client:
        with pytest.raises(clients.RefusedError):
          await client.encode(images(100))
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(encode())
    assert len(fake.requests) < 10

  def test_threads_share_a_blocking_client(self, server):
    with clients.Client(server.endpoint) as client:
      with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda seed: client.encode(images(5, seed)), range(40)))
    for seed, answer in enumerate(answers):
      assert_codes_equal(answer, codes_of(images(5, seed)))


class TestBadInput:

  @pytest.mark.parametrize(
      "x,sentence",
      [
          (np.zeros([8, 8, 1]), r"expected images of shape \[N, .*got \[8, 8, 1\]; reshape"),
          (np.zeros([1, 8, 8, 1], np.int32), "expected images of uint8, .*got int32; convert"),
          (np.full([1, 8, 8, 1], 2.0), r"expected float pixels in \[0, 1\], got .* from 2 to 2"),
          (np.full([1, 8, 8, 1], np.nan), r"expected float pixels in \[0, 1\], got .* from nan"),
      ],
  )
  def test_images(self, client, fake, x, sentence):
    with pytest.raises(InputError, match=sentence):
      client.encode(x)
    assert not fake.requests

  @pytest.mark.parametrize(
      "y,z,sentence",
      [
          (np.zeros([2, K2]), np.zeros([3, K1]), "expected as many rows of y as of z, got 2 and 3"),
          (np.zeros([K2]), np.zeros([K1]), "expected y as a matrix of finite numbers"),
          (np.zeros([1, K2]), np.full([1, K1], np.inf), "expected z as a matrix of finite numbers"),
          (np.zeros([2, K2]), [[1], [1, 2]], "expected z as a matrix of finite numbers"),
      ],
  )
  def test_codes(self, client, fake, y, z, sentence):
    with pytest.raises(InputError, match=sentence):
      client.decode(y, z)
    assert not fake.requests

  def test_a_file_that_is_not_there(self, client, tmp_path):
    with pytest.raises(InputError, match="expected an image file at .*nowhere.png, got: No such"):
      client.encode_files([tmp_path / "nowhere.png"])

  def test_the_refused_file_is_named(self, client, tmp_path):
    for index in range(5):
      size = (9, 8) if index == 3 else (8, 8)
      PIL.Image.new("L", size).save(tmp_path / f"{index}.png")
    paths = [tmp_path / f"{index}.png" for index in range(5)]
    with pytest.raises(clients.RefusedError, match="^[^:]*3.png: expected .*shape .8, 8, 1.") as e:
      client.encode_files(paths)
    assert e.value.code == "INVALID_ARGUMENT"

  @pytest.mark.parametrize(
      "endpoint",
      [
          "", "localhost:8501", "ftp://host:1", "grpc://host", "http://", "http://host:99999999",
          "grpc://host:8500/path", "http://host:1?x=2", "http://[::1:8501", "http://ä..b:1",
          "http://host:1\n",
      ],
  )
  def test_endpoint(self, endpoint):
    with pytest.raises(InputError, match="expected an endpoint such as http://127.0.0.1:8501 or"):
      clients.Client(endpoint)

  @pytest.mark.parametrize(
      "kwargs", [{"timeout_s": 0}, {"retries": -1}, {"chunk_size": 0}]
  )
  def test_numbers(self, kwargs):
    with pytest.raises(InputError, match=f"expected {next(iter(kwargs))} as"):
      clients.Client("http://127.0.0.1:1", **kwargs)


@pytest.fixture(scope="module")
def model():
  return exports.make_model()


@pytest.fixture(scope="module")
def real(model, tmp_path_factory):
  """Both endpoints of imae-serve's servers on `model`."""
  base = tmp_path_factory.mktemp("real")
  savedmodel.write(model, base / "1")
  with real_server.served(base) as (rest, grpc, _):
    yield {"http": rest, "grpc": grpc}


class TestImaeServe:

  @pytest.mark.parametrize("n", [0, 1, 7, 1000])
  def test_codes_are_those_of_the_model(self, real, protocol, connect, model, n):
    x = exports.images(n)
    client = connect(real[protocol])
    codes = client.encode(x)
    expected = model.encode(exports.images(max(n, 1)))
    assert_codes_equal(codes, {name: value[:n] for name, value in expected.items()}, 1e-5)
    decoded = client.decode(codes["y"], codes["z"])
    assert decoded.shape == (n, *SHAPE) and decoded.dtype == np.float32
    if n:
      np.testing.assert_allclose(decoded, model.decode(codes["y"], codes["z"]), atol=1e-5)
      np.testing.assert_allclose(client.reconstruct(x), model.reconstruct(x), atol=1e-5)

  def test_both_protocols_give_the_same_codes(self, real):
    x = exports.images(100)
    with clients.Client(real["http"]) as one, clients.Client(real["grpc"]) as other:
      rest, grpc = one.encode(x), other.encode(x)
    for name, value in rest.items():
      np.testing.assert_allclose(value, grpc[name], rtol=0, atol=1e-6)

  @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
  def test_files(self, real, protocol, connect, model, tmp_path, kind):
    paths = [tmp_path / f"{index}.{kind.lower()}" for index in range(5)]
    pixels = (exports.images(5) * 255).astype("uint8")
    for path, image in zip(paths, pixels):
      path.write_bytes(exports.encoded(image[..., 0], kind))
    decoded = np.stack([tf.io.decode_image(path.read_bytes()).numpy() for path in paths])
    expected = model.encode(decoded / np.float32(255))
    assert_codes_equal(connect(real[protocol]).encode_files(paths), expected, 1e-5)

  def test_a_refused_file_is_named(self, real, protocol, connect, tmp_path):
    for index in range(3):
      (tmp_path / f"{index}.png").write_bytes(
          exports.encoded(np.zeros([8, 8 + (index == 1)], np.uint8))
      )
    with pytest.raises(clients.RefusedError, match="1.png: expected a request .*expected images"):
      connect(real[protocol]).encode_files(sorted(tmp_path.iterdir()))

  def test_what_the_graph_refuses(self, real, protocol, connect):
    with pytest.raises(clients.RefusedError) as raised:
      connect(real[protocol]).encode(np.zeros([2, 9, 8, 1]))
    assert raised.value.code == "INVALID_ARGUMENT" and "[N, 8, 8, 1]" in str(raised.value)

  def test_another_model_or_version(self, real, protocol, connect):
    for client in (connect(real[protocol], "other"), connect(real[protocol], version=7)):
      with pytest.raises(clients.NotFoundError):
        client.encode(exports.images(1))

  def test_served_version(self, real, protocol, connect):
    assert connect(real[protocol]).served_version() == 1


_CLEAN = """
import sys
for name in ("tensorflow", "keras", "tf_keras", "tensorflow_probability", "tensorflow_serving"):
  sys.modules[name] = None
import numpy as np
from imae_tf.export.client import Client
for endpoint in sys.argv[1:]:
  with Client(endpoint) as client:
    print(client.encode(np.ones([1, 8, 8, 1], np.uint8) * 51)["y"].tolist())
"""


class TestImports:

  def test_works_without_tensorflow(self, fake):
    servers = [kind(fake) for kind in fake_servers.SERVERS.values()]
    done = subprocess.run(
        [sys.executable, "-P", "-c", _CLEAN, *(server.endpoint for server in servers)],
        capture_output=True, check=False, text=True,
    )
    for server in servers:
      server.stop()
    assert done.stderr == ""
    for line in done.stdout.splitlines():
      np.testing.assert_allclose(json.loads(line), [[0.2, 0.8]], atol=1e-6)
    assert len(done.stdout.splitlines()) == 2

  @pytest.mark.parametrize("module", ["httpx", "grpc"])
  def test_the_extra_is_named(self, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    scheme = {"httpx": "http", "grpc": "grpc"}[module]
    with pytest.raises(ImaeError, match=rf"got no {module}; run pip install 'imae_tf\[serving\]'"):
      channels.open_channel(f"{scheme}://127.0.0.1:1", "imae", 1.0, blocking=True)

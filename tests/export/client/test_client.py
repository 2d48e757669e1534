"""The client against a small server of both protocols, made of the published messages."""

import asyncio
import concurrent.futures
import gc
import json
import subprocess
import sys
import time
import tracemalloc

import exports
import fake_servers
import numpy as np
import PIL.Image
import pytest
import real_server
from fake_servers import images
from fake_servers import write_images

from imae_tf.errors import ImaeError
from imae_tf.export import client as clients
from imae_tf.export import savedmodel
from imae_tf.export.client import channels

K1, K2, SHAPE = fake_servers.K1, fake_servers.K2, fake_servers.SHAPE
codes_of, images_of = fake_servers.codes_of, fake_servers.images_of

client, connect, fake, free_port = (
    fake_servers.client, fake_servers.connect, fake_servers.fake, fake_servers.free_port
)
protocol, server = fake_servers.protocol, fake_servers.server


@pytest.fixture
def lone_server(protocol):
  """(server, its model) that no test has asked before: a cancelled request may come late."""
  fake = fake_servers.Fake()
  server = fake_servers.SERVERS[protocol](fake)
  yield server, fake
  server.stop()


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
    paths = write_images(tmp_path, [SHAPE[:2]] * n)
    pixels = np.array([np.asarray(PIL.Image.open(path)) for path in paths], np.float32)
    expected = codes_of(pixels.reshape(n, *SHAPE) / np.float32(255))
    assert_codes_equal(client.encode_files(map(str, paths)), expected)
    assert {signature for signature, _, _ in fake.requests} <= {"encode_image_bytes"}
    contents = [path.read_bytes() if index % 2 else path for index, path in enumerate(paths)]
    assert_codes_equal(client.encode_files(contents), expected)

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

  def test_what_the_client_was_given(self, server):
    with clients.Client(f" {server.endpoint} ", "other", np.int64(7)) as client:
      assert (client.endpoint, client.model_name) == (server.endpoint, "other")
      assert client.version == 7 and type(client.version) is int

  @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
  def test_large_arrays_are_converted_in_parts(self, dtype):
    x = np.tile(images(1000).astype(dtype), (200, 1, 1, 1))  # as float32, 51 MB
    server = fake_servers.GrpcServer(fake_servers.Fake())
    with clients.Client(server.endpoint, chunk_size=10_000) as client:
      tracemalloc.start()
      codes = client.encode(x)
      peak = tracemalloc.get_traced_memory()[1]
      tracemalloc.stop()
    server.stop()
    np.testing.assert_array_equal(codes["z"][::999], codes_of(x[::999].astype("float32"))["z"])
    assert peak < 45e6


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

  def test_a_label_that_moves_in_the_middle(self, lone_server, connect):
    server, fake = lone_server
    fake.versions, fake.moves = [3, 4], 4
    x = images(400)
    assert_codes_equal(connect(server.endpoint, version="stable").encode(x), codes_of(x))
    assert fake.answered_by == [3] * 7
    connect(server.endpoint, version="stable").encode(x)
    assert fake.answered_by[7:] == [4] * 7

  def test_a_labels_version_that_goes_away(self, lone_server, connect):
    server, fake = lone_server
    fake.retires = 2
    x = images(400)
    assert_codes_equal(connect(server.endpoint, version="stable").encode(x), codes_of(x))
    assert fake.answered_by[-7:] == [4] * 7

  @pytest.mark.parametrize("n", [1, 400])
  def test_an_unknown_label(self, server, connect, fake, n):
    with pytest.raises(clients.RefusedError, match="Unrecognized servable version label: new$"):
      connect(server.endpoint, version="new").encode(images(n))
    sentence = "label: 3; a str is a label: give version as the integer 3.$"
    with pytest.raises(clients.RefusedError, match=sentence) as raised:
      connect(server.endpoint, version="3").encode(images(n))
    assert raised.value.code == "INVALID_ARGUMENT" and not fake.requests


class TestHeaders:

  def test_they_go_with_every_request(self, server, connect, fake):
    given = {"Authorization": "Bearer a.b", "X-Team": "blue sky"}
    client = connect(server.endpoint, version="stable", headers=given)
    client.encode(images(100))  # with a question for the label's version before it
    client.served_version()
    assert len(fake.headers) == 4
    for headers in fake.headers:
      assert headers["authorization"] == "Bearer a.b" and headers["x-team"] == "blue sky"


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

  def test_the_event_loop_runs_on_during_large_json(self, monkeypatch):
    monkeypatch.setattr(clients, "_CHUNK_BYTES", 2**24)
    x = np.random.default_rng(0).random((50, 64, 64, 3), "float32")
    body = json.dumps({"outputs": x.tolist()}).encode()  # 12 MB
    plain = min(seconds(json.loads, body), seconds(json.dumps, x.tolist()))
    gc.freeze()  # to look through TensorFlow's objects takes as long
    with fake_servers.Canned(200, body) as port:
      stalls = []
      while len(stalls) < 3 and min(stalls, default=plain) >= plain / 2:  # others' work stalls, too
        stalls.append(asyncio.run(longest_stall(f"http://127.0.0.1:{port}", x)))
    gc.unfreeze()
    assert min(stalls) < plain / 2


def seconds(function, *arguments):
  start = time.perf_counter()
  function(*arguments)
  return time.perf_counter() - start


async def longest_stall(endpoint, x):
  """Seconds, at most, that a pause of an event loop takes too long while images are asked for."""
  stalls = []

  async def tick():
    while True:
      start = time.perf_counter()
      await asyncio.sleep(0.005)
      stalls.append(time.perf_counter() - start - 0.005)

  async with clients.AsyncClient(endpoint) as client:
    ticks = asyncio.create_task(tick())
    await asyncio.sleep(0.01)  # it is at its first pause
    answer = await client.reconstruct(x)
    await asyncio.sleep(0.01)  # its last one is over
    ticks.cancel()
  np.testing.assert_array_equal(answer, x)
  return max(stalls)


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
    decoded = np.stack([np.asarray(PIL.Image.open(path)) for path in paths])[..., np.newaxis]
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
assert not {"httpx", "grpc", "google.protobuf"} & set(sys.modules)
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
    told = rf"expected {module} to ask .*, got none; run pip install 'imae_tf\[serving\]'"
    with pytest.raises(ImaeError, match=told):
      channels.open_channel(f"{scheme}://127.0.0.1:1", "imae", 1.0, blocking=True)

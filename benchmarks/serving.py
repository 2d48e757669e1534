"""Requests a second, latency, swaps of versions and memory of imae-serve under load.

    python -m benchmarks.serving --output=serving.json

64 clients in a process of their own send one image a request, each the next one when its
answer has come, over connections that stay open; errors are counted, and an answer other
than the first one's is an error. One after the other:

- the SavedModel's bare function on one image and on 64, in a process that does nothing else,
  again before each of the runs below;
- REST and gRPC, with dynamic batching and without (--max_batch_size=1), 60 s each;
- 20 new versions published one by one under REST's load;
- the server's resident memory over 100,000 requests, every tenth of the way.

Clients and server share the machine's cores, as on a laptop. Without --base the model has the
networks of MNIST's recipe and random weights, of which the speed does not depend.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app
from absl import flags

from benchmarks import harness

FLAGS = flags.FLAGS

Call = Callable[[], Awaitable[Any]]
_context = multiprocessing.get_context("spawn")


def define_flags() -> None:
  harness.define_flags()
  flags.DEFINE_string("base", None, "Folder of a version to serve; a random model by default.")
  flags.DEFINE_integer("clients", 64, "Requests under way at a time.", 1)
  flags.DEFINE_float("seconds", 60.0, "Of each run.", 0.1)
  flags.DEFINE_integer("swaps", 20, "Versions to publish under load.", 0)
  flags.DEFINE_integer("requests", 100_000, "Over which memory is watched.", 10)


def main(_: object) -> None:
  with tempfile.TemporaryDirectory() as folder:
    base = pathlib.Path(folder, "base")
    base.mkdir()
    _first_version(base / "1")
    bare = harness.Worker("benchmarks.serving:bare", FLAGS.threads, path=str(base / "1"))
    runs: list[dict[str, Any]] = []
    bare_s: dict[str, list[float]] = {name: [] for name in bare.names}
    for protocol in ("REST", "gRPC"):
      for max_batch_size in (128, 1):
        for name in bare.names:
          bare_s[name].append(bare.seconds(name, 200) / 200)
        with Server(base, max_batch_size) as server:
          load = Load(server, protocol, FLAGS.clients)
          time.sleep(FLAGS.seconds)
          figures = load.stop()
        runs.append({"protocol": protocol, "batching": max_batch_size > 1, **figures})
    bare.close()
    swaps = _swaps(base)
    memory = _memory(base)
  function = {name: 1 / statistics.median(values) for name, values in bare_s.items()}
  harness.report(
      f"{FLAGS.clients} clients, one image a request",
      {"protocol": "protocol", "batching": "batching", "requests/s": "requests_per_s",
       "p50 ms": "p50_ms", "p99 ms": "p99_ms", "requests": "requests", "errors": "errors"},
      runs,
  )
  harness.report(
      "The bare function",
      {"": "name", "calls/s": "calls_per_s"},
      [{"name": name, "calls_per_s": value} for name, value in function.items()],
  )
  harness.report("New versions under load", {key: key for key in swaps}, [swaps])
  harness.report("Resident memory", {key: key for key in memory}, [memory])
  harness.save(
      {
          "clients": FLAGS.clients,
          "seconds": FLAGS.seconds,
          "bare_calls_per_s": function,
          "runs": runs,
          "swaps": swaps,
          "memory": memory,
      },
      packages=("starlette", "uvicorn", "grpcio"),
  )


def _first_version(path: str | pathlib.Path) -> None:
  """A SavedModel at `path`, written by another process: this one keeps no TensorFlow."""
  if FLAGS.base:
    from imae_tf.export import versions

    shutil.copytree(versions.find(FLAGS.base), path)
    return
  process = _context.Process(target=_write_random_model, args=(path,))
  process.start()
  process.join()


def _write_random_model(path: str | pathlib.Path) -> None:
  from imae_tf import recipes
  from imae_tf.export import savedmodel

  model = recipes.build(
      recipes.get("tuned", "mnist"), (28, 28, 1), num_categories=10, latent_dim=10, seed=0,
      steps_per_epoch=1,
  )
  savedmodel.write(model, path)


def bare(threads: int, path: str | pathlib.Path) -> dict[str, Callable[[int], None]]:
  """The harness's factory: "1 image" and "64 images", each a call of the function a step."""
  harness.limit_threads(threads)
  import tensorflow as tf

  function = tf.saved_model.load(path).signatures["serving_default"]
  shape = function.structured_input_signature[1]["x"].shape[1:]

  def of(n: int) -> Callable[[int], None]:
    x = np.random.default_rng(0).random((n, *shape), "float32")
    function(x=tf.constant(x))

    def calls(steps: int) -> None:
      for _ in range(steps):
        for value in function(x=tf.constant(x)).values():
          value.numpy()

    return calls

  return {"1 image": of(1), "64 images": of(64)}


class Server:
  """An imae-serve process."""

  def __init__(self, base: pathlib.Path, max_batch_size: int = 128) -> None:
    command = "from imae_tf.export.server.serve import cli; cli()"
    self._process = subprocess.Popen(
        [sys.executable, "-c", command, f"--base={base}", "--rest_port=0", "--grpc_port=0",
         f"--max_batch_size={max_batch_size}", "--poll_seconds=0.2"],
        stdout=subprocess.PIPE, text=True,
    )
    lines = ""
    while "Page " not in lines:
      line = self._process.stdout.readline() if self._process.stdout else ""
      if not line:
        raise RuntimeError("imae-serve ended before it served.")
      lines += line
    self.rest = re.findall(r"http://([^/]+)/", lines)[0]
    self.grpc = re.findall(r"gRPC +(\S+)", lines)[0]

  def __enter__(self) -> "Server":
    return self

  def __exit__(self, *_: object) -> None:
    self._process.send_signal(signal.SIGTERM)
    if self._process.wait(60):
      raise RuntimeError(f"imae-serve ended with status {self._process.returncode}.")

  def json(self, path: str | pathlib.Path) -> Any:
    with urllib.request.urlopen(f"http://{self.rest}{path}", timeout=60) as response:
      return json.load(response)

  def resident_memory(self) -> int:
    status = pathlib.Path(f"/proc/{self._process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) * 1024


class Load:
  """Clients in a process of their own; they send until stopped, or `most` requests."""

  def __init__(
      self, server: "Server", protocol: str, clients: int, most: int | None = None
  ) -> None:
    signatures = server.json("/v1/models/imae/metadata")["metadata"]["signature_def"]
    dims = signatures["signature_def"]["serving_default"]["inputs"]["x"]["tensor_shape"]["dim"]
    x = np.random.default_rng(0).random([1, *(int(d["size"]) for d in dims[1:])], "float32")
    address = server.rest if protocol == "REST" else server.grpc
    self._stop, self.sent = _context.Event(), _context.Value("q", 0)
    self._pipe, child = _context.Pipe()
    self._process = _context.Process(
        target=_send, args=(child, self._stop, self.sent, protocol, address, x, clients, most)
    )
    self._process.start()
    child.close()
    self._pipe.recv()  # it has begun

  def running(self) -> bool:
    return self._process.is_alive() and not self._pipe.poll()

  def stop(self) -> dict[str, Any]:
    """{"requests", "errors", "first_error", "requests_per_s", "p50_ms", "p99_ms"}."""
    self._stop.set()
    seconds, latencies, errors = self._pipe.recv()
    self._process.join()
    p50, p99 = np.percentile(np.array(latencies) * 1e3, [50, 99]) if latencies else (0, 0)
    return {
        "requests": len(latencies) + len(errors),
        "errors": len(errors),
        "first_error": errors[0] if errors else None,
        "requests_per_s": len(latencies) / seconds,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
    }


def _send(
    pipe: Any,
    stop: Any,
    sent: Any,
    protocol: str,
    address: str,
    x: np.ndarray,
    clients: int,
    most: int | None,
) -> None:
  latencies, errors = [], []

  async def client(call: Call) -> None:
    first = None
    while not stop.is_set() and (most is None or sent.value < most):
      sent.value += 1
      start = time.perf_counter()
      try:
        answer = await call()
        if first is not None and not np.allclose(answer, first, atol=1e-5):
          raise ValueError("expected the first answer again, got another.")
        first = answer
        latencies.append(time.perf_counter() - start)
      except Exception as error:
        errors.append(repr(error)[:300])

  async def run() -> float:
    async with contextlib.AsyncExitStack() as stack:
      caller = _rest_caller if protocol == "REST" else _grpc_caller
      calls = [await caller(stack, address, x) for _ in range(clients)]
      for call in calls:
        await call()
      pipe.send("ready")
      start = time.perf_counter()
      await asyncio.gather(*map(client, calls))
      return time.perf_counter() - start

  seconds = asyncio.run(run())
  pipe.send((seconds, latencies, errors))


async def _rest_caller(stack: contextlib.AsyncExitStack, address: str, x: np.ndarray) -> Call:
  """A function that posts an image over a connection of its own and returns z.

  Sockets rather than an HTTP library, which would take more of the cores than the server.
  """
  host, port = address.split(":")
  reader, writer = await asyncio.open_connection(host, int(port), limit=2**20)
  stack.callback(writer.close)
  body = json.dumps({"instances": x.tolist()}).encode()
  head = f"POST /v1/models/imae:predict HTTP/1.1\r\nHost: {host}\r\n"
  message = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

  async def call() -> Any:
    writer.write(message)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(re.findall(rb"content-length: (\d+)", head)[0])
    answer = await reader.readexactly(length)
    if not head.startswith(b"http/1.1 200"):
      raise ValueError(answer.decode())
    return json.loads(answer)["predictions"][0]["z"]

  return call


async def _grpc_caller(stack: contextlib.AsyncExitStack, address: str, x: np.ndarray) -> Call:
  """The same over gRPC, on a channel of its own, with the client's light messages."""
  import grpc

  from imae_tf.export.client import wire

  channel = await stack.enter_async_context(
      grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
  )
  predict = channel.unary_unary(wire.PREDICT)
  message = wire.predict_request("imae", None, "encode", {"x": x})

  async def call() -> Any:
    return wire.predict_outputs(await predict(message))["z"][0]

  return call


def _swaps(base: pathlib.Path) -> dict[str, Any]:
  """Publishes versions under load; each must be serving before the next."""
  with Server(base) as server:
    load = Load(server, "REST", FLAGS.clients)
    seconds = []
    for number in range(2, FLAGS.swaps + 2):
      shutil.copytree(base / "1", base / ".tmp")
      os.rename(base / ".tmp", base / str(number))
      start = time.perf_counter()
      while not _serves(server, number):
        time.sleep(0.05)
      seconds.append(time.perf_counter() - start)
    figures = load.stop()
  for number in range(2, FLAGS.swaps + 2):
    shutil.rmtree(base / str(number))
  median = statistics.median(seconds) if seconds else None
  return {"swaps": len(seconds), "median_swap_s": median, **figures}


def _serves(server: "Server", number: int) -> bool:
  listed = server.json("/v1/models/imae")["model_version_status"]
  states = {status["version"]: status["state"] for status in listed}
  return states.get(str(number)) == "AVAILABLE" and states[str(number - 1)] == "END"


def _memory(base: pathlib.Path) -> dict[str, Any]:
  """Resident memory every tenth of the way; growth is from the first tenth to the last."""
  with Server(base) as server:
    load = Load(server, "REST", FLAGS.clients, most=FLAGS.requests)
    sampled: list[float] = []
    while load.running():
      if load.sent.value >= FLAGS.requests * (len(sampled) + 1) / 10:
        sampled.append(server.resident_memory() / 1e6)
      time.sleep(0.02)
    sampled.append(server.resident_memory() / 1e6)
    figures = load.stop()
  return {
      "requests": figures["requests"],
      "errors": figures["errors"],
      "growth_mb": sampled[-1] - sampled[0],
      "megabytes": sampled,
  }


if __name__ == "__main__":
  define_flags()
  app.run(main)

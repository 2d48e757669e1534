"""imae-serve: answers requests for (y, z) codes over HTTP and gRPC, on this machine.

It is a stand-in for TF Serving on a laptop and in tests. It has the same REST and gRPC APIs, but
not the same tuning, and a page for people at the REST address. It serves the newest version in
--base, and changes to a newer one without dropping a request. On SIGTERM or Ctrl-C it ends as
soon as every request that has come is answered, or after 20 seconds; a second signal ends it at
once.

Example:
  imae-serve --base=models/digits
  curl -d '{"instances": [...]}' http://127.0.0.1:8501/v1/models/imae:predict
"""

import asyncio
import contextlib
import gc
import ipaddress
import math
import os
import signal
import socket
import sys
from collections.abc import Awaitable
from collections.abc import Iterator
from typing import Any
from typing import TYPE_CHECKING

from absl import flags

from imae_tf._shared import extras
from imae_tf._shared import program
from imae_tf.errors import InputError

if TYPE_CHECKING:
  import grpc
  import uvicorn
  from starlette import applications

  from imae_tf.export.server import core

_LEAVING_S = 0.5  # time in which clients with open connections learn that they should go
_GRACE_S = 20.0  # time for requests under way; platforms often kill a server after 30 s
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _define_number(
    name: str, default: float, what: str, lower: float, upper: float
) -> flags.FlagHolder[float]:
  number = flags.DEFINE_float(name, default, what, lower, upper)
  flags.register_validator(
      number, lambda value: not math.isnan(value), "expected a number, got nan."
  )
  return number


_BASE = flags.DEFINE_string(
    "base", None, "Folder of imae-export's versions 1, 2, ...; the newest is served. Required.",
    required=True,
)
_REST_PORT = flags.DEFINE_integer(
    "rest_port", 8501, "Port for REST requests over HTTP and for the page; 0 takes a free one.",
    lower_bound=0, upper_bound=65535,
)
_GRPC_PORT = flags.DEFINE_integer(
    "grpc_port", 8500, "Port for gRPC requests; 0 takes a free one.",
    lower_bound=0, upper_bound=65535,
)
_HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "Address to listen on. With 0.0.0.0 other machines can reach the server,"
    " which does not check who they are."
)
_MODEL_NAME = flags.DEFINE_string("model_name", "imae", "Name that requests call the model by.")
_MAX_BATCH_SIZE = flags.DEFINE_integer(
    "max_batch_size", 128, "Largest number of images from waiting requests that run together; 1"
    " runs each request by itself.",
    lower_bound=1,
)
_BATCH_TIMEOUT_MS = _define_number(
    "batch_timeout_ms", 0.0, "Milliseconds that a request waits for others when it could run.",
    0.0, 10_000.0
)
_MAX_QUEUE = flags.DEFINE_integer(
    "max_queue", 1000, "Number of requests that may wait; further ones are refused (429).",
    lower_bound=1,
)
_MAX_REQUEST_MB = _define_number(
    "max_request_mb", 32.0, "Size of the largest request that is accepted, in MiB; a larger one is"
    " refused (413).", 0.001, 2047.0
)
_REST_TIMEOUT_S = _define_number(
    "rest_timeout_seconds", 30.0, "Seconds in which a REST request must arrive and be answered; a"
    " later one is given up (504).",
    0.001, 86_400.0,
)
_POLL_SECONDS = _define_number(
    "poll_seconds", 1.0, "Seconds between looks for a new version in --base.", 0.01, 86_400.0
)


def main() -> None:
  os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its messages would hide ours
  # Imported here: --help and a mistyped path should not wait for TensorFlow.
  extras.check("serving", "serve a model")
  program.import_tensorflow()
  import tensorflow as tf

  from imae_tf.export.server import core
  from imae_tf.export.server import rest  # noqa: F401
  from imae_tf.export.server import rpc  # noqa: F401

  # The imported modules are large and stay. To search them for garbage would stop every request
  # for half a second.
  gc.collect()
  gc.freeze()
  tf.get_logger().setLevel("ERROR")
  server = core.Server(
      _BASE.value,
      _MODEL_NAME.value,
      max_batch_size=_MAX_BATCH_SIZE.value,
      batch_timeout_s=_BATCH_TIMEOUT_MS.value / 1000,
      max_queue=_MAX_QUEUE.value,
      poll_s=_POLL_SECONDS.value,
  )
  try:
    asyncio.run(_serve(server))
  finally:
    server.close(0.0)


async def _serve(server: "core.Server") -> None:
  """Listens until SIGTERM or SIGINT."""
  from imae_tf.export.server import rest
  from imae_tf.export.server import rpc

  max_bytes = int(_MAX_REQUEST_MB.value * 2**20)
  application = rest.app(
      server,
      max_request_bytes=max_bytes,
      timeout_s=_REST_TIMEOUT_S.value,
      hosts=(*_LOOPBACK, _HOST.value) if _is_loopback(_HOST.value) else None,
  )
  listener = rpc.grpc_server(server, max_request_bytes=max_bytes)
  stop, hurry = _signals()
  with _socket(_HOST.value, _REST_PORT.value) as sock:
    http = _http_server(application)
    serving_http = asyncio.create_task(http.serve(sockets=[sock]))
    grpc_port = _add_port(listener, _HOST.value, _GRPC_PORT.value)
    await listener.start()
    while not (http.started or serving_http.done()):
      await asyncio.sleep(0.01)
    _say(server, sock.getsockname()[1], grpc_port)
    await _first(stop.wait(), serving_http)
    server.leaving = True
    for listening in http.servers:
      listening.close()  # open connections go on, each to the end of its next answer
    await asyncio.sleep(_LEAVING_S)
    http.should_exit = True
    ending = asyncio.gather(serving_http, listener.stop(_GRACE_S))
    await _first(ending, hurry.wait())
    http.force_exit = True
    for connection in list(http.server_state.connections):
      connection.transport.abort()  # otherwise Python 3.12 and later wait for these clients
    await asyncio.gather(ending, listener.stop(0))


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
  """Events that the first and the second SIGTERM or SIGINT set."""
  stop, hurry = asyncio.Event(), asyncio.Event()

  def signalled() -> None:
    (hurry if stop.is_set() else stop).set()

  for number in (signal.SIGTERM, signal.SIGINT):
    asyncio.get_running_loop().add_signal_handler(number, signalled)
  return stop, hurry


def _http_server(application: "applications.Starlette") -> "uvicorn.Server":
  """An HTTP server for an application; it leaves signals to this module."""
  import uvicorn

  class Uvicorn(uvicorn.Server):

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
      yield

  return Uvicorn(
      uvicorn.Config(
          application, lifespan="off", ws="none", log_level="error",
          timeout_graceful_shutdown=int(_GRACE_S),
      )
  )


def _say(server: "core.Server", rest_port: int, grpc_port: int) -> None:
  """Prints which version is served at which addresses, and which versions cannot be loaded."""
  address = _address(_HOST.value, rest_port)
  number, _ = server.metadata()
  print(
      f"Serving version {number} of {_BASE.value} as {_MODEL_NAME.value}.\n"
      f"REST  http://{address}/v1/models/{_MODEL_NAME.value}\n"
      f"gRPC  {_address(_HOST.value, grpc_port)}\n"
      f"Page  http://{address}/",
      flush=True,
  )
  for failed, _, code, message in server.status():
    if code != "OK":
      print(f"Version {failed} cannot be loaded: {message}", file=sys.stderr, flush=True)


async def _first(*waits: Awaitable[Any]) -> None:
  """Waits for the first of several."""
  tasks = [asyncio.ensure_future(wait) for wait in waits]
  await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


def _is_loopback(host: str) -> bool:
  try:
    return host == "localhost" or ipaddress.ip_address(host).is_loopback
  except ValueError:  # another name
    return False


def _socket(host: str, port: int) -> socket.socket:
  """A listening socket."""
  family = socket.AF_INET6 if ":" in host else socket.AF_INET
  # asyncio sends at once (TCP_NODELAY) only on sockets that say their protocol.
  sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
  try:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
  except OSError as error:
    sock.close()
    raise _taken("rest_port", host, port, str(error.strerror)) from error
  return sock


def _address(host: str, port: int) -> str:
  return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _add_port(listener: "grpc.aio.Server", host: str, port: int) -> int:
  try:
    return listener.add_insecure_port(_address(host, port))
  except RuntimeError as error:
    raise _taken("grpc_port", host, port, "it cannot be bound") from error


def _taken(flag: str, host: str, port: int, why: str) -> InputError:
  return InputError(
      f"expected a free address for --{flag}, got {host}:{port} ({why}); give another --{flag},"
      " 0 for any free one, or another --host."
  )


def cli() -> None:
  program.run(main)


if __name__ == "__main__":
  cli()

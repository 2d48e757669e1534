"""A client for TF Serving or imae-serve: images to codes, and back, without TensorFlow.

    from imae_tf.export.client import Client

    with Client("http://127.0.0.1:8501") as client:  # or grpc://127.0.0.1:8500
      codes = client.encode(images)                  # {"y", "z", "z_scale"}
      images = client.decode(codes["y"], codes["z"])

The answer depends only on the inputs of a request. So if no server answered, the client sends the
request again. This module needs neither TensorFlow nor Keras.
"""

import asyncio
import functools
import math
import pathlib
import random
import time
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Coroutine
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

import numpy as np

from imae_tf.errors import InputError
from imae_tf.export.client import channels
from imae_tf.export.client import inputs
from imae_tf.export.client.failures import ClientError
from imae_tf.export.client.failures import DeadlineError
from imae_tf.export.client.failures import NotFoundError
from imae_tf.export.client.failures import RefusedError
from imae_tf.export.client.failures import ReplyError
from imae_tf.export.client.failures import UnavailableError

__all__ = [
    "AsyncClient", "Client", "ClientError", "DeadlineError", "NotFoundError", "RefusedError",
    "ReplyError", "UnavailableError",
]

_CHUNK_BYTES = 3 * 2**20  # in a request; servers in Python refuse 4 MiB by default
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_MOVES = 3  # how often a new version may replace the one in use during one call

Arrays = dict[str, np.ndarray]
Columns = Mapping[str, Any]  # {name of an input: its rows: an array, or a list of inputs.File}
_T = TypeVar("_T")


class AsyncClient:
  """Asks a server for the codes of images; its methods are coroutines, for one event loop.

  An array with many rows is sent in chunks, several at a time. All chunks go to one version,
  because categories may mean something else in the next one.

  Args:
    endpoint: `http://host:port`, `https://...`, `grpc://host:port` or `grpcs://...`.
    model_name: name of the model on the server.
    version: an integer; or a str, which is a label of the server's configuration; None for the
      newest version.
    timeout_s: seconds for one request and its answer. Over REST, at most half of them, and at most
      5, are for the connection. In a `Client` over REST, the time starts again with each byte that
      comes.
    retries: how often a request is repeated while the server is down or busy. The client pauses
      before each repetition: at most 0.1 s the first time, then twice as long each time, up to 5 s.
      8 repetitions take 8 to 16 seconds.
    chunk_size: most rows in a request; large images make it fewer. Do not exceed the server's
      max_batch_size, unless the server splits large batches.
    concurrency: most requests that are under way at a time.
    headers: {name: value} to send with each request, as HTTP headers or gRPC metadata, such as
      {"Authorization": "Bearer ..."} for a proxy before the server.

  Raises:
    InputError: an argument is wrong, or the environment names proxies or certificates that cannot
      be used.
    ImaeError: the extra `serving` is not installed.
  """

  _blocking = False

  def __init__(
      self,
      endpoint: str,
      model_name: str = "imae",
      version: int | str | None = None,
      *,
      timeout_s: float = 30.0,
      retries: int = 8,
      chunk_size: int = 64,
      concurrency: int = 8,
      headers: Mapping[str, str] | None = None,
  ) -> None:
    self.endpoint = endpoint.strip() if isinstance(endpoint, str) else endpoint
    self.model_name, self.version = inputs.name(model_name), inputs.version(version)
    self._retries = inputs.integer("retries", retries, 0)
    self._chunk_size = inputs.integer("chunk_size", chunk_size, 1)
    self._gate = asyncio.Semaphore(inputs.integer("concurrency", concurrency, 1))
    self._closed = False
    self._channel = channels.open_channel(
        self.endpoint, self.model_name, inputs.seconds(timeout_s), self._blocking,
        inputs.headers(headers),
    )

  async def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
    """The codes of images.

    Args:
      images: [N, H, W, C] uint8, or floats in [0, 1]; N may be 0.

    Returns:
      {"y": [N, K2] probabilities, "z": [N, K1] means, "z_scale": [N, K1] standard
      deviations}, float32.

    Raises:
      InputError: `images` are not images.
      ClientError: the request failed; the subclass says how.
    """
    return await self._predict("encode", {"x": inputs.images(images)})

  async def encode_files(
      self, paths: Iterable[str | pathlib.Path | bytes]
  ) -> dict[str, np.ndarray]:
    """The codes of PNG or JPEG files of the model's size, which the server decodes.

    Args:
      paths: paths of the files, or the contents of files as bytes, in the order of the codes.

    Returns:
      As `encode`.

    Raises:
      InputError: a file cannot be read.
      ClientError: the request failed; a `RefusedError` names the file that was refused, by its path
        or its index.
    """
    return await self._predict("encode_image_bytes", {"image_bytes": inputs.files(paths)})

  async def decode(self, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The images [N, H, W, C] in [0, 1] for probabilities y [N, K2] and codes z [N, K1]."""
    y, z = inputs.rows("y", y), inputs.rows("z", z)
    if len(y) != len(z):
      raise InputError(
          f"expected as many rows of y as of z, got {len(y)} and {len(z)}; send the y and z of"
          " encode."
      )
    return (await self._predict("decode", {"y": y, "z": z}))["x"]

  async def reconstruct(self, images: np.ndarray) -> np.ndarray:
    """The model's reconstructions of images as in `encode`: [N, H, W, C] in [0, 1]."""
    return (await self._predict("reconstruct", {"x": inputs.images(images)}))["x"]

  async def served_version(self) -> int:
    """The newest version that answers.

    Raises:
      UnavailableError: no version answers yet.
      ClientError: the request failed in another way.
    """
    return await self._repeated(self._newest)

  async def aclose(self) -> None:
    """Closes the connections."""
    self._closed = True
    await channels.awaited(self._channel.close())

  async def __aenter__(self) -> "AsyncClient":
    return self

  async def __aexit__(self, *error: object) -> None:
    await self.aclose()

  async def _predict(self, signature: str, columns: Columns) -> Arrays:
    try:
      return await self._in_chunks(signature, columns)
    except RefusedError as error:
      digits = isinstance(self.version, str) and self.version.isdecimal()
      if not digits or "label" not in str(error):
        raise
      message = f"{error}; a str is a label: give version as the integer {self.version}."
      raise RefusedError(message, error.code) from error

  async def _in_chunks(self, signature: str, columns: Columns) -> Arrays:
    chunks = await self._chunks(columns)
    if len(chunks) == 1:
      return await self._ask(signature, chunks[0], self.version)
    moves = 0
    while True:
      version = await self._pinned()
      try:
        parts = await self._all([
            functools.partial(self._ask, signature, chunk, version) for chunk in chunks
        ])
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
      except NotFoundError:
        moves += 1
        if self.version == version or moves == _MOVES:
          raise
        # Otherwise a newer version has taken its place, and all rows go to that one.

  async def _pinned(self) -> int:
    """The version for all chunks of a call, as a number, because a label may move meanwhile."""
    if self.version is None:
      return await self.served_version()
    if isinstance(self.version, int):
      return self.version
    return await self._repeated(functools.partial(self._channel.version_of, self.version))

  async def _ask(self, signature: str, chunk: Columns, version: int | str | None) -> Arrays:
    async def request() -> Arrays:  # rows are read and converted when it is their turn
      rows = {name: await self._loaded(value) for name, value in chunk.items()}
      return await self._channel.predict(signature, rows, version)

    try:
      outputs = await self._repeated(request)
    except RefusedError as error:
      if signature == "encode_image_bytes" and error.code == "INVALID_ARGUMENT":
        await self._blame(chunk["image_bytes"], version, error)
      raise
    n = len(next(iter(chunk.values())))
    wrong = {name: list(a.shape) for name, a in outputs.items() if a.ndim < 2 or len(a) != n}
    if wrong:
      raise ReplyError(
          f"expected {n} rows of each output from {self.endpoint}, got the shapes {wrong};"
          " check the endpoint and the model's name.",
          "INTERNAL",
      )
    return outputs

  async def _blame(
      self, files: Sequence[inputs.File], version: int | str | None, error: RefusedError
  ) -> None:
    """Raises an error that names the refused file; to find it, sends the files one by one."""
    if len(files) == 1:
      raise RefusedError(f"{files[0].name}: {error}", error.code) from error
    for file in files:
      await self._ask("encode_image_bytes", {"image_bytes": [file]}, version)

  async def _repeated(self, request: Callable[[], Awaitable[_T]]) -> _T:
    """The result of `request()`, sent again while the server is down or its queue is full."""
    attempt = 0
    while True:
      try:
        return await self._while_open(request)
      except UnavailableError:
        if attempt == self._retries:
          raise
      # The length is random, so that not all clients return to a restarted server at once.
      longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(attempt, 99))
      await self._pause(random.uniform(longest / 2, longest))
      attempt += 1

  async def _while_open(self, request: Callable[[], Awaitable[_T]]) -> _T:
    if not self._closed:
      try:
        return await self._gated(request)
      except Exception:
        if not self._closed:
          raise
    raise InputError("expected an open client, got one that was closed; make another one.")

  async def _newest(self) -> int:
    versions = await self._channel.available_versions()
    if not versions:
      raise UnavailableError(
          f"expected a loaded version of {self.model_name!r} at {self.endpoint}, got none; wait"
          " for it, or look into the server's log.",
          "UNAVAILABLE",
      )
    return max(versions)

  async def _chunks(self, columns: Columns) -> list[Columns]:
    """[{name: some rows}], in order; a single chunk without rows if there are none."""
    rows = len(next(iter(columns.values())))
    size = min(self._chunk_size, max(1, int(_CHUNK_BYTES / await self._row_bytes(columns))))
    starts = range(0, max(rows, 1), size)
    return [{name: v[start : start + size] for name, v in columns.items()} for start in starts]

  async def _row_bytes(self, columns: Columns) -> float:
    """The most bytes that a row takes in a request."""
    if "image_bytes" in columns:
      sizes = await self._of_files(inputs.size, columns["image_bytes"])
      return max([1, *sizes]) * self._channel.bytes_per_byte
    numbers = sum(math.prod(value.shape[1:]) for value in columns.values())
    return max(1, numbers) * self._channel.bytes_per_number

  async def _loaded(self, value: Any) -> channels.Rows:
    """Rows to send: float32, or the bytes of files."""
    if isinstance(value, np.ndarray):
      return inputs.float32(value)
    return await self._of_files(inputs.content, value)

  async def _of_files(
      self, function: Callable[[inputs.File], _T], files: Sequence[inputs.File]
  ) -> list[_T]:
    """[function(file)]; runs in a thread if the disk would keep an event loop waiting."""
    waits = not self._blocking and any(isinstance(f.source, pathlib.Path) for f in files)
    if waits:
      return await asyncio.to_thread(lambda: list(map(function, files)))
    return list(map(function, files))

  async def _gated(self, request: Callable[[], Awaitable[_T]]) -> _T:
    async with self._gate:
      return await request()

  async def _all(self, requests: Sequence[Callable[[], Awaitable[_T]]]) -> list[_T]:
    tasks = [asyncio.ensure_future(request()) for request in requests]
    try:
      return await asyncio.gather(*tasks)
    finally:  # if one has failed, the others are cancelled
      for task in tasks:
        task.cancel()
      await asyncio.gather(*tasks, return_exceptions=True)

  async def _pause(self, seconds: float) -> None:
    await asyncio.sleep(seconds)


class _BlockingClient(AsyncClient):
  """An `AsyncClient` with functions that block: its coroutines end when they are first run."""

  _blocking = True

  async def _gated(self, request: Callable[[], Awaitable[_T]]) -> _T:
    return await request()

  async def _all(self, requests: Sequence[Callable[[], Awaitable[_T]]]) -> list[_T]:
    return [await request() for request in requests]

  async def _pause(self, seconds: float) -> None:
    time.sleep(seconds)


class Client:
  """Asks a server for the codes of images, one request at a time; threads may share it.

  The arguments, except `concurrency`, and the errors are those of `AsyncClient`.
  """

  def __init__(
      self,
      endpoint: str,
      model_name: str = "imae",
      version: int | str | None = None,
      *,
      timeout_s: float = 30.0,
      retries: int = 8,
      chunk_size: int = 64,
      headers: Mapping[str, str] | None = None,
  ) -> None:
    self._client = _BlockingClient(
        endpoint, model_name, version, timeout_s=timeout_s, retries=retries,
        chunk_size=chunk_size, headers=headers,
    )
    self.endpoint, self.model_name = self._client.endpoint, self._client.model_name
    self.version = self._client.version

  def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
    """See `AsyncClient.encode`."""
    return _ended(self._client.encode(images))

  def encode_files(self, paths: Iterable[str | pathlib.Path | bytes]) -> dict[str, np.ndarray]:
    """See `AsyncClient.encode_files`."""
    return _ended(self._client.encode_files(paths))

  def decode(self, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """See `AsyncClient.decode`."""
    return _ended(self._client.decode(y, z))

  def reconstruct(self, images: np.ndarray) -> np.ndarray:
    """See `AsyncClient.reconstruct`."""
    return _ended(self._client.reconstruct(images))

  def served_version(self) -> int:
    """See `AsyncClient.served_version`."""
    return _ended(self._client.served_version())

  def close(self) -> None:
    """Closes the connections."""
    _ended(self._client.aclose())

  def __enter__(self) -> "Client":
    return self

  def __exit__(self, *error: object) -> None:
    self.close()


def _ended(coroutine: Coroutine[Any, Any, _T]) -> _T:
  """The result of a coroutine that never waits for an event loop."""
  try:
    coroutine.send(None)
  except StopIteration as done:
    return done.value
  raise AssertionError("a blocking client waits for an event loop")

"""A client of TF Serving or imae-serve: images to codes, and back, without TensorFlow.

    from imae_tf.export.client import Client

    with Client("http://127.0.0.1:8501") as client:  # or grpc://127.0.0.1:8500
      codes = client.encode(images)                  # {"y", "z", "z_scale"}
      images = client.decode(codes["y"], codes["z"])

Every request is a pure function of its inputs, so what failed for want of a server is sent
again. Importing this needs neither TensorFlow nor Keras.
"""

import asyncio
import math
import pathlib
import random
import time

import numpy as np

from imae_tf.errors import InputError
from imae_tf.export import channels
from imae_tf.export.channels import ClientError
from imae_tf.export.channels import DeadlineError
from imae_tf.export.channels import NotFoundError
from imae_tf.export.channels import RefusedError
from imae_tf.export.channels import ReplyError
from imae_tf.export.channels import UnavailableError

__all__ = [
    "AsyncClient", "Client", "ClientError", "DeadlineError", "NotFoundError", "RefusedError",
    "ReplyError", "UnavailableError",
]

_CHUNK_BYTES = 3 * 2**20  # of a request; servers in Python refuse 4 MiB by default
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_MOVES = 3  # new versions that may replace the one in use during one call


class AsyncClient:
  """Asks a server for the codes of images, awaited; for use within one event loop.

  An array of many rows goes in chunks, several of them at a time, all to one version:
  categories may mean something else in the next one.

  Args:
    endpoint: `http://host:port`, `https://...`, `grpc://host:port` or `grpcs://...`.
    model_name: as the server calls it.
    version: an integer, or a label of the server's configuration; None for the newest one.
    timeout_s: seconds to wait for the answer to one request.
    retries: how often a request is repeated while the server is down or busy.
    chunk_size: rows per request, at most; large images make it fewer. No more than the
      server's max_batch_size, unless it splits large batches.
    concurrency: requests in flight, at most.

  Raises:
    InputError: an argument is wrong.
    ImaeError: the extra `serving` is not installed.
  """

  _blocking = False

  def __init__(
      self, endpoint, model_name="imae", version=None, *, timeout_s=30.0, retries=5,
      chunk_size=64, concurrency=8,
  ):
    _check_number("timeout_s", timeout_s, "more than 0", timeout_s > 0)
    _check_number("retries", retries, "0 or more", retries >= 0)
    _check_number("chunk_size", chunk_size, "1 or more", chunk_size >= 1)
    _check_number("concurrency", concurrency, "1 or more", concurrency >= 1)
    self.endpoint, self.model_name, self.version = endpoint, model_name, version
    self._channel = channels.open_channel(endpoint, model_name, timeout_s, self._blocking)
    self._retries, self._chunk_size = retries, chunk_size
    self._gate = asyncio.Semaphore(concurrency)

  async def encode(self, images):
    """The codes of images.

    Args:
      images: [N, H, W, C] uint8, or floats in [0, 1]; N may be 0.

    Returns:
      {"y": [N, K2] probabilities, "z": [N, K1] means, "z_scale": [N, K1] standard
      deviations}, float32.

    Raises:
      InputError: no images.
      ClientError: one of its kinds says what failed.
    """
    return await self._predict("encode", {"x": _pixels(images)})

  async def encode_files(self, paths):
    """The codes of PNG or JPEG files of the model's size, which the server decodes.

    Args:
      paths: of the files, in the order of the codes.

    Returns:
      As `encode`.

    Raises:
      InputError: a file cannot be read.
      ClientError: one of its kinds; a `RefusedError` names the first file that was refused.
    """
    paths = [pathlib.Path(path).expanduser() for path in paths]
    try:
      return await self._predict("encode_image_bytes", {"image_bytes": paths})
    except RefusedError as error:
      if error.code != "INVALID_ARGUMENT" or not paths:
        raise
      if len(paths) == 1:
        raise RefusedError(f"{paths[0]}: {error}", error.code) from error
      for path in paths:  # the server does not say which one
        await self.encode_files([path])
      raise

  async def decode(self, y, z):
    """Images [N, H, W, C] in [0, 1] of probabilities y [N, K2] and codes z [N, K1]."""
    y, z = _rows("y", y), _rows("z", z)
    if len(y) != len(z):
      raise InputError(
          f"expected as many rows of y as of z, got {len(y)} and {len(z)}; send the y and z of"
          " encode."
      )
    return (await self._predict("decode", {"y": y, "z": z}))["x"]

  async def reconstruct(self, images):
    """Images, as in `encode`, through the model: [N, H, W, C] in [0, 1]."""
    return (await self._predict("reconstruct", {"x": _pixels(images)}))["x"]

  async def served_version(self):
    """The newest version that answers.

    Raises:
      UnavailableError: there is none yet.
      ClientError: one of its kinds.
    """
    return await self._repeated(self._newest)

  async def aclose(self):
    """Closes the connections."""
    await channels.awaited(self._channel.close())

  async def __aenter__(self):
    return self

  async def __aexit__(self, *error):
    await self.aclose()

  async def _predict(self, signature, inputs):
    chunks = self._chunks(inputs)
    if len(chunks) == 1:
      return await self._ask(signature, chunks[0], self.version)
    for move in range(_MOVES):
      version = await self.served_version() if self.version is None else self.version
      try:
        parts = await self._all([
            lambda chunk=chunk: self._ask(signature, chunk, version) for chunk in chunks
        ])
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
      except NotFoundError:
        if self.version is not None or move == _MOVES - 1:
          raise  # else a newer version has taken its place: all rows go to that one

  async def _ask(self, signature, chunk, version):
    async def request():  # files are read when it is their turn
      inputs = {name: _loaded(value) for name, value in chunk.items()}
      return await self._channel.predict(signature, inputs, version)

    outputs = await self._repeated(request)
    n = len(next(iter(chunk.values())))
    wrong = {name: list(a.shape) for name, a in outputs.items() if a.ndim < 2 or len(a) != n}
    if wrong:
      raise ReplyError(
          f"expected {n} rows of each output from {self.endpoint}, got the shapes {wrong};"
          " check the endpoint and the model's name.",
          "INTERNAL",
      )
    return outputs

  async def _repeated(self, request):
    """The result of `request()`, awaited; repeated while there is no server, or no room."""
    for attempt in range(self._retries + 1):
      try:
        return await self._gated(request)
      except UnavailableError:
        if attempt == self._retries:
          raise
      # Of random length, lest many clients return in step to a server that comes back.
      longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
      await self._pause(random.uniform(longest / 2, longest))

  async def _newest(self):
    versions = await self._channel.available_versions()
    if not versions:
      raise UnavailableError(
          f"expected a loaded version of {self.model_name!r} at {self.endpoint}, got none; wait"
          " for it, or look into the server's log.",
          "UNAVAILABLE",
      )
    return max(versions)

  def _chunks(self, inputs):
    """[{name: some rows}], in order; one of no rows if there are none."""
    rows = len(next(iter(inputs.values())))
    size = min(self._chunk_size, max(1, int(_CHUNK_BYTES / self._row_bytes(inputs))))
    starts = range(0, max(rows, 1), size)
    return [{name: v[start : start + size] for name, v in inputs.items()} for start in starts]

  def _row_bytes(self, inputs):
    """Bytes that a row takes in a request, at most."""
    if "image_bytes" in inputs:
      sizes = [_read(path, _size) for path in inputs["image_bytes"]]
      return max([1, *sizes]) * self._channel.bytes_per_byte
    numbers = sum(math.prod(value.shape[1:]) for value in inputs.values())
    return max(1, numbers) * self._channel.bytes_per_number

  async def _gated(self, request):
    async with self._gate:
      return await request()

  async def _all(self, requests):
    tasks = [asyncio.ensure_future(request()) for request in requests]
    try:
      return await asyncio.gather(*tasks)
    finally:  # when one has failed, the others are of no use
      for task in tasks:
        task.cancel()
      await asyncio.gather(*tasks, return_exceptions=True)

  async def _pause(self, seconds):
    await asyncio.sleep(seconds)


class _BlockingClient(AsyncClient):
  """The same with functions that block: its coroutines end when they are first run."""

  _blocking = True

  async def _gated(self, request):
    return await request()

  async def _all(self, requests):
    return [await request() for request in requests]

  async def _pause(self, seconds):
    time.sleep(seconds)


class Client:
  """Asks a server for the codes of images, one request at a time; threads may share it.

  The arguments, but for `concurrency`, and the errors are those of `AsyncClient`.
  """

  def __init__(
      self, endpoint, model_name="imae", version=None, *, timeout_s=30.0, retries=5,
      chunk_size=64,
  ):
    self._client = _BlockingClient(
        endpoint, model_name, version, timeout_s=timeout_s, retries=retries,
        chunk_size=chunk_size,
    )

  def encode(self, images):
    """See `AsyncClient.encode`."""
    return _ended(self._client.encode(images))

  def encode_files(self, paths):
    """See `AsyncClient.encode_files`."""
    return _ended(self._client.encode_files(paths))

  def decode(self, y, z):
    """See `AsyncClient.decode`."""
    return _ended(self._client.decode(y, z))

  def reconstruct(self, images):
    """See `AsyncClient.reconstruct`."""
    return _ended(self._client.reconstruct(images))

  def served_version(self):
    """See `AsyncClient.served_version`."""
    return _ended(self._client.served_version())

  def close(self):
    """Closes the connections."""
    _ended(self._client.aclose())

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self.close()


def _ended(coroutine):
  """The result of a coroutine that never waits for an event loop."""
  try:
    coroutine.send(None)
  except StopIteration as done:
    return done.value
  raise AssertionError("a blocking client waits for an event loop")


def _pixels(images):
  """Images as float32 [N, H, W, C] in [0, 1]."""
  images = np.asarray(images)
  if images.ndim != 4:
    raise InputError(
        f"expected images of shape [N, height, width, channels], got {list(images.shape)};"
        " reshape them, for example with images[..., np.newaxis]."
    )
  if images.dtype == np.uint8:
    return images.astype(np.float32) / 255
  if not np.issubdtype(images.dtype, np.floating):
    raise InputError(
        f"expected images of uint8, or of floats in [0, 1], got {images.dtype}; convert them,"
        " for example with images.astype('uint8')."
    )
  if images.size and not (images.min() >= 0 and images.max() <= 1):  # false for NaN, too
    raise InputError(
        f"expected float pixels in [0, 1], got values from {images.min():g} to"
        f" {images.max():g}; rescale them, for example with images / 255."
    )
  return images.astype(np.float32)


def _rows(name, value):
  """A matrix of finite numbers as float32."""
  try:
    value = np.asarray(value, np.float32)
  except (ValueError, TypeError):
    value = np.full([1], np.nan)
  if value.ndim != 2 or not np.isfinite(value).all():
    raise InputError(
        f"expected {name} as a matrix of finite numbers, a row for each image, got"
        f" {_shown(value)}; send the y and z of encode."
    )
  return value


def _shown(value):
  return f"the shape {list(value.shape)}" if np.isfinite(value).all() else "other things"


def _loaded(value):
  """Rows to send: the array itself, or the bytes of the files."""
  if isinstance(value, np.ndarray):
    return value
  return [_read(path, pathlib.Path.read_bytes) for path in value]


def _size(path):
  return path.stat().st_size


def _read(path, function):
  try:
    return function(path)
  except OSError as error:
    raise InputError(
        f"expected an image file at {path}, got: {error.strerror}; correct the path."
    ) from error


def _check_number(name, value, expected, holds):
  if not holds:
    raise InputError(f"expected {name} as {expected}, got {value}; correct it.")

"""What a client is given, checked before anything is sent: images, codes, files, settings.

Everything wrong is an `InputError`. Nothing here imports TensorFlow or Keras.
"""

import numbers
import os
import pathlib
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np

from imae_tf._shared import pixels
from imae_tf.errors import InputError

_MOST_SECONDS = 10**6  # what the libraries' own clocks can bear
_HEADER = re.compile(r"(?!grpc-)[\w.-]+(?<!-bin)", re.ASCII | re.IGNORECASE)
_OWN_HEADERS = ("connection", "content-length", "content-type", "te", "transfer-encoding")
_TEXT = re.compile(r"[!-~]([ -~]*[!-~])?")


def images(images: Any) -> np.ndarray:
  """Images [N, H, W, C] as uint8, or as float32 in [0, 1]; see `imae_tf._shared.pixels`."""
  return pixels.stored(pixels.batch_of_images(pixels.array(images)))


def float32(rows: np.ndarray) -> np.ndarray:
  """Rows as float32; bytes of images in [0, 1]."""
  if rows.dtype == np.uint8:
    return rows.astype(np.float32) / 255
  return rows.astype(np.float32, copy=False)


def rows(name: str, value: Any) -> np.ndarray:
  """A matrix of finite numbers as float32."""
  try:
    value = np.asarray(value, np.float32)
  except (ValueError, TypeError, OverflowError):
    value = np.full([1], np.nan)
  if value.ndim != 2 or not np.isfinite(value).all():
    raise InputError(
        f"expected {name} as a matrix of finite numbers, a row for each image, got"
        f" {_shown(value)}; send the y and z of encode."
    )
  return value


def _shown(value: np.ndarray) -> str:
  return f"the shape {list(value.shape)}" if np.isfinite(value).all() else "other things"


class File(NamedTuple):
  """An image file to send: what messages call it, and where it is or what it holds."""

  name: str
  source: pathlib.Path | bytes


def files(files: Iterable[str | os.PathLike[str] | bytes]) -> list[File]:
  """A list of paths and contents of image files as `File`s; nothing is read."""
  if isinstance(files, (str, bytes, os.PathLike)) or not isinstance(files, Iterable):
    raise InputError(
        f"expected a list of files, got a {type(files).__name__} alone; send [file], or [] for"
        " none."
    )
  return [_file(index, file) for index, file in enumerate(files)]


def _file(index: int, file: Any) -> File:
  if isinstance(file, bytes):
    return File(f"image {index}", file)
  if isinstance(file, (str, os.PathLike)):
    return File(str(file), pathlib.Path(os.path.expanduser(file)))
  raise InputError(
      "expected each file as a path, or as the bytes that one holds, got a"
      f" {type(file).__name__} at index {index}; send arrays with encode."
  )


def size(file: File) -> int:
  """Bytes of a `File`."""
  return len(file.source) if isinstance(file.source, bytes) else _read(file, os.path.getsize)


def content(file: File) -> bytes:
  """The content of a `File`."""
  if isinstance(file.source, bytes):
    return file.source
  return _read(file, pathlib.Path.read_bytes)


def _read(file: File, function: Callable[[Any], Any]) -> Any:
  try:
    return function(file.source)
  except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
    raise InputError(
        f"expected an image file at {file.name}, got: {getattr(error, 'strerror', error)};"
        " correct the path or its permissions."
    ) from error


def _is_integer(value: Any) -> bool:
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def integer(name: str, value: Any, least: int) -> int:
  """An integer from `least`, for messages called by a name."""
  if _is_integer(value) and value >= least:
    return int(value)
  raise InputError(f"expected {name} as an integer from {least}, got {value!r}; correct it.")


def seconds(value: Any) -> float:
  """A timeout."""
  number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if number and 0 < value <= _MOST_SECONDS:
    return float(value)
  raise InputError(
      f"expected timeout_s as a number of seconds, above 0 and up to {_MOST_SECONDS:,}, got"
      f" {value!r}; correct it."
  )


def name(value: Any) -> str:
  """The name of a model."""
  if isinstance(value, str) and value:
    return value
  raise InputError(f"expected model_name as the server calls it, got {value!r}; correct it.")


def version(value: Any) -> int | str | None:
  """An integer, a label, or None."""
  if value is None or (isinstance(value, str) and value):
    return value
  if _is_integer(value) and 0 <= value < 2**63:
    return int(value)
  raise InputError(
      "expected version as an integer from 0 to 2**63 - 1, a label or None for the newest one,"
      f" got {value!r}; correct it."
  )


def headers(headers: Mapping[str, str] | None) -> dict[str, str]:
  """{name in lower case: value}; messages do not show the values, which may be secrets."""
  if not isinstance(headers, Mapping | None):
    raise InputError(
        f"expected headers as {{name: value}}, got a {type(headers).__name__}; correct it."
    )
  checked = {}
  for name, value in (headers or {}).items():
    if not (isinstance(name, str) and _HEADER.fullmatch(name)) or name.lower() in _OWN_HEADERS:
      raise InputError(
          f"expected names of headers such as 'Authorization', got {name!r}; correct it."
      )
    if not (isinstance(value, str) and _TEXT.fullmatch(value)):
      raise InputError(
          f"expected the value of the header {name!r} as printable ASCII, without spaces or"
          " line ends around it, got something else; correct it, for example with strip()."
      )
    checked[name.lower()] = value
  return checked

"""What a client is given, checked before anything is sent: images, codes, files, settings.

Everything wrong is an `InputError`. Nothing here imports TensorFlow or Keras.
"""

import numbers
import os
import pathlib
import re
from collections.abc import Iterable
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from imae_tf.errors import InputError

_MOST_SECONDS = 10**6  # what the libraries' own clocks can bear
_HEADER = re.compile(r"(?!grpc-)[\w.-]+(?<!-bin)", re.ASCII | re.IGNORECASE)
_OWN_HEADERS = ("connection", "content-length", "content-type", "te", "transfer-encoding")
_TEXT = re.compile(r"[!-~]([ -~]*[!-~])?")


def images(images):
  """Images [N, H, W, C], uint8 or floats in [0, 1]; `float32` makes floats of some at a time."""
  try:
    images = np.asarray(images)
  except ValueError:  # what numpy says of it is of no help
    raise InputError(
        "expected images of one shape, got a list of several; resize them."
    ) from None
  if images.ndim != 4:
    raise InputError(
        f"expected images of shape [N, height, width, channels], got {list(images.shape)};"
        f" {_reshaping(images.shape)}."
    )
  if images.dtype == np.uint8:
    return images
  if not np.issubdtype(images.dtype, np.floating):
    kind = "float32" if images.dtype == bool else "uint8"
    raise InputError(
        f"expected images of uint8, or of floats in [0, 1], got {images.dtype}; convert them,"
        f" for example with images.astype({kind!r})."
    )
  if images.size and not (images.min() >= 0 and images.max() <= 1):  # false for NaN, too
    raise InputError(
        f"expected float pixels in [0, 1], got values from {images.min():g} to"
        f" {images.max():g}; rescale them, for example with images / 255."
    )
  return images


def _reshaping(shape):
  if len(shape) == 2:
    return "send one image as images[np.newaxis, ..., np.newaxis]"
  if len(shape) != 3:
    return "reshape them"
  if shape[-1] in (1, 3, 4):
    return "send one image as images[np.newaxis]"
  return "add the channels with images[..., np.newaxis]"


def float32(rows):
  """Rows as float32; bytes of images in [0, 1]."""
  if rows.dtype == np.uint8:
    return rows.astype(np.float32) / 255
  return rows.astype(np.float32, copy=False)


def rows(name, value):
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


def _shown(value):
  return f"the shape {list(value.shape)}" if np.isfinite(value).all() else "other things"


class File(NamedTuple):
  """An image file to send: what messages call it, and where it is or what it holds."""

  name: str
  source: pathlib.Path | bytes


def files(files):
  """A list of paths and contents of image files as `File`s; nothing is read."""
  if isinstance(files, (str, bytes, os.PathLike)) or not isinstance(files, Iterable):
    raise InputError(
        f"expected a list of files, got a {type(files).__name__} alone; send [file], or [] for"
        " none."
    )
  return [_file(index, file) for index, file in enumerate(files)]


def _file(index, file):
  if isinstance(file, bytes):
    return File(f"image {index}", file)
  if isinstance(file, (str, os.PathLike)):
    return File(str(file), pathlib.Path(os.path.expanduser(file)))
  raise InputError(
      "expected each file as a path, or as the bytes that one holds, got a"
      f" {type(file).__name__} at index {index}; send arrays with encode."
  )


def size(file):
  """Bytes of a `File`."""
  return len(file.source) if isinstance(file.source, bytes) else _read(file, os.path.getsize)


def content(file):
  """The content of a `File`."""
  if isinstance(file.source, bytes):
    return file.source
  return _read(file, pathlib.Path.read_bytes)


def _read(file, function):
  try:
    return function(file.source)
  except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
    raise InputError(
        f"expected an image file at {file.name}, got: {getattr(error, 'strerror', error)};"
        " correct the path."
    ) from error


def _is_integer(value):
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def integer(name, value, least):
  """An integer from `least`, for messages called by a name."""
  if _is_integer(value) and value >= least:
    return int(value)
  raise InputError(f"expected {name} as an integer from {least}, got {value!r}; correct it.")


def seconds(value):
  """A timeout."""
  number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if number and 0 < value <= _MOST_SECONDS:
    return float(value)
  raise InputError(
      f"expected timeout_s as a number of seconds, above 0 and up to {_MOST_SECONDS:,}, got"
      f" {value!r}; correct it."
  )


def name(value):
  """The name of a model."""
  if isinstance(value, str) and value:
    return value
  raise InputError(f"expected model_name as the server calls it, got {value!r}; correct it.")


def version(value):
  """An integer, a label, or None."""
  if value is None or (isinstance(value, str) and value):
    return value
  if _is_integer(value) and 0 <= value < 2**63:
    return int(value)
  raise InputError(
      "expected version as an integer from 0 to 2**63 - 1, a label or None for the newest one,"
      f" got {value!r}; correct it."
  )


def headers(headers):
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

"""A folder of image files, at any depth, as a data set."""

import hashlib
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from imae_tf._shared import paths
from imae_tf.data import image_files
from imae_tf.data import pipelines
from imae_tf.data import splits
from imae_tf.data import stages
from imae_tf.errors import InputError

# A checksum reads whole files up to so many bytes in all, and else so many of the files.
_BYTES_READ, _FILES_READ = 2**28, 256


def load(
    path: str,
    bounds_of: Callable[[int], splits.Bounds],
    image_size: tuple[int, int] | None,
    memory_limit: int,
    say: Callable[[str], Any] = print,
) -> pipelines.ImageData:
  """The images in a folder, sorted by path, without labels.

  Args:
    path: Of the folder. Hidden files and folders and files of other suffixes are passed over;
      linked folders are followed.
    bounds_of: Gives the splits of so many images.
    image_size: (H, W) to resize them to; None where they are of one size.
    memory_limit: Bytes of decoded pixels above which files are read as they are needed.
    say: Takes one line: how many images, how many files were passed over, which first.

  Raises:
    InputError: No images, a damaged one, or several shapes.
  """
  found = paths.image_files(path)
  files = found.images
  if not files:
    raise InputError(
        f"expected image files ({', '.join(sorted(paths.IMAGE_SUFFIXES))}) in {path}, got none;"
        " name a folder that holds some."
    )
  say(found.line(path))
  bounds = bounds_of(len(files))
  splits.check_sizes(path, bounds)
  shape = _shared_shape(files, image_size)
  identity = lambda: _checksum(files)
  if len(files) * math.prod(shape) > memory_limit:
    return _streamed(path, files, shape, bounds, image_size, identity)
  images = np.empty((len(files), *shape), np.uint8)
  for place, file in enumerate(files):
    images[place] = _read(file, image_size, shape)
  if images.max() == 1:
    raise _black(path)
  parts: dict[str, pipelines.Arrays] = {
      split: (images[start:stop], None) for split, (start, stop) in bounds.items()
  }
  return pipelines.ArrayData(path, shape, None, parts, identity=identity)


def _streamed(
    name: str,
    files: list[pathlib.Path],
    shape: tuple[int, int, int],
    bounds: splits.Bounds,
    image_size: tuple[int, int] | None,
    identity: Callable[[], str],
) -> pipelines.StreamedData:
  def decode(file: tf.Tensor) -> tf.Tensor:
    return tf.numpy_function(
        lambda value: _read(pathlib.Path(value.decode()), image_size, shape),
        [file],
        tf.uint8,
        stateful=False,
    )

  texts = [str(file) for file in files]
  streamed = pipelines.StreamedData(
      name,
      shape,
      None,
      records={
          split: tf.data.Dataset.from_tensor_slices(texts[start:stop])
          for split, (start, stop) in bounds.items()
      },
      split_sizes={split: stop - start for split, (start, stop) in bounds.items()},
      parse=lambda batch: (batch, stages.unlabelled(batch)),
      decode=decode,
      window=len(files),
      identity=identity,
  )
  if streamed.are_dim():
    raise _black(name)
  return streamed


def _read(
    file: pathlib.Path, image_size: tuple[int, int] | None, shape: tuple[int, int, int]
) -> np.ndarray:
  image = image_files.read(file, image_size)
  if image.shape != shape:  # its header told another one
    raise InputError(
        f"expected a whole image file of shape {shape}, got {image.shape} in {file}; replace or"
        " remove it."
    )
  return image


def _black(name: str) -> InputError:
  return InputError(
      f"expected pixels up to 255, which is white, in {name}, got none above 1: all would be"
      " black; if 1 is white, make each file brighter, for example with"
      " PIL.Image.open(file).point(lambda p: p * 255).save(file)."
  )


def _shared_shape(
    files: list[pathlib.Path], image_size: tuple[int, int] | None
) -> tuple[int, int, int]:
  """The (H, W, C) that all files share, from their headers.

  Raises:
    InputError: A file is no image, or differs from the first one.
  """
  first = image_files.shape(files[0], image_size)
  for file in files[1:]:
    shape = image_files.shape(file, image_size)
    if shape != first:
      raise InputError(
          f"expected images of one shape, {first} as {files[0]} has, got {shape} in {file};"
          f" {_mend(shape, first)}, or remove it."
      )
  return first


def _mend(shape: tuple[int, int, int], wanted: tuple[int, int, int]) -> str:
  height, width, channels = wanted
  calls = ""
  if shape[2] != channels:
    calls += f".convert({'L' if channels == 1 else 'RGB'!r})"
  if shape[:2] != wanted[:2]:
    calls += f".resize(({width}, {height}))"
  verbs = {(True, False): "make it grey" if channels == 1 else "make it RGB"}
  verb = verbs.get((shape[2] != channels, shape[:2] != wanted[:2]), "resize it")
  return f"{verb}, for example with PIL.Image.open(file){calls}.save(file)"


def _checksum(files: list[pathlib.Path]) -> str:
  """Of the sizes of all files and the content of all, or of some that lie evenly among them."""
  sizes = [file.stat().st_size for file in files]
  digest = hashlib.blake2b(repr(sizes).encode(), digest_size=16)
  step = 1 if sum(sizes) <= _BYTES_READ else -(-len(files) // _FILES_READ)
  for file in files[::step]:
    digest.update(file.read_bytes())
  return digest.hexdigest()

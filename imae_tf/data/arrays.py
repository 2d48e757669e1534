"""Images that are arrays already: scikit-learn's digits, `.npz` and `.npy` files."""

import collections
import lzma
import math
import os
import pathlib
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import BinaryIO
from typing import IO

import numpy as np

from imae_tf._shared import memory
from imae_tf._shared import paths
from imae_tf._shared import pixels
from imae_tf.data import splits
from imae_tf.data.pipelines import ArrayData
from imae_tf.data.preparation import Preparation
from imae_tf.data.reading import Reading
from imae_tf.errors import first_line
from imae_tf.errors import InputError
from imae_tf.errors import listing

# What NumPy, zipfile and the decompressors raise when a file is damaged.
_UNREADABLE = (
    ValueError, OSError, EOFError, TypeError, KeyError, OverflowError, MemoryError,
    NotImplementedError, RuntimeError, SyntaxError, struct.error, tokenize.TokenError,
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError,
)
_READ = ("x", "y")  # other arrays are not read, only named, but for images of several sizes


def digits(holdout: int) -> ArrayData:
  """scikit-learn's 8x8 digits, divided by 16, the last `holdout` training images held out."""
  import sklearn.datasets

  stored = sklearn.datasets.load_digits()
  images = (stored.images / 16).astype(np.float32)[..., np.newaxis]
  names = tuple(str(name) for name in stored.target_names)
  return _from_arrays("digits", images, stored.target.astype(np.int64), names, holdout)


def npz(
    path: str,
    holdout: int,
    reading: Reading,
    memory_limit: int,
    say: Callable[[str], Any] = print,
) -> ArrayData:
  """The images `x` of a `.npz` and, if there are any, their labels `y`; or those of a `.npy`.

  Images of several sizes are arrays of their own, as `np.savez(path, *images)` names them:
  arr_0, arr_1, ...

  Args:
    path: Of the file.
    holdout: Number of the last training images to hold out.
    reading: What is asked for.
    memory_limit: As of `Reading.prepared`, for images of several sizes.
    say: Takes a line: what is done to images of several sizes.

  Raises:
    InputError: No such file, a damaged one, or other arrays.
  """
  archive = _load_numpy(path)
  if isinstance(archive, np.ndarray):
    archive = {"x": archive}
  if "x" not in archive and not _apart(archive):
    raise InputError(
        f"expected images under the name 'x' in {path}, got {listing(archive)}; save them"
        " with np.savez(path, x=images, y=labels), or images of several sizes with np.savez(path,"
        " *images, y=labels)."
    )
  images, prepared = _prepared(_stored_images(archive, path), reading, memory_limit, path, say)
  if "y" not in archive:
    return _from_arrays(path, images, None, None, holdout, prepared)
  values, labels = np.unique(_check_labels(archive["y"], len(images), path), return_inverse=True)
  names = tuple(str(value) for value in values)
  return _from_arrays(path, images, labels.astype(np.int64), names, holdout, prepared)


def _apart(names: Iterable[str]) -> list[str]:
  """The names of images that are arrays of their own, in order."""
  found = [name for name in names if re.fullmatch(r"arr_\d+", name)]
  return sorted(found, key=lambda name: int(name[4:])) if len(found) > 1 else []


def _stored_images(archive: dict[str, Any], path: str) -> list[np.ndarray]:
  """Images as arrays [N, H, W, C], each of images of one size."""
  if "x" in archive:
    return [images_of(archive["x"], path)]
  return [images_of(archive[name][np.newaxis], f"{path}, {name},") for name in _apart(archive)]


def prepared(images: np.ndarray, done: Preparation) -> np.ndarray:
  """[N, H, W, C] of images, each of them prepared.

  Args:
    images: uint8, or float32 in [0, 1], [N, h, w, C].
    done: What is done to each.

  Raises:
    InputError: Another number of channels.
  """
  if images.shape[1:] == done.image_shape:
    return images
  return np.stack([done.of_array(image) for image in images])


def _prepared(
    stored: list[np.ndarray],
    reading: Reading,
    memory_limit: int,
    path: str,
    say: Callable[[str], Any],
) -> tuple[np.ndarray, Preparation | None]:
  """All images, and what was done to them; None where they are as they were stored."""
  shapes: dict[tuple[int, int, int], int] = collections.Counter()
  for images in stored:
    height, width, channels = images.shape[1:]
    shapes[height, width, channels] += len(images)
  asked = reading.image_size is not None or reading.color != "auto"
  if len(shapes) == 1 and not asked:
    return stored[0] if len(stored) == 1 else np.concatenate(stored), None
  done = reading.prepared(shapes, memory_limit)
  line = reading.line(shapes, done)
  if line:
    say(line)
  if len({images.dtype for images in stored}) > 1:
    raise InputError(
        f"expected images of one type in {path}, got bytes beside floats; save all as uint8."
    )
  return np.concatenate([prepared(images, done) for images in stored]), done


def _from_arrays(
    name: str,
    images: np.ndarray,
    labels: np.ndarray | None,
    class_names: tuple[str, ...] | None,
    holdout: int,
    prepared: Preparation | None = None,
) -> ArrayData:
  bounds = splits.train_test(len(images), holdout)
  splits.check_sizes(name, bounds)
  arrays_by_split = {
      split: (images[start:stop], None if labels is None else labels[start:stop])
      for split, (start, stop) in bounds.items()
  }
  height, width, channels = images.shape[1:]
  return ArrayData(
      name, (height, width, channels), class_names, arrays_by_split, preparation=prepared
  )


def npy(path: str) -> np.ndarray:
  """The images of a `.npy`: uint8, or float32 in [0, 1], [N, H, W, C].

  Raises:
    InputError: No such file, a damaged one, or another array.
  """
  loaded = _load_numpy(path)
  if isinstance(loaded, dict):
    raise InputError(
        f"expected an array in {path}, got the archive of np.savez with {listing(loaded)};"
        " rename it to end in .npz."
    )
  return images_of(loaded, path)


def images_of(x: np.ndarray, name: str) -> np.ndarray:
  """Images as uint8, or as float32 in [0, 1], [N, H, W, C].

  Args:
    x: [N, H, W] or [N, H, W, C].
    name: What they are called in an error.

  Raises:
    InputError: Another array.
  """
  x = pixels.array(x, name)
  if x.ndim == 3 and not pixels.may_be_one_image(x.shape):
    x = x[..., np.newaxis]
  if x.ndim == 4 and not x.size:
    raise InputError(f"expected images in {name}, got the empty shape {x.shape}; add images.")
  return pixels.stored(pixels.batch_of_images(x, name), name)


def _check_labels(y: np.ndarray, n: int, name: str) -> np.ndarray:
  if y.shape != (n,) or not np.issubdtype(y.dtype, np.integer):
    raise InputError(
        f"expected integer labels 'y' of shape ({n},) in {name}, got {y.dtype} of shape"
        f" {y.shape}; convert them or leave 'y' out."
    )
  return y


# ---- files ------------------------------------------------------------------------------------


def _load_numpy(path: str) -> np.ndarray | dict[str, Any]:
  """The array of a `.npy`, or the dict of arrays of a `.npz`."""
  file = pathlib.Path(paths.text(path))
  if not file.is_file():
    kind = "a folder" if file.is_dir() else "none"
    raise InputError(f"expected a file at {path}, got {kind}; correct the path.")
  try:
    with file.open("rb") as stream:  # np.load leaves a damaged .npz open
      return _read(stream, path)
  except _UNREADABLE as error:
    if isinstance(error, (InputError, PermissionError)):
      raise
    raise InputError(
        f"expected a whole NumPy file of plain arrays, got {path}, which cannot be read"
        f" ({first_line(error)}); write it again with np.savez or np.save, without pickled"
        " objects."
    ) from error


def _read(stream: BinaryIO, path: str) -> np.ndarray | dict[str, Any]:
  if not zipfile.is_zipfile(stream):
    stream.seek(0)
    _check_memory(_checked_header(stream, os.fstat(stream.fileno()).st_size, path), path)
    stream.seek(0)
    loaded = np.load(stream, allow_pickle=False)
    return loaded if path.lower().endswith(".npy") else {"(a single array)": loaded}
  with zipfile.ZipFile(stream) as archive:
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    names = [name.removesuffix(".npy") for name in sizes if name.endswith(".npy")]
    read = [*_READ, *([] if "x" in names else _apart(names))]
    needed = 0
    for member in (f"{key}.npy" for key in read):
      if member in sizes:
        with archive.open(member) as content:
          needed += _checked_header(content, sizes[member], path)
  _check_memory(needed, path)
  stream.seek(0)
  loaded = np.load(stream, allow_pickle=False)
  return {key: loaded[key] if key in read else None for key in loaded.files}


def _checked_header(stream: IO[bytes], size: int, path: str) -> int:
  """Bytes that an array takes while it is read, from its header, before anything is made.

  Raises:
    InputError: The file, of `size` bytes, is shorter than the header claims.
    ValueError: There is no such header.
  """
  major, _ = np.lib.format.read_magic(stream)
  if major == 1:
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
  else:
    shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
  if dtype.hasobject:
    return 0  # which np.load refuses
  claimed, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
  if claimed > held:
    raise InputError(
        f"expected a whole NumPy file, got {path}, which cannot be read (its header tells of the"
        f" shape {shape} of {dtype}, {claimed:,} bytes, and it holds {max(held, 0):,}); write it"
        " again with np.savez or np.save."
    )
  return claimed + _converted(dtype) * math.prod(shape)


def _converted(dtype: np.dtype) -> int:
  """Bytes that a pixel takes once more, where it is not kept in the type in which it is stored."""
  return {"|u1": 0, "<f4": 0, "|b1": 1}.get(dtype.str, 4)


def _check_memory(needed: int, path: str) -> None:
  free = memory.free()
  if needed > free:
    raise InputError(
        f"expected images that fit into memory, got {path}, which takes {needed:,} bytes while it"
        f" is read, where {free:,} are free; give a folder of image files, which are read as they"
        " are needed."
    )

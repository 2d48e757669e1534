"""Decoded images of a folder on disk, for those that do not fit into memory.

    <cache>/<key>/images.npy   uint8 [N, H, W, C], a row for each file, read as a memory map
    <cache>/<key>/files.json   what was done to the images, and which files cannot be read

The key is a checksum of the files' names, sizes and times of change and of what is asked of the
reader. So a changed file makes another entry. An entry is written as `<key>.partial` and renamed
once it is whole; a process that goes on after a kill keeps the rows that were written. The folder
may be deleted at any time: the next process makes it again.
"""

import hashlib
import io
import json
import os
import pathlib
import shutil
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import BinaryIO

import numpy as np

from imae_tf._shared import files
from imae_tf._shared import locks
from imae_tf.data import many_files
from imae_tf.errors import ImaeError
from imae_tf.errors import InputError

_FORMAT = 1
_IMAGES, _FILES, _PROGRESS = "images.npy", "files.json", "progress.json"
_ROWS_AT_ONCE = 2048
Decoded = Callable[[int], Iterator[np.ndarray | InputError]]
_PATIENCE_S = 24 * 3600.0  # another process may be decoding the same files


def key_of(
    names: Sequence[str], facts: Sequence[many_files.Facts], asked: Mapping[str, Any]
) -> str:
  """The name of an entry.

  Args:
    names: Of the files, below their folder.
    facts: Of each file.
    asked: JSON-ready: what is asked of the reader.
  """
  content = json.dumps([_FORMAT, list(names), list(facts), dict(asked)], sort_keys=True)
  return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def opened(cache: str, key: str) -> tuple[np.ndarray, dict[str, Any]] | None:
  """(images, content of files.json) of a whole entry; None where there is none.

  Args:
    cache: Folder of entries.
    key: Of `key_of`.
  """
  entry = pathlib.Path(cache) / key
  try:
    return np.load(entry / _IMAGES, mmap_mode="r"), files.read_json(entry / _FILES)
  except (OSError, ValueError):  # not there, or damaged: it is made again
    return None


def made(
    cache: str,
    key: str,
    shape: tuple[int, int, int],
    n: int,
    decoded: Decoded,
    about: Mapping[str, Any],
) -> tuple[np.ndarray, dict[str, Any]]:
  """The same as `opened`, made first if need be.

  Args:
    cache: Folder of entries; it is made.
    key: Of `key_of`.
    shape: (H, W, C) of an image.
    n: Number of rows.
    decoded: Function of the first row to decode, which yields an image or an InputError for each
      row from there on. A row of an error is zeros.
    about: JSON-ready: kept in files.json. To it come "bad", {row: error}, and "brightest".

  Raises:
    ImaeError: The folder cannot be written.
  """
  folder = pathlib.Path(cache)
  try:
    with locks.locked(folder / f"{key}.lock", wait_s=_PATIENCE_S):
      if opened(cache, key) is None:
        _make(folder, key, shape, n, decoded, about)
  except OSError as error:
    raise ImaeError(
        f"expected to write {n * int(np.prod(shape)):,} bytes of decoded images in {folder}, got:"
        f" {error.strerror or error}; free some space, give another --cache, or --cache=none,"
        " which decodes files each time."
    ) from error
  found = opened(cache, key)
  assert found is not None
  return found


def _make(
    folder: pathlib.Path,
    key: str,
    shape: tuple[int, int, int],
    n: int,
    decoded: Decoded,
    about: Mapping[str, Any],
) -> None:
  partial = folder / f"{key}.partial"
  partial.mkdir(exist_ok=True)
  for left in partial.glob(".tmp-*"):  # by a kill while a file was written
    left.unlink()
  done = _progress(partial, shape, n)
  # Written and not mapped: on a full disk a map ends the process, without a word.
  with (partial / _IMAGES).open("r+b" if done["rows"] else "wb") as file:
    _start(file, shape, n, done["rows"])
    for images in _chunks(shape, n, done, decoded):
      file.write(images)
      file.flush()
      os.fsync(file.fileno())
      files.write_json(partial / _PROGRESS, done)
  about = {**about, "bad": done["bad"], "brightest": done["brightest"]}
  files.write_json(partial / _FILES, about)
  (partial / _PROGRESS).unlink(missing_ok=True)
  shutil.rmtree(folder / key, ignore_errors=True)  # a damaged one
  os.replace(partial, folder / key)


def _progress(
    partial: pathlib.Path, shape: tuple[int, int, int], n: int
) -> dict[str, Any]:
  """{"rows": how many are written, "bad": {row: error}, "brightest": their largest value}."""
  try:
    done = files.read_json(partial / _PROGRESS)
    held = (partial / _IMAGES).stat().st_size
    if held >= len(_header(shape, n)) + done["rows"] * int(np.prod(shape)):
      return done
  except (InputError, OSError, KeyError, TypeError):
    pass
  return {"rows": 0, "bad": {}, "brightest": 0}


def _header(shape: tuple[int, int, int], n: int) -> bytes:
  stream = io.BytesIO()
  head = {"descr": "|u1", "fortran_order": False, "shape": (n, *shape)}
  np.lib.format.write_array_header_1_0(stream, head)
  return stream.getvalue()


def _start(file: BinaryIO, shape: tuple[int, int, int], n: int, rows: int) -> None:
  """Brings a file to its first `rows` rows, where the next ones are written."""
  header = _header(shape, n)
  file.seek(0)
  file.write(header)
  file.truncate(len(header) + rows * int(np.prod(shape)))
  file.seek(0, os.SEEK_END)


def _chunks(
    shape: tuple[int, int, int], n: int, done: dict[str, Any], decoded: Decoded
) -> Iterator[bytes]:
  """Yields the bytes of some rows after the other; `done` then tells of them."""
  results = decoded(done["rows"])
  while done["rows"] < n:
    count = min(_ROWS_AT_ONCE, n - done["rows"])
    images = np.zeros((count, *shape), np.uint8)
    for place in range(count):
      result = next(results)
      if isinstance(result, InputError):
        done["bad"][str(done["rows"] + place)] = str(result)
      else:
        images[place] = result
    done["rows"] += count
    done["brightest"] = max(done["brightest"], int(images.max()))
    yield images.tobytes()

"""A folder of image files, at any depth and of any sizes, as a data set."""

import collections
import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from imae_tf._shared import paths
from imae_tf.data import decoded_cache
from imae_tf.data import image_files
from imae_tf.data import labels as labels_lib
from imae_tf.data import many_files
from imae_tf.data import mapped
from imae_tf.data import pipelines
from imae_tf.data import splits
from imae_tf.data import stages
from imae_tf.data.preparation import Preparation
from imae_tf.data.reading import Reading
from imae_tf.errors import InputError
from imae_tf.errors import shown

# A checksum reads all files up to so many bytes and files, and else the beginnings of some.
_MOST_BYTES, _MOST_FILES = 2**28, 10_000
_FILES_READ, _BEGINNING = 256, 2**20

_Shapes = Mapping[tuple[int, int, int], int]


def load(
    path: str,
    holdout: int,
    reading: Reading,
    memory_limit: int,
    say: Callable[[str], Any] = print,
) -> pipelines.ImageData:
  """The images in a folder, sorted by path.

  Args:
    path: Of the folder. Hidden files and folders and files of other suffixes are passed over;
      linked folders are followed.
    holdout: Number of training images to hold out.
    reading: What is asked for.
    memory_limit: Bytes of decoded pixels above which they are kept in `reading.cache`, or, if that
      is None, files are decoded as they are needed.
    say: Takes a line: how many images, how many files were passed over, which first; what is done
      to the images; how many cannot be read.

  Raises:
    InputError: No images, or too few; labels that do not fit; with `on_bad_file="fail"`, a file
      that cannot be read.
  """
  folder = listed(path, say)
  stored = folder.cached(reading)
  if stored is None:
    shapes, bad = folder.scanned(reading)
    prepared = reading.prepared(shapes, memory_limit)
    n = sum(shapes.values())
    if n * int(np.prod(prepared.image_shape)) <= memory_limit:
      return _in_memory(folder, shapes, bad, prepared, holdout, reading, say)
    if reading.cache is None:
      return _streamed(folder, shapes, bad, prepared, holdout, reading, say)
    stored = folder.decoded(reading, shapes, bad, prepared)
  return _mapped(folder, *stored, holdout, reading, say)


def batches(
    path: str,
    batch_size: int,
    prepared: Preparation | None,
    on_bad_file: str = "skip",
    say: Callable[[str], Any] = print,
    after: str | None = None,
) -> tuple[int, Iterator[tuple[list[str], np.ndarray]]]:
  """The images of a whole folder to encode, decoded as they are taken: nothing is held.

  Args:
    path: Of the folder.
    batch_size: Images per batch; the last one may be smaller.
    prepared: What is done to the images; None to choose it from the folder, as `load` does.
    on_bad_file: "skip" or "fail"; what is skipped is not among the names.
    say: As of `load`.
    after: Name of the file after which to begin; None for the first.

  Returns:
    The number of files, and an iterator of (names [B], images float32 [B, H, W, C] in [0, 1]), in
    the order of their paths.

  Raises:
    InputError: No images; from the iterator: a file that cannot be read.
  """
  folder = listed(path, say)
  if prepared is None:
    shapes, _ = folder.scanned(Reading(on_bad_file=on_bad_file))
    prepared = Reading().prepared(shapes, 2**62)
    _say_prepared(shapes, prepared, Reading(), say)
  first = 0
  if after is not None:
    many_files.facts(pathlib.Path(path, after))  # or it is gone, which the error tells
    first = folder.names.index(after) + 1
  found = _float_batches(folder, prepared, batch_size, on_bad_file, say, first)
  return len(folder.files), found


def _float_batches(
    folder: "Folder",
    prepared: Preparation,
    batch_size: int,
    on_bad_file: str,
    say: Callable[[str], Any],
    first: int,
) -> Iterator[tuple[list[str], np.ndarray]]:
  bad: dict[str, str] = {}
  names: list[str] = []
  images: list[np.ndarray] = []
  for name, result in zip(folder.names[first:], folder.images(prepared, first)):
    if isinstance(result, InputError):
      bad[name] = _passed_over(result, on_bad_file)
      continue
    names.append(name)
    images.append(result)
    if len(names) == batch_size:
      yield names, np.array(images, np.float32) / 255
      names, images = [], []
  if names:
    yield names, np.array(images, np.float32) / 255
  folder.check_any(bad)
  _say_bad(bad, len(folder.files), say)


# ---- the files ----------------------------------------------------------------------------------


def listed(path: str, say: Callable[[str], Any]) -> "Folder":
  """The image files of a folder, of which none has been opened yet.

  Args:
    path: Of the folder.
    say: Takes a line: how many there are.

  Raises:
    InputError: There are none.
  """
  found = paths.image_files(path)
  if not found.images:
    raise InputError(
        f"expected image files ({', '.join(sorted(paths.IMAGE_SUFFIXES))}) in {path}, got none;"
        " name a folder that holds some."
    )
  say(found.line(path))
  root = paths.text(path)
  names = [os.path.relpath(file, root) for file in found.images]
  return Folder(path, found.images, names, [many_files.facts(file) for file in found.images])


@dataclasses.dataclass(frozen=True)
class Folder:
  """Image files, sorted by path.

  Attributes:
    path: As the user gave it.
    files: Their paths.
    names: Their paths below the folder.
    facts: What tells each from a changed one.
  """

  path: str
  files: list[pathlib.Path]
  names: list[str]
  facts: list[many_files.Facts]

  def scanned(self, reading: Reading) -> tuple[_Shapes, dict[str, str]]:
    """({(h, w, C): how many}, {name: what is wrong}) from the headers, each read once.

    Raises:
      InputError: None can be read; or one cannot, where that is to fail.
    """
    shapes: collections.Counter[tuple[int, int, int]] = collections.Counter()
    bad = {}
    for name, header in zip(
        self.names, many_files.each(image_files.header, self.files, "Reading headers")
    ):
      if isinstance(header, InputError):
        bad[name] = _passed_over(header, reading.on_bad_file)
      else:
        shapes[header.shape] += 1
    self.check_any(bad)
    return shapes, bad

  def check_any(self, bad: Mapping[str, str]) -> None:
    """Raises an InputError if no file can be read."""
    if len(bad) == len(self.files):
      raise InputError(
          f"expected images that can be read in {self.path}, got {len(bad)} files of which none"
          f" can; of the first it was {next(iter(bad.values()))}"
      )

  def image(self, place: int, prepared: Preparation) -> np.ndarray:
    """The prepared image of a file, uint8 [H, W, C].

    Raises:
      InputError: It cannot be read, is gone, or has changed since the folder was listed.
    """
    many_files.check_unchanged(self.files[place], self.facts[place])
    return prepared.of_array(image_files.read(self.files[place]))

  def images(
      self, prepared: Preparation, first: int = 0
  ) -> Iterator[np.ndarray | InputError]:
    """The same of all files from the place `first` on."""
    image = functools.partial(self.image, prepared=prepared)
    return many_files.each(image, range(first, len(self.files)), "Decoding")

  def cached(self, reading: Reading) -> tuple[np.ndarray, dict[str, Any]] | None:
    """(images, files.json) of the cache's entry; None where there is no whole one."""
    if reading.cache is None or not os.path.isdir(reading.cache):
      return None
    return decoded_cache.opened(reading.cache, self._key(reading))

  def decoded(
      self, reading: Reading, shapes: _Shapes, bad: dict[str, str], prepared: Preparation
  ) -> tuple[np.ndarray, dict[str, Any]]:
    """The same, made if need be."""
    assert reading.cache is not None
    about = {
        "shapes": [[*shape, count] for shape, count in shapes.items()],
        "unreadable": bad,
        "preparation": prepared.record(),
    }
    return decoded_cache.made(
        reading.cache, self._key(reading), prepared.image_shape, len(self.files),
        functools.partial(self.images, prepared), about,
    )

  def _key(self, reading: Reading) -> str:
    asked = {"image_size": reading.image_size, "fit": reading.fit, "color": reading.color}
    return decoded_cache.key_of(self.names, self.facts, asked)

  def checksum(self, places: np.ndarray) -> str:
    """Of the names and sizes of these files, and the content of all or of some, evenly chosen.

    It is the same for a copy of the folder in another place.
    """
    sizes = [(self.names[place], self.facts[place][0]) for place in places]
    digest = hashlib.blake2b(repr(sizes).encode(), digest_size=16)
    few = len(sizes) <= _MOST_FILES and sum(size for _, size in sizes) <= _MOST_BYTES
    for place in places[:: 1 if few else -(-len(places) // _FILES_READ)]:
      with self.files[place].open("rb") as file:
        digest.update(file.read(-1 if few else _BEGINNING))
    return digest.hexdigest()


# ---- data sets of them --------------------------------------------------------------------------


def _in_memory(
    folder: Folder,
    shapes: _Shapes,
    bad: dict[str, str],
    prepared: Preparation,
    holdout: int,
    reading: Reading,
    say: Callable[[str], Any],
) -> pipelines.ArrayData:
  images = np.empty((len(folder.files), *prepared.image_shape), np.uint8)
  for place, result in enumerate(folder.images(prepared)):
    if isinstance(result, InputError):
      bad[folder.names[place]] = _passed_over(result, reading.on_bad_file)
    else:
      images[place] = result
  kept = _Kept.of(folder, shapes, bad, prepared, holdout, reading, say)
  if images[kept.places].max() == 1:
    raise _black(folder.path)
  parts: dict[str, pipelines.Arrays] = {
      split: (images[rows], None if kept.labels is None else kept.labels[rows])
      for split, rows in kept.rows.items()
  }
  return pipelines.ArrayData(
      folder.path, prepared.image_shape, kept.class_names, parts, **kept.about(folder, prepared)
  )


def _mapped(
    folder: Folder,
    images: np.ndarray,
    about: Mapping[str, Any],
    holdout: int,
    reading: Reading,
    say: Callable[[str], Any],
) -> mapped.MappedData:
  shapes = {(h, w, c): count for h, w, c, count in about["shapes"]}
  decoded = {folder.names[int(row)]: error for row, error in about["bad"].items()}
  bad = {**decoded, **about["unreadable"]}
  if bad:
    _passed_over(InputError(bad[min(bad)]), reading.on_bad_file)
  prepared = Preparation.of_record(about["preparation"])
  kept = _Kept.of(folder, shapes, bad, prepared, holdout, reading, say)
  if about["brightest"] == 1:
    raise _black(folder.path)
  return mapped.MappedData(
      folder.path, prepared.image_shape, kept.class_names, images, kept.rows, kept.labels,
      **kept.about(folder, prepared),
  )


def _streamed(
    folder: Folder,
    shapes: _Shapes,
    bad: dict[str, str],
    prepared: Preparation,
    holdout: int,
    reading: Reading,
    say: Callable[[str], Any],
) -> pipelines.StreamedData:
  kept = _Kept.of(folder, shapes, bad, prepared, holdout, reading, say)

  def decode(place: tf.Tensor) -> tf.Tensor:
    return tf.numpy_function(
        lambda value: folder.image(int(value), prepared), [place], tf.uint8, stateful=False
    )

  def parse(places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    labels = kept.labels
    return places, stages.unlabelled(places) if labels is None else tf.gather(labels, places)

  streamed = pipelines.StreamedData(
      folder.path,
      prepared.image_shape,
      kept.class_names,
      records={
          split: tf.data.Dataset.from_tensor_slices(rows) for split, rows in kept.rows.items()
      },
      split_sizes={split: len(rows) for split, rows in kept.rows.items()},
      parse=parse,
      decode=decode,
      window=len(folder.files),
      **kept.about(folder, prepared),
  )
  if streamed.are_dim():
    raise _black(folder.path)
  return streamed


@dataclasses.dataclass(frozen=True)
class _Kept:
  """The files that can be read.

  Attributes:
    places: Of them among all files.
    rows: For each split, places among all files.
    labels: int64, of all files (-1 for unreadable ones); or None.
    class_names: As of `ImageData`.
    source: As of `ImageData`.
  """

  places: np.ndarray
  rows: splits.Rows
  labels: np.ndarray | None
  class_names: tuple[str, ...] | None
  source: pipelines.Source

  @classmethod
  def of(
      cls,
      folder: Folder,
      shapes: _Shapes,
      bad: dict[str, str],
      prepared: Preparation,
      holdout: int,
      reading: Reading,
      say: Callable[[str], Any],
  ) -> "_Kept":
    """Splits and labels what can be read, and says what cannot.

    Raises:
      InputError: Too few images; labels that do not fit.
    """
    folder.check_any(bad)
    _say_prepared(shapes, prepared, reading, say)
    _say_bad(bad, len(folder.files), say)
    places = np.array([i for i, name in enumerate(folder.names) if name not in bad], np.int64)
    names = [folder.names[place] for place in places]
    rows = splits.of_files(names, holdout, reading.split)
    splits.check_sizes(folder.path, {split: (0, len(part)) for split, part in rows.items()})
    labels = class_names = None
    if reading.labels is not None:
      found, class_names = labels_lib.of_files(names, reading.labels, list(bad))
      labels = np.full([len(folder.files)], -1, np.int64)
      labels[places] = found
    source = pipelines.Source(
        {split: tuple(names[row] for row in part) for split, part in rows.items()},
        bad, reading.labels,
    )
    return cls(
        places, {split: places[part] for split, part in rows.items()}, labels, class_names, source
    )

  def about(self, folder: Folder, prepared: Preparation) -> dict[str, Any]:
    """The arguments of `ImageData` that all kinds of data sets share."""
    return {
        "identity": functools.partial(folder.checksum, self.places),
        "preparation": prepared,
        "source": self.source,
    }


# ---- what is told -------------------------------------------------------------------------------


def _passed_over(error: InputError, on_bad_file: str) -> str:
  """What is wrong with a file that is skipped; raises the error if it is not to be."""
  if on_bad_file == "fail":
    raise error
  return str(error)


def _say_prepared(
    shapes: _Shapes, prepared: Preparation, reading: Reading, say: Callable[[str], Any]
) -> None:
  line = reading.line(shapes, prepared)
  if line:
    say(line)


def _say_bad(bad: Mapping[str, str], n: int, say: Callable[[str], Any]) -> None:
  if bad:
    first = min(bad)
    say(
        f"{len(bad)} of {n} image files cannot be read and are skipped (--on_bad_file=fail stops"
        f" instead), the first {shown(first)}: {bad[first]}"
    )


def _black(name: str) -> InputError:
  return InputError(
      f"expected pixels up to 255, which is white, in {name}, got none above 1: all would be"
      " black; if 1 is white, make each file brighter, for example with"
      " PIL.Image.open(file).point(lambda p: p * 255).save(file)."
  )

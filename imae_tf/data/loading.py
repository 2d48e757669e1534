"""Images by name or path: `digits`, `shapes`, TFDS names, `.npz` and `.npy` files, folders.

Whatever the source, `load` returns an `ImageData` of `imae_tf.data.pipelines`. A data set of up to
`MEMORY_LIMIT` bytes as stored is held in memory (`ArrayData`); a larger TFDS data set or
folder is read and decoded as it goes (`StreamedData`).
"""

import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from imae_tf._shared import paths
from imae_tf.data import arrays
from imae_tf.data import image_folder
from imae_tf.data import reading as reading_lib
from imae_tf.data import shapes
from imae_tf.data import splits
from imae_tf.data import tfds_images
from imae_tf.data.pipelines import ArrayData
from imae_tf.data.pipelines import ImageData
from imae_tf.data.pipelines import StreamedData
from imae_tf.data.preparation import Preparation
from imae_tf.errors import first_line
from imae_tf.errors import InputError

_WHAT = "the name of a data set, or the path of a .npz or of a folder of images"
# Bytes of stored pixels above which TFDS data and folders are streamed.
MEMORY_LIMIT = 2**30


def load(
    dataset: str | os.PathLike[str],
    *,
    holdout: int = 0,
    image_size: int | tuple[int, int] | None = None,
    fit: str = "crop",
    color: str = "auto",
    labels: str | os.PathLike[str] | None = None,
    on_bad_file: str = "skip",
    cache: str | os.PathLike[str] | None = None,
    say: Callable[[str], Any] = print,
) -> ImageData:
  """Loads a data set by name or path.

  Of a folder a fixed random fifth is "test". `digits` and `.npz` and `.npy` files are split in file
  order, the last 20% being "test". A TFDS data set keeps its "train" and "test" splits; without a
  "test", the last 20% of "train" take its place. TFDS data comes from `TFDS_DATA_DIR` and is
  downloaded into it if it is not there.

  Args:
    dataset: `digits` (scikit-learn's 8x8 digits, divided by 16); the path of a `.npz` with
      images `x` (or, of several sizes, `arr_0`, `arr_1`, ...) and, optionally, labels `y`, or of a
      `.npy` of images; the path of a folder of images, which may be nested and is sorted by path;
      or a TFDS name such as `mnist`. A name that TFDS knows wins over a folder: write `./mnist`
      for the folder. `celeb_a` is cropped to its central 148x148 pixels and resized to 64x64.
      `shapes` are made here (`imae_tf.data.shapes`). A path may begin with `~`.
    holdout: Number of training images that become the split "holdout": of a folder random ones,
      else the last.
    image_size: (H, W) that images become, or a number for a square. None keeps the size that all
      have; if the images of a folder or `.npz` differ, a size of at most 64 is chosen, and said.
    fit: How images of other proportions become that size: "crop", "pad" or "stretch".
    color: "grey", "rgb", or "auto": colour if any image has it.
    labels: Labels of a folder's images: "folders", for the first folder of their paths, or the
      path of a CSV with the columns file and label.
    on_bad_file: What happens to a file of a folder that cannot be read: "skip" or "fail".
    cache: Folder in which the decoded images of a folder are kept if they do not fit into memory;
      None to decode files each time.
    say: Takes a line: how many images a folder has and what was passed over; what is done to the
      images; or that there are too few to evaluate.

  Returns:
    The data set. Images with transparency are laid on white; what EXIF says of a camera's
    orientation is applied; of an animation it is the first frame.

  Raises:
    InputError: The data set is unknown, missing, damaged or not images in [0, 1].

  >>> import imae_tf
  >>> imae_tf.data.load("digits", holdout=200).sizes
  {'train': 1237, 'holdout': 200, 'test': 360}
  """
  how = reading_lib.Reading(
      None if image_size is None else reading_lib.checked_size(image_size), fit, color,
      None if labels is None else paths.text(labels, "labels"), on_bad_file,
      None if cache is None else paths.text(cache, "a cache"),
  )
  return opened(dataset, how, holdout=holdout, say=say)


def opened(
    dataset: str | os.PathLike[str],
    reading: reading_lib.Reading,
    *,
    holdout: int = 0,
    say: Callable[[str], Any] = print,
) -> ImageData:
  """As `load`, of what a run or a program asks for.

  Args:
    dataset: As of `load`.
    reading: What is asked for.
    holdout: As of `load`.
    say: As of `load`.

  Raises:
    InputError: As `load`.
  """
  name = _named(dataset)
  data = _open(name, holdout, reading, say)
  if isinstance(data, StreamedData) and data.stored_bytes <= MEMORY_LIMIT:
    data = data.in_memory()
  line = splits.too_few_to_evaluate(name, data.sizes)
  if line:
    say(line)
  return data


def canonical(dataset: str | os.PathLike[str]) -> str:
  """A path made absolute, so that it means the same in any folder; a name as it is.

  Raises:
    InputError: `dataset` is empty, or written like a path where there is nothing.

  >>> canonical("digits")
  'digits'
  """
  name = _named(dataset)
  is_path = _is_file(name) or (not _is_ours(name) and _is_folder(name))
  return paths.absolute(name) if is_path else name


def input_batches(
    source: str | os.PathLike[str],
    split: str,
    batch_size: int,
    say: Callable[[str], Any] = print,
    prepared: Preparation | None = None,
) -> tuple[int, Iterable[np.ndarray]]:
  """Images to encode, in file order.

  Args:
    source: The path of a `.npy` of images [N, H, W] or [N, H, W, C] or of a folder of images,
      both taken whole, or anything else that `load` takes. The files of a folder are read as they
      are needed; one that cannot be read is an error, as the rows would no longer be the files'.
      `input_files` skips it and tells the names.
    split: Which split of a data set that has splits.
    batch_size: Images per batch; the last one may be smaller.
    say: As of `load`.
    prepared: What is done to images of any size, as the model was trained; None for nothing,
      or for images that differ what `load` does.

  Returns:
    The number of images, and an iterable of float32 [B, H, W, C] in [0, 1].

  Raises:
    InputError: As `load`.

  >>> n, batches = input_batches("digits", "test", 200)
  >>> n, [batch.shape for batch in batches]
  (360, [(200, 8, 8, 1), (160, 8, 8, 1)])
  """
  name = _named(source)
  if is_folder(source):
    _check_batch_size(batch_size)
    n, found = image_folder.batches(name, batch_size, prepared, "fail", say)
    return n, (images for _, images in found)
  if name.lower().endswith(".npy"):
    images = arrays.npy(name)
    if prepared is not None:
      images = arrays.prepared(images, prepared)
    height, width, channels = images.shape[1:]
    shape = height, width, channels
    data: ImageData = ArrayData(name, shape, None, {"all": (images, None)})
    split = "all"
  else:
    # Read as it goes, for the other splits are not needed.
    asks = reading_lib.Reading()
    if prepared is not None and not _is_ours(name):
      asks = reading_lib.Reading.of_preparation(prepared.record())
    data = _open(name, 0, asks, say)
  # Made here, so that a bad split or batch_size is an error at once.
  batches = data.batches(split, batch_size)
  return data.size(split), _numpy_batches(name, batches)


def input_files(
    folder: str | os.PathLike[str],
    batch_size: int,
    say: Callable[[str], Any] = print,
    prepared: Preparation | None = None,
    on_bad_file: str = "skip",
    after: str | None = None,
) -> tuple[int, Iterator[tuple[list[str], np.ndarray]]]:
  """The images of a folder to encode, with their names, decoded as they are taken.

  Args:
    folder: Its path.
    batch_size: Images per batch; the last one may be smaller.
    say: As of `load`.
    prepared: As of `input_batches`.
    on_bad_file: As of `load`.
    after: Name of the file after which to begin, to go on; None for the first.

  Returns:
    The number of files, and an iterator of (their paths below the folder [B], images float32
    [B, H, W, C] in [0, 1]). Files that cannot be read are not among them, and are said at the end.

  Raises:
    InputError: No images; from the iterator, a file that cannot be read where that is to fail.
  """
  _check_batch_size(batch_size)
  return image_folder.batches(_named(folder), batch_size, prepared, on_bad_file, say, after)


def is_folder(source: str | os.PathLike[str]) -> bool:
  """Whether `load` would read a folder of images; a name that TFDS knows is none.

  Raises:
    InputError: It is written like a path where there is nothing.

  >>> is_folder("digits")
  False
  """
  name = _named(source)
  return not _is_file(name) and not _is_ours(name) and _is_folder(name)


def _check_batch_size(batch_size: int) -> None:
  if batch_size < 1:
    raise InputError(f"expected a batch_size of 1 or more, got {batch_size}; raise it.")


def _numpy_batches(source: str, batches: tf.data.Dataset) -> Iterator[np.ndarray]:
  try:
    yield from batches.as_numpy_iterator()
  except tf.errors.OpError as error:
    raise InputError(
        f"expected readable images in {source!r}, got {first_line(error)!r}; replace or"
        " remove what is damaged."
    ) from error


def _named(dataset: str | os.PathLike[str]) -> str:
  """A name or path as text; a `pathlib.Path` is never a name."""
  name = paths.text(dataset, _WHAT)
  if isinstance(dataset, os.PathLike) and not os.path.isabs(name):
    return os.path.join(".", name)
  return name


def _is_file(name: str) -> bool:
  return name.lower().endswith((".npz", ".npy"))


def _is_ours(name: str) -> bool:
  return name == "digits" or name.partition(":")[0] == "shapes"


def _open(
    name: str, holdout: int, reading: reading_lib.Reading, say: Callable[[str], Any]
) -> ImageData:
  if is_folder(name):
    return image_folder.load(name, holdout, reading, MEMORY_LIMIT, say)
  if reading.labels is not None:
    raise InputError(
        f"expected labels for a folder of images alone, got {reading.labels!r} for {name!r}; leave"
        " them out: other data have their own."
    )
  if _is_file(name):
    return arrays.npz(name, holdout, reading, MEMORY_LIMIT, say)
  if _is_ours(name):
    if reading.record():
      given = next(iter(reading.record()))
      raise InputError(
          f"expected no {given} for {name!r}, whose images are arrays already, got"
          f" {reading.record()[given]}; leave it out."
      )
    return arrays.digits(holdout) if name == "digits" else shapes.load(name, holdout)
  return tfds_images.load(name, holdout, reading)


def _is_folder(name: str) -> bool:
  """Whether `name` is a folder; raises if it is written like a path and is none."""
  looks_like_path = name.startswith(("/", ".", "~")) or name.endswith("/")
  if os.path.isdir(name):
    return looks_like_path or "/" in name or not tfds_images.known(name)
  is_file = os.path.isfile(name)
  if looks_like_path or (is_file and not tfds_images.known(name)):
    raise InputError(
        f"expected a .npz, a .npy or a folder of images at {name}, got"
        f" {'another kind of file' if is_file else 'nothing'}; correct the path."
    )
  return False

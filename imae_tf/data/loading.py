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
from imae_tf.data import shapes
from imae_tf.data import splits
from imae_tf.data import tfds_images
from imae_tf.data.pipelines import ArrayData
from imae_tf.data.pipelines import ImageData
from imae_tf.data.pipelines import StreamedData
from imae_tf.errors import first_line
from imae_tf.errors import InputError

_WHAT = "the name of a data set, or the path of a .npz or of a folder of images"
# Bytes of stored pixels above which TFDS data and folders are streamed.
MEMORY_LIMIT = 2**30


def load(
    dataset: str | os.PathLike[str],
    *,
    holdout: int = 0,
    image_size: tuple[int, int] | None = None,
    say: Callable[[str], Any] = print,
) -> ImageData:
  """Loads a data set by name or path.

  `digits`, `.npz` and `.npy` files and folders are split in file order, the last 20% being
  "test". A TFDS data set keeps its "train" and "test" splits; without a "test", the last 20% of
  "train" take its place. TFDS data comes from `TFDS_DATA_DIR` and is downloaded into it if
  it is not there.

  Args:
    dataset: `digits` (scikit-learn's 8x8 digits, divided by 16); the path of a `.npz` with
      images `x` and, optionally, labels `y`, or of a `.npy` of images; the path of a folder of
      images, which may be nested and is sorted by path; or a TFDS name such as `mnist`. A name
      that TFDS knows wins over a folder: write `./mnist` for the folder. `celeb_a` is cropped to
      its central 148x148 pixels and resized to 64x64. `shapes` are made here
      (`imae_tf.data.shapes`). A path may begin with `~`.
    holdout: Number of images, the last ones of the training split, that become the split
      "holdout".
    image_size: (H, W) to resize the images of a folder or a TFDS data set to. Without it
      they must all be of one size.
    say: Takes a line: how many images a folder has and what was passed over; or that there are
      too few to evaluate.

  Returns:
    The data set. Images with transparency are laid on white; palette images become RGB; what
    EXIF says of a camera's orientation is applied.

  Raises:
    InputError: The data set is unknown, missing, damaged or not images in [0, 1].

  >>> import imae_tf
  >>> imae_tf.data.load("digits", holdout=200).sizes
  {'train': 1237, 'holdout': 200, 'test': 360}
  """
  name = _named(dataset)
  data = _open(name, holdout, image_size, say)
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
) -> tuple[int, Iterable[np.ndarray]]:
  """Images to encode, in file order.

  Args:
    source: The path of a `.npy` of images [N, H, W] or [N, H, W, C] or of a folder of images,
      both taken whole, or anything else that `load` takes.
    split: Which split of a data set that has splits.
    batch_size: Images per batch; the last one may be smaller.
    say: As of `load`.

  Returns:
    The number of images, and an iterable of float32 [B, H, W, C] in [0, 1].

  Raises:
    InputError: As `load`.

  >>> n, batches = input_batches("digits", "test", 200)
  >>> n, [batch.shape for batch in batches]
  (360, [(200, 8, 8, 1), (160, 8, 8, 1)])
  """
  name = _named(source)
  if name.lower().endswith(".npy"):
    images = arrays.npy(name)
    height, width, channels = images.shape[1:]
    shape = height, width, channels
    data: ImageData = ArrayData(name, shape, None, {"all": (images, None)})
    split = "all"
  elif not _is_file(name) and not _is_ours(name) and _is_folder(name):
    data = image_folder.load(name, lambda n: {"all": (0, n)}, None, MEMORY_LIMIT, say)
    split = "all"
  else:
    # Read as it goes, for the other splits are not needed.
    data = _open(name, 0, None, say)
  # Made here, so that a bad split or batch_size is an error at once.
  batches = data.batches(split, batch_size)
  return data.size(split), _numpy_batches(name, batches)


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
    name: str, holdout: int, image_size: tuple[int, int] | None, say: Callable[[str], Any]
) -> ImageData:
  if _is_file(name) or _is_ours(name):
    if image_size:
      raise InputError(
          f"expected no image_size for {name!r}, whose images are arrays already, got"
          f" {image_size}; leave it out."
      )
    if _is_file(name):
      return arrays.npz(name, holdout)
    return arrays.digits(holdout) if name == "digits" else shapes.load(name, holdout)
  if _is_folder(name):
    bounds_of = lambda n: splits.train_test(n, holdout)
    return image_folder.load(name, bounds_of, image_size, MEMORY_LIMIT, say)
  return tfds_images.load(name, holdout, image_size)


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

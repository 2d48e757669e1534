"""Images by name or path: `digits`, `shapes`, TFDS names, `.npz` files, folders of images.

Whatever the source, `load` returns an `ImageData` of `imae_tf.data.pipelines`. A data set of up to
`MEMORY_LIMIT` bytes as stored is held in memory (`ArrayData`); a larger TFDS data set or
folder is read and decoded as it goes (`StreamedData`).
"""

import pathlib
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

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

# Bytes of stored pixels above which TFDS data and folders are streamed.
MEMORY_LIMIT = 2**30


def load(
    dataset: str, *, holdout: int = 0, image_size: tuple[int, int] | None = None
) -> ImageData:
  """Loads a data set by name or path.

  `digits`, `.npz` files and folders are split in file order, the last 20% being "test". A
  TFDS data set keeps its "train" and "test" splits; without a "test", the last 20% of
  "train" take its place. TFDS data comes from `TFDS_DATA_DIR` and is downloaded into it if
  it is not there.

  Args:
    dataset: `digits` (scikit-learn's 8x8 digits, divided by 16); the path of a `.npz` with
      images `x` and, optionally, labels `y`; the path of a folder of images, which may be
      nested and is sorted by path; or a TFDS name such as `mnist`. A name that TFDS knows
      wins over a folder: write `./mnist` for the folder. `celeb_a` is cropped to its
      central 148x148 pixels and resized to 64x64. `shapes` are made here (`imae_tf.data.shapes`).
    holdout: Number of images, the last ones of the training split, that become the split
      "holdout".
    image_size: (H, W) to resize the images of a folder or a TFDS data set to. Without it
      they must all be of one size.

  Returns:
    The data set. Images with transparency are laid on white; palette images become RGB.

  Raises:
    InputError: The data set is unknown, missing, damaged or not images in [0, 1].
  """
  data = _open(dataset, holdout, image_size)
  if isinstance(data, StreamedData) and data.stored_bytes <= MEMORY_LIMIT:
    return data.in_memory()
  return data


def canonical(dataset: str) -> str:
  """A path made absolute, so that it means the same in any folder; a name as it is.

  Raises:
    InputError: `dataset` is written like a path, and there is nothing.
  """
  ours = dataset == "digits" or dataset.partition(":")[0] == "shapes"
  is_path = dataset.endswith(".npz") or (not ours and _is_folder(dataset))
  return str(pathlib.Path(dataset).expanduser().resolve()) if is_path else dataset


def input_batches(
    source: str, split: str, batch_size: int
) -> tuple[int, Iterable[np.ndarray]]:
  """Images to encode, in file order.

  Args:
    source: The path of a `.npy` of images [N, H, W] or [N, H, W, C] or of a folder of images,
      both taken whole, or anything else that `load` takes.
    split: Which split of a data set that has splits.
    batch_size: Images per batch; the last one may be smaller.

  Returns:
    The number of images, and an iterable of float32 [B, H, W, C] in [0, 1].

  Raises:
    InputError: As `load`.
  """
  if source.endswith(".npy"):
    images = arrays.npy(source)
    data: ImageData = ArrayData(source, images.shape[1:], None, {"all": (images, None)})
    split = "all"
  elif not source.endswith(".npz") and _is_folder(source):
    data = image_folder.load(source, lambda n: {"all": (0, n)}, None, MEMORY_LIMIT)
    split = "all"
  else:
    # Read as it goes, for the other splits are not needed.
    data = _open(source, holdout=0, image_size=None)
  # Made here, so that a bad split or batch_size is an error at once.
  batches = data.batches(split, batch_size)
  return data.size(split), _numpy_batches(source, batches)


def _numpy_batches(source, batches):
  try:
    yield from batches.as_numpy_iterator()
  except tf.errors.OpError as error:
    raise InputError(
        f"expected readable images in {source!r}, got {first_line(error)!r}; replace or"
        " remove what is damaged."
    ) from error


def _open(dataset, holdout, image_size) -> ImageData:
  if dataset == "digits":
    _refuse_image_size(dataset, image_size)
    return arrays.digits(holdout)
  if dataset.partition(":")[0] == "shapes":
    _refuse_image_size(dataset, image_size)
    return shapes.load(dataset, holdout)
  if dataset.endswith(".npz"):
    _refuse_image_size(dataset, image_size)
    return arrays.npz(dataset, holdout)
  if _is_folder(dataset):
    bounds_of = lambda n: splits.train_test(n, holdout)
    return image_folder.load(dataset, bounds_of, image_size, MEMORY_LIMIT)
  return tfds_images.load(dataset, holdout, image_size)


def _is_folder(source):
  """Whether `source` is a folder; raises if it is written like a path and is none."""
  path = pathlib.Path(source).expanduser()
  looks_like_path = source.startswith(("/", ".", "~")) or source.endswith("/")
  if path.is_dir():
    return looks_like_path or "/" in source or not tfds_images.known(source)
  if looks_like_path or (path.is_file() and not tfds_images.known(source)):
    raise InputError(
        f"expected a .npz or a folder of images at {source}, got"
        f" {'another kind of file' if path.is_file() else 'nothing'}; correct the path."
    )
  return False


def _refuse_image_size(name, image_size):
  if image_size:
    raise InputError(
        f"expected no image_size for {name!r}, whose images are arrays already, got"
        f" {image_size}; leave it out."
    )

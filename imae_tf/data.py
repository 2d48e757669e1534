"""Images as tf.data pipelines: `digits`, `shapes`, TFDS names, `.npz` files, folders of images.

Whatever the source, `load` returns an `ImageData` whose images are float32 [N, H, W, C] in
[0, 1]. Labels, where they exist, are for evaluation alone: no training batch holds them.

A data set of up to `MEMORY_LIMIT` bytes as stored is held in memory (`ArrayData`); a larger
TFDS data set or folder is read and decoded as it goes (`StreamedData`).
"""

import abc
import dataclasses
import difflib
import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import PIL.Image
import tensorflow as tf

from imae_tf import shapes
from imae_tf.errors import InputError
from imae_tf.errors import first_line

# Bytes of stored pixels above which TFDS data and folders are streamed.
MEMORY_LIMIT = 2**30

_IMAGE_SUFFIXES = frozenset({
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
})
# TFDS records, images encoded, shuffled at a time: about 100 MB of CelebA.
_SHUFFLE_WINDOW = 10_000
# What TFDS itself reads at once, for slow disks.
_READ_BYTES = 2**23
_IMAGES_PER_TURN = 16
_LAST_EPOCH = np.iinfo(np.int64).max
_CELEB_A_CROP, _CELEB_A_SIZE = 148, 64
# TFDS data sets whose images were made from known factors. TFDS writes records in an order
# hashed from their keys, so that their last fifth is like the rest.
_FACTORS = {
    "dsprites": (
        "label_shape", "label_scale", "label_orientation", "label_x_position",
        "label_y_position",
    ),
    "shapes3d": (
        "label_floor_hue", "label_wall_hue", "label_object_hue", "label_scale", "label_shape",
        "label_orientation",
    ),
}

# Split name to (start, stop), in file order.
Bounds = dict[str, tuple[int, int]]
# The images of a split and their labels.
Arrays = tuple[np.ndarray, np.ndarray | None]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData(abc.ABC):
  """A data set of images of one shape, in named splits.

  Attributes:
    name: What `load` was asked for.
    image_shape: (H, W, C).
    class_names: The name of label i at index i; None without labels.
    factor_names: Of the factors that the images were made from; None where they are unknown.
  """

  name: str
  image_shape: tuple[int, int, int]
  class_names: tuple[str, ...] | None
  factor_names: tuple[str, ...] | None = dataclasses.field(default=None, kw_only=True)

  @property
  @abc.abstractmethod
  def sizes(self) -> dict[str, int]:
    """Number of images of each split."""

  @abc.abstractmethod
  def _stored_batches(self, split: str, batch_size: int) -> tf.data.Dataset:
    """(stored images, labels) batches of a split in file order, remainder kept."""

  @abc.abstractmethod
  def _stored_train_batches(
      self, batch_size: int, seed: int, initial_epoch: int, initial_step: int, rows: slice
  ) -> tf.data.Dataset:
    """These rows of the batches of stored training images, epoch after epoch without end."""

  @abc.abstractmethod
  def _stored_factors(self, split: str, count: int) -> np.ndarray:
    """[count, F] of the first images of a split, where there are factors."""

  @property
  def splits(self) -> tuple[str, ...]:
    """Names of the splits, "train", "test" and, where asked for, "holdout"."""
    return tuple(self.sizes)

  def size(self, split: str) -> int:
    """Number of images in `split`.

    Raises:
      InputError: There is no such split.
    """
    if split not in self.sizes:
      raise InputError(
          f"expected a split of {self.name!r} ({', '.join(self.splits)}), got {split!r};"
          " name one of these."
      )
    return self.sizes[split]

  def arrays(self, split: str, limit: int | None = None) -> Arrays:
    """The first `limit` images of a split (all, if None) in file order, and their labels.

    Returns:
      Images float32 [N, H, W, C] in [0, 1], and labels int64 [N] or None.
    """
    count = self.size(split) if limit is None else min(limit, self.size(split))
    parts, label_parts = [], []
    remaining = count
    for stored, label in self._stored_batches(split, batch_size=1000):
      if remaining <= 0:
        break
      parts.append(_to_float(stored[:remaining]).numpy())
      label_parts.append(label[:remaining].numpy())
      remaining -= len(parts[-1])
    images = np.concatenate(parts) if parts else np.zeros((0, *self.image_shape), np.float32)
    if self.class_names is None:
      return images, None
    labels = np.concatenate(label_parts) if parts else np.zeros([0], np.int64)
    # TFDS writes -1 for "not labelled".
    return images, None if np.any(labels < 0) else labels

  def factors(self, split: str, limit: int | None = None) -> np.ndarray | None:
    """What the images that `arrays` returns for this split and limit were made from.

    Returns:
      int64 [N, F], a column for each of `factor_names`; None where they are unknown.
    """
    count = self.size(split) if limit is None else min(limit, self.size(split))
    return None if self.factor_names is None else self._stored_factors(split, count)

  def sample(self, split: str, count: int, seed: int = 0) -> np.ndarray:
    """Images of a split, float32 [N, H, W, C]: all, or `count` where there are more.

    Of the training images these are drawn at random by `seed`, for files are often sorted by
    class; of another split they are the first.
    """
    if split != "train" or self.size(split) <= count:
      return self.arrays(split, limit=count)[0]
    batch_size = min(count, 1000)
    batches = self.train_batches(batch_size, seed=seed).take(-(-count // batch_size))
    return np.concatenate([batch.numpy() for batch in batches])[:count]

  def batches(self, split: str, batch_size: int) -> tf.data.Dataset:
    """The images of a split in file order, once: float32 [B, H, W, C] in [0, 1].

    B is `batch_size`; the last batch may be smaller.
    """
    self.size(split)
    _check_positive("batch_size", batch_size)
    images = self._stored_batches(split, batch_size).map(lambda stored, label: stored)
    return _finish(images)

  def train_batches(
      self,
      batch_size: int,
      *,
      seed: int,
      initial_epoch: int = 0,
      initial_step: int = 0,
      shares: Sequence[slice] = (),
  ) -> tf.data.Dataset:
    """Shuffled training images without end: float32 [batch_size, H, W, C] in [0, 1].

    An epoch is `steps_per_epoch(batch_size)` batches. The order of epoch e is a pure
    function of (seed, e), so that a stream started at `initial_epoch` yields exactly what
    an unbroken one yields from there on.

    Args:
      batch_size: Images of a step.
      seed: Of the order.
      initial_epoch: Epochs left out.
      initial_step: Batches of the first epoch left out.
      shares: Consecutive rows of each batch, for the replicas of this process: the stream
        then yields each batch as one share after the other. Only their images are decoded.
    """
    self.steps_per_epoch(batch_size)
    rows = slice(shares[0].start, shares[-1].stop) if shares else slice(0, batch_size)
    stored = self._stored_train_batches(batch_size, seed, initial_epoch, initial_step, rows)
    if len(shares) > 1:
      stored = stored.flat_map(lambda images: _shared(images, shares))
    return _finish(stored)

  def steps_per_epoch(self, batch_size: int) -> int:
    """floor(n / batch_size) training batches.

    The remainder of each epoch's shuffle is dropped: the objective's marginals are taken
    over the batch (eq (35)), so that a smaller batch would be another objective.

    Raises:
      InputError: `batch_size` is smaller than 2 or larger than the training split.
    """
    n = self.size("train")
    if not 2 <= batch_size <= n:
      raise InputError(
          f"expected a batch_size from 2 to the {n} training images of {self.name!r}, got"
          f" {batch_size}; the objective compares the images of a batch with each other."
      )
    return n // batch_size


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayData(ImageData):
  """A data set held in memory.

  Attributes:
    arrays_by_split: For each split, images [N, H, W, C] (uint8, or float32 in [0, 1]) and
      labels int64 [N] or None.
    factors_by_split: For each split, int64 [N, F]; empty where they are unknown.
  """

  arrays_by_split: dict[str, Arrays] = dataclasses.field(repr=False)
  factors_by_split: dict[str, np.ndarray] = dataclasses.field(
      default_factory=dict, repr=False, kw_only=True
  )

  @property
  def sizes(self):
    return {split: len(images) for split, (images, _) in self.arrays_by_split.items()}

  def _stored_batches(self, split, batch_size):
    images, labels = self.arrays_by_split[split]
    labels = _no_labels(len(images)) if labels is None else labels
    with tf.device("CPU:0"):
      images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
    starts = tf.data.Dataset.range(0, len(images), batch_size)
    return starts.map(
        lambda start: (
            images[start : start + batch_size],
            labels[start : start + batch_size],
        )
    )

  def _stored_factors(self, split, count):
    return self.factors_by_split[split][:count]

  def _stored_train_batches(self, batch_size, seed, initial_epoch, initial_step, rows):
    with tf.device("CPU:0"):
      images = tf.convert_to_tensor(self.arrays_by_split["train"][0])
    indices = tf.range(len(images), dtype=tf.int64)

    def shuffled_batches(epoch):
      order = tf.random.experimental.stateless_shuffle(indices, seed=[seed, epoch])
      return tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)

    epochs = tf.data.Dataset.range(initial_epoch, _LAST_EPOCH)
    return epochs.flat_map(shuffled_batches).skip(initial_step).map(
        lambda order: tf.gather(images, order[rows]),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedData(ImageData):
  """A data set that is read and decoded as it goes.

  Records pass through the pipeline in batches, and a batch is parsed and decoded in one
  call: for small images, handling each record singly costs more than decoding it.

  Attributes:
    records: For each split, a dataset of its records in file order: scalars, or structures
      of them, that only `parse` looks into.
    split_sizes: Number of records of each split.
    parse: Turns a batch of records into encoded images [B] and labels int64 [B], -1 where
      there is none.
    decode: Turns an encoded image into a uint8 image [H, W, C].
    window: Training records shuffled at a time.
    parse_factors: Turns a batch of records into int64 [B, F]; None without factors.
  """

  records: dict[str, tf.data.Dataset] = dataclasses.field(repr=False)
  split_sizes: dict[str, int]
  parse: Callable[..., tuple[tf.Tensor, tf.Tensor]] = dataclasses.field(repr=False)
  decode: Callable[[tf.Tensor], tf.Tensor] = dataclasses.field(repr=False)
  window: int
  parse_factors: Callable[..., tf.Tensor] | None = dataclasses.field(
      default=None, repr=False, kw_only=True
  )

  @property
  def sizes(self):
    return self.split_sizes

  @property
  def stored_bytes(self) -> int:
    """Bytes that all decoded images take, one per pixel and channel."""
    return sum(self.sizes.values()) * math.prod(self.image_shape)

  def in_memory(self) -> ArrayData:
    """The same data set, read whole.

    Raises:
      InputError: The stored records are damaged.
    """
    try:
      arrays_by_split = {split: self._read(split) for split in self.splits}
      factors_by_split = {
          split: self._stored_factors(split, self.size(split))
          for split in self.splits if self.factor_names
      }
    except tf.errors.OpError as error:
      raise InputError(
          f"expected readable records of {self.name!r}, got {first_line(error)!r}; delete"
          " the prepared data set and prepare it again."
      ) from error
    return ArrayData(
        self.name, self.image_shape, self.class_names, arrays_by_split,
        factor_names=self.factor_names, factors_by_split=factors_by_split,
    )

  def _read(self, split):
    images = np.empty((self.size(split), *self.image_shape), np.uint8)
    labels = np.empty([self.size(split)], np.int64)
    start = 0
    for image, label in self._stored_batches(split, batch_size=1000):
      images[start : start + len(image)] = image.numpy()
      labels[start : start + len(image)] = label.numpy()
      start += len(image)
    return images, None if self.class_names is None else labels

  def _stored_batches(self, split, batch_size):
    return self._decoded(self.records[split].batch(batch_size))

  def _stored_factors(self, split, count):
    batches = self.records[split].take(count).batch(1000).map(self.parse_factors)
    found = [batch.numpy() for batch in batches]
    num_factors = len(self.factor_names or ())
    return np.concatenate(found) if found else np.zeros((0, num_factors), np.int64)

  def _stored_train_batches(self, batch_size, seed, initial_epoch, initial_step, rows):
    def shuffled_batches(epoch):
      windows = _shuffled_windows(self.records["train"], self.window, [seed, epoch])
      return windows.rebatch(batch_size, drop_remainder=True)

    epochs = tf.data.Dataset.range(initial_epoch, _LAST_EPOCH)
    batches = epochs.flat_map(shuffled_batches).skip(initial_step)
    return self._decoded(batches, rows).map(lambda images, labels: images)

  def _decoded(self, batches, rows=slice(None)):
    """(images, labels) of these rows of batches of records; the other rows are not parsed."""

    def decode_batch(records):
      chosen = tf.nest.map_structure(lambda part: part[rows], records)
      encoded, labels = self.parse(chosen)
      return _decode_each(self.decode, encoded, self.image_shape), labels

    decoded = batches.map(decode_batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _on_own_threads(decoded)


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
      central 148x148 pixels and resized to 64x64. `shapes` are made here (`imae_tf.shapes`).
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


def _open(dataset, holdout, image_size) -> ImageData:
  if dataset == "digits":
    _refuse_image_size(dataset, image_size)
    return _digits(holdout)
  if dataset.partition(":")[0] == "shapes":
    _refuse_image_size(dataset, image_size)
    return _shapes(dataset, holdout)
  if dataset.endswith(".npz"):
    _refuse_image_size(dataset, image_size)
    return _npz(dataset, holdout)
  if _is_folder(dataset):
    return _folder(dataset, lambda n: _train_test_bounds(n, holdout), image_size)
  return _tfds(dataset, holdout, image_size)


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
    images = _check_images(_load_numpy(source), source)
    data: ImageData = ArrayData(source, images.shape[1:], None, {"all": (images, None)})
    split = "all"
  elif not source.endswith(".npz") and _is_folder(source):
    data, split = _folder(source, lambda n: {"all": (0, n)}, image_size=None), "all"
  else:
    # Read as it goes, for the other splits are not needed.
    data = _open(source, holdout=0, image_size=None)
  _check_positive("batch_size", batch_size)
  return data.size(split), _numpy_batches(data, split, batch_size)


def _numpy_batches(data, split, batch_size):
  try:
    yield from data.batches(split, batch_size).as_numpy_iterator()
  except tf.errors.OpError as error:
    raise InputError(
        f"expected readable images in {data.name!r}, got {first_line(error)!r}; replace or"
        " remove what is damaged."
    ) from error


# --- sources -------------------------------------------------------------------------------


def _digits(holdout):
  import sklearn.datasets  # pylint: disable=g-import-not-at-top

  digits = sklearn.datasets.load_digits()
  images = (digits.images / 16).astype(np.float32)[..., np.newaxis]
  names = tuple(str(name) for name in digits.target_names)
  return _from_arrays("digits", images, digits.target.astype(np.int64), names, holdout)


def _shapes(name, holdout):
  sizes = shapes.grid(name)
  order = shapes.order(sizes)
  bounds = _train_test_bounds(len(order), holdout)
  _check_sizes(name, bounds)
  per_shape = len(order) // sizes["shape"]  # which varies slowest
  # What never varies is no factor.
  varying = [k for k, size in enumerate(sizes.values()) if size > 1]
  axes = tf.constant(list(sizes.values()), tf.int64)
  return StreamedData(
      name,
      shapes.IMAGE_SHAPE,
      shapes.SHAPES[: sizes["shape"]],
      records={
          split: tf.data.Dataset.from_tensor_slices(order[start:stop])
          for split, (start, stop) in bounds.items()
      },
      split_sizes={split: stop - start for split, (start, stop) in bounds.items()},
      parse=lambda places: (places, places // per_shape),
      decode=lambda place: shapes.draw(place[None], sizes)[0],
      window=len(order),  # numbers alone
      factor_names=tuple(tuple(sizes)[k] for k in varying),
      parse_factors=lambda places: tf.gather(
          tf.transpose(tf.unravel_index(places, axes)), varying, axis=1
      ),
  )


def _npz(path, holdout):
  archive = _load_numpy(path)
  if "x" not in archive:
    raise InputError(
        f"expected images under the name 'x' in {path}, got {_listing(archive)}; save them"
        " with np.savez(path, x=images, y=labels)."
    )
  images = _check_images(archive["x"], path)
  if "y" not in archive:
    return _from_arrays(path, images, None, None, holdout)
  values, labels = np.unique(_check_labels(archive["y"], len(images), path), return_inverse=True)
  names = tuple(str(value) for value in values)
  return _from_arrays(path, images, labels.astype(np.int64), names, holdout)


def _from_arrays(name, images, labels, class_names, holdout):
  bounds = _train_test_bounds(len(images), holdout)
  _check_sizes(name, bounds)
  arrays_by_split = {
      split: (images[start:stop], None if labels is None else labels[start:stop])
      for split, (start, stop) in bounds.items()
  }
  return ArrayData(name, images.shape[1:], class_names, arrays_by_split)


def _folder(path, bounds_of, image_size):
  root = pathlib.Path(path).expanduser()
  paths = sorted(
      file
      for file in root.rglob("*")
      if file.suffix.lower() in _IMAGE_SUFFIXES and not file.name.startswith(".")
  )
  if not paths:
    raise InputError(
        f"expected image files ({', '.join(sorted(_IMAGE_SUFFIXES))}) in {path}, got none;"
        " name a folder that holds some."
    )
  bounds = bounds_of(len(paths))
  _check_sizes(path, bounds)
  shape = _folder_shape(paths, image_size)
  if len(paths) * math.prod(shape) <= MEMORY_LIMIT:
    images = np.stack([_read_image(file, image_size) for file in paths])
    parts: dict[str, Arrays] = {
        split: (images[start:stop], None) for split, (start, stop) in bounds.items()
    }
    return ArrayData(path, shape, None, parts)
  return _streamed_folder(path, paths, shape, bounds, image_size)


def _streamed_folder(name, paths, shape, bounds, image_size):
  def decode(file):
    return tf.numpy_function(
        lambda value: _read_image(pathlib.Path(value.decode()), image_size),
        [file],
        tf.uint8,
        stateful=False,
    )

  files = [str(file) for file in paths]
  return StreamedData(
      name,
      shape,
      None,
      records={
          split: tf.data.Dataset.from_tensor_slices(files[start:stop])
          for split, (start, stop) in bounds.items()
      },
      split_sizes={split: stop - start for split, (start, stop) in bounds.items()},
      parse=lambda batch: (batch, _unlabelled(batch)),
      decode=decode,
      window=len(paths),
  )


def _tfds(name, holdout, image_size):
  builder = _tfds_builder(name)
  image_key, class_names = _tfds_features(name, builder.name, builder.info.features)
  feature = builder.info.features[image_key]
  shape, resize = _tfds_resize(name, builder.name, feature, image_size)
  _prepare(name, builder)
  bounds = _tfds_bounds(name, builder.info.splits, holdout)
  factor_keys = _FACTORS.get(builder.name, ())
  label_key = _label_key(builder.name) if class_names is not None else None
  source = _tfds_source(builder, image_key, label_key, factor_keys)
  return StreamedData(
      name,
      shape,
      class_names,
      records={
          split: source.records(f"{stored}[{start}:{stop}]")
          for split, (stored, (start, stop)) in bounds.items()
      },
      split_sizes={split: stop - start for split, (_, (start, stop)) in bounds.items()},
      parse=source.parse,
      decode=lambda encoded: resize(feature.decode_example(encoded)),
      window=_SHUFFLE_WINDOW,
      factor_names=tuple(key.removeprefix("label_") for key in factor_keys) or None,
      parse_factors=source.factors,
  )


def _label_key(builder_name):
  return "label_shape" if builder_name in _FACTORS else "label"


def _tfds_builder(name):
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  try:
    return tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
  except tfds.core.registered.DatasetNotFoundError:
    raise InputError(_unknown_dataset(name, tfds.list_builders())) from None
  except Exception as error:  # TFDS answers a bad name with many types of exceptions.
    raise InputError(
        "expected 'digits', a TFDS name, a .npz or a folder of images, got"
        f" {name!r}, of which TFDS says: {first_line(error)!r}; correct the name."
    ) from error


def _tfds_features(name, builder_name, features):
  """The key of the image feature, and the class names or None."""
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  keys = _image_keys(features)
  if not keys:
    raise InputError(
        f"expected a TFDS data set with an image feature, got {name!r} with the features"
        f" {_listing(features)}; choose an image data set such as 'mnist'."
    )
  key = "image" if "image" in keys else keys[0]
  if features[key].np_dtype != np.uint8:
    raise InputError(
        f"expected uint8 images, got {np.dtype(features[key].np_dtype)} in the TFDS data set"
        f" {name!r}; convert it to a .npz with x in [0, 1]."
    )
  label_key = _label_key(builder_name)
  label = features[label_key] if label_key in features else None
  names = tuple(label.names) if isinstance(label, tfds.features.ClassLabel) else None
  return key, names


def _image_keys(features):
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  return [key for key in features if isinstance(features[key], tfds.features.Image)]


def _tfds_resize(name, builder_name, feature, image_size):
  """The shape of the images handed out, and the function that brings them to it."""
  if builder_name == "celeb_a":
    size = image_size or (_CELEB_A_SIZE, _CELEB_A_SIZE)
    return (*size, 3), lambda image: _resize(_central_crop(image, _CELEB_A_CROP), size)
  if builder_name == "dsprites":  # stored as 0 and 1
    if not image_size:
      return tuple(feature.shape), lambda image: image * 255
    return (*image_size, 1), lambda image: _resize(image * 255, image_size)
  if image_size:
    return (*image_size, feature.shape[-1]), lambda image: _resize(image, image_size)
  if None in feature.shape:
    raise InputError(
        f"expected images of one size, got the shape {feature.shape} in the TFDS data set"
        f" {name!r}; give an image_size (height, width) to resize them to."
    )
  return tuple(feature.shape), lambda image: image


def _prepare(name, builder):
  if builder.is_prepared():
    return
  try:
    builder.download_and_prepare()
  except Exception as error:  # Network, disk, checksums, manual downloads: any type.
    raise InputError(
        f"expected {name!r} prepared in {builder.data_path}, or a download of it, got"
        f" {type(error).__name__}: {first_line(error)!r}; set TFDS_DATA_DIR to a folder that"
        " holds the prepared data set, or run again with network access."
    ) from error


def _tfds_bounds(name, infos, holdout):
  """For each split, the stored split that it is cut from and its (start, stop)."""
  if "train" not in infos:
    raise InputError(
        f"expected a split 'train' in the TFDS data set {name!r}, got {_listing(infos)};"
        " choose a data set that has one."
    )
  n = infos["train"].num_examples
  if "test" in infos:
    bounds = _holdout_bounds(n, holdout)
    stored = {split: ("train", limits) for split, limits in bounds.items()}
    stored["test"] = ("test", (0, infos["test"].num_examples))
  else:
    bounds = _train_test_bounds(n, holdout)
    stored = {split: ("train", limits) for split, limits in bounds.items()}
  _check_sizes(name, {split: limits for split, (_, limits) in stored.items()})
  return stored


@dataclasses.dataclass(frozen=True)
class _TfdsSource:
  """How `StreamedData` reads and parses a TFDS data set that TFDS parses record by record.

  Attributes:
    builder: Of the prepared data set.
    image_key: Key of the image feature.
    label_key: Key of the label feature; None without labels.
    factor_keys: Keys of the known factors' features.
  """

  builder: Any
  image_key: str
  label_key: str | None
  factor_keys: tuple[str, ...]

  def records(self, split):
    """Dataset of {feature: value} of the image and the label, in file order."""
    import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

    keys = _image_keys(self.builder.info.features)
    examples = self.builder.as_dataset(
        split=split,
        # Encoded images are shuffled, for they are far smaller than decoded ones.
        decoders={key: tfds.decode.SkipDecoding() for key in keys},
        # One file after the other: the order on disk.
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    return examples.map(lambda example: {key: example[key] for key in self._keys})

  def parse(self, batch):
    """(encoded images [B], labels int64 [B]) of a batch of records."""
    images = batch[self.image_key]
    return images, _unlabelled(images) if self.label_key is None else batch[self.label_key]

  def factors(self, batch):
    """int64 [B, F] of a batch of records."""
    return tf.stack([batch[key] for key in self.factor_keys], axis=1)

  @property
  def _keys(self):
    keys = (self.image_key, self.label_key, *self.factor_keys)
    return list(dict.fromkeys(key for key in keys if key is not None))


class _TfdsFiles(_TfdsSource):
  """The same of a data set whose TFRecord files can be read here and parsed in batches."""

  def records(self, split):
    """Dataset of serialized `tf.train.Example`s in file order."""
    parts = self.builder.info.splits[split].file_instructions
    files = tf.data.Dataset.from_tensor_slices((
        [os.fspath(part.filename) for part in parts],
        np.array([part.skip for part in parts], np.int64),
        np.array([part.take for part in parts], np.int64),
    ))
    records = files.flat_map(
        lambda file, skip, take: tf.data.TFRecordDataset(file, buffer_size=_READ_BYTES)
        .skip(skip)
        .take(take)
    )
    # A file that ends early, between two records, is an error.
    count = sum(part.take for part in parts)
    return records.apply(tf.data.experimental.assert_cardinality(count))

  def parse(self, batch):
    return super().parse(self._examples(batch))

  def factors(self, batch):
    return super().factors(self._examples(batch))

  def _examples(self, batch):
    spec = {
        key: tf.io.FixedLenFeature([], tf.string if key == self.image_key else tf.int64)
        for key in self._keys
    }
    return tf.io.parse_example(batch, spec)


def _tfds_source(builder, image_key, label_key, factor_keys):
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  info = builder.info
  # The types themselves, for a subclass may be stored in another way.
  plain = (
      isinstance(builder, tfds.core.dataset_builder.FileReaderBuilder)
      and info.file_format in (None, tfds.core.FileFormat.TFRECORD)
      and type(info.features[image_key]) is tfds.features.Image
      and all(
          type(info.features[key]) is tfds.features.ClassLabel
          for key in (label_key, *factor_keys) if key is not None
      )
  )
  return (_TfdsFiles if plain else _TfdsSource)(builder, image_key, label_key, factor_keys)


# --- splits --------------------------------------------------------------------------------


def _train_test_bounds(n: int, holdout: int) -> Bounds:
  """The first 80% (rounded down) for "train" and "holdout", the rest for "test"."""
  first_test = n * 4 // 5
  return _holdout_bounds(first_test, holdout) | {"test": (first_test, n)}


def _holdout_bounds(n: int, holdout: int) -> Bounds:
  if holdout < 0:
    raise InputError(f"expected a holdout of 0 or more images, got {holdout}; raise it.")
  if not holdout:
    return {"train": (0, n)}
  return {"train": (0, n - holdout), "holdout": (n - holdout, n)}


def _check_sizes(name, bounds):
  sizes = {split: max(0, stop - start) for split, (start, stop) in bounds.items()}
  if sizes.get("train", 2) < 2 or sizes.get("test", 1) < 1:
    raise InputError(
        f"expected at least 2 training images and 1 test image in {name!r}, got"
        f" {sizes['train']} and {sizes['test']}; add images or lower the holdout."
    )


# --- image files ---------------------------------------------------------------------------


def _read_image(path: pathlib.Path, image_size: tuple[int, int] | None) -> np.ndarray:
  """A file as uint8 [H, W, C], C being 1 for grey and 3 for everything else."""
  try:
    with PIL.Image.open(path) as file:
      image = _plain(file, path)
  except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
    if isinstance(error, InputError):
      raise
    raise InputError(
        f"expected a whole image file, got {path}, which cannot be read"
        f" ({first_line(error)}); replace or remove it."
    ) from error
  if image_size:
    image = image.resize(image_size[::-1], PIL.Image.Resampling.BILINEAR)
  pixels = np.asarray(image)
  return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def _plain(image: PIL.Image.Image, path: pathlib.Path) -> PIL.Image.Image:
  """An image of mode L or RGB, transparency laid on white."""
  _check_depth(image, path)
  mode = _plain_mode(image)
  if not image.has_transparency_data:
    return image.convert(mode)
  white = PIL.Image.new("RGBA", image.size, "white")
  return PIL.Image.alpha_composite(white, image.convert("RGBA")).convert(mode)


def _plain_mode(image):
  return "L" if image.mode in ("1", "L", "LA", "La") else "RGB"


def _check_depth(image, path):
  if image.mode.startswith(("I", "F")):
    raise InputError(
        f"expected 8 bits per channel, got {path} of mode {image.mode!r} (16 or 32 bits);"
        " convert it to an 8-bit PNG."
    )


def _folder_shape(paths, image_size):
  """The (H, W, C) that all files share, from their headers.

  Raises:
    InputError: A file is no image, or differs from the first one.
  """
  first = _header_shape(paths[0], image_size)
  for path in paths[1:]:
    shape = _header_shape(path, image_size)
    if shape != first:
      mend = "make them all grey or all RGB" if image_size else "resize it"
      raise InputError(
          f"expected images of one shape, {first} as {paths[0]} has, got {shape} in {path};"
          f" {mend}, or remove it."
      )
  return first


def _header_shape(path, image_size):
  try:
    with PIL.Image.open(path) as image:
      _check_depth(image, path)
      height, width = image_size or image.size[::-1]
      return height, width, 1 if _plain_mode(image) == "L" else 3
  except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
    raise InputError(
        f"expected an image file, got {path}, which cannot be read"
        f" ({first_line(error)}); replace or remove it."
    ) from error


# --- arrays --------------------------------------------------------------------------------


def _load_numpy(path):
  """The array of a `.npy`, or the dict of arrays of a `.npz`."""
  file = pathlib.Path(path).expanduser()
  if not file.is_file():
    raise InputError(f"expected a file at {path}, got none; correct the path.")
  try:
    with file.open("rb") as stream:  # np.load leaves a damaged .npz open
      loaded = np.load(stream, allow_pickle=False)
      if not isinstance(loaded, np.lib.npyio.NpzFile):
        return loaded if path.endswith(".npy") else {"(a single array)": loaded}
      # Other arrays are not read, only named.
      return {key: loaded[key] if key in ("x", "y") else None for key in loaded.files}
  except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise InputError(
        f"expected a whole NumPy file of plain arrays, got {path}, which cannot be read"
        f" ({first_line(error)}); write it again with np.savez or np.save, without pickled"
        " objects."
    ) from error


def _check_images(x, name) -> np.ndarray:
  """Images as uint8 or float32 [N, H, W, C]."""
  x = np.asarray(x)
  if x.ndim == 3:
    x = x[..., np.newaxis]
  if x.ndim != 4:
    raise InputError(
        f"expected images [N, H, W] or [N, H, W, C] in {name}, got the shape {x.shape};"
        " reshape them."
    )
  if not x.size:
    raise InputError(f"expected images in {name}, got the empty shape {x.shape}; add images.")
  if x.dtype == np.uint8:
    return x
  if not np.issubdtype(x.dtype, np.floating):
    raise InputError(
        f"expected images of uint8, or of floats in [0, 1], in {name}, got {x.dtype};"
        " convert them, for example with x.astype('uint8')."
    )
  return _check_range(x.astype(np.float32), name)


def _check_range(x, name):
  low, high = x.min(), x.max()  # NaN if there is one.
  if not np.isfinite(low) or not np.isfinite(high):
    raise InputError(
        f"expected finite pixels in [0, 1] in {name}, got NaN or infinity; remove these"
        " images."
    )
  if low < 0 or high > 1:
    raise InputError(
        f"expected float pixels in [0, 1] in {name}, got values from {low:g} to {high:g};"
        " rescale them, for example with x / 255."
    )
  return x


def _check_labels(y, n, name):
  y = np.asarray(y)
  if y.shape != (n,) or not np.issubdtype(y.dtype, np.integer):
    raise InputError(
        f"expected integer labels 'y' of shape ({n},) in {name}, got {y.dtype} of shape"
        f" {y.shape}; convert them or leave 'y' out."
    )
  return y


# --- tensors -------------------------------------------------------------------------------


def _shared(images, shares):
  """The rows of one process's images as one element per replica."""
  first = shares[0].start
  bounds = tf.constant([(share.start - first, share.stop - first) for share in shares])
  return tf.data.Dataset.from_tensor_slices(bounds).map(lambda b: images[b[0] : b[1]])


def _finish(stored: tf.data.Dataset) -> tf.data.Dataset:
  """Scales batches of stored images and prefetches them."""
  images = stored.map(_to_float, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
  return images.prefetch(tf.data.AUTOTUNE)


def _on_own_threads(dataset):
  """Lets a pipeline run on threads of its own, as many as TensorFlow's.

  On TensorFlow's the operations of a training step would queue behind whole batches that are
  being decoded.
  """
  options = tf.data.Options()
  threads = tf.config.threading.get_inter_op_parallelism_threads() or os.cpu_count()
  options.threading.private_threadpool_size = threads
  return dataset.with_options(options)


def _to_float(images: tf.Tensor) -> tf.Tensor:
  if images.dtype == tf.uint8:
    return tf.cast(images, tf.float32) / 255
  return images


def _shuffled_windows(records, window, seed):
  """Runs of `window` records, each shuffled by itself, as a pure function of `seed`.

  `Dataset.shuffle` would also depend on TensorFlow's global seed.
  """

  def shuffled(index, run):
    rows = tf.range(tf.shape(tf.nest.flatten(run)[0])[0])
    run_seed = tf.random.fold_in(seed, index)
    order = tf.random.experimental.stateless_shuffle(rows, seed=run_seed)
    return tf.nest.map_structure(lambda part: tf.gather(part, order), run)

  # One run is read ahead while the one before it is handed out.
  return records.batch(window).prefetch(1).enumerate().map(shuffled)


def _decode_each(decode, encoded, shape):
  """Encoded images [B] as uint8 [B, H, W, C].

  A turn of `tf.map_fn`'s loop costs as much as decoding a small image. Where the size of the
  batch is known, as in training, a turn therefore takes several images.
  """
  size = encoded.shape[0] or 1
  per_turn = max(n for n in range(1, _IMAGES_PER_TURN + 1) if size % n == 0)

  def decode_some(part):
    return tf.stack([tf.ensure_shape(decode(one), shape) for one in tf.unstack(part)])

  images = tf.map_fn(
      decode_some,
      tf.reshape(encoded, [-1, per_turn]),
      fn_output_signature=tf.TensorSpec((per_turn, *shape), tf.uint8),
  )
  return tf.reshape(images, [-1, *shape])


def _central_crop(image, size):
  height, width = image.shape[:2]
  top, left = (height - size) // 2, (width - size) // 2
  return image[top : top + size, left : left + size]


def _resize(image, size):
  resized = tf.image.resize(image, size, antialias=True)
  return tf.cast(tf.round(tf.clip_by_value(resized, 0, 255)), tf.uint8)


def _unlabelled(images):
  """Labels of a batch that has none, [B]."""
  return tf.fill(tf.shape(images)[:1], tf.constant(-1, tf.int64))


def _no_labels(n):
  return np.full([n], -1, np.int64)


# --- names and messages --------------------------------------------------------------------


def _is_folder(source):
  """Whether `source` is a folder; raises if it is written like a path and is none."""
  path = pathlib.Path(source).expanduser()
  looks_like_path = source.startswith(("/", ".", "~")) or source.endswith("/")
  if path.is_dir():
    return looks_like_path or "/" in source or not _known_to_tfds(source)
  if looks_like_path or (path.is_file() and not _known_to_tfds(source)):
    raise InputError(
        f"expected a .npz or a folder of images at {source}, got"
        f" {'another kind of file' if path.is_file() else 'nothing'}; correct the path."
    )
  return False


def _known_to_tfds(name):
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  return name in tfds.list_builders()


def _unknown_dataset(name, tfds_names):
  close = difflib.get_close_matches(name, ["digits", "shapes", *tfds_names], n=3)
  hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "correct the name."
  return (
      "expected 'digits', 'shapes', a TFDS name (such as 'mnist', 'fashion_mnist' or 'celeb_a'),"
      f" the path of a .npz or a folder of images, got {name!r}; {hint}"
  )


def _refuse_image_size(name, image_size):
  if image_size:
    raise InputError(
        f"expected no image_size for {name!r}, whose images are arrays already, got"
        f" {image_size}; leave it out."
    )


def _check_positive(name, value):
  if value < 1:
    raise InputError(f"expected a {name} of 1 or more, got {value}; raise it.")


def _listing(names):
  return ", ".join(repr(name) for name in names) or "nothing"

"""Images as tf.data pipelines: a data set held in memory, or one read as it goes.

Images are float32 [N, H, W, C] in [0, 1], whatever the source. Labels, where they exist, are
for evaluation alone: no training batch holds them.
"""

import abc
import dataclasses
import hashlib
import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from imae_tf.data import stages
from imae_tf.data.preparation import Preparation
from imae_tf.errors import first_line
from imae_tf.errors import InputError

_RECORDS_IN_CHECKSUM = 256

# The images of a split and their labels.
Arrays = tuple[np.ndarray, np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class Source:
  """The files of a folder that a data set was read from.

  Attributes:
    names: For each split, the files' paths below the folder, in the order of the images.
    unreadable: {name: what is wrong} of the files that were passed over.
    labels: "folders" or the path of a CSV, where labels were asked for.
  """

  names: dict[str, tuple[str, ...]] = dataclasses.field(repr=False)
  unreadable: dict[str, str] = dataclasses.field(repr=False)
  labels: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData(abc.ABC):
  """A data set of images of one shape, in named splits.

  Attributes:
    name: What `data.load` was asked for.
    image_shape: (H, W, C).
    class_names: The name of label i at index i; None without labels.
    factor_names: Of the factors that the images were made from; None where they are unknown.
    identity: Gives the checksum of `fingerprint`, where something better is at hand than the
      pixels or the first records.
    preparation: What was done to the images, where they may be of any size; else None.
    source: Of a folder: its files.

  >>> import imae_tf
  >>> digits = imae_tf.data.load("digits")
  >>> digits.image_shape, digits.splits, digits.size("test")
  ((8, 8, 1), ('train', 'test'), 360)
  """

  name: str
  image_shape: tuple[int, int, int]
  class_names: tuple[str, ...] | None
  factor_names: tuple[str, ...] | None = dataclasses.field(default=None, kw_only=True)
  identity: Callable[[], str] | None = dataclasses.field(default=None, repr=False, kw_only=True)
  preparation: Preparation | None = dataclasses.field(default=None, kw_only=True)
  source: Source | None = dataclasses.field(default=None, repr=False, kw_only=True)

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

  @abc.abstractmethod
  def _checksum(self) -> str:
    """Of the images, where `identity` does not give one."""

  def fingerprint(self) -> dict[str, Any]:
    """What tells these images from others: {"n": how many, "checksum": of their bytes}.

    It does not depend on the path or the held-out images. Of arrays all bytes count; of folders
    the files' names below the folder, their sizes and content (of 256 files among them above
    256 MiB or 10,000 files); of TFDS the first records.

    >>> import imae_tf
    >>> imae_tf.data.load("digits").fingerprint()["n"]
    1797
    """
    checksum = self.identity() if self.identity else self._checksum()
    return {"n": sum(self.sizes.values()), "checksum": checksum}

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

    >>> import imae_tf
    >>> x, labels = imae_tf.data.load("digits").arrays("test", limit=2)
    >>> x.shape, labels.tolist()
    ((2, 8, 8, 1), [2, 3])
    """
    count = self.size(split) if limit is None else min(limit, self.size(split))
    parts, label_parts = [], []
    remaining = count
    for stored, label in self._stored_batches(split, batch_size=1000):
      if remaining <= 0:
        break
      parts.append(stages.to_float(stored[:remaining]).numpy())
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

    >>> import imae_tf
    >>> batches = imae_tf.data.load("digits").batches("test", 200)
    >>> [len(batch) for batch in batches]
    [200, 160]
    """
    self.size(split)
    if batch_size < 1:
      raise InputError(f"expected a batch_size of 1 or more, got {batch_size}; raise it.")
    images = self._stored_batches(split, batch_size).map(lambda stored, label: stored)
    return stages.finish(images)

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

    >>> import imae_tf
    >>> stream = imae_tf.data.load("digits").train_batches(32, seed=0)
    >>> next(iter(stream)).shape
    TensorShape([32, 8, 8, 1])
    """
    self.steps_per_epoch(batch_size)
    rows = slice(shares[0].start, shares[-1].stop) if shares else slice(0, batch_size)
    stored = self._stored_train_batches(batch_size, seed, initial_epoch, initial_step, rows)
    if len(shares) > 1:
      stored = stored.flat_map(lambda images: stages.shared(images, shares))
    return stages.finish(stored)

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
          f" {batch_size}; {'raise' if batch_size < 2 else 'lower'} it: the objective compares the"
          " images of a batch with each other."
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
  def sizes(self) -> dict[str, int]:
    return {split: len(images) for split, (images, _) in self.arrays_by_split.items()}

  def _checksum(self) -> str:
    parts = [images for images, _ in self.arrays_by_split.values()]
    digest = hashlib.blake2b(f"{parts[0].dtype}{self.image_shape}".encode(), digest_size=16)
    for part in parts:  # in file order, wherever they are cut
      digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()

  def _stored_batches(self, split: str, batch_size: int) -> tf.data.Dataset:
    images, labels = self.arrays_by_split[split]
    labels = np.full([len(images)], -1, np.int64) if labels is None else labels
    with tf.device("CPU:0"):
      images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
    starts = tf.data.Dataset.range(0, len(images), batch_size)
    return starts.map(
        lambda start: (
            images[start : start + batch_size],
            labels[start : start + batch_size],
        )
    )

  def _stored_factors(self, split: str, count: int) -> np.ndarray:
    return self.factors_by_split[split][:count]

  def _stored_train_batches(
      self, batch_size: int, seed: int, initial_epoch: int, initial_step: int, rows: slice
  ) -> tf.data.Dataset:
    with tf.device("CPU:0"):
      images = tf.convert_to_tensor(self.arrays_by_split["train"][0])
    order = stages.shuffled_rows(self.size("train"), batch_size, seed, initial_epoch, initial_step)
    return order.map(
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
    stored: What is known of all records without reading them, such as their sizes.
  """

  records: dict[str, tf.data.Dataset] = dataclasses.field(repr=False)
  split_sizes: dict[str, int]
  parse: Callable[..., tuple[tf.Tensor, tf.Tensor]] = dataclasses.field(repr=False)
  decode: Callable[[tf.Tensor], tf.Tensor] = dataclasses.field(repr=False)
  window: int
  parse_factors: Callable[..., tf.Tensor] | None = dataclasses.field(
      default=None, repr=False, kw_only=True
  )
  stored: str = dataclasses.field(default="", repr=False, kw_only=True)

  @property
  def sizes(self) -> dict[str, int]:
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
        identity=self.identity or self._checksum, preparation=self.preparation,
        source=self.source,
    )

  def _checksum(self) -> str:
    uncut = self.records["train"]
    if "holdout" in self.records:
      uncut = uncut.concatenate(self.records["holdout"])
    digest = hashlib.blake2b(self.stored.encode(), digest_size=16)
    for records in (uncut, self.records["test"]):
      for record in records.take(_RECORDS_IN_CHECKSUM).as_numpy_iterator():
        for part in tf.nest.flatten(record):
          digest.update(part if isinstance(part, bytes) else np.asarray(part).tobytes())
    return digest.hexdigest()

  def are_dim(self, count: int = 1024) -> bool:
    """Whether no pixel of the first `count` images is above 1 of 255 (black, or 0 and 1)."""
    highest = 0
    try:
      for images, _ in self._stored_batches(self.splits[0], 64).take(-(-count // 64)):
        highest = max(highest, int(tf.reduce_max(images)))
        if highest > 1:
          return False
    except tf.errors.OpError:
      return False  # who reads them is told
    return highest == 1

  def _read(self, split: str) -> Arrays:
    images = np.empty((self.size(split), *self.image_shape), np.uint8)
    labels = np.empty([self.size(split)], np.int64)
    start = 0
    for image, label in self._stored_batches(split, batch_size=1000):
      images[start : start + len(image)] = image.numpy()
      labels[start : start + len(image)] = label.numpy()
      start += len(image)
    return images, None if self.class_names is None else labels

  def _stored_batches(self, split: str, batch_size: int) -> tf.data.Dataset:
    return self._decoded(self.records[split].batch(batch_size))

  def _stored_factors(self, split: str, count: int) -> np.ndarray:
    batches = self.records[split].take(count).batch(1000).map(self.parse_factors)
    found = [batch.numpy() for batch in batches]
    num_factors = len(self.factor_names or ())
    return np.concatenate(found) if found else np.zeros((0, num_factors), np.int64)

  def _stored_train_batches(
      self, batch_size: int, seed: int, initial_epoch: int, initial_step: int, rows: slice
  ) -> tf.data.Dataset:
    def shuffled_batches(epoch: tf.Tensor) -> tf.data.Dataset:
      windows = stages.shuffled_windows(self.records["train"], self.window, [seed, epoch])
      return windows.rebatch(batch_size, drop_remainder=True)

    epochs = tf.data.Dataset.range(initial_epoch, stages.LAST_EPOCH)
    batches = epochs.flat_map(shuffled_batches).skip(initial_step)
    return self._decoded(batches, rows).map(lambda images, labels: images)

  def _decoded(self, batches: tf.data.Dataset, rows: slice = slice(None)) -> tf.data.Dataset:
    """(images, labels) of these rows of batches of records; the other rows are not parsed."""

    def decode_batch(records: Any) -> tuple[tf.Tensor, tf.Tensor]:
      chosen = tf.nest.map_structure(lambda part: part[rows], records)
      encoded, labels = self.parse(chosen)
      return stages.decode_each(self.decode, encoded, self.image_shape), labels

    decoded = batches.map(decode_batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return stages.on_own_threads(decoded)

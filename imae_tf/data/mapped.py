"""A data set whose decoded images are in a file: what `decoded_cache` keeps."""

import dataclasses
import hashlib

import numpy as np
import tensorflow as tf

from imae_tf.data import pipelines
from imae_tf.data import stages


@dataclasses.dataclass(frozen=True, eq=False)
class MappedData(pipelines.ImageData):
  """Decoded images in a file, of which the system holds in memory what has room.

  Attributes:
    images: uint8 [N, H, W, C], a memory map.
    rows: For each split, the rows of its images, int64.
    labels: int64 [N] or None.
  """

  images: np.ndarray = dataclasses.field(repr=False)
  rows: dict[str, np.ndarray] = dataclasses.field(repr=False)
  labels: np.ndarray | None = dataclasses.field(default=None, repr=False)

  @property
  def sizes(self) -> dict[str, int]:
    return {split: len(rows) for split, rows in self.rows.items()}

  def _checksum(self) -> str:
    digest = hashlib.blake2b(f"{self.images.dtype}{self.image_shape}".encode(), digest_size=16)
    places = np.sort(np.concatenate(list(self.rows.values())))  # wherever they are cut
    for start in range(0, len(places), 1000):
      digest.update(self.images[places[start : start + 1000]].data)
    return digest.hexdigest()

  def _taken(self, rows: tf.Tensor) -> tf.Tensor:
    images = tf.numpy_function(lambda r: self.images[r], [rows], tf.uint8, stateful=False)
    images.set_shape([rows.shape[0], *self.image_shape])
    return images

  def _stored_batches(self, split: str, batch_size: int) -> tf.data.Dataset:
    labels = np.full([len(self.images)], -1, np.int64) if self.labels is None else self.labels
    batches = tf.data.Dataset.from_tensor_slices(self.rows[split]).batch(batch_size)
    return batches.map(lambda rows: (self._taken(rows), tf.gather(labels, rows)))

  def _stored_factors(self, split: str, count: int) -> np.ndarray:
    raise NotImplementedError("files of images tell no factors")

  def _stored_train_batches(
      self, batch_size: int, seed: int, initial_epoch: int, initial_step: int, rows: slice
  ) -> tf.data.Dataset:
    order = stages.shuffled_rows(self.size("train"), batch_size, seed, initial_epoch, initial_step)
    places = tf.constant(self.rows["train"])
    return order.map(
        lambda order: self._taken(tf.gather(places, order[rows])),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )

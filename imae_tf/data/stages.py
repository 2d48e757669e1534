"""Stages of the pipelines: sharing among replicas, shuffling by a seed, decoding, scaling."""

import os
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

LAST_EPOCH = np.iinfo(np.int64).max
_IMAGES_PER_TURN = 16


def shared(images: tf.Tensor, shares: Sequence[slice]) -> tf.data.Dataset:
  """The rows of one process's images as one element per replica."""
  first = shares[0].start
  bounds = tf.constant([(share.start - first, share.stop - first) for share in shares])
  return tf.data.Dataset.from_tensor_slices(bounds).map(lambda b: images[b[0] : b[1]])


def finish(stored: tf.data.Dataset) -> tf.data.Dataset:
  """Scales batches of stored images and prefetches them."""
  images = stored.map(to_float, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
  return images.prefetch(tf.data.AUTOTUNE)


def on_own_threads(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """Lets a pipeline run on threads of its own, as many as TensorFlow's.

  On TensorFlow's the operations of a training step would queue behind whole batches that are
  being decoded.
  """
  options = tf.data.Options()
  threads = tf.config.threading.get_inter_op_parallelism_threads() or os.cpu_count()
  options.threading.private_threadpool_size = threads
  return dataset.with_options(options)


def to_float(images: tf.Tensor) -> tf.Tensor:
  """Stored images in [0, 1]: uint8 divided by 255, others as they are."""
  if images.dtype == tf.uint8:
    return tf.cast(images, tf.float32) / 255
  return images


def shuffled_rows(
    n: int, batch_size: int, seed: int, initial_epoch: int, initial_step: int
) -> tf.data.Dataset:
  """Batches of the numbers below n, each epoch shuffled as a pure function of (seed, epoch)."""
  indices = tf.range(n, dtype=tf.int64)

  def shuffled_batches(epoch: tf.Tensor) -> tf.data.Dataset:
    order = tf.random.experimental.stateless_shuffle(indices, seed=[seed, epoch])
    return tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)

  epochs = tf.data.Dataset.range(initial_epoch, LAST_EPOCH)
  return epochs.flat_map(shuffled_batches).skip(initial_step)


def shuffled_windows(
    records: tf.data.Dataset, window: int, seed: Sequence[int | tf.Tensor]
) -> tf.data.Dataset:
  """Runs of `window` records, each shuffled by itself, as a pure function of `seed`.

  `Dataset.shuffle` would also depend on TensorFlow's global seed.
  """

  def shuffled(index: tf.Tensor, run: Any) -> Any:
    rows = tf.range(tf.shape(tf.nest.flatten(run)[0])[0])
    run_seed = tf.random.fold_in(seed, index)
    order = tf.random.experimental.stateless_shuffle(rows, seed=run_seed)
    return tf.nest.map_structure(lambda part: tf.gather(part, order), run)

  # One run is read ahead while the one before it is handed out.
  return records.batch(window).prefetch(1).enumerate().map(shuffled)


def decode_each(
    decode: Callable[[tf.Tensor], tf.Tensor], encoded: tf.Tensor, shape: tuple[int, int, int]
) -> tf.Tensor:
  """Encoded images [B] as uint8 [B, H, W, C].

  A turn of `tf.map_fn`'s loop costs as much as decoding a small image. Where the size of the
  batch is known, as in training, a turn therefore takes several images.
  """
  size = encoded.shape[0] or 1
  per_turn = max(n for n in range(1, _IMAGES_PER_TURN + 1) if size % n == 0)

  def decode_some(part: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.ensure_shape(decode(one), shape) for one in tf.unstack(part)])

  images = tf.map_fn(
      decode_some,
      tf.reshape(encoded, [-1, per_turn]),
      fn_output_signature=tf.TensorSpec((per_turn, *shape), tf.uint8),
  )
  return tf.reshape(images, [-1, *shape])


def unlabelled(images: tf.Tensor) -> tf.Tensor:
  """Labels of a batch of images that has none: int64 [B], all -1."""
  return tf.fill(tf.shape(images)[:1], tf.constant(-1, tf.int64))

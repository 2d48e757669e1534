"""Lets the replicas of one training job compute the objective of their common, global batch.

The objective is a function of the whole batch: the marginals average over it, eq (35), and each
row has its own noise. If each replica averaged over its own rows alone, the result would be
another objective. So each replica gathers what it needs of all rows and computes the terms of its
own rows. The sums over replicas then equal the sums of one replica that has the whole batch.
`models` calls this in each training step.
"""

import tensorflow as tf


class GlobalBatch:
  """The images that all replicas hold in one step, in the order of the replicas.

  With one replica, or outside of `tf.distribute`, it is the batch itself. Every replica must
  construct one and call the same methods in the same order, because these calls communicate.

  Args:
    x: [M, ...], this replica's images; M may differ between replicas, and be 0.

  Attributes:
    size: N, the number of images of all replicas.
    first_row: the row of this replica's first image among them.
  """

  def __init__(self, x: tf.Tensor):
    self._num_rows = tf.shape(x)[0]
    self._context = _parallel_context()
    self.size, self.first_row = self._num_rows, tf.zeros([], tf.int32)
    if self._context:
      sizes = self._context.all_gather(self._num_rows[None], axis=0)
      replica = tf.cast(self._context.replica_id_in_sync_group, tf.int32)
      earlier = tf.range(tf.shape(sizes)[0]) < replica
      self.size = tf.reduce_sum(sizes)
      self.first_row = tf.reduce_sum(tf.where(earlier, sizes, 0))

  def gather(self, rows: tf.Tensor) -> tf.Tensor:
    """[M, ...] of this replica to [N, ...] of all of them; gradients flow back to each."""
    if not self._context:
      return rows
    everyone = self._context.all_gather(rows, axis=0)
    return tf.ensure_shape(everyone, [None, *rows.shape[1:]])

  def own(self, rows: tf.Tensor) -> tf.Tensor:
    """[N, ...] of all replicas to the [M, ...] of this one."""
    if not self._context:
      return rows
    return rows[self.first_row : self.first_row + self._num_rows]

  def sum(self, tensor: tf.Tensor) -> tf.Tensor:
    """The sum of a tensor over all replicas, the same on each."""
    return self._context.all_reduce("SUM", tensor) if self._context else tensor

  def mean(self, rows: tf.Tensor) -> tf.Tensor:
    """The mean of a vector [M] over all N images, the same on each replica; no gradient."""
    total = self.sum(tf.reduce_sum(tf.stop_gradient(rows)))
    return total / tf.cast(tf.maximum(self.size, 1), rows.dtype)

  def one_log(self, value: tf.Tensor) -> tf.Tensor:
    """A scalar equal on all replicas, in the shape in which Keras can merge it.

    Keras merges the logs of several workers along their first axis, which a scalar lacks.
    """
    if self._context and _spans_workers(self._context.strategy):
      return value[None]
    return value


def _parallel_context() -> tf.distribute.ReplicaContext | None:
  context = tf.distribute.get_replica_context()
  return context if context and context.num_replicas_in_sync > 1 else None


def _spans_workers(strategy: tf.distribute.Strategy) -> bool:
  return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)

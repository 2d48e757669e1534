"""Aggregate-posterior log densities, eq (35): the encoder averaged over images.

The marginals p(z_k), p(y) and p(y, z) are mixtures with one component per image,

    log p(z_i) ~ log (1/N) sum_j p(z_i | x_j).

*Naive*: the code's own image, j = i, is a component; information is then at most log N
and biased down. *Leave-one-out*: the own image is left out and N - 1 divides;
information is biased up. In expectation they bracket I(x; z).

y is never sampled: for each z_i all K2 values of log p(y, z_i) come from one product of
an [M, N] and an [N, K2] matrix.
"""

import typing

import numpy as np
import tensorflow as tf

_HALF_LOG_2PI = 0.5 * float(np.log(2.0 * np.pi))


class LogMarginals(typing.NamedTuple):
  """Log densities of M codes under the aggregate posterior, in nats.

  Attributes:
    z: [M, K1], log p(z_ik) of each dimension.
    y: [M, K2], log p(y) (the rows are equal unless the own image is left out).
    yz: [M, K2], log p(y, z_i) for every category y.
  """

  z: tf.Tensor
  y: tf.Tensor
  yz: tf.Tensor


def log_normal(z, mean, log_scale):
  """Elementwise log N(z; mean, exp(log_scale)^2), in nats; shapes broadcast."""
  standardized = (z - mean) * tf.exp(-log_scale)
  return -0.5 * tf.square(standardized) - log_scale - _HALF_LOG_2PI


def log_marginals(z, mean, log_scale, log_y, *, leave_one_out=False, first_row=0):
  """Log densities of codes under the mixture of the encoder over N images, eq (35).

  Args:
    z: [M, K1], sampled codes; row m was drawn from image `first_row + m`.
    mean: [N, K1], means of p(z|x_j).
    log_scale: [N, K1], log standard deviations of p(z|x_j).
    log_y: [N, K2], log p(y|x_j).
    leave_one_out: leave the own image of each code out of its mixture.
    first_row: row of the first code among the N images.

  Returns:
    `LogMarginals`.
  """
  num_codes, num_images = tf.shape(z)[0], tf.shape(mean)[0]
  log_density = log_normal(z[:, None, :], mean[None], log_scale[None])  # [M, N, K1]
  others = tf.ones([num_codes, num_images])
  if leave_one_out:
    rows = first_row + tf.range(num_codes)
    others = 1.0 - tf.one_hot(rows, num_images)
    log_density = tf.where(others[:, :, None] > 0.0, log_density, -np.inf)
  log_count = tf.math.log(tf.reduce_sum(others, axis=1, keepdims=True))  # [M, 1]
  p_y = tf.exp(log_y)
  log_joint = tf.reduce_sum(log_density, axis=2)  # [M, N], log p(z_i | x_j)
  top = tf.stop_gradient(tf.reduce_max(log_joint, axis=1, keepdims=True))
  return LogMarginals(
      z=tf.reduce_logsumexp(log_density, axis=1) - log_count,
      y=_safe_log(others @ p_y) - log_count,
      yz=_safe_log(tf.exp(log_joint - top) @ p_y) + top - log_count,
  )


def dataset_log_marginals(z, mean, log_scale, log_y, *, leave_one_out=False, block_size=128):
  """`log_marginals` of n codes among n images, in blocks of rows.

  Memory grows as block_size x n x K1: 10,000 codes of 10 dimensions stay within 1 GiB.

  Args:
    z: [n, K1] array, one sampled code per image.
    mean: [n, K1] array.
    log_scale: [n, K1] array.
    log_y: [n, K2] array.
    leave_one_out: as in `log_marginals`.
    block_size: codes per block.

  Returns:
    `LogMarginals` of NumPy arrays, [n, K1] and twice [n, K2].
  """
  posterior = [tf.convert_to_tensor(a, tf.float32) for a in (mean, log_scale, log_y)]

  @tf.function(reduce_retracing=True)
  def block(codes, first_row):
    return log_marginals(codes, *posterior, leave_one_out=leave_one_out, first_row=first_row)

  z = tf.convert_to_tensor(z, tf.float32)
  starts = range(0, z.shape[0], block_size)
  blocks = [block(z[i : i + block_size], tf.constant(i)) for i in starts]
  return LogMarginals(*(np.concatenate(parts) for parts in zip(*blocks)))


def _safe_log(x):
  """log(x) with a finite value and no gradient where float32 underflows to 0."""
  return tf.math.log(tf.maximum(x, np.finfo(np.float32).tiny))

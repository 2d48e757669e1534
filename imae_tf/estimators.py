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
# Pairs x dimensions at a time: 16 MiB a tensor, which is faster than less and than more.
_BLOCK_SIZE = 2**22


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


def log_marginals(
    z, mean, log_scale, log_y, *, leave_one_out=False, first_row=0, block_size=_BLOCK_SIZE
):
  """Log densities of codes under the mixture of the encoder over N images, eq (35).

  The M x N pairs are taken in blocks of rows, whose densities the backward pass computes
  again: memory grows as `block_size`, or as N x K1 where one row is more than that, and
  never as M x N x K1.

  Args:
    z: [M, K1], sampled codes; row m was drawn from image `first_row + m`.
    mean: [N, K1], means of p(z|x_j).
    log_scale: [N, K1], log standard deviations of p(z|x_j).
    log_y: [N, K2], log p(y|x_j).
    leave_one_out: leave the own image of each code out of its mixture.
    first_row: row of the first code among the N images.
    block_size: pairs x dimensions of a block.

  Returns:
    `LogMarginals`.
  """
  z, mean, log_scale, log_y = (tf.cast(a, tf.float32) for a in (z, mean, log_scale, log_y))
  num_codes = tf.shape(z)[0]
  rows = tf.clip_by_value(block_size // tf.maximum(tf.size(mean), 1), 1, num_codes + 1)
  num_blocks = tf.maximum(-(-num_codes // rows), 1)  # a replica can be without images
  # Filled up to whole blocks, for XLA wants slices of one size.
  filled = tf.pad(z, [[0, num_blocks * rows - num_codes], [0, 0]])
  codes = tf.reshape(filled, [num_blocks, rows, z.shape[1]])
  first_rows = first_row + rows * tf.range(num_blocks)

  def block(part):
    codes, first_row = part
    own = first_row + tf.range(rows) if leave_one_out else None
    of_codes = tf.recompute_grad(lambda *arrays: _block_log_marginals(*arrays, own))
    return of_codes(codes, mean, log_scale, log_y)

  blocks = tf.map_fn(
      block,
      (codes, first_rows),
      fn_output_signature=(tf.float32,) * 3,
      parallel_iterations=1,  # more would only hold more blocks; each uses all cores
  )
  return LogMarginals(*(_unblocked(part, num_codes) for part in blocks))


def _block_log_marginals(z, mean, log_scale, log_y, own):
  """(log p(z_ik), log p(y), log p(y, z_i)) of the R codes of a block.

  `own` is None or [R], the image to leave out for each code. Images lie along the last
  axis, over which sums are fastest.
  """
  density = log_normal(
      z[:, :, None], tf.transpose(mean), tf.transpose(log_scale)
  )  # [R, K1, N], log p(z_ik | x_j)
  others = tf.ones([tf.shape(z)[0], tf.shape(mean)[0]])
  if own is not None:
    others -= tf.one_hot(own, tf.shape(mean)[0])
    density = tf.where(others[:, None] > 0.0, density, -np.inf)
  log_count = tf.math.log(tf.reduce_sum(others, axis=1, keepdims=True))
  p_y = tf.exp(log_y)
  joint = tf.reduce_sum(density, axis=1)  # [R, N], log p(z_i | x_j)
  top = tf.stop_gradient(tf.reduce_max(joint, axis=1, keepdims=True))
  return (
      tf.reduce_logsumexp(density, axis=2) - log_count,
      _safe_log(others @ p_y) - log_count,
      _safe_log(tf.exp(joint - top) @ p_y) + top - log_count,
  )


def _unblocked(blocks, num_codes):
  return tf.reshape(blocks, [-1, blocks.shape[2]])[:num_codes]


def _safe_log(x):
  """log(x) with a finite value and no gradient where float32 underflows to 0."""
  return tf.math.log(tf.maximum(x, np.finfo(np.float32).tiny))

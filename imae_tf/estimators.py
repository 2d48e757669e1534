"""Estimates the marginals p(z_k), p(y) and p(y, z): the encoder averaged over images, eq (35).

`models` calls these functions on a batch in each training step, and `metrics.dataset_information`
on a whole data set. The marginals are mixtures with one component per image,

    log p(z_i) ~ log (1/N) sum_j p(z_i | x_j).

There are three versions. *Naive*: the code's own image, j = i, is a component. An information is
then at most log N and biased down. *Leave-one-out*: the own image is left out, and the sum is
divided by N - 1. An information is then biased up. In expectation the two bracket I(x; z).

*Other half*: the components are the images of that half of the batch which does not contain the
code's own image, as if i and j ran over different batches. An information is then biased up.

y is never sampled: for each z_i all K2 values of log p(y, z_i) come from one product of
an [M, N] and an [N, K2] matrix.
"""

import typing
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

_HALF_LOG_2PI = 0.5 * float(np.log(2.0 * np.pi))
# Pairs x dimensions in a block: 16 MiB a tensor; smaller and larger blocks are both slower.
_BLOCK_SIZE = 2**22
_TINY = np.finfo(np.float32).tiny


class LogMarginals(typing.NamedTuple):
  """Log densities of M codes under the aggregate posterior, in nats.

  Attributes:
    z: [M, K1], log p(z_ik) of each dimension.
    y: [M, K2], log p(y) (the rows are equal unless the own image is left out).
    yz: [M, K2], log p(y, z_i) for every category y.
  """

  z: Tensor
  y: Tensor
  yz: Tensor


def log_normal(
    z: Tensor, mean: Tensor | float, log_scale: Tensor | float
) -> Tensor:
  """Elementwise log N(z; mean, exp(log_scale)^2), in nats; shapes broadcast.

  >>> print(log_normal(tf.constant([1.0]), 1.0, 0.0).numpy().round(4))  # -ln(2 pi) / 2
  [-0.9189]
  """
  standardized = (z - mean) * tf.exp(-log_scale)
  return -0.5 * tf.square(standardized) - log_scale - _HALF_LOG_2PI


def log_marginals(
    z: Tensor,
    mean: Tensor,
    log_scale: Tensor,
    log_y: Tensor,
    *,
    leave_one_out: bool = False,
    first_row: int | Tensor = 0,
    block_size: int = _BLOCK_SIZE,
) -> LogMarginals:
  """Log densities of codes under the mixture of the encoder over N images, eq (35).

  The M x N pairs are processed in blocks of rows, and the backward pass computes the densities of
  a block again. So memory grows as `block_size`, or as N x K1 if one row is larger than a block,
  and never as M x N x K1.

  Args:
    z: [M, K1], sampled codes; row m was drawn from image `first_row + m`.
    mean: [N, K1], means of p(z|x_j).
    log_scale: [N, K1], log standard deviations of p(z|x_j).
    log_y: [N, K2], log p(y|x_j).
    leave_one_out: whether the own image of each code is left out of its mixture.
    first_row: row of the first code among the N images.
    block_size: pairs x dimensions of a block.

  Returns:
    `LogMarginals`.

  >>> mean = tf.constant([[-9.0], [9.0]])  # two images of separate codes
  >>> log_p_z = log_marginals(mean, mean, tf.zeros([2, 1]), tf.zeros([2, 1])).z
  >>> print(log_p_z[:, 0].numpy().round(4))  # half the density of its own: -0.9189 - ln 2
  [-1.6121 -1.6121]
  """
  z, mean, log_scale, log_y = (tf.cast(a, tf.float32) for a in (z, mean, log_scale, log_y))
  # A size that is not known yet takes the blocks: XLA cannot compile a tf.cond of the two.
  sizes = z.shape.as_list() + mean.shape.as_list()
  if None not in sizes and z.shape[0] * mean.shape.num_elements() <= block_size:
    own = first_row + tf.range(z.shape[0])
    return LogMarginals(*_of_block(z, mean, log_scale, log_y, own, leave_one_out))
  num_codes = tf.shape(z)[0]
  rows = tf.clip_by_value(block_size // tf.maximum(tf.size(mean), 1), 1, num_codes + 1)
  num_blocks = tf.maximum(-(-num_codes // rows), 1)  # a replica can be without images
  # Filled up to whole blocks, because XLA wants slices of one size.
  filled = tf.pad(z, [[0, num_blocks * rows - num_codes], [0, 0]])
  codes = tf.reshape(filled, [num_blocks, rows, z.shape[1]])
  own = first_row + tf.reshape(tf.range(num_blocks * rows), [num_blocks, rows])

  def forgetful(part: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    codes, own = part
    of_block = tf.recompute_grad(lambda z, m, s, y: _of_block(z, m, s, y, own, leave_one_out))
    return of_block(codes, mean, log_scale, log_y)

  blocks = tf.map_fn(
      forgetful,
      (codes, own),
      fn_output_signature=(tf.float32,) * 3,
      parallel_iterations=1,  # more would only hold more blocks; each uses all cores
  )
  return LogMarginals(
      *(tf.reshape(part, [-1, part.shape[2]])[:num_codes] for part in blocks)
  )


def log_marginals_of_other_half(
    z: Tensor, mean: Tensor, log_scale: Tensor, log_y: Tensor, *, first_row: int | Tensor = 0
) -> LogMarginals:
  """`log_marginals` over that half of the N images which does not contain a code's own image.

  The halves are the first N // 2 images and the rest; N >= 2. Arguments as in `log_marginals`.

  >>> mean = tf.constant([[0.0], [2.0]])
  >>> log_p_z = log_marginals_of_other_half(mean, mean, tf.zeros([2, 1]), tf.zeros([2, 1])).z
  >>> print(log_p_z[:, 0].numpy().round(4))  # N(0; 2, 1) and N(2; 0, 1): -0.9189 - 2
  [-2.9189 -2.9189]
  """
  middle = tf.shape(mean)[0] // 2
  in_first = (first_row + tf.range(tf.shape(z)[0]) < middle)[:, None]
  images = (mean, log_scale, log_y)
  of_first = log_marginals(z, *(part[:middle] for part in images))
  of_second = log_marginals(z, *(part[middle:] for part in images))
  return LogMarginals(*(tf.where(in_first, b, a) for a, b in zip(of_first, of_second)))


def _of_block(
    z: Tensor, mean: Tensor, log_scale: Tensor, log_y: Tensor, own: Tensor, leave_one_out: bool
) -> tuple[Tensor, ...]:
  """(log p(z_ik), log p(y), log p(y, z_i)) of the R codes of a block.

  With d_ikj = log N(z_ik; mu_jk, sigma_jk), t_ikj = (z_ik - mu_jk) / sigma_jk and u_ikj the
  loss's derivative in d_ikj, its gradients are -sum_j u t / sigma in z, sum_i u t / sigma in
  mu and sum_i u (t^2 - 1) in log sigma. Automatic differentiation would keep some twenty
  [R, K1, N] tensors, and take longer; here t and d are kept.
  """
  num_codes, num_images = tf.shape(z)[0], tf.shape(mean)[0]
  others = tf.ones([num_codes, num_images])
  if leave_one_out:
    others -= tf.one_hot(own, num_images)
  log_count = tf.math.log(tf.reduce_sum(others, axis=1, keepdims=True))

  @tf.custom_gradient
  def marginals(
      z: Tensor, mean: Tensor, log_scale: Tensor, log_y: Tensor
  ) -> tuple[tuple[Tensor, ...], Callable[..., tuple[Tensor, ...]]]:
    # Images lie along the last axis, over which sums are fastest.
    mean, log_scale = tf.transpose(mean), tf.transpose(log_scale)
    inverse_scale = tf.exp(-log_scale)
    p_y = tf.exp(log_y)

    t = (z[:, :, None] - mean) * inverse_scale  # [R, K1, N]
    d = -0.5 * tf.square(t) - (log_scale + _HALF_LOG_2PI)
    if leave_one_out:
      d = tf.where(others[:, None] > 0.0, d, -np.inf)
    joint = tf.reduce_sum(d, axis=1)  # [R, N], log p(z_i | x_j)
    top = tf.reduce_max(joint, axis=1, keepdims=True)
    ratio = tf.exp(joint - top)
    log_sum_z = tf.reduce_logsumexp(d, axis=2)
    sum_y, sum_yz = others @ p_y, ratio @ p_y

    def gradients(grad_z: Tensor, grad_y: Tensor, grad_yz: Tensor) -> tuple[Tensor, ...]:
      grad_sum_y, grad_sum_yz = _over(grad_y, sum_y), _over(grad_yz, sum_yz)
      u = tf.exp(d - log_sum_z[:, :, None]) * grad_z[:, :, None]
      u += (ratio * tf.matmul(grad_sum_yz, p_y, transpose_b=True))[:, None]
      ut = u * t
      grad_p_y = tf.matmul(ratio, grad_sum_yz, transpose_a=True)
      grad_p_y += tf.matmul(others, grad_sum_y, transpose_a=True)
      return (
          -tf.reduce_sum(ut * inverse_scale, axis=2),
          tf.transpose(tf.reduce_sum(ut, axis=0) * inverse_scale),
          tf.transpose(tf.reduce_sum(ut * t - u, axis=0)),
          grad_p_y * p_y,
      )

    return (log_sum_z, _safe_log(sum_y), _safe_log(sum_yz) + top), gradients

  return tuple(part - log_count for part in marginals(z, mean, log_scale, log_y))


def _safe_log(x: Tensor) -> Tensor:
  """log(x), with a finite value if x has underflowed to 0 in float32."""
  return tf.math.log(tf.maximum(x, _TINY))


def _over(gradient: Tensor, x: Tensor) -> Tensor:
  """The gradient in x of _safe_log(x)."""
  return tf.where(x > _TINY, gradient / tf.maximum(x, _TINY), 0.0)

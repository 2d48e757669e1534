"""Virtual adversarial training, the second term of eq (12).

    E_x max_{|r| <= eps} H(p(y|x), p(y|x+r))

`models` adds `loss` to the terms of each training step. The maximising r is found with one
forward and backward pass (Miyato et al. 2016, arXiv:1507.00677). The target p(y|x) gets no
gradient: H(p, q) contains H(y|x), so with gradients through both arguments the pull to a constant
p(y|x) wins, and y collapses to one category.

`log_p_y` below is any function from images [B, H, W, C] to log p(y|x) [B, K2]. Where y's layers
see a view of the image (`networks.views`), x and r are views, [B, V], and lengths are theirs.
"""

from collections.abc import Callable

import tensorflow as tf
from tensorflow import Tensor


def direction(
    log_p_y: Callable[[Tensor], Tensor],
    x: Tensor,
    target_log_y: Tensor,
    noise: Tensor,
    xi: float | Tensor,
) -> Tensor:
  """The unit direction in which p(y|x + r) leaves the target fastest.

  The function makes one power iteration: it takes the gradient of the cross-entropy
  H(p(y|x), p(y|x+r)) at r = xi d, where d is a random unit direction. (This gradient in r equals
  that of the KL divergence.)

  Args:
    log_p_y: images -> log p(y|x).
    x: [B, H, W, C] images.
    target_log_y: [B, K2], log p(y|x).
    noise: [B, H, W, C], standard normal.
    xi: length of the step at which the gradient is taken, in pixel units: a number, or [B].

  Returns:
    [B, H, W, C], unit length per image, detached.

  >>> log_p_y = lambda x: tf.nn.log_softmax(tf.reshape(x, [-1, 2]))  # two pixels as logits
  >>> x, noise = tf.constant([[[[0.0, 0.0]]]]), tf.constant([[[[1.0, 0.0]]]])
  >>> print(direction(log_p_y, x, log_p_y(x), noise, xi=0.1).numpy().round(4))  # -+1 / sqrt(2)
  [[[[ 0.7071 -0.7071]]]]
  """
  start = _per_image(xi, x) * _unit(noise)
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(start)
    divergence = tf.reduce_sum(cross_entropy(target_log_y, log_p_y(x + start)))
  return tf.stop_gradient(_unit(tape.gradient(divergence, start)))


def cross_entropy(target_log_y: Tensor, log_y: Tensor, detach: bool = True) -> Tensor:
  """H(p, q) = -sum_y p(y) log q(y); [B], in nats.

  Args:
    target_log_y: [B, K2], log p.
    log_y: [B, K2], log q.
    detach: whether the target p gets no gradient.

  >>> print(cross_entropy(tf.math.log([[0.5, 0.5]]), tf.math.log([[0.25, 0.75]])).numpy().round(4))
  [0.837]
  """
  target = tf.exp(target_log_y)
  return -tf.reduce_sum((tf.stop_gradient(target) if detach else target) * log_y, axis=1)


def loss(
    log_p_y: Callable[[Tensor], Tensor],
    x: Tensor,
    target_log_y: Tensor,
    noise: Tensor,
    *,
    radius: float | Tensor,
    xi: float | Tensor,
    detach: bool = True,
) -> Tensor:
  """max_{|r| <= radius} H(p(y|x), p(y|x+r)) of each image, eq (12); [B], in nats.

  Args:
    log_p_y: images -> log p(y|x).
    x: [B, H, W, C] images.
    target_log_y: [B, K2], log p(y|x).
    noise: [B, H, W, C], standard normal.
    radius: eps, the Euclidean length of r in pixel units: a number, or [B].
    xi: see `direction`.
    detach: whether the target p(y|x) gets no gradient.

  >>> log_p_y = lambda x: tf.nn.log_softmax(tf.reshape(x, [-1, 2]))  # two pixels as logits
  >>> x, noise = tf.constant([[[[0.0, 0.0]]]]), tf.constant([[[[1.0, 0.0]]]])
  >>> worst = loss(log_p_y, x, log_p_y(x), noise, radius=2**0.5, xi=0.1)
  >>> print(worst.numpy().round(4))  # at the logits (1, -1): -(ln s(2) + ln s(-2)) / 2
  [1.1269]
  """
  r = _per_image(radius, x) * direction(log_p_y, x, target_log_y, noise, xi)
  return cross_entropy(target_log_y, log_p_y(x + r), detach)


def neighbor_radius(
    x: Tensor, fraction: float, *, others: Tensor | None = None, first_row: int | Tensor = 0
) -> Tensor:
  """A radius for each image, [B]: `fraction` x the distance to the nearest other image.

  Images in dense regions get a small radius, images in sparse regions a large one. IMSAT (Hu et
  al. 2017, arXiv:1702.08720) takes 0.25 x the distance to the 10th neighbour in the whole data set.
  On MNIST with 250 images a batch, 0.2 x the distance to the nearest is about as large on average
  (1.29 and 1.33 pixels), and it needs no pass over the data before training.

  Args:
    x: [B, H, W, C] images.
    fraction: the part of the distance that is the radius.
    others: [N, H, W, C], the images among which the nearest is sought; None for x.
    first_row: row of the first image of x among the others.

  >>> x = tf.reshape(tf.constant([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]]), [3, 1, 2, 1])
  >>> print(neighbor_radius(x, 0.2).numpy().round(4))  # 0.2 x (5, 1, 1)
  [1.  0.2 0.2]
  """
  images = _flat(x)
  others = images if others is None else _flat(others)
  squared = _squared_norms(images)[:, None] + _squared_norms(others)
  squared -= 2.0 * tf.matmul(images, others, transpose_b=True)
  own = tf.one_hot(first_row + tf.range(tf.shape(images)[0]), tf.shape(others)[0])
  squared = tf.where(own > 0.0, tf.float32.max, squared)
  nearest = tf.maximum(tf.reduce_min(squared, axis=1), 0.0)
  return fraction * tf.sqrt(tf.where(nearest < tf.float32.max, nearest, 0.0))  # 0: alone


def _per_image(length: float | Tensor, x: Tensor) -> Tensor:
  """A number, or [B], in a shape that multiplies x [B, ...]."""
  return tf.reshape(length, [-1] + [1] * (len(x.shape) - 1))


def _flat(x: Tensor) -> Tensor:
  return tf.reshape(x, [tf.shape(x)[0], x.shape[1:].num_elements()])


def _squared_norms(rows: Tensor) -> Tensor:
  return tf.reduce_sum(tf.square(rows), axis=1)


def _unit(x: Tensor) -> Tensor:
  """Scales each row of [B, ...] to unit Euclidean length; a zero row stays zero."""
  axes = list(range(1, len(x.shape)))
  # Gradients of a confident p(y|x) can be as small as 1e-30: scale before squaring.
  x /= tf.reduce_max(tf.abs(x), axis=axes, keepdims=True) + 1e-37
  return x * tf.math.rsqrt(tf.reduce_sum(tf.square(x), axis=axes, keepdims=True) + 1e-12)

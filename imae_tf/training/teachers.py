"""Teachers of y: the votes of several trained models, or a Gaussian mixture, as one-hot targets.

`starts` hands them to a model as its `models.smoothness.Lesson`. They are functions of what y's
layers see, so they can teach on batches of any order.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from scipy.optimize import linear_sum_assignment

from imae_tf.recipes import deriving

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

AGREED = 0.6  # least share of the votes of an image that teaches
Targets = Callable[[tf.Tensor], tf.Tensor]


def votes(
    models: Sequence["HybridAutoencoder"], categories: Sequence[np.ndarray]
) -> Targets:
  """A function, seen [B, V] -> [B, K2]: one-hot where at least 60% of the models agree, else 0.

  Args:
    models: trained models with one view, the best first.
    categories: of each model, [N] of the same images, by which its categories are matched to the
      first model's.
  """
  layers = [model.category_layers for model in models]
  num_categories = models[0].num_categories
  orders = matched(categories, num_categories)

  def targets(seen: tf.Tensor) -> tf.Tensor:
    counts = tf.add_n([
        tf.one_hot(tf.gather(order, tf.argmax(one.log_y(seen, training=False), axis=1)),
                   num_categories)
        for one, order in zip(layers, orders)
    ]) / len(layers)
    agreed = tf.reduce_max(counts, axis=1, keepdims=True) >= AGREED
    return tf.where(agreed, tf.one_hot(tf.argmax(counts, axis=1), num_categories), 0.0)

  return targets


def matched(categories: Sequence[np.ndarray], num_categories: int) -> list[np.ndarray]:
  """For each vector of categories [N], the number [K2] that each gets in the common numbering.

  The first vector is matched to itself, then all to the vote of all, twice more.
  """
  reference = np.asarray(categories[0])
  rows = np.arange(len(reference))
  for _ in range(3):
    orders = [_order(reference, one, num_categories) for one in categories]
    counts = np.zeros([len(rows), num_categories])
    for order, one in zip(orders, categories):
      counts[rows, order[one]] += 1
    reference = counts.argmax(axis=1)
  return orders


def _order(reference: np.ndarray, categories: np.ndarray, num_categories: int) -> np.ndarray:
  overlap = np.zeros([num_categories, num_categories])
  np.add.at(overlap, (categories, reference), 1)
  return linear_sum_assignment(overlap, maximize=True)[1]


def mixture(rows: np.ndarray, num_categories: int, seed: int) -> Targets:
  """A function, seen [B, V] -> [B, K2]: one-hot, the most likely component of a mixture.

  Args:
    rows: [N, V], what y's layers see of the images that the mixture is fitted to.
    num_categories: K2.
    seed: of the mixture's beginnings.
  """
  pca, fit = deriving.mixture(rows, num_categories, seed)
  centre, axes = (tf.constant(part, tf.float32) for part in (pca.mean_, pca.components_.T))
  factors = tf.constant(fit.precisions_cholesky_, tf.float32)  # [K2, D, D]
  means = tf.constant(np.einsum("kd,kde->ke", fit.means_, fit.precisions_cholesky_), tf.float32)
  log_weights = np.log(fit.weights_) + np.log(
      np.diagonal(fit.precisions_cholesky_, axis1=1, axis2=2)
  ).sum(axis=1)
  offsets = tf.constant(log_weights, tf.float32)

  def targets(seen: tf.Tensor) -> tf.Tensor:
    codes = tf.matmul(tf.reshape(seen, [tf.shape(seen)[0], -1]) - centre, axes)
    whitened = tf.einsum("bd,kde->bke", codes, factors) - means
    scores = offsets - 0.5 * tf.reduce_sum(tf.square(whitened), axis=2)
    return tf.one_hot(tf.argmax(scores, axis=1), len(offsets))

  return targets

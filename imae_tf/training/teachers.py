"""Teachers of y: the votes of several trained models, or a Gaussian mixture, as one-hot targets.

`starts` hands them to a model as its `models.smoothness.Lesson`. They are functions of what y's
layers see, so they can teach on batches of any order.
"""

import warnings
from collections.abc import Callable
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import normalize

from imae_tf.recipes import deriving

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

AGREED = 0.4  # least share of the votes of an image that teaches
Targets = Callable[[tf.Tensor], tf.Tensor]


def votes(
    models: Sequence["HybridAutoencoder"],
    categories: Sequence[np.ndarray],
    reference: np.ndarray,
    weights: Sequence[int],
) -> Targets:
  """A function, seen [B, V] -> [B, K2]: one-hot where the models agree, else 0.

  A model that puts an image into its category a votes for each category k of the reference with
  p(k|a), the share of the images in a that the reference has in k. So a category that is two of
  the reference's is not a vote for the wrong one. Images of which no category has 40% of the
  votes teach nothing.

  Args:
    models: trained models with one view.
    categories: of each model, [N] of the same images.
    reference: [N], the categories of these images in whose numbering the models vote.
    weights: number of votes of each model.
  """
  layers = [model.category_layers for model in models]
  num_categories = models[0].num_categories
  tables = [
      tf.constant(weight / sum(weights) * _shares(one, reference, num_categories), tf.float32)
      for one, weight in zip(categories, weights)
  ]

  def targets(seen: tf.Tensor) -> tf.Tensor:
    counts = tf.add_n([
        tf.gather(table, tf.argmax(one.log_y(seen, training=False), axis=1))
        for one, table in zip(layers, tables)
    ])
    agreed = tf.reduce_max(counts, axis=1, keepdims=True) >= AGREED
    return tf.where(agreed, tf.one_hot(tf.argmax(counts, axis=1), num_categories), 0.0)

  return targets


def _shares(categories: np.ndarray, reference: np.ndarray, num_categories: int) -> np.ndarray:
  """[K2, K2], p(k|a); zeros for a category a without images."""
  counts = np.zeros([num_categories, num_categories])
  np.add.at(counts, (categories, reference), 1)
  return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def consensus(
    categories: Sequence[np.ndarray], num_categories: int, seed: int = 0
) -> np.ndarray:
  """Categories [N] that several clusterings of the same N images agree on most.

  Spectral clustering of the bipartite graph of images and the categories that they are in (Fern
  and Brodley, "Solving cluster ensemble problems by bipartite graph partitioning", ICML 2004). It
  needs no matching of the clusterings' numbers, and finds apart two classes that some clusterings
  have in one category, where others tell them apart.

  Args:
    categories: of each clustering, [N] integers from 0 to K2 - 1.
    num_categories: K2.
    seed: of k-means.
  """
  edges = np.concatenate([np.eye(num_categories)[one] for one in categories], axis=1)
  edges = edges[:, edges.any(axis=0)]
  edges /= np.sqrt(edges.sum(axis=0)) * np.sqrt(len(categories))
  vectors = np.linalg.eigh(edges.T @ edges)[1]  # from the least important to the first
  rows = normalize(edges @ vectors[:, -num_categories:])
  with warnings.catch_warnings():  # clusterings that agree on all images have few kinds of rows
    warnings.simplefilter("ignore", ConvergenceWarning)
    return KMeans(min(num_categories, len(rows)), n_init=10, random_state=seed).fit_predict(rows)


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

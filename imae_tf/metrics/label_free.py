"""Measures of categories that need no labels: figures that rank runs, and categories in use.

Training ranks its starts with them, and a search its trials. Information is in nats.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors

from imae_tf.metrics import clustering
from imae_tf.metrics import dataset_information

if TYPE_CHECKING:
  from imae_tf.data.pipelines import ImageData

# The neighbours of `dataset_information.MAX_CODES` images are chosen from this many images. With
# more images a neighbour lies nearer, and is more often of the same class (docs/searching.md).
MAX_NEIGHBORS_AMONG = 60_000
_MOST_NEIGHBORS = 10
# Where images are few, each has more neighbours, because a figure of fewer pairs is noisy.
_NEIGHBOR_PAIRS = 20_000
_NEIGHBOR_BYTES = 2**28


def neighbor_information(categories: np.ndarray, neighbors: np.ndarray) -> float:
  """I(c;c') in nats: c is the category of an image, c' the category of one of its nearest images.

  It is high when categories are used evenly and follow the regions in which images lie close
  together. It is at most the entropy of the categories, and so at most ln K2. It depends on K2 and
  on how densely the images lie: compare only runs on the same images with the same K2.

  Args:
    categories: [N] integers, argmax p(y|x).
    neighbors: [M, k] row numbers of the nearest other images of the first M <= N images.

  >>> neighbors = np.array([[1], [0], [3], [2]])
  >>> round(neighbor_information(np.array([0, 0, 1, 1]), neighbors), 4)  # ln 2
  0.6931
  """
  own = np.repeat(categories[: len(neighbors)], neighbors.shape[1])
  return clustering.mi_y_label(own, categories[neighbors].ravel())


def neighbor_information_of(x: np.ndarray, categories: np.ndarray, seed: int = 0) -> float:
  """`neighbor_information` of images, or of some of them if there are many.

  If there are more than `dataset_information.MAX_CODES` images, that many are used, and their
  neighbours come from up to MAX_NEIGHBORS_AMONG images. Both are drawn at random, because files are
  often sorted by class.

  Args:
    x: [N, H, W, C] images.
    categories: [N] integers, argmax p(y|x).
    seed: seed of the choice if there are many images.

  >>> x = np.array([0.0, 0.1, 0.9, 1.0]).reshape(4, 1, 1, 1)
  >>> round(neighbor_information_of(x, np.array([0, 0, 0, 0])), 4)  # one category says nothing
  0.0
  """
  if len(x) > dataset_information.MAX_CODES:
    some = np.random.default_rng(seed).permutation(len(x))
    some = some[: _most_neighbors_among(x.shape[1:])]
    x, categories = x[some], categories[some]
  return neighbor_information(categories, nearest_images(x))


def agreement(runs: Sequence[ArrayLike]) -> list[float]:
  """Mean normalised mutual information of each run's categories with those of the other runs.

  It is high for a run whose categories most other runs repeat. Chance merges different classes in
  each run, so what the runs have in common comes from the images. With fewer than three runs all
  values are equal.

  Args:
    runs: a vector [N] of integers for each run, argmax p(y|x) of the same images. A single run has
      the value 1.

  >>> found = agreement([[0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1]])  # the third is on its own
  >>> [round(score, 4) for score in found]
  [0.5, 0.5, 0.0]
  """
  if len(runs) == 1:
    return [1.0]
  table = np.array([[clustering.nmi(one, other) for other in runs] for one in runs])
  return ((table.sum(axis=1) - 1.0) / (len(runs) - 1)).tolist()


def nearest_images(
    x: np.ndarray, first: int = dataset_information.MAX_CODES, count: int | None = None
) -> np.ndarray:
  """[M, k] row numbers of the nearest other images of the first M images, by distance of pixels.

  Args:
    x: [N, H, W, C] images.
    first: M; N if there are fewer images.
    count: k; None for 20,000 / M, at most ten. It is N - 1 if there are fewer other images.

  >>> x = np.array([0.0, 0.1, 0.9, 1.0]).reshape(4, 1, 1, 1)
  >>> nearest_images(x, count=1).tolist()
  [[1], [0], [3], [2]]
  """
  rows = np.reshape(x, [len(x), -1])
  first = min(first, len(x))
  count = count or min(max(_NEIGHBOR_PAIRS // first, 1), _MOST_NEIGHBORS)
  count = min(count, len(x) - 1)
  search = NearestNeighbors(n_neighbors=count + 1, algorithm="brute").fit(rows)
  found = search.kneighbors(rows[:first], return_distance=False)
  # Each is its own nearest, unless twins come before it.
  own = found == np.arange(first)[:, None]
  own[~own.any(axis=1), -1] = True
  return found[~own].reshape(first, count)


def neighborhood(
    data: "ImageData", split: str, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
  """Images on which runs are ranked without labels, and the nearest images of the first M.

  Args:
    data: the data set.
    split: its images come first, up to `dataset_information.MAX_CODES` of them. Training images
      follow, up to MAX_NEIGHBORS_AMONG in all. If these would take more than 256 MB, there are only
      as many as fit, but at least `dataset_information.MAX_CODES`.
    seed: seed of the choice among training images.

  Returns:
    x: [N, H, W, C] images in [0, 1], and `nearest_images(x, M)`: [M, k].
  """
  most = _most_neighbors_among(data.image_shape)
  if split == "train":
    x = data.sample("train", most, seed)
    x = x[np.random.default_rng(seed).permutation(len(x))]  # files are often sorted by class
    return x, nearest_images(x, dataset_information.MAX_CODES)
  x = data.sample(split, dataset_information.MAX_CODES, seed)
  first, rest = len(x), min(most - len(x), data.size("train"))
  if rest > 1:
    x = np.concatenate([x, data.sample("train", rest, seed)])
  return x, nearest_images(x, first)


def _most_neighbors_among(image_shape: Sequence[int]) -> int:
  """How many images of a shape are kept in memory to search for neighbours."""
  fitting = _NEIGHBOR_BYTES // (4 * int(np.prod(image_shape)))
  return max(min(fitting, MAX_NEIGHBORS_AMONG), dataset_information.MAX_CODES)


def used_categories(categories: np.ndarray, num_categories: int, share: float = 0.01) -> int:
  """How many categories have at least `share` x N / K2 images, and at least one image.

  Args:
    categories: [N] integers, argmax p(y|x).
    num_categories: K2.
    share: a part of N / K2, the images of each category if all had the same number.

  >>> used_categories(np.array([0, 0, 0, 2]), num_categories=4)
  2
  """
  counts = np.bincount(categories, minlength=num_categories)
  return int(np.sum(counts >= max(1.0, share * len(categories) / num_categories)))

"""Categories without labels: what ranks runs, and how many categories are in use.

Information is in nats.
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

# The neighbours of `dataset_information.MAX_CODES` images are chosen from this many. The more
# there are, the nearer a neighbour lies, and the surer it is of the same class
# (docs/searching.md).
MAX_NEIGHBORS_AMONG = 60_000
_MOST_NEIGHBORS = 10
# Where images are few, each has more neighbours, because a figure of fewer pairs is noisy.
_NEIGHBOR_PAIRS = 20_000
_NEIGHBOR_BYTES = 2**28


def neighbor_information(categories: np.ndarray, neighbors: np.ndarray) -> float:
  """I(c;c'), c the category of an image and c' that of one of its nearest, in nats.

  It is high when categories are used evenly and follow the regions in which images lie close
  together; it is at most the entropy of the categories, and so ln K2. It depends on how
  densely the images lie and on K2: compare runs on the same images and with the same K2.

  Args:
    categories: [N] integers, argmax p(y|x).
    neighbors: [M, k] rows of the nearest others of the first M <= N images.

  >>> neighbors = np.array([[1], [0], [3], [2]])
  >>> round(neighbor_information(np.array([0, 0, 1, 1]), neighbors), 4)  # ln 2
  0.6931
  """
  own = np.repeat(categories[: len(neighbors)], neighbors.shape[1])
  return clustering.mi_y_label(own, categories[neighbors].ravel())


def neighbor_information_of(x: np.ndarray, categories: np.ndarray, seed: int = 0) -> float:
  """`neighbor_information` of images, or of some of them where there are many.

  Where there are more than `dataset_information.MAX_CODES`, that many are looked at, and their
  neighbours come from up to MAX_NEIGHBORS_AMONG images. Both are drawn at random, because
  files are often sorted by class.

  Args:
    x: [N, H, W, C] images.
    categories: [N] integers, argmax p(y|x).
    seed: of the choice among many images.

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
  """Mean normalised mutual information of each run's categories with those of the others.

  It is high for the run that most others repeat: chance merges different classes in each run,
  and all share what the images themselves suggest. It takes three runs to tell any apart.

  Args:
    runs: [N] integers each, argmax p(y|x) of the same images. A single one has 1.

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
  """[M, k] rows of the nearest others of the first M images, by distance of pixels.

  Args:
    x: [N, H, W, C] images.
    first: M; N where there are fewer.
    count: k; None for 20,000 / M, ten at most. N - 1 where there are fewer others.

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
  """Images on which runs are ranked without labels, and the nearest others of the first.

  Args:
    data: the data set.
    split: whose images come first, up to `dataset_information.MAX_CODES` of them; training
      images follow, up to MAX_NEIGHBORS_AMONG in all. Where these would take more than 256 MB,
      there are as many as fit in it, and `dataset_information.MAX_CODES` at least.
    seed: of the choice among training images.

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
  """How many images of a shape are kept in memory for a search of neighbours."""
  fitting = _NEIGHBOR_BYTES // (4 * int(np.prod(image_shape)))
  return max(min(fitting, MAX_NEIGHBORS_AMONG), dataset_information.MAX_CODES)


def used_categories(categories: np.ndarray, num_categories: int, share: float = 0.01) -> int:
  """How many categories have at least `share` x N / K2 images, and one at least.

  Args:
    categories: [N] integers, argmax p(y|x).
    num_categories: K2.
    share: of what each category would have if all had the same.

  >>> used_categories(np.array([0, 0, 0, 2]), num_categories=4)
  2
  """
  counts = np.bincount(categories, minlength=num_categories)
  return int(np.sum(counts >= max(1.0, share * len(categories) / num_categories)))

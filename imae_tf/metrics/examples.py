"""Which images a person should look at: typical ones, those that fit nowhere, near-duplicates.

No labels are needed. The page of a run shows what is found here, with the rules and their numbers.
"""

from typing import NamedTuple
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
from scipy.sparse import csgraph
from sklearn.neighbors import NearestNeighbors

from imae_tf.metrics import measuring

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

LOW_CONFIDENCE = 0.5
FAR = 3.0  # interquartile ranges: what Tukey calls far out
NEAR = 0.1
MAX_COMPARED = 10_000  # the time grows with their number times that of the pixels
_NEIGHBORS = 10
_PAIRS = 10_000  # random ones, whose median says what a usual distance is
_BLOCK = 1_000  # pairs whose pixels are in memory at once


def typical(y: np.ndarray, z: np.ndarray, category: int) -> np.ndarray:
  """Indices of a category's images, those nearest to the mean z of the category first.

  Args:
    y: [N, K2] probabilities.
    z: [N, K1], the posterior means.
    category: the category; its images are those of which it is the likeliest.

  >>> y = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]])
  >>> typical(y, np.array([[0.0], [1.0], [5.0], [2.0]]), 0).tolist()  # their mean is 2
  [1, 0, 2]
  """
  members = np.flatnonzero(y.argmax(axis=1) == category)
  if not len(members):
    return members
  distance = np.linalg.norm(z[members] - z[members].mean(axis=0, dtype=np.float64), axis=1)
  return members[np.argsort(distance, kind="stable")]


def excess_loss(model: "HybridAutoencoder", x: np.ndarray) -> np.ndarray:
  """[N]: how many nats the reconstruction of each image loses beyond a perfect copy.

  Args:
    model: has `reconstruction_loss(x)` and `likelihood`.
    x: [N, H, W, C] images in [0, 1].
  """
  floors = [measuring.reconstruction_floor(image[None], model.likelihood) for image in x]
  return np.asarray(model.reconstruction_loss(x), np.float64) - floors


class Misfits(NamedTuple):
  """Images that fit nowhere.

  Attributes:
    redrawn_badly: Indices of images whose excess loss is above `bound`, the worst first.
    undecided: Indices of images of a confidence below LOW_CONFIDENCE, the lowest first.
    bound: FAR interquartile ranges above the upper quartile of the excess losses, in nats.
  """

  redrawn_badly: np.ndarray
  undecided: np.ndarray
  bound: float


def misfits(excess: np.ndarray, confidence: np.ndarray) -> Misfits:
  """The images that a model redraws far worse than the rest, or puts into no category.

  Args:
    excess: [N], of `excess_loss`.
    confidence: [N], the largest p(y|x) of each image.

  >>> found = misfits(np.array([1.0, 1.1, 1.2, 1.3, 9.0]), np.array([0.9, 0.4, 0.9, 0.2, 0.9]))
  >>> found.redrawn_badly.tolist(), found.undecided.tolist()
  ([4], [3, 1])
  """
  low, high = np.quantile(excess, [0.25, 0.75])
  bound = float(high + FAR * (high - low))
  far, unsure = np.flatnonzero(excess > bound), np.flatnonzero(confidence < LOW_CONFIDENCE)
  return Misfits(
      far[np.argsort(-excess[far], kind="stable")],
      unsure[np.argsort(confidence[unsure], kind="stable")],
      bound,
  )


def near_duplicates(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> list[np.ndarray]:
  """Groups of images that are nearly the same, by pixels and by codes.

  Two images are near if the root mean square of their difference and the distance of their codes
  (y, z) are both at most NEAR times the median over random pairs of images. Each image is compared
  with the ten whose codes are nearest; equal ones are found however many there are.

  Args:
    x: [N, H, W, C] images; of more than MAX_COMPARED the first count.
    y: [N, K2] probabilities.
    z: [N, K1], the posterior means.

  Returns:
    An array of two or more indices, ascending, for each group; the largest group first.

  >>> x = np.linspace(0, 1, 8).reshape(8, 1, 1, 1)
  >>> x[5] = x[2]
  >>> [group.tolist() for group in near_duplicates(x, np.ones([8, 1]), x[:, 0, 0])]
  [[2, 5]]
  """
  n = min(len(x), MAX_COMPARED)
  if n < 2:
    return []
  rows = np.reshape(x[:n], [n, -1])
  codes = np.concatenate([y[:n], z[:n]], axis=1)
  some = np.random.default_rng(0).integers(0, n, [_PAIRS, 2])
  some = some[some[:, 0] != some[:, 1]]
  near_pixels = NEAR * np.median(_differences(rows, some))
  near_codes = NEAR * np.median(np.linalg.norm(codes[some[:, 0]] - codes[some[:, 1]], axis=1))
  count = min(_NEIGHBORS + 1, n)
  distances, neighbors = NearestNeighbors(n_neighbors=count).fit(codes).kneighbors(codes)
  pairs = np.stack([np.repeat(np.arange(n), count), neighbors.ravel()], axis=1)
  pairs = pairs[(distances.ravel() <= near_codes) & (pairs[:, 0] < pairs[:, 1])]
  pairs = pairs[_differences(rows, pairs) <= near_pixels]
  return _groups(n, np.concatenate([pairs, _equal(rows)]))


def _differences(rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
  """The root mean square difference of the rows of each pair."""
  found = [
      np.sqrt(np.mean(np.square(rows[some[:, 0]] - rows[some[:, 1]], dtype=np.float64), axis=1))
      for some in np.split(pairs, range(_BLOCK, len(pairs), _BLOCK))
  ]
  return np.concatenate(found)


def _equal(rows: np.ndarray) -> np.ndarray:
  """[P, 2]: each row that was there before, with the first one."""
  first: dict[bytes, int] = {}
  pairs = [
      (first.setdefault(row.tobytes(), place), place) for place, row in enumerate(rows)
  ]
  return np.array([pair for pair in pairs if pair[0] != pair[1]], int).reshape(-1, 2)


def _groups(n: int, pairs: np.ndarray) -> list[np.ndarray]:
  linked = scipy.sparse.coo_array((np.ones(len(pairs)), pairs.T), shape=(n, n))
  _, group_of = csgraph.connected_components(linked, directed=False)
  members: dict[int, list[int]] = {}
  for place in np.unique(pairs).tolist():
    members.setdefault(int(group_of[place]), []).append(place)
  groups = [np.array(group) for group in members.values()]
  return sorted(groups, key=lambda group: (-len(group), group[0]))

"""Compares categories with labels: clustering accuracy, NMI, ARI, and classical baselines.

`measuring.evaluate`, reports and callbacks call these functions. Labels are used only to measure:
no model is trained on them. Information is in nats.
"""

import numpy as np
import threadpoolctl
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from sklearn import metrics as sk_metrics
from sklearn.cluster import AgglomerativeClustering
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier

from imae_tf.errors import InputError
from imae_tf.metrics import checks

# The baselines use no more training images than this, so that all three together take less than
# a minute on MNIST.
MAX_BASELINE_IMAGES = 10_000
# Ward keeps all pairwise distances in memory.
MAX_WARD_IMAGES = 5_000
# A Gaussian mixture with full covariances needs few dimensions.
MAX_MIXTURE_COMPONENTS = 20
# K-means on the 3,072 numbers of a small photo takes minutes; on this many principal components
# of larger images, seconds.
_FEW_NUMBERS = 1_000
_COMPONENTS = 100
# Five starts on 10,000 images would take longer than all other figures together.
MAX_MIXTURE_IMAGES = 2_500


def hungarian(
    labels: ArrayLike, categories: ArrayLike, num_categories: int
) -> tuple[dict[int, int], np.ndarray]:
  """The one-to-one matching of categories to classes under which most images agree.

  The classes are the distinct labels, sorted. If there are more categories than classes, the
  surplus categories stay unmatched and all their images count as wrong. If there are fewer, the
  surplus classes stay unmatched, and their images count as wrong.

  Args:
    labels: [N] integers, the true classes.
    categories: [N] integers in [0, num_categories).
    num_categories: K2, the number of categories that the model has, used or not.

  Returns:
    mapping: dict from each matched category to its label.
    table: [number of classes, num_categories] counts, columns in the model's own order.

  Raises:
    InputError: labels or categories are empty, not integers, of unequal length, or a
      category lies outside [0, num_categories).

  >>> mapping, table = hungarian([7, 7, 7, 9, 9], [1, 1, 0, 0, 0], num_categories=3)
  >>> mapping
  {1: 7, 0: 9}
  >>> table.tolist()
  [[1, 2, 0], [2, 0, 0]]

  Reference: Kuhn, "The Hungarian method for the assignment problem", 1955.
  """
  labels, categories = _check_pair(labels, categories)
  if categories.min() < 0 or categories.max() >= num_categories:
    raise InputError(
        f"expected categories in [0, {num_categories}), got {categories.min()} to"
        f" {categories.max()}; pass the model's num_categories."
    )
  classes, rows = np.unique(labels, return_inverse=True)
  table = np.zeros((len(classes), num_categories), np.int64)
  np.add.at(table, (rows, categories), 1)
  matched_rows, matched_columns = linear_sum_assignment(table, maximize=True)
  mapping = {int(c): int(classes[r]) for r, c in zip(matched_rows, matched_columns)}
  return mapping, table


def clustering_accuracy(labels: ArrayLike, categories: ArrayLike) -> float:
  """Share of images, in [0, 1], whose category is matched to their class by `hungarian`.

  Do not compare it across different numbers of categories: every category beyond the number
  of classes can only lower it. Random categories score somewhat above 1 / classes, because the
  matching is chosen to fit. Arguments and errors as in `hungarian`.

  >>> clustering_accuracy([7, 7, 7, 9, 9], [1, 1, 0, 0, 0])
  0.8
  """
  labels, categories = _check_pair(labels, categories)
  mapping, _ = hungarian(labels, categories, categories.max() + 1)
  return float(np.mean([mapping.get(c) == label for label, c in zip(labels, categories)]))


def column_order(
    labels: ArrayLike, categories: ArrayLike, num_categories: int
) -> list[int]:
  """The categories in the order of the columns of `confusion_matrix`, as a list.

  Matched categories come first, in the order of their labels; unmatched ones follow.
  Arguments and errors as in `hungarian`.

  >>> column_order([7, 7, 7, 9, 9], [1, 1, 0, 0, 0], num_categories=3)
  [1, 0, 2]
  """
  mapping, _ = hungarian(labels, categories, num_categories)
  unmatched = [c for c in range(num_categories) if c not in mapping]
  return sorted(mapping, key=mapping.__getitem__) + unmatched


def confusion_matrix(
    labels: ArrayLike, categories: ArrayLike, num_categories: int
) -> np.ndarray:
  """Counts [number of classes, K2] with matched categories on the diagonal.

  Rows are the distinct labels, sorted; columns are in `column_order`. With fewer
  categories than classes, the rows of unmatched classes shift the columns off the
  diagonal. Arguments and errors as in `hungarian`.

  >>> confusion_matrix([7, 7, 7, 9, 9], [1, 1, 0, 0, 0], num_categories=3).tolist()
  [[2, 1, 0], [0, 2, 0]]
  """
  _, table = hungarian(labels, categories, num_categories)
  return table[:, column_order(labels, categories, num_categories)]


def nmi(labels: ArrayLike, categories: ArrayLike) -> float:
  """Normalised mutual information in [0, 1]: I(category; label) over the mean of the entropies.

  It is not adjusted for chance: many small categories score high by luck; see `ari`. Arguments
  and errors as in `hungarian`.

  >>> round(nmi([7, 7, 9, 9], [0, 1, 2, 3]), 4)  # ln 2 / ((ln 2 + ln 4) / 2)
  0.6667
  """
  return float(sk_metrics.normalized_mutual_info_score(*_check_pair(labels, categories)))


def ari(labels: ArrayLike, categories: ArrayLike) -> float:
  """Adjusted Rand index, at most 1; random categories score 0 on average.

  Arguments and errors as in `hungarian`.

  >>> ari([7, 7, 9, 9], [1, 1, 0, 0])
  1.0

  Reference: Hubert and Arabie, "Comparing partitions", 1985.
  """
  return float(sk_metrics.adjusted_rand_score(*_check_pair(labels, categories)))


def mi_y_label(labels: ArrayLike, categories: ArrayLike) -> float:
  """I(category; label) in nats, at most ln(number of classes), from the table of counts.

  The category is argmax p(y|x), so this can exceed I(x;y) of an undecided posterior. With
  few images per cell of the table the figure is too high. Arguments and errors as in
  `hungarian`.

  >>> round(mi_y_label([7, 7, 9, 9], [1, 1, 0, 0]), 4)  # ln 2
  0.6931
  """
  return float(sk_metrics.mutual_info_score(*_check_pair(labels, categories)))


def scores(labels: ArrayLike | None, categories: ArrayLike) -> dict[str, float | None]:
  """{"accuracy", "nmi", "ari", "mi_y_label"}; without labels each value is None.

  Arguments and errors as in `hungarian`.

  >>> scores(None, [1, 1, 0, 0])
  {'accuracy': None, 'nmi': None, 'ari': None, 'mi_y_label': None}
  """
  names = {"accuracy": clustering_accuracy, "nmi": nmi, "ari": ari, "mi_y_label": mi_y_label}
  if labels is None:
    return dict.fromkeys(names)
  return {name: score(labels, categories) for name, score in names.items()}


def _check_pair(labels: ArrayLike, categories: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  categories = checks.integers("categories", np.asarray(categories))
  if not len(categories):
    raise InputError("expected the category of at least one image, got none; add images.")
  return checks.labels(np.asarray(labels), len(categories)), categories


# --- baselines --------------------------------------------------------------------------


def baselines(
    x_train: np.ndarray,
    x_test: np.ndarray,
    labels_test: np.ndarray,
    num_categories: int,
    *,
    seed: int = 0,
) -> dict[str, float]:
  """Clustering accuracy of `baseline_categories` on the test images, in [0, 1].

  Args:
    x_train: [M, H, W, C] images in [0, 1].
    x_test: [N, H, W, C] images in [0, 1].
    labels_test: [N] integers.
    num_categories: number of clusters.
    seed: seed of the draw of training images and of the starts.

  Raises:
    InputError: as `baseline_categories`, or labels that are not [N] integers.

  >>> x = np.array([0.0, 0.1, 0.9, 1.0]).reshape(4, 1, 1, 1)  # two dark pixels and two bright
  >>> baselines(x, x, [7, 7, 9, 9], num_categories=2)
  {'k_means': 1.0, 'ward': 1.0, 'gaussian_mixture': 1.0}
  """
  x_test = checks.images(x_test)
  labels_test = checks.labels(labels_test, len(x_test))
  found = baseline_categories(x_train, x_test, num_categories, seed=seed)
  return {name: clustering_accuracy(labels_test, c) for name, c in found.items()}


def baseline_categories(
    x_train: np.ndarray, x_test: np.ndarray, num_categories: int, *, seed: int = 0
) -> dict[str, np.ndarray]:
  """The clusters [N] that three classical methods give the test images.

  Each is fitted on raw training pixels, without labels, and then assigns the test images. Images of
  more than 1,000 numbers are given to them by their first 100 principal components.

  * k_means: the nearest of num_categories centroids, best of 10 starts.
  * ward: Ward's tree over at most MAX_WARD_IMAGES training images, cut at num_categories; a
    test image takes the cluster of the nearest of those images.
  * gaussian_mixture: full covariances on the first MAX_MIXTURE_COMPONENTS principal
    components. The best of 5 starts on at most MAX_MIXTURE_IMAGES training images, by their
    likelihood, goes on with all.

  At most MAX_BASELINE_IMAGES training images are used, drawn by the seed. One seed is one
  draw: the mixture moves by a few hundredths between seeds, so compare means.

  Args:
    x_train: [M, H, W, C] images in [0, 1].
    x_test: [N, H, W, C] images in [0, 1].
    num_categories: number of clusters.
    seed: seed of the draw of training images and of the starts.

  Raises:
    InputError: no images, train and test images of different shapes, or fewer training images
      than num_categories.
  """
  x_train, x_test = checks.images(x_train), checks.images(x_test)
  if x_train.shape[1:] != x_test.shape[1:]:
    raise InputError(
        f"expected training and test images of one shape, got {x_train.shape[1:]} and"
        f" {x_test.shape[1:]}; give both as the model takes them."
    )
  if len(x_train) < num_categories:
    raise InputError(
        f"expected at least {num_categories} training images, one a cluster, got"
        f" {len(x_train)}; add images or lower num_categories."
    )
  order = np.random.default_rng(seed).permutation(len(x_train))[:MAX_BASELINE_IMAGES]
  # Thousands of small products: on a busy machine BLAS's threads wait for each other.
  with threadpoolctl.threadpool_limits(1, "blas"):
    train, test = _fewer(_pixels(x_train[order]), _pixels(x_test), seed)
    return {
        "k_means": _k_means(train, test, num_categories, seed),
        "ward": _ward(train, test, num_categories),
        "gaussian_mixture": _gaussian_mixture(train, test, num_categories, seed),
    }


def _pixels(x: np.ndarray) -> np.ndarray:
  return x.reshape(len(x), -1).astype(np.float32)


def _fewer(train: np.ndarray, test: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Principal components of large images, which hardly change distances between them."""
  if train.shape[1] <= _FEW_NUMBERS:
    return train, test
  some = train[:MAX_WARD_IMAGES]
  pca = PCA(min(_COMPONENTS, len(some)), svd_solver="randomized", random_state=seed).fit(some)
  return pca.transform(train), pca.transform(test)


def _k_means(
    train: np.ndarray, test: np.ndarray, num_categories: int, seed: int
) -> np.ndarray:
  return KMeans(num_categories, n_init=10, random_state=seed).fit(train).predict(test)


def _ward(train: np.ndarray, test: np.ndarray, num_categories: int) -> np.ndarray:
  train = train[:MAX_WARD_IMAGES]  # already in random order
  clusters = AgglomerativeClustering(num_categories, linkage="ward").fit_predict(train)
  return KNeighborsClassifier(n_neighbors=1).fit(train, clusters).predict(test)


def _gaussian_mixture(
    train: np.ndarray, test: np.ndarray, num_categories: int, seed: int
) -> np.ndarray:
  components = min(MAX_MIXTURE_COMPONENTS, *train.shape)
  pca = PCA(components, random_state=seed).fit(train)
  # In float32, covariances of the scores can lose positive definiteness.
  codes = pca.transform(train).astype(np.float64)
  # reg_covar is added to each variance, so that no Gaussian shrinks to a few duplicates; the 20th
  # principal component of digits has variance 0.04.
  settings = {"reg_covar": 1e-3, "random_state": seed}
  mixture = GaussianMixture(num_categories, n_init=5, **settings)
  mixture.fit(codes[:MAX_MIXTURE_IMAGES])
  if len(codes) > MAX_MIXTURE_IMAGES:
    mixture = GaussianMixture(
        num_categories, weights_init=mixture.weights_, means_init=mixture.means_,
        precisions_init=mixture.precisions_, **settings,
    ).fit(codes)
  return mixture.predict(pca.transform(test).astype(np.float64))

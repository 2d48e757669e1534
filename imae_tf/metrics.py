"""Figures of merit over all the codes of a data set: information, clustering, reconstruction.

Labels serve here alone; nothing in this file is trained on. Every information is in nats.
The estimates that compare each code with all others come in two versions, because neither
is the truth: see `evaluate`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from scipy.optimize import linear_sum_assignment
from scipy.special import entr
from sklearn import metrics as sk_metrics
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from imae_tf import estimators
from imae_tf import objective
from imae_tf.errors import InputError

if TYPE_CHECKING:
  from imae_tf.pipelines import ImageData
  from imae_tf.models import HybridAutoencoder

# The baselines look at no more training images than this, so that all three together stay
# under a minute on MNIST.
MAX_BASELINE_IMAGES = 10_000
# Ward keeps all pairwise distances in memory.
MAX_WARD_IMAGES = 5_000
# A Gaussian mixture with full covariances needs few dimensions.
MAX_MIXTURE_COMPONENTS = 20
# Codes compared with the posteriors of all images; the aggregate is never cut short.
MAX_CODES = 10_000
# Images among which the nearest of MAX_CODES of them are sought: the denser, the surer they are
# of the same class (docs/searching.md).
MAX_NEIGHBORS_AMONG = 60_000
_MOST_NEIGHBORS = 10
_NEIGHBOR_PAIRS = 20_000  # more neighbours each where images are few: fewer pairs are noisy
_NEIGHBOR_BYTES = 2**28

_PAIRED = ("mi_z", "mi_z_per_dimension", "mi_z_joint", "mi_joint", "total_correlation")
_BLOCK = 1_000  # images whose pixel entropies are in memory at once

_log_marginals = tf.function(estimators.log_marginals)


# --- categories against labels ----------------------------------------------------------


def hungarian(
    labels: np.ndarray, categories: np.ndarray, num_categories: int
) -> tuple[dict[int, int], np.ndarray]:
  """The one-to-one matching of categories to classes under which most images agree.

  The classes are the distinct labels, sorted. With more categories than classes the
  surplus categories stay unmatched and all their images count as wrong; with fewer, the
  surplus classes do.

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

  Reference: Kuhn, "The Hungarian method for the assignment problem", 1955.
  """
  labels, categories = _check_pair(labels, categories)
  if categories.min() < 0 or categories.max() >= num_categories:
    raise InputError(
        f"Categories must lie in [0, {num_categories}); they span"
        f" {categories.min()} to {categories.max()}. Pass the model's num_categories."
    )
  classes, rows = np.unique(labels, return_inverse=True)
  table = np.zeros((len(classes), num_categories), np.int64)
  np.add.at(table, (rows, categories), 1)
  matched_rows, matched_columns = linear_sum_assignment(table, maximize=True)
  mapping = {int(c): int(classes[r]) for r, c in zip(matched_rows, matched_columns)}
  return mapping, table


def clustering_accuracy(labels: np.ndarray, categories: np.ndarray) -> float:
  """Share of images, in [0, 1], whose category is matched to their class by `hungarian`.

  Do not trust it across different numbers of categories: every category beyond the number
  of classes can only lose. Random categories score somewhat above 1 / classes, since the
  matching is chosen to fit. Arguments and errors as in `hungarian`.
  """
  labels, categories = _check_pair(labels, categories)
  mapping, _ = hungarian(labels, categories, categories.max() + 1)
  return float(np.mean([mapping.get(c) == label for label, c in zip(labels, categories)]))


def column_order(
    labels: np.ndarray, categories: np.ndarray, num_categories: int
) -> list[int]:
  """The categories in the order of the columns of `confusion_matrix`, as a list.

  Matched categories come first, in the order of their labels; unmatched ones follow.
  Arguments and errors as in `hungarian`.
  """
  mapping, _ = hungarian(labels, categories, num_categories)
  unmatched = [c for c in range(num_categories) if c not in mapping]
  return sorted(mapping, key=mapping.__getitem__) + unmatched


def confusion_matrix(
    labels: np.ndarray, categories: np.ndarray, num_categories: int
) -> np.ndarray:
  """Counts [number of classes, K2] with matched categories on the diagonal.

  Rows are the distinct labels, sorted; columns are in `column_order`. With fewer
  categories than classes, the rows of unmatched classes shift the columns off the
  diagonal. Arguments and errors as in `hungarian`.
  """
  _, table = hungarian(labels, categories, num_categories)
  return table[:, column_order(labels, categories, num_categories)]


def nmi(labels: np.ndarray, categories: np.ndarray) -> float:
  """Normalised mutual information in [0, 1]: I(category; label) over the mean of the entropies.

  It is not adjusted for chance: many small categories score high by luck; see `ari`. Arguments
  and errors as in `hungarian`.
  """
  return float(sk_metrics.normalized_mutual_info_score(*_check_pair(labels, categories)))


def ari(labels: np.ndarray, categories: np.ndarray) -> float:
  """Adjusted Rand index, at most 1; random categories score 0 on average.

  Arguments and errors as in `hungarian`.

  Reference: Hubert and Arabie, "Comparing partitions", 1985.
  """
  return float(sk_metrics.adjusted_rand_score(*_check_pair(labels, categories)))


def mi_y_label(labels: np.ndarray, categories: np.ndarray) -> float:
  """I(category; label) in nats, at most ln(number of classes), from the table of counts.

  The category is argmax p(y|x), so this can exceed I(x;y) of an undecided posterior. With
  few images per cell of the table the figure is too high. Arguments and errors as in
  `hungarian`.
  """
  return float(sk_metrics.mutual_info_score(*_check_pair(labels, categories)))


# --- categories without labels ----------------------------------------------------------


def neighbor_information(categories: np.ndarray, neighbors: np.ndarray) -> float:
  """I(c;c'), c the category of an image and c' that of one of its nearest, in nats.

  High when categories are used evenly and follow the regions in which images lie close
  together; at most the entropy of the categories, and so ln K2. It depends on how densely the
  images lie and on K2: compare runs on the same images and with the same K2.

  Args:
    categories: [N] integers, argmax p(y|x).
    neighbors: [M, k] rows of the nearest others of the first M <= N images.
  """
  own = np.repeat(categories[: len(neighbors)], neighbors.shape[1])
  return mi_y_label(own, categories[neighbors].ravel())


def agreement(runs: Sequence[np.ndarray]) -> list[float]:
  """Mean normalised mutual information of each run's categories with those of the others.

  High for the run that most others repeat: chance merges different classes in each, and they
  share what the images themselves suggest. It takes three runs to tell any apart.

  Args:
    runs: [N] integers each, argmax p(y|x) of the same images. A single one has 1.
  """
  if len(runs) == 1:
    return [1.0]
  table = np.array([[nmi(one, other) for other in runs] for one in runs])
  return ((table.sum(axis=1) - 1.0) / (len(runs) - 1)).tolist()


def nearest_images(
    x: np.ndarray, first: int = MAX_CODES, count: int | None = None
) -> np.ndarray:
  """[M, k] rows of the nearest others of the first M images, by distance of pixels.

  Args:
    x: [N, H, W, C] images.
    first: M; N where there are fewer.
    count: k; None for 20,000 / M, ten at most. N - 1 where there are fewer others.
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
    data: `pipelines.ImageData`.
    split: whose images come first, up to MAX_CODES of them; training images follow, up to
      MAX_NEIGHBORS_AMONG in all. Where these would take more than 256 MB, as many as fit in it,
      and MAX_CODES at least.
    seed: of the choice among training images.

  Returns:
    x: [N, H, W, C] images in [0, 1], and `nearest_images(x, M)`: [M, k].
  """
  most = _most_neighbors_among(data.image_shape)
  if split == "train":
    x = data.sample("train", most, seed)
    x = x[np.random.default_rng(seed).permutation(len(x))]  # files are often sorted by class
    return x, nearest_images(x, MAX_CODES)
  x = data.sample(split, MAX_CODES, seed)
  first, rest = len(x), min(most - len(x), data.size("train"))
  if rest > 1:
    x = np.concatenate([x, data.sample("train", rest, seed)])
  return x, nearest_images(x, first)


def _most_neighbors_among(image_shape):
  """How many images of a shape are kept in memory for a search of neighbours."""
  fitting = _NEIGHBOR_BYTES // (4 * int(np.prod(image_shape)))
  return max(min(fitting, MAX_NEIGHBORS_AMONG), MAX_CODES)


def used_categories(categories: np.ndarray, num_categories: int, share: float = 0.01) -> int:
  """How many categories have at least `share` x N / K2 images, and one at least.

  Args:
    categories: [N] integers, argmax p(y|x).
    num_categories: K2.
    share: of what each category would have if all had the same.
  """
  counts = np.bincount(categories, minlength=num_categories)
  return int(np.sum(counts >= max(1.0, share * len(categories) / num_categories)))


# --- continuous codes and pixels --------------------------------------------------------


def active_units(mean: np.ndarray, threshold: float = 0.01) -> int:
  """Number of dimensions of z whose posterior mean moves with the image.

  Dimension k is active if Var_x[mu_k] > threshold. A variance says nothing of the noise:
  compare it with E[sigma_k^2], or read I(x;z_k).

  Args:
    mean: [N, K1], the posterior means mu_k(x).
    threshold: variance above which a unit is active.

  Reference: Burda et al., "Importance Weighted Autoencoders", 2016.
  """
  return int(np.sum(np.var(mean, axis=0, dtype=np.float64) > threshold))


def reconstruction_floor(x: np.ndarray, likelihood: str) -> float:
  """The lowest mean reconstruction loss that any model can reach on x, nats per image.

  For "bernoulli" it is the entropy of the grey pixels themselves, the mean over images of
  sum over pixels of -x ln x - (1-x) ln(1-x): the loss of a perfect copy. It is zero for
  black-and-white images. For "gaussian" (unit variance) it is D/2 ln(2 pi), D = values per
  image; a perfect copy loses nothing but this constant.

  Args:
    x: [N, H, W, C] images in [0, 1].
    likelihood: "bernoulli" or "gaussian".

  Raises:
    InputError: there are no images, or the likelihood is neither of the two.
    InputError: a pixel lies outside [0, 1] (or is NaN) under "bernoulli".
  """
  x = _check_images(x)
  if likelihood == "gaussian":
    return float(0.5 * x[0].size * np.log(2 * np.pi))
  if likelihood != "bernoulli":
    raise InputError(f"Likelihood must be 'bernoulli' or 'gaussian'; got {likelihood!r}.")
  total = sum(_pixel_entropy(x[i : i + _BLOCK]) for i in range(0, len(x), _BLOCK))
  return float(total / len(x))


def _pixel_entropy(x):
  if not (x.min() >= 0 and x.max() <= 1):
    raise InputError(
        f"Pixels must lie in [0, 1]; they span {x.min()} to {x.max()}."
        " Scale the images, for instance uint8 / 255."
    )
  x = x.astype(np.float64)
  return np.sum(entr(x) + entr(1 - x))


# --- drawn images -----------------------------------------------------------------------


def category_traversals(
    model: "HybridAutoencoder",
    y: np.ndarray,
    z: np.ndarray,
    dimension: int,
    positions: Sequence[float] | np.ndarray,
) -> tuple[list[int], np.ndarray]:
  """Each category drawn from the mean z of its images, one dimension moved: figure 4.

  Args:
    model: has `decode(y, z)`.
    y: [N, K2] probabilities of images.
    z: [N, K1] their posterior means.
    dimension: k, the dimension that is moved.
    positions: [P] values of z_k.

  Returns:
    categories: list of the C categories that are the likeliest of some image.
    images: [C, P, H, W, C'] in [0, 1].
  """
  of = np.argmax(y, axis=1)
  categories = sorted(set(of.tolist()))
  centres = np.stack([np.mean(z[of == c], axis=0, dtype=np.float64) for c in categories])
  moved = np.repeat(centres.astype(np.float32), len(positions), axis=0)
  moved[:, dimension] = np.tile(positions, len(categories))
  one_hot = np.eye(y.shape[1], dtype=np.float32)[np.repeat(categories, len(positions))]
  drawn = np.asarray(model.decode(one_hot, moved))
  return categories, drawn.reshape(len(categories), len(positions), *drawn.shape[1:])


def category_overlap(
    model: "HybridAutoencoder", y: np.ndarray, z: np.ndarray, dimension: int, count: int = 41
) -> float:
  """Share, in [0, 1], of the drawn images whose own category is not the one drawn.

  The images are `category_traversals` with z_k at `count` positions in [-2, 2]; the category
  of an image is argmax p(y|x). Arguments as there; `model` has `encode(x)` too.
  """
  positions = np.linspace(-2.0, 2.0, count)
  categories, drawn = category_traversals(model, y, z, dimension, positions)
  found = model.encode(drawn.reshape(-1, *drawn.shape[2:]))["y"].argmax(axis=1)
  return float(np.mean(found != np.repeat(categories, count)))


# --- the whole of metrics.json ----------------------------------------------------------


def evaluate(
    model: "HybridAutoencoder", x: np.ndarray, labels: np.ndarray | None = None, *, seed: int = 0
) -> dict[str, Any]:
  """All figures of one model over all n images, ready for JSON.

  I(x;y) = H(y) - H(y|x), eq (7), is exact on the n images. The three figures that need the
  aggregate density p(z) or p(y, z) are estimated from one posterior sample per image (of
  MAX_CODES images, drawn by the seed, where there are more), in two versions: {"naive": v,
  "leave_one_out": v}.

  * naive counts an image's own posterior in the aggregate. On average it pulls I down, and
    it can never exceed ln n (9.21 for n = 10,000): do not trust a value near that cap.
  * leave_one_out leaves it out. On average it pulls I up, the more the narrower the
    posteriors are. The truth lies between the two averages; a wide gap means that n is too
    small for the figure.
  * total_correlation is a difference of such estimates and is bracketed by nothing;
    leave-one-out may be negative. Trust it only where both versions agree.

  For naive estimates of up to MAX_CODES images eq (3) is an identity:
  mi_joint = mi_y + mi_z - total_correlation.

  Args:
    model: has `encode(x)`, `reconstruction_loss(x)` and `likelihood`.
    x: [N, H, W, C] images in [0, 1], N >= 2.
    labels: [N] integers or None. They are compared with argmax p(y|x) and nothing else.
    seed: of the posterior samples z = mean + scale * noise.

  Returns:
    dict of floats, ints, lists of K1 floats, and pairs of them:
    n: number of images.
    codes: number of codes behind mi_z, mi_z_joint, mi_joint, total_correlation and kl_z.
    reconstruction, reconstruction_floor: nats per image, from p(y|x) and the mean of z.
    mi_y, entropy_y, conditional_entropy_y: nats.
    mi_z: sum over k of I(x;z_k), a pair; mi_z_per_dimension: a pair of lists.
    mi_z_joint: I(x;z), the dimensions together, a pair; mi_joint: I(x;y,z), a pair.
    total_correlation: TC(y,z), a pair; total_correlation_floor: what the same estimates give
      for factors that are independent, a pair (`independent_total_correlation`).
    kl_z: sum over k of KL(p(z_k) || N(0, 1)), naive, which errs upwards.
    neighbor_mi_y: `neighbor_information`, which ranks runs without labels, of up to MAX_CODES
      of the images x among up to MAX_NEIGHBORS_AMONG of them; lower than among more images.
    used_categories, active_units: counts.
    var_mean_per_dimension: Var_x[mu_k]; mean_variance_per_dimension: E_x[sigma_k^2].
    accuracy, nmi, ari, mi_y_label: None without labels.

  Raises:
    InputError: fewer than two images, labels that are not [N] integers, codes that are not
      finite, or scales that are not positive.
  """
  x = _check_images(x)
  if len(x) < 2:
    raise InputError("Information over a data set needs at least 2 images; got 1.")
  if labels is not None:
    labels = _check_integers("Labels", labels)
    _check_length(labels, len(x))
  y, z_mean, z_scale = _codes(model, x)
  return {
      "n": len(x),
      "codes": min(len(x), MAX_CODES),
      "reconstruction": float(np.mean(model.reconstruction_loss(x), dtype=np.float64)),
      "reconstruction_floor": reconstruction_floor(x, model.likelihood),
      **information(y, z_mean, z_scale, seed=seed),
      "total_correlation_floor": independent_total_correlation(y, z_mean, z_scale, seed=seed),
      "neighbor_mi_y": _neighbor_information_of(x, y.argmax(axis=1), seed),
      "used_categories": used_categories(y.argmax(axis=1), y.shape[1]),
      "active_units": active_units(z_mean),
      "var_mean_per_dimension": z_mean.var(axis=0, dtype=np.float64).tolist(),
      "mean_variance_per_dimension": np.mean(
          np.square(z_scale), axis=0, dtype=np.float64
      ).tolist(),
      **_clustering(labels, y.argmax(axis=1)),
  }


def _neighbor_information_of(x, categories, seed):
  """`neighbor_information` over as many of the images as are looked at."""
  if len(x) > MAX_CODES:  # in random order, for files are often sorted by class
    some = np.random.default_rng(seed).permutation(len(x))
    some = some[: _most_neighbors_among(x.shape[1:])]
    x, categories = x[some], categories[some]
  return neighbor_information(categories, nearest_images(x))


def _codes(model, x):
  """Probabilities [N, K2], means and scales [N, K1] of p(y, z|x), checked to be usable."""
  codes = model.encode(x)
  y, z_mean, z_scale = (np.asarray(codes[name], "float32") for name in ("y", "z", "z_scale"))
  for name, values in (("y", y), ("z", z_mean), ("z_scale", z_scale)):
    if not np.isfinite(values).all():
      raise InputError(
          f"Codes must be finite; {name} holds NaN or infinity for"
          f" {np.sum(~np.isfinite(values).all(axis=1))} of {len(x)} images."
          " Check the images and the model's weights."
      )
  if not (z_scale > 0).all():
    raise InputError(f"z_scale must be positive; its smallest value is {z_scale.min()}.")
  return y, z_mean, z_scale


def information(
    y: np.ndarray, z_mean: np.ndarray, z_scale: np.ndarray, *, seed: int = 0
) -> dict[str, Any]:
  """The information terms of `evaluate`, from posteriors alone.

  Args:
    y: [N, K2] probabilities.
    z_mean: [N, K1].
    z_scale: [N, K1], > 0.
    seed: of the posterior samples, and of the choice of MAX_CODES images.

  Returns:
    The keys of `evaluate` from `mi_y` to `kl_z`.
  """
  rng = np.random.default_rng(seed)
  noise = rng.standard_normal(z_mean.shape)
  z = (z_mean + z_scale * noise).astype("float32")
  # A float32 softmax may underflow to 0, whose logarithm would spoil the sums.
  log_y = np.log(np.maximum(y, np.finfo(np.float32).tiny))
  code: tuple[np.ndarray, ...] = (z, z_mean, np.log(z_scale), log_y)
  if len(z) > MAX_CODES:  # in random order, for files are often sorted by class
    order = rng.permutation(len(z))
    code = tuple(part[order] for part in code)
  naive = _estimates(*code, leave_one_out=False)
  left_out = _estimates(*code, leave_one_out=True)
  pairs = {key: {"naive": naive[key], "leave_one_out": left_out[key]} for key in _PAIRED}
  return {**_information_y(log_y), "kl_z": naive["kl_z"], **pairs}


def independent_total_correlation(
    y: np.ndarray, z_mean: np.ndarray, z_scale: np.ndarray, *, seed: int = 0
) -> dict[str, float]:
  """The estimates of TC(y,z) for the same factors made independent: their bias at this n.

  y and each dimension's (mean, scale) are shuffled among the images, each on its own. That
  keeps n, I(x;y) and every I(x;z_k) and ends all dependence but chance; of Gaussian factors
  it gives what independent Gaussians of the same information do. An estimate of TC says
  something only beyond it. Arguments as in `information`.

  Returns:
    {"naive": v, "leave_one_out": v}, nats.
  """
  rng = np.random.default_rng([seed, 1])
  y = rng.permutation(y)
  orders = np.stack([rng.permutation(len(y)) for _ in z_mean.T], axis=1)
  mean, scale = (np.take_along_axis(part, orders, axis=0) for part in (z_mean, z_scale))
  return information(y, mean, scale, seed=seed)["total_correlation"]


def _information_y(log_y):
  """The terms of eq (7), which need no sample: over all n images."""
  log_y = log_y.astype(np.float64)
  log_p_y = np.log(np.mean(np.exp(log_y), axis=0))
  entropy = np.mean(objective.entropy_y(log_y, log_p_y))
  conditional = np.mean(objective.conditional_entropy_y(log_y))
  return {
      "mi_y": float(entropy - conditional),
      "entropy_y": float(entropy),
      "conditional_entropy_y": float(conditional),
  }


def _estimates(z, z_mean, log_scale, log_y, *, leave_one_out):
  """The terms of `objective` averaged over the codes, with marginals over all images."""
  codes = slice(MAX_CODES)
  marginals = _log_marginals(
      z[codes], z_mean, log_scale, log_y, leave_one_out=leave_one_out
  )
  z, z_mean, log_scale, log_y = z[codes], z_mean[codes], log_scale[codes], log_y[codes]
  log_z_given_x = estimators.log_normal(z, z_mean, log_scale)
  mi_z = objective.mutual_information_z(log_z_given_x, marginals.z)
  terms = objective.information_terms(z, z_mean, log_scale, log_y, marginals)
  terms["mi_z_joint"] = objective.mutual_information_of_all_z(log_z_given_x, marginals)
  terms["mi_joint"] = objective.joint_mutual_information(log_y, log_z_given_x, marginals)
  means = {key: float(np.mean(term, dtype=np.float64)) for key, term in terms.items()}
  return {**means, "mi_z_per_dimension": np.mean(mi_z, axis=0, dtype=np.float64).tolist()}


def _clustering(labels, categories):
  scores = {
      "accuracy": clustering_accuracy, "nmi": nmi, "ari": ari, "mi_y_label": mi_y_label,
  }
  if labels is None:
    return dict.fromkeys(scores)
  return {name: score(labels, categories) for name, score in scores.items()}


# --- baselines --------------------------------------------------------------------------


def baselines(
    x_train: np.ndarray,
    x_test: np.ndarray,
    labels_test: np.ndarray,
    num_categories: int,
    *,
    seed: int = 0,
) -> dict[str, float]:
  """Clustering accuracy of three classical methods on the test images, in [0, 1].

  Each is fitted on raw training pixels, without labels, and then assigns the test images:

  * k_means: the nearest of num_categories centroids, best of 10 starts.
  * ward: Ward's tree over at most MAX_WARD_IMAGES training images, cut at num_categories; a
    test image takes the cluster of the nearest of those images.
  * gaussian_mixture: full covariances on the first MAX_MIXTURE_COMPONENTS principal
    components, best likelihood of 5 starts.

  At most MAX_BASELINE_IMAGES training images are used, drawn by the seed. One seed is one
  draw: the mixture moves by a few hundredths between seeds, so compare means.

  Args:
    x_train: [M, H, W, C] images in [0, 1].
    x_test: [N, H, W, C] images in [0, 1].
    labels_test: [N] integers.
    num_categories: number of clusters.
    seed: of the draw of training images and of the starts.

  Raises:
    InputError: no images, train and test images of different shapes, labels that are not
      [N] integers, or fewer training images than num_categories.
  """
  x_train, x_test = _check_images(x_train), _check_images(x_test)
  labels_test = _check_integers("Labels", labels_test)
  _check_length(labels_test, len(x_test))
  if x_train.shape[1:] != x_test.shape[1:]:
    raise InputError(
        f"Training and test images must have one shape; got {x_train.shape[1:]} and"
        f" {x_test.shape[1:]}."
    )
  if len(x_train) < num_categories:
    raise InputError(
        f"{num_categories} clusters need at least as many training images;"
        f" got {len(x_train)}."
    )
  order = np.random.default_rng(seed).permutation(len(x_train))[:MAX_BASELINE_IMAGES]
  train, test = _pixels(x_train[order]), _pixels(x_test)
  assigned = {
      "k_means": _k_means(train, test, num_categories, seed),
      "ward": _ward(train, test, num_categories),
      "gaussian_mixture": _gaussian_mixture(train, test, num_categories, seed),
  }
  return {name: clustering_accuracy(labels_test, c) for name, c in assigned.items()}


def _pixels(x):
  return x.reshape(len(x), -1).astype(np.float32)


def _k_means(train, test, num_categories, seed):
  return KMeans(num_categories, n_init=10, random_state=seed).fit(train).predict(test)


def _ward(train, test, num_categories):
  train = train[:MAX_WARD_IMAGES]  # already in random order
  clusters = AgglomerativeClustering(num_categories, linkage="ward").fit_predict(train)
  return KNeighborsClassifier(n_neighbors=1).fit(train, clusters).predict(test)


def _gaussian_mixture(train, test, num_categories, seed):
  components = min(MAX_MIXTURE_COMPONENTS, *train.shape)
  pca = PCA(components, random_state=seed).fit(train)
  mixture = GaussianMixture(
      num_categories,
      n_init=5,
      # Added to each variance, so that no Gaussian closes in on a few duplicates; the 20th
      # principal component of digits has variance 0.04.
      reg_covar=1e-3,
      random_state=seed,
  )
  # Float64: covariances of float32 scores can lose positive definiteness.
  mixture.fit(pca.transform(train).astype(np.float64))
  return mixture.predict(pca.transform(test).astype(np.float64))


# --- checks -----------------------------------------------------------------------------


def _check_images(x):
  x = np.asarray(x)
  if x.ndim < 2 or not x.size:
    raise InputError(
        f"expected images [N, height, width, channels] with N >= 1; got shape {x.shape}."
    )
  return x


def _check_integers(name, values):
  values = np.asarray(values)
  if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
    raise InputError(
        f"{name} must be a vector of integers; got shape {values.shape} of {values.dtype}."
    )
  return values


def _check_length(labels, n):
  if len(labels) != n:
    raise InputError(f"expected one label for each of {n} images; got {len(labels)}.")


def _check_pair(labels, categories):
  labels = _check_integers("Labels", labels)
  categories = _check_integers("Categories", categories)
  if not len(categories):
    raise InputError("expected the category of at least one image; got none.")
  _check_length(labels, len(categories))
  return labels, categories

"""Scores a code against the known factors of its images: MIG, DCI and the FactorVAE score.

`training.evaluation` calls `scores` for data sets whose factors are known. A code is a category y
and dimensions z_k. The index of a category has no order, so categories are counted, never binned or
averaged. All scores are computed with NumPy and scikit-learn from a finite set of codes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import ensemble
from sklearn import metrics as sk_metrics
from sklearn import model_selection

from imae_tf.errors import InputError

FEWEST = 100  # images that can be scored
_BINS = 20  # as in Locatello et al. 2019
_TREES = 50
# Each leaf holds at least this share of the images. Smaller leaves fit noise in every dimension,
# and then a noisy code looks entangled.
_LEAF = 0.01
_VOTES, _BATCH = 1000, 64  # the batch of disentanglement_lib, which takes more votes
# A dimension with a smaller standard deviation, or a category with a smaller spread, takes no part
# in the votes. For dimensions this is the value of disentanglement_lib.
_DEAD = 0.05


def scores(
    y: np.ndarray, z: np.ndarray, factors: np.ndarray, names: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
  """All scores of one code.

  Args:
    y: [N, K2] probabilities p(y|x).
    z: [N, K1] posterior means.
    factors: [N, F] integers, the values of the factors that the images were made from.
    names: the F names of the factors.
    seed: seed of the split and the trees of DCI, and of the draws of the FactorVAE score.

  Returns:
    {"mig", "mig_per_factor": {name: v}, "dci_disentanglement", "dci_completeness",
    "dci_informativeness", "factor_vae_score"}, each in [0, 1].

  Raises:
    InputError: arrays that do not fit, NaN, fewer than 100 images, or a factor with one value.

  >>> digit, slant = np.repeat(np.arange(10), 20), np.tile(np.arange(20), 10)
  >>> y, z = np.eye(10)[digit], slant[:, None].astype("float32")  # each factor has its part
  >>> found = scores(y, z, np.stack([digit, slant], axis=1), ["digit", "slant"])
  >>> round(found["mig"], 4), found["factor_vae_score"]
  (1.0, 1.0)
  """
  y, z, factors = _check(y, z, factors, names)
  category = y.argmax(axis=1)
  gaps = mig(category, z, factors)
  disentanglement, completeness, informativeness = dci(category, z, factors, seed=seed)
  return {
      "mig": float(np.mean(gaps)),
      "mig_per_factor": {name: float(gap) for name, gap in zip(names, gaps)},
      "dci_disentanglement": disentanglement,
      "dci_completeness": completeness,
      "dci_informativeness": informativeness,
      "factor_vae_score": factor_vae_score(category, z, factors, seed=seed),
  }


def mig(category: np.ndarray, z: np.ndarray, factors: np.ndarray) -> np.ndarray:
  """Mutual information gap of each factor v: (I(c1;v) - I(c2;v)) / H(v), as an array [F].

  c1 and c2 are the two parts of the code that tell most about v. Dimensions of z are cut
  into 20 bins of equal width; the category is taken as it is.

  >>> digit, slant = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
  >>> z = np.stack([slant, slant], axis=1)  # two dimensions say the same: no gap
  >>> print(mig(digit, z, np.stack([digit, slant], axis=1)).round(4))
  [1. 0.]

  Reference: Chen et al., "Isolating Sources of Disentanglement in VAEs", 2018,
    arXiv:1802.04942.
  """
  parts = [category, *(_binned(part) for part in z.T)]
  gaps = []
  for factor in factors.T:
    information = sorted(sk_metrics.mutual_info_score(factor, part) for part in parts)
    entropy = sk_metrics.mutual_info_score(factor, factor)
    gaps.append((information[-1] - information[-2]) / entropy)
  return np.array(gaps)


def _binned(values: np.ndarray) -> np.ndarray:
  edges = np.histogram_bin_edges(values, _BINS)
  return np.digitize(values, edges[1:-1])


def dci(
    category: np.ndarray, z: np.ndarray, factors: np.ndarray, *, seed: int = 0
) -> tuple[float, float, float]:
  """(disentanglement, completeness, informativeness), each in [0, 1].

  A forest of extremely randomised trees predicts each factor from the whole code. Its importances
  say which part of the code is used for which factor. Disentanglement is high if each part is used
  for one factor: it is one minus the entropy of the factors that a part is used for, weighted by
  how much the part is used. Completeness is high if each factor uses one part: it is one minus the
  entropy of the parts that a factor uses. Informativeness is the mean accuracy on the quarter of
  the codes that the trees have not seen.

  Trees see the category as one column per value, and the importances of these columns are added
  up. disentanglement_lib uses gradient boosting instead of these trees, so its figures differ
  somewhat. A leaf holds at least 1% of the images, so the trees cannot tell all values of a factor
  with more than 100.

  >>> digit = np.repeat(np.arange(2), 50)
  >>> dci(digit, np.zeros([100, 1]), digit[:, None])  # the category says all, z_1 says nothing
  (1.0, 1.0, 1.0)

  Reference: Eastwood & Williams, "A Framework for the Quantitative Evaluation of
  Disentangled Representations", 2018.
  """
  one_hot = np.eye(category.max() + 1)[category]
  code = np.concatenate([one_hot, z], axis=1)
  seen, unseen = model_selection.train_test_split(
      np.arange(len(code)), test_size=0.25, random_state=seed
  )
  importance, accuracies = [], []
  for factor in factors.T:
    trees = ensemble.ExtraTreesClassifier(
        _TREES, max_features=None, min_samples_leaf=_LEAF, random_state=seed
    )
    trees.fit(code[seen], factor[seen])
    accuracies.append(trees.score(code[unseen], factor[unseen]))
    found = trees.feature_importances_
    importance.append([found[: one_hot.shape[1]].sum(), *found[one_hot.shape[1] :]])
  table = np.array(importance).T  # [1 + K1, F]
  return (
      _one_minus_entropy(table),
      _one_minus_entropy(table.T),
      float(np.mean(accuracies)),
  )


def _one_minus_entropy(importance: np.ndarray) -> float:
  """Mean over rows of 1 - H(row) / ln(columns), weighted by the rows' sums."""
  total = importance.sum(axis=1)
  if importance.shape[1] == 1 or not total.sum():
    return float(total.sum() > 0)
  share = importance / np.maximum(total[:, None], 1e-12)
  entropy = -np.sum(share * np.log(np.maximum(share, 1e-12)), axis=1)
  return float(np.sum((1 - entropy / np.log(importance.shape[1])) * total) / total.sum())


def factor_vae_score(
    category: np.ndarray, z: np.ndarray, factors: np.ndarray, *, seed: int = 0
) -> float:
  """Accuracy, in [0, 1], of telling which factor was held fixed from what moved least.

  For each vote, a factor and one of its values are drawn, and then 64 images with this value. The
  part of the code that varies least among them, relative to all images, votes for the factor. Each
  part then stands for the factor that it voted for most often, and the score is the share of
  further votes that are right. For z_k, the spread is the variance; for the category, it is the
  probability that two images differ in it. Parts that hardly vary over all images cannot vote; if
  no part can, the score is 0.

  >>> digit, slant = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
  >>> factor_vae_score(digit, slant[:, None], np.stack([digit, slant], axis=1))
  1.0

  Reference: Kim & Mnih, "Disentangling by Factorising", 2018, arXiv:1802.05983; spread of a
  category (Gini's) as in the code of Jeong & Song, "Learning Discrete and Continuous Factors of
  Data via Alternating Disentanglement", 2019.
  """
  rng = np.random.default_rng(seed)
  one_hot = np.eye(category.max() + 1)[category]
  overall = np.array([_gini(one_hot), *z.var(axis=0)])
  moving = overall > np.array([_DEAD, *[_DEAD**2] * z.shape[1]])
  if not moving.any():
    return 0.0
  rows = [
      {value: np.flatnonzero(factor == value) for value in np.unique(factor)}
      for factor in factors.T
  ]
  votes = np.zeros((2, len(overall), factors.shape[1]), int)  # to learn from, to score
  for vote in range(2 * _VOTES):
    k = rng.integers(factors.shape[1])
    with_value = rows[k][rng.choice(list(rows[k]))]
    drawn = rng.choice(with_value, _BATCH)
    spread = np.array([_gini(one_hot[drawn]), *z[drawn].var(axis=0)])
    relative = np.where(moving, spread / np.maximum(overall, 1e-12), np.inf)
    votes[vote % 2, relative.argmin(), k] += 1
  stands_for = votes[0].argmax(axis=1)
  return float(votes[1][np.arange(len(overall)), stands_for].sum() / _VOTES)


def _gini(one_hot: np.ndarray) -> float:
  return 1.0 - float(np.sum(np.square(one_hot.mean(axis=0))))


def _check(
    y: np.ndarray, z: np.ndarray, factors: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  y, z, factors = np.asarray(y), np.asarray(z), np.asarray(factors)
  for name, array in (("y", y), ("z", z), ("factors", factors)):
    if array.ndim != 2 or not array.shape[1]:
      raise InputError(
          f"expected {name} as an array of two dimensions, with a column or more, got shape"
          f" {array.shape}; reshape it."
      )
  if not len(y) == len(z) == len(factors) or len(y) < FEWEST:
    raise InputError(
        f"expected codes and factors of the same {FEWEST} images or more, got"
        f" {len(y)}, {len(z)} and {len(factors)}; give more images, and the codes and factors of"
        " the same ones."
    )
  if not (np.isfinite(y).all() and np.isfinite(z).all()):
    raise InputError("expected finite codes, got NaN or infinity; leave out their images.")
  if not np.issubdtype(factors.dtype, np.integer):
    raise InputError(f"expected factors as integers, got {factors.dtype}; number their values.")
  if factors.shape[1] != len(names):
    raise InputError(
        f"expected {factors.shape[1]} names of factors, got {len(names)}; name each column."
    )
  fixed = [name for name, factor in zip(names, factors.T) if len(np.unique(factor)) < 2]
  if fixed:
    raise InputError(
        f"expected factors of two values or more, got one of {', '.join(fixed)}; leave it out."
    )
  return y, z, factors

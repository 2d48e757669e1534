"""Estimates the information that codes carry, over all images of a data set, in nats.

`measuring` calls these functions. The estimates that compare each code with the posteriors of all
images come in two versions, because neither is the truth:

* naive includes an image's own posterior in the aggregate. On average this pulls I down, and I
  can never exceed ln n (9.21 for n = 10,000): do not trust a value near that cap.
* leave_one_out leaves it out. On average this pulls I up, and more so if the posteriors are
  narrow. The truth lies between the two averages; a wide gap means that n is too small for the
  figure.

total_correlation is a difference of such estimates, so the truth need not lie between its two
versions, and leave-one-out may be negative. Trust it only where both versions agree.

For naive estimates of up to MAX_CODES images eq (3) is an identity:
mi_joint = mi_y + mi_z - total_correlation.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from imae_tf import estimators
from imae_tf import objective

# At most so many codes are compared with the posteriors; the posteriors are always those of all
# images.
MAX_CODES = 10_000

_PAIRED = ("mi_z", "mi_z_per_dimension", "mi_z_joint", "mi_joint", "total_correlation")

_log_marginals = tf.function(estimators.log_marginals)


def information(
    y: np.ndarray, z_mean: np.ndarray, z_scale: np.ndarray, *, seed: int = 0
) -> dict[str, Any]:
  """The information of posteriors p(y, z|x) about their images.

  I(x;y) = H(y) - H(y|x), eq (7), is exact on the n images. The figures that need the aggregate
  density p(z) or p(y, z) are estimated from one posterior sample per image, in the two versions
  that the module's docstring explains. If there are more than MAX_CODES images, the seed draws
  MAX_CODES of them for the samples.

  Args:
    y: [N, K2] probabilities.
    z_mean: [N, K1].
    z_scale: [N, K1], > 0.
    seed: seed of the posterior samples, and of the choice of MAX_CODES images.

  Returns:
    dict of floats, and of pairs {"naive": v, "leave_one_out": v}:
    mi_y, entropy_y, conditional_entropy_y: nats.
    mi_z: sum over k of I(x;z_k), a pair; mi_z_per_dimension: a pair of lists.
    mi_z_joint: I(x;z), the dimensions together, a pair; mi_joint: I(x;y,z), a pair.
    total_correlation: TC(y,z), a pair.
    kl_z: sum over k of KL(p(z_k) || N(0, 1)), a naive estimate, which errs upwards.

  >>> y = np.eye(2, dtype="float32")[[0, 0, 1, 1]]  # two certain categories, even
  >>> z_mean = np.array([[-9], [9], [-9], [9]], "float32")
  >>> found = information(y, z_mean, np.ones_like(z_mean))
  >>> round(found["mi_y"], 4), round(found["mi_z"]["naive"], 4)  # ln 2 each
  (0.6931, 0.6931)
  """
  rng = np.random.default_rng(seed)
  noise = rng.standard_normal(z_mean.shape)
  z = (z_mean + z_scale * noise).astype("float32")
  code: tuple[np.ndarray, ...] = (z, z_mean, np.log(z_scale), _log(y))
  if len(z) > MAX_CODES:  # in random order, because files are often sorted by class
    order = rng.permutation(len(z))
    code = tuple(part[order] for part in code)
  left_out, naive = _estimates(*code)
  pairs = {key: {"naive": naive[key], "leave_one_out": left_out[key]} for key in _PAIRED}
  return {**information_y(y), "kl_z": naive["kl_z"], **pairs}


def independent_total_correlation(
    y: np.ndarray, z_mean: np.ndarray, z_scale: np.ndarray, *, seed: int = 0
) -> dict[str, float]:
  """The floor of TC(y,z): its estimates for the same factors made independent.

  y and each dimension's (mean, scale) are shuffled among the images, each on its own. This
  keeps n, I(x;y) and every I(x;z_k), and removes all dependence except what chance leaves. So the
  result is the bias of the estimates at this n. For Gaussian factors it equals the result for
  independent Gaussians with the same information. Only the part of TC above this floor indicates
  dependence. Arguments as in `information`.

  Returns:
    {"naive": v, "leave_one_out": v}, nats.

  >>> y = np.ones([4, 1], "float32")
  >>> z_mean = np.array([[-9], [9], [-9], [9]], "float32")
  >>> floor = independent_total_correlation(y, z_mean, np.ones_like(z_mean))
  >>> abs(round(floor["naive"], 4))  # one dimension depends on nothing
  0.0
  """
  rng = np.random.default_rng([seed, 1])
  y = rng.permutation(y)
  orders = np.stack([rng.permutation(len(y)) for _ in z_mean.T], axis=1)
  mean, scale = (np.take_along_axis(part, orders, axis=0) for part in (z_mean, z_scale))
  return information(y, mean, scale, seed=seed)["total_correlation"]


def information_y(y: np.ndarray) -> dict[str, float]:
  """{"mi_y", "entropy_y", "conditional_entropy_y"}: eq (7), exact on the images, in nats.

  Args:
    y: [N, K2] probabilities.

  >>> found = information_y(np.array([[1.0, 0.0], [0.5, 0.5]]))
  >>> round(found["conditional_entropy_y"], 4)  # ln 2 of every second image
  0.3466
  """
  log_y = _log(y).astype(np.float64)
  log_p_y = np.log(np.mean(np.exp(log_y), axis=0))
  entropy = np.mean(objective.entropy_y(log_y, log_p_y))
  conditional = np.mean(objective.conditional_entropy_y(log_y))
  return {
      "mi_y": float(entropy - conditional),
      "entropy_y": float(entropy),
      "conditional_entropy_y": float(conditional),
  }


def _log(y: np.ndarray) -> np.ndarray:
  """log y, finite also where a float32 softmax has underflowed to 0."""
  return np.log(np.maximum(y, np.finfo(np.float32).tiny))


def _estimates(
    z: np.ndarray, z_mean: np.ndarray, log_scale: np.ndarray, log_y: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
  """The terms of `objective` averaged over the codes: (leave-one-out, naive)."""
  codes = slice(MAX_CODES)
  others = _log_marginals(z[codes], z_mean, log_scale, log_y, leave_one_out=True)
  num_images = len(z)
  code = [part[codes] for part in (z, z_mean, log_scale, log_y)]
  log_z_given_x = estimators.log_normal(*code[:3]).numpy()
  all_images = _with_own(others, log_z_given_x, code[3], num_images)
  return _means(others, log_z_given_x, *code), _means(all_images, log_z_given_x, *code)


def _with_own(
    others: estimators.LogMarginals, log_z_given_x: np.ndarray, log_y: np.ndarray, num_images: int
) -> estimators.LogMarginals:
  """The mixtures of all images, from those without the code's own, whose density is added."""
  log_joint = log_z_given_x.sum(axis=1, keepdims=True) + log_y
  own = (log_z_given_x, log_y, log_joint)
  with np.errstate(invalid="ignore"):  # of codes that are not finite, the caller finds NaN
    found = [
        np.logaddexp(others_part.numpy() + np.log(num_images - 1), own_part) - np.log(num_images)
        for others_part, own_part in zip(others, own)
    ]
  return estimators.LogMarginals(*(part.astype("float32") for part in found))


def _means(
    marginals: estimators.LogMarginals,
    log_z_given_x: np.ndarray,
    z: np.ndarray,
    z_mean: np.ndarray,
    log_scale: np.ndarray,
    log_y: np.ndarray,
) -> dict[str, Any]:
  mi_z = objective.mutual_information_z(log_z_given_x, marginals.z)
  terms = objective.information_terms(z, z_mean, log_scale, log_y, marginals)
  terms["mi_z_joint"] = objective.mutual_information_of_all_z(log_z_given_x, marginals)
  terms["mi_joint"] = objective.joint_mutual_information(log_y, log_z_given_x, marginals)
  means = {key: float(np.mean(term, dtype=np.float64)) for key, term in terms.items()}
  return {**means, "mi_z_per_dimension": np.mean(mi_z, axis=0, dtype=np.float64).tolist()}

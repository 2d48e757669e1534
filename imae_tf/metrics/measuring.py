"""Measures a model on a data set: information, clustering and reconstruction.

`evaluate` computes all figures; `imae-evaluate` and `imae-compare` call it through
`training.evaluation`, and a search calls `without_labels`. Labels are used in `clustering` only,
and no model is trained on them. Every information is in nats.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import entr

from imae_tf.errors import InputError
from imae_tf.metrics import checks
from imae_tf.metrics import clustering
from imae_tf.metrics import dataset_information
from imae_tf.metrics import label_free

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

_BLOCK = 1_000  # images whose pixel entropies are in memory at once


def evaluate(
    model: "HybridAutoencoder", x: np.ndarray, labels: np.ndarray | None = None, *, seed: int = 0
) -> dict[str, Any]:
  """All figures of one model over all n images, ready for JSON.

  Each estimate of `dataset_information` is a pair {"naive": v, "leave_one_out": v}; that module
  says how far to trust it.

  Args:
    model: has `encode(x)`, `reconstruction_loss(x)` and `likelihood`.
    x: [N, H, W, C] images in [0, 1], N >= 2.
    labels: [N] integers or None. They are only compared with argmax p(y|x).
    seed: seed of the posterior samples z = mean + scale * noise.

  Returns:
    dict of floats, ints, lists of K1 floats, and pairs of them:
    n: number of images.
    codes: number of codes behind mi_z, mi_z_joint, mi_joint, total_correlation and kl_z.
    reconstruction, reconstruction_floor: nats per image, from p(y|x) and the mean of z.
    mi_y and the other keys: those of `dataset_information.information`, for the same codes.
    total_correlation_floor: a pair, the same estimates for factors that are independent
      (`independent_total_correlation`).
    neighbor_mi_y: `neighbor_information`, which ranks runs without labels, for up to MAX_CODES of
      the images x, with neighbours among up to MAX_NEIGHBORS_AMONG of them. It is lower with few
      images than with many.
    used_categories, active_units: counts.
    var_mean_per_dimension: Var_x[mu_k]; mean_variance_per_dimension: E_x[sigma_k^2].
    accuracy, nmi, ari, mi_y_label: None without labels.

  Raises:
    InputError: fewer than two images, labels that are not [N] integers, codes that are not
      finite, or scales that are not positive.
  """
  x = checks.images(x)
  if len(x) < 2:
    raise InputError("expected at least 2 images to measure information, got 1; add images.")
  if labels is not None:
    labels = checks.labels(labels, len(x))
  codes = _codes(model, x)
  y, z_mean, z_scale = codes.values()
  return {
      "n": len(x),
      "codes": min(len(x), dataset_information.MAX_CODES),
      "reconstruction_floor": reconstruction_floor(x, model.likelihood),
      **without_labels(model, x, codes, seed=seed),
      "total_correlation_floor": dataset_information.independent_total_correlation(
          y, z_mean, z_scale, seed=seed
      ),
      "neighbor_mi_y": label_free.neighbor_information_of(x, y.argmax(axis=1), seed),
      "var_mean_per_dimension": z_mean.var(axis=0, dtype=np.float64).tolist(),
      "mean_variance_per_dimension": np.mean(
          np.square(z_scale), axis=0, dtype=np.float64
      ).tolist(),
      **clustering.scores(labels, y.argmax(axis=1)),
  }


def without_labels(
    model: "HybridAutoencoder",
    x: np.ndarray,
    codes: Mapping[str, np.ndarray],
    *,
    most_compared: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
  """The figures of a model that can be computed from images and their codes, without labels.

  Args:
    model: has `reconstruction_loss(x)`.
    x: [N, H, W, C] images in [0, 1].
    codes: {"y": [N, K2], "z": [N, K1], "z_scale": [N, K1]} of x.
    most_compared: how many codes, evenly spread over x, are compared with each other; None for
      all. The time grows with the square of this number.
    seed: seed of the posterior samples.

  Returns:
    reconstruction: nats per image.
    mi_y, entropy_y, conditional_entropy_y: for all codes.
    kl_z and the other keys: those of `dataset_information.information`, for the codes compared.
    used_categories, active_units: counts.
  """
  compared = np.linspace(0, len(x) - 1, min(len(x), most_compared or len(x))).astype(int)
  information = dataset_information.information(
      *(codes[name][compared] for name in ("y", "z", "z_scale")), seed=seed
  )
  y = codes["y"]
  return {
      "reconstruction": float(np.mean(model.reconstruction_loss(x), dtype=np.float64)),
      **information,
      **dataset_information.information_y(y),
      "used_categories": label_free.used_categories(y.argmax(axis=1), y.shape[1]),
      "active_units": active_units(codes["z"]),
  }


def _codes(model: "HybridAutoencoder", x: np.ndarray) -> dict[str, np.ndarray]:
  """{"y": [N, K2], "z": [N, K1], "z_scale": [N, K1]} in float32, all of them finite."""
  encoded = model.encode(x)
  codes = {name: np.asarray(encoded[name], "float32") for name in ("y", "z", "z_scale")}
  for name, values in codes.items():
    if not np.isfinite(values).all():
      raise InputError(
          f"expected finite codes, got NaN or infinity in {name} of"
          f" {np.sum(~np.isfinite(values).all(axis=1))} of {len(x)} images; leave those"
          " images out if they are few, or train again: the model's weights are damaged."
      )
  if not (codes["z_scale"] > 0).all():
    raise InputError(
        f"expected a z_scale > 0, got {codes['z_scale'].min()}; train again: the model's"
        " weights are damaged."
    )
  return codes


def active_units(mean: np.ndarray, threshold: float = 0.01) -> int:
  """Number of dimensions of z whose posterior mean moves with the image.

  Dimension k is active if Var_x[mu_k] > threshold. The variance does not tell how large the noise
  is: compare it with E[sigma_k^2], or read I(x;z_k).

  Args:
    mean: [N, K1], the posterior means mu_k(x).
    threshold: variance above which a unit is active.

  >>> active_units(np.array([[-1.0, 0.5], [1.0, 0.5]]))  # of variances 1 and 0
  1

  Reference: Burda et al., "Importance Weighted Autoencoders", 2016, arXiv:1509.00519.
  """
  return int(np.sum(np.var(mean, axis=0, dtype=np.float64) > threshold))


def reconstruction_floor(x: np.ndarray, likelihood: str) -> float:
  """The lowest mean reconstruction loss that any model can reach on x, nats per image.

  For "bernoulli" it is the loss of a perfect copy, which is the entropy of the grey pixels: the
  sum over pixels of -x ln x - (1-x) ln(1-x), averaged over images. It is zero for black-and-white
  images. For "gaussian" (unit variance) it is D/2 ln(2 pi), where D is the number of values per
  image; a perfect copy has exactly this loss.

  Args:
    x: [N, H, W, C] images in [0, 1].
    likelihood: "bernoulli" or "gaussian".

  Raises:
    InputError: there are no images, or the likelihood is neither of the two.
    InputError: a pixel lies outside [0, 1] (or is NaN) under "bernoulli".

  >>> x = np.array([[0.0, 1.0, 0.5, 0.5]]).reshape(1, 2, 2, 1)
  >>> round(reconstruction_floor(x, "bernoulli"), 4)  # two grey pixels: 2 ln 2
  1.3863
  """
  x = checks.images(x)
  if likelihood == "gaussian":
    return float(0.5 * x[0].size * np.log(2 * np.pi))
  if likelihood != "bernoulli":
    raise InputError(
        f"expected the likelihood 'bernoulli' or 'gaussian', got {likelihood!r}; give one of them."
    )
  total = sum(_pixel_entropy(x[i : i + _BLOCK]) for i in range(0, len(x), _BLOCK))
  return float(total / len(x))


def _pixel_entropy(x: np.ndarray) -> float:
  if not (x.min() >= 0 and x.max() <= 1):
    mend = "leave out images with NaN" if np.isnan(x).any() else "scale the images, as uint8 / 255"
    raise InputError(f"expected pixels in [0, 1], got {x.min()} to {x.max()}; {mend}.")
  x = x.astype(np.float64)
  return float(np.sum(entr(x) + entr(1 - x)))


def category_traversals(
    model: "HybridAutoencoder",
    y: np.ndarray,
    z: np.ndarray,
    dimension: int,
    positions: Sequence[float] | np.ndarray,
) -> tuple[list[int], np.ndarray]:
  """Draws each category from the mean z of its images while one dimension moves: figure 4.

  Args:
    model: has `decode(y, z)`.
    y: [N, K2] probabilities of images.
    z: [N, K1], the posterior means of the same images.
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
  """Share, in [0, 1], of drawn images that the encoder gives another category than the drawn one.

  The images are those of `category_traversals`, with z_k at `count` positions in [-2, 2]. The
  encoder's category is argmax p(y|x). Arguments as in `category_traversals`; `model` also has
  `encode(x)`.
  """
  positions = np.linspace(-2.0, 2.0, count)
  categories, drawn = category_traversals(model, y, z, dimension, positions)
  found = model.encode(drawn.reshape(-1, *drawn.shape[2:]))["y"].argmax(axis=1)
  return float(np.mean(found != np.repeat(categories, count)))

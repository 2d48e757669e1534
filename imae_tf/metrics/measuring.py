"""Figures of merit over all the codes of a data set: information, clustering, reconstruction.

`evaluate` is the whole of them. Labels serve in `clustering` alone; nothing here is trained
on. Every information is in nats.
"""

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

  `information` says what its estimates are worth; each of them is a pair {"naive": v,
  "leave_one_out": v}.

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
    all keys of information: of the same codes (`dataset_information.information`).
    total_correlation_floor: what the same estimates give for factors that are independent, a
      pair (`independent_total_correlation`).
    neighbor_mi_y: `neighbor_information`, which ranks runs without labels, of up to MAX_CODES
      of the images x among up to MAX_NEIGHBORS_AMONG of them; lower than among more images.
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
  y, z_mean, z_scale = _codes(model, x)
  return {
      "n": len(x),
      "codes": min(len(x), dataset_information.MAX_CODES),
      "reconstruction": float(np.mean(model.reconstruction_loss(x), dtype=np.float64)),
      "reconstruction_floor": reconstruction_floor(x, model.likelihood),
      **dataset_information.information(y, z_mean, z_scale, seed=seed),
      "total_correlation_floor": dataset_information.independent_total_correlation(
          y, z_mean, z_scale, seed=seed
      ),
      "neighbor_mi_y": label_free.neighbor_information_of(x, y.argmax(axis=1), seed),
      "used_categories": label_free.used_categories(y.argmax(axis=1), y.shape[1]),
      "active_units": active_units(z_mean),
      "var_mean_per_dimension": z_mean.var(axis=0, dtype=np.float64).tolist(),
      "mean_variance_per_dimension": np.mean(
          np.square(z_scale), axis=0, dtype=np.float64
      ).tolist(),
      **clustering.scores(labels, y.argmax(axis=1)),
  }


def _codes(model, x):
  """Probabilities [N, K2], means and scales [N, K1] of p(y, z|x), checked to be usable."""
  codes = model.encode(x)
  y, z_mean, z_scale = (np.asarray(codes[name], "float32") for name in ("y", "z", "z_scale"))
  for name, values in (("y", y), ("z", z_mean), ("z_scale", z_scale)):
    if not np.isfinite(values).all():
      raise InputError(
          f"expected finite codes, got NaN or infinity in {name} of"
          f" {np.sum(~np.isfinite(values).all(axis=1))} of {len(x)} images; check the images and"
          " the model's weights."
      )
  if not (z_scale > 0).all():
    raise InputError(
        f"expected a z_scale > 0, got {z_scale.min()}; check the model's weights."
    )
  return y, z_mean, z_scale


def active_units(mean: np.ndarray, threshold: float = 0.01) -> int:
  """Number of dimensions of z whose posterior mean moves with the image.

  Dimension k is active if Var_x[mu_k] > threshold. A variance says nothing of the noise:
  compare it with E[sigma_k^2], or read I(x;z_k).

  Args:
    mean: [N, K1], the posterior means mu_k(x).
    threshold: variance above which a unit is active.

  Reference: Burda et al., "Importance Weighted Autoencoders", 2016, arXiv:1509.00519.
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
  x = checks.images(x)
  if likelihood == "gaussian":
    return float(0.5 * x[0].size * np.log(2 * np.pi))
  if likelihood != "bernoulli":
    raise InputError(
        f"expected the likelihood 'bernoulli' or 'gaussian', got {likelihood!r}; give one of them."
    )
  total = sum(_pixel_entropy(x[i : i + _BLOCK]) for i in range(0, len(x), _BLOCK))
  return float(total / len(x))


def _pixel_entropy(x):
  if not (x.min() >= 0 and x.max() <= 1):
    raise InputError(
        f"expected pixels in [0, 1], got {x.min()} to {x.max()}; scale the images, for instance"
        " uint8 / 255."
    )
  x = x.astype(np.float64)
  return np.sum(entr(x) + entr(1 - x))


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

"""Aligns a new model with an old version: gives its codes the same order and the same signs.

The objective does not distinguish category 3 from category 5, or z_k from -z_k. So their order
differs from training to training, and whatever a team has built on the codes would break. Both
models encode the same images, and the order follows from their codes. `imae-export --align_to`
calls `to_version`.
"""

import dataclasses
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import TYPE_CHECKING

import numpy as np
import scipy.optimize
import tensorflow as tf
from sklearn import metrics as sk_metrics

from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.export import codes as codes_lib
from imae_tf.export import versions

if TYPE_CHECKING:
  import os

  from imae_tf.models import HybridAutoencoder

_BATCH = 512


@dataclasses.dataclass(frozen=True)
class Alignment:
  """The change of order and signs that makes served codes of a model's codes.

  Attributes:
    categories: K2 integers: served category i is the model's `categories[i]`.
    dimensions: K1 integers: served dimension k is the model's `dimensions[k]`, times `signs[k]`.
    signs: K1 integers, 1 or -1.
    record: JSON-ready dict with the results, for imae.json.
  """

  categories: tuple[int, ...]
  dimensions: tuple[int, ...]
  signs: tuple[int, ...]
  record: dict[str, Any] = dataclasses.field(default_factory=dict)

  def served(self, codes: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """The model's {"y": [N, K2], "z": [N, K1], "z_scale": [N, K1]} as tensors to serve."""
    return {
        "y": tf.gather(codes["y"], self.categories, axis=1),
        "z": tf.gather(codes["z"], self.dimensions, axis=1) * self._signs(codes["z"].dtype),
        "z_scale": tf.gather(codes["z_scale"], self.dimensions, axis=1),
    }

  def of_model(self, y: tf.Tensor, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The inverse of `served`: served y [N, K2] and z [N, K1] in the model's order, (y, z)."""
    y = tf.gather(y, np.argsort(self.categories), axis=1)
    return y, tf.gather(z * self._signs(z.dtype), np.argsort(self.dimensions), axis=1)

  def figures(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """metrics.json with its lists of one figure per dimension in the served order."""
    def served(value: Any) -> Any:
      if isinstance(value, dict):
        return {name: served(inner) for name, inner in value.items()}
      return [value[k] for k in self.dimensions]

    return {
        name: served(value) if name.endswith("_per_dimension") else value
        for name, value in metrics.items()
    }

  def _signs(self, dtype: tf.DType) -> tf.Tensor:
    return tf.constant(self.signs, dtype)


def to_version(
    model: "HybridAutoencoder",
    base: "str | os.PathLike[str]",
    number: int,
    images: Mapping[str, np.ndarray],
) -> Alignment:
  """Aligns a model with a published version.

  Args:
    model: a `HybridAutoencoder`.
    base: folder of the versions.
    number: the version to align with.
    images: {split: float32 [N, H, W, C] in [0, 1]}; the first split decides, the agreement
      is measured on each.

  Returns:
    An `Alignment`. Its record has the version, the permutations and signs, and the correlation of
    each dimension on the first split. For each split it has n and three shares of images on which
    both models have the same most probable category: `before`, `aligned`, and `best`, the largest
    share that any permutation reaches on these images.

  Raises:
    InputError: there is no such version, it has other image shapes, K1 or K2, or a split is empty.
    ImaeError: the model's codes are not finite.
  """
  encoder = codes_lib.Encoder(versions.get(base, number))
  _check_same_sizes(model, encoder, number)
  decisive = next(iter(images))
  if not all(map(len, images.values())):
    raise InputError("expected images to align with, got none; give some of each split.")
  theirs = {
      split: codes_lib.encode_batches(encoder, _batches(x), len(x)) for split, x in images.items()
  }
  ours = {split: model.encode(x) for split, x in images.items()}
  if not all(np.isfinite(value).all() for value in ours[decisive].values()):
    raise ImaeError(
        "expected finite codes to align, got NaN or infinity; nothing was published. Train again:"
        " the weights of this model are damaged."
    )
  categories = match_categories(theirs[decisive]["y"], ours[decisive]["y"])
  dimensions, correlations = match_dimensions(theirs[decisive]["z"], ours[decisive]["z"])
  signs = np.where(correlations < 0, -1, 1)
  return Alignment(
      tuple(categories.tolist()),
      tuple(dimensions.tolist()),
      tuple(signs.tolist()),
      record={
          "version": number,
          "categories": categories.tolist(),
          "dimensions": dimensions.tolist(),
          "signs": signs.tolist(),
          "correlation_per_dimension": np.abs(correlations).tolist(),
          "decided_on": decisive,
          "agreement": {
              split: _agreements(theirs[split]["y"], ours[split]["y"], categories)
              for split in images
          },
      },
  )


def match_categories(reference: np.ndarray, y: np.ndarray) -> np.ndarray:
  """The permutation of the columns of y under which most images agree with a reference.

  Args:
    reference: [N, K2] probabilities.
    y: [N, K2] probabilities of the same images.

  Returns:
    [K2] integers: column i of the reference is column `result[i]` of y. If several permutations
    agree on as many images, as with empty categories, it is the one with the largest common
    probability.
  """
  counts = sk_metrics.confusion_matrix(
      reference.argmax(axis=1), y.argmax(axis=1), labels=range(y.shape[1])
  )
  # The common probabilities sum to less than 1, so that they never outweigh a count.
  common = reference.astype("float64").T @ y.astype("float64") / (len(y) + 1)
  return scipy.optimize.linear_sum_assignment(counts + common, maximize=True)[1]


def match_dimensions(
    reference: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """The permutation of the columns of z with the largest sum of absolute correlations.

  Args:
    reference: [N, K1] means.
    z: [N, K1] means of the same images.

  Returns:
    ([K1] integers: dimension k of the reference is `result[k]` of z; [K1] correlations of the
    pairs, 0 where one of them is constant).
  """
  products = _standardised(reference).T @ _standardised(z)
  rows, columns = scipy.optimize.linear_sum_assignment(np.abs(products), maximize=True)
  return columns, products[rows, columns]


def agreement(reference: np.ndarray, y: np.ndarray) -> float:
  """The share of images whose most probable categories are the same in both, [N, K2]."""
  return float(np.mean(reference.argmax(axis=1) == y.argmax(axis=1)))


def summary(record: Mapping[str, Any]) -> str:
  """An `Alignment.record` as a line for the person at the keyboard."""
  others = [split for split in record["agreement"] if split != record["decided_on"]]
  split = (others or [record["decided_on"]])[0]
  found = record["agreement"][split]
  correlations = record["correlation_per_dimension"]
  return (
      f"Aligned with version {record['version']}: categories agree on {found['aligned']:.3f} of"
      f" {found['n']} {split} images (before: {found['before']:.3f}; the best permutation of"
      f" them: {found['best']:.3f}); correlations of the dimensions {min(correlations):.2f} to"
      f" {max(correlations):.2f}, mean {np.mean(correlations):.2f}."
  )


def _check_same_sizes(
    model: "HybridAutoencoder", encoder: codes_lib.Encoder, number: int
) -> None:
  if encoder.image_shape != model.image_shape:
    raise InputError(
        f"expected a version for images of shape {list(model.image_shape)} as --align_to, got"
        f" version {number} for {list(encoder.image_shape)}; name another version, or leave"
        " --align_to out."
    )
  empty = encoder(np.zeros((0, *encoder.image_shape), "float32"))
  sizes = {
      "num_categories": (model.num_categories, empty["y"].shape[1]),
      "latent_dim": (model.latent_dim, empty["z"].shape[1]),
  }
  for name, (ours, theirs) in sizes.items():
    if ours != theirs:
      raise InputError(
          f"expected a version with {name} {ours}, like the model's, as --align_to, got version"
          f" {number} with {theirs}; name another version, or train with --{name}={theirs}."
      )


def _batches(x: np.ndarray) -> Iterator[np.ndarray]:
  return (x[start : start + _BATCH] for start in range(0, len(x), _BATCH))


def _agreements(
    reference: np.ndarray, y: np.ndarray, categories: np.ndarray
) -> dict[str, Any]:
  best = match_categories(reference, y)
  return {
      "n": len(y),
      "before": agreement(reference, y),
      "aligned": agreement(reference, y[:, categories]),
      "best": agreement(reference, y[:, best]),
  }


def _standardised(z: np.ndarray) -> np.ndarray:
  """The columns of z with mean 0 and length 1; constant columns become 0."""
  z = z.astype("float64") - z.mean(axis=0, dtype="float64")
  length = np.linalg.norm(z, axis=0)
  return z / np.where(length > 1e-6 * np.sqrt(len(z)), length, np.inf)

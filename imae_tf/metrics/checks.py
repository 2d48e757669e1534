"""Checks the images and labels that the other modules of `metrics` get from users.

Each function returns its argument as an array, or raises an `InputError` that says what was
expected.
"""

import numpy as np

from imae_tf._shared import pixels
from imae_tf.errors import InputError


def images(x: np.ndarray) -> np.ndarray:
  """x: [N, H, W, C], N >= 1; integers and bools are read as floats in [0, 1]."""
  x = pixels.array(x)
  if x.ndim < 2 or not x.size:
    raise InputError(
        f"expected images [N, height, width, channels] with N >= 1, got shape {x.shape}; add"
        " images, or reshape them."
    )
  return x if np.issubdtype(x.dtype, np.floating) else pixels.floats(x)


def integers(name: str, values: np.ndarray) -> np.ndarray:
  """values: [N] integers; `name` is what the message calls them."""
  values = np.asarray(values)
  if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
    raise InputError(
        f"expected {name} as a vector of integers, got shape {values.shape} of"
        f" {values.dtype}; convert them."
    )
  return values


def labels(values: np.ndarray, n: int) -> np.ndarray:
  """values: [n] integers, one for each of n images."""
  values = integers("labels", values)
  if len(values) != n:
    raise InputError(
        f"expected one label for each of {n} images, got {len(values)}; leave out the images or"
        " labels that are too many."
    )
  return values

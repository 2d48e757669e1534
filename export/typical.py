"""Writes the images of each category that a model is surest of, for people to look at.

`savedmodel.write` puts the file beside the model; the server's page shows it.
"""

import os
import pathlib

import numpy as np

IMAGES = "assets.extra/typical_images.npz"

_EACH = 8


def write(path: str | os.PathLike[str], y: np.ndarray, images: np.ndarray) -> None:
  """Writes the most probable images of each category beside a SavedModel.

  The file has `images`, uint8 [K2, n, H, W, C], with the most probable first, and `counts`, int64
  [K2]: how many of the n images belong to the category. The others are black.

  Args:
    path: folder of the SavedModel.
    y: [N, K2] probabilities of the images, as served.
    images: float32 [N, H, W, C] in [0, 1].
  """
  chosen = [_most_probable(y, category) for category in range(y.shape[1])]
  found = np.zeros((y.shape[1], _EACH, *images.shape[1:]), np.uint8)
  for category, indices in enumerate(chosen):
    found[category, : len(indices)] = np.rint(images[indices] * 255)
  path = pathlib.Path(path) / IMAGES
  path.parent.mkdir(exist_ok=True)
  np.savez_compressed(path, images=found, counts=np.array([len(c) for c in chosen], np.int64))


def _most_probable(y: np.ndarray, category: int) -> np.ndarray:
  """Indices of the images with this most probable category, the surest first."""
  members = np.flatnonzero(y.argmax(axis=1) == category)
  return members[np.argsort(-y[members, category], kind="stable")][:_EACH]

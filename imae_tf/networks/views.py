"""Views of an image for y's layers: fixed layers without trained weights, images to vectors.

`two_towers` puts a view before y's layers. `EdgeEnergies` keeps where an image has edges of which
direction, and forgets hue, contrast and size; `Pixels` is the image itself. Both standardise their
output by the training images: call `adapt` before training, which `imae-train` does.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_BATCH = 512
# Larger images are halved until they are not: what tells objects apart is coarse, and the
# arithmetic of a view, and of layers on pixels, grows with the pixels.
_LARGEST_SIDE = 48  # of which edges are taken
_LARGEST_PIXELS = 16  # a side of the view `Pixels`
_EPS = 0.05  # of the mean energy: keeps empty images empty


class View(keras.layers.Layer):
  """Standardises what `features` gives: subtracts the mean image's, divides by one deviation.

  A subclass has `features`, images [B, H, W, C] -> [B, V], and `num_features`. Views get no
  gradient.
  """

  largest_side = _LARGEST_SIDE

  def __init__(self, **kwargs: Any) -> None:
    kwargs["dtype"] = "float32"
    super().__init__(trainable=False, **{k: v for k, v in kwargs.items() if k != "trainable"})

  def features(self, x: tf.Tensor) -> tf.Tensor:
    """Images [B, H, W, C] in [0, 1] to [B, V], before they are standardised."""
    raise NotImplementedError

  def small(self, x: tf.Tensor) -> tf.Tensor:
    """Images [B, h, w, C] with the same features, halved until no side is above `largest_side`."""
    x = keras.ops.cast(x, "float32")
    while max(x.shape[1:3]) > self.largest_side:
      x = _blurred(x)[:, ::2, ::2]
    return x

  def num_features(self, image_shape: Sequence[int]) -> int:
    """V, of images (H, W, C)."""
    raise NotImplementedError

  def build(self, input_shape: Sequence[int | None]) -> None:
    size = self.num_features([int(n or 0) for n in input_shape[1:]])
    self.mean = self.add_weight(shape=(size,), initializer="zeros", name="mean")
    self.deviation = self.add_weight(shape=(), initializer="ones", name="deviation")
    self.built = True

  def call(self, x: tf.Tensor) -> tf.Tensor:
    seen = self.features(keras.ops.cast(x, "float32"))
    return keras.ops.stop_gradient((seen - self.mean) / self.deviation)

  def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int]:
    return input_shape[0], self.num_features([int(n or 0) for n in input_shape[1:]])

  def adapt(self, x: np.ndarray) -> None:
    """Takes mean and deviation from images [N, H, W, C] in [0, 1]."""
    parts = [np.asarray(self.features(tf.constant(x[i : i + _BATCH], tf.float32)))
             for i in range(0, len(x), _BATCH)]
    seen = np.concatenate(parts).astype(np.float64)
    self.mean.assign(seen.mean(axis=0))
    self.deviation.assign(max(float((seen - seen.mean(axis=0)).std()), 1e-6))


@keras.saving.register_keras_serializable("imae_tf")
class Pixels(View):
  """The pixels, of images halved until no side is above 16: [B, h w C]."""

  largest_side = _LARGEST_PIXELS

  def features(self, x: tf.Tensor) -> tf.Tensor:
    x = self.small(x)
    return keras.ops.reshape(x, [-1, math.prod(x.shape[1:])])

  def num_features(self, image_shape: Sequence[int]) -> int:
    height, width, channels = image_shape
    while max(height, width) > self.largest_side:
      height, width = -(-height // 2), -(-width // 2)
    return height * width * channels


@keras.saving.register_keras_serializable("imae_tf")
class EdgeEnergies(View):
  """How much edge an image has in each direction and cell: [B, grid^2 x directions].

  The image is halved until no side is above 48 pixels, and blurred. In each pixel the energy of
  the gradient g goes to the directions d near it, |g| cos(g, d)^4. Energies are averaged over
  overlapping triangular cells, divided by the image's mean energy, and their root is taken (as in
  histograms of oriented gradients; Dalal and Triggs 2005).

  Args:
    signed: whether an edge from dark to light differs from one from light to dark: for grey
      images. Of colour images an edge has no sign, because channels may differ.
    grid: cells along each side.
    directions: number of directions.
    **kwargs: `keras.layers.Layer`'s.
  """

  def __init__(
      self, signed: bool = False, grid: int = 8, directions: int = 8, **kwargs: Any
  ) -> None:
    super().__init__(**kwargs)
    self.signed = signed
    self.grid = grid
    self.directions = directions

  def num_features(self, image_shape: Sequence[int]) -> int:
    return self.grid**2 * self.directions

  def features(self, x: tf.Tensor) -> tf.Tensor:
    x = _blurred(self.small(x))
    down, right = _difference(x, 1), _difference(x, 2)
    pixels = math.prod(x.shape[1:3])
    energies = [keras.ops.reshape(e, [-1, pixels]) for e in self._energies(down, right)]
    cells = _cells(self.grid, *x.shape[1:3])
    means = [keras.ops.matmul(energy, cells) for energy in energies]
    mean = keras.ops.mean(sum(means[1:], means[0]), axis=1, keepdims=True)
    seen = keras.ops.concatenate(means, axis=1)
    return keras.ops.sqrt(seen / ((1.0 + _EPS) * mean + 1e-4) + 1e-6)

  def _energies(self, down: tf.Tensor, right: tf.Tensor) -> list[tf.Tensor]:
    """Gradients [B, H, W, C] to |g| cos(g, d)^4 of each direction d, [B, H, W]."""
    turn = 2.0 * math.pi if self.signed else math.pi
    angles = np.arange(self.directions) * turn / self.directions
    if self.signed:
      down, right = keras.ops.sum(down, -1), keras.ops.sum(right, -1)
      root = _root(keras.ops.square(down) + keras.ops.square(right) + 1e-6)
      along = [keras.ops.relu(down * np.sin(a) + right * np.cos(a)) for a in angles]
      return [keras.ops.square(keras.ops.square(a) * root) for a in along]
    down2, right2, both = (
        keras.ops.sum(a * b, -1) for a, b in ((down, down), (right, right), (down, right))
    )
    root = _root(down2 + right2 + 1e-6)
    return [
        keras.ops.square(
            root * (down2 * np.sin(a) ** 2 + right2 * np.cos(a) ** 2 + both * np.sin(2 * a))
        )
        for a in angles
    ]

  def get_config(self) -> dict[str, Any]:
    own = {"signed": self.signed, "grid": self.grid, "directions": self.directions}
    return {**super().get_config(), **own}


def _root(squared: tf.Tensor) -> tf.Tensor:
  """|g|^(-3/2) of |g|^2: |g| cos^4 is the square of this times |g|^2 cos^2."""
  inverse = keras.ops.rsqrt(squared)
  return inverse * keras.ops.sqrt(inverse)


def _padded(x: tf.Tensor, axis: int) -> tf.Tensor:
  """One more pixel at each end of an axis, like the last one."""
  size = x.shape[axis]
  ends = [_slice(x, axis, 0, 1), x, _slice(x, axis, size - 1, size)]
  return keras.ops.concatenate(ends, axis)


def _slice(x: tf.Tensor, axis: int, start: int, stop: int) -> tf.Tensor:
  return x[:, start:stop] if axis == 1 else x[:, :, start:stop]


def _blurred(x: tf.Tensor) -> tf.Tensor:
  """Means with weights 1, 2, 1 along both axes."""
  for axis in (1, 2):
    size, padded = x.shape[axis], _padded(x, axis)
    ends = _slice(padded, axis, 0, size) + _slice(padded, axis, 2, size + 2)
    x = 0.5 * x + 0.25 * ends
  return x


def _difference(x: tf.Tensor, axis: int) -> tf.Tensor:
  size, padded = x.shape[axis], _padded(x, axis)
  return 0.5 * (_slice(padded, axis, 2, size + 2) - _slice(padded, axis, 0, size))


def _cells(count: int, height: int, width: int) -> np.ndarray:
  """[height x width, count x count]: the weights of pixels in overlapping triangular cells."""
  down, right = _cells_along(count, height), _cells_along(count, width)
  return np.einsum("gh,fw->hwgf", down, right).reshape(height * width, -1).astype("float32")


def _cells_along(count: int, size: int) -> np.ndarray:
  """[count, size]: the weights along one axis; rows sum to 1."""
  width = size / count
  centres = (np.arange(count) + 0.5) * width
  distance = np.abs(np.arange(size) + 0.5 - centres[:, None])
  # A side shorter than the grid has cells narrower than a pixel.
  weights = np.maximum(1.0 - distance / max(width, 1.0), 0.0)
  return weights / weights.sum(axis=1, keepdims=True)

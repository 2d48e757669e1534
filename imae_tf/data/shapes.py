"""`shapes`: images made from known factors, as dSprites are (Matthey et al. 2017).

A white square, ellipse or heart on black, 64x64 pixels of one channel, in some sizes,
orientations and places. The whole grid has dSprites' 3 x 6 x 40 x 32 x 32 = 737,280 images;
`shapes` is a part of 15,552, and `shapes:scale=2:orientation=4:x=8:y=8` any other. Images
come in a fixed random order, so that the last fifth of them, the test split, is like the rest.

Turned by a quarter the square is itself again, and the ellipse by a half. With an even number
of orientations, as in dSprites, many images are therefore there twice, and test images have
twins among the training images; with an odd number hardly any are.
"""

import math

import numpy as np
import tensorflow as tf

from imae_tf.data import pipelines
from imae_tf.data import splits
from imae_tf.errors import InputError

SHAPES = ("square", "ellipse", "heart")
IMAGE_SHAPE = (64, 64, 1)
# Numbers of values of dSprites' factors, and of ours; the first varies slowest.
MOST = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
_USUAL = {"shape": 3, "scale": 4, "orientation": 9, "x": 12, "y": 12}
_RADIUS = 13.0  # pixels from the centre of the largest shape to its farthest point
_FIRST_PLACE, _LAST_PLACE = 15.0, 48.0  # of the centre: no shape leaves the image


def load(name: str, holdout: int) -> pipelines.StreamedData:
  """The data set of a name such as "shapes" or "shapes:scale=2:x=8", drawn as it goes.

  Labels are the shapes; a factor of one value is none. The last `holdout` of the training
  images are held out.

  Raises:
    InputError: Another name, or fewer than two training images.
  """
  sizes = grid(name)
  places = order(sizes)
  bounds = splits.train_test(len(places), holdout)
  splits.check_sizes(name, bounds)
  per_shape = len(places) // sizes["shape"]  # which varies slowest
  varying = [k for k, size in enumerate(sizes.values()) if size > 1]
  axes = tf.constant(list(sizes.values()), tf.int64)
  return pipelines.StreamedData(
      name,
      IMAGE_SHAPE,
      SHAPES[: sizes["shape"]],
      records={
          split: tf.data.Dataset.from_tensor_slices(places[start:stop])
          for split, (start, stop) in bounds.items()
      },
      split_sizes={split: stop - start for split, (start, stop) in bounds.items()},
      parse=lambda batch: (batch, batch // per_shape),
      decode=lambda place: draw(place[None], sizes)[0],
      window=len(places),  # numbers alone
      factor_names=tuple(tuple(sizes)[k] for k in varying),
      parse_factors=lambda batch: tf.gather(
          tf.transpose(tf.unravel_index(batch, axes)), varying, axis=1
      ),
  )


def grid(name: str) -> dict[str, int]:
  """{factor: number of values} of a name such as "shapes:scale=2:x=8".

  Raises:
    InputError: an unknown factor, one given twice, or a number out of range.

  >>> grid("shapes:scale=2:x=8")
  {'shape': 3, 'scale': 2, 'orientation': 9, 'x': 8, 'y': 12}
  """
  sizes = dict(_USUAL)
  parts = name.split(":")[1:]
  given = [part.partition("=")[0] for part in parts]
  for part in parts:
    factor, _, text = part.partition("=")
    most = MOST.get(factor, 0)
    if given.count(factor) > 1 or not text.isdecimal() or not 1 <= int(text) <= most:
      allowed = ", ".join(f"{f} (1 to {n})" for f, n in MOST.items())
      raise InputError(
          f"expected numbers of values as in shapes:scale=2:x=8, each once, of {allowed}, got"
          f" {part!r} in {name!r}; correct the name."
      )
    sizes[factor] = int(text)
  return sizes


def order(sizes: dict[str, int]) -> np.ndarray:
  """[N] the places in the grid of the images of a data set: all, in a fixed random order."""
  # The legacy generator, whose streams NumPy promises never to change.
  return np.random.RandomState(0).permutation(math.prod(sizes.values()))


def draw(places: tf.Tensor | np.ndarray, sizes: dict[str, int]) -> tf.Tensor:
  """The images at these places in the grid.

  Scales run evenly from 0.5 to 1 and places over 33 pixels, both ends included; orientations
  divide the full turn.

  Args:
    places: [B] integers in [0, N), a tensor or an array.
    sizes: as `grid` returns them.

  Returns:
    uint8 [B, 64, 64, 1] tensor of 0 and 255.
  """
  shape, scale, orientation, x, y = _values(places, sizes)
  middle = tf.range(IMAGE_SHAPE[0], dtype=tf.float32)
  right = middle[None, None, :] - x  # [B, 1, 64]
  up = y - middle[None, :, None]  # [B, 64, 1]
  size = _RADIUS * scale
  u = (tf.cos(orientation) * right + tf.sin(orientation) * up) / size
  v = (tf.cos(orientation) * up - tf.sin(orientation) * right) / size
  inside = tf.stack([_square(u, v), _ellipse(u, v), _heart(u, v)])
  chosen = tf.reduce_any(inside & (shape[None] == tf.range(3)[:, None, None, None]), axis=0)
  return tf.cast(chosen[..., None], tf.uint8) * 255


def _values(places: tf.Tensor | np.ndarray, sizes: dict[str, int]) -> list[tf.Tensor]:
  """Shape (int32), scale, orientation, x, y (float32) of places: each [B, 1, 1]."""
  axes = tf.constant(list(sizes.values()), tf.int64)
  indices = tf.unravel_index(tf.cast(places, tf.int64), axes)[..., None, None]
  tables = (
      np.arange(sizes["shape"], dtype=np.int32),
      np.linspace(0.5, 1.0, sizes["scale"], dtype=np.float32),
      np.linspace(0.0, 2 * np.pi, sizes["orientation"], endpoint=False, dtype=np.float32),
      np.linspace(_FIRST_PLACE, _LAST_PLACE, sizes["x"], dtype=np.float32),
      np.linspace(_FIRST_PLACE, _LAST_PLACE, sizes["y"], dtype=np.float32),
  )
  return [tf.gather(table, indices[k]) for k, table in enumerate(tables)]


# Each lies within the unit circle and touches it.


def _square(u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
  return tf.maximum(tf.abs(u), tf.abs(v)) <= math.sqrt(0.5)


def _ellipse(u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
  return u**2 + (2 * v) ** 2 <= 1


def _heart(u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
  u, v = 1.4 * u, 1.4 * v
  return (u**2 + v**2 - 1) ** 3 <= u**2 * v**3

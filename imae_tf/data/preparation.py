"""What is done to an image before the model sees it: its colour, its fit and its size.

A `Preparation` is kept in the run's config.json and in the SavedModel. Folders, arrays, encoding
and the served graph all call it, and it is TensorFlow's own operations alone. So the same decoded
pixels become the same image, to the bit, wherever they are prepared.
"""

import dataclasses
import functools
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from imae_tf.errors import InputError

FITS = ("crop", "pad", "stretch")
COLORS = ("grey", "rgb")
# A file of a few kilobytes can claim gigabytes of pixels; cameras give up to 50 million.
MOST_PIXELS = 2**26
# The weights of red, green and blue that Pillow makes grey with: ITU-R BT.601 in 16 bits.
_LUMA = (19595, 38470, 7471)


@dataclasses.dataclass(frozen=True)
class Preparation:
  """Turns an image of any size into one of `image_shape`.

  Attributes:
    size: (H, W) of what comes out.
    fit: What makes the proportions of H and W. "crop" cuts the longer side, both ends alike; "pad"
      continues the edge of the shorter side; "stretch" changes the proportions.
    color: "grey", as Pillow's mode L, or "rgb".

  >>> Preparation((32, 48), "crop", "rgb").image_shape
  (32, 48, 3)
  """

  size: tuple[int, int]
  fit: str = "crop"
  color: str = "rgb"

  @classmethod
  def of_record(cls, record: Mapping[str, Any]) -> "Preparation":
    """The inverse of `record`.

    Args:
      record: As it is read from a JSON file.
    """
    height, width = record["size"]
    return cls((height, width), record["fit"], record["color"])

  def record(self) -> dict[str, Any]:
    """A JSON-ready dict: size [H, W], fit, color."""
    return {"size": list(self.size), "fit": self.fit, "color": self.color}

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C)."""
    return (*self.size, 1 if self.color == "grey" else 3)

  def words(self) -> str:
    """For people: "cropped and resized to 64x64 pixels, in colour"."""
    fitted = {"crop": "cropped", "pad": "padded", "stretch": "stretched"}[self.fit]
    height, width = self.size
    color = "grey" if self.color == "grey" else "in colour"
    return f"{fitted} and resized to {height}x{width} pixels, {color}"

  def __call__(self, image: tf.Tensor) -> tf.Tensor:
    """The prepared image, in a graph or outside one.

    Args:
      image: [h, w, 1 or 3], uint8, or float32 in [0, 1].

    Returns:
      [H, W, C] of the same type. Bytes are rounded, so that an image is the same whether it is
      kept as bytes, as folders are, or prepared in a request.
    """
    image = _colored(image, self.color)
    if self.fit == "crop":
      image = _cropped(image, self.size)
    inner = _inner_size(image, self.size) if self.fit == "pad" else tf.constant(self.size)
    resized = _resized(image, inner)
    if self.fit == "pad":
      resized = _edges_continued(resized, self.size)
    return tf.ensure_shape(resized, self.image_shape)

  def of_array(self, image: np.ndarray) -> np.ndarray:
    """The same of a NumPy array.

    Args:
      image: As of the call.

    Raises:
      InputError: Another number of channels.
    """
    if image.shape == self.image_shape:
      return image
    if image.shape[-1] not in (1, 3):
      raise InputError(
          f"expected images of 1 or 3 channels to resize, got {image.shape[-1]}; leave out"
          " --image_size, or give arrays of that size."
      )
    return _compiled(self, image.dtype.name, image.shape[-1])(tf.constant(image)).numpy()


@functools.lru_cache(maxsize=64)
def _compiled(
    preparation: Preparation, dtype: str, channels: int
) -> Callable[[tf.Tensor], tf.Tensor]:
  """One traced function for all sizes: outside a graph each operation costs as much as this."""
  spec = tf.TensorSpec([None, None, channels], dtype)

  def prepared(image: tf.Tensor) -> tf.Tensor:
    with tf.device("CPU:0"):
      return preparation(image)

  return tf.function(prepared).get_concrete_function(spec)


def _colored(image: tf.Tensor, color: str) -> tf.Tensor:
  is_grey = image.shape[-1] == 1
  if color == "rgb":
    return tf.repeat(image, 3, axis=-1) if is_grey else image
  if is_grey:
    return image
  if image.dtype == tf.uint8:
    parts = tf.cast(image, tf.int32) * tf.constant(_LUMA)
    grey = tf.bitwise.right_shift(tf.reduce_sum(parts, axis=-1, keepdims=True) + 2**15, 16)
    return tf.cast(grey, tf.uint8)
  return tf.reduce_sum(image * (np.array(_LUMA, np.float32) / 2**16), axis=-1, keepdims=True)


def _sides(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  shape = tf.shape(image, tf.int64)
  return shape[0], shape[1]


def _share(length: tf.Tensor, part: int | tf.Tensor, whole: int | tf.Tensor) -> tf.Tensor:
  """length * part / whole, rounded, at least 1, in integers: floats could round otherwise."""
  part, whole = tf.cast(part, tf.int64), tf.cast(whole, tf.int64)
  return tf.maximum((2 * length * part + whole) // (2 * whole), 1)


def _cropped(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
  """The middle of an image, of the proportions of `size`."""
  height, width = _sides(image)
  rows = tf.minimum(_share(width, size[0], size[1]), height)
  columns = tf.minimum(_share(height, size[1], size[0]), width)
  top, left = (height - rows) // 2, (width - columns) // 2
  return image[top : top + rows, left : left + columns]


def _inner_size(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
  """[2], int32: the largest (h, w) within `size` of the proportions of an image."""
  height, width = _sides(image)
  tallest, widest = (tf.constant(side, tf.int64) for side in size)
  rows = tf.minimum(_share(height, widest, width), tallest)
  columns = tf.minimum(_share(width, tallest, height), widest)
  return tf.cast(tf.stack([rows, columns]), tf.int32)


def _edges_continued(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
  """An image in the middle of `size`; each pixel beside it is the nearest one of its edge.

  Black bars would be the strongest contrast of many images, and a code would tell the proportions
  of the files before anything that they show.
  """
  for axis, length in enumerate(size):
    have = tf.shape(image)[axis]
    places = tf.range(length) - (length - have) // 2
    image = tf.gather(image, tf.clip_by_value(places, 0, have - 1), axis=axis)
  return image


def _resized(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
  """Bilinear, of a kernel that widens as images shrink: each pixel counts, thin lines stay.

  It is Pillow's BILINEAR but for the rounding. Without the wider kernel a photo made small would
  be a few of its pixels, picked.
  """
  resized = tf.image.resize(image, size, method="bilinear", antialias=True)
  if image.dtype == tf.uint8:
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
  return tf.clip_by_value(resized, 0, 1)

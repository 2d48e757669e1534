"""Pixels: which numbers an image may have, and the floats in [0, 1] that they become.

    bool                 0 and 1
    uint8, uint16, ...   divided by the type's largest value, which is white
    floats               in [0, 1] already; what rounding put at most TOLERANCE outside is clipped

Every way in reads pixels here: arrays, files, pipelines, clients. Integers whose largest pixel is
1, or less than 1/128 of white, would be black images. They are refused, for they nearly always
mean something else: masks of 0 and 1, or bytes in a wider type such as int64. Nothing is guessed.
A stream is judged by many of its images together, for one batch of it may well be of the night.

TensorFlow is imported by the functions of tensors alone.
"""

import math
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

import numpy as np

from imae_tf.errors import InputError

if TYPE_CHECKING:
  pass

# About one step of float16 below 1.
TOLERANCE = 1e-3
_NEARLY_BLACK = 128
# Floats up to so much outside [0, 1] come from a filter that overshoots, such as Lanczos.
_OVERSHOOT = 0.1


def array(x: Any, name: str = "") -> np.ndarray:
  """What holds pixels, a list of images too, as an array of numbers.

  Raises:
    InputError: Images of several shapes, something masked, or no numbers.
  """
  x = x.numpy() if hasattr(x, "numpy") and not isinstance(x, np.ndarray) else x
  if np.ma.is_masked(x):
    raise InputError(
        f"expected images without a mask{_in(name)}, got masked pixels; fill them, for example"
        " with x.filled(0)."
    )
  try:
    found = np.asarray(x)
  except ValueError:  # what NumPy says of it is of no help
    raise InputError(
        f"expected images of one shape{_in(name)}, got a list of several; {_one_shape(x)}."
    ) from None
  if not is_numeric(found.dtype) or not found.ndim:
    raise InputError(
        f"expected images of bool, integers such as uint8, or floats in [0, 1]{_in(name)}, got"
        f" {_not_numbers(x, found)}."
    )
  return found


def is_numeric(dtype: Any) -> bool:
  """Whether a type, of NumPy or of TensorFlow, can be that of pixels."""
  text = getattr(dtype, "name", str(dtype))
  return text.startswith(("bool", "int", "uint", "float", "bfloat", "longdouble"))


def _not_numbers(x: Any, found: np.ndarray) -> str:
  if not found.ndim:
    return f"a {type(x).__name__}; give an array [N, H, W, C]"
  if found.dtype.kind in "US":
    return "text; give the pixels, or read files with imae_tf.data.load(path)"
  if found.dtype == object and len(_shapes(found)) > 1:
    return f"images of several shapes; {_one_shape(found)}"
  if found.ndim == 1 and any(isinstance(item, np.ndarray) for item in found):
    return "an array of arrays; stack them: np.stack(list(x))"
  return f"{found.dtype}; convert them, for example with x.astype('float32')"


def _shapes(images: Any) -> set[tuple[int, ...]]:
  try:
    return {np.shape(image) for image in images}
  except ValueError:  # an image that is ragged itself
    return set()


def _one_shape(images: Any) -> str:
  """The mend of images of several shapes."""
  shapes = _shapes(images)
  if len({shape[:2] for shape in shapes}) == 1:
    return "make all grey, for example with x.mean(axis=-1) of those in colour"
  return "resize them, for example with tf.image.resize of each [H, W, C]"


def _in(name: str) -> str:
  return f" in {name}" if name else ""


# ---- values -----------------------------------------------------------------------------------


class Brightness:
  """Whether integers that come in parts, such as batches, are nearly black as a whole.

  Attributes:
    images: Number of images seen.
    is_bright: Whether one of them is not nearly black. Floats and bools never are.
  """

  def __init__(self) -> None:
    self.images = 0
    self.is_bright = False
    self._highest: dict[np.dtype, int] = {}

  def add(self, x: np.ndarray, high: int | None = None) -> None:
    """Looks at images [N, ...]; `high` is their largest value, of integers."""
    self.images += len(x)
    if high is None:
      self.is_bright = True
    elif high == 1 or 0 < high * _NEARLY_BLACK < np.iinfo(x.dtype).max:
      self._highest[x.dtype] = max(high, self._highest.get(x.dtype, 0))
    elif high:
      self.is_bright = True

  def check(self, name: str = "", count: int = 0) -> None:
    """Raises an `InputError` if all are nearly black, and if `count` images have been seen."""
    if self.is_bright or not self._highest or self.images < count:
      return
    dtype, high = next(iter(self._highest.items()))
    limit = int(np.iinfo(dtype).max)
    raise InputError(
        f"expected {dtype} pixels up to {limit}, the type's largest value, which is white"
        f"{_in(name)}, got none above {high}: all would be black; give {_brighter(high, limit)}"
        f"{f', or x / {limit} if they are so dark' if limit <= 65535 else ''}."
    )


def floats(x: Any, name: str = "", brightness: Brightness | None = None) -> np.ndarray:
  """Pixels as float32 in [0, 1]; x itself where it is that already.

  Args:
    x: What `array` takes, of any shape.
    name: Of where it comes from, for messages.
    brightness: Of the whole that x is a part of, which the caller judges.

  Raises:
    InputError: As `array`; or values that are out of range, not finite or nearly black.
  """
  x = array(x, name)
  if x.dtype.kind in "iu":
    _check_integers(x, name, brightness)
    exact = np.float32 if x.dtype.itemsize <= 2 else np.float64
    found = np.empty(x.shape, np.float32)
    # NumPy converts some thousand numbers at a time, so that no other array of the size is made.
    return np.divide(x, exact(np.iinfo(x.dtype).max), out=found, dtype=exact, casting="same_kind")
  if brightness and x.size:
    brightness.add(x)
  if x.dtype == bool or not x.size:
    return x.astype(np.float32, copy=False)
  low, high = float(x.min()), float(x.max())  # NaN if there is one
  if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
    raise InputError(_out_of_range(x, low, high, name))
  found = x.astype(np.float32, copy=False)
  if low >= 0 and high <= 1:
    return found
  return np.clip(found, 0, 1, out=None if found is x else found)


def stored(x: Any, name: str = "") -> np.ndarray:
  """As `floats`, but uint8 stays uint8 and bool becomes uint8, a fourth of the memory."""
  x = array(x, name)
  if x.dtype == bool:
    return np.multiply(x, np.uint8(255), dtype=np.uint8)
  if x.dtype == np.uint8:
    _check_integers(x, name)
    return x
  return floats(x, name)


def _check_integers(x: np.ndarray, name: str, brightness: Brightness | None = None) -> None:
  if not x.size:
    return
  low, high, limit = int(x.min()), int(x.max()), int(np.iinfo(x.dtype).max)
  if low < 0:
    raise InputError(
        f"expected integer pixels from 0 to {limit}, the type's largest value{_in(name)}, got"
        f" {x.dtype} from {low} to {high}; rescale them, for example with"
        " (x - float(x.min())) / (float(x.max()) - float(x.min()))."
    )
  whole = brightness or Brightness()
  whole.add(x, high)
  if brightness is None:
    whole.check(name)


def _brighter(high: int, limit: int) -> str:
  if high == 1:
    return "x.astype(bool) if 1 is white"
  if high <= 255:
    return "x.astype('uint8') if 255 is white"
  if limit > 65535 and high * _NEARLY_BLACK >= 65535 >= high:
    return "x.astype('uint16') if 65535 is white"
  return "x / x.max() if the largest is white"


def _out_of_range(x: np.ndarray, low: float, high: float, name: str) -> str:
  if not (math.isfinite(low) and math.isfinite(high)):
    axes = ", ".join(map(str, range(1, x.ndim)))
    finite = np.isfinite(x).all(axis=tuple(range(1, x.ndim)))
    return (
        f"expected finite pixels in [0, 1]{_in(name)}, got NaN or infinity in"
        f" {np.sum(~finite)} of {finite.size} images, the first at index {np.argmin(finite)};"
        f" remove them, for example with x[np.isfinite(x).all(axis=({axes}))]."
    )
  return (
      f"expected float pixels in [0, 1]{_in(name)}, got values from {low:.9g} to {high:.9g};"
      f" rescale them, for example with {_rescaling(low, high)}."
  )


def _rescaling(low: float, high: float) -> str:
  if low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT:
    return "np.clip(x, 0, 1)"
  if low < -TOLERANCE:
    for bound, mend in ((0.5, "x + 0.5"), (1.0, "(x + 1) / 2")):
      if low >= -bound - TOLERANCE and high <= bound + TOLERANCE:
        return mend
    return "(x - x.min()) / (x.max() - x.min())"
  limit = next((k for k in (255, 65535) if 16 < high <= k * (1 + TOLERANCE)), "x.max()")
  return f"x / {limit}"


# ---- shapes -----------------------------------------------------------------------------------


def are_channels_first(shape: Sequence[int | None]) -> bool:
  """Whether a shape is that of images [N, C, H, W] rather than [N, H, W, C]."""
  if len(shape) != 4:
    return False
  channels, height, width = (size or 0 for size in shape[1:])  # 0 where it is not known
  return channels in (1, 3, 4) and width not in (1, 3, 4) and channels < min(height, width)


def may_be_one_image(shape: Sequence[int | None]) -> bool:
  """Whether three axes look like one image [H, W, C], rather than grey ones [N, H, W].

  Both can be meant: [28, 28, 3] is one image in colour, or 28 grey ones of 28x3 pixels.
  """
  if len(shape) != 3:
    return False
  height, width, channels = (size or 0 for size in shape)
  return channels in (1, 3, 4) and min(height, width) > channels


def batch_of_images(x: np.ndarray, name: str = "") -> np.ndarray:
  """x [N, H, W, C], for whoever does not know H, W and C.

  Raises:
    InputError: Another number of axes, or channels first.
  """
  if x.ndim == 4 and not are_channels_first(x.shape):
    return x
  raise InputError(
      f"expected images of shape [N, height, width, channels]{_in(name)}, got {list(x.shape)};"
      f" {_mend_of_axes(x.shape)}."
  )


def _mend_of_axes(shape: tuple[int, ...]) -> str:
  if len(shape) == 4:
    return "put the channels last: np.moveaxis(x, 1, -1)"
  if len(shape) == 2 and min(shape) > 0:
    return "give one image as x[np.newaxis, ..., np.newaxis], or reshape rows into images"
  if len(shape) != 3:
    return "reshape them"
  if not may_be_one_image(shape):
    return "add the channel axis: x[..., np.newaxis]"
  count, height, width = shape
  one = {1: "one grey image", 3: "one image in colour", 4: "one image of 4 channels"}[width]
  return (
      f"give {one} as x[np.newaxis], or {count} grey images of {height}x{width} pixels as"
      " x[..., np.newaxis]"
  )


def check_shape(shape: Sequence[int | None], image_shape: tuple[int, int, int]) -> None:
  """Refuses what are not images [N, H, W, C] of `image_shape`, as far as the shape is known.

  Raises:
    InputError: Another shape; the mend is that of its cause.
  """
  if len(shape) == 4 and all(a in (None, b) for a, b in zip(shape[1:], image_shape)):
    return
  raise InputError(
      f"expected images of shape {_text(['N', *image_shape])}, got {_text(shape)};"
      f" {_mend_of_shape(tuple(shape), image_shape)}."
  )


def _text(shape: Sequence[int | str | None]) -> str:
  return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _mend_of_shape(
    shape: tuple[int | None, ...], image_shape: tuple[int, int, int]
) -> str:
  height, width, channels = image_shape
  if shape == image_shape:
    return "give one image as x[np.newaxis], and a tf.data.Dataset as dataset.batch(128)"
  if shape[1:] == (channels, height, width) or are_channels_first(shape):
    return "put the channels last: np.moveaxis(x, 1, -1)"
  if shape[1:] == (height, width) and channels == 1:
    return "add the channel axis: x[..., np.newaxis]"
  if may_be_one_image(shape) and shape[-1] == channels:
    return f"give one image as x[np.newaxis], resized to {height}x{width}"
  if len(shape) == 2 and shape[1] == math.prod(image_shape):
    return f"give x.reshape(-1, {height}, {width}, {channels})"
  if len(shape) == 4 and shape[1:3] == (height, width):
    if channels == 1:
      return "make them grey, for example with floats and x.mean(axis=-1, keepdims=True)"
    if shape[-1] == 1:
      return f"repeat the channel: np.repeat(x, {channels}, axis=-1)"
  if len(shape) == 4 and shape[-1] == channels:
    return (
        f"resize them, for example with tf.image.resize(x, ({height}, {width})) of floats, or"
        " build the networks for that shape"
    )
  return "reshape them, or build the networks for that shape"


# ---- tensors ----------------------------------------------------------------------------------


def scaled(x: Any) -> Any:
  """A tensor's pixels as floats, by its type alone: values are not looked at."""
  import keras

  kind = keras.backend.standardize_dtype(x.dtype)
  if not is_numeric(kind):
    raise InputError(
        f"expected images of bool, integers such as uint8, or floats in [0, 1], got {kind};"
        " convert them to floats."
    )
  if kind.startswith(("float", "bfloat")):
    return x
  pixels = keras.ops.cast(x, "float32")
  return pixels if kind == "bool" else pixels / float(np.iinfo(kind).max)


def checked(x: Any, brightness: Brightness | None = None) -> Any:
  """`floats` of a tensor in a `tf.data` pipeline.

  What is right is known from the smallest and the largest pixel. Anything else goes to `floats`,
  which clips it or raises; `told` makes its error of TensorFlow's. So `brightness` is told of all
  batches that are nearly black, and not of all others.
  """
  import tensorflow as tf

  def slow() -> Any:
    look = lambda value: floats(value, brightness=brightness)
    done = tf.numpy_function(look, [x], tf.float32, stateful=False)
    return tf.ensure_shape(done, x.shape)

  if x.dtype == tf.bool:
    return tf.cast(x, tf.float32)
  if not (x.dtype.is_floating or x.dtype == tf.uint8):
    return slow()
  low, high = tf.reduce_min(x), tf.reduce_max(x)
  fine = (low >= 0) & (high <= 1) if x.dtype.is_floating else high > 1
  return tf.cond(fine, lambda: tf.cast(scaled(x), tf.float32), slow)

"""A folder of image files, at any depth, as a data set."""

import math
import pathlib
from collections.abc import Callable

import numpy as np
import PIL.Image
import tensorflow as tf

from imae_tf.data import pipelines
from imae_tf.data import splits
from imae_tf.errors import first_line
from imae_tf.errors import InputError

_SUFFIXES = frozenset({
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
})


def load(
    path: str,
    bounds_of: Callable[[int], splits.Bounds],
    image_size: tuple[int, int] | None,
    memory_limit: int,
) -> pipelines.ImageData:
  """The images in a folder, sorted by path, without labels.

  Args:
    path: Of the folder; hidden files and those of other suffixes are passed over.
    bounds_of: Gives the splits of so many images.
    image_size: (H, W) to resize them to; None where they are of one size.
    memory_limit: Bytes of decoded pixels above which files are read as they are needed.

  Raises:
    InputError: No images, a damaged one, or several shapes.
  """
  root = pathlib.Path(path).expanduser()
  paths = sorted(
      file
      for file in root.rglob("*")
      if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
  )
  if not paths:
    raise InputError(
        f"expected image files ({', '.join(sorted(_SUFFIXES))}) in {path}, got none;"
        " name a folder that holds some."
    )
  bounds = bounds_of(len(paths))
  splits.check_sizes(path, bounds)
  shape = _shared_shape(paths, image_size)
  if len(paths) * math.prod(shape) <= memory_limit:
    images = np.stack([_read_image(file, image_size) for file in paths])
    parts: dict[str, pipelines.Arrays] = {
        split: (images[start:stop], None) for split, (start, stop) in bounds.items()
    }
    return pipelines.ArrayData(path, shape, None, parts)
  return _streamed(path, paths, shape, bounds, image_size)


def _streamed(name, paths, shape, bounds, image_size):
  def decode(file):
    return tf.numpy_function(
        lambda value: _read_image(pathlib.Path(value.decode()), image_size),
        [file],
        tf.uint8,
        stateful=False,
    )

  files = [str(file) for file in paths]
  return pipelines.StreamedData(
      name,
      shape,
      None,
      records={
          split: tf.data.Dataset.from_tensor_slices(files[start:stop])
          for split, (start, stop) in bounds.items()
      },
      split_sizes={split: stop - start for split, (start, stop) in bounds.items()},
      parse=lambda batch: (batch, pipelines.unlabelled(batch)),
      decode=decode,
      window=len(paths),
  )


def _shared_shape(paths, image_size):
  """The (H, W, C) that all files share, from their headers.

  Raises:
    InputError: A file is no image, or differs from the first one.
  """
  first = _header_shape(paths[0], image_size)
  for path in paths[1:]:
    shape = _header_shape(path, image_size)
    if shape != first:
      mend = "make them all grey or all RGB" if image_size else "resize it"
      raise InputError(
          f"expected images of one shape, {first} as {paths[0]} has, got {shape} in {path};"
          f" {mend}, or remove it."
      )
  return first


def _header_shape(path, image_size):
  try:
    with PIL.Image.open(path) as image:
      _check_depth(image, path)
      height, width = image_size or image.size[::-1]
      return height, width, 1 if _plain_mode(image) == "L" else 3
  except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
    raise InputError(
        f"expected an image file, got {path}, which cannot be read"
        f" ({first_line(error)}); replace or remove it."
    ) from error


def _read_image(path: pathlib.Path, image_size: tuple[int, int] | None) -> np.ndarray:
  """A file as uint8 [H, W, C], C being 1 for grey and 3 for everything else."""
  try:
    with PIL.Image.open(path) as file:
      image = _plain(file, path)
  except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
    if isinstance(error, InputError):
      raise
    raise InputError(
        f"expected a whole image file, got {path}, which cannot be read"
        f" ({first_line(error)}); replace or remove it."
    ) from error
  if image_size:
    image = image.resize(image_size[::-1], PIL.Image.Resampling.BILINEAR)
  pixels = np.asarray(image)
  return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def _plain(image: PIL.Image.Image, path: pathlib.Path) -> PIL.Image.Image:
  """An image of mode L or RGB, transparency laid on white."""
  _check_depth(image, path)
  mode = _plain_mode(image)
  if not image.has_transparency_data:
    return image.convert(mode)
  white = PIL.Image.new("RGBA", image.size, "white")
  return PIL.Image.alpha_composite(white, image.convert("RGBA")).convert(mode)


def _plain_mode(image):
  return "L" if image.mode in ("1", "L", "LA", "La") else "RGB"


def _check_depth(image, path):
  if image.mode.startswith(("I", "F")):
    raise InputError(
        f"expected 8 bits per channel, got {path} of mode {image.mode!r} (16 or 32 bits);"
        " convert it to an 8-bit PNG."
    )

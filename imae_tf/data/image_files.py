"""One image file: its shape from the header, and its pixels."""

import io
import pathlib
import struct
import zlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import PIL.Image

from imae_tf.errors import first_line
from imae_tf.errors import InputError

_T = TypeVar("_T")
# What Pillow and its decoders raise when a file is damaged; those it documents are OSError,
# SyntaxError, ValueError and the bomb.
_UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, AttributeError,
    ArithmeticError, RuntimeError, MemoryError, BufferError, AssertionError, struct.error,
    zlib.error, PIL.Image.DecompressionBombError,
)
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}


def shape(path: pathlib.Path, image_size: tuple[int, int] | None) -> tuple[int, int, int]:
  """The (H, W, C) that `read` gives, from the header alone.

  Raises:
    InputError: It is no image, or has more than 8 bits per channel.
  """

  def of(image: PIL.Image.Image) -> tuple[int, int, int]:
    _check_depth(image, path)
    height, width = image_size or _upright_size(image)
    return height, width, 1 if _plain_mode(image) == "L" else 3

  return _used(path, "an image file", of)


def read(path: pathlib.Path, image_size: tuple[int, int] | None) -> np.ndarray:
  """A file as uint8 [H, W, C], upright, C being 1 for grey and 3 for everything else.

  Raises:
    InputError: It cannot be decoded whole.
  """

  def of(file: PIL.Image.Image) -> np.ndarray:
    turn = _TURNS.get(_orientation(file))
    image = _plain(file, path)
    if turn is not None:
      image = image.transpose(turn)
    if image_size:
      image = image.resize(image_size[::-1], PIL.Image.Resampling.BILINEAR)
    return np.asarray(image)

  pixels = _used(path, "a whole image file", of)
  return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def _used(path: pathlib.Path, expected: str, use: Callable[[PIL.Image.Image], _T]) -> _T:
  """What `use` makes of the opened file."""
  try:
    try:
      with PIL.Image.open(path) as image:
        return use(image)
    except ValueError as error:  # for one, Pillow refuses a megabyte of compressed text
      if isinstance(error, InputError) or not _is_png(path):
        raise
    with PIL.Image.open(io.BytesIO(_without_text(path.read_bytes()))) as image:
      return use(image)
  except _UNREADABLE as error:
    if isinstance(error, (InputError, PermissionError)):
      raise
    raise InputError(
        f"expected {expected}, got {path}, which cannot be read ({first_line(error)}); replace or"
        " remove it."
    ) from error


def _is_png(path: pathlib.Path) -> bool:
  with path.open("rb") as file:
    return file.read(len(_PNG)) == _PNG


def _without_text(png: bytes) -> bytes:
  """A PNG without its chunks of text and colour profiles, which hold no pixels."""
  kept, start = [_PNG], len(_PNG)
  while start + 12 <= len(png):
    (length,) = struct.unpack_from(">I", png, start)
    if png[start + 4 : start + 8] not in _PNG_TEXT:
      kept.append(png[start : start + 12 + length])
    start += 12 + length
  return b"".join(kept)


def _orientation(image: PIL.Image.Image) -> int:
  """The EXIF tag: which turn makes the image upright; 1 for none. Pillow itself turns TIFFs."""
  # Without EXIF Pillow would look into XMP, which a served model does not read, and decode a PNG
  # whole to look behind its pixels.
  if image.format == "TIFF" or "exif" not in image.info:
    return 1
  try:
    return image.getexif().get(_EXIF_ORIENTATION, 1)
  except _UNREADABLE:
    return 1


def _upright_size(image: PIL.Image.Image) -> tuple[int, int]:
  """(H, W)."""
  width, height = image.size
  return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)


def _plain(image: PIL.Image.Image, path: pathlib.Path) -> PIL.Image.Image:
  """An image of mode L or RGB, transparency laid on white."""
  _check_depth(image, path)
  mode = _plain_mode(image)
  if not image.has_transparency_data:
    return image.convert(mode)
  white = PIL.Image.new("RGBA", image.size, "white")
  return PIL.Image.alpha_composite(white, image.convert("RGBA")).convert(mode)


def _plain_mode(image: PIL.Image.Image) -> str:
  return "L" if image.mode in ("1", "L", "LA", "La") else "RGB"


def _check_depth(image: PIL.Image.Image, path: pathlib.Path) -> None:
  if not image.mode.startswith(("I", "F")):
    return
  scaled = "pixels / pixels.max() * 255" if image.mode == "F" else "pixels // 257"
  raise InputError(
      f"expected 8 bits per channel, got {path} of mode {image.mode!r} (16 or 32 bits); convert"
      f" it, for example with pixels = np.asarray(PIL.Image.open(file)) and"
      f" PIL.Image.fromarray(({scaled}).astype('uint8')).save(file)."
  )

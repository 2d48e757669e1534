"""One image file: what its header tells, and its pixels."""

import io
import pathlib
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple
from typing import TypeVar

import numpy as np
import PIL.Image

from imae_tf.data import preparation
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


class Header(NamedTuple):
  """What a file tells of its image before the pixels are decoded; (H, W) as it is seen, upright."""

  height: int
  width: int
  is_grey: bool

  @property
  def shape(self) -> tuple[int, int, int]:
    """(H, W, C) of what `read` gives."""
    return self.height, self.width, 1 if self.is_grey else 3


def header(path: pathlib.Path) -> Header:
  """The `Header` of a file.

  Raises:
    InputError: It is no image, of 32 bits per channel, or of more than `MOST_PIXELS` pixels.
  """

  def of(image: PIL.Image.Image) -> Header:
    _check(image, path)
    return Header(*_upright_size(image), _plain_mode(image) == "L")

  return _used(path, "an image file", of)


def read(path: pathlib.Path) -> np.ndarray:
  """A file as uint8 [H, W, C], upright, C being 1 for grey and 3 for everything else.

  Of an animation it is the first frame; of 16 bits per channel the upper 8.

  Raises:
    InputError: It cannot be decoded whole.
  """

  def of(file: PIL.Image.Image) -> np.ndarray:
    turn = _TURNS.get(_orientation(file))
    image = _plain(file, path)
    return np.asarray(image if turn is None else image.transpose(turn))

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
  _check(image, path)
  if _is_of_16_bits(image):
    # As decoders make bytes of 16 bits in colour, Pillow's and TensorFlow's.
    return PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
  mode = _plain_mode(image)
  if not image.has_transparency_data:
    return image.convert(mode)
  white = PIL.Image.new("RGBA", image.size, "white")
  return PIL.Image.alpha_composite(white, image.convert("RGBA")).convert(mode)


def _plain_mode(image: PIL.Image.Image) -> str:
  return "L" if image.mode in ("1", "L", "LA", "La") or _is_of_16_bits(image) else "RGB"


def _is_of_16_bits(image: PIL.Image.Image) -> bool:
  """Grey of 16 bits; Pillow brings a PGM of more than 8 bits to 16 and calls it mode I."""
  return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def _check(image: PIL.Image.Image, path: pathlib.Path) -> None:
  width, height = image.size
  if width * height > preparation.MOST_PIXELS:
    raise InputError(
        f"expected at most {preparation.MOST_PIXELS:,} pixels, got {height}x{width} in {path};"
        " make it smaller, replace or remove it."
    )
  if image.mode not in ("I", "F") or _is_of_16_bits(image):
    return
  scaled = "pixels / pixels.max() * 255" if image.mode == "F" else "pixels // 257"
  raise InputError(
      f"expected 8 or 16 bits per channel, got {path} of mode {image.mode!r} (32 bits); convert"
      f" it, for example with pixels = np.asarray(PIL.Image.open(file)) and"
      f" PIL.Image.fromarray(({scaled}).astype('uint8')).save(file)."
  )

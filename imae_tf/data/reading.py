"""How a folder or a `.npz` is read: what the user asks for, before the images are known."""

import dataclasses
import re
import statistics
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from imae_tf.data import preparation
from imae_tf.data import splits
from imae_tf.errors import InputError

COLORS = ("auto", *preparation.COLORS)
ON_BAD_FILE = ("skip", "fail")
_LARGEST = 64  # the longest side that is chosen; larger images train slowly and rarely better
_STEP = 16  # convolutions take sides that are multiples of it


@dataclasses.dataclass(frozen=True)
class Reading:
  """What is asked of the reader of a data set.

  Attributes:
    image_size: (H, W); None to keep the size that all images have, or to choose one.
    fit: As of `preparation.Preparation`.
    color: "grey", "rgb", or "auto": colour if any image is stored in colour.
    labels: "folders", the path of a CSV, or None.
    on_bad_file: "skip" or "fail".
    cache: Folder for decoded images that do not fit into memory; None to decode them as they go.
    split: Which images of a folder test.
  """

  image_size: tuple[int, int] | None = None
  fit: str = "crop"
  color: str = "auto"
  labels: str | None = None
  on_bad_file: str = "skip"
  cache: str | None = None
  split: "splits.Rule" = "random"

  def __post_init__(self) -> None:
    for name, choices in (
        ("fit", preparation.FITS), ("color", COLORS), ("on_bad_file", ON_BAD_FILE)
    ):
      if getattr(self, name) not in choices:
        raise InputError(
            f"expected {name} as {' or '.join(choices)}, got {getattr(self, name)!r}; choose one."
        )
    if self.image_size is not None:
      object.__setattr__(self, "image_size", checked_size(self.image_size))

  @classmethod
  def of_preparation(cls, record: Mapping[str, Any]) -> "Reading":
    """What asks for a `Preparation` again.

    Args:
      record: Of the `Preparation`.
    """
    known = preparation.Preparation.of_record(record)
    return cls(known.size, known.fit, known.color)

  def record(self) -> dict[str, Any]:
    """A JSON-ready dict of what was asked for beyond the defaults; {} for none."""
    usual = Reading()
    return {
        field.name: getattr(self, field.name)
        for field in dataclasses.fields(self)
        if field.name not in ("cache", "on_bad_file", "split")
        and getattr(self, field.name) != getattr(usual, field.name)
    }

  def prepared(
      self, shapes: Mapping[tuple[int, int, int], int], most_bytes: int
  ) -> preparation.Preparation:
    """The `Preparation` for images of these shapes.

    Args:
      shapes: {(h, w, C): how many images}, C being 1 or 3.
      most_bytes: Of all prepared images; if those of one size take more, a size is chosen too.
    """
    color = self.color
    if color == "auto":
      color = "rgb" if any(channels != 1 for _, _, channels in shapes) else "grey"
    size = self.image_size or _common_size(shapes, color, most_bytes)
    return preparation.Preparation(size or _chosen_size(shapes), self.fit, color)

  def line(
      self, shapes: Iterable[tuple[int, int, int]], made: preparation.Preparation
  ) -> str | None:
    """One line on what is done to the images, and how to change it; None if nothing is.

    Args:
      shapes: Of the images as they are stored.
      made: What `prepared` returned.
    """
    if set(shapes) == {made.image_shape}:
      return None
    sizes = sorted({(height, width) for height, width, _ in shapes}, key=lambda s: (s[0] * s[1], s))
    texts = [f"{height}x{width}" for height, width in sizes]
    of = f"of one size, {texts[0]}," if len(texts) == 1 else (
        f"of {len(texts)} sizes, {texts[0]} to {texts[-1]} (height x width),"
    )
    return (
        f"Images {of} are {made.words()}; --image_size, --fit={'|'.join(preparation.FITS)} and"
        f" --color={'|'.join(COLORS)} change that."
    )


def size_of(text: str) -> tuple[int, int] | None:
  """The (H, W) of "64" or "48x64"; None for "auto".

  Raises:
    InputError: Another text.

  >>> size_of("64"), size_of("48x64"), size_of("auto")
  ((64, 64), (48, 64), None)
  """
  if text == "auto":
    return None
  try:
    if not re.fullmatch(r"\d{1,6}(x\d{1,6})?", text):
      raise ValueError
    parts = [int(part) for part in text.split("x")]
    return checked_size((parts[0], parts[-1]))
  except ValueError:  # InputError among them
    raise InputError(_bad_size(text)) from None


def checked_size(size: int | Sequence[int]) -> tuple[int, int]:
  """A size as (H, W); a number stands for a square.

  Raises:
    InputError: It is none, or of no pixels.
  """
  sides = (size, size) if isinstance(size, int) else tuple(size)
  if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
    raise InputError(_bad_size(size))
  height, width = sides
  if min(sides) < 1 or height * width > preparation.MOST_PIXELS:
    raise InputError(_bad_size(size))
  return height, width


def _bad_size(given: object) -> str:
  return (
      "expected image_size as auto, a number of pixels such as 64, or height and width such as"
      f" 48x64, got {given!r}; correct it."
  )


def _common_size(
    shapes: Mapping[tuple[int, int, int], int], color: str, most_bytes: int
) -> tuple[int, int] | None:
  """The size that all images have, as long as it is small or all of them fit into memory."""
  sizes = {(height, width) for height, width, _ in shapes}
  if len(sizes) > 1:
    return None
  ((height, width),) = sizes
  channels = 1 if color == "grey" else 3
  fits = sum(shapes.values()) * height * width * channels <= most_bytes
  return (height, width) if fits or max(height, width) <= _LARGEST else None


def _chosen_size(shapes: Mapping[tuple[int, int, int], int]) -> tuple[int, int]:
  """A square as long as the median short side, but at most 64, a multiple of 16 from 16 on."""
  short = [min(shape[:2]) for shape, count in shapes.items() for _ in range(count)]
  side = min(int(statistics.median_low(short)), _LARGEST)
  side = side // _STEP * _STEP if side >= _STEP else side
  return side, side

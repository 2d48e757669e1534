"""Draws grids of images: reconstructions, generated and typical images, traversals.

Every function takes NumPy arrays and returns a new `matplotlib.figure.Figure`. Images are
[H, W, C] in [0, 1], C = 1 or 3, and are drawn with whole screen pixels per image pixel, so that
small images stay crisp.
"""

import math
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imae_tf.reporting.style import DPI
from imae_tf.reporting.style import INK
from imae_tf.reporting.style import MUTED
from imae_tf.reporting.style import own_style
from imae_tf.reporting.style import shorten
from imae_tf.reporting.style import two_decimals

_GRID_FONT = 11
_MIN_TILE, _MAX_TILE = 96, 128  # pixels of the longer side of an image in a grid
_GAP = 6  # pixels between images
_MIN_LABEL, _MAX_LABEL = 11, 16  # characters

# The label of a row: a text, or a text and a smaller one below it.
Label = str | tuple[str, str]


@own_style()
def image_grid(
    rows: Sequence[np.ndarray],
    title: str,
    *,
    row_labels: Sequence[Label] | None = None,
    column_labels: Sequence[str] | None = None,
    empty: str = "",
) -> Figure:
  """A grid of images; its rows may differ in length.

  Args:
    rows: list of arrays [n_r, H, W, C], one for each row; n_r may differ and may be 0.
    title: title of the figure.
    row_labels: one text or (text, smaller text) per row, or None.
    column_labels: one text per column, or None.
    empty: text for a row without images.

  Returns:
    A Figure whose only axes hold the images in row-major order.
  """
  height, width = rows[0].shape[1:3]
  columns = max(1, *(len(row) for row in rows))
  scale = _scale(height, width)
  tile_x, tile_y = max(1, round(width * scale)), max(1, round(height * scale))
  labels = [_two_lines(label) for label in row_labels or [""] * len(rows)]
  left = _label_width(labels)
  # Flat images stand apart, so that their labels do not overlap.
  text_height = round(_pixels(_GRID_FONT) * (2.5 if row_labels else 0))
  step_x, step_y = tile_x + _GAP, max(tile_y + _GAP, text_height)
  top = _pixels(_GRID_FONT) * (3.6 if column_labels else 2.2)
  # A title may be longer than a single column of small images.
  figure_width = max(left + columns * step_x, len(title) * _pixels(_GRID_FONT) * 0.68) + _GAP
  figure, axes = _pixel_axes(figure_width, top + len(rows) * step_y)
  axes.text(_GAP, _pixels(_GRID_FONT) * 1.2, title, size=_GRID_FONT + 1, weight="bold", color=INK)
  for r, (row, label) in enumerate(zip(rows, labels)):
    y = top + r * step_y
    _draw_row_label(axes, label, y + (step_y - _GAP) / 2)
    for c, image in enumerate(row):
      x = left + c * step_x
      _draw_image(axes, image, x, y + (step_y - _GAP - tile_y) // 2, tile_x, tile_y, scale)
    if not len(row):
      axes.text(left, y + (step_y - _GAP) / 2, empty, size=_GRID_FONT, color=MUTED, va="center")
  for c, text in enumerate(column_labels or []):
    x = left + c * step_x + (step_x - _GAP) / 2
    axes.text(x, top - _pixels(_GRID_FONT) * 0.4, text, size=_GRID_FONT, color=MUTED, ha="center")
  return figure


def reconstructions(x: np.ndarray, reconstructed: np.ndarray, *, columns: int = 20) -> Figure:
  """Originals, each above its reconstruction.

  Args:
    x: [N, H, W, C] images.
    reconstructed: [N, H, W, C], their reconstructions by the model.
    columns: images per row.
  """
  rows, labels = [], []
  for i in range(0, len(x), columns):
    rows += [x[i : i + columns], reconstructed[i : i + columns]]
    labels += ["original", "model"]
  return image_grid(rows, "Originals and reconstructions", row_labels=labels)


def generated(images: np.ndarray, names: Sequence[Label]) -> Figure:
  """Images drawn from the prior z ~ N(0, I), one row per category.

  Args:
    images: [K2, n, H, W, C].
    names: K2 row labels.
  """
  return image_grid(list(images), "Generated", row_labels=names)


def typical(rows: Sequence[np.ndarray], names: Sequence[Label]) -> Figure:
  """The images of each category whose category is most certain, one row per category, best first.

  Args:
    rows: K2 arrays [n, H, W, C]; n may be 0.
    names: K2 row labels.
  """
  return image_grid(rows, "Most certain", row_labels=names, empty="no image")


def traversal(
    originals: np.ndarray,
    moved: np.ndarray,
    positions: np.ndarray,
    dimension: int,
    information: float,
) -> Figure:
  """Shows what one dimension of z does: a row for each image, a column for each position of z_k.

  Args:
    originals: [R, H, W, C] images.
    moved: [R, P, H, W, C] images, decoded with z_k at each position and the rest of the code kept.
    positions: [P] values of z_k.
    dimension: k.
    information: I(x;z_k), nats.
  """
  rows = [np.concatenate([image[None], row]) for image, row in zip(originals, moved)]
  title = f"z[{dimension}]   I(x;z) = {two_decimals(information)} nats"
  return image_grid(rows, title, column_labels=["image", *position_labels(positions)])


def traversals(
    original: np.ndarray,
    moved: Sequence[np.ndarray],
    positions: np.ndarray,
    dimensions: Sequence[int] | np.ndarray,
    bounds: Sequence[float] | np.ndarray,
) -> Figure:
  """Shows what several dimensions of z do to one image: a row for each dimension.

  Args:
    original: [H, W, C], the image.
    moved: [R, P, H, W, C] images, decoded with one dimension at each position and the rest kept.
    positions: [P] values of the dimension.
    dimensions: [R] indices k.
    bounds: [R] upper bounds of I(x;z_k), in nats.
  """
  rows = [np.concatenate([original[None], row]) for row in moved]
  labels = [(f"z[{k}]", f"≤ {two_decimals(bound)} nats") for k, bound in zip(dimensions, bounds)]
  columns = ["image", *position_labels(positions)]
  title = "Most informative dimensions"
  return image_grid(rows, title, row_labels=labels, column_labels=columns)


def position_labels(positions: Iterable[float]) -> list[str]:
  """Labels of positions: whole numbers with a true minus sign, and "" for the others."""
  return [f"{p:g}".replace("-", "−") if p == round(p) else "" for p in positions]


def _draw_image(
    axes: Axes, image: np.ndarray, x: float, y: float, width: int, height: int, scale: float
) -> None:
  if image.shape[-1] not in (3, 4):  # grey, or channels that are no colours: their mean
    image = image.mean(axis=-1)
  axes.imshow(
      image,
      cmap="gray",
      vmin=0.0,
      vmax=1.0,
      extent=(x, x + width, y + height, y),
      interpolation="nearest" if scale >= 1 else "antialiased",
      aspect="auto",
  )


def _draw_row_label(axes: Axes, label: tuple[str, str], middle: float) -> None:
  first, second = label
  offset = _pixels(_GRID_FONT) * 0.62 if second else 0
  style: dict[str, Any] = {"va": "center", "ha": "left", "parse_math": False}
  axes.text(_GAP, middle - offset, first, size=_GRID_FONT, color=INK, **style)
  axes.text(_GAP, middle + offset, second, size=_GRID_FONT - 1.5, color=MUTED, **style)


def _two_lines(label: Label) -> tuple[str, str]:
  first, second = label if isinstance(label, tuple) else (label, "")
  return shorten(first), second


def _label_width(labels: Sequence[tuple[str, str]]) -> int:
  """Pixels left of the images; with a common minimum, figures side by side are lined up."""
  characters = max(max(len(first), 0.85 * len(second)) for first, second in labels)
  if not characters:
    return _GAP
  return math.ceil(max(characters, _MIN_LABEL) * _pixels(_GRID_FONT) * 0.6) + 3 * _GAP


def _pixel_axes(width: float, height: float) -> tuple[Figure, Axes]:
  """A figure with a whole number of pixels; its invisible axes count pixels from the top left."""
  width, height = math.ceil(width), math.ceil(height)
  figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set_axis_off()
  axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
  return figure, axes


def _scale(height: int, width: int) -> float:
  """Screen pixels per image pixel: a whole number, or below 1 for large images."""
  side = max(height, width)
  return math.ceil(_MIN_TILE / side) if side <= _MAX_TILE else _MAX_TILE / side


def _pixels(points: float) -> float:
  return points * DPI / 72

"""The figures of a run: the pictures people look at and the paper's figure 2.

Every function takes NumPy arrays and returns a new `matplotlib.figure.Figure`; nothing
depends on pyplot, on a backend, on a user's matplotlibrc or on chance. Images are [H, W, C] in
[0, 1], C = 1 or 3, and are drawn with whole screen pixels per image pixel, so that small images
stay crisp.
"""

import math
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imae_tf.reporting.style import blank as blank
from imae_tf.reporting.style import BLUE as BLUE
from imae_tf.reporting.style import DPI
from imae_tf.reporting.style import dress as dress
from imae_tf.reporting.style import FAINT as FAINT
from imae_tf.reporting.style import FONT
from imae_tf.reporting.style import GREY as GREY
from imae_tf.reporting.style import INK as INK
from imae_tf.reporting.style import MUTED as MUTED
from imae_tf.reporting.style import ORANGE as ORANGE
from imae_tf.reporting.style import own_style as own_style
from imae_tf.reporting.style import shorten as shorten
from imae_tf.reporting.style import TEAL as TEAL

_SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#a9c6e3", BLUE, "#173f6b"])

_CHART_WIDTH = 4.6  # inches
_GRID_FONT = 11
_MIN_TILE, _MAX_TILE = 96, 128  # pixels of the longer side of an image in a grid
_GAP = 6  # pixels between images
_MIN_LABEL = 11  # characters
_MAX_CELLS_WITH_TEXT = 20  # classes or categories up to which a matrix shows its counts

# Of a row: a text, or a text and a smaller one below it.
Label = str | tuple[str, str]

# How people call the methods and the baselines.
NAMES = {
    "imae": "IMAE",
    "vae": "VAE",
    "betavae": "β-VAE",
    "infovae": "InfoVAE",
    "jointvae": "JointVAE",
    "betatcvae": "β-TCVAE",
    "k_means": "k-means",
    "ward": "Ward",
    "gaussian_mixture": "Gaussian mixture",
}

# title, unit, {logged name: name of the line}
_CURVES = (
    ("Loss", "weighted sum, nats per image", {"loss": ""}),
    ("Reconstruction", "nats per image", {"reconstruction_loss": ""}),
    (
        "Category",
        "nats",
        {"entropy_y": "H(y)", "mi_y": "I(x;y)", "conditional_entropy_y": "H(y|x)"},
    ),
    (
        "Continuous factors",
        "nats, summed over k",
        {"mi_z": "I(x;z$_k$)", "kl_z": "KL(p(z$_k$) || N(0,1))"},
    ),
    ("Total correlation", "TC(y,z), nats", {"total_correlation": ""}),
    ("VAT cross-entropy", "nats", {"vat_loss": ""}),
)


# --- grids of images ----------------------------------------------------------------------


@own_style()
def image_grid(
    rows: Sequence[np.ndarray],
    title: str,
    *,
    row_labels: Sequence[Label] | None = None,
    column_labels: Sequence[str] | None = None,
    empty: str = "",
) -> Figure:
  """A grid of images, one row each, row lengths free.

  Args:
    rows: list of arrays [n_r, H, W, C]; n_r may differ and may be 0.
    title: of the figure.
    row_labels: one text or (text, smaller text) per row, or None.
    column_labels: one text per column, or None.
    empty: said in a row without images.

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
    reconstructed: [N, H, W, C], what the model makes of them.
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
  """The most certain images of each category, one row per category, best first.

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
  """What one dimension of z does: each row an image, each column a position of z_k.

  Args:
    originals: [R, H, W, C] images.
    moved: [R, P, H, W, C], decoded with z_k at each position and the rest of the code kept.
    positions: [P] values of z_k.
    dimension: k.
    information: I(x;z_k), nats.
  """
  rows = [np.concatenate([image[None], row]) for image, row in zip(originals, moved)]
  title = f"z[{dimension}]   I(x;z) = {_text(information)} nats"
  return image_grid(rows, title, column_labels=["image", *position_labels(positions)])


def traversals(
    original: np.ndarray,
    moved: Sequence[np.ndarray],
    positions: np.ndarray,
    dimensions: Sequence[int] | np.ndarray,
    bounds: Sequence[float] | np.ndarray,
) -> Figure:
  """What several dimensions of z do to one image, a row for each.

  Args:
    original: [H, W, C], the image.
    moved: [R, P, H, W, C], decoded with one dimension at each position, the rest kept.
    positions: [P] values of the dimension.
    dimensions: [R] indices k.
    bounds: [R], nats that I(x;z_k) does not exceed.
  """
  rows = [np.concatenate([original[None], row]) for row in moved]
  labels = [(f"z[{k}]", f"≤ {_text(bound)} nats") for k, bound in zip(dimensions, bounds)]
  columns = ["image", *position_labels(positions)]
  title = "Most informative dimensions"
  return image_grid(rows, title, row_labels=labels, column_labels=columns)


def position_labels(positions: Iterable[float]) -> list[str]:
  """Whole numbers, with a true minus sign; nothing at the others."""
  return [f"{p:g}".replace("-", "−") if p == round(p) else "" for p in positions]


def _draw_image(
    axes: Axes, image: np.ndarray, x: float, y: float, width: int, height: int, scale: float
) -> None:
  axes.imshow(
      image[..., 0] if image.shape[-1] == 1 else image,
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
  """Pixels left of the images; a common minimum lines up figures that stand side by side."""
  characters = max(max(len(first), 0.85 * len(second)) for first, second in labels)
  if not characters:
    return _GAP
  return math.ceil(max(characters, _MIN_LABEL) * _pixels(_GRID_FONT) * 0.6) + 3 * _GAP


def _pixel_axes(width: float, height: float) -> tuple[Figure, Axes]:
  """A figure of whole pixels with invisible axes whose units are pixels from the top left."""
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


# --- charts -------------------------------------------------------------------------------


@own_style()
def information(
    mi_z: Mapping[str, Sequence[float] | np.ndarray],
    var_mean: Sequence[float] | np.ndarray,
    mean_variance: Sequence[float] | np.ndarray,
    *,
    columns: int = 2,
) -> Figure:
  """The paper's figure 2: I(x;z_k) per dimension with Var[mu_k] and E[sigma_k^2].

  Dimensions are sorted by the naive I(x;z_k). A dimension that says nothing has
  Var[mu_k] near 0 and E[sigma_k^2] near 1, the prior's variance.

  Args:
    mi_z: {"naive": [K1], "leave_one_out": [K1]}, nats.
    var_mean: [K1], Var_x[mu_k].
    mean_variance: [K1], E_x[sigma_k^2].
    columns: 2 puts the two charts side by side, 1 on top of each other.
  """
  naive, left_out = (np.asarray(mi_z[name]) for name in ("naive", "leave_one_out"))
  order = np.argsort(-naive, kind="stable")
  place = np.arange(len(order))
  width = max(5.4 if columns == 2 else 4.0, 0.6 + 0.3 * len(order))
  figure = blank((width * columns, 2.6 * (3 - columns)))
  info, spread = figure.subplots(3 - columns, columns).flat
  info.bar(place, naive[order], 0.62, color=BLUE, label="naive")
  info.plot(
      place, left_out[order], "_", color=ORANGE, markersize=9, markeredgewidth=2,
      label="leave-one-out",
  )
  spread.bar(place - 0.2, np.asarray(var_mean)[order], 0.38, color=TEAL, label="Var[µ$_k$]")
  spread.bar(
      place + 0.2, np.asarray(mean_variance)[order], 0.38, color=GREY, label="E[σ$_k$²]"
  )
  dress(info, "Information", "I(x;z$_k$), nats")
  dress(spread, "Spread", "variance")
  for axes in (info, spread):
    axes.set_xlabel("dimension k, most informative first", color=MUTED)
    axes.set_xticks(place, [str(k) for k in order])
    axes.set_xlim(-0.7, max(len(order), 4) - 0.3)
    axes.legend(
        frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1.02, 0.97), labelcolor=MUTED,
        fontsize=FONT,
    )
  return figure


@own_style()
def confusion(
    counts: Sequence[Sequence[int]] | np.ndarray,
    class_names: Sequence[str],
    categories: Sequence[int],
) -> Figure:
  """The confusion matrix after matching; colour is the share of the true class.

  Args:
    counts: [classes, K2] integers, matched categories on the diagonal.
    class_names: one text per row.
    categories: index of the category of each column.
  """
  counts = np.asarray(counts)
  share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  height, width = np.clip(0.36 * np.array(counts.shape) + 1.2, 2.2, 9.0)
  figure = blank((max(width, _CHART_WIDTH), height))
  axes = figure.subplots()
  axes.imshow(share, cmap=_SHADES, vmin=0.0, vmax=1.0, interpolation="nearest")
  if max(counts.shape) <= _MAX_CELLS_WITH_TEXT:
    for (row, column), count in np.ndenumerate(counts):
      color = "white" if share[row, column] > 0.55 else INK
      axes.text(
          column, row, str(count) if count else "", ha="center", va="center", color=color,
          size=FONT - 1.5 if count < 1000 else FONT - 3,
      )
  dress(axes, "Classes against categories", "true class")
  axes.set_xlabel("category", color=MUTED)
  axes.set_xticks(range(len(categories)), [str(c) for c in categories])
  axes.set_yticks(
      range(len(class_names)), [shorten(name) for name in class_names], parse_math=False
  )
  axes.grid(False)
  axes.spines[:].set_visible(False)
  axes.tick_params(length=0, labelsize=FONT - 1 if max(counts.shape) <= 30 else 5)
  return figure


@own_style()
def accuracy(method: str, value: float, baselines: Mapping[str, float | None]) -> Figure:
  """Accuracy of the model beside that of the classical baselines.

  Args:
    method: name of the model's method.
    value: its accuracy in [0, 1].
    baselines: {"k_means", "ward", "gaussian_mixture"} to accuracies or None.
  """
  names = [method, *(NAMES.get(name, name) for name in baselines)]
  values = [value, *baselines.values()]
  place = np.arange(len(names))
  figure = blank((_CHART_WIDTH, 0.9 + 0.38 * len(names)))
  axes = figure.subplots()
  axes.barh(place, [v or 0.0 for v in values], 0.62, color=[BLUE] + [GREY] * len(baselines))
  for y, v in enumerate(values):
    text = "not computed" if v is None else f"{v:.3f}"
    axes.text((v or 0.0) + 0.012, y, text, va="center", color=INK)
  dress(axes, "Clustering accuracy", "")
  axes.set(xlim=(0, 1.12), ylim=(len(names) - 0.5, -0.5))
  axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
  axes.set_yticks(place, names, color=INK)
  axes.grid(True, axis="x", color=FAINT)
  axes.grid(False, axis="y")
  axes.spines["left"].set_visible(False)
  axes.tick_params(length=0)
  return figure


@own_style()
def training(
    history: Sequence[Mapping[str, float]],
    *,
    num_categories: int | None = None,
    floor: float | None = None,
    columns: int = 3,
) -> Figure:
  """Training curves, one panel per kind of quantity; held-out values are dashed.

  Args:
    history: list of dicts, one per epoch: "epoch" and the logged names, perhaps "val_...".
    num_categories: K2, to draw ln K2 in the panel of the category; or None.
    floor: reconstruction floor in nats per image; or None.
    columns: panels beside each other.
  """
  panels = [panel for panel in _CURVES if any(name in history[0] for name in panel[2])]
  rows = math.ceil(len(panels) / columns)
  figure = blank((3.4 * columns if columns > 1 else 4.0, 2.35 * rows))
  grid = figure.subplots(rows, columns, squeeze=False)
  epochs = [row["epoch"] for row in history]
  limits = {"Category": (num_categories and math.log(num_categories), "ln K$_2$")}
  limits["Reconstruction"] = (floor, "floor")
  for axes, (title, unit, names) in zip(grid.flat, panels):
    dress(axes, title, unit)
    _draw_curves(axes, history, epochs, names)
    limit, text = limits.get(title, (None, ""))
    if limit is not None:
      axes.axhline(limit, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), label=text)
    if axes.get_legend_handles_labels()[1]:
      axes.legend(frameon=False, fontsize=FONT - 1.5, labelcolor=MUTED)
  for axes in grid.flat[len(panels) :]:
    axes.set_axis_off()
  for axes in grid.flat[max(0, len(panels) - columns) : len(panels)]:
    axes.set_xlabel("epoch", color=MUTED)
  return figure


def _draw_curves(
    axes: Axes,
    history: Sequence[Mapping[str, float]],
    epochs: Sequence[float],
    names: Mapping[str, str],
) -> None:
  marker = "o" if len(epochs) < 3 else None
  for (name, label), color in zip(names.items(), (BLUE, ORANGE, TEAL)):
    for key, style in ((name, "-"), ("val_" + name, "--")):
      if key in history[0]:
        values = [row.get(key, math.nan) for row in history]
        text = label if style == "-" else "held out" if not label else ""
        axes.plot(
            epochs, values, style, color=color, linewidth=1.5, marker=marker, markersize=4,
            label=text or None,
        )
  if len(epochs) < 3:  # the locator would put ticks between them
    axes.set_xticks(epochs)
  else:
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _text(value: float) -> str:
  """Two decimals, without a negative zero."""
  return f"{round(value, 2) + 0.0:.2f}"

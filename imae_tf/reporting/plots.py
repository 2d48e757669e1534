"""Draws the charts of a run: the paper's figure 2, confusion matrix, accuracy, training curves.

Every function takes NumPy arrays and returns a new `matplotlib.figure.Figure`. The result does not
depend on pyplot, a backend, a user's matplotlibrc or chance. Grids of images are in `image_grids`,
colours and sizes in `style`; this module has their names, too. The pages of runs and comparisons,
and TensorBoard, call these functions.
"""

import math
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imae_tf._shared.method_table import METHODS
from imae_tf.metrics import definitions
from imae_tf.reporting.image_grids import generated as generated
from imae_tf.reporting.image_grids import image_grid as image_grid
from imae_tf.reporting.image_grids import position_labels as position_labels
from imae_tf.reporting.image_grids import reconstructions as reconstructions
from imae_tf.reporting.image_grids import traversal as traversal
from imae_tf.reporting.image_grids import traversals as traversals
from imae_tf.reporting.image_grids import typical as typical
from imae_tf.reporting.style import blank as blank
from imae_tf.reporting.style import BLUE as BLUE
from imae_tf.reporting.style import DPI as DPI
from imae_tf.reporting.style import dress as dress
from imae_tf.reporting.style import FAINT as FAINT
from imae_tf.reporting.style import FONT as FONT
from imae_tf.reporting.style import GREY as GREY
from imae_tf.reporting.style import INK as INK
from imae_tf.reporting.style import MUTED as MUTED
from imae_tf.reporting.style import ORANGE as ORANGE
from imae_tf.reporting.style import own_style as own_style
from imae_tf.reporting.style import shorten as shorten
from imae_tf.reporting.style import TEAL as TEAL
from imae_tf.reporting.style import two_decimals as two_decimals

_SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#a9c6e3", BLUE, "#173f6b"])
_CHART_WIDTH = 4.6  # inches
_MAX_CELLS_WITH_TEXT = 20  # classes or categories up to which a matrix shows its counts

# The names of the methods and the baselines for people.
NAMES = {
    **{key: method.name for key, method in METHODS.items()},
    "k_means": "k-means",
    "ward": "Ward",
    "gaussian_mixture": "Gaussian mixture",
}

# Title and logged names of each panel. A panel with one line has its label at the axis, a panel
# with several lines in the legend.
_CURVES = (
    ("Loss", ("loss",)),
    ("Reconstruction", ("reconstruction_loss",)),
    ("Category", ("entropy_y", "mi_y", "conditional_entropy_y")),
    ("Continuous factors", ("mi_z", "kl_z")),
    ("Total correlation", ("total_correlation",)),
    ("VAT", ("vat_loss",)),
)


@own_style()
def information(
    mi_z: Mapping[str, Sequence[float] | np.ndarray],
    var_mean: Sequence[float] | np.ndarray,
    mean_variance: Sequence[float] | np.ndarray,
    *,
    columns: int = 2,
) -> Figure:
  """The paper's figure 2: I(x;z_k) per dimension with Var[mu_k] and E[sigma_k^2].

  Dimensions are sorted by the naive I(x;z_k). A dimension without information has
  Var[mu_k] near 0 and E[sigma_k^2] near 1, the prior's variance.

  Args:
    mi_z: {"naive": [K1], "leave_one_out": [K1]}, nats.
    var_mean: [K1], Var_x[mu_k].
    mean_variance: [K1], E_x[sigma_k^2].
    columns: 2 puts the two charts side by side, 1 puts one above the other.
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
  spread.bar(
      place - 0.2, np.asarray(var_mean)[order], 0.38, color=TEAL,
      label=definitions.label("var_mean_per_dimension"),
  )
  spread.bar(
      place + 0.2, np.asarray(mean_variance)[order], 0.38, color=GREY,
      label=definitions.label("mean_variance_per_dimension"),
  )
  dress(info, "Information", definitions.axis("mi_z_per_dimension"))
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
  """Accuracy of the model beside the accuracy of the classical baselines.

  Args:
    method: name of the model's method.
    value: accuracy of the model in [0, 1].
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
    history: list of dicts, one per epoch: "epoch" and the logged names, also of "val_..." values.
    num_categories: K2, to draw ln K2 in the panel of the category; or None.
    floor: reconstruction floor in nats per image; or None.
    columns: panels beside each other.
  """
  panels = [panel for panel in _CURVES if any(name in history[0] for name in panel[1])]
  rows = math.ceil(len(panels) / columns)
  figure = blank((3.4 * columns if columns > 1 else 4.0, 2.35 * rows))
  grid = figure.subplots(rows, columns, squeeze=False)
  epochs = [row["epoch"] for row in history]
  limits = {"Category": (num_categories and math.log(num_categories), "ln K$_2$")}
  limits["Reconstruction"] = (floor, "floor")
  for axes, (title, names) in zip(grid.flat, panels):
    label = definitions.axis(names[0]) if len(names) == 1 else "nats"
    dress(axes, title, label.replace(" [", "\n["))  # in one line it may be longer than the axis
    _draw_curves(axes, history, epochs, names)
    limit, text = limits.get(title, (None, ""))
    if limit is not None:
      axes.axhline(limit, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), label=text)
    if axes.get_legend_handles_labels()[1]:
      axes.legend(  # on white, where it covers a curve
          facecolor="white", edgecolor="none", framealpha=0.85, fontsize=FONT - 1.5,
          labelcolor=MUTED,
      )
  for axes in grid.flat[len(panels) :]:
    axes.set_axis_off()
  for axes in grid.flat[max(0, len(panels) - columns) : len(panels)]:
    axes.set_xlabel("epoch", color=MUTED)
  return figure


def _draw_curves(
    axes: Axes,
    history: Sequence[Mapping[str, float]],
    epochs: Sequence[float],
    names: Sequence[str],
) -> None:
  marker = "o" if len(epochs) < 3 else None
  for name, color in zip(names, (BLUE, ORANGE, TEAL)):
    label = definitions.label(name) if len(names) > 1 else ""
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

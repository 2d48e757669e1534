"""Draws the figures of a comparison: the paper's figures 3 to 5, with methods side by side.

As in `reporting.plots`, each function takes NumPy arrays and returns a new
`matplotlib.figure.Figure`. `comparison.pictures` calls them.
"""

import math
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imae_tf.metrics import definitions
from imae_tf.reporting import plots

_COLORS = {
    "imae": plots.BLUE,
    "vae": "#8a94a0",
    "betavae": plots.TEAL,
    "infovae": plots.ORANGE,
    "jointvae": "#8c5fb3",
    "betatcvae": "#b8405e",
}
Runs = Sequence[Sequence[Mapping[str, float]]]  # the runs of a method: a dict for each epoch

# logged name: unit; in the order of figure 3
_TRACKED = {
    "mi_y": "nats, within batches",
    "conditional_entropy_y": "nats, within batches",
    "mi_y_label": "nats, training images",
    "accuracy": "of training images",
}


@plots.own_style()
def tracked(histories: Mapping[str, Runs], *, columns: int = 4) -> Figure:
  """Figure 3: the category's figures after each epoch, a line per method.

  A line is the mean over the runs of a method, the band their lowest and highest value.

  Args:
    histories: {method: list of runs, each a list of dicts, one per epoch}.
    columns: panels beside each other.
  """
  names = [name for name in _TRACKED if any(_series(runs, name) for runs in histories.values())]
  rows = math.ceil(len(names) / columns)
  figure = plots.blank((2.75 * min(columns, len(names)) if columns > 1 else 4.0, 2.5 * rows + 0.3))
  grid = figure.subplots(rows, min(columns, len(names)), squeeze=False)
  for axes, name in zip(grid.flat, names):
    plots.dress(axes, definitions.label(name), _TRACKED[name])
    for method, runs in histories.items():
      series = _series(runs, name)
      if series:
        _band(axes, np.array(series), _COLORS[method], plots.NAMES[method])
    axes.set_xlabel("epoch", color=plots.MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
  handles, labels = grid.flat[0].get_legend_handles_labels()
  figure.legend(
      handles, labels, loc="outside lower center", ncols=3 if columns == 1 else len(labels),
      frameon=False, labelcolor=plots.INK, fontsize=9,
  )
  return figure


def _series(runs: Runs, name: str) -> list[list[float]]:
  """The values of the runs that have this name, cut to the shortest run: runs x epochs.

  NaN, a gap in the line, is an epoch of imae-train, which does not measure all of them.
  """
  values = [
      [row.get(name, math.nan) for row in rows]
      for rows in runs if any(name in row for row in rows)
  ]
  shortest = min(map(len, values), default=0)
  return [run[:shortest] for run in values]


def _band(axes: Axes, values: np.ndarray, color: str, label: str) -> None:
  epochs = np.arange(1, values.shape[1] + 1)
  marker = "o" if len(epochs) < 3 else None
  axes.plot(
      epochs, values.mean(axis=0), color=color, linewidth=1.6, label=label, marker=marker,
      markersize=4,
  )
  axes.fill_between(
      epochs, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, linewidth=0
  )


def drawn_categories(
    images: Sequence[np.ndarray], names: Sequence[str], positions: Iterable[float], title: str
) -> Figure:
  """Figure 4b-e: each category with one dimension moved from its mean z.

  Args:
    images: [C, P, H, W, C'], as `metrics.category_traversals` returns them.
    names: C row labels.
    positions: [P] values of z_k.
    title: title of the figure.
  """
  labels = plots.position_labels(positions)
  return plots.image_grid(list(images), title, row_labels=names, column_labels=labels)


@plots.own_style()
def confidence(groups: Mapping[str, tuple[np.ndarray, np.ndarray | None]]) -> Figure:
  """Figure 5: how sure the encoder is of the category, with and without VAT.

  Args:
    groups: {title: ([N] max p(y|x), [N] bool, the category is the matched class; or None)}.
  """
  figure = plots.blank((3.9 * len(groups), 2.7))
  grid = figure.subplots(1, len(groups), squeeze=False, sharey=True)
  edges = np.linspace(0, 1, 31)
  for axes, (title, (certainty, right)) in zip(grid.flat, groups.items()):
    share = np.full(len(certainty), 1 / len(certainty))
    if right is None:
      parts, colors, labels = [certainty], [plots.BLUE], [""]
      text = f"mean confidence {certainty.mean():.3f}"
    else:
      parts = [certainty[right], certainty[~right]]
      colors, labels = [plots.BLUE, plots.ORANGE], ["right", "wrong"]
      text = f"mean confidence {certainty.mean():.3f}, accuracy {right.mean():.3f}"
    for part, color, label in zip(parts, colors, labels):
      style = {"histtype": "stepfilled", "facecolor": color + "22", "edgecolor": color}
      axes.hist(part, edges, weights=share[: len(part)], label=label, linewidth=1.4, **style)
    plots.dress(axes, title, "share of images" if axes is grid.flat[0] else "")
    axes.set_yscale("log")
    axes.set_ylim(1e-4, 1.5)
    axes.text(0.02, 0.94, text, transform=axes.transAxes, color=plots.MUTED, size=8, va="top")
    axes.set_xlabel("max$_y$ p(y|x)", color=plots.MUTED)
    axes.set_xlim(0, 1)
    if right is not None:
      axes.legend(
          frameon=False, fontsize=8, labelcolor=plots.MUTED, loc="upper left",
          bbox_to_anchor=(0, 0.9),
      )
  return figure


@plots.own_style()
def rate_distortion(points: Sequence[Mapping[str, Any]], floor: float, cap: float) -> Figure:
  """Reconstruction loss against the information of the whole code, I(x;y,z).

  Args:
    points: list of dicts: "method", "recipe" ("paper" is hollow), "naive" and
      "leave_one_out" (nats; on average the truth lies between), "reconstruction" (nats per
      image), "curves" (points of one name are joined) and "text" beside it.
    floor: floor of the reconstruction, nats per image.
    cap: ln n, which a naive estimate never exceeds; bars are cut off at 1.2 times the cap.
  """
  figure = plots.blank((7.2, 4.4))
  axes = figure.subplots()
  plots.dress(axes, "Rate and distortion", "reconstruction loss, nats per image")
  curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
  named = set()
  for point in points:
    color = _COLORS[point["method"]]
    place = (point["naive"], point["reconstruction"])
    hollow = point["recipe"] == "paper"
    label = None if point["method"] in named else plots.NAMES[point["method"]]
    named.add(point["method"])
    end = min(max(point["leave_one_out"], 0.0), 1.2 * cap)
    axes.plot([place[0], end], [place[1]] * 2, color=color, linewidth=1, alpha=0.4)
    axes.plot(
        *place, "o", markersize=6, markeredgecolor=color,
        markerfacecolor="white" if hollow else color, label=label,
    )
    if point["text"]:
      axes.annotate(
          point["text"], place, (4, 4), textcoords="offset points", size=6.5, color=plots.MUTED
      )
    for curve in point["curves"]:
      curves.setdefault((curve, color), []).append(place)
  for (_, color), places in curves.items():
    axes.plot(*zip(*sorted(places)), color=color, linewidth=0.8, linestyle=(0, (3, 2)))
  axes.axhline(floor, color=plots.MUTED, linewidth=0.9, linestyle=(0, (1, 2)), label="floor")
  axes.axvline(cap, color=plots.MUTED, linewidth=0.9, linestyle=(0, (5, 3)), label="ln n")
  label = f"{definitions.axis('mi_joint')}: naive, a bar to leave-one-out"
  axes.set_xlabel(label, color=plots.MUTED)
  axes.legend(frameon=False, fontsize=8, labelcolor=plots.INK, ncols=2)
  return figure


@plots.own_style()
def maps_of_z(
    maps: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]],
    class_names: Sequence[str] | None = None,
) -> Figure:
  """z in two dimensions, by category and by label, a column per method.

  Args:
    maps: {method: ([N, 2] places, [N] categories matched to classes, [N] labels or None)}.
    class_names: names of the labels, for the legend; or None.
  """
  labelled = any(labels is not None for _, _, labels in maps.values())
  figure = plots.blank((1.9 * len(maps) + (0.9 if labelled else 0), 2.1 * (1 + labelled) + 0.2))
  grid = figure.subplots(1 + labelled, len(maps), squeeze=False)
  count = 1 + max(
      max(int(np.max(part)) for part in (categories, labels) if part is not None)
      for _, categories, labels in maps.values()
  )
  colors = _class_colors(count)
  for column, (method, (places, categories, labels)) in enumerate(maps.items()):
    for row, part in enumerate([categories, labels] if labelled else [categories]):
      axes = grid[row, column]
      axes.scatter(*places.T, c=colors[part], s=2, linewidths=0, alpha=0.7)
      axes.set(xticks=[], yticks=[])
      axes.spines[:].set_color(plots.FAINT)
      if row == 0:
        axes.set_title(plots.NAMES[method], loc="left", size=10, weight="bold", color=plots.INK)
      if column == 0:
        axes.set_ylabel(["category", "label"][row], color=plots.MUTED, size=9)
  if labelled and class_names:
    handles = [
        matplotlib.lines.Line2D([], [], marker="o", linestyle="", markersize=4, color=colors[i])
        for i in range(len(class_names))
    ]
    figure.legend(
        handles, [plots.shorten(name) for name in class_names], loc="outside right center",
        frameon=False, fontsize=8, labelcolor=plots.INK,
    )
  return figure


def _class_colors(count: int) -> np.ndarray:
  palette = matplotlib.colormaps["tab10" if count <= 10 else "tab20"]
  return np.array([palette(i % palette.N) for i in range(count)])

"""Draws scatter charts of a search's trials, for the page of the search.

Trials on the Pareto front are filled, the best has a ring, and bars show the spread.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imae_tf.reporting import html
from imae_tf.reporting import plots

_MOST_TICKS = 6


@dataclasses.dataclass(frozen=True)
class Point:
  """A trial in a chart: filled on the front, else hollow; the best has a ring and its id.

  Attributes:
    x: value along the chart.
    y: value up the chart.
    id: the label.
    title: text that appears when one points at it.
    front: whether it is on the front.
    best: whether it is the best.
    spread: half the length of its bar; 0 for no bar.
  """

  x: float
  y: float
  id: str
  title: str
  front: bool
  best: bool
  spread: float = 0.0


@dataclasses.dataclass(frozen=True)
class Axis:
  """An axis: its label, values that it must include, and whether it may be logarithmic.

  Even with `log`, the axis is linear if a value is not above 0.
  """

  label: str
  bounds: Sequence[float] = ()
  log: bool = False


@dataclasses.dataclass(frozen=True)
class Size:
  """The size of a drawing, in units that the page scales; `style` is the class of the element."""

  style: str
  width: int
  height: int


WIDE = Size("wide", 440, 330)
SMALL = Size("small", 320, 250)


def scatter(points: Sequence[Point], x: Axis, y: Axis, alt: str, size: Size) -> Markup:
  """A scatter chart as an svg element; the front, and then the best, cover the other points.

  Args:
    points: the points to draw.
    x: axis along the chart.
    y: axis up the chart.
    alt: what the chart shows, in words.
    size: WIDE or SMALL.
  """
  # Later marks cover earlier ones.
  ordered = sorted(points, key=lambda p: (p.best, p.front))
  figure = draw(ordered, x, y, size)
  titles = {_name(i, point): point.title for i, point in enumerate(ordered)}
  return html.svg(figure, alt, size.style, titles)


@plots.own_style({"font.size": 12.0})
def draw(points: Sequence[Point], x: Axis, y: Axis, size: Size) -> Figure:
  """The figure of `scatter`; later points cover earlier ones."""
  figure = Figure(figsize=(size.width / 72, size.height / 72))  # 72 units an inch: one is a point
  axes = figure.add_axes((
      62 / size.width, 50 / size.height, 1 - 78 / size.width, 1 - 64 / size.height
  ))
  axes.spines[:].set_visible(False)
  axes.grid(color=plots.FAINT, linewidth=1)
  axes.set_axisbelow(True)
  axes.tick_params(length=0, pad=7, labelcolor=plots.MUTED)
  axes.tick_params("x", pad=9)
  ends = [p.y + sign * p.spread for p in points for sign in (-1, 1)]
  _scale(axes, "x", x, [p.x for p in points])
  _scale(axes, "y", y, ends)
  text: dict[str, Any] = {"color": plots.MUTED, "ha": "center", "parse_math": False}
  figure.text((size.width + 46) / 2 / size.width, 8 / size.height, x.label, **text)
  figure.text(
      14 / size.width, (size.height + 36) / 2 / size.height, y.label, rotation=90,
      rotation_mode="anchor", **text,  # so that it stays in the middle in a larger font
  )
  for i, point in enumerate(points):
    _mark(axes, i, point)
  return figure


def _scale(axes: Axes, which: str, axis: Axis, values: Sequence[float]) -> None:
  """Sets the ends of an axis, with some space around the values, and its ticks."""
  low, high = (end([*values, *axis.bounds]) for end in (min, max))
  log = axis.log and low > 0
  low, high = (math.log10(v) if log else float(v) for v in (low, high))
  room = 0.06 * (high - low)
  if high - low <= 1e-4 * max(abs(low), abs(high)):  # the texts of ticks would be equal
    room = 0.1 * abs(low) or 0.1
  low, high = low - room, high + room
  ticks = _log_ticks(low, high) if log else []
  low, high = (10.0**v if log else v for v in (low, high))
  if len(ticks) < 2:  # part of a decade, or linear
    locator = MaxNLocator(_MOST_TICKS - 1, steps=[1, 2, 2.5, 5, 10])
    ticks = [tick for tick in map(float, locator.tick_values(low, high)) if low <= tick <= high]
  axes.set(**{f"{which}scale": "log" if log else "linear", f"{which}lim": (low, high)})
  axes.minorticks_off()
  axes.set(**{f"{which}ticks": ticks, f"{which}ticklabels": _texts(ticks, log)})


def _log_ticks(low: float, high: float) -> list[float]:
  """Ticks at 1, 2, 5 in each decade from 10^low to 10^high; fewer if there are many decades."""
  decades = range(math.floor(low), math.ceil(high) + 1)
  for marks in ((1, 2, 5), (1, 3), (1,)):
    ticks = [m * 10.0**d for d in decades for m in marks if low <= math.log10(m) + d <= high]
    if len(ticks) <= _MOST_TICKS:
      return ticks
  return ticks[:: math.ceil(len(ticks) / _MOST_TICKS)]


def _texts(ticks: Sequence[float], log: bool) -> list[str]:
  """The text of each tick, with equally many decimals on a linear axis."""
  texts = [f"{tick:.7g}" for tick in ticks]
  if not log and not any("e" in text for text in texts):
    decimals = max(len(text.partition(".")[2]) for text in texts)
    texts = [f"{tick:,.{decimals}f}" for tick in ticks]
  return [text.replace("-", "−") for text in texts]


def _name(i: int, point: Point) -> str:
  return f"{'front' if point.front else 'dominated'}_{i}"


def _mark(axes: Axes, i: int, point: Point) -> None:
  if point.spread:
    ends = [point.y - point.spread, point.y + point.spread]
    axes.plot([point.x] * 2, ends, color=plots.MUTED, alpha=0.6, lw=1, gid="spread")
  fill, edge, width = (plots.BLUE, "#ffffff", 1.0) if point.front else ("none", plots.MUTED, 1.5)
  axes.plot(
      [point.x], [point.y], "o", markersize=9, mfc=fill, mec=edge, mew=width, gid=_name(i, point)
  )
  if point.best:
    axes.plot(
        [point.x], [point.y], "o", markersize=17, mfc="none", mec=plots.INK, mew=1.8, gid="best"
    )
    right = axes.transData.transform((point.x, point.y))[0] > axes.bbox.x0 + 0.8 * axes.bbox.width
    axes.annotate(
        point.id, (point.x, point.y), (-13 if right else 13, 0), textcoords="offset points",
        ha="right" if right else "left", va="center", color=plots.INK, weight="bold",
        parse_math=False, gid="label", annotation_clip=False,
    )

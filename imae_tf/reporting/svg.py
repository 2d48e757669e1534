"""Scatter charts as inline SVG, for pages without scripts; marks explain themselves on hover."""

import dataclasses
import math
from collections.abc import Sequence

from imae_tf.reporting import html

_MOST_TICKS = 6


@dataclasses.dataclass(frozen=True)
class Point:
  """A mark: filled on the front, hollow elsewhere, ringed and labelled with its id if the best.

  Attributes:
    x: on the scale of the values, as y.
    y: see x.
    id: the label.
    title: what hovering over it says.
    front: whether it is on the front.
    best: whether it is the best.
    spread: half the length of its bar; 0 for none.
  """

  x: float
  y: float
  id: str
  title: str
  front: bool
  best: bool
  spread: float = 0.0


@dataclasses.dataclass(frozen=True)
class Size:
  """Of a drawing and its margins, in units of its own: the page scales it; `style` is its class."""

  style: str
  width: int
  height: int
  left: int = 62
  right: int = 16
  top: int = 14
  bottom: int = 50


WIDE = Size("wide", 440, 330)
SMALL = Size("small", 320, 250)


@dataclasses.dataclass(frozen=True)
class Axis:
  """Its ends, low and high, are on its own scale: of a logarithmic one, powers of ten."""

  label: str
  low: float
  high: float
  log: bool
  ticks: list[float]

  def share(self, value):
    """Where a value lies, 0 at the low and 1 at the high end."""
    return (_scaled(value, self.log) - self.low) / (self.high - self.low)

  def labelled_ticks(self):
    """(value, text) of each tick, with equally many decimals on a linear axis."""
    texts = [f"{tick:.7g}" for tick in self.ticks]
    if not self.log and not any("e" in text for text in texts):
      decimals = max(len(text.partition(".")[2]) for text in texts)
      texts = [f"{tick:,.{decimals}f}" for tick in self.ticks]
    return [(tick, text.replace("-", "−")) for tick, text in zip(self.ticks, texts)]


def axis(label: str, values: Sequence[float], log: bool = False) -> Axis:
  """The axis that shows all values, with room around them; logarithmic if they allow it."""
  log = log and min(values) > 0
  low, high = _scaled(min(values), log), _scaled(max(values), log)
  room = 0.06 * (high - low)
  if high - low <= 1e-4 * max(abs(low), abs(high)):  # what the text of ticks cannot tell apart
    room = 0.1 * abs(low) or 0.1
  low, high = low - room, high + room
  if not log:
    return Axis(label, low, high, log, _ticks(low, high))
  ticks = _log_ticks(low, high)
  if len(ticks) < 2:  # part of a decade
    ticks = _ticks(10.0**low, 10.0**high)
  return Axis(label, low, high, log, ticks)


def _scaled(value, log):
  return math.log10(value) if log else float(value)


def _ticks(low, high):
  """Multiples of 1, 2, 2.5 or 5 times a power of ten."""
  rough = (high - low) / (_MOST_TICKS - 1)
  power = 10.0 ** math.floor(math.log10(rough))
  step = next((m for m in (1, 2, 2.5, 5) if m * power >= rough), 10) * power
  return [m * step for m in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low, high):
  """1, 2, 5 in each decade between 10^low and 10^high, or fewer where decades are many."""
  decades = range(math.floor(low), math.ceil(high) + 1)
  for marks in ((1, 2, 5), (1, 3), (1,)):
    ticks = [m * 10.0**d for d in decades for m in marks if low <= math.log10(m) + d <= high]
    if len(ticks) <= _MOST_TICKS:
      return ticks
  return ticks[:: math.ceil(len(ticks) / _MOST_TICKS)]


def scatter(
    points: Sequence[Point], x_axis: Axis, y_axis: Axis, alt: str, size: Size
) -> str:
  """A figure element, with the points of the front, and the best, above the others.

  Args:
    points: what is drawn.
    x_axis: of `axis`, as y_axis.
    y_axis: see x_axis.
    alt: what the chart shows, in words.
    size: WIDE or SMALL.
  """
  frame = _Frame(x_axis, y_axis, size)
  # Later marks cover earlier ones.
  ordered = sorted(points, key=lambda p: (p.best, p.front))
  marks = "".join(_mark(point, frame) for point in ordered)
  return (
      f'<figure><svg class="chart {size.style}" viewBox="0 0 {size.width} {size.height}"'
      f' role="img" aria-label="{html.escape(alt)}">'
      f"{_x_axis(frame)}{_y_axis(frame)}{marks}</svg></figure>"
  )


@dataclasses.dataclass(frozen=True)
class _Frame:
  """Where values lie in the drawing, whose y grows downwards."""

  x_axis: Axis
  y_axis: Axis
  size: Size

  def x(self, value):
    size = self.size
    return size.left + (size.width - size.left - size.right) * self.x_axis.share(value)

  def y(self, value):
    size = self.size
    return self.base - (self.base - size.top) * self.y_axis.share(value)

  @property
  def base(self):
    return self.size.height - self.size.bottom


def _x_axis(frame):
  size, top = frame.size, frame.size.top
  parts = [
      f'<path class="grid" d="M{frame.x(tick):.1f} {top}V{frame.base}"/>'
      + _text(frame.x(tick), frame.base + 18, "middle", text)
      for tick, text in frame.x_axis.labelled_ticks()
  ]
  middle = (size.left + size.width - size.right) / 2
  return "".join(parts) + _text(middle, size.height - 8, "middle", frame.x_axis.label)


def _y_axis(frame):
  size = frame.size
  parts = [
      f'<path class="grid" d="M{size.left} {frame.y(tick):.1f}H{size.width - size.right}"/>'
      + _text(size.left - 7, frame.y(tick) + 4, "end", text)
      for tick, text in frame.y_axis.labelled_ticks()
  ]
  middle = (size.top + frame.base) / 2
  turned = f' transform="rotate(-90 14 {middle})"'
  return "".join(parts) + _text(14, middle, "middle", frame.y_axis.label, turned)


def _mark(point, frame):
  x, y = frame.x(point.x), frame.y(point.y)
  bar = ring = ""
  if point.spread:
    low, high = (frame.y(point.y + s * point.spread) for s in (-1, 1))
    bar = f'<path class="spread" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
  if point.best:
    side, anchor = (-13, "end") if frame.x_axis.share(point.x) > 0.8 else (13, "start")
    label = _text(x + side, y + 4, anchor, point.id, ' class="label"')
    ring = f'<circle class="best" cx="{x:.1f}" cy="{y:.1f}" r="8.5"/>{label}'
  style = "front" if point.front else "dominated"
  return (
      f"<g><title>{html.escape(point.title)}</title>{bar}"
      f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>{ring}</g>'
  )


def _text(x, y, anchor, text, attributes=""):
  return (
      f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{attributes}>'
      f"{html.escape(text)}</text>"
  )


# For pages with charts.
STYLE = """
.chart { display: block; width: 100%; height: auto; margin: 0 auto; font-size: 12px; }
.chart.wide { max-width: 520px; }
.chart.small { max-width: 420px; }
.chart text { fill: var(--muted); font-variant-numeric: tabular-nums; }
.chart .grid { stroke: var(--line); }
.chart .spread { stroke: var(--muted); stroke-opacity: .6; }
.chart .front { fill: var(--accent); stroke: var(--card); }
.chart .dominated { fill: none; stroke: var(--muted); stroke-width: 1.5; pointer-events: all; }
.chart .best { fill: none; stroke: var(--ink); stroke-width: 1.8; }
.chart text.label { fill: var(--ink); font-weight: 650; stroke: var(--card); stroke-width: 3px;
  paint-order: stroke; }
@media (max-width: 640px) { .chart.wide { font-size: 14.5px; } }
"""

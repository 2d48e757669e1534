"""How every figure looks: its colours, fonts and frame, whatever the user's matplotlibrc says."""

import contextlib
from collections.abc import Iterator
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, FAINT = "#1d2733", "#66717f", "#dfe4ea"
BLUE, ORANGE, TEAL, GREY = "#2b6cb0", "#d9822b", "#2f9e8f", "#b9c3cf"
DPI = 200
FONT = 9  # points, in charts
_MAX_LABEL = 16  # characters


@contextlib.contextmanager
def own_style(settings: dict[Any, Any] | None = None) -> Iterator[None]:
  """matplotlib as it comes, with some settings, whatever the user's matplotlibrc says.

  A context and, with its parentheses, a decorator of what makes or paints a figure.
  """
  with matplotlib.rc_context():
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(settings or {})
    yield


@own_style()
def blank(size: tuple[float, float]) -> Figure:
  """A figure without axes, of size (width, height) in inches, in the style of all charts."""
  return Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")


def dress(axes: Axes, title: str, ylabel: str) -> None:
  """Gives axes their title, the label of y (ylabel) and lines, in the style of all charts."""
  axes.set_title(title, loc="left", size=FONT + 1, weight="bold", color=INK)
  axes.set_ylabel(ylabel, color=MUTED, size=FONT)
  axes.tick_params(colors=MUTED, labelsize=FONT - 1, length=3)
  axes.spines[["top", "right"]].set_visible(False)
  axes.spines[["left", "bottom"]].set_color(GREY)
  axes.grid(True, axis="y", color=FAINT, linewidth=0.8)
  axes.set_axisbelow(True)


def shorten(text: str) -> str:
  """A text of at most 16 characters, cut with an ellipsis."""
  text = str(text)
  return text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1] + "…"

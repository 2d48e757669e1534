"""The style of all figures: colours, sizes of type, and matplotlib without the user's settings."""

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
  """A context in which matplotlib has its default settings, and those given here.

  The user's matplotlibrc has no effect in it. Also use it, with parentheses, as a decorator of
  functions that make or paint a figure.
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
  """Gives axes a title, a label of y (ylabel) and grid lines, in the style of all charts."""
  axes.set_title(title, loc="left", size=FONT + 1, weight="bold", color=INK)
  axes.set_ylabel(ylabel, color=MUTED, size=FONT)
  axes.tick_params(colors=MUTED, labelsize=FONT - 1, length=3)
  axes.spines[["top", "right"]].set_visible(False)
  axes.spines[["left", "bottom"]].set_color(GREY)
  axes.grid(True, axis="y", color=FAINT, linewidth=0.8)
  axes.set_axisbelow(True)


def two_decimals(value: float) -> str:
  """A number with two decimals, and no negative zero."""
  return f"{round(value, 2) + 0.0:.2f}"


def shorten(text: str) -> str:
  """The text, cut with an ellipsis if it has more than 16 characters."""
  text = str(text)
  return text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1] + "…"

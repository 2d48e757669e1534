"""What pages are made of: templates alone, escaped text, pictures that no user's style changes."""

import pathlib
import re
import subprocess
import sys

import html_page
import matplotlib
import numpy as np
import pytest
from markupsafe import Markup

import imae_tf
from imae_tf.reporting import html
from imae_tf.reporting import plots
from imae_tf.reporting import scatter

# What a matplotlibrc may hold.
STYLE = {
    "axes.facecolor": "black", "font.size": 30, "font.family": "serif", "lines.linewidth": 9,
    "savefig.bbox": "tight", "savefig.transparent": True, "svg.fonttype": "path",
    "xtick.minor.visible": True, "text.parse_math": False, "axes.grid": True,
}
POINTS = [
    scatter.Point(1.0, 2.0, "t0", "first", front=True, best=True),
    scatter.Point(9.0, 3.0, "t1", "<second>", front=False, best=False, spread=0.5),
]


def _chart(points=POINTS, alt="a chart"):
  axes = scatter.Axis("$x_", log=True), scatter.Axis("y")
  return scatter.scatter(points, *axes, alt, scatter.SMALL)


def test_no_page_is_put_together_in_python():
  package = pathlib.Path(imae_tf.__file__).parent
  for path in package.rglob("*.py"):
    code = path.read_text(encoding="utf-8")
    assert not re.search(r"\bescape\(|</?(div|p|span|table|td|tr|figure|svg)[ >]", code), path


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Σ I(x;z_k)", "Σ I(x;z<sub>k</sub>)"),
        ("K_1 < K_2", "K<sub>1</sub> &lt; K<sub>2</sub>"),
        ("mi_y & <b>_</b>", "mi_y &amp; &lt;b&gt;_&lt;/b&gt;"),
    ],
)
def test_subscripts(text, expected):
  found = html.subscripts(text)
  assert isinstance(found, Markup) and found == expected


@pytest.mark.parametrize(
    "value, decimals, expected",
    [
        (None, 3, "–"), (1234, 3, "1,234"), (0.12345, 3, "0.123"), (-0.25, 2, "−0.25"),
        (-0.0001, 3, "0.000"), (1234.56, 3, "1,234.6"), (0.0, 2, "0.00"),
    ],
)
def test_number(value, decimals, expected):
  assert html.number(value, decimals) == expected


def test_a_chart_is_part_of_a_page():
  text = _chart()
  assert not re.search(r"http|xmlns|url\(|<style|<metadata|clip", text)
  assert set(re.findall(r"#[0-9a-f]{6}", text)) == set()  # colours are the page's
  one, other = (html_page.Page(_chart(alt=alt)) for alt in ("one", "other"))
  ids, others = ({e["id"] for _, e in page.elements if "id" in e} for page in (one, other))
  assert ids == {use["href"][1:] for use in one.all("use")} and not ids & others
  (chart,) = one.charts()
  assert chart.tips == ["<second>", "first"]
  assert "$x_" in one.text and "t0" in one.text  # neither is mathematics


def test_a_users_style_changes_nothing():
  x = np.random.default_rng(0).random((2, 8, 8, 1))

  def drawn():
    history = [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.0}]
    figures = (plots.reconstructions(x, x), plots.training(history))
    return [*map(html.png, figures), _chart()]

  expected = drawn()
  with matplotlib.rc_context(STYLE):
    assert drawn() == expected
    assert matplotlib.rcParams["font.size"] == 30  # nor is it changed


def test_neither_pyplot_nor_a_backend_is_asked_for(monkeypatch):
  monkeypatch.setenv("MPLBACKEND", "tkagg")  # which needs a screen
  code = "; ".join([
      "import sys", "from imae_tf.reporting import html, plots, scatter",
      "html.png(plots.training([{'epoch': 1, 'loss': 3.0}]))",
      "axis = scatter.Axis('x')", "point = scatter.Point(1, 1, 'a', 'b', True, True)",
      "scatter.scatter([point], axis, axis, 'c', scatter.WIDE)",
      "assert 'matplotlib.pyplot' not in sys.modules",
  ])
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr

"""Writes the page of a search: which trials trade off best, and which one to go on with.

`search.driver` calls `write` after each trial.
"""

import collections
import math
import numbers
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from imae_tf._shared import files
from imae_tf.metrics import definitions
from imae_tf.reporting import html
from imae_tf.reporting import scatter

Trial = dict[str, Any]  # a trial of trials.json

# A figure times its sign is a cost: larger is worse.
_COSTS = {"reconstruction": 1.0, "mi_y": -1.0, "total_correlation": 1.0}
# Columns of the table of trials, also shown when one points at a trial in a chart.
_FIGURES = {
    key: definitions.label(key)
    for key in (
        "reconstruction", "mi_y", "mi_z", "total_correlation", "conditional_entropy_y",
        "used_categories", "active_units",
    )
}
_SETTINGS = (
    "command", "dataset", "images", "recipe", "tuner", "objective", "epochs", "seeds",
    "trials_asked",
)
_FEWEST_FOR_A_RELATION = 3  # trials, because two always lie on a line
_MISSING = "–"


def pareto(points: npt.ArrayLike) -> np.ndarray:
  """Whether each point is Pareto-optimal: no other is as good in every cost and better in one.

  Args:
    points: [N, M] costs, lower is better. Equal points do not exclude each other.

  Returns:
    bool [N]; False for rows with NaN, which exclude no other row.
  """
  points = np.asarray(points, dtype=np.float64)
  # Entry [i, j] compares point i with point j. Comparisons with NaN are False.
  no_worse = (points[:, None] <= points).all(axis=2)
  better = (points[:, None] < points).any(axis=2)
  return ~(no_worse & better).any(axis=0) & ~np.isnan(points).any(axis=1)


def write(path: str | pathlib.Path, search: dict[str, Any]) -> None:
  """Writes the page of a search, atomically: inline style and SVG, no script, no network.

  Args:
    path: path of the page, in the folder of the search.
    search: the content of trials.json: a dict with "command", "dataset", "images", "recipe",
      "tuner", "objective", "epochs", "seeds", "trials_asked", "space" ({name: {"low",
      "high", "sampling"} or {"values"}}), "best" (an id or None) and "trials": dicts with
      "id", "status" (COMPLETED, FAILED, RUNNING or WAITING), "reason", "weights", "score"
      (higher is better), "score_std", "seconds", "folder" and "figures".

  Raises:
    KeyError: one of these keys is missing.
    OSError: the file cannot be written; it is then the whole old or the whole new one.
  """
  path = pathlib.Path(path)
  page = _page(_Search(search), path.parent)
  with files.replacing(path) as temporary:
    temporary.write_text(page, encoding="utf-8")


class _Search:
  """The search as the page shows it: the trials by their state, the front and the best."""

  def __init__(self, search: dict[str, Any]):
    self.settings, self.space, self.trials = search, search["space"], search["trials"]
    self.completed = sorted(self._with("COMPLETED"), key=_rank)
    self.failed = self._with("FAILED")
    self.unfinished = self._with("RUNNING") + self._with("WAITING")
    self.best = next((t for t in self.completed if t["id"] == search["best"]), None)
    searched_first = [*self.space, *(name for t in self.trials for name in t["weights"])]
    self.names = list(dict.fromkeys(searched_first))
    costs = np.array([_costs(t) for t in self.completed]).reshape(-1, len(_COSTS))
    self.front = {t["id"] for t, on in zip(self.completed, pareto(costs)) if on}
    self.repeated = any(_finite(t["score_std"]) is not None for t in self.completed)
    self.compared = [t for t, row in zip(self.completed, costs) if not np.isnan(row).any()]

  def _with(self, status: str) -> list[Trial]:
    return [trial for trial in self.trials if trial["status"] == status]

  @property
  def objective(self) -> definitions.Definition:
    key = self.settings["objective"]
    return definitions.DEFINITIONS.get(key, definitions.Definition(key, "nats", ""))

  def score(self, trial: Trial) -> str:
    deviation = _finite(trial["score_std"])
    spread = "" if deviation is None else f" ± {_number(deviation, 2)}"
    return _number(trial["score"]) + spread

  def states(self) -> list[str]:
    """How many trials are in each state."""
    counts = collections.Counter(trial["status"].lower() for trial in self.trials)
    counts["not started"] = max(self.settings["trials_asked"] - len(self.trials), 0)
    states = ("completed", "failed", "running", "waiting", "not started")
    return [f"{counts[s]:,} {s}" for s in states if counts[s] or s == "completed"]


def _rank(trial: Trial) -> float:
  """The key that sorts trials: the best objective first, trials without one last."""
  score = _finite(trial["score"])
  return math.inf if score is None else -score


def _costs(trial: Trial) -> list[float]:
  values = {key: _finite(_figure(trial, key)) for key in _COSTS}
  return [math.nan if v is None else _COSTS[key] * v for key, v in values.items()]


def _figure(trial: Trial, key: str) -> Any:
  return (trial["figures"] or {}).get(key)


def _page(search: _Search, folder: pathlib.Path) -> str:
  settings = search.settings
  return html.render(
      "search.html",
      title=f"Search on {settings['dataset']}",
      search=search,
      states=search.states(),
      asked=settings["trials_asked"],
      seeds=settings["seeds"],
      objective=search.objective,
      key=settings["objective"],
      deviation=_finite(search.best["score_std"]) if search.best else None,
      workdir=shlex.quote(str(folder / "best")),
      trade_offs=_trade_offs(search),
      relations=_relations(search),
      settings=_settings(search),
      figure_names=_FIGURES,
      figure=_figure,
      significant=_number,
      chosen=_chosen,
      weights=_weights,
  )


# --- charts ---------------------------------------------------------------------------------


def _trade_offs(search: _Search) -> list[Markup]:
  pairs = (("reconstruction", "mi_y"), ("reconstruction", "total_correlation"))
  return [_trade_off(search, x, y) for x, y in pairs] if search.compared else []


def _axis(key: str) -> str:
  unit = definitions.DEFINITIONS[key].unit
  return f"{_FIGURES[key]} ({unit}, {'lower' if _COSTS[key] > 0 else 'higher'} is better)"


def _trade_off(search: _Search, x: str, y: str) -> Markup:
  trials = search.compared
  points = [_point(search, t, _figure(t, x), _figure(t, y)) for t in trials]
  optimal = ", ".join(t["id"] for t in trials if t["id"] in search.front)
  alt = (
      f"Scatter chart of {html.count(len(trials), 'trial')}: {_FIGURES[y]} against"
      f" {_FIGURES[x].lower()}. Pareto-optimal: {optimal}.{_best_alt(points)}"
  )
  x_axis, y_axis = (scatter.Axis(_axis(key)) for key in (x, y))
  return scatter.scatter(points, x_axis, y_axis, alt, scatter.WIDE)


def _relations(search: _Search) -> list[Markup]:
  charts = (_relation(search, name, spec) for name, spec in search.space.items())
  return [chart for chart in charts if chart]


def _relation(search: _Search, name: str, spec: dict[str, Any]) -> Markup | None:
  """A chart of the objective against one searched number; None for words and few trials."""
  points = [
      _point(search, trial, trial["weights"][name], trial["score"], trial["score_std"])
      for trial in search.completed
      if _is_number(trial["weights"].get(name)) and _finite(trial["score"]) is not None
  ]
  if len(points) < _FEWEST_FOR_A_RELATION:
    return None
  bounds = [spec[key] for key in ("low", "high") if key in spec]
  alt = (
      f"Scatter chart of {len(points)} trials: {search.objective.name} against {name}."
      f"{_best_alt(points)}"
  )
  x = scatter.Axis(name, bounds, log=spec.get("sampling") == "log")
  y = scatter.Axis(f"{search.objective.name} (nats)")
  return scatter.scatter(points, x, y, alt, scatter.SMALL)


def _point(
    search: _Search, trial: Trial, x: float, y: float, deviation: float | None = None
) -> scatter.Point:
  figures = [f"{label}: {_number(_figure(trial, key))}" for key, label in _FIGURES.items()]
  title = [f"Trial {trial['id']}", _weights(trial), f"Objective: {search.score(trial)}", *figures]
  return scatter.Point(
      x, y, trial["id"], "\n".join(filter(None, title)),
      front=trial["id"] in search.front, best=trial is search.best,
      spread=_finite(deviation) or 0.0,
  )


def _best_alt(points: Sequence[scatter.Point]) -> str:
  return "".join(
      f" The best by the objective, {p.id}, is at {_number(p.x)} and {_number(p.y)}."
      for p in points if p.best
  )


# --- words and numbers ----------------------------------------------------------------------


def _settings(search: _Search) -> list[tuple[str, str]]:
  settings = {name: search.settings[name] for name in _SETTINGS}
  settings["seeds"] = ", ".join(map(str, settings["seeds"]))
  settings = {name.replace("_", " "): _chosen(value) for name, value in settings.items()}
  settings |= {f"range of {name}": _range(spec) for name, spec in search.space.items()}
  return list(settings.items())


def _range(spec: dict[str, Any]) -> str:
  if "values" in spec:
    return ", ".join(map(_chosen, spec["values"]))
  low, high = _chosen(spec["low"]), _chosen(spec["high"])
  return f"{low} to {high}, {spec.get('sampling', 'linear')} scale"


def _is_number(value: Any) -> bool:
  return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _finite(value: Any) -> float | None:
  """The number, or None if it is missing, NaN or infinite."""
  return value if _is_number(value) else None


def _number(value: Any, digits: int = 3) -> str:
  """A figure as text, with `digits` significant digits."""
  if not _is_number(value):
    return _MISSING
  if isinstance(value, numbers.Integral):
    return f"{value:,}"
  text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.{digits}g}".rstrip(".")
  return text.replace("-", "−")


def _chosen(value: Any) -> str:
  """The value of a setting as text; numbers are short and have no trailing zeros."""
  if value is None:
    return _MISSING
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def _weights(trial: Trial) -> str:
  return ", ".join(f"{name} = {_chosen(value)}" for name, value in trial["weights"].items())

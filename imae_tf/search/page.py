"""The page of a search without labels: which trials trade off best, and which to go on with."""

import collections
import math
import numbers
import pathlib
import shlex

import numpy as np

from imae_tf._shared import files
from imae_tf.metrics import definitions
from imae_tf.reporting import html
from imae_tf.reporting import svg

# Larger is worse; the sign turns a figure into a cost.
_COSTS = {"reconstruction": 1.0, "mi_y": -1.0, "total_correlation": 1.0}
_AXES = {
    "reconstruction": "Reconstruction (nats per image, lower is better)",
    "mi_y": "I(x;y) (nats, higher is better)",
    "total_correlation": "TC(y,z) (nats, lower is better)",
}
# Columns of the table of trials, and what a point says when one hovers over it.
_FIGURES = {
    "reconstruction": "Reconstruction",
    "mi_y": "I(x;y)",
    "mi_z": "Σ\u00a0I(x;z_k)",
    "total_correlation": "TC(y,z)",
    "conditional_entropy_y": "H(y|x)",
    "used_categories": "Categories used",
    "active_units": "Active dimensions",
}
_FEWEST_FOR_A_RELATION = 3  # trials; two always lie on a line
_MISSING = "–"


def pareto(points):
  """Where no other point is at least as good in every cost and better in one.

  Args:
    points: [N, M] costs, lower is better. Equal points do not exclude each other.

  Returns:
    bool [N]; False for rows with NaN, which exclude no other.
  """
  points = np.asarray(points, dtype=np.float64)
  # [i, j]: of point i against point j. Comparisons with NaN are False.
  no_worse = (points[:, None] <= points).all(axis=2)
  better = (points[:, None] < points).any(axis=2)
  return ~(no_worse & better).any(axis=0) & ~np.isnan(points).any(axis=1)


def write(path, search):
  """Writes the page of a search, atomically: inline style and SVG, no script, no network.

  Args:
    path: of the page, in the folder of the search.
    search: the content of trials.json: a dict with "command", "dataset", "images", "recipe",
      "tuner", "objective", "epochs", "seeds", "trials_asked", "space" ({name: {"low",
      "high", "sampling"} or {"values"}}), "best" (an id or None) and "trials": dicts with
      "id", "status" (COMPLETED, FAILED, RUNNING or WAITING), "reason", "weights", "score"
      (higher is better), "score_std", "seconds", "folder" and "figures".

  Raises:
    KeyError: one of them is missing.
    OSError: the file cannot be written; it is then the old or the new one, whole.
  """
  path = pathlib.Path(path)
  page = _page(_Search(search, path.parent))
  with files.replacing(path) as temporary:
    temporary.write_text(page, encoding="utf-8")


class _Search:
  """What the page shows: the trials by their state, the front and the best."""

  def __init__(self, search, folder):
    self.settings, self.folder = search, folder
    self.space, self.trials = search["space"], search["trials"]
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

  def _with(self, status):
    return [trial for trial in self.trials if trial["status"] == status]

  @property
  def objective(self):
    key = self.settings["objective"]
    return definitions.DEFINITIONS.get(key, definitions.Definition(key, "nats", ""))

  def score(self, trial):
    deviation = _finite(trial["score_std"])
    spread = "" if deviation is None else f" ± {_number(deviation, 2)}"
    return _number(trial["score"]) + spread


def _rank(trial):
  """The best objective first, trials without one last."""
  score = _finite(trial["score"])
  return math.inf if score is None else -score


def _costs(trial):
  values = {key: _finite(_figure(trial, key)) for key in _COSTS}
  return [math.nan if v is None else _COSTS[key] * v for key, v in values.items()]


def _figure(trial, key):
  return (trial["figures"] or {}).get(key)


# --- page -----------------------------------------------------------------------------------


def _page(search):
  title = f"Search on {search.settings['dataset']}"
  sections = [
      ("Trade-offs", "front", _front(search)),
      ("Completed trials", "trials", _trials(search)),
      ("How each weight relates to the objective", "weights", _relations(search)),
      ("Failed trials", "failed", _failed(search)),
      ("Unfinished trials", "unfinished", _unfinished(search)),
      ("Settings of the search", "settings", _settings(search)),
  ]
  return html.document(title, _summary(search), sections, _STYLE + svg.STYLE)


def _summary(search):
  objective, key = search.objective, search.settings["objective"]
  meaning = f": {objective.meaning[0].lower()}{objective.meaning[1:]}" if objective.meaning else "."
  text = (
      f"{_progress(search)} Trials are ranked by the objective"
      f" {html.subscripts(objective.name)} (<code>{html.escape(key)}</code>), higher is"
      f" better{html.subscripts(meaning)} No label took part, in the training or in the"
      f" ranking. {_best(search)}"
  )
  return f'<p class="lead">{text}</p>{_next_steps(search)}{_caution(search)}'


def _progress(search):
  asked, trials = search.settings["trials_asked"], search.trials
  counts = collections.Counter(trial["status"].lower() for trial in trials)
  counts["not started"] = max(asked - len(trials), 0)
  states = ("completed", "failed", "running", "waiting", "not started")
  parts = [f"{counts[s]:,} {s}" for s in states if counts[s] or s == "completed"]
  verb = "was" if asked == 1 else "were"
  return f"{html.count(asked, 'trial')} {verb} asked for: {', '.join(parts)}."


def _best(search):
  if not search.completed:
    return "<strong>No trial has completed, so there is nothing to compare yet.</strong>"
  if search.best is None:
    return "No trial is marked as the best."
  best, objective = search.best, search.objective
  weights = f", with {_weights(best)}" if best["weights"] else ""
  return (
      f"<strong>The best is trial {html.escape(best['id'])}{html.escape(weights)}</strong>:"
      f" {html.subscripts(objective.name)} = {search.score(best)} nats. Its runs are in"
      f" <code>{html.escape(best['folder'])}</code>, <code>best</code> is the best of them."
  )


def _next_steps(search):
  if search.best is None:
    return ""
  command = f"imae-evaluate --workdir={shlex.quote(str(search.folder / 'best'))}"
  return (
      f'<p>To go on with it:</p><pre class="scroll"><code>{html.escape(command)}</code></pre>'
  )


def _caution(search):
  if not search.completed:
    return ""
  deviation = _finite(search.best["score_std"]) if search.best else None
  measured = ""
  if deviation is not None:
    seeds = html.count(len(search.settings["seeds"]), "seed")
    measured = f" (± {_number(deviation, 2)} over {seeds} in the best trial)"
  return (
      f'<p class="note">A score moves with the seed{measured}, and the best of many is partly'
      " luck: before you rely on the chosen setting, train it with fresh seeds.</p>"
  )


def _front(search):
  if not search.completed:
    return ""
  left_out = len(search.completed) - len(search.compared)
  note = ""
  if left_out:
    note = (
        f'<p class="note">{html.count(left_out, "completed trial")} without all three figures'
        " left out.</p>"
    )
  if not search.compared:
    return note
  return (
      "<p>A trial is Pareto-optimal when no other is at least as good in reconstruction, I(x;y)"
      " and TC(y,z) together and better in one of them. Each chart shows two of the three, so"
      " that an optimal trial may look dominated in one.</p>"
      f'{note}{_legend(search, "dominated")}<div class="figures n2">'
      + _trade_off(search, "reconstruction", "mi_y")
      + _trade_off(search, "reconstruction", "total_correlation") + "</div>"
  )


def _legend(search, hollow):
  best = '<span><i class="dot best"></i>best by the objective</span>' if search.best else ""
  return (
      '<p class="legend"><span><i class="dot front"></i>Pareto-optimal</span>'
      f'<span><i class="dot dominated"></i>{hollow}</span>{best}</p>'
  )


def _trade_off(search, x, y):
  trials = search.compared
  points = [_trial_point(search, t, _figure(t, x), _figure(t, y)) for t in trials]
  optimal = ", ".join(t["id"] for t in trials if t["id"] in search.front)
  alt = (
      f"Scatter chart of {html.count(len(trials), 'trial')}: {_FIGURES[y]} against"
      f" {_FIGURES[x].lower()}. Pareto-optimal: {optimal}.{_best_alt(points)}"
  )
  x_axis = svg.axis(_AXES[x], [p.x for p in points])
  y_axis = svg.axis(_AXES[y], [p.y for p in points])
  return svg.scatter(points, x_axis, y_axis, alt, svg.WIDE)


def _relations(search):
  charts = [_relation(search, name, spec) for name, spec in search.space.items()]
  charts = [chart for chart in charts if chart]
  if not charts:
    return ""
  bars = " Bars are ± one standard deviation over the seeds." if search.repeated else ""
  # Hollow are also those without the figures that the front is drawn from.
  return (
      "<p>The axis spans the searched range: a best trial at its end asks for a wider one."
      f'{bars}</p>{_legend(search, "others")}<div class="figures n3">{"".join(charts)}</div>'
  )


def _relation(search, name, spec):
  """The objective against one searched number; empty for words and for too few trials."""
  points = [
      _trial_point(search, trial, trial["weights"][name], trial["score"], trial["score_std"])
      for trial in search.completed
      if _is_number(trial["weights"].get(name)) and _finite(trial["score"]) is not None
  ]
  if len(points) < _FEWEST_FOR_A_RELATION:
    return ""
  bounds = [spec[key] for key in ("low", "high") if key in spec]
  x_axis = svg.axis(name, [*bounds, *(p.x for p in points)], log=spec.get("sampling") == "log")
  y_axis = svg.axis(
      f"{search.objective.name} (nats)", [p.y + s * p.spread for p in points for s in (-1, 1)]
  )
  alt = (
      f"Scatter chart of {len(points)} trials: {search.objective.name} against {name}."
      f"{_best_alt(points)}"
  )
  return svg.scatter(points, x_axis, y_axis, alt, svg.SMALL)


def _trial_point(search, trial, x, y, deviation=None):
  figures = [f"{label}: {_number(_figure(trial, key))}" for key, label in _FIGURES.items()]
  title = [f"Trial {trial['id']}", _weights(trial), f"Objective: {search.score(trial)}", *figures]
  return svg.Point(
      x, y, trial["id"], "\n".join(filter(None, title)),
      front=trial["id"] in search.front, best=trial is search.best,
      spread=_finite(deviation) or 0.0,
  )


def _best_alt(points):
  return "".join(
      f" The best by the objective, {p.id}, is at {_number(p.x)} and {_number(p.y)}."
      for p in points if p.best
  )


# --- tables ---------------------------------------------------------------------------------


def _trials(search):
  if not search.completed:
    return ""
  head = [
      "Trial", html.subscripts(search.objective.name),
      *map(html.escape, search.names), *map(html.subscripts, _FIGURES.values()),
      "Pareto-optimal", "Seconds",
  ]
  rows = [_trial_row(search, trial) for trial in search.completed]
  spread = "; ± is one standard deviation over the seeds" if search.repeated else ""
  lead = (
      f"The best objective first{spread}. Informations and losses are in nats. Every point of the"
      " charts is a row here."
  )
  return f"<p>{lead}</p>{html.table('Completed trials', head, rows, 'numeric trials')}"


def _trial_row(search, trial):
  best = ' <span class="tag">best</span>' if trial is search.best else ""
  return (
      html.escape(trial["id"]) + best,
      search.score(trial),
      *(html.escape(_chosen(trial["weights"].get(name))) for name in search.names),
      *(_number(_figure(trial, key)) for key in _FIGURES),
      '<i class="dot front"></i>yes' if trial["id"] in search.front else "",
      _number(trial["seconds"]),
  )


def _failed(search):
  rows = [
      (html.escape(t["id"]), html.escape(t["reason"] or _MISSING),
       html.escape(_weights(t) or _MISSING))
      for t in search.failed
  ]
  return rows and html.table("Failed trials", ("Trial", "Reason", "Weights"), rows, "settings")


def _unfinished(search):
  rows = [
      (html.escape(t["id"]), html.escape(t["status"].lower()),
       html.escape(_weights(t) or _MISSING))
      for t in search.unfinished
  ]
  head = ("Trial", "State", "Weights")
  return rows and html.table("Unfinished trials", head, rows, "settings")


def _settings(search):
  names = ("command", "dataset", "images", "recipe", "tuner", "objective", "epochs", "seeds")
  settings = {name: search.settings[name] for name in (*names, "trials_asked")}
  settings["seeds"] = ", ".join(map(str, settings["seeds"]))
  settings = {name.replace("_", " "): _chosen(value) for name, value in settings.items()}
  settings |= {f"range of {name}": _range(spec) for name, spec in search.space.items()}
  rows = [(html.escape(name), html.escape(value)) for name, value in settings.items()]
  return html.table("Settings of the search", ("Setting", "Value"), rows, "settings")


def _range(spec):
  if "values" in spec:
    return ", ".join(map(_chosen, spec["values"]))
  low, high = _chosen(spec["low"]), _chosen(spec["high"])
  return f"{low} to {high}, {spec.get('sampling', 'linear')} scale"


# --- numbers --------------------------------------------------------------------------------


def _is_number(value):
  return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _finite(value):
  """The number, or None if it is missing, NaN or infinite."""
  return value if _is_number(value) else None


def _number(value, digits=3):
  """A figure with its significant digits."""
  if not _is_number(value):
    return _MISSING
  if isinstance(value, numbers.Integral):
    return f"{value:,}"
  text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.{digits}g}".rstrip(".")
  return text.replace("-", "−")


def _chosen(value):
  """What was set: short numbers without trailing zeros, or text, not yet escaped."""
  if value is None:
    return _MISSING
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def _weights(trial):
  """Not yet escaped."""
  return ", ".join(f"{name} = {_chosen(value)}" for name, value in trial["weights"].items())


_STYLE = """
.lead strong { color: var(--ink); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: .86rem; }
.legend span { white-space: nowrap; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 6px; }
.dot.front { background: var(--accent); }
.dot.dominated { border: 1.5px solid var(--muted); }
.dot.best { width: 14px; height: 14px; border: 1.8px solid var(--ink); vertical-align: -2px; }
pre { padding: 10px 14px; margin: 0 0 16px; font-size: .9rem; }
.tag { font-size: .72rem; font-weight: 600; color: var(--accent); border: 1px solid;
  border-radius: 4px; padding: 0 4px; margin-left: 4px; }
.trials { font-size: .82rem; }
.trials th, .trials td { white-space: nowrap; padding: 6px; }
.trials tr > :first-child { padding-left: 14px; }
.trials tr > :last-child { padding-right: 14px; }
.trials thead th { white-space: normal; vertical-align: bottom; font-size: .74rem; }
.trials th:first-child { position: sticky; left: 0; background: var(--card); }
"""

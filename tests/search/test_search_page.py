"""The page of a search: every trial on it, the front as defined, for any number of trials."""

import json
import re

import html_page
import numpy as np
import pytest

from imae_tf.search import page as search_page

SPACE = {
    "beta": {"low": 0.5, "high": 20.0, "sampling": "log"},
    "gamma": {"low": 0.0, "high": 10.0},
    "encoder_units": {"values": ["500-500", "500-1000"]},
}


def _trial(i, **changes):
  rng = np.random.default_rng(i)
  score, reconstruction, mi_y, correlation = rng.uniform((1, 18, 1, 0), (2.3, 25, 2.3, 1)).tolist()
  return {
      "id": f"t{i:03d}", "status": "COMPLETED", "reason": None,
      "weights": {
          "beta": rng.uniform(1, 9), "gamma": rng.uniform(1, 9), "encoder_units": "500-500",
      },
      "score": score, "score_std": 0.05, "seconds": 41.2, "folder": f"trials/t{i:03d}",
      "figures": {
          "reconstruction": reconstruction, "mi_y": mi_y, "mi_z": 1.3,
          "total_correlation": correlation, "neighbor_mi_y": score, "vat_loss": 0.1,
          "conditional_entropy_y": 0.06, "entropy_y": 2.28, "used_categories": 10,
          "active_units": 4,
      },
      **changes,
  }


def _unscored(i, status, reason=None):
  return _trial(
      i, status=status, reason=reason, score=None, score_std=None, seconds=None, figures=None
  )


def _search(trials, **changes):
  completed = [t for t in trials if t["status"] == "COMPLETED" and t["score"] is not None]
  best = max(completed, key=lambda t: t["score"])["id"] if completed else None
  return {
      "command": "imae-tune --dataset=digits --trials=30 --workdir=runs/search",
      "dataset": "digits", "tuner": "random", "objective": "neighbor_mi_y", "epochs": 60,
      "images": "1437 train images", "seeds": [0, 1, 2], "trials_asked": 30, "recipe": "tuned",
      "space": SPACE, "best": best, "trials": trials, **changes,
  }


def _write(folder, search):
  path = folder / "report.html"
  search_page.write(path, json.loads(json.dumps(search)))  # as it comes from trials.json
  text = path.read_text(encoding="utf-8")
  assert not re.search(r"http|src=|url\(|@import|<script|<link", text)
  page = html_page.Page(text)
  assert not re.search(r"\b(nan|inf|None)\b", page.text)
  for attrs in page.all("use", "path", "text"):
    assert not re.search("nan|inf", " ".join(v for k, v in attrs.items() if k != "class"))
  return page


def _dominates(a, b):
  return all(x <= y for x, y in zip(a, b)) and any(x < y for x, y in zip(a, b))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_pareto_is_its_definition(rng, dimensions):
  for n in (1, 2, 7, 60):
    points = rng.integers(0, 6, (n, dimensions)).astype(float)  # few values: many ties
    points[rng.random(points.shape) < 0.1] = np.nan
    expected = [
        not np.isnan(p).any() and not any(_dominates(q, p) for q in points) for p in points
    ]
    np.testing.assert_array_equal(search_page.pareto(points), expected)


@pytest.mark.parametrize(
    "points, expected",
    [
        (np.empty((0, 3)), []),
        ([[1, 2]], [True]),
        ([[1, 2], [2, 1], [2, 2]], [True, True, False]),
        ([[1, 1], [1, 1]], [True, True]),  # equal points do not exclude each other
        ([[1, 1], [1, 2]], [True, False]),  # as good in one, better in the other
        ([[0, np.nan], [1, 1]], [False, True]),
        ([[-np.inf, 0], [0, 0], [np.inf, -1]], [True, False, True]),
        ([[np.nan, np.nan]], [False]),
    ],
)
def test_pareto_by_hand(points, expected):
  front = search_page.pareto(points)
  assert front.dtype == bool
  assert front.tolist() == expected


def test_shows_every_trial_best_objective_first(tmp_path):
  trials = [_trial(i) for i in range(12)]
  page = _write(tmp_path, _search(trials))
  table = [row for row in page.rows if re.match(r"t\d{3}", row[0])]
  ranked = sorted(trials, key=lambda t: -t["score"])
  assert [row[0] for row in table] == [ranked[0]["id"] + " best"] + [t["id"] for t in ranked[1:]]
  for row, trial in zip(table, ranked):
    weights, figures = trial["weights"], trial["figures"]
    assert row[1] == f"{trial['score']:.2f} ± 0.050"
    assert row[2:5] == [f"{weights['beta']:.4g}", f"{weights['gamma']:.4g}", "500-500"]
    assert row[5] == f"{figures['reconstruction']:.1f}"
    assert row[6:8] == [f"{figures['mi_y']:.2f}", "1.30"]
    assert row[9:12] == ["0.0600", "10", "4"]
    assert row[13] == "41.2"


def test_the_front_is_that_of_the_three_costs(tmp_path):
  trials = [_trial(i) for i in range(40)]
  figures = [t["figures"] for t in trials]
  costs = [(f["reconstruction"], -f["mi_y"], f["total_correlation"]) for f in figures]
  front = {t["id"] for t, on in zip(trials, search_page.pareto(costs)) if on}
  assert 0 < len(front) < 40
  page = _write(tmp_path, _search(trials))
  assert {row[0].split()[0] for row in page.rows if row[-2:-1] == ["yes"]} == front
  assert len(page.charts()) == 4  # two of the front, beta and gamma; encoder_units is text
  for chart in page.charts():
    styles = [style for style, _, _ in chart.marks]
    assert styles.count("front") == len(front)
    assert styles.count("dominated") == 40 - len(front)
    assert styles[-1] == "best"  # drawn last, on top
    assert "dominated" not in styles[styles.index("front") : -2]
    assert chart.attributes["role"] == "img" and chart.attributes["aria-label"]
  tips = [tip for chart in page.charts() for tip in chart.tips]
  assert len(tips) == 4 * 40
  for trial in trials:
    of_trial = [tip for tip in tips if tip.startswith(f"Trial {trial['id']}\n")]
    assert len(of_trial) == 4
    assert all(f"beta = {trial['weights']['beta']:.4g}" in tip for tip in of_trial)


def test_points_lie_where_their_values_are(tmp_path):
  figures = [
      {"reconstruction": r, "mi_y": m, "total_correlation": t}
      for r, m, t in ((20, 1, 0.1), (22, 2, 0.2), (26, 3, 0.4))
  ]
  scores = (1.0, 2.0, 3.0)
  trials = [
      _trial(i, figures=f, score=s, weights={"beta": b}, score_std=None)
      for i, (f, s, b) in enumerate(zip(figures, scores, (1.0, 4.0, 16.0)))
  ]
  page = _write(tmp_path, _search(trials, space={"beta": SPACE["beta"]}))
  places = [
      sorted((x, y) for style, x, y in chart.marks if style != "best") for chart in page.charts()
  ]

  def fractions(values):
    return (values[1] - values[0]) / (values[2] - values[0])

  expected = ((1 / 3, 1 / 2, -1), (1 / 3, 1 / 3, -1), (1 / 2, 1 / 2, -1))  # beta is logarithmic
  for points, (along, up, sign) in zip(places, expected, strict=True):
    x, y = zip(*points)
    assert fractions(x) == pytest.approx(along, abs=0.01)
    assert fractions(y) == pytest.approx(up, abs=0.01)
    assert np.sign(y[2] - y[0]) == sign  # greater values stand higher


def test_says_in_words_what_happened_and_how_to_go_on(tmp_path):
  trials = [_trial(0, score=1.5), _trial(1, score=2.0, score_std=0.07)]
  trials += [_unscored(2, "FAILED", "boom"), _unscored(3, "RUNNING"), _unscored(4, "WAITING")]
  page = _write(tmp_path / "my search", _search(trials))
  assert (
      "30 trials were asked for: 2 completed, 1 failed, 1 running, 1 waiting, 25 not started."
      in page.text
  )
  assert "objective I(c;c′) (neighbor_mi_y), higher is better: information that" in page.text
  assert "The best is trial t001, with beta = " in page.text
  assert "I(c;c′) = 2.00 ± 0.070 nats. Its runs are in trials/t001, best is" in page.text
  assert f"imae-evaluate --workdir='{tmp_path}/my search/best'" in page.text  # for the shell
  assert "No label took part" in page.text
  assert "± 0.070 over 3 seeds in the best trial" in page.text
  assert "train it with fresh seeds" in page.text


def test_failed_and_unfinished_trials_and_settings(tmp_path):
  reasons = ["vat_loss is <b>odd</b> & more", 'a "quoted" reason']
  trials = [_trial(0), *(_unscored(i + 1, "FAILED", r) for i, r in enumerate(reasons))]
  trials += [_unscored(3, "WAITING"), _unscored(4, "RUNNING"), _unscored(5, "FAILED")]
  page = _write(tmp_path, _search(trials))
  assert not page.all("b")
  rows = {row[0]: row[1:] for row in page.rows}
  assert [rows[f"t00{i}"][0] for i in (1, 2, 5)] == [*reasons, "–"]
  assert rows["t003"][0] == "waiting" and rows["t004"][0] == "running"
  assert rows["command"] == ["imae-tune --dataset=digits --trials=30 --workdir=runs/search"]
  assert rows["seeds"] == ["0, 1, 2"] and rows["images"] == ["1437 train images"]
  assert rows["range of beta"] == ["0.5 to 20, log scale"]
  assert rows["range of gamma"] == ["0 to 10, linear scale"]
  assert rows["range of encoder_units"] == ["500-500, 500-1000"]


def test_all_text_is_escaped(tmp_path):
  odd = "<i title='x'>&\""
  trials = [
      _trial(i, id=f"{odd}{i}", weights={odd: i + 1.0, "b": odd}, folder=odd) for i in range(4)
  ]
  trials.append({**_unscored(9, "FAILED", odd), "id": odd})
  space = {odd: {"low": 1.0, "high": 9.0, "sampling": odd}, "b": {"values": [odd]}}
  page = _write(
      tmp_path / "<b>",
      _search(trials, space=space, dataset=odd, objective=odd, command=odd, images=odd, recipe=odd),
  )
  assert not page.all("i", title="x") and not page.all("b")
  assert page.text.count(odd) > 20


@pytest.mark.parametrize("n", [0, 1, 2, 3, 200])
def test_any_number_of_completed_trials(tmp_path, n):
  trials = [*map(_trial, range(n)), _unscored(900, "FAILED", "no"), _unscored(901, "RUNNING")]
  page = _write(tmp_path, _search(trials))
  assert all(trial["id"] in page.text for trial in trials)
  assert len(page.charts()) == (0 if n == 0 else 2 if n < 3 else 4)
  assert ("No trial has completed" in page.text) == (n == 0)
  assert ("imae-evaluate" in page.text) == (n > 0)
  assert ("partly luck" in page.text) == (n > 0)
  assert [a["href"][1:] for a in page.all("a")] == [s["id"] for s in page.all("section")]


def test_no_trials_at_all(tmp_path):
  page = _write(tmp_path, _search([], trials_asked=1, space={}, recipe=None))
  assert "1 trial was asked for: 0 completed, 1 not started." in page.text
  assert "No trial has completed" in page.text
  assert [s["id"] for s in page.all("section")] == ["settings"]
  assert ["recipe", "–"] in page.rows


@pytest.mark.parametrize("value", [0.0, -3.5, 1e-12, 1e9])
def test_equal_values_on_every_axis(tmp_path, value):
  figures = dict.fromkeys(("reconstruction", "mi_y", "total_correlation"), value)
  trials = [
      _trial(i, figures=figures, score=value, score_std=0.0, weights={"beta": value})
      for i in range(3)
  ]
  page = _write(tmp_path, _search(trials, space={"beta": {"values": [value]}}))
  for chart in page.charts():
    assert [style for style, _, _ in chart.marks].count("front") == 3


@pytest.mark.parametrize(
    "low, high", [(1e-6, 1e6), (0.5, 20.0), (3.0, 4.5), (5.0, 5.0), (0.0, 1.0), (1e-300, 1.0)]
)
def test_logarithmic_axes_have_a_few_ticks(tmp_path, low, high):
  trials = [_trial(i, weights={"beta": v}) for i, v in enumerate((low, high, high))]
  space = {"beta": {"low": low, "high": high, "sampling": "log"}}
  page = _write(tmp_path, _search(trials, space=space))
  values = [float(text.replace("−", "-")) for text in page.charts()[-1].along]
  assert 2 <= len(values) <= 7
  assert values == sorted(set(values))
  room = 2 + (high / (low or high)) ** 0.06
  assert all(low / room <= value <= high * room for value in values)


def test_ticks_are_round_and_inside(tmp_path):
  figures = [
      {"reconstruction": r, "mi_y": m, "total_correlation": t}
      for r, m, t in ((1020.0, 1.61, -0.21), (2480.0, 2.27, 0.32))
  ]
  page = _write(tmp_path, _search([_trial(i, figures=f) for i, f in enumerate(figures)]))
  categories, correlations = page.charts()
  assert categories.along == ["1,000", "1,500", "2,000", "2,500"]
  assert categories.up == ["1.6", "1.8", "2.0", "2.2"]
  assert correlations.up == ["−0.2", "0.0", "0.2"]


def test_missing_figures(tmp_path):
  trials = [_trial(i) for i in range(4)]
  trials[0].update(score=-1.0)
  trials[0]["figures"]["mi_y"] = None
  trials[1]["figures"]["total_correlation"] = float("nan")
  trials[2].update(score=float("nan"), score_std=float("nan"))
  trials.append(_trial(4, figures=None, score=None, score_std=None))
  page = _write(tmp_path, _search(trials, best="t003"))
  assert "3 completed trials without all three figures left out." in page.text
  rows = {row[0].split()[0]: row for row in page.rows}
  assert rows["t000"][6] == rows["t001"][8] == rows["t002"][1] == rows["t004"][1] == "–"
  assert list(rows).index("t002") > list(rows).index("t000")  # without a score: last
  assert [len(chart.marks) for chart in page.charts()] == [2 + 1, 2 + 1, 3 + 1, 3 + 1]


def test_without_deviations_none_is_spoken_of(tmp_path):
  page = _write(tmp_path, _search([_trial(i, score_std=None) for i in range(3)]))
  assert "±" not in page.text
  assert not any(chart.bars for chart in page.charts())


def test_bars_are_one_deviation_long(tmp_path):
  scores = ((1.0, 0.0), (1.5, 0.25), (2.0, 0.5))
  trials = [_trial(i, score=s, score_std=d) for i, (s, d) in enumerate(scores)]
  page = _write(tmp_path, _search(trials, space={"beta": SPACE["beta"]}))
  assert "Bars are ±" in page.text
  heights = [low - high for chart in page.charts() for low, high in chart.bars]
  points = [y for style, _, y in page.charts()[-1].marks if style != "best"]
  per_nat = max(points) - min(points)  # the scores are 1 apart
  assert sorted(heights) == pytest.approx([0.5 * per_nat, per_nat], abs=0.3)


def test_nothing_to_compare_but_completed(tmp_path):
  page = _write(tmp_path, _search([_trial(0, figures=None)], best=None))
  assert "1 completed trial without all three figures left out." in page.text
  assert "No trial is marked as the best." in page.text
  assert not page.charts()


def test_a_failure_leaves_the_old_page(tmp_path, monkeypatch):
  _write(tmp_path, _search([_trial(0)]))
  old = {p: p.read_bytes() for p in tmp_path.iterdir()}
  broken = _search([_trial(0), _trial(1)])
  del broken["trials"][1]["weights"]
  with pytest.raises(KeyError, match="weights"):
    search_page.write(tmp_path / "report.html", broken)

  def fail(*args):
    raise OSError("disk full")

  monkeypatch.setattr("os.replace", fail)
  with pytest.raises(OSError, match="disk full"):
    search_page.write(tmp_path / "report.html", _search([_trial(1)]))
  assert {p: p.read_bytes() for p in tmp_path.iterdir()} == old


def test_is_deterministic(tmp_path):
  pages = []
  for _ in range(2):
    _write(tmp_path, _search([_trial(i) for i in range(5)]))
    pages.append((tmp_path / "report.html").read_bytes())
  assert pages[0] == pages[1]

"""The report of a run: one self-contained HTML page, and its figures as PNG files."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

import numpy as np

from imae_tf._shared import files
from imae_tf.errors import InputError
from imae_tf.metrics import clustering
from imae_tf.metrics.definitions import DEFINITIONS
from imae_tf.reporting import html
from imae_tf.reporting import plots

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

POSITIONS = np.linspace(-2.0, 2.0, 9)
_GRID_COLUMNS = 10
_NARROW_COLUMNS = 5  # on phones
_RECONSTRUCTED = 20
_TRAVERSED = 6
_RUN_KEYS = ("method", "dataset", "split", "seed")
FIGURES = (
    "reconstructions", "generated", "typical", "traversal_most", "traversal_middle",
    "traversal_least", "information", "confusion", "accuracy", "training",
)
_PER_DIMENSION = ("mi_z_per_dimension", "var_mean_per_dimension", "mean_variance_per_dimension")


def write(
    path: str | pathlib.Path,
    *,
    model: "HybridAutoencoder",
    history: list[dict[str, float]],
    metrics: dict[str, Any],
    x: np.ndarray,
    labels: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
  """Writes the report and its figures, each file atomically, the page last.

  Args:
    path: of the page; the figures go to `figures/*.png` beside it.
    model: a `HybridAutoencoder`.
    history: list of dicts, one per epoch ("epoch" and the logged names); may be empty.
    metrics: the content of metrics.json: what `metrics.evaluate` returns with "method",
      "dataset", "split", "seed" and "baselines" (a dict or None).
    x: [N, H, W, C] float test images in [0, 1], those that `metrics` speaks of.
    labels: [N] integers or None.
    class_names: texts, one per label value 0, 1, ..., or None.

  Raises:
    InputError: no images, images or labels that do not fit, or metrics without a number.
    OSError: a file cannot be written; every file is then the old or the new one, whole.
  """
  path = pathlib.Path(path)
  run = _Run(model, history, metrics, x, labels, class_names)
  pictures = _pictures(run)
  page = _page(run, pictures)
  for name, picture in pictures.items():
    with files.replacing(path.parent / "figures" / f"{name}.png") as temporary:
      temporary.write_bytes(picture.png)
  with files.replacing(path) as temporary:
    temporary.write_text(page, encoding="utf-8")
  for name in FIGURES:  # an earlier report may have had more
    if name not in pictures:
      (path.parent / "figures" / f"{name}.png").unlink(missing_ok=True)


class _Run:
  """What the page shows: the inputs, the codes and the names of the categories."""

  def __init__(self, model, history, metrics, x, labels, class_names):
    _check(x, labels, metrics)
    self.model, self.history, self.metrics = model, history, metrics
    self.x = np.asarray(x)
    self.codes = model.encode(self.x)
    self.num_categories = model.num_categories
    self.categories = self.codes["y"].argmax(axis=1)
    self.labels = None if labels is None else np.asarray(labels)
    self.class_names = class_names
    self.order = list(range(self.num_categories))
    self.matched: dict[int, int] = {}
    if self.labels is not None:
      arguments = (self.labels, self.categories, self.num_categories)
      self.order = clustering.column_order(*arguments)
      self.matched, _ = clustering.hungarian(*arguments)

  def class_name(self, label):
    names = self.class_names
    return str(names[label]) if names is not None and 0 <= label < len(names) else str(label)

  def category_name(self, category):
    """Two lines: the class that it is matched to and its index, or the index alone."""
    if self.labels is None:
      return f"category {category}", ""
    if category not in self.matched:
      return f"category {category}", "unmatched"
    return self.class_name(self.matched[category]), f"category {category}"

  def members(self, category):
    """Indices of a category's images, the most certain first."""
    members = np.flatnonzero(self.categories == category)
    return members[np.argsort(-self.codes["y"][members, category], kind="stable")]

  @property
  def method(self):
    method = self.metrics.get("method", "imae")
    return plots.NAMES.get(method, str(method))


def _check(x, labels, metrics):
  if not len(x):
    raise InputError("expected at least one image to report on, got none; add images.")
  if labels is not None and len(labels) != len(x):
    raise InputError(
        f"expected one label per image, got {len(labels)} labels for {len(x)} images; leave out"
        " what has no partner."
    )
  required = ("reconstruction", "reconstruction_floor", "mi_y", "mi_z", "total_correlation")
  missing = [key for key in (*required, "active_units", *_PER_DIMENSION) if key not in metrics]
  if missing:
    raise InputError(
        f"expected what metrics.evaluate returns, got metrics without {', '.join(missing)};"
        " evaluate the model again."
    )


# --- figures --------------------------------------------------------------------------------


def _pictures(run):
  """{file name: pages.Picture}, in the order of the pages."""
  pictures = {
      "reconstructions": _reconstructions(run),
      "generated": _generated(run),
      "typical": _typical(run),
      **_traversals(run),
      "information": _information(run),
  }
  if run.labels is not None:
    pictures["confusion"] = _confusion(run)
  if run.metrics.get("accuracy") is not None:
    pictures["accuracy"] = _accuracy(run)
  if run.history:
    pictures["training"] = _training(run)
  return pictures


def _reconstructions(run):
  chosen = np.linspace(0, len(run.x) - 1, min(_RECONSTRUCTED, len(run.x))).astype(int)
  x = run.x[chosen]
  reconstructed = run.model.reconstruct(x)
  return html.picture(
      plots.reconstructions(x, reconstructed),
      f"{html.count(len(x), 'image')}, each above its reconstruction.",
      f"{html.count(len(x), 'image')} spread evenly over the set, not picked by hand. The model"
      " sees each one and redraws it from p(y|x) and the mean of z alone.",
      narrow=plots.reconstructions(x, reconstructed, columns=_NARROW_COLUMNS),
  )


def _generated(run):
  images = np.stack([run.model.generate(_GRID_COLUMNS, y=c, seed=0) for c in run.order])
  names = [run.category_name(category) for category in run.order]
  return html.picture(
      plots.generated(images, names),
      f"Generated images, a row for each of the {run.num_categories} categories.",
      "One category per row, each column one draw z ~ N(0, I), the same in every row.",
      narrow=plots.generated(images[:, :_NARROW_COLUMNS], names),
  )


def _typical(run):
  rows, names = [], []
  for category in run.order:
    members = run.members(category)
    rows.append(run.x[members[:_GRID_COLUMNS]])
    names.append((run.category_name(category)[0], html.count(len(members), "image")))
  empty = sum(not len(row) for row in rows)
  unused = f" {html.count(empty, 'category', 'categories')} got no image at all." if empty else ""
  return html.picture(
      plots.typical(rows, names),
      f"The most certain images of each of the {run.num_categories} categories.",
      "Real images with the highest p(y|x) of each category, best first, and how many images"
      f" fall into it.{unused}",
      narrow=plots.typical([row[:_NARROW_COLUMNS] for row in rows], names),
  )


def _traversals(run):
  mi = run.metrics["mi_z_per_dimension"]["naive"]
  order = np.argsort(-np.asarray(mi), kind="stable")
  # With K1 = 1 or 2 some of the three are the same dimension; the first role is shown.
  roles: dict[int, str] = {}
  for role, place in (("most", 0), ("least", -1), ("middle", len(order) // 2)):
    roles.setdefault(int(order[place]), role)
  used = [members[0] for c in run.order if len(members := run.members(c))]
  rows = [used[i] for i in np.linspace(0, len(used) - 1, min(_TRAVERSED, len(used))).astype(int)]
  captions = {
      "most": "The most informative dimension.",
      "middle": "The one in the middle.",
      "least": "The least informative dimension.",
  }
  pictures = {}
  for dimension in sorted(roles, key=lambda k: -mi[k]):
    role = roles[dimension]
    pictures[f"traversal_{role}"] = html.picture(
        _traversal(run, np.array(rows), dimension, POSITIONS),
        f"Images decoded while z[{dimension}] moves from -2 to 2.",
        captions[role],
        narrow=_traversal(run, np.array(rows), dimension, POSITIONS[::2]),
    )
  return pictures


def _traversal(run, rows, dimension, positions):
  y = np.repeat(run.codes["y"][rows], len(positions), axis=0)
  z = np.repeat(run.codes["z"][rows], len(positions), axis=0)
  z[:, dimension] = np.tile(positions, len(rows))
  moved = run.model.decode(y, z).reshape(len(rows), len(positions), *run.x.shape[1:])
  information = run.metrics["mi_z_per_dimension"]["naive"][dimension]
  return plots.traversal(run.x[rows], moved, positions, dimension, information)


def _information(run):
  values = [run.metrics[key] for key in _PER_DIMENSION]
  return html.picture(
      plots.information(*values),
      "Bar charts of the information, the variance of the mean and the mean variance of each"
      " dimension; the numbers are in the table of dimensions below.",
      "A dimension is informative when its mean moves with the image (Var[µ] large) and its"
      " noise is small (E[σ²] well below 1). One that says nothing stays at the prior:"
      " Var[µ] = 0, E[σ²] = 1.",
      narrow=plots.information(*values, columns=1),
  )


def _confusion(run):
  counts = clustering.confusion_matrix(run.labels, run.categories, run.num_categories)
  classes = [run.class_name(label) for label in np.unique(run.labels)]
  return html.picture(
      plots.confusion(counts, classes, run.order),
      f"Confusion matrix of {len(classes)} classes and {run.num_categories} categories.",
      "Images of each true class (rows) in each category (columns, matched categories on the"
      " diagonal). Shade: share of the class.",
  )


def _accuracy(run):
  baselines = run.metrics.get("baselines") or {}
  return html.picture(
      plots.accuracy(run.method, run.metrics["accuracy"], baselines),
      "Bar chart of the accuracy of the model and of the classical baselines.",
      "All of them cluster without labels; labels only score the result.",
  )


def _training(run):
  options = {
      "num_categories": run.num_categories, "floor": run.metrics["reconstruction_floor"],
  }
  held_out = any(name.startswith("val_") for name in run.history[0])
  return html.picture(
      plots.training(run.history, **options),
      "Training curves of the loss and of its terms.",
      "One value per epoch; every term is unweighted, only the loss is the weighted sum."
      + (" Dashed: held-out images." if held_out else "")
      + " Estimated within batches, so they differ from the final figures over all images.",
      narrow=plots.training(run.history, **options, columns=1),
  )


# --- page -----------------------------------------------------------------------------------


def _page(run, pictures):
  title = f"{run.method} on {run.metrics.get('dataset', 'images')}"
  sections = [
      ("Reconstructions", "reconstructions", html.figures(pictures, "reconstructions")),
      ("Categories", "categories", _categories(run, pictures)),
      ("Factors", "factors", _factors(pictures)),
      ("Against labels", "labels", _against_labels(run, pictures)),
      ("Training", "training", _training_section(run, pictures)),
      ("All numbers", "numbers", _numbers(run)),
      ("Configuration", "configuration", _configuration(run)),
  ]
  header = (
      f'<p class="lead">{html.subscripts(_summary(run))}</p><div class="tiles">{_tiles(run)}</div>'
  )
  return html.document(title, header, sections)


def _summary(run):
  metrics = run.metrics
  kind = f"{metrics['split']} image" if metrics.get("split") else "image"
  after = ""
  if run.history:
    after = f", after {html.count(run.history[-1]['epoch'], 'epoch')} of training"
  seed = f" (seed {metrics['seed']})" if "seed" in metrics else ""
  return (
      f"{html.count(len(run.x), kind)} described by one of K_2 = {run.num_categories} categories y"
      f" and K_1 = {html.count(run.model.latent_dim, 'continuous factor')} z{after}{seed}."
      " No label was used in training."
  )


def _tiles(run):
  metrics = run.metrics
  cap = math.log(run.num_categories)
  tiles = [_accuracy_tile(metrics)]
  tiles.append(
      _tile("I(x;y)", f"{metrics['mi_y']:.2f}", f"of at most {cap:.2f} nats", metrics["mi_y"] / cap)
  )
  tiles.append(
      _tile(
          "Reconstruction", f"{metrics['reconstruction']:,.1f}",
          f"nats per image; floor {metrics['reconstruction_floor']:,.1f}",
      )
  )
  for name, key in (("Σ I(x;z<sub>k</sub>)", "mi_z"), ("TC(y,z)", "total_correlation")):
    naive, left_out = (html.number(metrics[key][k], 2) for k in ("naive", "leave_one_out"))
    tiles.append(_tile(name, naive, f"nats, naive; leave-one-out {left_out}"))
  if "used_categories" in metrics:  # older files lack it
    used = metrics["used_categories"]
    tiles.append(
        _tile("Categories used", str(used), f"of {run.num_categories}", used / run.num_categories)
    )
  active, total = metrics["active_units"], run.model.latent_dim
  tiles.append(_tile("Active units", str(active), f"of {total}", active / total))
  return "".join(tiles)


def _accuracy_tile(metrics):
  if metrics.get("accuracy") is None:
    return _tile("Accuracy", "–", "the images have no labels")
  values = {k: v for k, v in (metrics.get("baselines") or {}).items() if v is not None}
  text = "no baseline was computed"
  if values:
    best = max(values, key=values.__getitem__)
    text = f"best baseline {values[best]:.3f} ({plots.NAMES.get(best, best)})"
  return _tile("Accuracy", f"{metrics['accuracy']:.3f}", text, metrics["accuracy"])


def _tile(name, value, text, share=None):
  bar = ""
  if share is not None:
    percent = 100 * min(max(share, 0.0), 1.0)
    bar = f'<div class="bar"><div style="width:{percent:.1f}%"></div></div>'
  return (
      f'<div class="tile"><div class="name">{name}</div><div class="value">{value}</div>{bar}'
      f'<div class="text">{html.escape(text)}</div></div>'
  )


def _categories(run, pictures):
  lead = "Rows are in the order of the categories."
  if run.labels is not None:
    lead = (
        "Rows are named after the class that each category is matched to; the model never saw"
        " these names."
    )
  return f"<p>{lead}</p>" + html.figures(pictures, "generated", "typical")


def _factors(pictures):
  lead = (
      "The first column is a real image, one per category; beside it the same code with one"
      " factor moved from −2 to 2. A good factor changes one thing, the same in every row."
  )
  names = [name for name in pictures if name.startswith("traversal_")]
  return f"<p>{lead}</p>" + html.figures(pictures, *names) + html.figures(pictures, "information")


def _against_labels(run, pictures):
  notes = []
  if run.labels is None:
    notes.append("The confusion matrix needs labels, and none came with these images.")
  if "accuracy" not in pictures:
    notes.append("Accuracy, of the model and of the baselines, is measured against labels alone.")
  elif not run.metrics.get("baselines"):
    notes.append("The baselines were not computed for this run.")
  shown = [name for name in ("confusion", "accuracy") if name in pictures]
  text = "".join(f'<p class="note">{note}</p>' for note in notes)
  return text + (html.figures(pictures, *shown) if shown else "")


def _training_section(run, pictures):
  if not run.history:
    return '<p class="note">No training history came with this model.</p>'
  return html.figures(pictures, "training")


# --- tables ---------------------------------------------------------------------------------


def _numbers(run):
  rows = [
      _definition_row(run, key, definition)
      for key, definition in DEFINITIONS.items()
      if key in run.metrics
  ]
  lead = (
      "Informations are in nats (1 nat = 1.44 bits). Where two estimates are given, neither is"
      " the truth: of an information, naive is on average too low and leave-one-out too high."
  )
  head = ("Quantity", "Value", "What it is, and when not to trust it")
  table = html.table("Definitions", head, rows, "definitions")
  return f"<p>{lead}</p>{table}<h3>Each dimension</h3>{_dimension_table(run)}"


def _definition_row(run, key, definition):
  unit = f" · {definition.unit}" if definition.unit else ""
  name = f'{html.subscripts(definition.name)}<span class="key"><code>{key}</code>{unit}</span>'
  value = "see below" if key in _PER_DIMENSION else _value(run.metrics[key])
  caution = definition.caution
  if key == "mi_joint":
    caution += _distance_from_cap(run)
  caution = f'<p class="caution">{html.subscripts(caution)}</p>' if caution else ""
  return name, value, f"<p>{html.subscripts(definition.meaning)}</p>{caution}"


def _distance_from_cap(run):
  naive, cap = run.metrics["mi_joint"]["naive"], math.log(len(run.x))
  return f" Here it is {naive / cap:.0%} of ln n = {cap:.2f}." if cap else ""


def _dimension_table(run):
  mi, var_mean, mean_variance = (run.metrics[key] for key in _PER_DIMENSION)
  rows = [
      (str(k), *(html.number(v) for v in values))
      for k, values in enumerate(
          zip(mi["naive"], mi["leave_one_out"], var_mean, mean_variance)
      )
  ]
  head = ("k", "I(x;z<sub>k</sub>) naive", "leave-one-out", "Var[µ<sub>k</sub>]",
          "E[σ<sub>k</sub>²]")
  return html.table("Continuous factors", head, rows, "numeric")


def _configuration(run):
  settings = {key: run.metrics[key] for key in _RUN_KEYS if key in run.metrics}
  known = {*DEFINITIONS, *_RUN_KEYS}
  settings |= {key: value for key, value in run.metrics.items() if key not in known}
  config = run.model.get_config()
  hidden = ("encoder", "decoder", "name", "trainable", "dtype", "logits_initializer")
  # The seed of the run, not that of the model's noise, which has the same name.
  settings |= {k: v for k, v in config.items() if k not in hidden and k not in settings}
  for name in ("encoder", "decoder"):
    settings[name] = _network(getattr(run.model, name))
  settings["parameters"] = f"{run.model.count_params():,}"
  rows = [(html.escape(name), html.escape(str(value))) for name, value in settings.items()]
  return html.table("Configuration", ("Setting", "Value"), rows, "settings")


def _network(network):
  layers = [
      f"{type(layer).__name__} {layer.units}" if hasattr(layer, "units") else type(layer).__name__
      for layer in network.layers
  ]
  return " → ".join(layers)


def _value(value):
  if isinstance(value, dict):
    names = {"naive": "naive", "leave_one_out": "leave-one-out", **plots.NAMES}
    return "".join(
        f'<span class="pair">{html.number(v)}'
        f' <span class="unit">{html.escape(names.get(k, k))}</span></span>'
        for k, v in value.items()
    )
  return html.number(value)

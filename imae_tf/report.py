"""The report of a run: one self-contained HTML page, and its figures as PNG files."""

import base64
import dataclasses
import html
import io
import math
import pathlib
import re

import numpy as np

from imae_tf import metrics as metrics_lib
from imae_tf import plots
from imae_tf import workdir
from imae_tf.errors import InputError

POSITIONS = np.linspace(-2.0, 2.0, 9)
_GRID_COLUMNS = 10
_NARROW_COLUMNS = 5  # on phones
_RECONSTRUCTED = 20
_TRAVERSED = 6
METHODS = {
    "imae": "IMAE",
    "vae": "VAE",
    "betavae": "β-VAE",
    "infovae": "InfoVAE",
    "jointvae": "JointVAE",
    "betatcvae": "β-TCVAE",
}
_BASELINES = {"k_means": "k-means", "ward": "Ward", "gaussian_mixture": "Gaussian mixture"}


@dataclasses.dataclass(frozen=True)
class Definition:
  """What a number of metrics.json is.

  Attributes:
    name: how people call it.
    unit: of the value; empty for pure numbers.
    meaning: its definition.
    caution: when not to trust it.
  """

  name: str
  unit: str
  meaning: str
  caution: str = ""


DEFINITIONS = {
    "n": Definition("Images", "", "Number n of images that the figures here are computed on."),
    "codes": Definition(
        "Codes", "",
        "Number of codes, of as many images at random, that Σ I(x;z_k), I(x;y,z), TC(y,z) and"
        " Σ KL average over; each is compared with the posteriors of all n images.",
    ),
    "accuracy": Definition(
        "Accuracy", "",
        "Share of images whose category, argmax p(y|x), is matched to their true class, under"
        " the one-to-one matching with the most agreements (Hungarian method).",
        "Categories beyond the number of classes can only lose; random categories score above"
        " 1/classes, since the matching is chosen to fit.",
    ),
    "baselines": Definition(
        "Baseline accuracy", "",
        "The same accuracy for k-means, Ward's tree and a Gaussian mixture on principal"
        " components, fitted on the raw training pixels and applied to the same images.",
        "One draw each: the mixture moves by several hundredths between seeds.",
    ),
    "nmi": Definition(
        "NMI", "",
        "Normalised mutual information of category and class, 0 to 1.",
        "Not adjusted for chance: many small categories score high by luck.",
    ),
    "ari": Definition(
        "ARI", "",
        "Adjusted Rand index of category and class: 1 is agreement, 0 is chance.",
        "Favours balanced categories.",
    ),
    "mi_y_label": Definition(
        "I(y; label)", "nats",
        "Mutual information of the category argmax p(y|x) and the true class; at most the log"
        " of the number of classes.",
        "Too high when few images fall into each cell of the table of counts.",
    ),
    "mi_y": Definition(
        "I(x;y)", "nats",
        "Information that the category carries about the image, H(y) − H(y|x); at most ln K_2."
        " Exact on these n images.",
        "It is high for any balanced and confident split of the images, meaningful or not.",
    ),
    "entropy_y": Definition(
        "H(y)", "nats",
        "Entropy of the mean of p(y|x): ln K_2 when all categories are used equally.",
    ),
    "conditional_entropy_y": Definition(
        "H(y|x)", "nats", "Mean entropy of p(y|x): 0 when every image has one certain category.",
        "Low values say that the model is sure, not that it is right.",
    ),
    "mi_z": Definition(
        "Σ I(x;z_k)", "nats",
        "Information of each continuous factor about the image, summed over the K_1 factors.",
        "Naive is biased down and each factor is capped at ln n; leave-one-out is biased up, the"
        " more the narrower the posteriors. On average the truth lies between. Factors that"
        " repeat each other count twice: see TC.",
    ),
    "mi_z_per_dimension": Definition(
        "I(x;z_k)", "nats", "The same for each factor alone.", "As for the sum."
    ),
    "mi_z_joint": Definition(
        "I(x;z)", "nats",
        "Information of all continuous factors together about the image.",
        "Naive can never exceed ln n: near that cap it measures n, not the model.",
    ),
    "mi_joint": Definition(
        "I(x;y,z)", "nats",
        "Information of the whole code about the image, I(x;y) + Σ I(x;z_k) − TC(y,z).",
        "Naive can never exceed ln n: near that cap it measures n, not the model.",
    ),
    "total_correlation": Definition(
        "TC(y,z)", "nats",
        "Dependence among category and factors, KL(p(y,z) ‖ p(y) Π p(z_k)); 0 when they are"
        " independent.",
        "A difference of estimates that nothing brackets; leave-one-out may be negative, and"
        " naive is too high once I(x;y,z) meets its cap. Trust it where both agree.",
    ),
    "kl_z": Definition(
        "Σ KL(p(z_k) ‖ N(0,1))", "nats",
        "How far the factors, over all images, are from the prior that images are generated"
        " from.",
        "A naive estimate, which errs upwards.",
    ),
    "reconstruction": Definition(
        "Reconstruction loss", "nats per image",
        "−log q(x|y,z), summed over pixels, from p(y|x) and the mean of z. Lower is better.",
        "Only its distance from the floor says something; not comparable between likelihoods"
        " or image sizes.",
    ),
    "reconstruction_floor": Definition(
        "Reconstruction floor", "nats per image",
        "The loss of a perfect copy. The Bernoulli cross-entropy of grey pixels is never 0: its"
        " floor is the entropy of the pixels themselves.",
    ),
    "neighbor_mi_y": Definition(
        "I(c;c′)", "nats",
        "Information that the category of an image shares with the category of one of its"
        " nearest images: what ranks runs without labels.",
        "Nearness is of pixels. At most ln K_2, and higher where images lie densely: comparable"
        " between runs on the same images with the same K_2 alone.",
    ),
    "used_categories": Definition(
        "Categories used", "",
        "Number of categories that are the likeliest of at least 1% of the images that an even"
        " share would be. Fewer than K_2: the data supports fewer, or the run lost some.",
    ),
    "active_units": Definition(
        "Active units", "",
        "Number of factors z_k with Var[µ_k] > 0.01: the posterior mean moves with the image.",
        "A variance says nothing of the noise: compare E[σ_k²], or read I(x;z_k).",
    ),
    "var_mean_per_dimension": Definition(
        "Var[µ_k]", "", "Variance over images of the posterior mean of each factor."
    ),
    "mean_variance_per_dimension": Definition(
        "E[σ_k²]", "",
        "Mean over images of the posterior variance of each factor; 1 is the prior's.",
    ),
}
_RUN_KEYS = ("method", "dataset", "split", "seed")
FIGURES = (
    "reconstructions", "generated", "typical", "traversal_most", "traversal_middle",
    "traversal_least", "information", "confusion", "accuracy", "training",
)
_PER_DIMENSION = ("mi_z_per_dimension", "var_mean_per_dimension", "mean_variance_per_dimension")


def write(path, *, model, history, metrics, x, labels=None, class_names=None):
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
    with workdir.replacing(path.parent / "figures" / f"{name}.png") as temporary:
      temporary.write_bytes(picture.png)
  with workdir.replacing(path) as temporary:
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
    self.order, self.matched = list(range(self.num_categories)), {}
    if labels is not None:
      arguments = (self.labels, self.categories, self.num_categories)
      self.order = metrics_lib.column_order(*arguments)
      self.matched, _ = metrics_lib.hungarian(*arguments)

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
    return METHODS.get(method, str(method))


def _check(x, labels, metrics):
  if not len(x):
    raise InputError("a report expects at least one image, got none.")
  if labels is not None and len(labels) != len(x):
    raise InputError(
        f"a report expects one label per image, got {len(labels)} labels for {len(x)} images."
    )
  required = ("reconstruction", "reconstruction_floor", "mi_y", "mi_z", "total_correlation")
  missing = [key for key in (*required, "active_units", *_PER_DIMENSION) if key not in metrics]
  if missing:
    raise InputError(
        f"a report expects what metrics.evaluate returns, got metrics without"
        f" {', '.join(missing)}."
    )


# --- figures --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Picture:
  png: bytes
  width: int  # CSS pixels
  height: int
  alt: str
  caption: str
  narrow: bytes | None = None  # another layout, for phones


def _pictures(run):
  """{file name: _Picture}, in the order of the page."""
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


def _picture(figure, alt, caption, narrow=None):
  width, height = figure.get_size_inches() * 96
  return _Picture(
      _png(figure), round(width), round(height), alt, caption, narrow and _png(narrow)
  )


def _png(figure):
  buffer = io.BytesIO()
  # Without the version of matplotlib: the same run gives the same bytes.
  figure.savefig(buffer, format="png", dpi=figure.dpi, metadata={"Software": None})
  return buffer.getvalue()


def _reconstructions(run):
  chosen = np.linspace(0, len(run.x) - 1, min(_RECONSTRUCTED, len(run.x))).astype(int)
  x = run.x[chosen]
  reconstructed = run.model.reconstruct(x)
  return _picture(
      plots.reconstructions(x, reconstructed),
      f"{_count(len(x), 'image')}, each above its reconstruction.",
      f"{_count(len(x), 'image')} spread evenly over the set, not picked by hand. The model sees"
      " each one and redraws it from p(y|x) and the mean of z alone.",
      narrow=plots.reconstructions(x, reconstructed, columns=_NARROW_COLUMNS),
  )


def _generated(run):
  images = np.stack([run.model.generate(_GRID_COLUMNS, y=c, seed=0) for c in run.order])
  names = [run.category_name(category) for category in run.order]
  return _picture(
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
    names.append((run.category_name(category)[0], _count(len(members), "image")))
  empty = sum(not len(row) for row in rows)
  unused = f" {_count(empty, 'category', 'categories')} got no image at all." if empty else ""
  return _picture(
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
  roles = {}
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
    pictures[f"traversal_{role}"] = _picture(
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
  return _picture(
      plots.information(*values),
      "Bar charts of the information, the variance of the mean and the mean variance of each"
      " dimension; the numbers are in the table of dimensions below.",
      "A dimension is informative when its mean moves with the image (Var[µ] large) and its"
      " noise is small (E[σ²] well below 1). One that says nothing stays at the prior:"
      " Var[µ] = 0, E[σ²] = 1.",
      narrow=plots.information(*values, columns=1),
  )


def _confusion(run):
  counts = metrics_lib.confusion_matrix(run.labels, run.categories, run.num_categories)
  classes = [run.class_name(label) for label in np.unique(run.labels)]
  return _picture(
      plots.confusion(counts, classes, run.order),
      f"Confusion matrix of {len(classes)} classes and {run.num_categories} categories.",
      "Images of each true class (rows) in each category (columns, matched categories on the"
      " diagonal). Shade: share of the class.",
  )


def _accuracy(run):
  baselines = run.metrics.get("baselines") or {}
  return _picture(
      plots.accuracy(run.method, run.metrics["accuracy"], baselines),
      "Bar chart of the accuracy of the model and of the classical baselines.",
      "All of them cluster without labels; labels only score the result.",
  )


def _training(run):
  options = {
      "num_categories": run.num_categories, "floor": run.metrics["reconstruction_floor"],
  }
  held_out = any(name.startswith("val_") for name in run.history[0])
  return _picture(
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
      ("Reconstructions", "reconstructions", _figures(pictures, "reconstructions")),
      ("Categories", "categories", _categories(run, pictures)),
      ("Factors", "factors", _factors(pictures)),
      ("Against labels", "labels", _against_labels(run, pictures)),
      ("Training", "training", _training_section(run, pictures)),
      ("All numbers", "numbers", _numbers(run)),
      ("Configuration", "configuration", _configuration(run)),
  ]
  links = "".join(f'<a href="#{key}">{name}</a>' for name, key, _ in sections)
  body = "".join(
      f'<section id="{key}"><h2>{name}</h2>{content}</section>' for name, key, content in sections
  )
  return (
      '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
      '<meta name="viewport" content="width=device-width, initial-scale=1">'
      '<meta name="color-scheme" content="light dark">'
      f"<title>{_escape(title)}</title><style>{_STYLE}</style></head><body><main>"
      f"<header><h1>{_escape(title)}</h1>"
      f'<p class="lead">{_subscripts(_summary(run))}</p></header>'
      f'<div class="tiles">{_tiles(run)}</div><nav aria-label="Sections">{links}</nav>'
      f"{body}</main></body></html>\n"
  )


def _summary(run):
  metrics = run.metrics
  kind = f"{metrics['split']} image" if metrics.get("split") else "image"
  after = f", after {_count(run.history[-1]['epoch'], 'epoch')} of training" if run.history else ""
  seed = f" (seed {metrics['seed']})" if "seed" in metrics else ""
  return (
      f"{_count(len(run.x), kind)} described by one of K_2 = {run.num_categories} categories y"
      f" and K_1 = {_count(run.model.latent_dim, 'continuous factor')} z{after}{seed}."
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
    naive, left_out = (_number(metrics[key][k], 2) for k in ("naive", "leave_one_out"))
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
    best = max(values, key=values.get)
    text = f"best baseline {values[best]:.3f} ({_BASELINES.get(best, best)})"
  return _tile("Accuracy", f"{metrics['accuracy']:.3f}", text, metrics["accuracy"])


def _tile(name, value, text, share=None):
  bar = ""
  if share is not None:
    percent = 100 * min(max(share, 0.0), 1.0)
    bar = f'<div class="bar"><div style="width:{percent:.1f}%"></div></div>'
  return (
      f'<div class="tile"><div class="name">{name}</div><div class="value">{value}</div>{bar}'
      f'<div class="text">{_escape(text)}</div></div>'
  )


def _categories(run, pictures):
  lead = "Rows are in the order of the categories."
  if run.labels is not None:
    lead = (
        "Rows are named after the class that each category is matched to; the model never saw"
        " these names."
    )
  return f"<p>{lead}</p>" + _figures(pictures, "generated", "typical")


def _factors(pictures):
  lead = (
      "The first column is a real image, one per category; beside it the same code with one"
      " factor moved from −2 to 2. A good factor changes one thing, the same in every row."
  )
  names = [name for name in pictures if name.startswith("traversal_")]
  return f"<p>{lead}</p>" + _figures(pictures, *names) + _figures(pictures, "information")


def _against_labels(run, pictures):
  notes = []
  if run.labels is None:
    notes.append("The confusion matrix needs labels, and none came with these images.")
  if "accuracy" not in pictures:
    notes.append("Accuracy, of the model and of the baselines, is measured against labels alone.")
  elif not run.metrics.get("baselines"):
    notes.append("The baselines were not computed for this run.")
  shown = [name for name in ("confusion", "accuracy") if name in pictures]
  notes = "".join(f'<p class="note">{note}</p>' for note in notes)
  return notes + (_figures(pictures, *shown) if shown else "")


def _training_section(run, pictures):
  if not run.history:
    return '<p class="note">No training history came with this model.</p>'
  return _figures(pictures, "training")


def _figures(pictures, *names):
  return f'<div class="figures n{len(names)}">' + "".join(
      _figure(pictures[name]) for name in names
  ) + "</div>"


def _figure(picture):
  narrow = ""
  if picture.narrow:
    narrow = f'<source media="(max-width: 640px)" srcset="{_data_uri(picture.narrow)}">'
  return (
      f'<figure><picture>{narrow}<img src="{_data_uri(picture.png)}" width="{picture.width}"'
      f' height="{picture.height}" alt="{_escape(picture.alt)}"></picture>'
      f"<figcaption>{_escape(picture.caption)}</figcaption></figure>"
  )


def _data_uri(png):
  return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


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
  table = _table("Definitions", head, rows, "definitions")
  return f"<p>{lead}</p>{table}<h3>Each dimension</h3>{_dimension_table(run)}"


def _definition_row(run, key, definition):
  unit = f" · {definition.unit}" if definition.unit else ""
  name = f'{_subscripts(definition.name)}<span class="key"><code>{key}</code>{unit}</span>'
  value = "see below" if key in _PER_DIMENSION else _value(run.metrics[key])
  caution = definition.caution
  if key == "mi_joint":
    caution += _distance_from_cap(run)
  caution = f'<p class="caution">{_subscripts(caution)}</p>' if caution else ""
  return name, value, f"<p>{_subscripts(definition.meaning)}</p>{caution}"


def _distance_from_cap(run):
  naive, cap = run.metrics["mi_joint"]["naive"], math.log(len(run.x))
  return f" Here it is {naive / cap:.0%} of ln n = {cap:.2f}." if cap else ""


def _dimension_table(run):
  mi, var_mean, mean_variance = (run.metrics[key] for key in _PER_DIMENSION)
  rows = [
      (str(k), *(_number(v) for v in values))
      for k, values in enumerate(
          zip(mi["naive"], mi["leave_one_out"], var_mean, mean_variance)
      )
  ]
  head = ("k", "I(x;z<sub>k</sub>) naive", "leave-one-out", "Var[µ<sub>k</sub>]",
          "E[σ<sub>k</sub>²]")
  return _table("Continuous factors", head, rows, "numeric")


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
  rows = [(_escape(name), _escape(str(value))) for name, value in settings.items()]
  return _table("Configuration", ("Setting", "Value"), rows, "settings")


def _network(network):
  layers = [
      f"{type(layer).__name__} {layer.units}" if hasattr(layer, "units") else type(layer).__name__
      for layer in network.layers
  ]
  return " → ".join(layers)


def _table(caption, head, rows, style=""):
  # The roles keep it a table for screen readers where phones lay its rows out as blocks.
  cells = "".join(f'<th role="columnheader" scope="col">{name}</th>' for name in head)
  body = "".join(
      f'<tr role="row"><th role="rowheader" scope="row">{first}</th>'
      + "".join(f'<td role="cell">{cell}</td>' for cell in rest) + "</tr>"
      for first, *rest in rows
  )
  return (
      f'<div class="scroll"><table role="table" class="{style}"><caption>{caption}</caption>'
      f'<thead role="rowgroup"><tr role="row">{cells}</tr></thead>'
      f'<tbody role="rowgroup">{body}</tbody></table></div>'
  )


def _value(value):
  if isinstance(value, dict):
    names = {"naive": "naive", "leave_one_out": "leave-one-out", **_BASELINES}
    return "".join(
        f'<span class="pair">{_number(v)} <span class="unit">{_escape(names.get(k, k))}</span>'
        "</span>" for k, v in value.items()
    )
  return _number(value)


def _number(value, decimals=3):
  if value is None:
    return "–"
  if isinstance(value, int):
    return f"{value:,}"
  text = f"{value:,.{decimals if abs(value) < 10 else 1}f}"
  return text.replace("-", "−") if text.strip("-0.") else text.lstrip("-")


def _count(n, one, many=None):
  return f"{n:,} {one if n == 1 else many or one + 's'}"


def _subscripts(text):
  """Escaped text with z_k and K_1 as subscripts."""
  return re.sub(r"_([k12])", r"<sub>\1</sub>", _escape(text))


def _escape(text):
  return html.escape(str(text))


_STYLE = """
:root { --ink: #1d2733; --muted: #5d6875; --line: #dfe4ea; --paper: #f6f7f9; --card: #fff;
  --accent: #2b6cb0; --track: #e3e8ee; --caution: #8a5a12; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaef; --muted: #9ba7b4; --line: #2c3541; --paper: #12171d; --card: #1a2129;
    --accent: #6ea8dd; --track: #2c3541; --caution: #dcb073; }
  figure img { filter: brightness(.9); } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 48px 24px 64px; }
h1 { font-size: 2.1rem; line-height: 1.15; letter-spacing: -.02em; margin: 0 0 12px; }
h2 { font-size: 1.35rem; letter-spacing: -.01em; margin: 0 0 8px; }
h3 { font-size: 1.05rem; margin: 28px 0 8px; }
p { margin: 0 0 16px; max-width: 46em; }
section > p { color: var(--muted); }
.lead { font-size: 1.1rem; color: var(--muted); }
section { padding-top: 44px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; margin-top: 24px; font-size: .9rem; }
a { color: var(--accent); text-decoration: none; }
a:hover, a:focus { text-decoration: underline; }
.tiles { display: grid; gap: 12px; margin-top: 28px;
  grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); }
.tile, figure, .scroll { background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
.tile { padding: 14px 16px; }
.tile .name { font-size: .82rem; color: var(--muted); }
.tile .value { font-size: 1.75rem; font-weight: 650; line-height: 1.25; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.tile .text { font-size: .82rem; line-height: 1.4; color: var(--muted); }
.bar { height: 4px; border-radius: 2px; background: var(--track); margin: 4px 0 8px; }
.bar div { height: 4px; border-radius: 2px; background: var(--accent); }
.figures { display: grid; gap: 16px; align-items: start; margin-bottom: 16px; }
.n2 { grid-template-columns: repeat(2, minmax(0, 1fr)); }
.n3 { grid-template-columns: repeat(3, minmax(0, 1fr)); }
figure { margin: 0; padding: 12px; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto;
  background: #fff; border-radius: 6px; padding: 4px; }
figcaption { font-size: .86rem; line-height: 1.45; color: var(--muted); padding: 10px 4px 0;
  max-width: 60em; }
.note { border-left: 3px solid var(--accent); padding-left: 12px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; line-height: 1.45; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { text-align: left; vertical-align: top; padding: 10px 16px;
  border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { font-size: .8rem; color: var(--muted); font-weight: 600; }
tbody th { font-weight: 600; }
td { font-variant-numeric: tabular-nums; }
.settings td { overflow-wrap: anywhere; }
td p { margin: 0; }
.caution { color: var(--caution); margin-top: 4px; }
.key { display: block; font-size: .75rem; font-weight: 400; color: var(--muted); }
.key code { font-size: 1em; }
.unit { font-size: .8rem; color: var(--muted); margin-left: 4px; }
.pair { display: block; white-space: nowrap; }
.numeric th, .numeric td { text-align: right; padding: 6px 16px; }
.numeric th:first-child { text-align: left; }
.settings th, .settings td { padding: 6px 16px; }
.settings th { font-weight: 400; color: var(--muted); }
sub { line-height: 0; }
@media (max-width: 860px) { .n2, .n3 { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 640px) {
  main { padding: 28px 14px 48px; }
  h1 { font-size: 1.7rem; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
  .tile { padding: 12px; } .tile .value { font-size: 1.45rem; }
  figure { padding: 8px; }
  th, td, .numeric th, .numeric td { padding-left: 10px; padding-right: 10px; }
  .definitions, .definitions tbody { display: block; }
  .definitions thead { position: absolute; clip-path: inset(50%); }
  .definitions tr { display: grid; grid-template-columns: 1fr auto; padding: 12px;
    border-bottom: 1px solid var(--line); }
  .definitions tr:last-child { border-bottom: 0; }
  .definitions th, .definitions td { border: 0; padding: 0; }
  .definitions td:last-child { grid-column: 1 / -1; padding-top: 6px; }
  .definitions .pair { text-align: right; }
}
@media print { body { background: #fff; } nav { display: none; } figure { break-inside: avoid; } }
"""

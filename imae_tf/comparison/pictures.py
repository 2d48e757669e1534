"""What the figures of a comparison are drawn from: the models of its runs, on test images."""

import math

import numpy as np
from sklearn.decomposition import PCA

from imae_tf import recipes
from imae_tf._shared import files
from imae_tf.comparison import figures
from imae_tf.data import loading
from imae_tf.metrics import clustering
from imae_tf.metrics import measuring
from imae_tf.reporting import html
from imae_tf.reporting import plots
from imae_tf.training import run_folder

_MAX_IMAGES = 10_000
_MAPPED = 3_000  # points that can still be told apart
_CURVES = ("beta", "gamma", "alpha", "capacity_z")  # weights whose points are joined


class Shown:
  """The run of a method that the figures show: its first seed, without a change of a setting.

  Args:
    folder: of the run.
    x: [N, H, W, C] test images.
    labels: [N] or None.
    class_names: of the labels, or None.
  """

  def __init__(self, folder, x, labels, class_names):
    self.folder = folder
    self.metrics = files.read_json(folder / "metrics.json")
    self.model, _ = run_folder.load_model(folder)
    self.codes = self.model.encode(x)
    self.categories = self.codes["y"].argmax(axis=1)
    self.labels, self.class_names = labels, class_names
    self.matched: dict[int, int] = {}
    self.order = list(range(self.model.num_categories))
    if labels is not None:
      arguments = (labels, self.categories, self.model.num_categories)
      self.matched, _ = clustering.hungarian(*arguments)
      self.order = clustering.column_order(*arguments)

  @property
  def name(self):
    """Of the method, as people write it."""
    return plots.NAMES[self.metrics["method"]]

  @property
  def most_informative(self):
    """The dimension of z with the largest I(x;z_k), naive."""
    return int(np.argmax(self.metrics["mi_z_per_dimension"]["naive"]))

  def category_name(self, category):
    """The class that a category is matched to, or its own number."""
    label = self.matched.get(category)
    if label is None:
      return f"category {category}"
    named = self.class_names is not None and 0 <= label < len(self.class_names)
    return str(self.class_names[label]) if named else str(label)

  def right(self):
    """[N] bool: the category is the one matched to the label; None without labels."""
    if self.labels is None:
      return None
    return np.array([self.matched.get(c) for c in self.categories]) == self.labels


def of_dataset(groups):
  """The pictures of one data set.

  Args:
    groups: {(method, recipe, variant): folders of its runs, by seed}, all of the data set.

  Returns:
    {file name: pages.Picture}, in the order of the page.
  """
  first = next(iter(groups.values()))[0]
  data = loading.load(run_folder.read_config(first)["dataset"])
  x, labels = data.arrays("test", limit=_MAX_IMAGES)
  pictures: dict[str, html.Picture] = {}
  for recipe in dict.fromkeys(recipe for _, recipe, _ in groups):
    folders = {
        method: groups[method, recipe, ""]
        for method in recipes.WEIGHTS
        if (method, recipe, "") in groups
    }
    if not folders:
      continue
    shown = {
        method: Shown(runs[0], x, labels, data.class_names) for method, runs in folders.items()
    }
    pictures |= {
        f"{recipe}_{name}": picture
        for name, picture in {
            **_tracked(folders, recipe),
            **_drawn(shown, recipe),
            **_maps(shown, recipe),
            **_informative(shown, recipe),
        }.items()
    }
  return {**_rate_distortion(groups), **_confidence(groups, x, labels, data), **pictures}


def _tracked(folders, recipe):
  histories = {
      method: [run_folder.read_history(folder) for folder in runs]
      for method, runs in folders.items()
  }
  if not all(rows for runs in histories.values() for rows in runs):
    return {}
  return {"tracked": html.picture(
      figures.tracked(histories),
      f"Curves of the category's figures over training, {recipe} weights.",
      f"Figure 3, {recipe} weights: mean over seeds, band from the lowest to the highest. I(x;y)"
      " and H(y|x) are means over batches; labels of training images are looked at after each"
      " epoch and change nothing.",
      narrow=figures.tracked(histories, columns=1),
  )}


def _drawn(shown, recipe):
  positions = np.linspace(-2.0, 2.0, 7)
  pictures = {}
  for method, run in shown.items():
    k = run.most_informative
    categories, images = measuring.category_traversals(
        run.model, run.codes["y"], run.codes["z"], k, positions
    )
    drawn = dict(zip(categories, images))
    rows = [c for c in run.order if c in drawn]
    overlap = run.metrics.get("category_overlap")
    pictures[f"drawn_{method}"] = html.picture(
        figures.drawn_categories(
            [drawn[c] for c in rows], [run.category_name(c) for c in rows], positions,
            f"{run.name}, z[{k}]",
        ),
        f"Each category of {run.name} drawn while z[{k}] moves from -2 to 2.",
        f"Figure 4, {recipe} weights: {run.name}. z[{k}], the most informative dimension"
        f" (I(x;z) = {run.metrics['mi_z_per_dimension']['naive'][k]:.2f} nats), moved from the"
        f" mean z of each category's images; {html.count(len(rows), 'category', 'categories')}"
        f" in use. Overlap {html.number(overlap)}.",
    )
  return pictures


def _maps(shown, recipe):
  maps = {}
  for method, run in shown.items():
    some = slice(_MAPPED)
    places = PCA(2, svd_solver="full").fit(run.codes["z"]).transform(run.codes["z"][some])
    categories = np.array([run.order.index(c) for c in run.categories[some]])
    labels = run.labels
    if labels is not None:
      values = np.unique(labels)
      labels = np.searchsorted(values, labels[some])
      names = [run.category_name(run.order[i]) for i in range(len(values))]
      if run.class_names is not None:
        names = [str(run.class_names[v]) for v in values]
    else:
      names = None
    maps[method] = (places, categories, labels)
  return {"maps": html.picture(
      figures.maps_of_z(maps, names),
      f"Scatter charts of z of each method, coloured by category and by label, {recipe} weights.",
      f"The two main principal components of z of {min(_MAPPED, len(run.categories)):,} test"
      f" images, {recipe} weights. Where z is independent of y, the colours of the upper row"
      " mix: the category says what z need not.",
  )}


def _informative(shown, recipe):
  """Figure 2 of IMAE, from its own report."""
  run = shown.get("imae")
  if run is None:
    return {}
  measured = run.metrics
  values = [measured[key] for key in (
      "mi_z_per_dimension", "var_mean_per_dimension", "mean_variance_per_dimension"
  )]
  pictures = {"information": html.picture(
      plots.information(*values),
      f"Bar charts of I(x;z_k), Var[µ_k] and E[σ_k²] of IMAE, {recipe} weights.",
      f"Figure 2, {recipe} weights: IMAE. A dimension is informative when its mean moves with"
      " the image and its noise is small.",
      narrow=plots.information(*values, columns=1),
  )}
  roles = {
      "most": "the most informative dimension", "middle": "the one in the middle",
      "least": "the least informative dimension",
  }
  for role, text in roles.items():
    path = run.folder / "figures" / f"traversal_{role}.png"
    if path.exists():
      pictures[f"traversal_{role}"] = html.stored_picture(
          path.read_bytes(),
          f"Images decoded while z_k moves from -2 to 2: {text}.",
          f"Figure 2, {recipe} weights: {text}.",
      )
  return pictures


def _confidence(groups, x, labels, data):
  """Figure 5 for each recipe and method that was run without VAT too."""
  pictures = {}
  for (method, recipe, variant), runs in groups.items():
    base = groups.get((method, recipe, ""))
    if variant not in ("lam=0", "lam=0.0") or base is None:
      continue
    shown = {
        title: Shown(folder, x, labels, data.class_names)
        for title, folder in (("with VAT", base[0]), ("without VAT", runs[0]))
    }
    sure = {title: (run.codes["y"].max(axis=1), run.right()) for title, run in shown.items()}
    pictures[f"confidence_{method}_{recipe}"] = html.picture(
        figures.confidence(sure),
        f"Histograms of the confidence of {plots.NAMES[method]} with and without VAT.",
        f"Figure 5: {plots.NAMES[method]}, {recipe} weights. How sure the encoder is of the"
        " category of each test image; the share is on a logarithmic axis.",
    )
  return pictures


def _rate_distortion(groups):
  changed = {
      (method, recipe, variant.partition("=")[0]) for method, recipe, variant in groups
  }
  points = []
  for (method, recipe, variant), runs in groups.items():
    curves = [
        weight for weight in _CURVES
        if (method, recipe, weight) in changed and variant.partition("=")[0] in ("", weight)
    ]
    for i, folder in enumerate(runs):
      measured = files.read_json(folder / "metrics.json")
      points.append({
          "method": method, "recipe": recipe, "text": "" if i else variant,
          "curves": [f"{method} {recipe} {weight}" for weight in curves],
          "reconstruction": measured["reconstruction"], **measured["mi_joint"],
      })
  floor, cap = measured["reconstruction_floor"], math.log(measured["n"])
  return {"rate_distortion": html.picture(
      figures.rate_distortion(points, floor, cap),
      "Scatter chart of the reconstruction loss against I(x;y,z), a point per run.",
      "Rate and distortion of every run: filled with tuned weights, hollow with the paper's."
      " Naive estimates end at ln n; where the bar is long, n images do not tell the"
      " information. Dashed: one weight changed, as written beside the points.",
  )}

"""Makes the pictures of a comparison, with captions, from the models of its runs on test images.

`comparison.page` calls `of_dataset`; `comparison.figures` does the drawing.
"""

import math
import pathlib

import numpy as np
from sklearn.decomposition import PCA

from imae_tf import recipes
from imae_tf._shared import files
from imae_tf.comparison import figures
from imae_tf.comparison import plan
from imae_tf.data import pipelines
from imae_tf.metrics import definitions
from imae_tf.metrics import measuring
from imae_tf.reporting import html
from imae_tf.reporting import plots
from imae_tf.reporting import run_pictures
from imae_tf.reporting.shown import Shown
from imae_tf.training import run_data
from imae_tf.training import run_folder

_MAX_IMAGES = 10_000
_MAPPED = 3_000  # points that can still be told apart
Pictures = dict[str, html.Picture]

_CURVES = ("beta", "gamma", "alpha", "capacity_z")  # a line joins the points of these weights


def of_dataset(groups: plan.Groups) -> Pictures:
  """The pictures of one data set.

  Args:
    groups: {(method, recipe, variant): folders of its runs, by seed} of this data set.

  Returns:
    {file name: html.Picture}, in the order of the page.
  """
  first = next(iter(groups.values()))[0]
  data = run_data.load(first, run_folder.read_config(first))
  x, labels = data.arrays("test", limit=_MAX_IMAGES)
  pictures: Pictures = {}
  for recipe in dict.fromkeys(recipe for _, recipe, _ in groups):
    folders = {
        method: groups[method, recipe, ""]
        for method in recipes.WEIGHTS
        if (method, recipe, "") in groups
    }
    if not folders:
      continue
    # The figures show the run of the first seed, without a changed setting.
    shown = {method: _shown(runs[0], x, labels, data) for method, runs in folders.items()}
    pictures |= {
        f"{recipe}_{name}": picture
        for name, picture in {
            **_tracked(folders, recipe),
            **_drawn(shown, recipe),
            **_maps(shown, recipe),
            **_informative(folders, recipe),
        }.items()
    }
  return {**_rate_distortion(groups), **_confidence(groups, x, labels, data), **pictures}


def _shown(
    folder: pathlib.Path, x: np.ndarray, labels: np.ndarray | None, data: pipelines.ImageData
) -> Shown:
  model, _ = run_folder.load_model(folder)
  return Shown(model, files.read_json(folder / "metrics.json"), x, labels, data.class_names)


def _tracked(folders: dict[str, list[pathlib.Path]], recipe: str) -> Pictures:
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


def _drawn(shown: dict[str, Shown], recipe: str) -> Pictures:
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
    label = definitions.label("mi_z_per_dimension")
    pictures[f"drawn_{method}"] = html.picture(
        figures.drawn_categories(
            [drawn[c] for c in rows], [run.category_name(c)[0] for c in rows], positions,
            f"{run.method}, z[{k}]",
        ),
        f"Each category of {run.method} drawn while z[{k}] moves from -2 to 2.",
        f"Figure 4, {recipe} weights: {run.method}. z[{k}], the most informative dimension"
        f" ({label} = {run.metrics['mi_z_per_dimension']['naive'][k]:.2f} nats), moved from the"
        f" mean z of each category's images; {html.count(len(rows), 'category', 'categories')}"
        f" in use. Overlap {html.number(overlap)}.",
    )
  return pictures


def _maps(shown: dict[str, Shown], recipe: str) -> Pictures:
  maps, names = {}, None
  for method, run in shown.items():
    some = slice(_MAPPED)
    places = PCA(2, svd_solver="full").fit(run.codes["z"]).transform(run.codes["z"][some])
    categories = np.array([run.order.index(c) for c in run.categories[some]])
    labels = run.labels
    if labels is not None:
      values = np.unique(labels)
      labels = np.searchsorted(values, labels[some])
      names = [run.class_name(v) for v in values]
    maps[method] = (places, categories, labels)
  return {"maps": html.picture(
      figures.maps_of_z(maps, names),
      f"Scatter charts of z of each method, coloured by category and by label, {recipe} weights.",
      f"The two main principal components of z of {min(_MAPPED, len(run.categories)):,} test"
      f" images, {recipe} weights. If z is independent of y, the colours of the upper row mix:"
      " z does not repeat what the category says.",
  )}


def _informative(folders: dict[str, list[pathlib.Path]], recipe: str) -> Pictures:
  """Figure 2 for IMAE, with the traversals that the run's own report has drawn."""
  if "imae" not in folders:
    return {}
  folder = folders["imae"][0]
  measured = files.read_json(folder / "metrics.json")
  values = [measured[key] for key in run_pictures.PER_DIMENSION]
  pictures = {"information": html.picture(
      plots.information(*values),
      f"Bar charts of I(x;z_k), Var[µ_k] and E[σ_k²] of IMAE, {recipe} weights.",
      f"Figure 2, {recipe} weights: IMAE. A dimension is informative when its mean moves with"
      " the image and its noise is small.",
      narrow=plots.information(*values, columns=1),
  )}
  for role, text in run_pictures.ROLES.items():
    path = folder / "figures" / f"traversal_{role}.png"
    if path.exists():
      pictures[f"traversal_{role}"] = html.stored_picture(
          path.read_bytes(),
          f"Images decoded while z_k moves from -2 to 2: {text}.",
          f"Figure 2, {recipe} weights: {text}.",
      )
  return pictures


def _confidence(
    groups: plan.Groups, x: np.ndarray, labels: np.ndarray | None, data: pipelines.ImageData
) -> Pictures:
  """Figure 5 for each recipe and method that was run without VAT too."""
  pictures = {}
  for (method, recipe, variant), runs in groups.items():
    base = groups.get((method, recipe, ""))
    if variant not in ("lam=0", "lam=0.0") or base is None:
      continue
    shown = {
        title: _shown(folder, x, labels, data)
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


def _rate_distortion(groups: plan.Groups) -> Pictures:
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
      " Naive estimates end at ln n. Where the bar is long, n images are too few to measure the"
      " information. Dashed: one weight changed, as written beside the points.",
  )}

"""Makes the figures of the page of a run, with captions; `run_page` calls `of_run`."""

import functools
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from imae_tf.metrics import clustering
from imae_tf.reporting import html
from imae_tf.reporting import plots
from imae_tf.reporting import shown

History = Sequence[Mapping[str, float]]  # a dict for each epoch: "epoch" and the logged names

POSITIONS = np.linspace(-2.0, 2.0, 9)
PER_DIMENSION = ("mi_z_per_dimension", "var_mean_per_dimension", "mean_variance_per_dimension")
# The dimensions that are shown, by their role.
ROLES = {
    "most": "the most informative dimension",
    "middle": "the one in the middle",
    "least": "the least informative dimension",
}
NAMES = (
    "reconstructions", "generated", "typical", "central", "least_certain", "misfits", "duplicates",
    *(f"traversal_{role}" for role in ROLES),
    "information", "confusion", "accuracy", "training",
)
GROUPS = 10  # of near-duplicates that are shown
_GRID_COLUMNS = 10
_NARROW_COLUMNS = 5  # on phones
_RECONSTRUCTED = 20
_TRAVERSED = 6


def of_run(run: shown.Shown, history: History) -> dict[str, html.Picture]:
  """The pictures of a run.

  Args:
    run: the run with its images.
    history: a dict for each epoch; may be empty.

  Returns:
    {file name: html.Picture}, in the order of the page.
  """
  pictures = {
      "reconstructions": _reconstructions(run),
      "generated": _generated(run),
      "typical": _typical(run),
      "central": _central(run),
      "least_certain": _least_certain(run),
      **_misfits(run),
      **_duplicates(run),
      **_traversals(run),
      "information": _information(run),
  }
  if run.labels is not None:
    pictures["confusion"] = _confusion(run, run.labels)
  if run.metrics.get("accuracy") is not None:
    pictures["accuracy"] = _accuracy(run)
  if history:
    pictures["training"] = _training(run, history)
  return pictures


def _reconstructions(run: shown.Shown) -> html.Picture:
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


def _generated(run: shown.Shown) -> html.Picture:
  images = np.stack([run.model.generate(_GRID_COLUMNS, y=c, seed=0) for c in run.order])
  names = [run.category_name(category) for category in run.order]
  return html.picture(
      plots.generated(images, names),
      f"Generated images, a row for each of the {run.num_categories} categories.",
      "One category per row, each column one draw z ~ N(0, I), the same in every row.",
      narrow=plots.generated(images[:, :_NARROW_COLUMNS], names),
  )


def _typical(run: shown.Shown) -> html.Picture:
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


def _central(run: shown.Shown) -> html.Picture:
  return _members(
      run, "Typical", [run.central(category) for category in run.order],
      "Real images whose z is nearest to the mean z of their category, the nearest first.",
  )


def _least_certain(run: shown.Shown) -> html.Picture:
  return _members(
      run, "Least certain", [run.members(category)[::-1] for category in run.order],
      "Real images with the lowest p(y|x) of their own category, the lowest first: where categories"
      " are mixed, it shows here.",
  )


def _members(
    run: shown.Shown, title: str, members: Sequence[np.ndarray], caption: str
) -> html.Picture:
  rows = [run.x[some[:_GRID_COLUMNS]] for some in members]
  names = [run.category_name(category) for category in run.order]
  draw = functools.partial(plots.image_grid, title=title, row_labels=names, empty="no image")
  return html.picture(
      draw(rows),
      f"{title} images of each of the {run.num_categories} categories.",
      caption,
      narrow=draw([row[:_NARROW_COLUMNS] for row in rows]),
  )


def _misfits(run: shown.Shown) -> dict[str, html.Picture]:
  """{} if every image fits somewhere."""
  found = run.misfits
  badly, undecided = (run.x[some[:_GRID_COLUMNS]] for some in found[:2])
  rows: list[np.ndarray] = []
  names: list[str | tuple[str, str]] = []
  if len(badly):
    rows += [badly, run.model.reconstruct(badly)]
    names += [("redrawn badly", html.count(len(found.redrawn_badly), "image")), "model"]
  if len(undecided):
    rows.append(undecided)
    names.append(("undecided", html.count(len(found.undecided), "image")))
  if not rows:
    return {}
  draw = functools.partial(plots.image_grid, title="Fit nowhere", row_labels=names)
  below = "; below each one that is redrawn badly, what the model made of it" if len(badly) else ""
  return {"misfits": html.picture(
      draw(rows),
      "The images that the model redraws worst, and those of which it is least certain.",
      f"The worst first{below}.",
      narrow=draw([row[:_NARROW_COLUMNS] for row in rows]),
  )}


def _duplicates(run: shown.Shown) -> dict[str, html.Picture]:
  """{} if there are none."""
  groups = run.duplicates[:GROUPS]
  if not groups:
    return {}
  names = [(f"group {i}", html.count(len(some), "image")) for i, some in enumerate(groups, 1)]
  rows = [run.x[some[:_GRID_COLUMNS]] for some in groups]
  draw = functools.partial(plots.image_grid, title="Near-duplicates", row_labels=names)
  return {"duplicates": html.picture(
      draw(rows),
      f"{html.count(len(groups), 'group')} of images that are nearly the same.",
      "Each row is a group, the largest first; the table below names the files.",
      narrow=draw([row[:_NARROW_COLUMNS] for row in rows]),
  )}


def _traversals(run: shown.Shown) -> dict[str, html.Picture]:
  mi = run.metrics["mi_z_per_dimension"]["naive"]
  order = np.argsort(-np.asarray(mi), kind="stable")
  # With K1 = 1 or 2 some of the three are the same dimension, which then keeps its first role.
  roles: dict[int, str] = {}
  for role, place in (("most", 0), ("least", -1), ("middle", len(order) // 2)):
    roles.setdefault(int(order[place]), role)
  used = [members[0] for c in run.order if len(members := run.members(c))]
  rows = [used[i] for i in np.linspace(0, len(used) - 1, min(_TRAVERSED, len(used))).astype(int)]
  pictures = {}
  for dimension in sorted(roles, key=lambda k: -mi[k]):
    role = roles[dimension]
    pictures[f"traversal_{role}"] = html.picture(
        _traversal(run, np.array(rows), dimension, POSITIONS),
        f"Images decoded while z[{dimension}] moves from -2 to 2.",
        f"{ROLES[role][0].upper()}{ROLES[role][1:]}.",
        narrow=_traversal(run, np.array(rows), dimension, POSITIONS[::2]),
    )
  return pictures


def _traversal(
    run: shown.Shown, rows: np.ndarray, dimension: int, positions: np.ndarray
) -> Figure:
  y = np.repeat(run.codes["y"][rows], len(positions), axis=0)
  z = np.repeat(run.codes["z"][rows], len(positions), axis=0)
  z[:, dimension] = np.tile(positions, len(rows))
  moved = run.model.decode(y, z).reshape(len(rows), len(positions), *run.x.shape[1:])
  information = run.metrics["mi_z_per_dimension"]["naive"][dimension]
  return plots.traversal(run.x[rows], moved, positions, dimension, information)


def _information(run: shown.Shown) -> html.Picture:
  values = [run.metrics[key] for key in PER_DIMENSION]
  return html.picture(
      plots.information(*values),
      "Bar charts of the information, the variance of the mean and the mean variance of each"
      " dimension; the numbers are in the table of dimensions below.",
      "A dimension is informative when its mean moves with the image (Var[µ] large) and its"
      " noise is small (E[σ²] well below 1). A dimension without information stays at the prior:"
      " Var[µ] = 0, E[σ²] = 1.",
      narrow=plots.information(*values, columns=1),
  )


def _confusion(run: shown.Shown, labels: np.ndarray) -> html.Picture:
  counts = clustering.confusion_matrix(labels, run.categories, run.num_categories)
  classes = [run.class_name(label) for label in np.unique(labels)]
  return html.picture(
      plots.confusion(counts, classes, run.order),
      f"Confusion matrix of {len(classes)} classes and {run.num_categories} categories.",
      "Images of each true class (rows) in each category (columns, matched categories on the"
      " diagonal). Shade: share of the class.",
  )


def _accuracy(run: shown.Shown) -> html.Picture:
  baselines = run.metrics.get("baselines") or {}
  return html.picture(
      plots.accuracy(run.method, run.metrics["accuracy"], baselines),
      "Bar chart of the accuracy of the model and of the classical baselines.",
      "All of them cluster without labels; labels only score the result.",
  )


def _training(run: shown.Shown, history: History) -> html.Picture:
  draw = functools.partial(
      plots.training, history, num_categories=run.num_categories,
      floor=run.metrics["reconstruction_floor"],
  )
  held_out = any(name.startswith("val_") for name in history[0])
  return html.picture(
      draw(),
      "Training curves of the loss and of its terms.",
      "One value per epoch. Every term is unweighted; only the loss is the weighted sum."
      + (" Dashed: held-out images." if held_out else "")
      + " The values are estimated within batches, so they differ from the final figures over all"
      " images.",
      narrow=draw(columns=1),
  )

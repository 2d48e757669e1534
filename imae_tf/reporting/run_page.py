"""Writes the report of a run: one self-contained HTML page, and its figures as PNG files.

`training.evaluation` calls `write`.
"""

import json
import math
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

import numpy as np

from imae_tf._shared import category_names as names_lib
from imae_tf._shared import files as files_lib
from imae_tf.errors import InputError
from imae_tf.metrics import definitions
from imae_tf.metrics import examples
from imae_tf.reporting import html
from imae_tf.reporting import plots
from imae_tf.reporting import run_pictures
from imae_tf.reporting import shown

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

FIGURES = run_pictures.NAMES
_LISTED = 20  # images of a kind or a group
_METHOD_KEYS = ("accuracy", "nmi", "ari", "near_mi_y")
_RUN_KEYS = ("method", "dataset", "split", "seed")
_REQUIRED = (
    "reconstruction", "reconstruction_floor", "mi_y", "mi_z", "total_correlation",
    "active_units", *run_pictures.PER_DIMENSION,
)


def write(
    path: str | pathlib.Path,
    *,
    model: "HybridAutoencoder",
    history: list[dict[str, float]],
    metrics: dict[str, Any],
    x: np.ndarray,
    labels: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    category_names: Sequence[str] | None = None,
    files: Sequence[str] | None = None,
) -> None:
  """Writes the report and its figures, each file atomically, the page last.

  Args:
    path: path of the page; the figures go to `figures/*.png` beside it.
    model: a `HybridAutoencoder`.
    history: list of dicts, one per epoch ("epoch" and the logged names); may be empty.
    metrics: the content of metrics.json: what `metrics.evaluate` returns with "method",
      "dataset", "split", "seed" and "baselines" (a dict or None).
    x: [N, H, W, C] float images in [0, 1], those that `metrics` was computed on.
    labels: [N] integers or None.
    class_names: texts, one per label value 0, 1, ..., or None.
    category_names: what people call the categories, or None.
    files: [N] names of the images' files, or None.

  Raises:
    InputError: no images, images or labels that do not fit, or metrics that lack a figure.
    OSError: a file cannot be written; every file is then the whole old or the whole new one.
  """
  path = pathlib.Path(path)
  _check(x, labels, metrics)
  run = shown.Shown(model, metrics, x, labels, class_names, category_names, files)
  pictures = run_pictures.of_run(run, history)
  page = _page(run, history, pictures)
  for name, picture in pictures.items():
    with files_lib.replacing(path.parent / "figures" / f"{name}.png") as temporary:
      temporary.write_bytes(picture.png)
  with files_lib.replacing(path) as temporary:
    temporary.write_text(page, encoding="utf-8")
  for name in FIGURES:  # an earlier report may have had more figures
    if name not in pictures:
      (path.parent / "figures" / f"{name}.png").unlink(missing_ok=True)


def _check(x: np.ndarray, labels: np.ndarray | None, metrics: Mapping[str, Any]) -> None:
  if not len(x):
    raise InputError("expected at least one image to report on, got none; add images.")
  if labels is not None and len(labels) != len(x):
    raise InputError(
        f"expected one label per image, got {len(labels)} labels for {len(x)} images; leave out"
        " the images or labels that are too many."
    )
  missing = [key for key in _REQUIRED if key not in metrics]
  if missing:
    raise InputError(
        f"expected what metrics.evaluate returns, got metrics without {', '.join(missing)};"
        " evaluate the model again."
    )


def _page(
    run: shown.Shown, history: run_pictures.History, pictures: Mapping[str, html.Picture]
) -> str:
  return html.render(
      "run.html",
      title=f"{run.method} on {run.metrics.get('dataset', 'images')}",
      run=run,
      history=history,
      pictures=pictures,
      traversals=[p for name, p in pictures.items() if name.startswith("traversal_")],
      cap=math.log(run.num_categories),
      best_baseline=_best_baseline(run.metrics),
      methods=_methods(run),
      definitions=list(_definitions(run)),
      dimensions=_dimensions(run.metrics),
      settings=_settings(run),
      categories=_categories(run),
      misfits=_misfits(run),
      duplicates=_duplicates(run),
      rules=examples,
      method_keys=_METHOD_KEYS,
      names_file=names_lib.FILES[0],
      names_template=_names_template(run),
      names={"leave_one_out": "leave-one-out", **plots.NAMES},
  )


def _categories(run: shown.Shown) -> list[list[Any]]:
  """The rows of the table of categories."""
  rows = []
  for category in run.order:
    members = run.members(category)
    name, number = run.category_name(category)
    row = [name if number in ("", "unmatched") else f"{name} ({number})", f"{len(members):,}"]
    row.append(f"{len(members) / len(run.x):.1%}")
    if len(members):
      row.append(f"{run.confidence[members].mean():.2f}")
      row += [run.image_name(i) for i in (members[0], run.central(category)[0], members[-1])]
    rows.append([*row, *["–"] * (7 - len(row))])
  return rows


def _misfits(run: shown.Shown) -> list[list[str]]:
  """The rows of the table of images that fit nowhere, the first ones of each kind."""
  rows = []
  for why, some in (("redrawn badly", run.misfits[0]), ("undecided", run.misfits[1])):
    for i in some[:_LISTED].tolist():
      name = run.category_name(int(run.categories[i]))[0]
      confidence = f"{run.confidence[i]:.2f}"
      rows.append([run.image_name(i), why, name, confidence, html.number(float(run.excess[i]), 1)])
  return rows


def _duplicates(run: shown.Shown) -> list[list[str]]:
  """The rows of the table of near-duplicates."""
  rows = []
  for number, group in enumerate(run.duplicates[: run_pictures.GROUPS], start=1):
    listed = ", ".join(run.image_name(i) for i in group[:_LISTED].tolist())
    rows.append([f"group {number}", listed + (", …" if len(group) > _LISTED else "")])
  return rows


def _names_template(run: shown.Shown) -> str:
  """A names.json to change, which calls each category what it is called now."""
  numbers = [str(k) for k in range(run.num_categories)]
  given = dict(zip(numbers, run.category_names or numbers))
  return json.dumps(given, indent=2, ensure_ascii=False)


def _best_baseline(metrics: Mapping[str, Any]) -> tuple[float, str] | None:
  """The accuracy and the name of the best baseline; None without baselines."""
  baselines = (metrics.get("baselines") or {}).items()
  values = [(value, plots.NAMES.get(name, name)) for name, value in baselines if value is not None]
  return max(values, key=lambda found: found[0], default=None)


def _methods(run: shown.Shown) -> list[list[str]]:
  """The rows of the table of the model and the simple methods."""
  return [
      [run.method if name == "model" else plots.NAMES.get(name, name)]
      + ["–" if found[key] is None else html.number(found[key]) for key in _METHOD_KEYS]
      for name, found in (run.metrics.get("simple_methods") or {}).items()
  ]


def _definitions(run: shown.Shown) -> Iterator[tuple[str, definitions.Definition, str]]:
  """Yields (key, definition, when not to trust it here) for each figure that was measured."""
  for key, definition in definitions.DEFINITIONS.items():
    if key in run.metrics and key != "simple_methods":  # a table of its own
      caution = definition.caution
      ln_n = math.log(len(run.x))
      if key == "mi_joint" and ln_n:
        caution += f" Here it is {run.metrics[key]['naive'] / ln_n:.0%} of ln n = {ln_n:.2f}."
      yield key, definition, caution


def _dimensions(metrics: Mapping[str, Any]) -> list[list[str]]:
  """The rows of the table of dimensions, one for each z_k."""
  mi, var_mean, mean_variance = (metrics[key] for key in run_pictures.PER_DIMENSION)
  rows = zip(mi["naive"], mi["leave_one_out"], var_mean, mean_variance)
  return [[str(k), *map(html.number, row)] for k, row in enumerate(rows)]


def _settings(run: shown.Shown) -> list[tuple[str, Any]]:
  """The table of settings: the run, figures without a definition, the model's configuration."""
  known = {*definitions.DEFINITIONS, *_RUN_KEYS, "remarks"}
  settings = {key: run.metrics[key] for key in _RUN_KEYS if key in run.metrics}
  settings |= {key: value for key, value in run.metrics.items() if key not in known}
  hidden = ("encoder", "decoder", "name", "trainable", "dtype", "logits_initializer")
  # "seed" is the seed of the run, not the seed of the model's noise, which has the same name.
  config = run.model.get_config().items()
  settings |= {k: v for k, v in config if k not in hidden and k not in settings}
  settings["encoder"], settings["decoder"] = map(_network, (run.model.encoder, run.model.decoder))
  settings["parameters"] = f"{run.model.count_params():,}"
  return list(settings.items())


def _network(network: Any) -> str:
  layers = [
      f"{type(layer).__name__} {layer.units}" if hasattr(layer, "units") else type(layer).__name__
      for layer in network.layers
  ]
  return " → ".join(layers)

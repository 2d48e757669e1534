"""Measures a finished run and writes metrics.json, report.html and figures into its folder.

`imae-evaluate` and `imae-compare` call `evaluate`.
"""

import concurrent.futures
import contextlib
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np
import threadpoolctl

from imae_tf._shared import category_names
from imae_tf._shared import extras
from imae_tf._shared import files
from imae_tf._shared import locks
from imae_tf._shared import paths
from imae_tf.data import pipelines
from imae_tf.errors import InUseError
from imae_tf.metrics import clustering
from imae_tf.metrics import disentanglement
from imae_tf.metrics import measuring
from imae_tf.metrics import simple_methods
from imae_tf.training import run_data
from imae_tf.training import run_folder

# The limit is there because the time for pairwise figures grows as n^2.
MAX_IMAGES = 10_000
_PATIENCE_S = 60.0  # for another evaluation, which writes its page


def evaluate(
    workdir: str | pathlib.Path,
    split: str = "test",
    baselines: dict[str, float] | None = None,
    say: Callable[[str], Any] = print,
    labels: str | None = None,
) -> dict[str, Any]:
  """Measures the model of a run and writes the results into its folder.

  Args:
    workdir: folder of a finished run.
    split: "test", "train", or "holdout" if the run has held-out images.
    baselines: `clustering.baselines` of this data set, split and seed, if they are known.
    say: function that is called with a line that tells what is done.
    labels: of a folder's images: "folders" or the path of a CSV; None for those of the run.

  Returns:
    The content of metrics.json.

  Raises:
    InputError: no finished run, or a damaged file.
    InUseError: the run is given more epochs at the same time.
  """
  workdir = paths.folder(workdir, "a workdir")
  model, config = run_folder.load_model(workdir)
  history = run_folder.read_history(workdir)  # before the long work, because it may be damaged
  names = category_names.of_run(workdir, model.num_categories)
  data = run_data.load(workdir, config, labels)
  x, y = data.arrays(split, limit=MAX_IMAGES)
  say(f"Evaluating {len(x)} of {data.size(split)} {split} images of {config['dataset']}.")
  without = extras.missing("report")
  if without:  # said before the work, for who wants the page would rather not wait
    say(
        f"There will be no report.html, which needs {without}; to have it, run pip install"
        " 'imae_tf[report]' and this command again."
    )
  # The simple methods and the measures each leave cores idle. Both limit BLAS, which is one limit
  # for the process: without the outer one the first to end could leave it to the other for good.
  one_thread = threadpoolctl.threadpool_limits(1, "blas")
  with one_thread, concurrent.futures.ThreadPoolExecutor(1) as beside:
    simple = None if baselines is not None else _simple_methods(data, x, config, beside)
    measured = measuring.evaluate(model, x, y, seed=config["seed"])
    codes = model.encode(x)
  compared: dict[str, dict[str, Any]] = {}
  if simple:
    found = {"model": codes["y"].argmax(axis=1), **simple.result()}
    compared = simple_methods.compared(found, model.category_layers.seen_of_all(x), y)
  if baselines is None and y is not None:
    baselines = {name: of["accuracy"] for name, of in compared.items() if name != "model"}
  most_informative = int(np.argmax(measured["mi_z_per_dimension"]["naive"]))
  overlap = measuring.category_overlap(model, codes["y"], codes["z"], most_informative)
  metrics = {
      **{key: config[key] for key in ("method", "dataset", "seed", "recipe")},
      "split": split,
      "epochs": config["epochs"],
      **measured,
      "category_overlap": overlap,
      **_disentanglement(data, split, codes, config["seed"]),
      "baselines": baselines,
      **({"simple_methods": compared} if compared else {}),
      **_about(data),
  }
  metrics["remarks"] = simple_methods.remarks(metrics, model.num_categories)
  with _still_the_same(workdir, config):
    files.write_json(workdir / "metrics.json", metrics)
    if not without:
      from imae_tf.reporting import run_page

      run_page.write(
          workdir / "report.html",
          model=model,
          history=history,
          metrics=metrics,
          x=x,
          labels=y,
          class_names=data.class_names,
          category_names=names,
          files=None if data.source is None else data.source.names[split],
      )
  return metrics


@contextlib.contextmanager
def _still_the_same(workdir: pathlib.Path, config: dict[str, Any]) -> Iterator[None]:
  """Keeps trainings out, and raises if one began since: these figures are of the model before."""
  with locks.locked(workdir, wait_s=_PATIENCE_S):
    epochs = run_folder.read_config(workdir)["epochs"]
    if epochs != config["epochs"]:
      raise InUseError(
          f"expected {config['epochs']} epochs in {workdir} until they are evaluated, got {epochs},"
          " given by another process; give the same command again when it has trained them."
      )
    yield


def _about(data: pipelines.ImageData) -> dict[str, Any]:
  """What the page tells of the images: {} for those that are as they were stored."""
  about: dict[str, Any] = {}
  if data.preparation is not None:
    about["images"] = data.preparation.words()
  if data.source is not None and data.source.labels is not None:
    about["labels"] = data.source.labels
  if data.source is not None and data.source.unreadable:
    about["unreadable"] = len(data.source.unreadable)
  return about


def _disentanglement(
    data: pipelines.ImageData, split: str, codes: dict[str, np.ndarray], seed: int
) -> dict[str, Any]:
  """Scores of the codes against the factors of the images; {} if the factors are not known."""
  factors = data.factors(split, limit=MAX_IMAGES)
  if factors is None or len(factors) < disentanglement.FEWEST:
    return {}
  names = data.factor_names or ()
  return disentanglement.scores(codes["y"], codes["z"], factors, names, seed=seed)


def _simple_methods(
    data: pipelines.ImageData,
    x: np.ndarray,
    config: dict[str, Any],
    beside: concurrent.futures.Executor,
) -> concurrent.futures.Future[dict[str, np.ndarray]] | None:
  """`clustering.baseline_categories` of the images x; None if images are too few."""
  train = data.sample("train", clustering.MAX_BASELINE_IMAGES, config["seed"])
  if len(train) < config["num_categories"] or len(x) < 3:
    return None
  return beside.submit(
      clustering.baseline_categories, train, x, config["num_categories"], seed=config["seed"]
  )

"""Trains a run in a folder, from a recipe: resumes it exactly, and chooses its best short start.

`imae-train`, `imae-compare` and `imae-tune` call `train`.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from imae_tf import recipes
from imae_tf._shared import locks
from imae_tf._shared import paths
from imae_tf._shared import setting
from imae_tf._shared import side_by_side
from imae_tf.data import loading
from imae_tf.data import pipelines
from imae_tf.data.reading import Reading
from imae_tf.errors import InputError
from imae_tf.errors import InUseError
from imae_tf.recipes import deriving
from imae_tf.training import category_starts
from imae_tf.training import distribution
from imae_tf.training import fitting
from imae_tf.training import run_data
from imae_tf.training import run_folder
from imae_tf.training import starts

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder


@dataclasses.dataclass(frozen=True)
class Run:
  """Everything that decides the final weights; `config.json` records it."""

  dataset: str
  method: str
  recipe_name: str
  recipe: recipes.Recipe
  num_categories: int
  latent_dim: int
  holdout: int
  seed: int
  deterministic: bool
  reading: Reading = Reading()
  # Settings that the user gave beside `recipe_name`, which hold over what images say.
  changes: tuple[tuple[str, Any], ...] = ()


def train(
    run: Run,
    workdir: str | pathlib.Path,
    job: distribution.Job | None = None,
    progress: bool = True,
    watched: pipelines.Arrays | None = None,
    data: pipelines.ImageData | None = None,
    board: bool = True,
    jobs: int | None = None,
) -> "HybridAutoencoder":
  """Trains a run in its folder, or goes on with it; at the end the folder has `model.keras`.

  The order of the images, the noise and the initial weights depend only on the seed and the step.
  So a run that goes on after a kill ends with the weights of an unbroken run. Any number of
  replicas computes the same steps, up to the rounding of float32, which training amplifies.

  Args:
    run: `Run`.
    workdir: folder of the run; with several workers, only the chief's is read and written.
    job: `distribution.Job`; None for this process alone.
    progress: whether progress is shown.
    watched: (x, labels) for `callbacks.Watch`, which adds its figures to the history of the epochs
      that are trained now; give it in one process only.
    data: the images; None for those that the run names.
    board: whether TensorBoard's files are written and progress can be shown.
    jobs: number of starts of categories that train side by side, which changes no figure; None for
      one for each core of a CPU, and one on a GPU.

  Returns:
    The trained model.

  Raises:
    InputError: bad data, or a folder that holds something else.
    DivergenceError: a term of the loss is no longer finite.
    Preempted: SIGTERM came; all is saved.
    WorkerLostError: another worker of the job has ended.
  """
  workdir = paths.folder(workdir, "a workdir")
  if run.recipe_name != "auto":  # whose settings the images decide
    starts.check(run)
  job = job or distribution.Job()
  if run.deterministic:
    tf.config.experimental.enable_op_determinism()
  if job.is_chief:
    run_folder.check_free(workdir)  # before the images' cache is made in it
    run = dataclasses.replace(run, reading=run_data.as_trained(workdir, run.reading))
  if data is None or run.reading.split == "in_order":  # a run of an earlier version
    data = loading.opened(run.dataset, run.reading, holdout=run.holdout)
  run_data.check_differ(data)
  run = _with_recipe(run, data, workdir)
  starts.check(run)
  config = config_of(run, data)
  with distribution.sigterm_noted() as stop_asked, job.losing_workers():
    session = fitting.Session(
        run, data, workdir, job, stop_asked, progress, watched, jobs or _starts_at_once(job)
    )
    if job.is_chief:
      run_folder.check(workdir, config)
    _check_same_command(job, config, data)
    done = fitting.progress(job, workdir)
    model = fitting.model_after(session, workdir, run.seed, done)
    # The folder is claimed last. So a setting that builds no model, or a damaged file, raises its
    # error before anything changes on disk.
    with _claimed(workdir, config, data) if job.is_chief else contextlib.nullcontext():
      if fitting.progress(job, workdir) != done:  # a process that still saved when this one began
        raise InUseError(
            f"expected no other process at work in {workdir}, got one that saved progress just now;"
            " give the same command again."
        )
      return _train(session, model, done, workdir / "tensorboard" if board else None)


def _train(
    session: fitting.Session,
    model: "HybridAutoencoder",
    done: fitting.Done,
    board: pathlib.Path | None,
) -> "HybridAutoencoder":
  run, workdir, job = session.run, session.workdir, session.job
  begun = done.epochs or done.steps
  waits = not begun if run.recipe.restart_vote else done.epochs < category_starts.epochs(run)
  if run.recipe.restarts > 1 and waits:
    model, done = starts.chosen(session)
  elif begun:
    within = f" and {done.steps} steps of the next" if done.steps else ""
    job.say(f"Going on after epoch {done.epochs} of {run.recipe.epochs}{within} in {workdir}.")
    starts.teach_again(session, model)
  fitting.fit(session, model, run.seed, done, run.recipe.epochs, workdir, board)
  if job.is_chief:
    model = fitting.in_float32(model, run, session.data)
    run_folder.save_keras(model, workdir / "model.keras")
  return model


def _with_recipe(run: Run, data: pipelines.ImageData, workdir: pathlib.Path) -> Run:
  """The run; with the recipe `auto`, that of its images, or of the run that is in the folder."""
  if run.recipe_name != "auto":
    return run
  if (workdir / "config.json").exists():
    known = run_folder.read_config(workdir)
    settings: dict[str, Any] = {**known["settings"], "epochs": known["epochs"]}
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    recipe = dataclasses.replace(recipes.PAPER, **settings)
  else:
    x = data.sample("train", deriving.SAMPLE, seed=0)
    x = x[np.random.default_rng(0).permutation(len(x))]
    recipe = recipes.auto(x, run.num_categories, data.size("train"))
  return dataclasses.replace(run, recipe=dataclasses.replace(recipe, **dict(run.changes)))


def _starts_at_once(job: distribution.Job) -> int:
  """One for each core of a CPU, up to eight; one where starts would compete for a GPU."""
  alone = job.num_workers == 1 and job.strategy.num_replicas_in_sync == 1
  if not alone or tf.config.list_physical_devices("GPU"):
    return 1
  return min(side_by_side.cores(), 8)


@contextlib.contextmanager
def _claimed(
    workdir: pathlib.Path, config: dict[str, Any], data: pipelines.ImageData
) -> Iterator[None]:
  with locks.locked(workdir):
    run_folder.check(workdir, config)
    if "split" in config:
      run_data.write(workdir, data)
    run_folder.start(workdir, config)
    yield


def _check_same_command(
    job: distribution.Job, config: dict[str, Any], data: pipelines.ImageData
) -> None:
  """Checks that all workers have the same flags and images.

  Otherwise they would train another model, or wait for each other for ever.
  """
  if job.num_workers == 1:
    return
  images = next(iter(data.batches("train", 100))).numpy()  # streams decode no more than these
  shared = {
      **config,
      "dataset": None,  # a path, which may differ
      "cache": None,
      "labels": None,
      "sizes": data.sizes,
      "class_names": data.class_names,
      "images": zlib.crc32(images.tobytes()),
  }
  text = json.dumps(shared, sort_keys=True)
  digest = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.int64)
  if job.from_chief([digest])[0] != digest:
    raise InputError(
        "expected the flags, data and versions of the chief on this worker, got others; give"
        " the same command on every worker."
    )


def versions() -> dict[str, str]:
  """The versions that decide the figures: {package: version}."""
  names = ("imae_tf", "tensorflow", "keras", "tensorflow-probability", "numpy")
  return {name: importlib.metadata.version(name) for name in names}


def config_of(run: Run, data: pipelines.ImageData) -> dict[str, Any]:
  """The content of config.json for a `Run` on its `pipelines.ImageData`, without the format."""
  config = dataclasses.asdict(run)
  del config["recipe"], config["changes"], config["reading"]
  recipe = recipes.settings(run.recipe, run.method)
  if run.recipe_name == "auto":
    config["given"] = {
        name: setting.write(value) for name, value in run.changes if name != "epochs"
    }
  return {
      **config,
      "recipe": run.recipe_name,
      "epochs": recipe.pop("epochs"),
      "settings": recipe,
      "image_shape": list(data.image_shape),
      **run_data.about(run.reading, data),
      "data": data.fingerprint(),
      "versions": versions(),
  }

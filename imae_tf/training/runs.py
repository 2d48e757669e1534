"""Trains a run in a folder, from a recipe: resumes it exactly, and chooses its best short start.

`imae-train`, `imae-compare` and `imae-tune` call `train`.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib
import shutil
import zlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from imae_tf import recipes
from imae_tf._shared import event_file
from imae_tf._shared import files
from imae_tf._shared import locks
from imae_tf._shared import paths
from imae_tf.data import loading
from imae_tf.data import pipelines
from imae_tf.data.reading import Reading
from imae_tf.errors import DivergenceError
from imae_tf.errors import InputError
from imae_tf.errors import InUseError
from imae_tf.metrics import dataset_information
from imae_tf.metrics import label_free
from imae_tf.training import distribution
from imae_tf.training import fitting
from imae_tf.training import run_data
from imae_tf.training import run_folder

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


def train(
    run: Run,
    workdir: str | pathlib.Path,
    job: distribution.Job | None = None,
    progress: bool = True,
    watched: pipelines.Arrays | None = None,
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
    watched: (x, labels) for `callbacks.Watch`, which adds its figures to the history; give it from
      the first epoch of a run on, and in one process only.

  Returns:
    The trained model.

  Raises:
    InputError: bad data, or a folder that holds something else.
    DivergenceError: a term of the loss is no longer finite.
    Preempted: SIGTERM came; all is saved.
    WorkerLostError: another worker of the job has ended.
  """
  workdir = paths.folder(workdir, "a workdir")
  if run.recipe.restarts > 1 and run.recipe.restart_epochs < 1:
    raise InputError(
        f"expected restart_epochs of 1 or more for {run.recipe.restarts} restarts, got"
        f" {run.recipe.restart_epochs}; give --restart_epochs, 25 for example."
    )
  if run.recipe.restart_score not in _SCORES:
    raise InputError(
        f"expected restart_score among {', '.join(_SCORES)}, got {run.recipe.restart_score!r};"
        " give one of them."
    )
  job = job or distribution.Job()
  if run.deterministic:
    tf.config.experimental.enable_op_determinism()
  if job.is_chief:
    run_folder.check_free(workdir)  # before the images' cache is made in it
    run = dataclasses.replace(run, reading=run_data.as_trained(workdir, run.reading))
  data = loading.opened(run.dataset, run.reading, holdout=run.holdout)
  run_data.check_differ(data)
  config = config_of(run, data)
  with distribution.sigterm_noted() as stop_asked, job.losing_workers():
    session = fitting.Session(run, data, workdir, job, stop_asked, progress, watched)
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
      return _train(session, model, done)


def _train(
    session: fitting.Session, model: "HybridAutoencoder", done: fitting.Done
) -> "HybridAutoencoder":
  run, workdir, job = session.run, session.workdir, session.job
  if run.recipe.restarts > 1 and done.epochs < _start_epochs(run):
    model, done = _choose_start(session)
  elif done.epochs or done.steps:
    within = f" and {done.steps} steps of the next" if done.steps else ""
    job.say(f"Going on after epoch {done.epochs} of {run.recipe.epochs}{within} in {workdir}.")
  fitting.fit(session, model, run.seed, done, run.recipe.epochs, workdir, workdir / "tensorboard")
  if job.is_chief:
    model = fitting.in_float32(model, run, session.data)
    run_folder.save_keras(model, workdir / "model.keras")
  return model


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


# ---- short starts --------------------------------------------------------------------------


def _choose_start(session: fitting.Session) -> tuple["HybridAutoencoder", fitting.Done]:
  """Trains short starts and makes the best one the run's checkpoint: (its model, its progress)."""
  run, workdir, job = session.run, session.workdir, session.job
  starts = [workdir / "restarts" / f"start-{i}" for i in range(run.recipe.restarts)]
  # The chief reads the files and chooses; other workers only see which starts diverged.
  categories_of, scores_of = _start_ranker(session) if job.is_chief else _NO_RANKER
  found = {}
  for index, start in enumerate(starts):
    try:
      _train_start(session, index, start)
    except DivergenceError as error:
      diverged = error
      job.say(f"Start {index + 1} diverged: {error}")
      continue
    found[index] = categories_of(start)
  if not found:
    raise diverged
  scores = scores_of(found)
  chosen = int(job.from_chief([np.int64(max(scores, key=scores.__getitem__))])[0])
  job.say(f"Start {chosen + 1} goes on: {_SCORES[run.recipe.restart_score](scores[chosen])}.")
  done = fitting.progress(job, starts[chosen])
  model = fitting.model_after(session, starts[chosen], run.seed, done)
  if job.is_chief:
    listed = [scores.get(index) for index in range(len(starts))]  # null: diverged
    files.write_json(
        workdir / "restarts" / "scores.json", {"scores": listed, "chosen": chosen}
    )
    run_folder.write_history(workdir, run_folder.read_history(starts[chosen]))
    _show_start(workdir / "tensorboard", starts[chosen].name)
    run_folder.save_checkpoint(model, workdir, done.epochs)
  return model, done


# The figures that rank starts without labels, each with a function that words its value.
_SCORES: dict[str, Callable[[float], str]] = {
    "neighbors": lambda score: f"neighbours share {score:.3f} nats of y",
    "agreement": lambda score: f"its NMI with the other starts is {score:.3f} on average",
}
_CategoriesOf = Callable[[pathlib.Path], np.ndarray | None]
_ScoresOf = Callable[[dict[int, Any]], dict[int, float]]
_NO_RANKER: tuple[_CategoriesOf, _ScoresOf] = (
    lambda folder: None, lambda found: dict.fromkeys(found, 0.0)
)


def _start_ranker(session: fitting.Session) -> tuple[_CategoriesOf, _ScoresOf]:
  """Two functions: the first gives the categories of a start's folder, the second their scores.

  Scores are `label_free.neighbor_information` or, if the recipe's restart_score is "agreement",
  `label_free.agreement`.
  """
  run, data = session.run, session.data
  if run.recipe.restart_score == "agreement":
    x, neighbors = data.sample("train", dataset_information.MAX_CODES, run.seed), None
  else:
    x, neighbors = label_free.neighborhood(data, "train", run.seed)

  def categories_of(folder: pathlib.Path) -> np.ndarray:
    model = run_folder.load_keras(fitting.saved_in(folder).path)
    return model.encode(x)["y"].argmax(axis=1)

  def scores_of(found: dict[int, np.ndarray]) -> dict[int, float]:
    if neighbors is None:
      return dict(zip(found, label_free.agreement(list(found.values()))))
    return {i: label_free.neighbor_information(c, neighbors) for i, c in found.items()}

  return categories_of, scores_of


def _show_start(board: pathlib.Path, name: str) -> None:
  """Copies TensorBoard's files of the chosen start to the run, like its history.csv."""
  for path in event_file.paths(board):
    path.unlink()
  for path in event_file.paths(board / name):
    shutil.copy(path, board)


def _train_start(session: fitting.Session, index: int, folder: pathlib.Path) -> None:
  """Trains a start to its last epoch, from its checkpoint if it has one."""
  run = session.run
  epochs = _start_epochs(run)
  done = fitting.progress(session.job, folder)
  if done.epochs >= epochs:
    return
  session.job.say(f"Start {index + 1} of {run.recipe.restarts}, {epochs} epochs:")
  seed = _start_seed(run.seed, index)
  model = fitting.model_after(session, folder, seed, done)
  board = session.workdir / "tensorboard" / folder.name
  fitting.fit(session, model, seed, done, epochs, folder, board, last_epoch_alone=True)


def _start_epochs(run: Run) -> int:
  return min(run.recipe.restart_epochs, run.recipe.epochs)


def _start_seed(seed: int, index: int) -> int:
  """The seed of a start; start 0 has the run's own, like a run without several starts."""
  return seed + 1000 * index


def versions() -> dict[str, str]:
  """The versions that decide the figures: {package: version}."""
  names = ("imae_tf", "tensorflow", "keras", "tensorflow-probability", "numpy")
  return {name: importlib.metadata.version(name) for name in names}


def config_of(run: Run, data: pipelines.ImageData) -> dict[str, Any]:
  """The content of config.json for a `Run` on its `pipelines.ImageData`, without the format."""
  config = dataclasses.asdict(run)
  config.pop("recipe")
  config.pop("reading")
  recipe = recipes.settings(run.recipe, run.method)
  return {
      **config,
      "recipe": run.recipe_name,
      "epochs": recipe.pop("epochs"),
      "settings": recipe,
      "image_shape": list(data.image_shape),
      **run_data.about(run.reading, data),
      "versions": versions(),
  }

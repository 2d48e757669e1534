"""Fits a model, new or from its newest checkpoint: a kill loses an epoch, or 50 steps, at most.

`training.runs` calls these functions for the run itself and for its short starts.
"""

import dataclasses
import functools
import pathlib
import threading
import weakref
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING

import keras
import numpy as np

from imae_tf import recipes
from imae_tf._shared import extras
from imae_tf.data import pipelines
from imae_tf.errors import InputError
from imae_tf.training import callbacks
from imae_tf.training import distribution
from imae_tf.training import run_folder
from imae_tf.training import tensorboard

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder
  from imae_tf.networks import View
  from imae_tf.training import runs


_ADAPTED_TO = 4_096  # training images by which a view is standardised
_ADAPTED: "weakref.WeakKeyDictionary[pipelines.ImageData, dict[str, Any]]" = (
    weakref.WeakKeyDictionary()
)


@dataclasses.dataclass(frozen=True)
class Session:
  """The objects that the functions of a training share.

  Attributes:
    run: the `runs.Run`.
    data: images of the run.
    workdir: folder of the run.
    job: the processes that train it.
    stop_asked: function that says whether SIGTERM came.
    progress: whether progress is shown.
    watched: (x, labels) of `callbacks.Watch`, or None.
    starts_at_once: number of starts that train side by side.
    abandoned: set when another start of the run was interrupted.
  """

  run: "runs.Run"
  data: pipelines.ImageData
  workdir: pathlib.Path
  job: distribution.Job
  stop_asked: Callable[[], bool]
  progress: bool
  watched: pipelines.Arrays | None
  starts_at_once: int = 1
  abandoned: threading.Event = dataclasses.field(default_factory=threading.Event)

  def stops(self) -> bool:
    """Whether training is asked to save its state and to end."""
    return self.stop_asked() or self.abandoned.is_set()

  @functools.cached_property
  def shown(self) -> np.ndarray | None:
    """Training images for the pictures of TensorBoard; None if there are several workers."""
    if self.job.num_workers > 1:
      return None
    without = extras.missing("report")
    if without:
      self.job.say(
          f"TensorBoard gets no pictures, which need {without}; to have them, run pip install"
          " 'imae_tf[report]'."
      )
      return None
    return self.data.sample("train", tensorboard.IMAGES, self.run.seed)


class Done(NamedTuple):
  """The progress of a folder's newest checkpoint: finished epochs, and steps of the next one."""

  epochs: int
  steps: int


def progress(job: distribution.Job, folder: pathlib.Path) -> Done:
  """The progress of a folder, as the chief sees it."""
  saved = run_folder.newest_checkpoint(folder) if job.is_chief else None
  done = [saved.epochs, saved.steps] if saved else [0, 0]
  return Done(*map(int, job.from_chief([np.array(done, np.int64)])[0]))


def saved_in(folder: pathlib.Path) -> run_folder.Checkpoint:
  """The newest checkpoint of a folder that has one."""
  saved = run_folder.newest_checkpoint(folder)
  assert saved is not None
  return saved


def model_after(
    session: Session, folder: pathlib.Path, seed: int, done: Done
) -> "HybridAutoencoder":
  """The model of a folder's newest checkpoint, or a new one, in the job's strategy."""
  job = session.job
  with job.strategy.scope():
    model = new_model(session.run, session.data, seed)
    model.optimizer.build(model.trainable_variables)
  if done.epochs or done.steps:
    saved = _saved_state(saved_in(folder).path, model) if job.is_chief else _state(model)
    _restore(model, job.from_chief(saved))
  return model


def new_model(run: "runs.Run", data: pipelines.ImageData, seed: int) -> "HybridAutoencoder":
  """An untrained model of a run; a view is adapted to the images."""
  keras.utils.set_random_seed(seed)
  model = recipes.build(
      run.recipe,
      data.image_shape,
      num_categories=run.num_categories,
      latent_dim=run.latent_dim,
      seed=seed,
      steps_per_epoch=data.steps_per_epoch(run.recipe.batch_size),
      method=run.method,
  )
  if model.category_layers.view is not None:
    _adapt(model.category_layers.view, run.recipe.view, data)
  return model


def _adapt(view: "View", name: str, data: pipelines.ImageData) -> None:
  """Standardises a view by training images, which are looked at once."""
  known = _ADAPTED.setdefault(data, {})
  if name not in known:
    view.adapt(data.sample("train", _ADAPTED_TO, seed=0))
    known[name] = view.get_weights()
  view.set_weights(known[name])


def _saved_state(
    path: pathlib.Path, model: "HybridAutoencoder"
) -> list[np.ndarray | np.generic]:
  """The `_state` of a checkpoint, checked to fit a model."""
  loaded = run_folder.load_keras(path)
  saved = _state(loaded) if loaded.optimizer else [np.int64(loaded.seed), *loaded.get_weights()]
  if [array.shape for array in saved] != [array.shape for array in _state(model)]:
    raise InputError(
        f"expected a checkpoint of this run, with its optimizer, in {path}, got weights of other"
        " networks or optimizers; restore it, or move it out of the folder: the same imae-train"
        " command then goes on from an older one."
    )
  return saved


def _state(model: "HybridAutoencoder") -> list[np.ndarray | np.generic]:
  """The state from which a model goes on, as arrays; with the seed, as each start has its own."""
  return [np.int64(model.seed), *(v.numpy() for v in _variables(model))]


def _variables(model: "HybridAutoencoder") -> list[keras.Variable]:
  """Weights and what the optimizer counts: not its rate, which the recipe says.

  In checkpoints of earlier versions a rate was never a variable.
  """
  optimizer = model.optimizer
  rate = optimizer.learning_rate
  return [*model.weights, *(v for v in optimizer.variables if v is not rate)]


def _restore(model: "HybridAutoencoder", state: Sequence[Any]) -> None:
  seed, *values = state
  model.seed = int(seed)
  for variable, value in zip(_variables(model), values, strict=True):
    variable.assign(value)


def in_float32(
    model: "HybridAutoencoder", run: "runs.Run", data: pipelines.ImageData
) -> "HybridAutoencoder":
  """The model in float32, for use after training: a lower precision only makes training faster."""
  if run.recipe.precision == "float32":
    return model
  recipe = dataclasses.replace(run.recipe, precision="float32")
  full = new_model(dataclasses.replace(run, recipe=recipe), data, model.seed)
  full.optimizer.build(full.trainable_variables)
  _restore(full, _state(model))
  return full


# ---- fitting -----------------------------------------------------------------------------------


def fit(
    session: Session,
    model: "HybridAutoencoder",
    seed: int,
    done: Done,
    epochs: int,
    folder: pathlib.Path,
    board: pathlib.Path | None,
    last_epoch_alone: bool = False,
) -> None:
  """Fits from `done` to the end of epoch `epochs`, keeping its progress in `folder`.

  Without a `board` nothing is shown, in TensorBoard or in the terminal.
  """
  steps = session.data.steps_per_epoch(session.run.recipe.batch_size)
  spans = [(done, epochs, steps)]
  if done.steps:  # first the rest of the epoch
    rest = (done, done.epochs + 1, steps - done.steps)
    spans = [rest, (Done(done.epochs + 1, 0), epochs, steps)]
  for start, end, steps_per_epoch in spans:
    if start.epochs < end:
      keepers = [_keeper(session, model, start, folder, last_epoch_alone)]
      if session.job.is_chief and board:
        shown = [callbacks.Progress(epochs)] if session.progress else []
        watch = [callbacks.Watch(*session.watched)] if session.watched else []
        keepers = [*watch, *shown, _board(session, board, epochs), *keepers]
      _fit_span(session, model, seed, start, end, steps_per_epoch, keepers)


def _board(session: Session, folder: pathlib.Path, epochs: int) -> tensorboard.Board:
  return tensorboard.Board(
      folder,
      session.shown,
      watched=session.watched,
      class_names=session.data.class_names,
      epochs=epochs,
  )


def _fit_span(
    session: Session,
    model: "HybridAutoencoder",
    seed: int,
    start: Done,
    end: int,
    steps_per_epoch: int,
    keepers: list[keras.callbacks.Callback],
) -> None:
  model.fit(
      session.job.train_batches(
          session.data,
          session.run.recipe.batch_size,
          seed=seed,
          initial_epoch=start.epochs,
          initial_step=start.steps,
      ),
      steps_per_epoch=steps_per_epoch,
      initial_epoch=start.epochs,
      epochs=end,
      shuffle=False,  # the data are shuffled already, by (seed, epoch)
      verbose=0,
      callbacks=[callbacks.StopOnNonFinite(), *keepers],
  )


def _keeper(
    session: Session,
    model: "HybridAutoencoder",
    start: Done,
    folder: pathlib.Path,
    last_epoch_alone: bool,
) -> callbacks.RunKeeper:
  log_sums = None
  if start.steps:
    names = [metric.name for metric in model.metrics]
    sums = np.zeros([len(names), 2])
    if session.job.is_chief:
      saved = saved_in(folder).log_sums()
      sums = np.array([saved[name] for name in names])
    log_sums = dict(zip(names, session.job.from_chief([sums])[0].tolist()))
  return callbacks.RunKeeper(
      folder,
      session.job,
      first_step=start.steps,
      log_sums=log_sums,
      last_epoch_alone=last_epoch_alone,
      stop_asked=session.stops,
  )

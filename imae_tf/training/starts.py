"""Short starts of a run: trains them, ranks them without labels, and goes on from them.

The best start goes on as the run; or the starts vote, and a new model learns their votes.
`runs.train` calls `chosen`.
"""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from imae_tf._shared import event_file
from imae_tf._shared import files
from imae_tf.errors import DivergenceError
from imae_tf.errors import InputError
from imae_tf.metrics import dataset_information
from imae_tf.metrics import label_free
from imae_tf.models import smoothness
from imae_tf.recipes import deriving
from imae_tf.training import category_starts
from imae_tf.training import fitting
from imae_tf.training import run_folder
from imae_tf.training import teachers

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder
  from imae_tf.training import runs

_MIXTURE_STEPS = 200  # of a start that begins at a mixture
_LEAST_INFORMATION = 0.1  # of ln K2: a start with less has collapsed
_LEAST_VOTERS = 3
# Figures that rank starts without labels, each with a function that words its value.
_SCORES: dict[str, Callable[[float], str]] = {
    "neighbors": lambda score: f"neighbours share {score:.3f} nats of y",
    "agreement": lambda score: f"its NMI with the other starts is {score:.3f} on average",
    "ratio": lambda score: f"neighbours share {score:.0%} of the entropy of y",
}


def check(run: "runs.Run") -> None:
  """Raises an `InputError` unless the settings of the starts fit together."""
  recipe = run.recipe
  if run.recipe_name == "auto" and run.method != "imae":
    raise InputError(
        f"expected the method imae for the recipe auto, got {run.method}; give the recipe tuned."
    )
  if recipe.restarts > 1 and recipe.restart_epochs < 1:
    raise InputError(
        f"expected restart_epochs of 1 or more for {recipe.restarts} restarts, got"
        f" {recipe.restart_epochs}; give --restart_epochs, 25 for example."
    )
  if recipe.restart_score not in _SCORES:
    raise InputError(
        f"expected restart_score among {', '.join(_SCORES)}, got {recipe.restart_score!r};"
        " give one of them."
    )
  towers = recipe.network == "towers"
  for name in ("restart_categories", "restart_mixtures"):
    if getattr(recipe, name) and not towers:
      raise InputError(
          f"expected --network=towers for {name}, got {recipe.network}; give it, or leave {name}"
          " out."
      )
  if recipe.restart_categories and recipe.restarts > 1 and not recipe.restart_vote:
    raise InputError(
        "expected restart_vote with restart_categories, whose starts have no factors to go on"
        " with, got none; give --restart_vote."
    )
  for index in range(recipe.restarts):
    category_starts.recipe_of(run, index)


def chosen(session: fitting.Session) -> tuple["HybridAutoencoder", fitting.Done]:
  """Trains the starts that are not trained yet: (the model that goes on, its progress).

  Its checkpoint is the run's, unless votes teach a new model, which has made no step.
  """
  run, workdir, job = session.run, session.workdir, session.job
  if run.recipe.restart_vote:
    return _taught(session)
  folders = _trained(session)
  scores = dict.fromkeys(folders, 0.0)
  if job.is_chief:  # the others have no files
    x, neighbors = _looked_at(session)
    models = {i: run_folder.load_keras(fitting.saved_in(f).path) for i, f in folders.items()}
    scores = _scores(session, _categories(models, x), neighbors)
  best = int(job.from_chief([np.int64(max(scores, key=scores.__getitem__))])[0])
  job.say(f"Start {best + 1} goes on: {_SCORES[run.recipe.restart_score](scores[best])}.")
  done = fitting.progress(job, folders[best])
  model = fitting.model_after(_session_of(session, best), folders[best], run.seed, done)
  if job.is_chief:
    _keep_scores(session, scores, best)
    run_folder.write_history(workdir, run_folder.read_history(folders[best]))
    _show_start(workdir / "tensorboard", folders[best].name)
    run_folder.save_checkpoint(model, workdir, done.epochs)
  return model, done


def teach_again(session: fitting.Session, model: "HybridAutoencoder") -> None:
  """Gives the votes of the run's starts to a model that goes on after an interruption."""
  if session.run.recipe.restarts > 1 and session.run.recipe.restart_vote:
    _teach(session, model)


# ---- training ------------------------------------------------------------------------------------


def _trained(session: fitting.Session) -> dict[int, pathlib.Path]:
  """Trains whole models as starts, one after the other: {index: folder}, none diverged."""
  run, job = session.run, session.job
  folders, failed = {}, {}
  for i in range(run.recipe.restarts):
    folder = session.workdir / "restarts" / f"start-{i}"
    try:
      _train_start(session, i, folder)
      folders[i] = folder
    except DivergenceError as error:
      failed[i] = error
      job.say(f"Start {i + 1} diverged: {error}")
  if not folders:
    raise next(iter(failed.values()))
  return folders


def _session_of(session: fitting.Session, index: int) -> fitting.Session:
  """The session of a start."""
  recipe = category_starts.recipe_of(session.run, index)
  return dataclasses.replace(session, run=dataclasses.replace(session.run, recipe=recipe))


def _train_start(session: fitting.Session, index: int, folder: pathlib.Path) -> None:
  """Trains a start to its last epoch."""
  done, last = fitting.progress(session.job, folder), category_starts.epochs(session.run)
  if done.epochs >= last:
    return
  of_start, seed = _session_of(session, index), category_starts.seed_of(session.run, index)
  model = fitting.model_after(of_start, folder, seed, done)
  session.job.say(f"Start {index + 1} of {session.run.recipe.restarts}, {last} epochs:")
  board = session.workdir / "tensorboard" / folder.name
  fitting.fit(of_start, model, seed, done, last, folder, board, last_epoch_alone=True)


def _show_start(board: pathlib.Path, name: str) -> None:
  """Copies TensorBoard's files of the chosen start to the run, like its history.csv."""
  for path in event_file.paths(board):
    path.unlink()
  for path in event_file.paths(board / name):
    shutil.copy(path, board)


# ---- ranking -------------------------------------------------------------------------------------


def _looked_at(session: fitting.Session) -> tuple[np.ndarray, np.ndarray | None]:
  """Training images [N, H, W, C] that rank the starts, and for their figure the nearest of some."""
  data, seed = session.data, session.run.seed
  if session.run.recipe.restart_score == "agreement":
    return data.sample("train", dataset_information.MAX_CODES, seed), None
  return label_free.neighborhood(data, "train", seed)


def _categories(
    models: dict[int, "HybridAutoencoder"], x: np.ndarray
) -> dict[int, np.ndarray]:
  """argmax p(y|x) [N] of each model."""
  return {i: model.encode(x)["y"].argmax(axis=1) for i, model in models.items()}


def _scores(
    session: fitting.Session, categories: dict[int, np.ndarray], neighbors: np.ndarray | None
) -> dict[int, float]:
  """The figure that ranks each start: {index: value}, more is better."""
  if neighbors is None:
    return dict(zip(categories, label_free.agreement(list(categories.values()))))
  is_ratio = session.run.recipe.restart_score == "ratio"
  of = deriving.ratio if is_ratio else label_free.neighbor_information
  return {i: of(found, neighbors) for i, found in categories.items()}


def _keep_scores(session: fitting.Session, scores: dict[int, float], best: int) -> None:
  listed = [scores.get(index) for index in range(session.run.recipe.restarts)]  # null: diverged
  files.write_json(
      session.workdir / "restarts" / "scores.json", {"scores": listed, "chosen": best}
  )


# ---- votes ---------------------------------------------------------------------------------------


def _taught(session: fitting.Session) -> tuple["HybridAutoencoder", fitting.Done]:
  model = fitting.model_after(session, session.workdir, session.run.seed, fitting.Done(0, 0))
  _teach(session, model)
  return model, fitting.Done(0, 0)


def _teach(session: fitting.Session, model: "HybridAutoencoder") -> None:
  """Makes the votes of the starts the lesson of a model.

  All vote on their consensus, the better half twice. Where classes are of unequal size, which
  spectral clustering would even out, the better half votes on the categories of the best.
  """
  recipe, job = session.run.recipe, session.job
  if recipe.restart_categories:
    views, models = category_starts.trained(session, model)
    seen = views.seen[: dataset_information.MAX_CODES]
    categories = {
        i: m.category_layers.log_y(seen, training=False).numpy().argmax(axis=1)
        for i, m in models.items()
    }
    agreement = recipe.restart_score == "agreement"
    neighbors = None if agreement else label_free.nearest_images(seen.numpy(), count=10)
  else:
    models = {i: _voter(session, i, folder) for i, folder in _trained(session).items()}
    x, neighbors = _looked_at(session)
    categories = _categories(models, x)
  scores = _scores(session, categories, neighbors)
  limit = _LEAST_INFORMATION * np.log(session.run.num_categories)
  full = [i for i in scores if _information(categories[i]) >= limit] or list(scores)
  ranked = sorted(full, key=scores.__getitem__, reverse=True)
  better = ranked[: max(_LEAST_VOTERS, (len(ranked) + 1) // 2)]
  if recipe.restart_score == "ratio":
    voters, weights, reference = better, [1] * len(better), categories[better[0]]
  else:
    voters, weights = ranked, [2 if i in better else 1 for i in ranked]
    reference = teachers.consensus(
        [categories[i] for i in ranked + better], session.run.num_categories, session.run.seed
    )
  targets = teachers.votes(
      [models[i] for i in voters], [categories[i] for i in voters], reference, weights
  )
  model.lesson = smoothness.Lesson(targets, steps=np.iinfo(np.int32).max)
  for i in sorted(set(scores) - set(full)):
    job.say(f"Start {i + 1} has collapsed: its categories say almost nothing; others go on.")
  names = ", ".join(str(i + 1) for i in voters)
  who = f"Starts {names} vote" if len(voters) > 1 else f"Start {names} alone votes"
  job.say(
      f"{who} on the categories; of the first, {_SCORES[recipe.restart_score](scores[voters[0]])}."
  )
  if job.is_chief:
    _keep_scores(session, scores, voters[0])


def _information(categories: np.ndarray) -> float:
  counts = np.bincount(categories) / len(categories)
  return float(-np.sum(counts * np.log(np.maximum(counts, 1e-12))))


def _voter(session: fitting.Session, index: int, folder: pathlib.Path) -> "HybridAutoencoder":
  """The trained model of a start, on every worker."""
  done = fitting.progress(session.job, folder)
  return fitting.model_after(_session_of(session, index), folder, 0, done)

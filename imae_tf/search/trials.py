"""Trains and measures a trial of a search: one or more runs with the same weights.

`search.driver` calls `Trainer.train` for each trial.
"""

import dataclasses
import os
import pathlib
import shutil
import statistics
import time
from typing import Any

import keras
import tensorflow as tf

from imae_tf._shared import files
from imae_tf._shared import program
from imae_tf.data import loading
from imae_tf.data import pipelines
from imae_tf.errors import DivergenceError
from imae_tf.errors import first_line
from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.errors import InUseError
from imae_tf.errors import Preempted
from imae_tf.metrics import label_free
from imae_tf.search import hypermodel
from imae_tf.training import runs

# What TensorFlow raises for files that are gone or damaged.
_OF_FILES = (tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.DataLossError)
# These errors end the search, because the weights of a trial are not the cause.
_NOT_OF_THE_TRIAL = (InUseError, OSError, Preempted, *_OF_FILES)


@dataclasses.dataclass(frozen=True)
class Search:
  """The content of `search.json`: everything that decides the trials.

  Attributes:
    run: the `runs.Run` that every trial varies; its seed is the seed of run-0.
    space: the space, as `hypermodel.space` returns it.
    tuner: "random", "bayesian" or "hyperband".
    executions_per_trial: number of runs in a trial, with consecutive seeds; the score of the trial
      is their mean.
  """

  run: runs.Run
  space: hypermodel.Space
  tuner: str
  executions_per_trial: int

  @property
  def split(self) -> str:
    """The split on which trials are measured; never the test images."""
    return "holdout" if self.run.holdout else "train"


class Trainer:
  """Trains trials of a search.

  Args:
    search: `Search`.
    data: its images.
    workdir: its folder.
  """

  def __init__(self, search: Search, data: pipelines.ImageData, workdir: pathlib.Path):
    self._search = search
    self._data = data
    self._workdir = workdir
    self._known = data.fingerprint()
    self._looked_at: tuple[Any, Any] | None = None  # images to measure on, and their neighbours

  def train(self, trial_id: str, values: dict[str, Any]) -> dict[str, float] | None:
    """Trains the runs of a trial, or goes on with them.

    Args:
      trial_id: id of the trial, the name of its folder.
      values: {name of `hypermodel.SPACE`: value}, and keras-tuner's own names.

    Returns:
      The means over its runs of the figures of `hypermodel.measure`. None if the trial failed; its
      failed.json then has the reason.

    Raises:
      InputError: the images are gone, or are others than when the search began.
    """
    folder = self._workdir / "trials" / trial_id
    weights = ", ".join(f"{name} {_short(values[name])}" for name in self._search.space)
    program.say(f"Trial {trial_id}: {weights}")
    try:
      seeds = range(self._search.executions_per_trial)
      figures = mean([self._execute(values, folder / f"run-{i}", i) for i in seeds])
    except _OF_FILES as error:
      raise self._lost(error) from error
    except _NOT_OF_THE_TRIAL:
      raise
    except Exception as error:
      if not isinstance(error, DivergenceError):
        self._check_images()
      reason = _reason(error)
      files.write_json(folder / "failed.json", {"reason": reason})
      program.say(f"Trial {trial_id} failed: {reason}")
      return None
    score = figures[hypermodel.OBJECTIVE]
    program.say(f"Trial {trial_id}: {hypermodel.OBJECTIVE} {score:.4f} nats")
    return figures

  def _check_images(self) -> None:
    """Raises an InputError if the images are not there as they were: no weights are the cause."""
    run = self._search.run
    try:
      now = loading.opened(
          run.dataset, run.reading, holdout=run.holdout, say=lambda line: None
      ).fingerprint()
    except (InputError, OSError, tf.errors.OpError) as error:
      raise self._lost(error) from error
    if now != self._known:
      raise self._lost(f"{now['n']} images, others than the {self._known['n']} before")

  def _lost(self, why: object) -> InputError:
    why = str(why).partition(";")[0] if isinstance(why, InputError) else first_line(why)
    return InputError(
        f"expected the images of {self._search.run.dataset} until the search ends, got: {why};"
        " put them back, and give the same command again."
    )

  def _execute(self, values: dict[str, Any], folder: pathlib.Path, index: int) -> dict[str, float]:
    """Trains one run of a trial; returns its figures, from the disk if it was finished before."""
    path = folder / "figures.json"
    if path.exists():
      return files.read_json(path)["figures"]
    before = _seconds_before(folder)
    started = time.monotonic()
    run = self._variant(values, index)
    if values.get("tuner/trial_id"):  # Hyperband: the same run, given more epochs
      _copy_run(self._workdir / "trials" / values["tuner/trial_id"] / folder.name, folder)
    keras.backend.clear_session()
    model = runs.train(run, folder, progress=False, data=self._data)
    if self._looked_at is None:
      self._looked_at = label_free.neighborhood(
          self._data, self._search.split, self._search.run.seed
      )
    figures = hypermodel.measure(model, *self._looked_at)
    seconds = before + time.monotonic() - started
    files.write_json(path, {"figures": figures, "epochs": run.recipe.epochs, "seconds": seconds})
    _attempts(folder).unlink()
    return figures

  def _variant(self, values: dict[str, Any], index: int) -> runs.Run:
    run = self._search.run
    recipe, num_categories, latent_dim = hypermodel.chosen(
        values, run.recipe, run.num_categories, run.latent_dim
    )
    return dataclasses.replace(
        run,
        recipe=dataclasses.replace(recipe, epochs=values.get("tuner/epochs", recipe.epochs)),
        num_categories=num_categories,
        latent_dim=latent_dim,
        seed=run.seed + index,
    )


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
  """{name: mean over the runs} of their figures."""
  return {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}


def _attempts(folder: pathlib.Path) -> pathlib.Path:
  """The file beside an unfinished run that tells how long earlier attempts at it took."""
  return folder.with_name(f"{folder.name}.json")


def _seconds_before(folder: pathlib.Path) -> float:
  """Seconds of earlier attempts at a run; notes that another begins.

  An attempt that was killed counts up to the last file that it wrote: what came then is done again.
  """
  path, seconds = _attempts(folder), 0.0
  if path.exists():
    last = files.read_json(path, "delete it")
    written = [found.stat().st_mtime for found in folder.rglob("*") if found.is_file()]
    seconds = last["seconds"] + max(0.0, max(written, default=0.0) - last["began"])
  files.write_json(path, {"began": time.time(), "seconds": seconds})
  return seconds


def _copy_run(source: pathlib.Path, folder: pathlib.Path) -> None:
  """Copies a run's folder, whole or not at all."""
  if folder.exists():
    return
  temporary = folder.with_name(f".tmp-{folder.name}")
  shutil.rmtree(temporary, ignore_errors=True)
  shutil.copytree(source, temporary, ignore=shutil.ignore_patterns("figures.json", ".lock"))
  os.replace(temporary, folder)


def _reason(error: Exception) -> str:
  text = str(error) if isinstance(error, ImaeError) else (
      f"{type(error).__name__}: {first_line(error)}"
  )
  return " ".join(text.split())


def _short(value: Any) -> str:
  return f"{value:.4g}" if isinstance(value, float) else str(value)

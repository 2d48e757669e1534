"""A search in a folder: keras-tuner chooses the weights, each trial is runs of their own.

    search.json  trials.json  report.html  best -> trials/07/run-1
    trials/07/events.out...      the trial in TensorBoard's HPARAMS table
    trials/07/run-0/ ...         workdirs of imae-train, with figures.json: what `measure` found
    keras_tuner/                 keras-tuner's own state
    workers/                     locks of the workers that share the search

Everything is written atomically and in an order that a kill at any point leaves a search that
goes on: a trial that had begun is taken up where its run stopped, none is lost or repeated.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import statistics
import sys
import time
from typing import Any

import grpc
import keras
import keras_tuner
from keras_tuner.src import config

from imae_tf import recipes
from imae_tf._shared import files
from imae_tf._shared import formats
from imae_tf.data import loading
from imae_tf.errors import first_line
from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.errors import Preempted
from imae_tf.errors import SearchError
from imae_tf.metrics import dataset_information
from imae_tf.metrics import label_free
from imae_tf.search import hparams
from imae_tf.search import hypermodel
from imae_tf.search import oracle as oracles
from imae_tf.search import page
from imae_tf.training import run_folder
from imae_tf.training import runs

# Else a failed trial's stack is printed, too; its reason is what a user can mend.
config.DEBUG = False

FORMAT_VERSION = 1
_POLL_S = 0.5
_PATIENCE_S = 600
_ENVIRONMENT = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


@dataclasses.dataclass(frozen=True)
class Search:
  """What `search.json` says: everything that decides the trials.

  Attributes:
    run: the `runs.Run` of which every trial is a variant; its seed is that of run-0.
    space: as `hypermodel.space` returns it.
    tuner: "random", "bayesian" or "hyperband".
    executions_per_trial: runs of a trial, with seeds in a row; their mean is its score.
  """

  run: runs.Run
  space: hypermodel.Space
  tuner: str
  executions_per_trial: int


def search(
    search: Search, workdir: str | pathlib.Path, trials: int, command: str
) -> dict[str, Any] | None:
  """Searches until there are `trials` trials, or goes on with the search in a folder.

  With KERASTUNER_TUNER_ID, _ORACLE_IP and _ORACLE_PORT set it is keras-tuner's chief, which
  hands trials out, or one of the workers, which share the folder.

  Args:
    search: `Search`.
    workdir: its folder.
    trials: how many in all, failed ones included; an existing search may be given more.
    command: of the program, for the report.

  Returns:
    The content of trials.json; None in a worker.

  Raises:
    InputError: bad data or environment, or a folder that holds something else.
    SearchError: no trial was completed, or many failed in a row.
    Preempted: SIGTERM came; all is saved.
  """
  workdir = pathlib.Path(workdir)
  role = _role()
  data = loading.load(search.run.dataset, holdout=search.run.holdout)
  data.steps_per_epoch(search.run.recipe.batch_size)  # raises if the data do not fit
  if role == "worker":
    _say(f"Worker {os.environ['KERASTUNER_TUNER_ID']}: waiting for the chief's trials.")
    _await_start(search, workdir, trials)
    worker = workdir / "workers" / os.environ["KERASTUNER_TUNER_ID"]
    with _held(worker):  # by which the chief sees that this process lives
      _run_tuner(_Tuner(_oracle(search, trials), search, data, workdir))
    return None
  with run_folder.locked(workdir):
    _start(search, workdir, trials)
    oracle = _oracle(search, trials)
    oracle.worker_lives = None if role == "alone" else _worker_lives(workdir)
    tuner = _Tuner(oracle, search, data, workdir)
    oracle.ended = lambda: _write(oracle, search, data, workdir, trials, command)
    oracle.verbose = 0
    tuner.save()  # keras-tuner reads its state again only where this file is
    _run_tuner(tuner)
    if oracle.broken:
      raise oracle.broken
    found = _write(oracle, search, data, workdir, trials, command)
  if oracle.failures >= oracles.MOST_FAILURES_IN_A_ROW:
    reason = oracle.reason_of(oracle.end_order[-1], workdir).rstrip(".")
    raise SearchError(
        f"expected trials that train, got {oracle.failures} failed ones in a row; the last:"
        f" {reason}. Mend the cause and give the same command again, or another --search in"
        " another --workdir."
    )
  if found["best"] is None:
    raise SearchError(_nothing_completed(found))
  if len(found["trials"]) < trials:
    _say(f"The space holds no more to try than these {len(found['trials'])} trials.")
  return found


def _run_tuner(tuner):
  try:
    tuner.search()
  except _Stopped as stopped:
    raise stopped.__cause__ from None
  except grpc.RpcError as error:
    raise SearchError(
        f"expected keras-tuner's chief at {os.environ['KERASTUNER_ORACLE_IP']}:"
        f"{os.environ['KERASTUNER_ORACLE_PORT']}, got {first_line(error.details())}; start it"
        " again, then this worker: no trial is lost."
    ) from error
  except RuntimeError as error:
    if "Failed to bind" not in str(error):
      raise
    raise SearchError(
        f"expected a free address for the chief, got {first_line(error)}; give another"
        " KERASTUNER_ORACLE_PORT to all processes."
    ) from error


def _role():
  """alone, chief or worker, from keras-tuner's environment."""
  given = [name for name in _ENVIRONMENT if os.environ.get(name)]
  if not given:
    return "alone"
  if len(given) < len(_ENVIRONMENT):
    missing = sorted(set(_ENVIRONMENT) - set(given))
    raise InputError(
        f"expected all of {', '.join(_ENVIRONMENT)} or none, got no {', '.join(missing)}; set"
        " the id (chief, worker-0, ...) and the chief's address and port in each process."
    )
  return "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"


# ---- the folder -----------------------------------------------------------------------------


def _start(search, workdir, trials):
  """Claims the folder for this search, or checks that it holds this search."""
  config = _config(search, trials)
  path = workdir / "search.json"
  if not path.exists():
    others = sorted(p.name for p in workdir.glob("[!.]*"))
    if others:
      raise InputError(
          f"expected an empty folder or a search's folder, got {workdir} with {others[0]!r} and"
          " no search.json; give another --workdir."
      )
    files.write_json(path, config)
    return
  old = _same_search(path, config)
  if trials < old["trials"]:
    raise _another(workdir, [f"trials {old['trials']} -> {trials}"])
  files.write_json(path, {**old, "trials": trials})


def _await_start(search, workdir, trials):
  """Waits until the chief has claimed the folder, which must be for the same search."""
  path = workdir / "search.json"
  deadline = time.monotonic() + _PATIENCE_S
  while not path.exists():
    if time.monotonic() > deadline:
      raise SearchError(
          f"expected the chief's {path} within {_PATIENCE_S / 60:.0f} minutes, got none; start"
          " the chief, with a --workdir that this worker sees too."
      )
    time.sleep(_POLL_S)
  _same_search(path, _config(search, trials))


def _same_search(path, config):
  """The content of a search.json, which may differ from `config` in versions and trials."""
  old = files.read_json(path)
  formats.check(path, old, FORMAT_VERSION)
  ours, theirs = (
      {k: v for k, v in c.items() if k not in ("versions", "trials")}
      for c in (old, json.loads(json.dumps(config)))
  )
  differing = [
      f"{key} {ours.get(key)!r} -> {theirs.get(key)!r}"
      for key in sorted(ours.keys() | theirs.keys())
      if ours.get(key) != theirs.get(key)
  ]
  if differing:
    raise _another(path.parent, differing)
  return old


def _another(workdir, differing):
  return InputError(
      f"expected the search that {workdir} holds, in which --trials alone may differ, and"
      f" grow; got {'; '.join(differing)}. Give another --workdir."
  )


def _config(search, trials):
  run = dataclasses.asdict(search.run)
  return {
      "format": FORMAT_VERSION,
      **{key: run[key] for key in run if key not in ("recipe", "recipe_name")},
      "recipe": search.run.recipe_name,
      "settings": recipes.settings(search.run.recipe, search.run.method),
      "space": {name: dataclasses.asdict(part) for name, part in search.space.items()},
      "tuner": search.tuner,
      "executions_per_trial": search.executions_per_trial,
      "objective": hypermodel.OBJECTIVE,
      "trials": trials,
      "versions": runs.versions(),
  }


def _write(oracle, search, data, workdir, trials, command):
  """What the folder says of the search, from the oracle and the files of the trials."""
  trials_in_order = sorted(oracle.trials.values(), key=lambda trial: int(trial.trial_id))
  rows = [
      _row(oracle, trial, workdir, search.executions_per_trial) for trial in trials_in_order
  ]
  completed = [row for row in rows if row["status"] == "COMPLETED"]
  best = max(completed, key=lambda row: row["score"], default=None)
  split = _split(search.run)
  found = {
      "command": command,
      "dataset": search.run.dataset,
      "tuner": search.tuner,
      "objective": hypermodel.OBJECTIVE,
      "recipe": search.run.recipe_name,
      "epochs": search.run.recipe.epochs,
      "images": f"{min(data.size(split), dataset_information.MAX_CODES)} {split} images",
      "seeds": [search.run.seed + i for i in range(search.executions_per_trial)],
      "trials_asked": trials,
      "space": {name: _described(part) for name, part in search.space.items()},
      "best": best and best["id"],
      "trials": rows,
  }
  files.write_json(workdir / "trials.json", found)
  hparams.write(workdir, found)
  if best:
    _point(workdir / "best", _best_run(best))
  page.write(workdir / "report.html", found)
  return found


def _described(part):
  if isinstance(part, hypermodel.Choice):
    return {"values": list(part.values)}
  return {"low": part.low, "high": part.high, "sampling": "log"}


def _row(oracle, trial, workdir, executions_per_trial):
  status = trial.status
  if status == "RUNNING" and trial.trial_id not in oracle.running():
    status = "WAITING"
  folder = workdir / "trials" / trial.trial_id
  paths = (folder / f"run-{i}" / "figures.json" for i in range(executions_per_trial))
  executions = [files.read_json(path) for path in paths if path.exists()]
  done = status == "COMPLETED"
  scores = [e["figures"][hypermodel.OBJECTIVE] for e in executions]
  values = trial.hyperparameters.values
  return {
      "id": trial.trial_id,
      "status": status,
      "reason": oracle.reason_of(trial.trial_id, workdir) if status == "FAILED" else None,
      "weights": {name: value for name, value in values.items() if name in hypermodel.SPACE},
      "epochs": executions[-1]["epochs"] if executions else None,
      "score": statistics.fmean(scores) if done else None,
      "score_std": statistics.stdev(scores) if done and len(scores) > 1 else None,
      "seconds": sum(e["seconds"] for e in executions) if executions else None,
      "folder": f"trials/{trial.trial_id}",
      "figures": _mean([e["figures"] for e in executions]) if done else None,
      "executions": [e["figures"] for e in executions],
  }


def _mean(rows):
  return {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}


def _best_run(row):
  """The folder, relative to the search's, of the best trial's best run."""
  scores = [figures[hypermodel.OBJECTIVE] for figures in row["executions"]]
  return pathlib.Path(row["folder"]) / f"run-{scores.index(max(scores))}"


def _point(link, target):
  """Makes `link` a symbolic link to `target`, atomically."""
  temporary = link.with_name(f".tmp-{link.name}")
  temporary.unlink(missing_ok=True)
  temporary.symlink_to(target)
  os.replace(temporary, link)


def _nothing_completed(found):
  reasons = [row["reason"] for row in found["trials"] if row["reason"]]
  if not reasons:
    return (
        "expected a completed trial, got none: the space holds no values to try; widen --search,"
        " and give another --workdir."
    )
  return (
      f"expected a completed trial, got {len(reasons)} failed ones; the last:"
      f" {reasons[-1].rstrip('.')}. Mend the cause and give more --trials, or another --search"
      " in another --workdir."
  )


def _split(run):
  """The images on which trials are looked at; never the test images."""
  return "holdout" if run.holdout else "train"


def _say(text):
  print(text, file=sys.stderr, flush=True)


# ---- keras-tuner ----------------------------------------------------------------------------


def _oracle(search, trials):
  hp = keras_tuner.HyperParameters()
  run = search.run
  start = hypermodel.start_of(run.recipe, run.num_categories, run.latent_dim)
  hypermodel.declare(hp, search.space, start)
  return oracles.make(
      search.tuner,
      hp,
      hypermodel.objective(),
      trials=trials,
      epochs=run.recipe.epochs,
      seed=run.seed,
  )


class _Stopped(keras_tuner.errors.FatalError):
  """Ends the search in this process; the cause says why."""


class _Tuner(keras_tuner.engine.base_tuner.BaseTuner):
  """Runs the trials that the oracle hands out."""

  def __init__(self, oracle, search, data, workdir):
    self._search = search
    self._data = data
    self._workdir = workdir
    self._looked_at = None  # images and their neighbours, once there is something to look at
    with contextlib.redirect_stdout(None):  # "Reloading Tuner from ..."
      super().__init__(oracle, directory=str(workdir), project_name="keras_tuner")

  def search(self, *args, **kwargs):
    if not isinstance(self.oracle, oracles.Durable) or self.oracle.worker_lives is None:
      return super().search(*args, **kwargs)
    with self.oracle.watching():
      return super().search(*args, **kwargs)

  def pre_create_trial(self):
    if self._is_worker():
      time.sleep(_POLL_S)  # keras-tuner asks again at once while there is nothing to do

  def run_trial(self, trial):
    """Trains the runs of a trial; the mean of what `hypermodel.measure` finds."""
    folder = self._workdir / "trials" / trial.trial_id
    weights = {k: v for k, v in trial.hyperparameters.values.items() if k in hypermodel.SPACE}
    _say(f"Trial {trial.trial_id}: " + ", ".join(f"{k} {_short(v)}" for k, v in weights.items()))
    try:
      seeds = range(self._search.executions_per_trial)
      rows = [self._execute(trial, folder / f"run-{i}", i) for i in seeds]
    except (Preempted, OSError) as stopped:  # no fault of the weights
      raise _Stopped from stopped
    except Exception as error:
      self._fail(trial, folder, error)
    figures = _mean(rows)
    _say(f"Trial {trial.trial_id}: {hypermodel.OBJECTIVE} {figures[hypermodel.OBJECTIVE]:.4f} nats")
    return figures

  def _get_tuner_fname(self):
    """The same alone and as chief, so that one goes on with what the other began."""
    return super()._get_tuner_fname() if self._is_worker() else f"{self.project_dir}/tuner.json"

  def save(self):
    if not self._is_worker():
      self.oracle.save()
    files.write_json(self._get_tuner_fname(), self.get_state())

  def _execute(self, trial, folder, index):
    """One run of a trial: its figures, those on disk if it was finished before."""
    path = folder / "figures.json"
    if path.exists():
      return files.read_json(path)["figures"]
    started = time.monotonic()
    values = trial.hyperparameters.values
    run = self._variant(values, index)
    if values.get("tuner/trial_id"):  # Hyperband: the same run, given more epochs
      _copy_run(self._workdir / "trials" / values["tuner/trial_id"] / folder.name, folder)
    keras.backend.clear_session()
    model = runs.train(run, folder, progress=False)
    if self._looked_at is None:
      self._looked_at = label_free.neighborhood(self._data, _split(run), self._search.run.seed)
    figures = hypermodel.measure(model, *self._looked_at)
    seconds = time.monotonic() - started
    files.write_json(
        path, {"figures": figures, "epochs": run.recipe.epochs, "seconds": seconds}
    )
    return figures

  def _variant(self, values, index):
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

  def _fail(self, trial, folder, error):
    reason = str(error) if isinstance(error, ImaeError) else (
        f"{type(error).__name__}: {first_line(error)}"
    )
    reason = " ".join(reason.split())
    # keras-tuner's messages between processes have no room for it.
    files.write_json(folder / "failed.json", {"reason": reason})
    _say(f"Trial {trial.trial_id} failed: {reason}")
    raise keras_tuner.errors.FailedTrialError(reason) from error


def _copy_run(source, folder):
  """A copy of a run's folder, whole or not at all."""
  if folder.exists():
    return
  temporary = folder.with_name(f".tmp-{folder.name}")
  shutil.rmtree(temporary, ignore_errors=True)
  shutil.copytree(source, temporary, ignore=shutil.ignore_patterns("figures.json", ".lock"))
  os.replace(temporary, folder)


def _short(value):
  return f"{value:.4g}" if isinstance(value, float) else str(value)


# ---- chief and workers ----------------------------------------------------------------------


@contextlib.contextmanager
def _held(folder, tries=10):
  """`run_folder.locked`, tried again: the chief's look at a lock takes it for an instant."""
  with contextlib.ExitStack() as stack:
    for i in range(tries):
      try:
        stack.enter_context(run_folder.locked(folder))
        break
      except InputError:
        if i + 1 == tries:
          raise
        time.sleep(_POLL_S)
    yield


def _worker_lives(workdir):
  """A function that tells of a worker's id whether some process holds its lock."""

  def lives(tuner_id):
    try:
      with run_folder.locked(workdir / "workers" / tuner_id):
        return False
    except InputError:
      return True

  return lives

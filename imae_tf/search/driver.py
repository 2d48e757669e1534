"""Runs a search in a folder: keras-tuner proposes weights, and each trial trains runs with them.

`imae-tune` calls `search`. The folder holds:

    search.json  trials.json  report.html  best -> trials/07/run-1
    trials/07/events.out...      the trial in TensorBoard's HPARAMS table
    trials/07/run-0.json         when run-0 began, until it is finished
    trials/07/run-0/ ...         workdirs of imae-train, with figures.json from `measure`
    keras_tuner/                 keras-tuner's own state
    locks/                       locks of the processes that share the work
    processes/2.log              what the second of them prints

Several processes with the same command and folder share a search. A process that wants a trial
locks the folder for a moment, asks keras-tuner, writes its state and locks the trial. Then it
trains the trial. All files are written atomically, and in such an order that a search can go on
after a kill at any point: a trial that had begun goes on where its run stopped, and no trial is
lost or repeated.
"""

import contextlib
import dataclasses
import os
import pathlib
import statistics
import time
from typing import Any

import keras_tuner

from imae_tf import recipes
from imae_tf._shared import files
from imae_tf._shared import formats
from imae_tf._shared import locks
from imae_tf._shared import paths
from imae_tf._shared import program
from imae_tf._shared.side_by_side import Shared
from imae_tf.data import loading
from imae_tf.data import pipelines
from imae_tf.errors import InputError
from imae_tf.errors import InUseError
from imae_tf.errors import SearchError
from imae_tf.metrics import dataset_information
from imae_tf.search import hparams
from imae_tf.search import hypermodel
from imae_tf.search import oracle as oracles
from imae_tf.search import page
from imae_tf.search import trials as trial_runs
from imae_tf.search.trials import Search
from imae_tf.training import run_folder
from imae_tf.training import runs

FORMAT_VERSION = 1
MOST_FAILURES_IN_A_ROW = 3
_NOT_OF_A_SEARCH = ("recipe", "recipe_name", "reading", "changes")
_POLL_S = 1.0
_PATIENCE_S = 600.0  # other processes lock the folder for about a second
_OF_KERAS_TUNER = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


def search(
    search: Search,
    workdir: str | pathlib.Path,
    trials: int,
    command: str,
    shared: Shared = contextlib.nullcontext,
) -> dict[str, Any]:
  """Searches until there are `trials` trials; goes on with the search if the folder has one.

  Processes with the same search and folder take different trials. Each waits until the last trial
  has ended; if the process that trains a trial ends, another takes it over.

  Args:
    search: `Search`.
    workdir: folder of the search.
    trials: number of trials in all, failed ones included; it may grow for an existing search.
    command: command of the program, for the report.
    shared: makes a context in which other processes take some of the trials, and at whose end they
      have ended; `side_by_side.sharing` for one.

  Returns:
    The content of trials.json.

  Raises:
    InputError: bad data or environment, or a folder that holds something else.
    SearchError: no trial was completed, or many failed in a row.
    Preempted: SIGTERM came; all is saved.
  """
  workdir = paths.folder(workdir, "a workdir")
  _check_environment()
  _check_free(workdir)  # before the images' cache is made in it
  data = loading.opened(search.run.dataset, search.run.reading, holdout=search.run.holdout)
  data.steps_per_epoch(search.run.recipe.batch_size)  # raises if the data do not fit
  trainer = trial_runs.Trainer(search, data, workdir)
  with _alone(workdir):
    _start(search, workdir, trials, data)
    oracle = _oracle(search, workdir, trials)
    ended_before = len(oracle.end_order)
  with shared() if trials - ended_before > 1 else contextlib.nullcontext():
    while True:
      with contextlib.ExitStack() as held:
        trial = _next(oracle, workdir, held, ended_before)
        if trial is None:
          break
        figures = trainer.train(trial.trial_id, trial.hyperparameters.values)
        with _alone(workdir):
          oracle.reload()
          oracle.end(trial.trial_id, figures)
          _write(oracle, search, data, workdir, command)
  with _alone(workdir):
    oracle.reload()
    found = _write(oracle, search, data, workdir, command)
  _check_found(found, oracle, workdir, ended_before)
  return found


def _check_environment() -> None:
  given = [name for name in _OF_KERAS_TUNER if os.environ.get(name)]
  if given:
    raise InputError(
        f"expected no {' or '.join(_OF_KERAS_TUNER)}, got {', '.join(given)}; unset them:"
        " processes share a search by the same command and --workdir, without a chief."
    )


def _alone(workdir: pathlib.Path) -> contextlib.AbstractContextManager[None]:
  """Keeps other processes from the state of the search while this one changes it."""
  return locks.locked(workdir, wait_s=_PATIENCE_S)


def _next(
    oracle: oracles.InOneFile,
    workdir: pathlib.Path,
    held: contextlib.ExitStack,
    ended_before: int,
) -> keras_tuner.engine.trial.Trial | None:
  """The next trial to train; its lock is then in `held`. None if nothing is left to do."""
  waiting = False
  while True:
    with _alone(workdir):
      oracle.reload()
      oracle.max_trials = files.read_json(workdir / "search.json")["trials"]
      if oracle.failures_since(ended_before) >= MOST_FAILURES_IN_A_ROW:
        return None
      unfinished = oracle.unfinished()
      for trial in unfinished:
        with contextlib.suppress(InUseError):
          held.enter_context(locks.locked(locks.place(workdir, trial.trial_id)))
          program.say(f"Trial {trial.trial_id} was left unfinished, and goes on.")
          return trial
      proposed = oracle.propose()
      if proposed:
        held.enter_context(locks.locked(locks.place(workdir, proposed.trial_id)))
      if proposed or not unfinished:
        return proposed
    if not waiting:
      ids = ", ".join(trial.trial_id for trial in unfinished)
      program.say(f"Waiting for other processes' trials: {ids}.")
      waiting = True
    time.sleep(_POLL_S)


def _check_found(
    found: dict[str, Any], oracle: oracles.InOneFile, workdir: pathlib.Path, ended_before: int
) -> None:
  """Raises a `SearchError` if there is no result; says so if the space has no more trials."""
  failures = oracle.failures_since(ended_before)
  unfinished = found["best"] is None or len(found["trials"]) < found["trials_asked"]
  if failures >= MOST_FAILURES_IN_A_ROW and unfinished:
    reason = _reason(workdir, oracle.end_order[-1]).rstrip(".")
    raise SearchError(
        f"expected trials that train, got {failures} failed ones in a row; the last:"
        f" {reason}. Mend the cause and give the same command again, or another --search in"
        " another --workdir."
    )
  if found["best"] is None:
    raise SearchError(_nothing_completed(found))
  if len(found["trials"]) < found["trials_asked"]:
    program.say(f"The space holds no more to try than these {len(found['trials'])} trials.")


def _nothing_completed(found: dict[str, Any]) -> str:
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


def _oracle(search: Search, workdir: pathlib.Path, trials: int) -> oracles.InOneFile:
  hp = keras_tuner.HyperParameters()
  run = search.run
  start = hypermodel.start_of(run.recipe, run.num_categories, run.latent_dim)
  hypermodel.declare(hp, search.space, start)
  return oracles.make(
      search.tuner,
      hp,
      hypermodel.objective(),
      workdir=workdir,
      trials=trials,
      epochs=run.recipe.epochs,
      seed=run.seed,
  )


# ---- whose folder it is ---------------------------------------------------------------------


def _start(
    search: Search, workdir: pathlib.Path, trials: int, data: pipelines.ImageData
) -> None:
  """Claims the folder for this search, or checks that it holds this search, of these images."""
  config = {**_config(search, trials), "data": data.fingerprint()}
  path = workdir / "search.json"
  _check_free(workdir)
  if not path.exists():
    files.write_json(path, config)
    return
  old = files.read_json(path, "restore it, or give another --workdir")
  formats.check(path, old, FORMAT_VERSION)
  moved = run_folder.have_moved(old, config)
  ignored = ("trials", "versions", "data", *(["dataset"] if moved else []))
  differing = formats.differences(old, config, ignored)
  if not differing and trials < old["trials"]:
    differing = [f"trials {old['trials']} -> {trials}"]
  if differing:
    raise InputError(
        f"expected the search that {workdir} holds, in which --trials alone may differ, and"
        f" grow; got {'; '.join(differing)}. Give another --workdir."
    )
  run_folder.check_images(old, config, f"the search in {workdir}")
  files.write_json(path, {**old, "trials": trials, "dataset": config["dataset"]})
  if moved:  # also for who evaluates W/best
    for place in workdir.glob("trials/*/run-*/config.json"):
      files.write_json(place, {**files.read_json(place), "dataset": config["dataset"]})


def _check_free(workdir: pathlib.Path) -> None:
  files.check_free(workdir, "a search's folder", marker="search.json", ours=("cache",))


def _config(search: Search, trials: int) -> dict[str, Any]:
  run = dataclasses.asdict(search.run)
  asked = search.run.reading.record()
  return {
      "format": FORMAT_VERSION,
      **{key: run[key] for key in run if key not in _NOT_OF_A_SEARCH},
      **({"reading": asked} if asked else {}),
      "recipe": search.run.recipe_name,
      "settings": recipes.settings(search.run.recipe, search.run.method),
      "space": {name: dataclasses.asdict(part) for name, part in search.space.items()},
      "tuner": search.tuner,
      "executions_per_trial": search.executions_per_trial,
      "objective": hypermodel.OBJECTIVE,
      "trials": trials,
      "versions": runs.versions(),
  }


# ---- trials.json and what shows it ----------------------------------------------------------


def _write(
    oracle: oracles.InOneFile,
    search: Search,
    data: pipelines.ImageData,
    workdir: pathlib.Path,
    command: str,
) -> dict[str, Any]:
  """Writes trials.json and all files that show it, from the oracle and the trials' files."""
  trials = sorted(oracle.trials.values(), key=lambda trial: int(trial.trial_id))
  rows = [_row(trial, search, workdir) for trial in trials]
  completed = [row for row in rows if row["status"] == "COMPLETED"]
  best = max(completed, key=lambda row: row["score"], default=None)
  images = min(data.size(search.split), dataset_information.MAX_CODES)
  found = {
      "command": command,
      "dataset": search.run.dataset,
      "tuner": search.tuner,
      "objective": hypermodel.OBJECTIVE,
      "recipe": search.run.recipe_name,
      "epochs": search.run.recipe.epochs,
      "images": f"{images} {search.split} images",
      "seeds": [search.run.seed + i for i in range(search.executions_per_trial)],
      "trials_asked": oracle.max_trials,
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


def _described(part: hypermodel.Range | hypermodel.Choice) -> dict[str, Any]:
  if isinstance(part, hypermodel.Choice):
    return {"values": list(part.values)}
  return {"low": part.low, "high": part.high, "sampling": "log"}


def _row(
    trial: keras_tuner.engine.trial.Trial, search: Search, workdir: pathlib.Path
) -> dict[str, Any]:
  status = trial.status
  if status == "RUNNING" and locks.is_free(locks.place(workdir, trial.trial_id)):
    status = "WAITING"
  folder = workdir / "trials" / trial.trial_id
  written = (folder / f"run-{i}" / "figures.json" for i in range(search.executions_per_trial))
  executions = [files.read_json(path) for path in written if path.exists()]
  done = status == "COMPLETED"
  scores = [e["figures"][hypermodel.OBJECTIVE] for e in executions]
  values = trial.hyperparameters.values
  return {
      "id": trial.trial_id,
      "status": status,
      "reason": _reason(workdir, trial.trial_id) if status == "FAILED" else None,
      "weights": {name: values[name] for name in search.space},
      "epochs": executions[-1]["epochs"] if executions else None,
      "score": statistics.fmean(scores) if done else None,
      "score_std": statistics.stdev(scores) if done and len(scores) > 1 else None,
      "seconds": sum(e["seconds"] for e in executions) if executions else None,
      "folder": f"trials/{trial.trial_id}",
      "figures": trial_runs.mean([e["figures"] for e in executions]) if done else None,
      "executions": [e["figures"] for e in executions],
  }


def _reason(workdir: pathlib.Path, trial_id: str) -> str:
  """Why a trial failed."""
  path = workdir / "trials" / trial_id / "failed.json"
  return files.read_json(path)["reason"] if path.exists() else "of an unknown cause"


def _best_run(row: dict[str, Any]) -> pathlib.Path:
  """The folder, relative to the search's, of the best trial's best run."""
  scores = [figures[hypermodel.OBJECTIVE] for figures in row["executions"]]
  return pathlib.Path(row["folder"]) / f"run-{scores.index(max(scores))}"


def _point(link: pathlib.Path, target: pathlib.Path) -> None:
  """Makes `link` a symbolic link to `target`, atomically."""
  temporary = link.with_name(f".tmp-{link.name}")
  temporary.unlink(missing_ok=True)
  temporary.symlink_to(target)
  os.replace(temporary, link)

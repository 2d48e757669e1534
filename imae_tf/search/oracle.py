"""keras-tuner's oracles, which hand out the trials of a search, made safe against kills."""

import contextlib
import pathlib
import shutil
import sys
import threading
from collections.abc import Callable
from typing import Any

import keras_tuner

from imae_tf._shared import files

MOST_FAILURES_IN_A_ROW = 3
_POLL_S = 0.5


class Durable(keras_tuner.Oracle):
  """An oracle whose files are never half written, and whose lost workers are noticed.

  keras-tuner writes a trial's file, then its own; a kill in between leaves a trial that it
  would count and never run, or run again though it is complete.
  """

  ended: Callable[[], Any] | None = None  # called after each trial
  # Of a worker's id; None where there are no workers.
  worker_lives: Callable[[str], bool] | None = None
  failures = 0  # in a row, in this process's life
  broken = None  # what keeps the oracle from going on, a full disk for example
  _retry_queue: list[str]  # keras-tuner's: ids of the trials to be taken up again

  def populate_space(self, trial_id):
    if not self.trials and not isinstance(self, keras_tuner.oracles.HyperbandOracle):
      # First what one has: a search then finds nothing worse by its own measure.
      return {"status": "RUNNING", "values": {hp.name: hp.default for hp in self.get_space().space}}
    return super().populate_space(trial_id)

  @keras_tuner.synchronized
  def create_trial(self, tuner_id):
    self.forget_lost_workers()
    if self.failures >= MOST_FAILURES_IN_A_ROW or self.broken:
      return self._stop(tuner_id)
    full = self.max_trials and len(self.trials) >= self.max_trials
    others = any(other != tuner_id for other in self.ongoing_trials)
    if full and others and tuner_id not in self.ongoing_trials and not self._retry_queue:
      # It may have to take over a trial whose worker gets lost.
      return self._no_trial("IDLE")
    with self._noting_errors():
      return super().create_trial(tuner_id)
    return self._stop(tuner_id)

  def _stop(self, tuner_id):
    """Sends a process home; the chief ends when no process and no trial is left."""
    self.tuner_ids.discard(tuner_id)
    self.ongoing_trials.pop(tuner_id, None)
    return self._no_trial("STOPPED")

  def _no_trial(self, status):
    hps = self.hyperparameters.copy()
    return keras_tuner.engine.trial.Trial(hps, trial_id="none", status=status)

  @contextlib.contextmanager
  def _noting_errors(self):
    """Keeps an error for the main thread: raised here, it would leave keras-tuner's lock held."""
    try:
      yield
    except Exception as error:
      self.broken = self.broken or error

  @keras_tuner.synchronized
  def end_trial(self, trial):
    if trial.trial_id in self.end_order:
      return  # by a worker that was thought lost
    if trial.trial_id in self._retry_queue:  # the chief was started again meanwhile
      self._retry_queue.remove(trial.trial_id)
    with self._noting_errors():
      super().end_trial(trial)
      failed = self.trials[trial.trial_id].status == "FAILED"
      self.failures = self.failures + 1 if failed else 0
      if self.ended:
        self.ended()

  @keras_tuner.synchronized
  def forget_lost_workers(self):
    """Takes back the trials of workers that have ended without a word."""
    if self.worker_lives is None:
      return
    with self._noting_errors():
      for tuner_id in [t for t in self.tuner_ids if not self.worker_lives(t)]:
        self.tuner_ids.remove(tuner_id)
        trial = self.ongoing_trials.pop(tuner_id, None)
        if trial:
          print(
              f"Worker {tuner_id} has ended in trial {trial.trial_id}, which is tried again.",
              file=sys.stderr,
              flush=True,
          )
          self._retry_queue.append(trial.trial_id)
        self.save()

  @contextlib.contextmanager
  def watching(self):
    """Looks for lost workers while the chief waits, in a thread of its own."""
    done = threading.Event()

    def watch():
      while not done.wait(_POLL_S):
        self.forget_lost_workers()

    thread = threading.Thread(target=watch, name="watch-workers", daemon=True)
    thread.start()
    try:
      yield
    finally:
      done.set()
      thread.join()

  def running(self):
    """Ids of the trials that some process works on."""
    return {trial.trial_id for trial in self.ongoing_trials.values()}

  def reason_of(self, trial_id, workdir):
    """Why a trial failed."""
    path = workdir / "trials" / trial_id / "failed.json"
    return files.read_json(path)["reason"] if path.exists() else "of an unknown cause"

  def save(self):
    files.write_json(self._get_oracle_fname(), self.get_state())

  def _save_trial(self, trial):
    folder = pathlib.Path(self._get_trial_dir(trial.trial_id))
    files.write_json(folder / "trial.json", trial.get_state())

  def reload(self):
    super().reload()  # which queues all trials that were being trained
    state = files.read_json(self._get_oracle_fname())
    for tuner_id, trial_id in state["ongoing_trials"].items():
      running = self.trials[trial_id].status == "RUNNING"
      if running and self.worker_lives and self.worker_lives(tuner_id):
        self._retry_queue.remove(trial_id)  # the chief alone was started again
        self.ongoing_trials[tuner_id] = self.trials[trial_id]
        self.tuner_ids.add(tuner_id)
    for trial_id in self.trials.keys() - set(self.start_order):  # never handed out
      del self.trials[trial_id]
      shutil.rmtree(self._get_trial_dir(trial_id))
    over = [i for i in self._retry_queue if self.trials[i].status in ("COMPLETED", "FAILED")]
    self.end_order += [i for i in over if i not in self.end_order]
    self._retry_queue = [i for i in dict.fromkeys(self._retry_queue) if i not in over]


class _Random(Durable, keras_tuner.oracles.RandomSearchOracle):
  """Random search."""


class _Bayesian(Durable, keras_tuner.oracles.BayesianOptimizationOracle):
  """Bayesian optimisation."""


class _Hyperband(Durable, keras_tuner.oracles.HyperbandOracle):
  """Hyperband, of as many rounds as there are trials for."""


_TUNERS = {"random": _Random, "bayesian": _Bayesian}


def make(
    tuner: str,
    hyperparameters: keras_tuner.HyperParameters,
    objective: keras_tuner.Objective,
    *,
    trials: int,
    epochs: int,
    seed: int,
) -> Durable:
  """An oracle that hands out up to `trials` trials.

  Args:
    tuner: "random", "bayesian" or "hyperband".
    hyperparameters: the space, with defaults, which are the first trial.
    objective: what it maximises.
    trials: failed ones included.
    epochs: of a whole trial; Hyperband's short ones have fewer.
    seed: of what it draws.
  """
  shared = {
      "objective": objective,
      "hyperparameters": hyperparameters,
      "seed": seed + 1,  # keras-tuner takes 0 for none
      # Its own limit loses the trial at which it ends the search.
      "max_consecutive_failed_trials": trials + 1,
  }
  if tuner == "hyperband":
    oracle = _Hyperband(max_epochs=epochs, hyperband_iterations=trials, **shared)
    oracle.max_trials = trials
    return oracle
  return _TUNERS[tuner](max_trials=trials, **shared)

"""keras-tuner's oracles, adapted: they propose the weights of a trial and learn from its result.

`search.driver` makes one with `make`, and decides with locks which process trains which trial.
"""

import pathlib
import sys
from typing import Any

import keras_tuner

from imae_tf._shared import files

_STATE = "keras_tuner/oracle.json"


class InOneFile(keras_tuner.Oracle):
  """An oracle that saves its whole state, with its trials, in one file, atomically.

  keras-tuner itself writes the file of a trial and then the file of the oracle. If it is killed
  between the two, it counts a trial that never runs, or runs a complete trial again.

  Attributes:
    workdir: folder of the search.
  """

  workdir: pathlib.Path

  def populate_space(self, trial_id: str) -> dict[str, Any]:
    """The values of a new trial: those that keras-tuner proposes, but first the recipe's own.

    So the best trial is never worse than the recipe by the search's own measure. Hyperband begins
    without the recipe.
    """
    if not self.trials and not isinstance(self, keras_tuner.oracles.HyperbandOracle):
      return {"status": "RUNNING", "values": {hp.name: hp.default for hp in self.get_space().space}}
    return super().populate_space(trial_id)

  def save(self) -> None:
    trials = [trial.get_state() for trial in self.trials.values()]  # in the order of the draws
    files.write_json(self.workdir / _STATE, {**self.get_state(), "trials": trials})

  def reload(self) -> None:
    """Loads the state that this process or another one saved last, if there is one."""
    path = self.workdir / _STATE
    if not path.exists():
      return
    state = files.read_json(path, "restore it, or give another --workdir")
    trials = state.get("trials") or _trials_of_keras_tuner(path.parent, state["start_order"])
    load = keras_tuner.engine.trial.Trial.from_state
    self.trials = {trial["trial_id"]: load(trial) for trial in trials}
    unfinished = {trial.trial_id: trial.trial_id for trial in self.unfinished()}
    self.set_state({**state, "ongoing_trials": unfinished, "retry_queue": []})

  def unfinished(self) -> list[keras_tuner.engine.trial.Trial]:
    """The trials that were proposed and have not ended."""
    return [trial for trial in self.trials.values() if trial.status == "RUNNING"]

  def propose(self) -> keras_tuner.engine.trial.Trial | None:
    """Makes a new trial and saves it; None if there is no trial to make now."""
    trial = self.create_trial(f"trial {len(self.trials)}")
    return trial if trial.status == "RUNNING" else None

  def end(self, trial_id: str, figures: dict[str, float] | None) -> None:
    """Ends a trial, and saves it.

    Args:
      trial_id: id of a trial that `propose` returned, here or in another process.
      figures: the figures of the trial; None if it failed.
    """
    trial = self.trials[trial_id]
    if figures:
      self.update_trial(trial_id, figures)
    trial.status = "COMPLETED" if figures else "FAILED"
    self.end_trial(trial)

  def failures_since(self, ended: int) -> int:
    """How many of the last trials failed in a row; the first `ended` trials do not count."""
    count = 0
    for trial_id in reversed(self.end_order[ended:]):
      if self.trials[trial_id].status != "FAILED":
        break
      count += 1
    return count


class _Random(InOneFile, keras_tuner.oracles.RandomSearchOracle):
  """Random search."""


class _Bayesian(InOneFile, keras_tuner.oracles.BayesianOptimizationOracle):
  """Bayesian optimisation."""

  gpr: Any  # keras-tuner's model of the scores

  def set_state(self, state: dict[str, Any]) -> None:
    fitted = self.gpr  # guesses the scores of trials that other processes are training
    super().set_state(state)
    self.gpr = fitted


class _Hyperband(InOneFile, keras_tuner.oracles.HyperbandOracle):
  """Hyperband, with as many rounds as the trials allow."""


def _trials_of_keras_tuner(folder: pathlib.Path, started: list[str]) -> list[dict[str, Any]]:
  """The states of the trials of an older search, in which each trial has a file of its own."""
  return [files.read_json(folder / f"trial_{trial_id}" / "trial.json") for trial_id in started]


def make(
    tuner: str,
    hyperparameters: keras_tuner.HyperParameters,
    objective: keras_tuner.Objective,
    *,
    workdir: pathlib.Path,
    trials: int,
    epochs: int,
    seed: int,
) -> InOneFile:
  """Makes an oracle, with the state that was saved in a search's folder, if there is one.

  Args:
    tuner: "random", "bayesian" or "hyperband".
    hyperparameters: the space, with defaults, which are the first trial.
    objective: the figure that is maximised.
    workdir: folder of the search.
    trials: number of trials to propose at most, failed ones included.
    epochs: epochs of a whole trial; Hyperband's short trials have fewer.
    seed: seed of the random draws.
  """
  shared = {
      "objective": objective,
      "hyperparameters": hyperparameters,
      "seed": seed + 1,  # keras-tuner takes 0 for no seed
      # keras-tuner's own limit loses the trial at which it ends the search.
      "max_consecutive_failed_trials": sys.maxsize,
  }
  oracle: InOneFile
  if tuner == "hyperband":
    oracle = _Hyperband(max_epochs=epochs, hyperband_iterations=trials, **shared)
  else:
    oracle = {"random": _Random, "bayesian": _Bayesian}[tuner](**shared)
  oracle.max_trials = trials
  oracle.workdir = workdir
  oracle.verbose = 0
  # This tells the oracle its folder; keras-tuner's tuners train nothing here.
  keras_tuner.engine.base_tuner.BaseTuner(
      oracle, directory=str(workdir), project_name=pathlib.Path(_STATE).parent.name
  )
  oracle.reload()
  return oracle

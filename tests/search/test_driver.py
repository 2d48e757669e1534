"""The oracle of a search: chief and workers, restarts, failures; no training."""

import copy
import dataclasses
import itertools

import pytest

from imae_tf import recipes
from imae_tf.search import driver
from imae_tf.search import hypermodel
from imae_tf.training import runs


@pytest.fixture(autouse=True)
def alone(monkeypatch):
  for name in ("TUNER_ID", "ORACLE_IP", "ORACLE_PORT"):
    monkeypatch.delenv(f"KERASTUNER_{name}", raising=False)


def as_chief(monkeypatch):
  for name, value in {"TUNER_ID": "chief", "ORACLE_IP": "127.0.0.1", "ORACLE_PORT": "1"}.items():
    monkeypatch.setenv(f"KERASTUNER_{name}", value)


def opened(workdir, tuner="random", trials=8, lives=None):
  """The oracle of the search in a folder, as its process opens it."""
  recipe = dataclasses.replace(recipes.TUNED["digits"], restarts=1)
  run = runs.Run(
      dataset="digits", method="imae", recipe_name="tuned", recipe=recipe, num_categories=10,
      latent_dim=10, holdout=0, seed=0, deterministic=True,
  )
  described = driver.Search(run, hypermodel.space(), tuner, executions_per_trial=1)
  oracle = driver._oracle(described, trials)
  oracle.worker_lives = lives
  opened_tuner = driver._Tuner(oracle, described, None, workdir)
  oracle.verbose = 0
  opened_tuner.save()
  return oracle


def end(oracle, trial, status="COMPLETED", score=1.0):
  """As a worker ends a trial: with its own copy."""
  trial = copy.copy(trial)
  trial.status = status
  if status == "COMPLETED":
    oracle.update_trial(trial.trial_id, {hypermodel.OBJECTIVE: score})
  oracle.end_trial(trial)


def test_a_chief_started_again_leaves_living_workers_their_trials(tmp_path, monkeypatch):
  as_chief(monkeypatch)
  oracle = opened(tmp_path, lives=lambda worker: True)
  first, second = (oracle.create_trial(worker) for worker in ("worker-0", "worker-1"))
  oracle = opened(tmp_path, lives=lambda worker: True)
  end(oracle, second)
  third = oracle.create_trial("worker-1")
  assert third.trial_id not in (first.trial_id, second.trial_id)
  end(oracle, first)
  assert [oracle.trials[t.trial_id].status for t in (first, second)] == ["COMPLETED"] * 2


def test_a_chief_started_again_takes_back_the_trials_of_lost_workers(tmp_path, monkeypatch):
  as_chief(monkeypatch)
  oracle = opened(tmp_path, lives=lambda worker: True)
  lost, kept = (oracle.create_trial(worker) for worker in ("worker-0", "worker-1"))
  oracle = opened(tmp_path, lives=lambda worker: worker == "worker-1")
  assert oracle.create_trial("worker-2").trial_id == lost.trial_id
  assert oracle.create_trial("worker-1").trial_id == kept.trial_id


@pytest.mark.parametrize("tuner", ["random", "bayesian"])
def test_a_chief_goes_on_with_what_one_process_began(tmp_path, monkeypatch, tuner):
  oracle = opened(tmp_path, tuner)
  for i in range(4):
    end(oracle, oracle.create_trial("tuner0"), score=float(i))
  as_chief(monkeypatch)
  oracle = opened(tmp_path, tuner, lives=lambda worker: True)
  assert oracle.end_order == ["0", "1", "2", "3"]
  assert oracle.create_trial("worker-0").trial_id == "4"


@pytest.mark.parametrize("tuner", ["random", "bayesian", "hyperband"])
def test_no_trial_is_drawn_twice(tmp_path, tuner):
  oracle = opened(tmp_path, tuner, trials=6)
  drawn = []
  for i in itertools.count():
    trial = oracle.create_trial("tuner0")
    if trial.status == "STOPPED":
      break
    drawn.append(trial)
    end(oracle, trial, score=float(i))
  assert sorted(t.trial_id for t in drawn) == [str(i) for i in range(6)]
  values = [tuple(sorted(t.hyperparameters.values.items())) for t in drawn]
  assert len(set(values)) == 6
  if tuner != "hyperband":
    recipe = recipes.TUNED["digits"]
    first = drawn[0].hyperparameters.values
    assert first == {name: getattr(recipe, name) for name in hypermodel.space()}


def test_failures_in_a_row_stop_all_workers(tmp_path, monkeypatch):
  as_chief(monkeypatch)
  oracle = opened(tmp_path, lives=lambda worker: True)
  for status in ("FAILED", "FAILED", "COMPLETED", "FAILED", "FAILED"):
    end(oracle, oracle.create_trial("worker-0"), status)
  assert oracle.create_trial("worker-0").status == "RUNNING"
  end(oracle, oracle.ongoing_trials["worker-0"], "FAILED")
  assert [oracle.create_trial(worker).status for worker in ("worker-0", "worker-1")] == [
      "STOPPED", "STOPPED"
  ]
  assert not oracle.tuner_ids and not oracle.ongoing_trials  # so that the chief ends
  again = opened(tmp_path, lives=lambda worker: True)  # the cause is mended
  assert again.create_trial("worker-0").status == "RUNNING"


def test_a_full_disk_ends_the_search_and_leaves_no_lock_held(tmp_path, monkeypatch):
  as_chief(monkeypatch)
  oracle = opened(tmp_path, lives=lambda worker: True)

  def no_space():
    raise OSError(28, "No space left on device")

  oracle.ended = no_space
  end(oracle, oracle.create_trial("worker-0"))
  assert isinstance(oracle.broken, OSError)
  assert oracle.create_trial("worker-0").status == "STOPPED"
  assert not oracle.tuner_ids and not oracle.ongoing_trials

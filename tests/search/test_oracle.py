"""What keras-tuner proposes, and that its state is one file which any process may go on with."""

import itertools
import json
import pathlib
import re

import pytest
import searches

from imae_tf import recipes
from imae_tf.search import driver
from imae_tf.search import hypermodel

RESULTS = pathlib.Path(__file__).parents[2] / "results"
TUNERS = ["random", "bayesian", "hyperband"]


def opened(workdir, tuner="random", trials=8, **described):
  return driver._oracle(searches.describe(tuner, **described), workdir, trials)


def end(oracle, trial, score=1.0):
  oracle.end(trial.trial_id, score and {hypermodel.OBJECTIVE: score})


@pytest.mark.parametrize("tuner", TUNERS)
def test_no_trial_is_drawn_twice(tmp_path, tuner):
  oracle = opened(tmp_path, tuner, trials=6)
  drawn = []
  for i in itertools.count(1):
    trial = oracle.propose()
    if trial is None:
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


@pytest.mark.parametrize("tuner", TUNERS)
def test_processes_in_turns_draw_what_one_would(tmp_path, tuner):
  """But for Bayesian draws from its model, whose maximum each looks for from other points."""
  drawn = {}
  for folder, processes in (("one", 1), ("two", 2)):
    sharing = [opened(tmp_path / folder, tuner, trials=10, epochs=9) for _ in range(processes)]
    drawn[folder] = []
    for i, oracle in zip(range(9 if tuner == "bayesian" else 10), itertools.cycle(sharing)):
      oracle.reload()
      trial = oracle.propose()
      drawn[folder].append((trial.trial_id, trial.hyperparameters.values))
      end(oracle, trial, score=None if i % 5 == 3 else 1 + i % 3)
  assert drawn["one"] == drawn["two"]


@pytest.mark.parametrize("name", ["search_digits", "search_mnist", "search_mnist_vae"])
def test_the_committed_searches_would_be_drawn_again(tmp_path, name):
  """As far as they were drawn at random, behind the recipe of then; their files have 5 digits."""
  found = json.loads((RESULTS / f"{name}.json").read_text())
  names = re.search(r"--search=(\S+)", found["command"])
  oracle = opened(
      tmp_path, found["tuner"], trials=len(found["trials"]), seed=found["seeds"][0],
      method="vae" if name.endswith("vae") else "imae",
      names=names.group(1).split(",") if names else (),
  )
  for row in found["trials"][: max(3 * len(found["space"]), 3)]:
    trial = oracle.propose()
    assert trial.trial_id == row["id"]
    if int(row["id"]):
      assert trial.hyperparameters.values == pytest.approx(row["weights"], rel=1e-4)
    end(oracle, trial, score=row["score"])


def test_an_unfinished_trial_is_known_to_every_process(tmp_path):
  first, second = opened(tmp_path), opened(tmp_path)
  trial = first.propose()
  second.reload()
  assert [t.trial_id for t in second.unfinished()] == [trial.trial_id]
  assert second.propose().hyperparameters.values != trial.hyperparameters.values
  first.reload()
  end(second, trial)
  assert [t.trial_id for t in opened(tmp_path).unfinished()] == ["1"]


def test_failures_are_counted_from_where_a_process_joined(tmp_path):
  oracle = opened(tmp_path)
  for score in (None, None, 1.0, None, None):
    end(oracle, oracle.propose(), score)
  assert [oracle.failures_since(n) for n in range(6)] == [2, 2, 2, 2, 1, 0]


def test_a_search_begun_when_trials_had_files_of_their_own_goes_on(tmp_path):
  """keras-tuner wrote a trial's file first; the state must not count what its own lacks."""
  oracle = opened(tmp_path)
  for score in (1.0, None, 2.0):
    end(oracle, oracle.propose(), score)
  oracle.propose()
  path = tmp_path / "keras_tuner/oracle.json"
  state = json.loads(path.read_text())
  del state["trials"]
  path.write_text(json.dumps(
      {**state, "ongoing_trials": {}, "retry_queue": ["3"], "start_order": ["0", "1", "2", "3"]}
  ))
  again = opened(tmp_path)
  statuses = [trial.status for trial in again.trials.values()]
  assert statuses == ["COMPLETED", "FAILED", "COMPLETED", "RUNNING"]
  for one, other in zip(again.trials.values(), oracle.trials.values(), strict=True):
    assert one.hyperparameters.values == other.hyperparameters.values
  assert again.propose().trial_id == "4"

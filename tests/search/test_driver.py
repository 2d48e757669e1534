"""A search as its processes share it: kills, failures, and who trains what. Nothing is trained."""

import contextlib
import dataclasses
import json
import os
import threading
import time
import types

import numpy as np
import pytest
import searches
import tensorflow as tf
from mendable import assert_mendable

from imae_tf._shared import locks
from imae_tf.data import loading
from imae_tf.errors import DivergenceError
from imae_tf.errors import InputError
from imae_tf.errors import Preempted
from imae_tf.errors import SearchError
from imae_tf.search import driver
from imae_tf.search import hypermodel
from imae_tf.search import trials as trial_runs

_TIMEOUT = 60


@pytest.fixture(autouse=True)
def environment(monkeypatch):
  for name in driver._OF_KERAS_TUNER:
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(driver, "_POLL_S", 0.01)


class Trained:
  """In place of `runs.train`: notes which runs are trained, which may fail."""

  def __init__(self):
    self.folders = []
    self.before = lambda run, folder: None

  def __call__(self, run, folder, progress, data):
    self.before(run, folder)
    self.folders.append("/".join(folder.parts[-2:]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.keras").write_text(str(run.recipe.epochs))
    return run


@pytest.fixture
def trained(monkeypatch):
  """Trials without training: the score is a function of beta and the seed."""
  def measure(run, images, neighbors):
    names = ("mi_y", "mi_z", "total_correlation", "reconstruction", "conditional_entropy_y")
    score = 2 - abs(run.recipe.beta - 3) / 20 + run.seed / 100
    others = {"used_categories": 10, "active_units": 5}
    return {hypermodel.OBJECTIVE: score, **dict.fromkeys(names, 1.0), **others}

  trained = Trained()
  monkeypatch.setattr(trial_runs.runs, "train", trained)
  monkeypatch.setattr(trial_runs.hypermodel, "measure", measure)
  monkeypatch.setattr(trial_runs.label_free, "neighborhood", lambda *args: (None, None))
  # There is nothing to clear, which takes most of the time.
  monkeypatch.setattr(trial_runs.keras.backend, "clear_session", lambda: None)
  return trained


def search(workdir, trials=3, tuner="random", **described):
  return driver.search(searches.describe(tuner, **described), workdir, trials, "imae-tune")


def outcome(found):
  """{id: (status, weights, score)}, which time does not change."""
  return {row["id"]: (row["status"], row["weights"], row["score"]) for row in found["trials"]}


# ---- one process ------------------------------------------------------------------------------


def test_the_score_is_the_mean_over_seeds_and_the_best_run_is_linked(trained, tmp_path):
  found = search(tmp_path, trials=4, executions_per_trial=3)
  assert trained.folders == [f"{i}/run-{j}" for i in range(4) for j in range(3)]
  for row in found["trials"]:
    score = 2 - abs(row["weights"]["beta"] - 3) / 20
    assert row["score"] == pytest.approx(score + 0.01) and row["score_std"] == pytest.approx(0.01)
  best = max(found["trials"], key=lambda row: row["score"])
  assert found["best"] == best["id"]
  assert os.readlink(tmp_path / "best") == f"trials/{best['id']}/run-2"
  assert json.loads((tmp_path / "trials.json").read_text()) == json.loads(json.dumps(found))


@pytest.mark.slow  # some forty searches
def test_a_kill_at_any_write_loses_and_repeats_nothing(trained, tmp_path, monkeypatch):
  class Killed(BaseException):
    pass

  expected, replace = outcome(search(tmp_path / "unbroken")), os.replace
  for moment in range(1000):
    written = []

    def killed_then(source, target):
      if len(written) == moment:
        raise Killed
      written.append(target)
      replace(source, target)

    workdir = tmp_path / str(moment)
    trained.folders.clear()
    monkeypatch.setattr(os, "replace", killed_then)
    try:
      search(workdir)
      break
    except Killed:
      monkeypatch.setattr(os, "replace", replace)
    measured = {"/".join(path.parts[-3:-1]) for path in workdir.glob("trials/*/*/figures.json")}
    before = list(trained.folders)
    assert outcome(search(workdir)) == expected
    assert not measured & set(trained.folders[len(before) :]), "trained again"
  assert moment > 15  # so many writes has a search


def test_more_trials_are_added(trained, tmp_path):
  first = outcome(search(tmp_path))
  trained.folders.clear()
  assert outcome(search(tmp_path, trials=5)).items() > first.items()
  assert trained.folders == ["3/run-0", "4/run-0"]
  with pytest.raises(InputError, match="--trials alone may differ, and grow; got trials 5 -> 4"):
    search(tmp_path, trials=4)


def test_hyperbands_longer_trials_go_on_with_shorter_ones_runs(trained, tmp_path):
  copied = {}

  def before(run, folder):
    if folder.exists():
      assert not (folder / "figures.json").exists()
      copied[folder.parent.name] = int((folder / "model.keras").read_text()), run.recipe.epochs

  trained.before = before
  found = search(tmp_path, trials=14, tuner="hyperband", epochs=9)
  assert copied and set(copied.values()) <= {(1, 3), (3, 9)}
  assert {row["status"] for row in found["trials"]} == {"COMPLETED"}
  assert {row["epochs"] for row in found["trials"]} >= {1, 3}


# ---- trials that fail ---------------------------------------------------------------------------


def failing(*numbers):
  def before(run, folder):
    if int(folder.parent.name) in numbers:
      raise DivergenceError(f"loss = nan\nin {folder.parent.name}.")

  return before


def test_a_failed_trial_says_why_and_is_not_tried_again(trained, tmp_path):
  trained.before = failing(0, 1, 3, 4)
  found = search(tmp_path, trials=6)
  assert {row["id"]: row["reason"] for row in found["trials"]} == {
      str(i): f"loss = nan in {i}." if i in (0, 1, 3, 4) else None for i in range(6)
  }
  assert found["best"] in ("2", "5")
  trained.folders.clear()
  assert outcome(search(tmp_path, trials=6)) == outcome(found) and not trained.folders


def test_failures_in_a_row_end_the_search_until_it_is_started_again(trained, tmp_path):
  trained.before = failing(1, 2, 3)
  with pytest.raises(SearchError, match="got 3 failed ones in a row; the last: loss = nan in 3. M"):
    search(tmp_path, trials=8)
  assert len(json.loads((tmp_path / "trials.json").read_text())["trials"]) == 4
  found = search(tmp_path, trials=8)  # the cause is mended
  assert [row["status"] for row in found["trials"]].count("COMPLETED") == 5


def test_a_full_disk_is_no_fault_of_the_trial(trained, tmp_path):
  def before(run, folder):
    raise OSError(28, "No space left on device")

  trained.before = before
  with pytest.raises(OSError, match="No space"):
    search(tmp_path)
  trained.before = lambda run, folder: None
  assert {row["status"] for row in search(tmp_path)["trials"]} == {"COMPLETED"}
  assert trained.folders == [f"{i}/run-0" for i in range(3)]


def test_the_seconds_of_a_trial_are_those_of_all_attempts(trained, tmp_path, monkeypatch):
  """Of an attempt that was ended they count up to what it saved: 30 of 50."""
  now = [1000.0]
  clock = types.SimpleNamespace(time=lambda: now[0], monotonic=lambda: now[0])
  monkeypatch.setattr(trial_runs, "time", clock)

  def ended(run, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.csv").touch()
    os.utime(folder / "history.csv", (now[0] + 30, now[0] + 30))
    now[0] += 50
    raise Preempted("stopped")

  def whole(run, folder):
    now[0] += 20

  for pause in (10_000, 500):
    trained.before = ended
    with pytest.raises(Preempted):
      search(tmp_path, trials=2)
    now[0] += pause
  trained.before = whole
  assert [row["seconds"] for row in search(tmp_path, trials=2)["trials"]] == [80, 20]
  assert not list(tmp_path.glob("trials/*/*.json"))


# ---- images that vanish -----------------------------------------------------------------------


@pytest.fixture
def of_file(tmp_path, digits):
  """A search of images in a file, as `search` takes it."""
  np.savez(tmp_path / "x.npz", x=digits[0][:50])
  described = searches.describe()
  return dataclasses.replace(
      described,
      run=dataclasses.replace(
          described.run, dataset=str(tmp_path / "x.npz"),
          recipe=dataclasses.replace(described.run.recipe, batch_size=20),
      ),
  )


@pytest.mark.parametrize(
    "error",
    [
        InputError("expected a .npz, got nothing; correct the path."),
        tf.errors.InvalidArgumentError(None, None, "InputError: expected 7.png, which was listed"),
        tf.errors.NotFoundError(None, None, "/data/7.tfrecord; No such file or directory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_images_that_vanish_end_the_search_and_no_trial_has_failed(
    trained, tmp_path, of_file, error
):
  path, away, workdir = tmp_path / "x.npz", tmp_path / "away.npz", tmp_path / "search"

  def before(run, folder):
    path.rename(away)
    raise error

  trained.before = before
  with pytest.raises(InputError) as refused:
    driver.search(of_file, workdir, 2, "imae-tune")
  named = "7.tfrecord" if isinstance(error, tf.errors.NotFoundError) else "got none"
  assert_mendable(refused, str(path), "until the search ends", named, "put them back")
  away.rename(path)
  trained.before = lambda run, folder: None
  found = driver.search(of_file, workdir, 2, "imae-tune")
  assert [row["status"] for row in found["trials"]] == ["COMPLETED"] * 2


def test_an_error_with_the_images_in_their_place_is_of_the_trial(trained, of_file, tmp_path):
  def before(run, folder):
    if folder.parent.name == "0":
      raise InputError("expected smaller networks.")

  trained.before = before
  found = driver.search(of_file, tmp_path / "search", 2, "imae-tune")
  assert [row["reason"] for row in found["trials"]] == ["expected smaller networks.", None]


def test_a_search_knows_its_images_and_not_their_place(trained, of_file, tmp_path, digits):
  driver.search(of_file, tmp_path / "search", 1, "imae-tune")
  (tmp_path / "x.npz").rename(tmp_path / "moved.npz")
  moved = dataclasses.replace(
      of_file, run=dataclasses.replace(of_file.run, dataset=str(tmp_path / "moved.npz"))
  )
  assert len(driver.search(moved, tmp_path / "search", 2, "imae-tune")["trials"]) == 2
  config = json.loads((tmp_path / "search/search.json").read_text())
  assert config["dataset"] == moved.run.dataset and config["data"]["n"] == 50
  np.savez(tmp_path / "moved.npz", x=digits[0][50:100])
  with pytest.raises(InputError) as error:
    driver.search(moved, tmp_path / "search", 2, "imae-tune")
  assert_mendable(error, "50 images of the search", moved.run.dataset)


# ---- several processes --------------------------------------------------------------------------


@contextlib.contextmanager
def elsewhere(workdir, **arguments):
  """A search in the same folder at the same time; yields where its result will be."""
  result = []
  thread = threading.Thread(target=lambda: result.append(search(workdir, **arguments)))
  thread.start()
  yield result
  thread.join(_TIMEOUT)
  assert result, "it hangs, or has failed"


@pytest.mark.parametrize("tuner", ["random", "bayesian", "hyperband"])
def test_processes_share_the_trials(trained, tmp_path, tuner):
  threads = set()

  def before(run, folder):
    threads.add(threading.current_thread().name)
    time.sleep(0.05)

  trained.before = before
  with elsewhere(tmp_path, trials=8, tuner=tuner, epochs=9) as other:
    found = search(tmp_path, trials=8, tuner=tuner, epochs=9)
  assert sorted(trained.folders) == [f"{i}/run-0" for i in range(8)]
  assert len(threads) == 2
  assert outcome(found) == outcome(other[0]) and len(found["trials"]) == 8


def test_a_trial_at_work_is_waited_for_and_taken_over_when_its_process_ends(
    trained, tmp_path, capfd
):
  driver._start(searches.describe(), tmp_path, 2, loading.load("digits"))
  lost = driver._oracle(searches.describe(), tmp_path, 2).propose()
  with contextlib.ExitStack() as held:
    held.enter_context(locks.locked(locks.place(tmp_path, lost.trial_id)))
    with elsewhere(tmp_path, trials=2) as result:
      said, until = "", time.monotonic() + _TIMEOUT
      while "Waiting" not in said and time.monotonic() < until:
        time.sleep(0.01)
        said += capfd.readouterr().err
      rows = json.loads((tmp_path / "trials.json").read_text())["trials"]
      assert [row["status"] for row in rows] == ["RUNNING", "COMPLETED"]
      assert trained.folders == ["1/run-0"] and "other processes' trials: 0." in said
      held.close()
  assert trained.folders == ["1/run-0", "0/run-0"]
  assert result[0]["trials"][0]["weights"] == lost.hyperparameters.values


def test_more_trials_of_another_process_are_everyones(trained, tmp_path):
  digits = loading.load("digits")
  trained.before = lambda run, folder: driver._start(searches.describe(), tmp_path, 5, digits)
  found = search(tmp_path, trials=2)
  assert len(found["trials"]) == found["trials_asked"] == 5


@pytest.mark.parametrize("name", driver._OF_KERAS_TUNER)
def test_keras_tuners_chief_and_workers_are_refused(tmp_path, monkeypatch, name):
  monkeypatch.setenv(name, "chief")
  with pytest.raises(InputError, match=f"got {name}; unset them: processes share a search"):
    search(tmp_path / "search")
  assert not (tmp_path / "search").exists()

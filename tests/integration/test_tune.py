"""imae-tune: killed and started again, shared by processes, with trials that fail."""

import json
import os
import re

import boards
import programs
import pytest

from imae_tf import recipes
from imae_tf.search import hparams
from imae_tf.search import hypermodel
from imae_tf.training import run_folder
from imae_tf.training import tensorboard

SMALL = {
    "dataset": "digits", "epochs": 1, "encoder_units": "32", "decoder_units": "32", "seed": 5,
}


def tune(tmp_path, workdir, name="tune", **flags):
  folder = tmp_path / name
  folder.mkdir(exist_ok=True)
  env = flags.pop("env", None)
  return programs.Program("tune", folder, env=env, workdir=workdir, **{**SMALL, **flags})


def trials(workdir):
  """{id: (status, weights, score)}, which time does not change."""
  found = json.loads((workdir / "trials.json").read_text())
  return {
      row["id"]: (row["status"], row["weights"], row["score"]) for row in found["trials"]
  }


def models(workdir):
  """{path of a trained model: when it was written}."""
  return {
      str(path.relative_to(workdir)): path.stat().st_mtime_ns
      for path in workdir.glob("trials/*/run-0/model.keras")
  }


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  folder = tmp_path_factory.mktemp("search")
  result = tune(folder, folder / "search", trials=3).wait()
  assert result.status == 0, result.stderr
  return folder / "search", result


# ---- what a search leaves behind ---------------------------------------------------------


def test_a_search_begins_with_the_recipe_and_ends_with_its_best_run(unbroken):
  workdir, result = unbroken
  found = json.loads((workdir / "trials.json").read_text())
  recipe = recipes.get("tuned", "digits")
  assert found["trials"][0]["weights"] == {
      name: getattr(recipe, name) for name in ("beta", "gamma", "lam")
  }
  scores = {row["id"]: row["score"] for row in found["trials"]}
  assert found["best"] == max(scores, key=scores.get)
  scored = next(row for row in found["trials"] if row["id"] == found["best"])
  assert os.readlink(workdir / "best") == f"trials/{found['best']}/run-0"
  assert f"best            {found['best']}: beta" in result.stdout
  (command,) = re.findall(r"imae-train .*", result.stdout)
  assert "--dataset=digits" in command and "--seed=0" in command and "trials" not in command
  assert "--recipe=tuned " in command  # for other images imae-train takes another by itself
  assert f"--epochs={SMALL['epochs']} " in command and "--encoder_units=32 " in command
  for name, value in scored["weights"].items():
    assert f"--{name}={value:.4g}" in command
  config = run_folder.read_config(workdir / "best")
  best = found["trials"][int(found["best"])]
  assert {name: config["settings"][name] for name in best["weights"]} == best["weights"]
  page = (workdir / "report.html").read_text()
  assert all(f"{row['score']:.3g}" in page for row in found["trials"])


def test_tensorboard_shows_the_weights_and_the_score_of_each_trial(unbroken):
  workdir, _ = unbroken
  for row in json.loads((workdir / "trials.json").read_text())["trials"]:
    folder = workdir / row["folder"]
    assert boards.weights(folder) == row["weights"]
    ((_, score),) = boards.read(folder)[hparams.tag(hypermodel.OBJECTIVE)]
    assert float(score) == pytest.approx(row["score"], rel=1e-6)
    curve = boards.read(folder / "run-0/tensorboard")[tensorboard.tag("loss")]
    assert [step for step, _ in curve] == [1]


def test_the_best_run_is_a_workdir_like_any_other(tmp_path, unbroken):
  workdir, _ = unbroken
  result = programs.run("evaluate", tmp_path, workdir=workdir / "best")
  assert result.status == 0, result.stderr
  assert (workdir / "best" / "report.html").exists()
  result = programs.run("evaluate", tmp_path, workdir=workdir)
  assert (result.status, result.stdout) == (1, "")
  assert f"got the search {workdir}; give {workdir}/best" in result.stderr


# ---- kill -9 -----------------------------------------------------------------------------


def test_a_killed_search_loses_and_repeats_no_trial(tmp_path, unbroken):
  workdir = tmp_path / "search"
  run = {i: workdir / "trials" / str(i) / "run-0" for i in range(3)}
  tune(tmp_path, workdir, trials=3).kill_when((run[0] / "config.json").exists)
  # Measured, but perhaps not yet told to keras-tuner.
  tune(tmp_path, workdir, trials=3).kill_when((run[1] / "figures.json").exists)
  kept = models(workdir)
  result = tune(tmp_path, workdir, trials=3).wait()
  assert result.status == 0, result.stderr
  assert trials(workdir) == trials(unbroken[0])
  assert len(kept) == 2 and kept.items() < models(workdir).items(), "trained again"
  oracle = json.loads((workdir / "keras_tuner" / "oracle.json").read_text())
  assert sorted(oracle["end_order"]) == ["0", "1", "2"]


@pytest.mark.slow  # two programs; integration/test_comparison.py starts two processes, too
def test_two_processes_of_one_command_share_the_trials(tmp_path, unbroken):
  workdir = tmp_path / "search"
  result = tune(tmp_path, workdir, trials=3, jobs=2).wait()
  assert result.status == 0, result.stderr
  assert "2 processes share the work" in result.stderr
  assert "ended with status" not in result.stderr
  found, alone = trials(workdir), trials(unbroken[0])
  assert {i: row[:2] for i, row in found.items()} == {i: row[:2] for i, row in alone.items()}
  for i, (_, _, score) in found.items():  # the number of threads decides the order of sums
    assert score == pytest.approx(alone[i][2], rel=0.02)


# ---- trials that fail ----------------------------------------------------------------------


def test_a_failed_trial_is_counted_and_says_why(tmp_path):
  workdir = tmp_path / "search"
  flags = {"search": "learning_rate=1e-3:1e30", "trials": 3}
  result = tune(tmp_path, workdir, **flags).wait()
  assert result.status == 0, result.stderr
  found = json.loads((workdir / "trials.json").read_text())
  failed = [row for row in found["trials"] if row["status"] == "FAILED"]
  assert 0 < len(failed) < 3
  assert f"{3 - len(failed)} completed, {len(failed)} failed" in result.stdout
  for row in failed:
    assert row["score"] is None and row["reason"].startswith("expected finite terms, got")
    assert row["id"] != found["best"]
    assert "expected finite terms" in (workdir / "report.html").read_text()


@pytest.mark.slow  # three trainings; search/test_driver.py ends after failures without any
def test_a_search_of_failures_alone_ends_with_the_reason(tmp_path):
  workdir = tmp_path / "search"
  flags = {"search": "learning_rate=1e30:1e32", "trials": 9}
  result = tune(tmp_path, workdir, **flags).wait()
  assert (result.status, result.stdout) == (1, "")
  last = result.stderr.splitlines()[-1]
  assert last.startswith("imae-tune: error: expected trials that train, got 3 failed ones in a row")
  assert "expected finite terms" in last and "Traceback" not in result.stderr
  assert [state for state, *_ in trials(workdir).values()] == ["FAILED"] * 3
  assert not (workdir / "best").exists()


# ---- several processes -------------------------------------------------------------------------


@pytest.mark.slow  # three programs; search/test_driver.py shares trials within a process
def test_a_lost_processs_trial_goes_to_another(tmp_path):
  workdir = tmp_path / "search"
  lost, *others = (
      tune(tmp_path, workdir, name, trials=3, epochs=3) for name in ("lost", "one", "two")
  )

  def in_a_trial():
    said = tmp_path / "lost" / "tune-err.txt"
    trial = re.search(r"Trial (\d):", said.read_text()) if said.exists() else None
    return trial and (workdir / "trials" / trial[1] / "run-0" / "config.json").exists()

  lost.kill_when(in_a_trial)
  results = [other.wait() for other in others]
  assert [r.status for r in results] == [0, 0], results
  said = "".join(result.stderr for result in results)
  assert len(re.findall(r"Trial \d was left unfinished, and goes on", said)) == 1
  assert {state for state, *_ in trials(workdir).values()} == {"COMPLETED"}
  assert list(trials(workdir)) == ["0", "1", "2"]
  assert len(re.findall(r"Trial \d: neighbor_mi_y", said)) >= 2
  assert results[0].stdout == results[1].stdout  # what was found


# ---- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"search": "alpha"}, "to search for imae, got 'alpha'"),
        ({"search": "beta=5:1"}, "expected beta=0.5:20.0 or the like to search, got '5:1'"),
        ({"dataset": "nothing"}, "nothing"),
        ({"holdout": 1797}, "holdout"),
        ({"env": {"KERASTUNER_TUNER_ID": "chief"}}, "got KERASTUNER_TUNER_ID; unset them"),
    ],
)
def test_bad_input_is_refused_in_one_line(tmp_path, flags, message):
  result = tune(tmp_path, tmp_path / "search", **flags).wait()
  assert (result.status, result.stdout) == (1, "")
  assert len(result.stderr.splitlines()) == 1 and message in result.stderr
  assert not (tmp_path / "search" / "search.json").exists()


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"trials": 3, "beta_y": 7}, "beta_y"),
        ({"trials": 3, "search": "beta"}, "space"),
        ({"trials": 2}, "trials 3 -> 2"),
    ],
)
def test_another_search_in_the_same_folder_is_refused(tmp_path, unbroken, flags, message):
  workdir, _ = unbroken
  with programs.unchanged(workdir):
    result = tune(tmp_path, workdir, **flags).wait()
  assert result.status == 1
  assert "in which --trials alone may differ" in result.stderr and message in result.stderr


def test_a_folder_of_something_else_is_refused(tmp_path):
  (tmp_path / "search").mkdir()
  (tmp_path / "search" / "thesis.txt").write_text("mine")
  result = tune(tmp_path, tmp_path / "search").wait()
  assert result.status == 1
  assert "with 'thesis.txt' and no search.json" in result.stderr

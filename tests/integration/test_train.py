"""imae-train and imae-evaluate: what they write, exact resume, repeatability, restarts."""

import csv
import html
import json
import math
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import programs
import pytest

from imae_tf.data import loading
from imae_tf.metrics import label_free
from imae_tf.training import run_folder

ROOT = pathlib.Path(__file__).parents[2]
LOGGED = {
    "loss", "reconstruction_loss", "mi_y", "entropy_y", "conditional_entropy_y", "mi_z", "kl_z",
    "total_correlation", "vat_loss",
}
METRICS = {
    "method", "dataset", "split", "n", "seed", "reconstruction", "mi_y", "mi_z",
    "mi_z_per_dimension", "total_correlation", "entropy_y", "conditional_entropy_y", "accuracy",
    "nmi", "ari", "mi_y_label", "active_units", "var_mean_per_dimension",
    "mean_variance_per_dimension", "reconstruction_floor", "baselines",
}
# Beyond the contract of METRICS.
EXTRA_METRICS = {
    "recipe", "epochs", "codes", "kl_z", "mi_joint", "mi_z_joint", "neighbor_mi_y",
    "used_categories", "total_correlation_floor", "category_overlap", "simple_methods", "remarks",
}
TRAIN_FLAGS = {
    "dataset", "workdir", "method", "recipe", "epochs", "batch_size", "seed", "beta", "gamma",
    "lam", "temperature", "vat_radius", "num_categories", "latent_dim", "optimizer",
    "learning_rate", "strategy",
}


def assert_same_run(run, reference, atol=1e-6):
  programs.assert_same_weights(run, reference, atol)
  ours, theirs = rows(run), rows(reference)
  assert [row["epoch"] for row in ours] == [row["epoch"] for row in theirs]
  for one, other in zip(ours, theirs, strict=True):
    assert one == pytest.approx(other, abs=1e-4, rel=1e-5)


def rows(run):
  """history.csv, or nothing where it is not there yet."""
  path = run / "history.csv"
  if not path.exists():
    return []
  with path.open(newline="") as file:
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


# ---- kill -9 and more epochs ---------------------------------------------------------------


@pytest.mark.parametrize(
    "often", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["once", "often"]
)  # often: four programs; training/test_runs.py has these moments within a process
def test_a_killed_run_ends_like_an_unbroken_one(tmp_path, unbroken, settings, often):
  run = tmp_path / "run"

  def train():
    return programs.Program("train", tmp_path, workdir=run, **settings)

  # In the second start; at the end of an epoch, its checkpoint perhaps not yet written; in
  # the middle of the next one.
  if often:
    train().kill_when((run / "restarts/start-0/checkpoints/epoch-0002.keras").exists)
    assert not (run / "restarts/scores.json").exists()
    train().kill_when(lambda: len(rows(run)) == 3)
  train().kill_when((run / "checkpoints/epoch-0004.keras").exists, seconds_later=0.05)
  assert not (run / "model.keras").exists()
  result = train().wait()
  assert result.status == 0, result.stderr
  assert "Going on after epoch 4 of 6" in result.stdout
  assert_same_run(run, unbroken)
  assert [row["epoch"] for row in rows(run)] == [1, 2, 3, 4, 5, 6]
  assert not list(run.glob("**/.tmp-*.keras")), "halves of killed writes stay behind"


@pytest.mark.slow  # two programs; training/test_runs.py shows it of a run of one start
def test_epochs_that_grow_equal_epochs_asked_for_at_once(tmp_path, unbroken, settings):
  run = tmp_path / "run"
  for epochs in (1, 6):  # 1 is within the short starts, which then go on as well
    flags = {**settings, "epochs": epochs}
    assert programs.run("train", tmp_path, workdir=run, **flags).status == 0
    assert json.loads((run / "config.json").read_text())["epochs"] == epochs
    assert len(rows(run)) == epochs
  assert_same_run(run, unbroken)


# ---- repeatability ----------------------------------------------------------------------------


def test_the_console_script_repeats_to_the_bit_from_the_checkout(tmp_path, finished):
  flags = {**finished.flags, "workdir": tmp_path / "run"}
  script = pathlib.Path(sys.executable).with_name("imae-train")
  env = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
  result = subprocess.run(
      [script, *(f"--{name}={value}" for name, value in flags.items())],
      cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=240,
  )
  assert result.returncode == 0, result.stderr
  # Where stderr is no terminal: a line for each epoch, and nothing of TensorFlow's.
  assert re.fullmatch(r"(epoch \d of 2: Reconstruction loss .*\n){2}", result.stderr)
  assert "Next: imae-evaluate" in result.stdout
  assert_same_run(tmp_path / "run", finished.workdir, atol=0)
  assert (tmp_path / "run/history.csv").read_text() == (
      finished.workdir / "history.csv"
  ).read_text()


def test_another_seed_has_other_weights(unbroken):
  one, other = (
      run_folder.load_keras(unbroken / f"restarts/start-{i}/checkpoints/epoch-0002.keras")
      for i in (0, 1)
  )
  kernels = [(a, b) for a, b in zip(one.get_weights(), other.get_weights()) if a.ndim == 2]
  assert kernels and all(np.abs(a - b).max() > 1e-3 for a, b in kernels)


# ---- what a run leaves --------------------------------------------------------------------------


def test_files_of_a_run(finished):
  names = {path.name for path in finished.workdir.glob("[!.]*")}
  assert names == {
      "config.json", "checkpoints", "model.keras", "history.csv", "tensorboard", "metrics.json",
      "report.html", "figures",
  }
  saved = sorted(path.name for path in (finished.workdir / "checkpoints").iterdir())
  assert saved == ["epoch-0001.keras", "epoch-0002.keras"]
  assert list(finished.workdir.glob("tensorboard/**/events.out.tfevents.*"))
  for path in finished.workdir.rglob("*.png"):
    assert path.read_bytes().startswith(b"\x89PNG")


def test_config_says_all_that_decides_the_run(finished):
  config = json.loads((finished.workdir / "config.json").read_text())
  assert config["dataset"] == "digits" and config["method"] == "imae"
  assert config["epochs"] == 2 and config["seed"] == 0 and config["deterministic"] is True
  assert config["settings"]["restarts"] == 1 and config["settings"]["batch_size"] == 128
  assert config["image_shape"] == [8, 8, 1] and config["versions"]["keras"] == keras.__version__


def test_history_has_each_term_finite_in_each_epoch(finished):
  history = rows(finished.workdir)
  assert [row["epoch"] for row in history] == [1, 2]
  for row in history:
    assert set(row) == LOGGED | {"epoch"}
    assert all(math.isfinite(value) for value in row.values())
    assert row["mi_y"] == pytest.approx(row["entropy_y"] - row["conditional_entropy_y"], abs=1e-5)
    assert row["entropy_y"] <= math.log(10) + 1e-5
  assert history[1]["reconstruction_loss"] < history[0]["reconstruction_loss"]


def test_metrics_keep_the_contract(finished):
  metrics = json.loads((finished.workdir / "metrics.json").read_text())
  assert set(metrics) == METRICS | EXTRA_METRICS
  assert metrics["split"] == "test" and metrics["epochs"] == 2
  assert metrics["n"] == metrics["codes"] == 360
  assert set(metrics["baselines"]) == {"k_means", "ward", "gaussian_mixture"}
  for name in ("mi_z", "total_correlation", "mi_joint"):
    assert set(metrics[name]) == {"naive", "leave_one_out"}
  for estimator in ("naive", "leave_one_out"):
    per_dimension = metrics["mi_z_per_dimension"][estimator]
    assert len(per_dimension) == 10
    assert sum(per_dimension) == pytest.approx(metrics["mi_z"][estimator], rel=1e-4)
  assert metrics["mi_y"] == pytest.approx(
      metrics["entropy_y"] - metrics["conditional_entropy_y"], abs=1e-5
  )
  # Eq (3), I(x;y,z) = I(x;y) + sum_k I(x;z_k) - TC(y,z), is an identity of the naive estimates.
  assert metrics["mi_joint"]["naive"] == pytest.approx(
      metrics["mi_y"] + metrics["mi_z"]["naive"] - metrics["total_correlation"]["naive"], abs=1e-4
  )
  assert metrics["reconstruction"] > metrics["reconstruction_floor"]


def test_report_and_terminal_show_the_numbers_of_metrics(finished):
  metrics = json.loads((finished.workdir / "metrics.json").read_text())
  page = (finished.workdir / "report.html").read_text()

  def shown(name):
    cell = re.search(rf"<code>{name}</code>.*?</th><td[^>]*>(.*?)</td>", page).group(1)
    return [float(v) for v in re.findall(r"(?<![\w-])-?\d+\.?\d*", html.unescape(cell))]

  for name in ("n", "accuracy", "nmi", "ari", "mi_y", "entropy_y", "conditional_entropy_y",
               "mi_y_label", "active_units"):
    assert shown(name) == [pytest.approx(metrics[name], abs=6e-4)], name
  for name in ("reconstruction", "reconstruction_floor"):
    assert shown(name) == [pytest.approx(metrics[name], abs=0.06)], name
  for name in ("mi_z", "total_correlation"):
    expected = [metrics[name]["naive"], metrics[name]["leave_one_out"]]
    assert shown(name) == pytest.approx(expected, abs=6e-4), name
  terminal = finished.evaluate.stdout
  assert f"accuracy        {metrics['accuracy']:.3f}" in terminal
  assert f"I(x;y)          {metrics['mi_y']:.3f} nats" in terminal
  assert f"reconstruction  {metrics['reconstruction']:.1f} nats" in terminal
  assert "report.html" in terminal
  assert finished.evaluate.stderr == ""


# ---- restarts ---------------------------------------------------------------------------------


def test_the_start_with_the_best_label_free_score_goes_on(unbroken):
  scores = json.loads((unbroken / "restarts/scores.json").read_text())
  starts = [rows(unbroken / f"restarts/start-{i}") for i in (0, 1)]
  seed = run_folder.read_config(unbroken)["seed"]  # by which equally near images are chosen
  x, nearest = label_free.neighborhood(loading.load("digits"), "train", seed)
  expected = []
  for folder in (unbroken / "restarts/start-0", unbroken / "restarts/start-1"):
    model = run_folder.load_keras(run_folder.newest_checkpoint(folder).path)
    expected.append(label_free.neighbor_information(model.encode(x)["y"].argmax(axis=1), nearest))
  assert scores["scores"] == pytest.approx(expected, abs=1e-6)
  assert scores["chosen"] == int(np.argmax(expected))
  assert rows(unbroken)[:2] == starts[scores["chosen"]]
  assert rows(unbroken)[:2] != starts[1 - scores["chosen"]]


# ---- help ---------------------------------------------------------------------------------------


def test_help_names_every_flag(tmp_path):
  """As a module, from a folder that is not the checkout."""
  result = subprocess.run(
      [sys.executable, "-m", "imae_tf.trainers.train", "--help"],
      cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
  )
  found = set(re.findall(r"^ +--(?:\[no\])?(\w+):", result.stdout, re.MULTILINE))
  assert found >= TRAIN_FLAGS
  assert "Example: imae-train" in result.stdout
  assert result.stderr == ""


@pytest.mark.parametrize(
    ("script", "named"),
    [
        ("imae-train", TRAIN_FLAGS),
        ("imae-evaluate", {"workdir", "split"}),
        ("imae-export", {"workdir", "base", "keep"}),
        ("imae-encode", {"saved_model", "input", "output", "split"}),
    ],
)
def test_console_scripts_show_help_in_the_checkout(script, named):
  path = pathlib.Path(sys.executable).with_name(script)
  result = subprocess.run(
      [path, "--help"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
  )
  found = set(re.findall(r"^ +--(?:\[no\])?(\w+):", result.stdout, re.MULTILINE))
  assert found >= named

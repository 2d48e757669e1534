"""Plans, and tables from the files of finished runs."""

import json
import statistics

import numpy as np
import pytest

from imae_tf.comparison import page
from imae_tf.comparison import plan
from imae_tf.data import loading
from imae_tf.errors import InputError

SIZES = {"num_categories": 10, "latent_dim": 10}


def _plan(**changes):
  arguments = {
      "methods": ["imae", "vae"], "recipe_names": ["paper"], "datasets": ["digits"],
      "seeds": [0, 1], "epochs": None, **SIZES,
  }
  return plan.plan(**{**arguments, **changes})


def _finished(workdir, method="imae", seed=0, variant="", dataset="mnist", epochs=2, **metrics):
  """The files of an evaluated run, as far as the tables read them."""
  name = "-".join(filter(None, (method, "paper", variant)))
  folder = workdir / "runs" / dataset / name / f"seed-{seed}"
  folder.mkdir(parents=True)
  (folder / "config.json").write_text(json.dumps({
      "format": 1, "dataset": dataset, "method": method, "recipe": "paper", "epochs": epochs,
      "seed": seed, "holdout": 0, "num_categories": 10, "latent_dim": 10,
      "settings": {"lam": 5.0}, "versions": {},
  }))
  (folder / "metrics.json").write_text(json.dumps({
      "method": method, "recipe": "paper", "dataset": dataset, "split": "test", "seed": seed,
      "n": 100, "epochs": epochs, "reconstruction": 100.0, "reconstruction_floor": 40.0,
      "mi_y": 2.0, "mi_z": {"naive": 5.0, "leave_one_out": 7.0},
      "mi_z_joint": {"naive": 4.0, "leave_one_out": 6.5},
      "mi_z_per_dimension": {"naive": [5.0], "leave_one_out": [7.0]},
      "total_correlation": {"naive": 1.0, "leave_one_out": -0.5}, "accuracy": None,
      "baselines": None, **metrics,
  }))
  (folder / "history.csv").write_text("epoch,loss,seconds\n1,3.0,30\n2,2.0,60\n")
  return folder


def test_a_plan_has_each_combination_once_seed_by_seed():
  planned = _plan(recipe_names=["paper", "tuned"], variants=["", "lam=0"])
  assert [item.run.seed for item in planned] == [0] * 8 + [1] * 8
  folders = [item.folder("w") for item in planned]
  assert len(set(folders)) == 16
  assert [item.run.recipe.lam for item in planned[:4]] == [5.0, 0.0, 5.0, 0.0]
  assert str(folders[1]) == "w/runs/digits/imae-paper-lam=0/seed-0"
  assert str(planned[1]) == "digits, imae, paper, lam=0, seed 0"


def test_epochs_are_the_recipes_unless_given():
  assert {item.run.recipe.epochs for item in _plan()} == {10}
  assert {item.run.recipe.epochs for item in _plan(epochs=3)} == {3}


def test_a_run_on_few_images_has_batches_that_they_fill(tmp_path):
  np.savez(tmp_path / "few.npz", x=np.zeros((20, 4, 4), np.uint8) + 255)
  few, digits = loading.load(tmp_path / "few.npz"), loading.load("digits")
  as_it_is, asked = _plan(methods=["imae"], seeds=[0], variants=["", "batch_size=99"])
  assert as_it_is.run_on(few).recipe.batch_size == few.size("train") == 16
  assert as_it_is.run_on(digits) == as_it_is.run
  assert asked.run_on(few).recipe.batch_size == 99  # which is told to be too many


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(methods=[]), "expected methods to compare, got none"),
        (dict(seeds=[1, 1]), "expected each of the seeds once, got 1,1"),
        (dict(methods=["gan"]), "expected a method among imae, .* got 'gan'"),
        (dict(recipe_names=["best"]), "expected the recipe 'paper' or 'tuned', got 'best'"),
        (dict(variants=["gamma=0"]), "expected a setting of vae such as lam=0, got 'gamma=0'"),
        (dict(variants=["lam=x"]), "expected lam as a number, 0 or more, got 'x'"),
        (dict(datasets=["/a/x.npz", "/b/x.npz"]), "expected data sets of different names"),
    ],
    ids=str,
)
def test_a_plan_that_cannot_be(changes, message):
  with pytest.raises(InputError, match=message):
    _plan(**changes)


def test_rows_are_means_over_seeds_of_runs_of_a_kind(tmp_path):
  for seed, mi_y in ((1, 1.8), (0, 2.0), (10, 1.9)):
    _finished(tmp_path, seed=seed, mi_y=mi_y, accuracy=0.9)
  _finished(tmp_path, variant="lam=0", mi_y=0.5)
  _finished(tmp_path, "betavae", mi_y=0.1)
  rows = plan.rows(tmp_path)
  assert [(r["method"], r["variant"], r["seeds"]) for r in rows] == [
      ("imae", "", [0, 1, 10]), ("imae", "lam=0", [0]), ("betavae", "", [0]),
  ]
  values = [2.0, 1.8, 1.9]
  assert rows[0]["metrics"]["mi_y"] == {
      "mean": pytest.approx(1.9), "std": pytest.approx(statistics.stdev(values)),
      "values": values,
  }
  assert rows[0]["metrics"]["mi_z.leave_one_out"]["values"] == [7.0] * 3
  assert rows[0]["metrics"]["train_seconds"]["mean"] == 90
  assert rows[1]["metrics"]["mi_y"]["std"] is None
  assert "accuracy" not in rows[1]["metrics"]  # of a data set without labels
  assert (rows[0]["n"], rows[0]["epochs"], rows[0]["dataset"]) == (100, 2, "mnist")


def test_the_papers_figures_stand_beside_ours(tmp_path):
  _finished(tmp_path, "jointvae", dataset="mnist")
  _finished(tmp_path, "vae", dataset="mnist")
  by_method = {row["method"]: row for row in plan.rows(tmp_path)}
  assert by_method["vae"]["published"] is None
  assert by_method["jointvae"]["published"] == {
      "reconstruction": 127.3, "mi_y": 1.9, "mi_z": 5.6, "total_correlation": 2.3,
  }
  text = page.markdown(plan.rows(tmp_path))
  assert "| JointVAE | as the paper reports |" in text
  assert "127.3" in text and "4.00 / 6.50" in text


@pytest.mark.parametrize("last", [{"split": "train"}, {"epochs": 1}])
def test_rows_are_of_test_images_and_of_the_last_epoch(tmp_path, last):
  _finished(tmp_path, seed=0, mi_y=1.5)
  folder = _finished(tmp_path, seed=1)
  metrics = json.loads((folder / "metrics.json").read_text())
  (folder / "metrics.json").write_text(json.dumps({**metrics, **last}))
  assert [row["seeds"] for row in plan.rows(tmp_path)] == [[0]]
  assert [len(runs) for runs in plan.groups(tmp_path)["mnist"].values()] == [1]


def test_runs_whose_images_moved_in_between_are_of_a_kind(tmp_path):
  _finished(tmp_path, seed=0, dataset="mnist")
  folder = _finished(tmp_path, seed=1, dataset="mnist")
  metrics = json.loads((folder / "metrics.json").read_text())
  (folder / "metrics.json").write_text(json.dumps({**metrics, "dataset": "/before/mnist.npz"}))
  assert [row["seeds"] for row in plan.rows(tmp_path)] == [[0, 1]]


def test_rows_of_other_epochs_say_theirs(tmp_path):
  _finished(tmp_path, epochs=2)
  _finished(tmp_path, "vae", epochs=3)
  text = page.markdown(plan.rows(tmp_path))
  assert "| IMAE | paper, 2 epochs |" in text and "| VAE | paper, 3 epochs |" in text


def test_restarts_count_in_the_time(tmp_path):
  folder = _finished(tmp_path)
  for start, seconds in ((1, 10), (2, 20)):
    (folder / f"restarts/start-{start}").mkdir(parents=True)
    rows = f"epoch,loss,seconds\n1,3.0,{seconds}\n"
    (folder / f"restarts/start-{start}/history.csv").write_text(rows)
  # The first row of the run is that of the start that was chosen.
  assert plan.rows(tmp_path)[0]["metrics"]["train_seconds"]["mean"] == 60 + 10 + 20


def test_a_run_that_diverged_is_named_and_not_averaged(tmp_path):
  _finished(tmp_path)
  folder = tmp_path / "runs/mnist/vae-paper/seed-0"
  folder.mkdir(parents=True)
  (folder / "failed.json").write_text('{"reason": "loss = nan at step 3"}')
  assert [row["method"] for row in plan.rows(tmp_path)] == ["imae"]
  failed = plan.failed(tmp_path)
  text = page.markdown(plan.rows(tmp_path), failed)
  assert f"- `{folder}`: loss = nan at step 3" in text
  assert "loss = nan at step 3" in page.page(plan.rows(tmp_path), {}, failed)


def test_nothing_finished_yet(tmp_path):
  assert plan.rows(tmp_path) == []
  assert "No run has finished yet." in page.markdown([])


def test_a_folder_of_something_else(tmp_path):
  (tmp_path / "thesis.tex").touch()
  with pytest.raises(InputError, match="an empty folder or a comparison's, got .*thesis.tex"):
    plan.train_all(_plan(), tmp_path)


def test_the_page_holds_every_table_cell(tmp_path):
  _finished(tmp_path, mi_y=1.234, variant="batch_size=64")
  whole = page.page(plan.rows(tmp_path), {})
  for text in ("1.234", "paper, batch_size=64", "IMAE", "as the paper reports", "117.9"):
    assert text in whole

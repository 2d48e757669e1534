"""imae-compare as a whole: killed in the middle, resumed, refused."""

import json
import pathlib
import re
import time

import programs
import pytest

ROOT = pathlib.Path(__file__).parents[2]  # whose folder imae_tf is not the installed package
FLAGS = {
    "methods": "imae,vae", "datasets": "digits", "recipes": "paper", "seeds": "1", "epochs": 2,
}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
  """The folder of a comparison that nothing interrupted."""
  folder = tmp_path_factory.mktemp("compared")
  result = programs.run("compare", folder, workdir=folder / "all", **FLAGS)
  assert result.status == 0, result.stderr
  return folder / "all"


def _tables(folder):
  """comparison.json without wall-clock times."""
  rows = json.loads((folder / "comparison.json").read_text())
  for row in rows:
    assert row["metrics"].pop("train_seconds")["mean"] > 0
  return rows


@pytest.mark.slow  # four trainings; comparison/test_plan.py says which runs are left
def test_killed_in_the_middle_it_ends_in_the_same_tables(compared, tmp_path):
  workdir = tmp_path / "all"
  second = workdir / "runs/digits/vae-paper/seed-1"
  program = programs.Program("compare", tmp_path, workdir=workdir, **FLAGS)
  program.kill_when(lambda: list(second.glob("checkpoints/epoch-0001.keras")))
  assert not (second / "metrics.json").exists()
  first = workdir / "runs/digits/imae-paper/seed-1"
  with programs.unchanged(first):  # it was finished
    result = programs.run("compare", tmp_path, workdir=workdir, **FLAGS)
  assert result.status == 0, result.stderr
  assert "[1 of 2] digits, imae, paper, seed 1: done before" in result.stderr
  assert "Going on after epoch 1 of 2" in result.stderr + result.stdout
  assert _tables(workdir) == _tables(compared)


def test_two_processes_share_the_runs(compared, tmp_path):
  workdir = tmp_path / "all"
  result = programs.run("compare", tmp_path, cwd=ROOT, workdir=workdir, **FLAGS, jobs=2)
  assert result.status == 0, result.stderr
  assert "2 processes share the work" in result.stderr
  assert "ended with status" not in result.stderr
  said = result.stderr + (workdir / "processes" / "2.log").read_text()
  trained = re.findall(r"^\[\d of 2\] digits, (\w+), paper, seed 1$", said, re.MULTILINE)
  assert sorted(trained) == ["imae", "vae"]  # each by one of them
  for row, alone in zip(_tables(workdir), _tables(compared), strict=True):
    for name in ("reconstruction", "mi_y"):  # the number of threads decides the order of sums
      values = [r["metrics"][name]["values"] for r in (row, alone)]
      assert values[0] == pytest.approx(values[1], rel=0.02)


@pytest.mark.slow  # two trainings
def test_the_other_process_ends_with_the_one_that_started_it(tmp_path):
  workdir = tmp_path / "all"
  second = workdir / "processes" / "2.log"
  flags = {**FLAGS, "epochs": 500, "jobs": 2}
  program = programs.Program("compare", tmp_path, workdir=workdir, **flags)
  program.kill_when(lambda: second.exists() and "epoch" in second.read_text())
  deadline = time.monotonic() + 60
  while "the same command" not in second.read_text():  # it has saved
    assert time.monotonic() < deadline, "it outlives it"
    time.sleep(0.1)


def test_tables_and_pages_show_each_run(compared):
  rows = _tables(compared)
  assert [(row["method"], row["seeds"], row["n"]) for row in rows] == [
      ("imae", [1], 360), ("vae", [1], 360),
  ]
  text, page = ((compared / f"comparison.{end}").read_text() for end in ("md", "html"))
  for row in rows:
    for value in row["metrics"]["reconstruction"]["values"]:
      assert f"{value:.1f}" in text and f"{value:.1f}" in page
  figures = {path.stem for path in (compared / "figures").glob("*.png")}
  assert figures == {
      "digits_rate_distortion", "digits_paper_tracked", "digits_paper_maps",
      "digits_paper_information", "digits_paper_drawn_imae", "digits_paper_drawn_vae",
      "digits_paper_traversal_most", "digits_paper_traversal_middle",
      "digits_paper_traversal_least",
  }
  assert page.count("<img") == len(figures)


def test_each_run_is_a_workdir_with_labels_watched(compared):
  folder = compared / "runs/digits/vae-paper/seed-1"
  assert json.loads((folder / "config.json").read_text())["method"] == "vae"
  header = (folder / "history.csv").read_text().splitlines()[0].split(",")
  assert {"accuracy", "nmi", "mi_y_label", "seconds", "mi_y"} <= set(header)
  assert (folder / "report.html").exists() and (folder / "model.keras").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"latent_dim": 4}, "latent_dim 10 -> 4"),
        ({"seeds": "0,x"}, "expected --seeds as integers such as 0,1, got '0,x'"),
    ],
    ids=str,
)
def test_other_settings_are_refused_and_nothing_changes(compared, tmp_path, changes, message):
  with programs.unchanged(compared / "runs"):
    result = programs.run("compare", tmp_path, workdir=compared, **{**FLAGS, **changes})
  assert result.status == 1
  assert message in result.stderr and "Traceback" not in result.stderr

"""Files that an earlier version left are still read, and mean the same.

The purpose of these tests is to fail when a change of the code would strand the runs and
SavedModels that people have. `golden/` is not made anew to mend them: the code is, or a new
format gets a number of its own, an error that says what to do, and golden files beside the old.
"""

import json
import pathlib
import shutil

import exports
import numpy as np
import programs
import pytest

from imae_tf._shared import files
from imae_tf.errors import InputError
from imae_tf.export import descriptions
from imae_tf.metrics import clustering
from imae_tf.training import evaluation
from imae_tf.training import run_folder
from imae_tf.training import runs

GOLDEN = pathlib.Path(__file__).parent / "golden"
FORMATS = sorted(path.name for path in GOLDEN.glob("format-*"))
ATOL = 1e-5


@pytest.fixture(params=FORMATS)
def golden(request, tmp_path):
  """A copy of the golden files of a format."""
  return shutil.copytree(GOLDEN / request.param, tmp_path / request.param)


@pytest.fixture
def stored(golden):
  """{"x": images, "y", "z", "z_scale": their codes}."""
  with np.load(golden / "codes.npz") as file:
    return dict(file)


def assert_codes(found, stored):
  assert set(found) == {"y", "z", "z_scale"}
  for name, values in found.items():
    np.testing.assert_allclose(values, stored[name], rtol=0, atol=ATOL, err_msg=name)


def test_the_stored_codes_can_tell(stored):
  """They differ from image to image by far more than what is tolerated."""
  assert all(stored[name].std(axis=0).max() > 1000 * ATOL for name in ("y", "z", "z_scale"))


def test_a_finished_run_loads_and_gives_its_codes(golden, stored):
  model, config = run_folder.load_model(golden / "run")
  assert_codes(model.encode(stored["x"]), stored)
  assert (config["dataset"], config["epochs"], config["method"]) == ("digits", 30, "imae")
  history = run_folder.read_history(golden / "run")
  assert [row["epoch"] for row in history] == list(range(1, 31))


def test_its_checkpoint_is_the_model_with_the_optimizers_state(golden, stored):
  saved = run_folder.newest_checkpoint(golden / "run")
  assert (saved.epochs, saved.steps) == (30, 0)
  model = run_folder.load_keras(saved.path)
  assert_codes(model.encode(stored["x"]), stored)
  assert int(model.optimizer.iterations) == 30 * 11
  assert all(np.abs(v.numpy()).max() > 0 for v in model.optimizer.variables[2:])


def test_a_finished_run_is_evaluated_to_the_same_figures(golden):
  before = files.read_json(golden / "run/metrics.json")
  baselines = before["baselines"]
  after = evaluation.evaluate(golden / "run", baselines=baselines, say=lambda line: None)
  assert before.keys() <= after.keys()
  for name in ("n", "accuracy", "nmi", "ari", "mi_y", "reconstruction", "reconstruction_floor"):
    assert after[name] == pytest.approx(before[name], abs=1e-4), name
  assert (golden / "run/report.html").exists()


def run_of(config, epochs):
  """The `runs.Run` that a config.json describes, as imae-train's flags would."""
  settings = {
      name: tuple(value) if isinstance(value, list) else value
      for name, value in config["settings"].items()
  }
  names = ("dataset", "method", "num_categories", "latent_dim", "holdout", "seed", "deterministic")
  return runs.Run(
      recipe_name=config["recipe"],
      recipe=runs.recipes.Recipe(**settings, epochs=epochs),
      **{name: config[name] for name in names},
  )


def test_a_finished_run_goes_on_or_is_refused_and_left_whole(golden, stored):
  """Refused once a setting has been added that decides weights; never trained on otherwise."""
  config = run_folder.read_config(golden / "run")
  before = (golden / "run/config.json").read_bytes()
  try:
    model = runs.train(run_of(config, epochs=31), golden / "run", progress=False)
  except InputError as error:
    assert "only --epochs may grow" in str(error)
    assert (golden / "run/config.json").read_bytes() == before
    assert_codes(run_folder.load_model(golden / "run")[0].encode(stored["x"]), stored)
    return
  assert int(model.optimizer.iterations) == 31 * 11
  old = run_folder.read_history(GOLDEN / golden.name / "run")
  new = run_folder.read_history(golden / "run")
  assert new[:30] == old and new[30]["epoch"] == 31
  # It went on: a fresh start would be far from what thirty epochs had reached.
  assert abs(new[30]["reconstruction_loss"] - old[29]["reconstruction_loss"]) < 1.0


def test_a_run_of_another_seed_is_refused(golden):
  config = {**run_folder.read_config(golden / "run"), "seed": 1}
  with pytest.raises(InputError, match="seed 0 -> 1; only --epochs may grow"):
    runs.train(run_of(config, epochs=31), golden / "run", progress=False)


def test_imae_encode_reads_the_saved_model(golden, stored):
  np.save(golden / "x.npy", stored["x"])
  flags = {"saved_model": "saved_model", "input": "x.npy", "output": "out.npz"}
  done = programs.run("encode", golden, cwd=golden, **flags)
  assert done.status == 0, done.stderr
  assert "Wrote the codes of 10 images" in done.stdout
  with np.load(golden / "out.npz") as found:
    assert_codes(dict(found), stored)


def test_the_saved_models_signatures_and_description(golden, stored):
  call = exports.reference(golden / "saved_model/1")
  decoded = call("decode", y=stored["y"], z=stored["z"])["x"]
  np.testing.assert_allclose(call("reconstruct", x=stored["x"])["x"], decoded, atol=ATOL)
  pixels = np.rint(stored["x"] * 255).astype("uint8")
  png = exports.strings(*(exports.encoded(image[..., 0]) for image in pixels))
  codes = call("encode_image_bytes", image_bytes=png)
  np.testing.assert_allclose(codes["z"], stored["z"], atol=0.05)  # of bytes, not of sixteenths
  described = descriptions.read(golden / "saved_model/1")
  assert (described["num_categories"], described["latent_dim"]) == (5, 3)
  assert described["evaluation"]["n"] == 360


def test_the_golden_files_are_small():
  sizes = [path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()]
  assert len(FORMATS) >= 1 and sum(sizes) < 1_000_000 * len(FORMATS)
  for name in FORMATS:  # each says which format it is
    written = json.loads((GOLDEN / name / "run/config.json").read_text())["format"]
    assert name == f"format-{written}"


def test_accuracy_of_the_golden_run_is_that_of_its_codes(golden, digits):
  """The figures above are of these codes: by scikit-learn's own digits, not by our pipeline."""
  model, _ = run_folder.load_model(golden / "run")
  x, labels = (part[-360:] for part in digits)
  found = clustering.clustering_accuracy(labels, model.encode(x)["y"].argmax(axis=1))
  stored = files.read_json(golden / "run/metrics.json")["accuracy"]
  assert found == pytest.approx(stored, abs=1 / 360 + 1e-9)

"""The model inside the package: its codes, its figures, its place in the wheel."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import imae_tf
from imae_tf import example
from imae_tf.data import loading
from imae_tf.metrics import clustering

ROOT = pathlib.Path(__file__).parent.parent
CODES = pathlib.Path(__file__).parent / "golden" / "example_codes.npz"


@pytest.fixture(scope="module")
def model():
  return imae_tf.load_example()


@pytest.fixture(scope="module")
def test_split():
  return loading.load("digits").arrays("test")


def test_its_codes_are_those_of_the_day_it_was_made(model, test_split):
  codes = model.encode(test_split[0][:10])
  with np.load(CODES) as stored:
    assert set(stored) == set(codes)
    for name in stored:
      np.testing.assert_allclose(codes[name], stored[name], rtol=0, atol=1e-5, err_msg=name)


def test_its_figures_are_those_of_its_docstring(model, test_split):
  x, labels = test_split
  codes = model.encode(x)
  text = " ".join(example.load_example.__doc__.split())
  accuracy = clustering.clustering_accuracy(labels, codes["y"].argmax(axis=1))
  assert accuracy >= 0.9
  assert f"{accuracy:.3f}" == re.search(r"accuracy ([\d.]+) \(", text).group(1)
  y = codes["y"].astype("float64")
  mean = y.mean(axis=0)
  information = np.sum(y * np.log(np.maximum(y, 1e-300))) / len(y) - np.sum(mean * np.log(mean))
  assert f"{information:.2f}" == re.search(r"I\(x;y\) ([\d.]+)", text).group(1)
  loss = model.reconstruction_loss(x).mean()
  assert f"{loss:.1f}" == re.search(r"reconstruction ([\d.]+)", text).group(1)


def test_it_is_a_model_like_any_other(model, test_split):
  assert isinstance(model, imae_tf.IMAE) and not model.compiled
  assert model.generate(3, y=2).shape == (3, 8, 8, 1)
  assert model.reconstruct(test_split[0][:2]).shape == (2, 8, 8, 1)


def test_it_is_made_without_the_optimizer(tmp_path, tiny_model, test_split, monkeypatch):
  import keras

  made = tiny_model(num_categories=10, latent_dim=10)
  made.compile(keras.optimizers.Adam(1e-3))
  made.fit(test_split[0][:64], batch_size=32, verbose=0)
  monkeypatch.setattr(example.run_folder, "load_model", lambda workdir: (made, {}))
  example.make("run", tmp_path / "example.keras")
  loaded = example.run_folder.load_keras(tmp_path / "example.keras")
  assert not loaded.compiled and made.compiled
  before, after = (m.encode(test_split[0][:5]) for m in (made, loaded))
  for name in before:
    np.testing.assert_array_equal(before[name], after[name])


def test_it_is_loaded_when_it_is_asked_for():
  code = "import sys, imae_tf; print('load_example' in dir(imae_tf), 'tensorflow' in sys.modules)"
  out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert out.stdout.split() == ["True", "False"]


@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="needs a checkout")
def test_the_wheel_has_it(tmp_path):
  """By the step of the build that lays out what the wheel then holds."""
  command = [sys.executable, "setup.py", "-q", "build_py", f"--build-lib={tmp_path}"]
  subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
  assert (tmp_path / "imae_tf/example/example.keras").read_bytes() == example.PATH.read_bytes()
  assert (tmp_path / "imae_tf/py.typed").exists()
  assert example.PATH.stat().st_size < 1_500_000

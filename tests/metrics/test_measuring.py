"""All figures of a model: by hand, as a perfect copy has them, and with bad input."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import reference

from imae_tf.errors import InputError
from imae_tf.metrics import dataset_information
from imae_tf.metrics import measuring


class FakeModel:
  """Fixed codes and a fixed loss in place of a trained network."""

  likelihood = "bernoulli"

  def __init__(self, y, z, z_scale, loss=3.0):
    self._codes = {"y": y, "z": z, "z_scale": z_scale}
    self._loss = loss

  def encode(self, x):
    return self._codes

  def reconstruction_loss(self, x):
    return np.full(len(x), self._loss, "float32")


def _images(n):
  return np.full((n, 2, 2, 1), 0.5, "float32")


def _random_model(rng, n=60, k1=3, k2=4):
  return FakeModel(*reference.random_codes(rng, n, k1, k2))


# --- continuous codes and pixels -------------------------------------------------------------


def test_active_units_counts_variances_above_the_threshold():
  signs = np.array([1.0, -1.0] * 50)[:, None]
  mean = 5.0 + signs * np.sqrt([1.0, 0.011, 0.009, 0.0])
  assert measuring.active_units(mean) == 2
  assert measuring.active_units(mean, threshold=0.001) == 3


def test_bernoulli_floor_by_hand_and_as_the_loss_of_a_perfect_copy(digits):
  x = np.array([[0.0, 1.0, 0.5], [0.25, 1.0, 0.0]]).reshape(2, 3, 1, 1)
  quarter = -0.25 * np.log(0.25) - 0.75 * np.log(0.75)
  assert measuring.reconstruction_floor(x, "bernoulli") == pytest.approx((np.log(2) + quarter) / 2)

  import tensorflow as tf

  from imae_tf import objective

  images, _ = digits
  logits = np.log(np.maximum(images, 1e-30)) - np.log(np.maximum(1 - images, 1e-30))
  copied = np.mean(objective.bernoulli_reconstruction(tf.constant(images), tf.constant(logits)))
  assert measuring.reconstruction_floor(images, "bernoulli") == pytest.approx(copied, rel=1e-5)


def test_gaussian_floor_is_the_loss_of_a_perfect_copy(digits):
  from imae_tf import objective

  images = digits[0][:10].clip(1e-4, 1 - 1e-4)
  copied = np.mean(objective.gaussian_reconstruction(images, np.log(images / (1 - images))))
  assert measuring.reconstruction_floor(images, "gaussian") == pytest.approx(copied, rel=1e-5)
  assert measuring.reconstruction_floor(images, "gaussian") == pytest.approx(32 * np.log(2 * np.pi))


@pytest.mark.parametrize(
    "x,likelihood,message",
    [
        (np.zeros((0, 2, 2, 1)), "bernoulli", "N >= 1"),
        (_images(2), "laplace", "'bernoulli' or 'gaussian'"),
        (_images(2) * 3, "bernoulli", r"expected pixels in \[0, 1\]"),
        (_images(2) * np.nan, "bernoulli", r"expected pixels in \[0, 1\]"),
        (np.full((2, 2, 2, 1), 255.0), "bernoulli", "uint8 / 255"),
    ],
)
def test_floor_refuses_bad_images(x, likelihood, message):
  with pytest.raises(InputError, match=message):
    measuring.reconstruction_floor(x, likelihood)


@pytest.mark.parametrize("name,floor", [("mnist", 45.53), ("fashion_mnist", 189.86)])
def test_floor_of_the_real_test_images(name, floor):
  folder = os.environ.get("TFDS_DATA_DIR", pathlib.Path.home() / "tensorflow_datasets")
  if not (pathlib.Path(folder) / name).is_dir():
    pytest.skip(f"no {name} in {folder}")
  import tensorflow_datasets as tfds

  x = tfds.as_numpy(tfds.load(name, split="test", batch_size=-1, download=False))["image"]
  assert measuring.reconstruction_floor(x / np.float32(255), "bernoulli") == pytest.approx(
      floor, abs=0.01
  )


# --- drawn images ----------------------------------------------------------------------------


class Painter:
  """An image is its category (pixel 0, from 0 to 1) and z; read back with pixels above `most`
  taken for category 0."""

  def __init__(self, num_categories, most=np.inf):
    self._k2, self._most = num_categories, most

  def decode(self, y, z):
    share = np.argmax(y, axis=1) / self._k2
    return np.concatenate([share[:, None], z], axis=1)[:, None, :, None]

  def encode(self, x):
    category = np.rint(x[:, 0, 0, 0] * self._k2).astype(int)
    category = np.where(x[:, 0, 2, 0] > self._most, 0, category)
    return {"y": np.eye(self._k2)[category]}


def test_categories_are_drawn_from_their_mean_with_one_dimension_moved():
  y = np.eye(3)[[0, 0, 2, 2]]  # category 1 is no image's
  z = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], "float32")
  categories, drawn = measuring.category_traversals(Painter(3), y, z, 1, [-2, 0, 2])
  assert categories == [0, 2] and drawn.shape == (2, 3, 1, 3, 1)
  np.testing.assert_allclose(drawn[..., 0, 0, 0], [[0] * 3, [2 / 3] * 3])
  np.testing.assert_allclose(drawn[..., 0, 1, 0], [[2] * 3, [6] * 3])  # the mean of dimension 0
  np.testing.assert_allclose(drawn[..., 0, 2, 0], [[-2, 0, 2]] * 2)


def test_overlap_is_the_share_that_is_read_back_otherwise():
  y, z = np.eye(3)[[0, 1, 2]], np.zeros((3, 2), "float32")
  assert measuring.category_overlap(Painter(3), y, z, 1) == 0.0
  # Of 41 positions the 20 above 0 are lost for two categories of three.
  assert measuring.category_overlap(Painter(3, most=0), y, z, 1) == pytest.approx(2 * 20 / 123)


# --- evaluate --------------------------------------------------------------------------------


def test_evaluate_summarises_codes_and_labels_by_hand():
  # Two sure categories that agree with the labels on three of four images.
  y = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], "float32")
  z = np.array([[1, 0], [-1, 0], [1, 0], [-1, 0]], "float32")
  z_scale = np.array([[0.5, 1]] * 4, "float32")
  got = measuring.evaluate(FakeModel(y, z, z_scale, loss=7.0), _images(4), [3, 3, 5, 3])
  assert got["n"] == got["codes"] == 4
  assert got["reconstruction"] == pytest.approx(7.0)
  assert got["reconstruction_floor"] == pytest.approx(4 * np.log(2))
  assert got["mi_y"] == pytest.approx(np.log(2), abs=1e-6)
  assert got["conditional_entropy_y"] == pytest.approx(0.0, abs=1e-6)
  assert got["active_units"] == 1
  assert got["var_mean_per_dimension"] == [1.0, 0.0]
  assert got["mean_variance_per_dimension"] == [0.25, 1.0]
  assert got["accuracy"] == 0.75
  assert got["mi_z_per_dimension"]["naive"][1] == pytest.approx(0.0, abs=1e-6)


def test_of_many_images_some_codes_are_compared_with_all(rng, monkeypatch):
  model, x = _random_model(rng), _images(60)
  every = measuring.evaluate(model, x)
  monkeypatch.setattr(dataset_information, "MAX_CODES", 20)
  some = measuring.evaluate(model, x)
  assert (every["n"], every["codes"], some["n"], some["codes"]) == (60, 60, 60, 20)
  assert some["mi_y"] == pytest.approx(every["mi_y"])
  assert some["mi_z"] != every["mi_z"]


def test_evaluate_is_json_and_repeats_with_its_seed(rng):
  model, x = _random_model(rng), _images(60)
  first = measuring.evaluate(model, x, seed=1)
  assert json.loads(json.dumps(first, allow_nan=False)) == first
  assert first == measuring.evaluate(model, x, seed=1)
  other = measuring.evaluate(model, x, seed=2)
  assert first["mi_z"] != other["mi_z"] and first["mi_y"] == other["mi_y"]
  for key in ("accuracy", "nmi", "ari", "mi_y_label"):
    assert first[key] is None


@pytest.mark.parametrize(
    "n,labels,message",
    [
        (0, None, "N >= 1"),
        (1, None, "at least 2 images"),
        (60, np.zeros(59, int), "one label for each of 60 images, got 59"),
        (60, np.zeros(60), "vector of integers"),
    ],
)
def test_evaluate_refuses_bad_input(rng, n, labels, message):
  with pytest.raises(InputError, match=message):
    measuring.evaluate(_random_model(rng), _images(n), labels)


@pytest.mark.parametrize("name", ["y", "z", "z_scale"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_evaluate_refuses_codes_that_are_not_finite(rng, name, bad):
  model = _random_model(rng)
  model.encode(None)[name][[3, 5], 0] = bad
  with pytest.raises(InputError, match=rf"NaN or infinity in {name} of 2 of 60"):
    measuring.evaluate(model, _images(60))


def test_evaluate_refuses_a_scale_of_zero(rng):
  model = _random_model(rng)
  model.encode(None)["z_scale"][0, 0] = 0
  with pytest.raises(InputError, match="expected a z_scale > 0"):
    measuring.evaluate(model, _images(60))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and KiB of ru_maxrss")
def test_ten_thousand_codes_stay_within_one_gibibyte():
  """All pairs in four dimensions at once would be 1.6 GB."""
  program = textwrap.dedent("""
      import resource
      import numpy as np
      import test_measuring as t
      from imae_tf.metrics import measuring
      rng = np.random.default_rng(0)
      measuring.evaluate(t._random_model(rng, 200, 4, 4), t._images(200))  # TensorFlow's own
      model, x = t._random_model(rng, 10_000, 4, 4), t._images(10_000)
      with open("/proc/self/statm") as f:
        before = int(f.read().split()[1]) * resource.getpagesize()
      measuring.evaluate(model, x)
      print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
  """)
  extra = subprocess.run(
      [sys.executable, "-c", program],
      env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
      capture_output=True,
      text=True,
      check=True,
  ).stdout
  assert int(extra.split()[-1]) < 2**30

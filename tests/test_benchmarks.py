"""The benchmarks' baselines compute the same training step as imae_tf."""

import dataclasses
import pathlib
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from imae_tf import posterior
from imae_tf import recipes

# Last: the checkout's own imae_tf must not come before the installed one.
sys.path.append(str(pathlib.Path(__file__).parents[1]))

from benchmarks import harness
from benchmarks import matmuls
from benchmarks import plain_tf
from benchmarks import problem as problems
from benchmarks import startup

STEPS = 2
SHAPE = (6, 6, 1)
RECIPE = dataclasses.replace(
    recipes.TUNED["mnist"],
    encoder_units=(24, 16),
    decoder_units=(12, 8),
    weight_scale=1.0,
    logits_stddev=1.0,
    batch_size=16,
    precision="float32",
)
PROBLEM = problems.from_recipe(RECIPE, 36, num_categories=4, latent_dim=3)


@pytest.fixture(scope="module")
def trained():
  """Images, imae_tf's noise, its losses, and its weights before and after two steps."""
  keras.utils.set_random_seed(0)
  model = recipes.build(
      RECIPE, SHAPE, num_categories=4, latent_dim=3, seed=5, steps_per_epoch=100
  )
  images = problems.images(PROBLEM, STEPS, seed=1)
  before = problems.parameters_of(model)
  noise = [_noise(model.seed, step) for step in range(STEPS)]
  losses = [model.train_on_batch(x.reshape(-1, *SHAPE), return_dict=True)["loss"] for x in images]
  return images, noise, losses, before, problems.parameters_of(model)


def _noise(seed, step):
  """What the model draws, through the functions that it draws with."""
  seed_codes, seed_vat = tf.unstack(tf.random.split(tf.constant([seed, step]), 2))
  size = PROBLEM.batch_size
  standard = {
      "mean": tf.zeros([size, PROBLEM.latent_dim]),
      "log_scale": tf.zeros([size, PROBLEM.latent_dim]),
      "logits": tf.zeros([size, PROBLEM.num_categories]),
  }
  # The softmax of Gumbel noise; its logarithm is that noise but for a constant per row,
  # which a softmax does not see.
  relaxed, z = posterior.distributions(standard, temperature=1.0).sample(seed_codes)
  vat = tf.random.stateless_normal([size, *SHAPE], seed_vat)
  return {
      "z": z.numpy(),
      "gumbel": np.log(relaxed.numpy()),
      "vat": vat.numpy().reshape(size, -1),
  }


def _check(losses, weights, trained):
  _, _, expected_losses, before, expected = trained
  np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
  for first, array, other in zip(before, weights, expected, strict=True):
    np.testing.assert_allclose(array, other, atol=2e-5)
    assert np.abs(other - first).max() > 1e-3  # it moved by far more than that


def test_plain_tf_takes_the_same_steps(trained):
  images, noise, _, before, _ = trained
  step = plain_tf.Step(PROBLEM, before)
  losses = [float(step.with_noise(x, n)) for x, n in zip(images, noise)]
  _check(losses, [p.numpy() for p in step.parameters], trained)


def test_pytorch_takes_the_same_steps(trained):
  torch = pytest.importorskip("torch")
  from benchmarks import pytorch

  images, noise, _, before, _ = trained
  step = pytorch.Step(PROBLEM, before)
  losses = []
  for i in range(STEPS):
    # Keras adds epsilon before it corrects the second moment, PyTorch after.
    correction = np.sqrt(1.0 - problems.ADAM["beta2"] ** (i + 1))
    step.optimizer.param_groups[0]["eps"] = problems.ADAM["epsilon"] / correction
    drawn = {name: torch.from_numpy(value) for name, value in noise[i].items()}
    losses.append(step.with_noise(torch.from_numpy(images[i]), drawn).item())
  _check(losses, list(step.parameters()), trained)


def test_baselines_refuse_another_recipe():
  with pytest.raises(ValueError, match="detach_y"):
    problems.from_recipe(recipes.PAPER, 36)


def test_matmuls_count_three_products_a_weight_and_two_more_for_vat():
  listed = matmuls.products(PROBLEM)
  kernel = PROBLEM.layers["encoder"][1]
  forward = sum(c for (_, _, k, n, t), c in listed.items() if (k, n, t) == (*kernel, ""))
  to_weights = sum(c for (_, m, _, n, t), c in listed.items() if (m, n, t) == (*kernel, "a"))
  to_inputs = sum(c for (_, _, k, n, t), c in listed.items() if (n, k, t) == (*kernel, "b"))
  # Clean pass, VAT's direction and VAT's loss; the direction has no gradient of weights.
  assert (forward, to_weights, to_inputs) == (3, 2, 3)


@pytest.mark.parametrize("code", ["raise SystemExit(1)", "print('help'); raise SystemExit(1)"])
def test_a_help_that_fails_is_not_timed(code):
  with pytest.raises(RuntimeError, match="failed"):
    startup.seconds([sys.executable, "-c", code, "--help"])
  said = "print('imae-train: trains'); raise SystemExit(1)"
  assert startup.seconds([sys.executable, "-c", said, "--help"]) > 0.0


def test_summary_pairs_the_rounds():
  table = harness.summary({"a": [1.0, 2.0, 10.0], "b": [2.0, 4.0, 5.0]}, "a")
  assert table["b"]["median_s"] == 4.0
  assert table["b"]["median_ratio"] == 2.0
  assert table["a"]["ratio_of_medians"] == 1.0

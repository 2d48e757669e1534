"""The hybrid posterior: bounds, TFP distributions, and samples that follow them."""

import keras
import numpy as np
import tensorflow as tf
from scipy import stats

from imae_tf import posterior


def _parameters(n, mean, scale, logits):
  tile = lambda a: tf.constant(np.tile(np.asarray(a, "float32"), (n, 1)))
  return {"mean": tile(mean), "log_scale": tile(np.log(scale)), "logits": tile(logits)}


def test_log_scales_are_bounded_for_any_features():
  head = posterior.HybridPosterior(3, 2, max_log_scale=3.0)
  out = head(np.array([[1e6, -1e6], [0, 0], [-1e6, 1e6]], "float32"))
  assert np.abs(out["log_scale"]).max() <= 3.0 and np.isfinite(out["log_scale"]).all()


def test_parameters_are_float32_under_mixed_precision():
  head = posterior.HybridPosterior(3, 2, dtype="mixed_bfloat16")
  out = head(tf.ones([4, 5], tf.bfloat16))
  assert {value.dtype for value in out.values()} == {tf.float32}


def test_config_round_trip():
  head = posterior.HybridPosterior(
      4, 3, max_log_scale=2.0, logits_initializer=keras.initializers.RandomNormal(stddev=1e-6)
  )
  again = posterior.HybridPosterior.from_config(head.get_config())
  assert again.get_config() == head.get_config()


def test_samples_follow_the_densities():
  n = 20_000
  parameters = _parameters(n, [0.5, -1.0], [0.3, 2.0], [1.0, 0.0, -1.0])
  y, z = posterior.distributions(parameters, temperature=0.5).sample(seed=3)
  for k, (mean, scale) in enumerate([(0.5, 0.3), (-1.0, 2.0)]):
    assert stats.kstest(z[:, k], "norm", args=(mean, scale)).pvalue > 1e-3
  np.testing.assert_allclose(np.sum(y, axis=1), 1.0, atol=1e-5)
  share = np.bincount(np.argmax(y, axis=1), minlength=3) / n
  np.testing.assert_allclose(share, tf.nn.softmax([1.0, 0.0, -1.0]), atol=0.015)


def test_sampling_is_stateless_and_reparameterised():
  parameters = _parameters(5, [0.0], [1.0], [0.0, 0.0])
  mean = parameters["mean"]
  with tf.GradientTape() as tape:
    tape.watch(mean)
    _, first = posterior.distributions(parameters, 0.5).sample(tf.constant([1, 2]))
  _, again = posterior.distributions(parameters, 0.5).sample(tf.constant([1, 2]))
  _, other = posterior.distributions(parameters, 0.5).sample(tf.constant([1, 3]))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 0.1
  np.testing.assert_allclose(tape.gradient(first, mean), 1.0)


def test_entropy_of_y_is_that_of_the_plain_categorical():
  y = posterior.distributions(_parameters(1, [0.0], [1.0], [2.0, 0.0, -1.0]), 0.5).y
  p = np.exp([2.0, 0.0, -1.0]) / np.exp([2.0, 0.0, -1.0]).sum()
  np.testing.assert_allclose(y.entropy(), [-(p * np.log(p)).sum()], rtol=1e-5)

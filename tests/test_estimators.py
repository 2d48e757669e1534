"""Aggregate-posterior densities against float64 loops and against known Gaussians."""

import subprocess
import sys

import numpy as np
import pytest
import reference
import tensorflow as tf

from imae_tf import estimators
from imae_tf import objective


def _float32(arrays):
  return [a.astype("float32") for a in arrays]


@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("shape", [(64, 5, 4), (33, 1, 2), (16, 20, 10)])
def test_log_marginals_match_float64_loops(rng, shape, leave_one_out):
  posterior = reference.random_posterior(rng, *shape)
  expected = reference.marginals(*posterior, leave_one_out=leave_one_out)
  got = estimators.log_marginals(*_float32(posterior), leave_one_out=leave_one_out)
  for actual, wanted in zip(got, expected):
    np.testing.assert_allclose(actual, np.broadcast_to(wanted, actual.shape), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("leave_one_out", [False, True])
def test_blocks_and_their_gradients_equal_the_whole(rng, leave_one_out, jit_compile):
  posterior = _float32(reference.random_posterior(rng, n=70))
  weights = [rng.normal(size=shape).astype("float32") for shape in ((70, 5), (70, 4), (70, 4))]

  @tf.function(jit_compile=jit_compile)
  def values_and_gradients(block_size):
    arrays = [tf.constant(a) for a in posterior]
    with tf.GradientTape() as tape:
      tape.watch(arrays)
      values = estimators.log_marginals(
          *arrays, leave_one_out=leave_one_out, block_size=block_size
      )
      total = sum(tf.reduce_sum(w * value) for w, value in zip(weights, values))
    return values, tape.gradient(total, arrays)

  whole = tf.nest.flatten(values_and_gradients(70 * 70 * 5))
  for block_size in (16 * 70 * 5, 1):  # 70 is not a multiple of 16; one row at a time
    for actual, wanted in zip(tf.nest.flatten(values_and_gradients(block_size)), whole):
      np.testing.assert_allclose(actual, wanted, atol=1e-5, rtol=1e-5)


def test_gradients_match_float64_differences(rng):
  """Of a weighted sum of all outputs, along a random direction of each argument."""
  posterior = reference.random_posterior(rng, n=24, k1=3, k2=3)
  weights = [rng.normal(size=(24, 3)) for _ in range(3)]
  total = lambda arrays: sum(
      np.sum(w * value) for w, value in zip(weights, reference.marginals(*arrays))
  )
  arrays = [tf.constant(a) for a in _float32(posterior)]
  with tf.GradientTape() as tape:
    tape.watch(arrays)
    values = estimators.log_marginals(*arrays, block_size=200)
    loss = sum(tf.reduce_sum(w.astype("float32") * value) for w, value in zip(weights, values))
  for i, gradient in enumerate(tape.gradient(loss, arrays)):
    direction = rng.normal(size=posterior[i].shape)
    moved = lambda step: [a + step * direction * (i == j) for j, a in enumerate(posterior)]
    expected = (total(moved(1e-5)) - total(moved(-1e-5))) / 2e-5
    np.testing.assert_allclose(np.sum(gradient * direction), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_128_dimensions_do_not_underflow(rng, leave_one_out):
  posterior = reference.random_posterior(rng, n=48, k1=128, k2=6)
  expected = reference.marginals(*posterior, leave_one_out=leave_one_out)
  got = estimators.log_marginals(*_float32(posterior), leave_one_out=leave_one_out)
  for actual, wanted in zip(got, expected):
    np.testing.assert_allclose(actual, np.broadcast_to(wanted, actual.shape), atol=1e-5, rtol=1e-5)


_MEMORY_OF_A_STEP = """
import pathlib, re
import tensorflow as tf
from imae_tf import estimators

def kilobytes(name):
  return int(re.search(name + r":\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

@tf.function(input_signature=[tf.TensorSpec([None, 64])])
def gradients(z):
  with tf.GradientTape() as tape:
    tape.watch(z)
    terms = estimators.log_marginals(z, z, tf.zeros_like(z), tf.nn.log_softmax(z[:, :10]))
    total = sum(map(tf.reduce_sum, terms))
  return tape.gradient(total, z)

gradients(tf.zeros([16, 64]))
z = tf.random.normal([2048, 64])
before = kilobytes("VmRSS")
gradients(z)
print(kilobytes("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_a_few_blocks():
  """2,048 codes of 64 dimensions with gradients; blocks are 17 MB, and 64 of them.

  A plain broadcast takes six tensors of 1.07 GB (`benchmarks/pairwise.py` measures it).
  """
  result = subprocess.run(
      [sys.executable, "-c", _MEMORY_OF_A_STEP], capture_output=True, text=True, check=True
  )
  assert int(result.stdout) < 500_000  # kB: half of one such tensor; 75,000 to 157,000 measured


def test_no_codes_give_no_rows(rng):
  """A replica can be without images in a last batch."""
  z, *posterior = _float32(reference.random_posterior(rng, n=6))
  marginals = estimators.log_marginals(z[:0], *posterior)
  assert [part.shape for part in marginals] == [(0, 5), (0, 4), (0, 4)]


def test_rows_of_a_block_leave_out_their_own_image(rng):
  z, *posterior = _float32(reference.random_posterior(rng, n=20))
  whole = estimators.log_marginals(z, *posterior, leave_one_out=True)
  part = estimators.log_marginals(z[5:9], *posterior, leave_one_out=True, first_row=5)
  np.testing.assert_allclose(part.yz, whole.yz[5:9], atol=1e-6)


@pytest.mark.parametrize("rows", [slice(0, 9), slice(4, 7)], ids=["all", "some"])
def test_the_other_half_is_the_one_without_the_own_image(rng, rows):
  """The first four images average over the last five, and these over the first four."""
  posterior = [a.astype("float32") for a in reference.random_posterior(rng, n=9)]
  z, *images = posterior
  got = estimators.log_marginals_of_other_half(z[rows], *images, first_row=rows.start)
  expected = [
      estimators.log_marginals(z[:4], *(a[4:] for a in images)),
      estimators.log_marginals(z[4:], *(a[:4] for a in images)),
  ]
  for part, first, second in zip(got, *expected):
    np.testing.assert_allclose(part, np.concatenate([first, second])[rows], rtol=1e-6)


def test_far_apart_codes_stay_finite():
  """Each code explained by its own image alone: I(x;y,z) is exactly log n, naive."""
  n = 8
  mean = 1000.0 * np.arange(n, dtype="float32")[:, None] * np.ones((1, 3), "float32")
  log_scale = np.full((n, 3), -3.0, "float32")
  log_y = np.log(np.full((n, 2), 0.5, "float32"))
  marginals = estimators.log_marginals(mean, mean, log_scale, log_y)
  log_z = estimators.log_normal(mean, mean, log_scale)
  joint = objective.joint_mutual_information(log_y, log_z, marginals)
  np.testing.assert_allclose(joint, np.log(n), rtol=1e-6)
  assert all(np.isfinite(part).all() for part in marginals)


@pytest.mark.parametrize("scale", [0.2, 0.5, 0.9])
def test_naive_and_leave_one_out_bracket_the_truth(scale):
  """z ~ N(0, 1) exactly, so I(x;z) = -log scale; averages over 60 draws.

  The exact log ratio of the same samples, whose mean is the truth, is the control variate.
  """
  truth, n = -np.log(scale), 64
  averages = {}
  for leave_one_out in (False, True):
    values = []
    for seed in range(60):
      rng = np.random.default_rng(seed)
      mean = np.sqrt(1 - scale**2) * rng.normal(size=(n, 1)).astype("float32")
      z = mean + scale * rng.normal(size=(n, 1)).astype("float32")
      log_scale = np.full((n, 1), np.log(scale), "float32")
      log_y = np.zeros((n, 1), "float32")
      marginals = estimators.log_marginals(
          z, mean, log_scale, log_y, leave_one_out=leave_one_out
      )
      log_z = estimators.log_normal(z, mean, log_scale)
      exact = log_z - estimators.log_normal(z, 0.0, 0.0)
      information = objective.mutual_information_z(log_z, marginals.z)
      values.append(truth + np.mean(information - exact))
    averages[leave_one_out] = np.mean(values)
  assert averages[False] < truth < averages[True]
  assert averages[True] - averages[False] < 0.25

"""Aggregate-posterior densities against float64 loops and against known Gaussians."""

import numpy as np
import pytest
import reference

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


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_blocks_equal_the_whole(rng, leave_one_out):
  posterior = _float32(reference.random_posterior(rng, n=70))
  whole = estimators.log_marginals(*posterior, leave_one_out=leave_one_out)
  blocks = estimators.dataset_log_marginals(
      *posterior, leave_one_out=leave_one_out, block_size=16
  )
  for actual, wanted in zip(blocks, whole):
    np.testing.assert_allclose(actual, wanted, atol=2e-6)


def test_rows_of_a_block_leave_out_their_own_image(rng):
  z, *posterior = _float32(reference.random_posterior(rng, n=20))
  whole = estimators.log_marginals(z, *posterior, leave_one_out=True)
  part = estimators.log_marginals(z[5:9], *posterior, leave_one_out=True, first_row=5)
  np.testing.assert_allclose(part.yz, whole.yz[5:9], atol=1e-6)


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

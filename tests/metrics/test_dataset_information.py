"""Estimates of information: the equations in float64, known truths, known biases."""

import json

import numpy as np
import pytest
import reference

from imae_tf.metrics import dataset_information


def test_the_equations_in_float64(rng):
  codes = reference.random_codes(rng)
  y, mean, scale = (part.astype("float64") for part in codes)
  z = mean + scale * np.random.default_rng(4).standard_normal(mean.shape)
  posterior = (z, mean, np.log(scale), np.log(y))
  got = dataset_information.information(*codes, seed=4)
  naive = reference.terms(*posterior)
  left_out = reference.terms(*posterior, leave_one_out=True)
  for key in ("mi_y", "entropy_y", "conditional_entropy_y", "kl_z"):
    assert got[key] == pytest.approx(naive[key], abs=1e-5), key
  names = {"mi_z": "mi_z", "mi_z_per_dimension": "mi_z_per_dimension",
           "total_correlation": "total_correlation", "mi_joint": "joint",
           "mi_z_joint": "mi_of_all_z"}
  for key, wanted in names.items():
    np.testing.assert_allclose(got[key]["naive"], naive[wanted], atol=1e-5)
    np.testing.assert_allclose(got[key]["leave_one_out"], left_out[wanted], atol=1e-5)


def _independent_gaussians(rng, n, mi_z):
  """Posteriors of independent z_k ~ N(0, 1) with these I(x;z_k), and of an even, sure y."""
  variance = np.exp(-2 * np.asarray(mi_z))
  mean = rng.normal(size=(n, len(variance))) * np.sqrt(1 - variance)
  y = np.eye(4)[rng.integers(4, size=n)] * 0.96 + 0.01
  scale = np.broadcast_to(np.sqrt(variance), mean.shape)
  return [part.astype("float32") for part in (y, mean, scale)]


def test_the_floor_of_tc_is_what_independent_gaussians_give(rng):
  mi_z = [1.5, 1.0, 1.0, 0.5]
  floors = [
      dataset_information.information(*_independent_gaussians(rng, 800, mi_z), seed=s)[
          "total_correlation"] for s in range(3)
  ]
  y, mean, scale = _independent_gaussians(rng, 800, mi_z)
  mean[:, 1] = mean[:, 2] = mean[:, 2] * (1 - 1e-3)  # now two dimensions are one
  got = dataset_information.independent_total_correlation(y, mean, scale, seed=5)
  for version in ("naive", "leave_one_out"):
    wanted = [floor[version] for floor in floors]
    assert got[version] == pytest.approx(np.mean(wanted), abs=0.06 + 4 * np.std(wanted))
  dependent = dataset_information.information(y, mean, scale)["total_correlation"]
  assert dependent["naive"] > got["naive"] + 0.5
  assert got["naive"] > 0.1  # at this n there is a bias to tell


def test_naive_estimates_hold_the_identity_3(rng):
  got = dataset_information.information(*reference.random_codes(rng, n=300, k1=8, k2=10))
  pieces = got["mi_y"] + got["mi_z"]["naive"] - got["total_correlation"]["naive"]
  assert got["mi_joint"]["naive"] == pytest.approx(pieces, abs=1e-4)
  assert got["mi_z"]["naive"] == pytest.approx(sum(got["mi_z_per_dimension"]["naive"]), abs=1e-4)


def _gaussian_codes(rng, n, k1, scale, k2=2):
  """p(z_k) = N(0, 1) exactly in the limit, so that I(x;z_k) = -ln(scale); y says nothing."""
  # A stream of its own: that of default_rng(0) is the noise of seed 0.
  (own,) = rng.spawn(1)
  mean = own.normal(scale=np.sqrt(1 - scale**2), size=(n, k1)).astype("float32")
  uniform = np.full((n, k2), 1 / k2, "float32")
  return uniform, mean, np.full((n, k1), scale, "float32")


def _mean_information(rng, n, scale):
  runs = [
      dataset_information.information(*_gaussian_codes(rng, n, 20, scale), seed=seed)
      for seed in range(5)
  ]
  return [
      np.mean([run["mi_z_per_dimension"][name] for run in runs])
      for name in ("naive", "leave_one_out")
  ]


def test_estimates_bracket_a_known_information_and_close_in_on_it(rng):
  truth = -np.log(0.1)
  naive, left_out = _mean_information(rng, 100, 0.1)
  assert truth - 0.2 < naive < truth - 0.04
  assert truth + 0.1 < left_out < truth + 0.6
  closer_naive, closer_left_out = _mean_information(rng, 1000, 0.1)
  assert naive + 0.03 < closer_naive < truth < closer_left_out < left_out - 0.1


def test_a_uniform_y_carries_no_information(rng):
  got = dataset_information.information(*_gaussian_codes(rng, 50, 2, 0.5))
  assert got["mi_y"] == pytest.approx(0.0, abs=1e-6)
  assert got["entropy_y"] == pytest.approx(np.log(2), abs=1e-6)


def test_naive_joint_is_capped_at_log_n_and_leave_one_out_is_not(rng):
  n, scale = 200, 0.2
  got = dataset_information.information(*_gaussian_codes(rng, n, 10, scale))
  truth = 10 * -np.log(scale)  # 16.1 nats, far above ln 200 = 5.3
  assert np.log(n) - 0.1 < got["mi_joint"]["naive"] <= np.log(n) + 1e-4
  assert got["mi_joint"]["leave_one_out"] > truth


def test_kl_z_of_a_shifted_aggregate(rng):
  y, mean, scale = _gaussian_codes(rng, 3000, 2, 0.5)
  centred = dataset_information.information(y, mean, scale)["kl_z"]
  assert 0 <= centred + 0.02 < 0.04
  shifted = dataset_information.information(y, mean + np.float32(2), scale)["kl_z"]
  assert shifted == pytest.approx(4.0, abs=0.15)  # KL(N(2, 1) || N(0, 1)) = 2 per dimension


def test_a_certain_posterior_stays_finite():
  y = np.eye(3, dtype="float32")[np.arange(30) % 3]  # exact zeros, as float32 softmax gives
  far = (np.arange(30, dtype="float32") * 1e3)[:, None]
  got = dataset_information.information(y, far, np.full((30, 1), 1e-2, "float32"))
  json.dumps(got, allow_nan=False)
  assert got["mi_y"] == pytest.approx(np.log(3), abs=1e-5)
  assert got["mi_z"]["naive"] == pytest.approx(np.log(30), abs=1e-4)

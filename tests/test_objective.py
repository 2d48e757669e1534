"""Every term of eq (11) against float64 NumPy, the identities (3)-(5), and the sum."""

import numpy as np
import pytest
import reference
import tensorflow as tf
import tensorflow_probability as tfp

from imae_tf import estimators
from imae_tf import objective


def _information(posterior, leave_one_out=False):
  z, mean, log_scale, log_y = [a.astype("float32") for a in posterior]
  marginals = estimators.log_marginals(z, mean, log_scale, log_y, leave_one_out=leave_one_out)
  log_z = estimators.log_normal(z, mean, log_scale)
  terms = objective.information_terms(z, mean, log_scale, log_y, marginals)
  terms["mi_z_per_dimension"] = objective.mutual_information_z(log_z, marginals.z)
  terms["mi_of_all_z"] = objective.mutual_information_of_all_z(log_z, marginals)
  terms["joint"] = objective.joint_mutual_information(log_y, log_z, marginals)
  return {name: np.mean(value, axis=0) for name, value in terms.items()}


@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_terms_match_float64(seed, leave_one_out):
  posterior = reference.random_posterior(np.random.default_rng(seed))
  expected = reference.terms(*posterior, leave_one_out=leave_one_out)
  actual = _information(posterior, leave_one_out)
  assert actual.keys() == expected.keys()
  for name in expected:
    np.testing.assert_allclose(actual[name], expected[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_identity_3(rng, leave_one_out):
  """I(x;y,z) = I(x;y) + sum_k I(x;z_k) - TC(y,z) holds for any one set of marginals."""
  t = _information(reference.random_posterior(rng, n=128), leave_one_out)
  np.testing.assert_allclose(
      t["joint"], t["mi_y"] + t["mi_z"] - t["total_correlation"], atol=1e-5
  )


def test_bounds_4_and_5_are_attained_by_a_gaussian(rng):
  """p(z_k) Gaussian and scales constant: (4) and (5) are equalities, and I = -log scale."""
  n, scale = 4000, 0.4
  mean = np.sqrt(1 - scale**2) * rng.normal(size=(n, 1))
  z = mean + scale * rng.normal(size=(n, 1))
  log_scale = np.full((n, 1), np.log(scale))
  information = _information((z, mean, log_scale, np.zeros((n, 1))))["mi_z"]
  bound_4 = 0.5 * np.log(scale**2 + mean.var()) - 0.5 * np.mean(2 * log_scale)
  bound_5 = 0.5 * np.log(1 + mean.var() / scale**2)
  np.testing.assert_allclose([information, bound_4, bound_5], -np.log(scale), atol=0.05)
  assert information <= bound_4 + 0.02


def test_bound_4_is_strict_for_two_clusters(rng):
  """p(z) bimodal: I(x;z) is about log 2, well below the bound of eq (4)."""
  n, scale = 2000, 0.05
  mean = np.where(rng.random((n, 1)) < 0.5, -1.0, 1.0)
  z = mean + scale * rng.normal(size=(n, 1))
  log_scale = np.full((n, 1), np.log(scale))
  information = _information((z, mean, log_scale, np.zeros((n, 1))))["mi_z"]
  bound = 0.5 * np.log(scale**2 + mean.var()) - np.log(scale)
  np.testing.assert_allclose(information, np.log(2), atol=0.02)
  assert information < bound - 1.0


def test_known_cases_of_mutual_information_y():
  k2 = 4
  certain = np.log(np.eye(k2, dtype="float32") + 1e-30)
  unsure = np.full((k2, k2), -np.log(k2), "float32")
  one = np.log(np.eye(k2, dtype="float32")[[0] * k2] + 1e-30)
  for log_y, expected in [(certain, np.log(k2)), (unsure, 0.0), (one, 0.0)]:
    log_p_y = np.log(np.exp(log_y).mean(0, keepdims=True) + 1e-30).repeat(k2, 0)
    value = np.mean(objective.mutual_information_y(log_y, log_p_y))
    np.testing.assert_allclose(value, expected, atol=1e-6)


def test_reconstruction_terms_match_densities(rng):
  x = rng.random((6, 4, 4, 3)).astype("float32")
  logits = rng.normal(size=x.shape).astype("float32")
  p = 1 / (1 + np.exp(-logits.astype("float64")))
  bernoulli = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum((1, 2, 3))
  gaussian = (0.5 * (x - p) ** 2 + 0.5 * np.log(2 * np.pi)).sum((1, 2, 3))
  np.testing.assert_allclose(
      objective.bernoulli_reconstruction(x, tf.constant(logits)), bernoulli, rtol=1e-5
  )
  np.testing.assert_allclose(
      objective.gaussian_reconstruction(x, tf.constant(logits)), gaussian, rtol=1e-5
  )


_NAMES = (
    "reconstruction_loss", "kl_z", "entropy_y", "conditional_entropy_y",
    "total_correlation", "vat_loss",
)


@pytest.mark.parametrize(
    "weights, expected",
    [
        # reconstruction + beta kl + gamma tc - beta (H(y) - H(y|x) - lam vat)
        (dict(beta=5.0, gamma=2.0, lam=5.0), 100 + 5 * 2 + 2 * 7 - 5 * (3 - 4 - 5 * 11)),
        (dict(beta=0.0, gamma=0.0, lam=0.0), 100),
        (dict(beta=1.0, gamma=0.5, lam=0.0), 100 + 2 + 3.5 - (3 - 4)),
        (
            dict(beta=1.0, gamma=0.0, lam=10.0, beta_y=20.0, entropy_weight=4.0),
            100 + 2 - 20 * (4 * 3 - 4 - 10 * 11),
        ),
    ],
)
def test_imae_is_the_negative_of_eq_11(weights, expected):
  terms = dict(zip(_NAMES, map(tf.constant, [[100.0], [2.0], [3.0], [4.0], [7.0], [11.0]])))
  np.testing.assert_allclose(objective.imae(terms, **weights), [expected])


# ---- the methods of Figure 1 ------------------------------------------------------------------

# Figure 1's terms 2 to 5, the factorial ones, and VAT's: primes, so that no sum is another's.
_TERMS = {
    "reconstruction_loss": 101.0, "mi_y": 2.0, "kl_y": 3.0, "mi_z_joint": 5.0,
    "kl_z_joint": 7.0, "mi_z": 11.0, "kl_z": 13.0, "total_correlation": 17.0, "vat_loss": 19.0,
}
_METHODS = {
    "beta_vae": (dict(beta=4.0, lam=6.0), 101 + 4 * (2 + 3) + 4 * (5 + 7) + 4 * 6 * 19),
    "vae": (dict(beta=1.0, lam=0.0), 101 + (2 + 3) + (5 + 7)),
    "info_vae": (dict(beta=4.0, alpha=1.0, lam=6.0), 101 + 4 * 3 + 4 * 7 + 4 * 6 * 19),
    "info_vae, alpha": (dict(beta=4.0, alpha=0.25, lam=0.0), 101 + 0.75 * (2 + 5) + 4 * (3 + 7)),
    "joint_vae, below": (
        dict(beta=4.0, capacity_y=6.0, capacity_z=20.0, lam=6.0),
        101 + 4 * (6 - 5) + 4 * (20 - 12) + 4 * 6 * 19,
    ),
    "joint_vae, above": (
        dict(beta=4.0, capacity_y=1.0, capacity_z=2.0, lam=0.0), 101 + 4 * (5 - 1) + 4 * (12 - 2)
    ),
    "beta_tcvae": (
        dict(beta=4.0, lam=6.0), 101 + (2 + 11 - 17) + 4 * 17 + 3 + 13 + 6 * 19
    ),
}


def _function(name):
  return getattr(objective, {"vae": "beta_vae"}.get(name, name.split(",")[0]))


@pytest.mark.parametrize("name", _METHODS)
def test_a_method_is_its_sum_of_figure_1(name):
  weights, expected = _METHODS[name]
  terms = {key: tf.constant([value]) for key, value in _TERMS.items()}
  np.testing.assert_allclose(_function(name)(terms, **weights), [expected])


@pytest.mark.parametrize("seed", range(3))
def test_at_beta_1_the_sums_are_the_elbo(seed):
  """Against TFP's divergences; the TC form alone is an estimate, equal on average."""
  posterior = reference.random_posterior(np.random.default_rng(seed), n=256)
  z, mean, log_scale, log_y = [a.astype("float32") for a in posterior]
  marginals = estimators.log_marginals(z, mean, log_scale, log_y)
  terms = objective.information_terms(z, mean, log_scale, log_y, marginals)
  terms["reconstruction_loss"] = tf.linspace(80.0, 120.0, 256)
  tfd = tfp.distributions
  kl_z = tfd.kl_divergence(tfd.Normal(mean, np.exp(log_scale)), tfd.Normal(0.0, 1.0))
  kl_y = tfd.kl_divergence(
      tfd.Categorical(logits=log_y), tfd.Categorical(logits=np.zeros_like(log_y))
  )
  negative_elbo = np.mean(terms["reconstruction_loss"] + kl_y + tf.reduce_sum(kl_z, axis=1))
  for sums in (
      objective.beta_vae(terms, beta=1.0, lam=0.0),
      objective.info_vae(terms, beta=1.0, alpha=0.0, lam=0.0),
      objective.joint_vae(terms, beta=1.0, capacity_y=0.0, capacity_z=0.0, lam=0.0),
  ):
    np.testing.assert_allclose(np.mean(sums), negative_elbo, rtol=1e-5)
  sampled = tfd.Normal(mean, np.exp(log_scale)).log_prob(z) - tfd.Normal(0.0, 1.0).log_prob(z)
  negative_elbo += np.mean(np.sum(sampled - kl_z, axis=1))  # its z is a sample
  tc_form = objective.beta_tcvae(terms, beta=1.0, lam=0.0)
  np.testing.assert_allclose(np.mean(tc_form), negative_elbo, rtol=1e-5)


def test_capacities_pull_from_both_sides():
  """The gradient of |KL - C| changes its sign at C, and is of the mean, not of each image."""
  terms = {key: tf.constant([value, value]) for key, value in _TERMS.items()}
  for capacity, sign in [(9.0, 1.0), (13.0, -1.0)]:
    kl = tf.Variable([4.0, 16.0])  # one below and one above; 10 on average, 12 with term 4
    with tf.GradientTape() as tape:
      terms["kl_z_joint"] = kl - 3.0
      loss = tf.reduce_mean(objective.joint_vae(
          terms, beta=2.0, capacity_y=0.0, capacity_z=capacity, lam=0.0
      ))
    np.testing.assert_allclose(tape.gradient(loss, kl), [sign, sign])


def test_category_objective_is_its_formula(rng):
  names = ("entropy_y", "conditional_entropy_y", "vat_loss", "consistency_loss", "teaching_loss")
  h, h_x, vat, consistency, teaching = values = rng.random([5, 7])
  terms = dict(zip(names[:4], values[:4]))
  weights = dict(lam=3.0, entropy_weight=2.0, consistency=5.0)
  separate, smooth = 2.0 * h - h_x, 3.0 * vat + 5.0 * consistency
  found = objective.category_objective(terms, **weights)
  np.testing.assert_allclose(found, separate - smooth)
  terms["smoothing"] = 0.25
  np.testing.assert_allclose(
      objective.category_objective(terms, **weights), separate - 0.25 * smooth
  )
  for taught, expected in ((0.0, separate), (1.0, -10.0 * teaching)):
    lesson = {"teaching_loss": teaching, "taught": taught}
    found = objective.category_objective({**terms, **lesson}, **weights)
    np.testing.assert_allclose(found, expected - 0.25 * smooth)

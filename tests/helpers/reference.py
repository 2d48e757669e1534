"""The paper's terms in float64 NumPy, written from the equations and from nothing else."""

import numpy as np
from scipy.special import logsumexp
from scipy.special import softmax
from scipy.stats import norm


def marginals(z, mean, log_scale, log_y, leave_one_out=False):
  """(log p(z_ik) [n, K1], log p(y) [n, K2], log p(y, z_i) [n, K2]), looped over pairs."""
  n, k1 = z.shape
  k2 = log_y.shape[1]
  log_z, log_p_y, log_yz = np.zeros((n, k1)), np.zeros((n, k2)), np.zeros((n, k2))
  scale = np.exp(log_scale)
  for i in range(n):
    j = np.array([j for j in range(n) if not (leave_one_out and j == i)])
    density = norm.logpdf(z[i], mean[j], scale[j])  # [m, K1]
    log_z[i] = logsumexp(density, axis=0) - np.log(len(j))
    log_p_y[i] = logsumexp(log_y[j], axis=0) - np.log(len(j))
    log_yz[i] = logsumexp(density.sum(1)[:, None] + log_y[j], axis=0) - np.log(len(j))
  return log_z, log_p_y, log_yz


def terms(z, mean, log_scale, log_y, leave_one_out=False):
  """The means over the batch of every information term, in nats."""
  log_z, log_p_y, log_yz = marginals(z, mean, log_scale, log_y, leave_one_out)
  p = np.exp(log_y)
  log_z_given_x = norm.logpdf(z, mean, np.exp(log_scale))
  entropy_y = -np.mean(np.sum(p * log_p_y, axis=1))
  conditional = -np.mean(np.sum(p * log_y, axis=1))
  ratio = np.sum(p * (log_yz - log_p_y), axis=1) - log_z.sum(1)
  joint = np.sum(p * (log_y + log_z_given_x.sum(1)[:, None] - log_yz), axis=1)
  # 4 + 5 of Figure 1 in closed form, KL(N(m, s^2) || N(0, 1)) = (m^2 + s^2 - 1)/2 - log s.
  given_x = 0.5 * (mean**2 + np.exp(2 * log_scale) - 1) - log_scale
  kl_z_joint = np.mean(logsumexp(log_yz, axis=1) - norm.logpdf(z).sum(1))
  return {
      "entropy_y": entropy_y,
      "conditional_entropy_y": conditional,
      "mi_y": entropy_y - conditional,
      "kl_y": np.log(log_y.shape[1]) - entropy_y,
      "kl_z_joint": kl_z_joint,
      "mi_z_joint": np.mean(given_x.sum(1)) - kl_z_joint,
      "mi_of_all_z": np.mean(log_z_given_x.sum(1) - logsumexp(log_yz, axis=1)),
      "mi_z_per_dimension": np.mean(log_z_given_x - log_z, axis=0),
      "mi_z": np.mean(np.sum(log_z_given_x - log_z, axis=1)),
      "kl_z": np.mean(np.sum(log_z - norm.logpdf(z), axis=1)),
      "total_correlation": np.mean(ratio),
      "joint": np.mean(joint),
  }


def random_posterior(rng, n=64, k1=5, k2=4):
  """z, mean, log_scale, log_y of n random posteriors with one sample each, float64."""
  mean = rng.normal(size=(n, k1))
  log_scale = rng.uniform(-2.0, 0.5, size=(n, k1))
  logits = 2.0 * rng.normal(size=(n, k2))
  log_y = logits - logsumexp(logits, axis=1, keepdims=True)
  z = mean + np.exp(log_scale) * rng.normal(size=(n, k1))
  return z, mean, log_scale, log_y


def random_codes(rng, n=60, k1=3, k2=4):
  """y, z, z_scale of n random posteriors as `encode` gives them, float32."""
  y = softmax(2.0 * rng.normal(size=(n, k2)), axis=1)
  z_scale = rng.uniform(0.1, 0.8, size=(n, k1))
  return tuple(part.astype("float32") for part in (y, rng.normal(size=(n, k1)), z_scale))

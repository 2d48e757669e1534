"""The paper's objectives: one pure function per information term, then the weighted sums.

Every term is a vector [B], one value per image in nats, whose mean over the batch is the
estimate. Shapes: z, mean, log_scale [B, K1]; log_y = log p(y|x) [B, K2]; `marginals` is
`estimators.LogMarginals`, the densities under the encoder averaged over the batch, eq (35), of
which log_p_z = log p(z_k) [B, K1] and log_p_y = log p(y) [B, K2] are parts; log_z_given_x =
log p(z_k|x) [B, K1].

The methods are weighted sums of these terms and nothing else, Figure 1:

    1  E log q(x|y,z)      -reconstruction_loss
    2  I(x;y)              mi_y
    3  KL(p(y) || r(y))    kl_y
    4  I(x;z)              mi_z_joint
    5  KL(p(z) || r(z))    kl_z_joint

    VAE         1 - (2+3) - (4+5)                              = beta-VAE with beta = 1
    beta-VAE    1 - beta (2+3) - beta (4+5)
    InfoVAE     1 - (1-alpha)(2+4) - beta (3+5)                alpha = 1: the paper's, WAE's
    JointVAE    1 - beta |2+3 - C_y| - beta |4+5 - C_z|
    beta-TCVAE  1 - I(x;y,z) - beta TC(y,z) - 3 - sum_k KL(p(z_k) || r(z_k))
    IMAE        1 + beta (I(x;y) - sum_k KL(p(z_k) || r(z_k))) - gamma TC(y,z)

each with VAT, - beta lam H(p(y|x), p(y|x+r)), in which beta-TCVAE's beta counts as 1 and
IMAE's may be `beta_y`.

Reference: "Information Maximization Auto-Encoding", equations (3)-(12), Figure 1.
"""

import math

import tensorflow as tf

from imae_tf import estimators


def bernoulli_reconstruction(x, logits):
  """-log q(x|y,z) = -sum_d [x_d log s(l_d) + (1 - x_d) log(1 - s(l_d))], pixels in [0, 1].

  x, logits: [B, H, W, C]. The Bernoulli cross-entropy; for grey pixels its floor is not 0
  but the pixels' own entropy (`metrics.reconstruction_floor`).
  """
  nats = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits)
  return tf.reduce_sum(nats, axis=[1, 2, 3])


def gaussian_reconstruction(x, logits):
  """-log q(x|y,z) = -sum_d log N(x_d; s(l_d), 1), for real-valued pixels in [0, 1].

  x, logits: [B, H, W, C]. Its floor is (D/2) log 2 pi for D pixels and channels.
  """
  log_density = estimators.log_normal(x, tf.sigmoid(logits), tf.zeros([]))
  return -tf.reduce_sum(log_density, axis=[1, 2, 3])


def entropy_y(log_y, log_p_y):
  """H(y) = -E_x sum_y p(y|x) log p(y), the category balance of eq (7); at most log K2."""
  return -tf.reduce_sum(tf.exp(log_y) * log_p_y, axis=1)


def conditional_entropy_y(log_y):
  """H(y|x) = -E_x sum_y p(y|x) log p(y|x), the category separation of eq (7)."""
  return -tf.reduce_sum(tf.exp(log_y) * log_y, axis=1)


def mutual_information_y(log_y, log_p_y):
  """I(x;y) = H(y) - H(y|x), eq (7)."""
  return entropy_y(log_y, log_p_y) - conditional_entropy_y(log_y)


def kl_y(log_y, log_p_y):
  """KL(p(y) || r(y)) = log K2 - H(y), r uniform: term 3 of Figure 1."""
  return math.log(log_y.shape[1]) - entropy_y(log_y, log_p_y)


def mutual_information_z(log_z_given_x, log_p_z):
  """I(x;z_k) = E log p(z_k|x) / p(z_k), per dimension: [B, K1]."""
  return log_z_given_x - log_p_z


def kl_z(z, log_p_z):
  """sum_k KL(p(z_k) || N(0, 1)) = -L(z), eq (6)."""
  log_prior = estimators.log_normal(z, tf.zeros([]), tf.zeros([]))
  return tf.reduce_sum(log_p_z - log_prior, axis=1)


def kl_z_given_x(mean, log_scale):
  """KL(p(z|x) || N(0, I)) in closed form; its mean is 4 + 5 of Figure 1."""
  variance = tf.exp(2.0 * log_scale)
  return tf.reduce_sum(0.5 * (tf.square(mean) + variance - 1.0) - log_scale, axis=1)


def kl_z_joint(z, marginals):
  """KL(p(z) || N(0, I)), the dimensions together: term 5 of Figure 1."""
  log_p_z = tf.reduce_logsumexp(marginals.yz, axis=1)
  log_prior = estimators.log_normal(z, tf.zeros([]), tf.zeros([]))
  return log_p_z - tf.reduce_sum(log_prior, axis=1)


def total_correlation(log_y, marginals):
  """TC(y,z) = KL(p(y,z) || p(y) prod_k p(z_k)), eq (3), with y summed exactly."""
  log_ratio = marginals.yz - marginals.y  # log p(z|y): [B, K2]
  return tf.reduce_sum(tf.exp(log_y) * log_ratio, axis=1) - tf.reduce_sum(marginals.z, axis=1)


def joint_mutual_information(log_y, log_z_given_x, marginals):
  """I(x;y,z) = E log p(y,z|x) / p(y,z), the left side of the identity (3)."""
  log_ratio = log_y - marginals.yz
  return tf.reduce_sum(tf.exp(log_y) * log_ratio, axis=1) + tf.reduce_sum(log_z_given_x, axis=1)


def mutual_information_of_all_z(log_z_given_x, marginals):
  """I(x;z), the dimensions together, from samples alone: with j = i at most log N."""
  log_p_z = tf.reduce_logsumexp(marginals.yz, axis=1)
  return tf.reduce_sum(log_z_given_x, axis=1) - log_p_z


def information_terms(z, mean, log_scale, log_y, marginals):
  """The terms of the code that the objectives weigh or a log names: {name: [B]}, in nats."""
  log_z_given_x = estimators.log_normal(z, mean, log_scale)
  kl_joint = kl_z_joint(z, marginals)
  return {
      "mi_y": mutual_information_y(log_y, marginals.y),
      "entropy_y": entropy_y(log_y, marginals.y),
      "conditional_entropy_y": conditional_entropy_y(log_y),
      "kl_y": kl_y(log_y, marginals.y),
      "mi_z": tf.reduce_sum(mutual_information_z(log_z_given_x, marginals.z), axis=1),
      "kl_z": kl_z(z, marginals.z),
      # So that 4 + 5 is the closed form, whose gradient has no noise.
      "mi_z_joint": kl_z_given_x(mean, log_scale) - kl_joint,
      "kl_z_joint": kl_joint,
      "total_correlation": total_correlation(log_y, marginals),
  }


def imae(terms, *, beta, gamma, lam, beta_y=None, entropy_weight=1.0):
  """The negative of eq (11), to be minimised; [B], in nats.

      beta L(z) + beta_y L_D(y) - gamma TC(y,z) + E log q(x|y,z)
      L(z)   = -sum_k KL(p(z_k) || r(z_k))                                eq (6)
      L_D(y) = entropy_weight H(y) - H(y|x) - lam H(p(y|x), p(y|x+r))     eq (7), (12)

  The paper has beta_y = beta (None) and entropy_weight = 1.

  Args:
    terms: {name: [B]}: `reconstruction_loss`, `kl_z`, `entropy_y`,
      `conditional_entropy_y`, `total_correlation`, and `vat_loss` unless lam = 0.
    beta: weight of L(z), and of L_D(y) unless `beta_y` is given.
    gamma: weight of the total correlation.
    lam: weight of the VAT cross-entropy inside L_D(y).
    beta_y: weight of L_D(y).
    entropy_weight: how often H(y) counts.
  """
  beta_y = beta if beta_y is None else beta_y
  log_q = -terms["reconstruction_loss"]
  l_z = -terms["kl_z"]
  l_y = entropy_weight * terms["entropy_y"] - terms["conditional_entropy_y"]
  if lam:
    l_y -= lam * terms["vat_loss"]
  return -(beta * l_z + beta_y * l_y - gamma * terms["total_correlation"] + log_q)


def beta_vae(terms, *, beta, lam):
  """The negative of 1 - beta (2+3) - beta (4+5) - beta lam VAT; [B], in nats.

  With beta = 1 and lam = 0 it is the negative ELBO, that of the VAE.

  Args:
    terms: {name: [B]}, of `information_terms`, with `reconstruction_loss`, and `vat_loss`
      unless lam = 0.
    beta: weight of the code's divergence from the prior, and of VAT.
    lam: weight of the VAT cross-entropy inside it.

  Reference: Higgins et al., "beta-VAE", 2017.
  """
  kl_y, kl_z = _kl_given_x(terms)
  return terms["reconstruction_loss"] + beta * (kl_y + kl_z + _vat(terms, lam))


def info_vae(terms, *, beta, alpha, lam):
  """The negative of 1 - (1 - alpha)(2+4) - beta (3+5) - beta lam VAT; [B], in nats.

  alpha = 1 is the paper's InfoVAE and WAE's objective with the KL divergence as penalty;
  alpha = 0 with beta = 1 is the VAE's.

  Args:
    terms: as in `beta_vae`.
    beta: weight of KL(p(y)||r(y)) and of KL(p(z)||r(z)), jointly over dimensions, and of VAT.
    alpha: how much of the informations is not penalised.
    lam: weight of the VAT cross-entropy inside beta.

  References: Zhao et al., "InfoVAE", 2017, arXiv:1706.02262; Tolstikhin et al.,
    "Wasserstein Auto-Encoders", 2018, arXiv:1711.01558.
  """
  information = terms["mi_y"] + terms["mi_z_joint"]
  divergence = terms["kl_y"] + terms["kl_z_joint"]
  return (
      terms["reconstruction_loss"]
      + (1.0 - alpha) * information
      + beta * (divergence + _vat(terms, lam))
  )


def joint_vae(terms, *, beta, capacity_y, capacity_z, lam, mean=tf.reduce_mean):
  """The negative of 1 - beta |2+3 - C_y| - beta |4+5 - C_z| - beta lam VAT; [B], in nats.

  The absolute values are of the means over the batch, written per image so that the mean of
  the result is theirs.

  Args:
    terms: as in `beta_vae`.
    beta: weight of both terms, and of VAT.
    capacity_y: C_y, in nats; at most log K2 is meaningful.
    capacity_z: C_z, in nats.
    lam: weight of the VAT cross-entropy inside beta.
    mean: of a term [B] over the (global) batch.

  Reference: Dupont, "Learning Disentangled Joint Continuous and Discrete Representations",
    2018, arXiv:1804.00104.
  """
  kl_y, kl_z = _kl_given_x(terms)
  off_y = tf.sign(mean(kl_y) - capacity_y) * (kl_y - capacity_y)
  off_z = tf.sign(mean(kl_z) - capacity_z) * (kl_z - capacity_z)
  return terms["reconstruction_loss"] + beta * (off_y + off_z + _vat(terms, lam))


def beta_tcvae(terms, *, beta, lam):
  """The negative of 1 - I(x;y,z) - beta TC(y,z) - 3 - sum_k KL(p(z_k)||r(z_k)) - lam VAT; [B].

  I(x;y,z) is I(x;y) + sum_k I(x;z_k) - TC(y,z), eq (3). With beta = 1 it is the VAE's.

  Args:
    terms: as in `beta_vae`.
    beta: weight of the total correlation.
    lam: weight of the VAT cross-entropy.

  Reference: Chen et al., "Isolating Sources of Disentanglement in VAEs", 2018,
    arXiv:1802.04942, here on the hybrid code (y, z).
  """
  total_correlation = terms["total_correlation"]
  information = terms["mi_y"] + terms["mi_z"] - total_correlation
  return (
      terms["reconstruction_loss"]
      + information
      + beta * total_correlation
      + terms["kl_y"]
      + terms["kl_z"]
      + _vat(terms, lam)
  )


def _kl_given_x(terms):
  """(2+3, 4+5): the divergences of p(y|x) and of p(z|x) from the prior."""
  return terms["mi_y"] + terms["kl_y"], terms["mi_z_joint"] + terms["kl_z_joint"]


def _vat(terms, lam):
  return lam * terms["vat_loss"] if lam else 0.0

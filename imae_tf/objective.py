"""The paper's objective: one pure function per information term, then the weighted sum.

Every term is a vector [B], one value per image in nats, whose mean over the batch is the
estimate. Shapes: z, mean, log_scale [B, K1]; log_y = log p(y|x) [B, K2]; `marginals` is
`estimators.LogMarginals`, the densities under the encoder averaged over the batch, eq (35).

Reference: "Information Maximization Auto-Encoding", equations (3)-(12).
"""

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


def mutual_information_z(log_z_given_x, log_p_z):
  """I(x;z_k) = E log p(z_k|x) / p(z_k), per dimension: [B, K1]."""
  return log_z_given_x - log_p_z


def kl_z(z, log_p_z):
  """sum_k KL(p(z_k) || N(0, 1)) = -L(z), eq (6)."""
  log_prior = estimators.log_normal(z, tf.zeros([]), tf.zeros([]))
  return tf.reduce_sum(log_p_z - log_prior, axis=1)


def total_correlation(log_y, marginals):
  """TC(y,z) = KL(p(y,z) || p(y) prod_k p(z_k)), eq (3), with y summed exactly."""
  log_ratio = marginals.yz - marginals.y  # log p(z|y): [B, K2]
  return tf.reduce_sum(tf.exp(log_y) * log_ratio, axis=1) - tf.reduce_sum(marginals.z, axis=1)


def joint_mutual_information(log_y, log_z_given_x, marginals):
  """I(x;y,z) = E log p(y,z|x) / p(y,z), the left side of the identity (3)."""
  log_ratio = log_y - marginals.yz
  return tf.reduce_sum(tf.exp(log_y) * log_ratio, axis=1) + tf.reduce_sum(log_z_given_x, axis=1)


def information_terms(z, mean, log_scale, log_y, marginals):
  """The logged terms of the code: {name: [B]}, in nats."""
  log_z_given_x = estimators.log_normal(z, mean, log_scale)
  return {
      "mi_y": mutual_information_y(log_y, marginals.y),
      "entropy_y": entropy_y(log_y, marginals.y),
      "conditional_entropy_y": conditional_entropy_y(log_y),
      "mi_z": tf.reduce_sum(mutual_information_z(log_z_given_x, marginals.z), axis=1),
      "kl_z": kl_z(z, marginals.z),
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

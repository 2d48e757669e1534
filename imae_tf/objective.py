"""The paper's objectives: one pure function per information term, then the weighted sums.

`models` computes the terms in each training step, and `methods` chooses the weighted sum. Every
term is a vector [B] with one value per image, in nats; its mean over the batch is the estimate.

Shapes: z, mean, log_scale [B, K1]; log_y = log p(y|x) [B, K2]; log_z_given_x = log p(z_k|x)
[B, K1]. `marginals` is `estimators.LogMarginals`: the densities under the encoder averaged over
the batch, eq (35). Its parts are log_p_z = log p(z_k) [B, K1] and log_p_y = log p(y) [B, K2].

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

Each method also has the term of VAT, - beta lam H(p(y|x), p(y|x+r)). There beta-TCVAE's beta
counts as 1, and IMAE's may be `beta_y`.

Reference: "Information Maximization Auto-Encoding", equations (3)-(12), Figure 1.
"""

import math
from collections.abc import Callable
from collections.abc import Mapping

import tensorflow as tf
from tensorflow import Tensor

from imae_tf import estimators
from imae_tf.estimators import LogMarginals

Terms = Mapping[str, Tensor]  # {name: [B]}, in nats
TEACHING_WEIGHT = 10.0  # of votes, against 1 of H(y|x)


def bernoulli_reconstruction(x: Tensor, logits: Tensor) -> Tensor:
  """-log q(x|y,z) = -sum_d [x_d log s(l_d) + (1 - x_d) log(1 - s(l_d))], pixels in [0, 1].

  x, logits: [B, H, W, C]. This is the Bernoulli cross-entropy; for grey pixels its floor is not 0
  but the pixels' own entropy (`metrics.reconstruction_floor`).

  >>> x = tf.fill([1, 2, 2, 1], 0.5)
  >>> print(bernoulli_reconstruction(x, tf.zeros_like(x)).numpy().round(4))  # 4 ln 2
  [2.7726]
  """
  nats = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits)
  return tf.reduce_sum(nats, axis=[1, 2, 3])


def gaussian_reconstruction(x: Tensor, logits: Tensor) -> Tensor:
  """-log q(x|y,z) = -sum_d log N(x_d; s(l_d), 1), for real-valued pixels in [0, 1].

  x, logits: [B, H, W, C]. Its floor is (D/2) log 2 pi for D pixels and channels.

  >>> x = tf.fill([1, 2, 2, 1], 0.5)
  >>> print(gaussian_reconstruction(x, tf.zeros_like(x)).numpy().round(4))  # 2 ln 2 pi
  [3.6758]
  """
  log_density = estimators.log_normal(x, tf.sigmoid(logits), tf.zeros([]))
  return -tf.reduce_sum(log_density, axis=[1, 2, 3])


def entropy_y(log_y: Tensor, log_p_y: Tensor) -> Tensor:
  """H(y) = -E_x sum_y p(y|x) log p(y), the category balance of eq (7); at most log K2.

  >>> log_y, log_p_y = tf.math.log([[0.9, 0.1], [0.1, 0.9]]), tf.math.log([0.5, 0.5])
  >>> print(entropy_y(log_y, log_p_y).numpy().round(4))  # ln 2
  [0.6931 0.6931]
  """
  return -tf.reduce_sum(tf.exp(log_y) * log_p_y, axis=1)


def conditional_entropy_y(log_y: Tensor) -> Tensor:
  """H(y|x) = -E_x sum_y p(y|x) log p(y|x), the category separation of eq (7).

  >>> print(conditional_entropy_y(tf.math.log([[0.25, 0.25, 0.25, 0.25]])).numpy().round(4))
  [1.3863]
  """
  return -tf.reduce_sum(tf.exp(log_y) * log_y, axis=1)


def mutual_information_y(log_y: Tensor, log_p_y: Tensor) -> Tensor:
  """I(x;y) = H(y) - H(y|x), eq (7).

  >>> certain = tf.nn.log_softmax([[99.0, 0.0], [0.0, 99.0]])
  >>> print(mutual_information_y(certain, tf.math.log([0.5, 0.5])).numpy().round(4))  # ln 2
  [0.6931 0.6931]
  """
  return entropy_y(log_y, log_p_y) - conditional_entropy_y(log_y)


def kl_y(log_y: Tensor, log_p_y: Tensor) -> Tensor:
  """KL(p(y) || r(y)) = log K2 - H(y), r uniform: term 3 of Figure 1.

  >>> one_category = tf.nn.log_softmax([[99.0, 0.0]])
  >>> print(kl_y(one_category, one_category).numpy().round(4))  # ln 2
  [0.6931]
  """
  return math.log(log_y.shape[1]) - entropy_y(log_y, log_p_y)


def mutual_information_z(log_z_given_x: Tensor, log_p_z: Tensor) -> Tensor:
  """I(x;z_k) = E log p(z_k|x) / p(z_k), per dimension: [B, K1].

  >>> print(mutual_information_z(tf.constant([[-1.0, -2.0]]), tf.constant([[-1.5, -2.0]])).numpy())
  [[0.5 0. ]]
  """
  return log_z_given_x - log_p_z


def kl_z(z: Tensor, log_p_z: Tensor) -> Tensor:
  """sum_k KL(p(z_k) || N(0, 1)) = -L(z), eq (6).

  >>> z = tf.ones([1, 2])
  >>> log_p_z = estimators.log_normal(z, 1.0, 0.0)  # of a code that is N(1, 1)
  >>> print(kl_z(z, log_p_z).numpy().round(4))  # 1/2 a dimension
  [1.]
  """
  log_prior = estimators.log_normal(z, tf.zeros([]), tf.zeros([]))
  return tf.reduce_sum(log_p_z - log_prior, axis=1)


def kl_z_given_x(mean: Tensor, log_scale: Tensor) -> Tensor:
  """KL(p(z|x) || N(0, I)) in closed form; its mean is 4 + 5 of Figure 1.

  >>> print(kl_z_given_x(tf.constant([[1.0, 2.0]]), tf.zeros([1, 2])).numpy())  # (1 + 4) / 2
  [2.5]
  """
  variance = tf.exp(2.0 * log_scale)
  return tf.reduce_sum(0.5 * (tf.square(mean) + variance - 1.0) - log_scale, axis=1)


def kl_z_joint(z: Tensor, marginals: LogMarginals) -> Tensor:
  """KL(p(z) || N(0, I)), the dimensions together: term 5 of Figure 1.

  >>> z, log_y = tf.ones([1, 2]), tf.math.log([[0.5, 0.5]])
  >>> marginals = estimators.log_marginals(z, tf.ones([1, 2]), tf.zeros([1, 2]), log_y)
  >>> print(kl_z_joint(z, marginals).numpy().round(4))  # 1/2 a dimension, as in `kl_z`
  [1.]
  """
  log_p_z = tf.reduce_logsumexp(marginals.yz, axis=1)
  log_prior = estimators.log_normal(z, tf.zeros([]), tf.zeros([]))
  return log_p_z - tf.reduce_sum(log_prior, axis=1)


def total_correlation(log_y: Tensor, marginals: LogMarginals) -> Tensor:
  """TC(y,z) = KL(p(y,z) || p(y) prod_k p(z_k)), eq (3), with y summed exactly.

  >>> mean = tf.constant([[-9.0, -9.0], [9.0, 9.0]])  # two images; z_2 repeats z_1
  >>> log_y = tf.math.log([[0.5, 0.5], [0.5, 0.5]])
  >>> marginals = estimators.log_marginals(mean, mean, tf.zeros([2, 2]), log_y)
  >>> print(total_correlation(log_y, marginals).numpy().round(4))  # ln 2
  [0.6931 0.6931]
  """
  log_ratio = marginals.yz - marginals.y  # log p(z|y): [B, K2]
  return tf.reduce_sum(tf.exp(log_y) * log_ratio, axis=1) - tf.reduce_sum(marginals.z, axis=1)


def joint_mutual_information(
    log_y: Tensor, log_z_given_x: Tensor, marginals: LogMarginals
) -> Tensor:
  """I(x;y,z) = E log p(y,z|x) / p(y,z), the left side of the identity (3).

  >>> mean, log_scale = tf.constant([[-9.0], [9.0]]), tf.zeros([2, 1])  # two images
  >>> log_y = tf.math.log([[0.5, 0.5], [0.5, 0.5]])
  >>> marginals = estimators.log_marginals(mean, mean, log_scale, log_y)
  >>> log_z_given_x = estimators.log_normal(mean, mean, log_scale)
  >>> print(joint_mutual_information(log_y, log_z_given_x, marginals).numpy().round(4))  # ln 2
  [0.6931 0.6931]
  """
  log_ratio = log_y - marginals.yz
  return tf.reduce_sum(tf.exp(log_y) * log_ratio, axis=1) + tf.reduce_sum(log_z_given_x, axis=1)


def mutual_information_of_all_z(log_z_given_x: Tensor, marginals: LogMarginals) -> Tensor:
  """I(x;z), the dimensions together, from samples alone: with j = i at most log N.

  >>> mean, log_scale = tf.constant([[-9.0], [9.0]]), tf.zeros([2, 1])  # two images
  >>> marginals = estimators.log_marginals(mean, mean, log_scale, tf.zeros([2, 1]))
  >>> log_z_given_x = estimators.log_normal(mean, mean, log_scale)
  >>> print(mutual_information_of_all_z(log_z_given_x, marginals).numpy().round(4))  # ln 2
  [0.6931 0.6931]
  """
  log_p_z = tf.reduce_logsumexp(marginals.yz, axis=1)
  return tf.reduce_sum(log_z_given_x, axis=1) - log_p_z


def information_terms(
    z: Tensor, mean: Tensor, log_scale: Tensor, log_y: Tensor, marginals: LogMarginals
) -> dict[str, Tensor]:
  """All terms of the code that an objective weighs or training logs: {name: [B]}, in nats.

  >>> mean, log_scale = tf.constant([[-9.0, -9.0], [9.0, 9.0]]), tf.zeros([2, 2])
  >>> log_y = tf.math.log([[0.5, 0.5], [0.5, 0.5]])
  >>> marginals = estimators.log_marginals(mean, mean, log_scale, log_y)
  >>> terms = information_terms(mean, mean, log_scale, log_y, marginals)
  >>> print(terms["mi_z"].numpy().round(4), terms["total_correlation"].numpy().round(4))
  [1.3863 1.3863] [0.6931 0.6931]
  """
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


def category_terms(log_y: Tensor, log_y_of_all: Tensor) -> dict[str, Tensor]:
  """The terms of y alone, where z is not trained: {name: [B]}, in nats.

  Args:
    log_y: [B, K2], log p(y|x).
    log_y_of_all: [N, K2], that of the images over which the marginal p(y) is averaged.

  >>> log_y = tf.nn.log_softmax([[99.0, 0.0], [0.0, 99.0]])
  >>> print(category_terms(log_y, log_y)["mi_y"].numpy().round(4))  # ln 2
  [0.6931 0.6931]
  """
  count = tf.cast(tf.shape(log_y_of_all)[0], tf.float32)
  log_p_y = tf.reduce_logsumexp(log_y_of_all, axis=0) - tf.math.log(count)
  return {
      "mi_y": mutual_information_y(log_y, log_p_y),
      "entropy_y": entropy_y(log_y, log_p_y),
      "conditional_entropy_y": conditional_entropy_y(log_y),
  }


def imae(
    terms: Terms,
    *,
    beta: float,
    gamma: float,
    lam: float,
    beta_y: float | None = None,
    entropy_weight: float = 1.0,
    consistency: float = 0.0,
) -> Tensor:
  """The negative of eq (11), to be minimised; [B], in nats.

      beta L(z) + beta_y L_D(y) - gamma TC(y,z) + E log q(x|y,z)
      L(z)   = -sum_k KL(p(z_k) || r(z_k))                                eq (6)
      L_D(y): `category_objective`                                        eq (7), (12)

  The paper has beta_y = beta (None).

  Args:
    terms: {name: [B]}: `reconstruction_loss`, `kl_z`, `total_correlation`, and those of
      `category_objective`. Of a start that trains y alone there are only the latter.
    beta: weight of L(z), and of L_D(y) unless `beta_y` is given.
    gamma: weight of the total correlation.
    lam: see `category_objective`.
    beta_y: weight of L_D(y).
    entropy_weight: see `category_objective`.
    consistency: see `category_objective`.

  >>> terms = {"reconstruction_loss": 10.0, "kl_z": 1.0, "total_correlation": 0.5}
  >>> terms |= {"entropy_y": 2.0, "conditional_entropy_y": 0.5}
  >>> imae(terms, beta=2.0, gamma=4.0, lam=0.0)  # 10 + 2 * 1 - 2 (2 - 0.5) + 4 * 0.5
  11.0
  """
  beta_y = beta if beta_y is None else beta_y
  l_y = category_objective(
      terms, lam=lam, entropy_weight=entropy_weight, consistency=consistency
  )
  if "reconstruction_loss" not in terms:  # y alone is trained
    return -beta_y * l_y
  log_q = -terms["reconstruction_loss"]
  l_z = -terms["kl_z"]
  return -(beta * l_z + beta_y * l_y - gamma * terms["total_correlation"] + log_q)


def category_objective(
    terms: Terms, *, lam: float, entropy_weight: float = 1.0, consistency: float = 0.0
) -> Tensor:
  """L_D(y), eq (7) and (12), with departures that are off by default; [B], in nats.

      entropy_weight H(y) - H(y|x) - s (lam H(p(y|x), p(y|x+r)) + consistency H(p(y|x), p(y|T(x))))

  T is a small random transform of the image (`networks.RandomTransform`), as in IMSAT's and IIC's
  use of such images (Hu et al. 2017; Ji et al. 2019). s, the term `smoothing`, is 1 in the paper.

  Where votes of other models teach y (`training.teachers`), `taught` is 1 and L_D(y) is

      -10 H(v, p(y|x)) - s (lam H(p(y|x), p(y|x+r)) + consistency H(p(y|x), p(y|T(x))))

  Args:
    terms: {name: [B]}: `entropy_y`, `conditional_entropy_y`; `vat_loss` unless lam = 0,
      `consistency_loss` unless consistency = 0; perhaps `smoothing`, `taught` and `teaching_loss`.
    lam: weight of the VAT cross-entropy.
    entropy_weight: how often H(y) counts; 1 is eq (7).
    consistency: weight of the cross-entropy under transforms.

  >>> terms = {"entropy_y": 2.0, "conditional_entropy_y": 0.5, "consistency_loss": 0.1}
  >>> category_objective(terms, lam=0.0, consistency=5.0)  # 2 - 0.5 - 5 * 0.1
  1.0
  """
  separate = entropy_weight * terms["entropy_y"] - terms["conditional_entropy_y"]
  if "taught" in terms:
    taught = terms["taught"]
    separate = (1.0 - taught) * separate - taught * TEACHING_WEIGHT * terms["teaching_loss"]
  smooth = lam * terms["vat_loss"] if lam else 0.0
  if consistency:
    smooth += consistency * terms["consistency_loss"]
  return separate - terms.get("smoothing", 1.0) * smooth


def beta_vae(terms: Terms, *, beta: float, lam: float) -> Tensor:
  """The negative of 1 - beta (2+3) - beta (4+5) - beta lam VAT; [B], in nats.

  With beta = 1 and lam = 0 it is the negative ELBO, the loss of the VAE.

  Args:
    terms: {name: [B]}: the terms of `information_terms` and `reconstruction_loss`, and `vat_loss`
      unless lam = 0.
    beta: weight of the code's divergence from the prior, and of VAT.
    lam: weight of the VAT cross-entropy inside beta.

  >>> terms = {"reconstruction_loss": 10.0, "mi_y": 1.0, "mi_z_joint": 2.0}
  >>> terms |= {"kl_y": 0.5, "kl_z_joint": 0.5}
  >>> beta_vae(terms, beta=2.0, lam=0.0)  # 10 + 2 (1.5 + 2.5)
  18.0

  Reference: Higgins et al., "beta-VAE", 2017.
  """
  kl_y, kl_z = _kl_given_x(terms)
  return terms["reconstruction_loss"] + beta * (kl_y + kl_z + _vat(terms, lam))


def info_vae(terms: Terms, *, beta: float, alpha: float, lam: float) -> Tensor:
  """The negative of 1 - (1 - alpha)(2+4) - beta (3+5) - beta lam VAT; [B], in nats.

  alpha = 1 is the paper's InfoVAE, and WAE's objective with the KL divergence as penalty;
  alpha = 0 with beta = 1 is the objective of the VAE.

  Args:
    terms: as in `beta_vae`.
    beta: weight of KL(p(y)||r(y)) and of KL(p(z)||r(z)), jointly over dimensions, and of VAT.
    alpha: 1 - alpha is the weight with which I(x;y) and I(x;z) are penalised.
    lam: weight of the VAT cross-entropy inside beta.

  >>> terms = {"reconstruction_loss": 10.0, "mi_y": 1.0, "mi_z_joint": 2.0}
  >>> terms |= {"kl_y": 0.5, "kl_z_joint": 0.5}
  >>> info_vae(terms, beta=2.0, alpha=1.0, lam=0.0)  # 10 + 2 (0.5 + 0.5)
  12.0

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


def joint_vae(
    terms: Terms,
    *,
    beta: float,
    capacity_y: float | Tensor,
    capacity_z: float | Tensor,
    lam: float,
    mean: Callable[[Tensor], Tensor] = tf.reduce_mean,
) -> Tensor:
  """The negative of 1 - beta |2+3 - C_y| - beta |4+5 - C_z| - beta lam VAT; [B], in nats.

  The absolute values are those of means over the batch. The result has one value per image, such
  that its mean is the loss with these absolute values.

  Args:
    terms: as in `beta_vae`.
    beta: weight of both absolute values, and of VAT.
    capacity_y: C_y, in nats; only values up to log K2 are meaningful.
    capacity_z: C_z, in nats.
    lam: weight of the VAT cross-entropy inside beta.
    mean: function that gives the mean of a term [B] over the (global) batch.

  >>> terms = {"reconstruction_loss": 10.0, "mi_y": 1.0, "mi_z_joint": 2.0}
  >>> terms |= {"kl_y": 0.5, "kl_z_joint": 0.5}
  >>> loss = joint_vae(terms, beta=2.0, capacity_y=1.0, capacity_z=3.0, lam=0.0)
  >>> print(loss.numpy())  # 10 + 2 (|1.5 - 1| + |2.5 - 3|)
  12.0

  Reference: Dupont, "Learning Disentangled Joint Continuous and Discrete Representations",
    2018, arXiv:1804.00104.
  """
  kl_y, kl_z = _kl_given_x(terms)
  off_y = tf.sign(mean(kl_y) - capacity_y) * (kl_y - capacity_y)
  off_z = tf.sign(mean(kl_z) - capacity_z) * (kl_z - capacity_z)
  return terms["reconstruction_loss"] + beta * (off_y + off_z + _vat(terms, lam))


def beta_tcvae(terms: Terms, *, beta: float, lam: float) -> Tensor:
  """The negative of 1 - I(x;y,z) - beta TC(y,z) - 3 - sum_k KL(p(z_k)||r(z_k)) - lam VAT; [B].

  I(x;y,z) is I(x;y) + sum_k I(x;z_k) - TC(y,z), eq (3). With beta = 1 this is the VAE's objective.

  Args:
    terms: as in `beta_vae`.
    beta: weight of the total correlation.
    lam: weight of the VAT cross-entropy.

  >>> terms = {"reconstruction_loss": 10.0, "mi_y": 1.0, "mi_z": 2.0, "total_correlation": 0.5}
  >>> terms |= {"kl_y": 0.5, "kl_z": 1.0}
  >>> beta_tcvae(terms, beta=2.0, lam=0.0)  # 10 + (1 + 2 - 0.5) + 2 * 0.5 + 0.5 + 1
  15.0

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


def _kl_given_x(terms: Terms) -> tuple[Tensor, Tensor]:
  """(2+3, 4+5): the divergences of p(y|x) and of p(z|x) from the prior."""
  return terms["mi_y"] + terms["kl_y"], terms["mi_z_joint"] + terms["kl_z_joint"]


def _vat(terms: Terms, lam: float) -> Tensor | float:
  return lam * terms["vat_loss"] if lam else 0.0

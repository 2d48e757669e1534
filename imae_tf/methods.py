"""IMAE and the VAEs that it is compared with: a subclass of `HybridAutoencoder` for each method.

The methods differ in the weighted sum that they minimise; the sums are in `objective`. Each class
takes the arguments of `HybridAutoencoder` and the weights of its method. The default weights are
the paper's (Figure 4: beta = lambda = 5 for all).
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from imae_tf import objective
from imae_tf._shared import method_table
from imae_tf._shared import model_checks
from imae_tf.errors import InputError
from imae_tf.models import HybridAutoencoder

Terms = dict[str, tf.Tensor]
Mean = Callable[[tf.Tensor], tf.Tensor]


@keras.saving.register_keras_serializable("imae_tf")
class IMAE(HybridAutoencoder):
  """Information Maximization Autoencoder: minimises the negative of eq (11) with (12).

  The defaults are the paper's weights (figure 4: beta = lambda = 5, gamma = 2, VAT radius 1; the
  text of the paper is damaged there, and this reading fits it). `beta_y`, `entropy_weight`,
  `detach_y`, `consistency` and `ease_smoothing` are departures from eq (11), off by default.

      encoder, decoder = imae_tf.networks.mlp(image_shape=(28, 28, 1))
      model = imae_tf.IMAE(encoder, decoder, num_categories=10, latent_dim=10)
      model.compile(optimizer=keras.optimizers.Adam(1e-3))
      model.fit(x, batch_size=256, epochs=20)
      codes = model.encode(x)  # {"y", "z", "z_scale"}

  Args:
    encoder: see `HybridAutoencoder`, as all arguments not listed here.
    decoder: see `HybridAutoencoder`.
    num_categories: K2.
    latent_dim: K1.
    beta: weight of L(z), and of L_D(y) unless `beta_y` is given; >= 0.
    gamma: weight of TC(y,z); >= 0.
    lam: weight of the VAT cross-entropy inside L_D(y); >= 0.
    beta_y: weight of L_D(y); None for beta.
    entropy_weight: how often H(y) counts in L_D(y); 1 is eq (7).
    **kwargs: the other arguments of `HybridAutoencoder`.

  Raises:
    InputError: an argument is out of its range.
  """

  def __init__(
      self,
      encoder: keras.Model,
      decoder: keras.Model,
      num_categories: int = 10,
      latent_dim: int = 10,
      beta: float = 5.0,
      gamma: float = 2.0,
      lam: float = 5.0,
      beta_y: float | None = None,
      entropy_weight: float = 1.0,
      **kwargs: Any,
  ) -> None:
    super().__init__(encoder, decoder, num_categories, latent_dim, lam, **kwargs)
    self.beta = _weight("beta", beta)
    self.gamma = _weight("gamma", gamma)
    self.beta_y = beta_y if beta_y is None else _weight("beta_y", beta_y)
    self.entropy_weight = _weight("entropy_weight", entropy_weight)

  def objective(self, terms: Terms, mean: Mean) -> tf.Tensor:
    return objective.imae(
        terms,
        beta=self.beta,
        gamma=self.gamma,
        lam=self.lam,
        beta_y=self.beta_y,
        entropy_weight=self.entropy_weight,
        consistency=self.consistency,
    )

  def get_config(self) -> dict[str, Any]:
    return {
        **super().get_config(),
        "beta": self.beta,
        "gamma": self.gamma,
        "beta_y": self.beta_y,
        "entropy_weight": self.entropy_weight,
    }


@keras.saving.register_keras_serializable("imae_tf")
class VAE(HybridAutoencoder):
  """Variational autoencoder on the hybrid code, with VAT: minimises the negative ELBO.

  Args and errors: see `HybridAutoencoder`; this method has no weights of its own.

  References: Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, arXiv:1312.6114;
    `objective.beta_vae` with beta = 1.
  """

  def objective(self, terms: Terms, mean: Mean) -> tf.Tensor:
    return objective.beta_vae(terms, beta=1.0, lam=self.lam)


@keras.saving.register_keras_serializable("imae_tf")
class BetaVAE(HybridAutoencoder):
  """beta-VAE on the hybrid code, with VAT: minimises `objective.beta_vae`.

  Args:
    encoder: see `HybridAutoencoder`, as all arguments not listed here.
    decoder: see `HybridAutoencoder`.
    num_categories: K2.
    latent_dim: K1.
    beta: weight of KL(p(y|x)||r(y)) + KL(p(z|x)||r(z)), and of VAT; >= 0.
    lam: weight of the VAT cross-entropy inside beta; >= 0.
    **kwargs: the other arguments of `HybridAutoencoder`.

  Raises:
    InputError: an argument is out of its range.

  Reference: Higgins et al., "beta-VAE", 2017.
  """

  def __init__(
      self,
      encoder: keras.Model,
      decoder: keras.Model,
      num_categories: int = 10,
      latent_dim: int = 10,
      beta: float = 5.0,
      lam: float = 5.0,
      **kwargs: Any,
  ) -> None:
    super().__init__(encoder, decoder, num_categories, latent_dim, lam, **kwargs)
    self.beta = _weight("beta", beta)

  def objective(self, terms: Terms, mean: Mean) -> tf.Tensor:
    return objective.beta_vae(terms, beta=self.beta, lam=self.lam)

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "beta": self.beta}


@keras.saving.register_keras_serializable("imae_tf")
class InfoVAE(HybridAutoencoder):
  """InfoVAE on the hybrid code, with VAT: minimises `objective.info_vae`.

  The default alpha = 1 is the paper's. With it, this is also WAE's objective, whose penalty is
  then the KL divergence of the aggregate posterior from the prior.

  Args:
    encoder: see `HybridAutoencoder`, as all arguments not listed here.
    decoder: see `HybridAutoencoder`.
    num_categories: K2.
    latent_dim: K1.
    beta: weight of KL(p(y)||r(y)) + KL(p(z)||r(z)), and of VAT; >= 0.
    lam: weight of the VAT cross-entropy inside beta; >= 0.
    alpha: 1 - alpha is the weight of I(x;y) + I(x;z); in [0, 1].
    **kwargs: the other arguments of `HybridAutoencoder`.

  Raises:
    InputError: an argument is out of its range.

  References: Zhao et al., "InfoVAE", 2017, arXiv:1706.02262; Tolstikhin et al.,
    "Wasserstein Auto-Encoders", 2018, arXiv:1711.01558.
  """

  def __init__(
      self,
      encoder: keras.Model,
      decoder: keras.Model,
      num_categories: int = 10,
      latent_dim: int = 10,
      beta: float = 5.0,
      lam: float = 5.0,
      alpha: float = 1.0,
      **kwargs: Any,
  ) -> None:
    super().__init__(encoder, decoder, num_categories, latent_dim, lam, **kwargs)
    self.beta = _weight("beta", beta)
    self.alpha = _weight("alpha", alpha)
    if alpha > 1:
      raise InputError(f"expected alpha as a number in [0, 1], got {alpha!r}; correct it.")

  def objective(self, terms: Terms, mean: Mean) -> tf.Tensor:
    return objective.info_vae(terms, beta=self.beta, alpha=self.alpha, lam=self.lam)

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "beta": self.beta, "alpha": self.alpha}


@keras.saving.register_keras_serializable("imae_tf")
class JointVAE(HybridAutoencoder):
  """JointVAE, with VAT: minimises `objective.joint_vae` under capacities that rise.

  C_y and C_z rise linearly from 0 with the optimizer's step. The step is saved with the model, so
  a run that goes on after a kill has the capacities of an unbroken run.

  Args:
    encoder: see `HybridAutoencoder`, as all arguments not listed here.
    decoder: see `HybridAutoencoder`.
    num_categories: K2.
    latent_dim: K1.
    beta: weight of |KL(p(y|x)||r(y)) - C_y| + |KL(p(z|x)||r(z)) - C_z|, and of VAT; >= 0.
    lam: weight of the VAT cross-entropy inside beta; >= 0.
    capacity_y: the final C_y in nats, clipped to ln K2, which is all that y can hold; >= 0.
    capacity_z: the final C_z in nats; >= 0.
    capacity_steps: steps of the optimizer in which both rise; an integer >= 1.
    **kwargs: the other arguments of `HybridAutoencoder`.

  Raises:
    InputError: an argument is out of its range.

  Reference: Dupont, "Learning Disentangled Joint Continuous and Discrete Representations",
    2018, arXiv:1804.00104, whose capacities for MNIST are the defaults (its beta is 30).
  """

  def __init__(
      self,
      encoder: keras.Model,
      decoder: keras.Model,
      num_categories: int = 10,
      latent_dim: int = 10,
      beta: float = 5.0,
      lam: float = 5.0,
      capacity_y: float = 5.0,
      capacity_z: float = 5.0,
      capacity_steps: int = 25_000,
      **kwargs: Any,
  ) -> None:
    super().__init__(encoder, decoder, num_categories, latent_dim, lam, **kwargs)
    self.beta = _weight("beta", beta)
    self.capacity_y = _weight("capacity_y", capacity_y)
    self.capacity_z = _weight("capacity_z", capacity_z)
    if not model_checks.is_integer(capacity_steps, 1):
      raise InputError(
          f"expected capacity_steps as an integer, 1 or more, got {capacity_steps!r}; correct it."
      )
    self.capacity_steps = capacity_steps

  def objective(self, terms: Terms, mean: Mean) -> tf.Tensor:
    step = tf.cast(self.optimizer.iterations, tf.float32)
    risen = tf.minimum(step / self.capacity_steps, 1.0)
    return objective.joint_vae(
        terms,
        beta=self.beta,
        capacity_y=risen * min(self.capacity_y, math.log(self.num_categories)),
        capacity_z=risen * self.capacity_z,
        lam=self.lam,
        mean=mean,
    )

  def get_config(self) -> dict[str, Any]:
    return {
        **super().get_config(),
        "beta": self.beta,
        "capacity_y": self.capacity_y,
        "capacity_z": self.capacity_z,
        "capacity_steps": self.capacity_steps,
    }


@keras.saving.register_keras_serializable("imae_tf")
class BetaTCVAE(HybridAutoencoder):
  """beta-TCVAE on the hybrid code, with VAT: minimises `objective.beta_tcvae`.

  Args:
    encoder: see `HybridAutoencoder`, as all arguments not listed here.
    decoder: see `HybridAutoencoder`.
    num_categories: K2.
    latent_dim: K1.
    beta: weight of TC(y,z); >= 0.
    lam: weight of the VAT cross-entropy; >= 0.
    **kwargs: the other arguments of `HybridAutoencoder`.

  Raises:
    InputError: an argument is out of its range.

  Reference: Chen et al., "Isolating Sources of Disentanglement in VAEs", 2018,
    arXiv:1802.04942.
  """

  def __init__(
      self,
      encoder: keras.Model,
      decoder: keras.Model,
      num_categories: int = 10,
      latent_dim: int = 10,
      beta: float = 5.0,
      lam: float = 5.0,
      **kwargs: Any,
  ) -> None:
    super().__init__(encoder, decoder, num_categories, latent_dim, lam, **kwargs)
    self.beta = _weight("beta", beta)

  def objective(self, terms: Terms, mean: Mean) -> tf.Tensor:
    return objective.beta_tcvae(terms, beta=self.beta, lam=self.lam)

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "beta": self.beta}


METHODS: dict[str, type[HybridAutoencoder]] = {
    method: globals()[known.class_name] for method, known in method_table.METHODS.items()
}


def _weight(name: str, value: Any) -> float:
  if not (model_checks.is_number(value) and value >= 0):
    raise InputError(f"expected {name} as a number, 0 or more, got {value!r}; correct it.")
  return value

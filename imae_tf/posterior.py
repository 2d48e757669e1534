"""The hybrid posterior p(y,z|x) = p(y|x) prod_k N(z_k; mu_k(x), sigma_k(x)^2).

`models` puts `HybridPosterior` after the encoder, and samples codes from `distributions`.
"""

from typing import Any
from typing import NamedTuple

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

Shape = tuple[int | None, ...] | dict[str, tuple[int | None, ...]]


class Posterior(NamedTuple):
  """TFP distributions of a batch of B codes.

  Attributes:
    z: `Normal`, batch [B, K1].
    y: `Categorical`, batch [B], over K2 categories.
    y_relaxed: `RelaxedOneHotCategorical` (Gumbel-softmax, Jang et al. 2016), batch [B],
      event [K2].
  """

  z: tfd.Normal
  y: tfd.Categorical
  y_relaxed: tfd.RelaxedOneHotCategorical

  def sample(self, seed: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws (relaxed y [B, K2], z [B, K1]), reparameterised so that gradients pass.

    Args:
      seed: an integer or an integer tensor [2]; equal seeds give equal samples.
    """
    if isinstance(seed, int):
      seed = tf.constant([seed, 0], tf.int32)
    seed_y, seed_z = tf.unstack(tf.random.split(seed, 2))
    return self.y_relaxed.sample(seed=seed_y), self.z.sample(seed=seed_z)


@keras.saving.register_keras_serializable("imae_tf")
class HybridPosterior(keras.layers.Layer):
  """Maps features [B, F] to the parameters of p(y,z|x), in float32 under every dtype policy.

  Features may also be {"y": [B, F_y], "z": [B, F_z]}, for y and z each its own. The layer returns
  {"mean": [B, K1], "log_scale": [B, K1], "logits": [B, K2]}. Log scales are
  `max_log_scale * tanh(raw / max_log_scale)`, because unbounded log scales diverge within an epoch
  under SGD with momentum. The default, 3, allows standard deviations from 0.05 to 20; the
  variances that the paper's appendix B reports lie well inside.

  Args:
    num_categories: K2, at least 2.
    latent_dim: K1, at least 1.
    max_log_scale: bound of |log sigma|.
    logits_initializer: Keras initializer of the layer that gives the logits of p(y|x).
  """

  def __init__(
      self,
      num_categories: int,
      latent_dim: int,
      max_log_scale: float = 3.0,
      logits_initializer: str | keras.initializers.Initializer = "glorot_uniform",
      **kwargs: Any,
  ) -> None:
    kwargs["dtype"] = "float32"  # sums of B x B log densities need it under mixed precision
    super().__init__(**kwargs)
    self.num_categories = num_categories
    self.latent_dim = latent_dim
    self.max_log_scale = max_log_scale
    self.logits_initializer = keras.initializers.get(logits_initializer)
    self.z_dense = keras.layers.Dense(2 * latent_dim, dtype="float32", name="z")
    self.y_dense = keras.layers.Dense(
        num_categories,
        kernel_initializer=self.logits_initializer,
        dtype="float32",
        name="y",
    )

  def build(self, input_shape: Shape) -> None:
    of_y, of_z = _each(input_shape)
    self.z_dense.build(of_z)
    self.y_dense.build(of_y)
    self.built = True

  def call(self, features: tf.Tensor | dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    of_y, of_z = _each(features)
    mean, raw = keras.ops.split(self.z_dense(of_z), 2, axis=-1)
    log_scale = self.max_log_scale * keras.ops.tanh(raw / self.max_log_scale)
    return {"mean": mean, "log_scale": log_scale, "logits": self.y_dense(of_y)}

  def compute_output_shape(self, input_shape: Shape) -> dict[str, tuple[int | None, int]]:
    batch = _each(input_shape)[0][0]
    z, y = (batch, self.latent_dim), (batch, self.num_categories)
    return {"mean": z, "log_scale": z, "logits": y}

  def get_config(self) -> dict[str, Any]:
    return {
        **super().get_config(),
        "num_categories": self.num_categories,
        "latent_dim": self.latent_dim,
        "max_log_scale": self.max_log_scale,
        "logits_initializer": keras.initializers.serialize(self.logits_initializer),
    }


def _each(features: Any) -> tuple[Any, Any]:
  """Features, or their shape, for y and for z."""
  return (features["y"], features["z"]) if isinstance(features, dict) else (features, features)


def distributions(parameters: dict[str, tf.Tensor], temperature: float) -> Posterior:
  """The TFP distributions of `HybridPosterior`'s output.

  Args:
    parameters: {"mean", "log_scale", "logits"}.
    temperature: temperature of the relaxed one-hot categorical, > 0.
  """
  return Posterior(
      z=tfd.Normal(parameters["mean"], tf.exp(parameters["log_scale"])),
      y=tfd.Categorical(logits=parameters["logits"]),
      y_relaxed=tfd.RelaxedOneHotCategorical(temperature, logits=parameters["logits"]),
  )


@keras.saving.register_keras_serializable("imae_tf", name="_Codes")
class Codes(keras.layers.Layer):
  """Encoder and posterior as one layer that has no training mode.

  In a functional model `training=True` would reach a bare encoder's batch normalisation.

  Args:
    encoder: built Keras model, images [B, H, W, C] -> features [B, F].
    head: `HybridPosterior`, features -> the parameters of p(y,z|x).
    **kwargs: `keras.layers.Layer`'s.
  """

  def __init__(self, encoder: keras.Model, head: HybridPosterior, **kwargs: Any) -> None:
    super().__init__(**kwargs)
    self.encoder = encoder
    self.head = head
    self.built = True

  def call(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
    return codes(self.head(self.encoder(x, training=False)))

  def get_config(self) -> dict[str, Any]:
    parts = {"encoder": self.encoder, "head": self.head}
    serialized = {n: keras.saving.serialize_keras_object(part) for n, part in parts.items()}
    return {**super().get_config(), **serialized}

  @classmethod
  def from_config(cls, config: dict[str, Any]) -> "Codes":
    parts = {n: keras.saving.deserialize_keras_object(config[n]) for n in ("encoder", "head")}
    return cls(**{**config, **parts})


def codes(parameters: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  """{"y": [B, K2] probabilities, "z": [B, K1], "z_scale"} of `HybridPosterior`'s parameters."""
  return {
      "y": keras.ops.softmax(parameters["logits"]),
      "z": parameters["mean"],
      "z_scale": keras.ops.exp(parameters["log_scale"]),
  }

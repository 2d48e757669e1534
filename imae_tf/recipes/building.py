"""Builds the compiled model of a recipe."""

import inspect
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

from imae_tf.errors import InputError
from imae_tf.recipes.settings import Recipe
from imae_tf.recipes.settings import SETTINGS
from imae_tf.recipes.settings import WEIGHTS

if TYPE_CHECKING:
  import keras

  from imae_tf import networks
  from imae_tf.models import HybridAutoencoder


def build(
    recipe: Recipe,
    image_shape: Sequence[int],
    *,
    num_categories: int,
    latent_dim: int,
    seed: int,
    steps_per_epoch: int,
    method: str = "imae",
) -> "HybridAutoencoder":
  """A compiled model from a recipe.

  Args:
    recipe: `Recipe`.
    image_shape: (H, W, C).
    num_categories: K2.
    latent_dim: K1.
    seed: seed of the noise; the initial weights follow `keras.utils.set_random_seed`.
    steps_per_epoch: the learning rate decays once in so many steps.
    method: a key of `WEIGHTS`.

  Returns:
    A compiled model, whose layers compute in `recipe.precision`.
  """
  import keras

  policy = keras.config.dtype_policy()
  keras.config.set_dtype_policy(recipe.precision)
  try:
    model = _model(recipe, method, image_shape, num_categories, latent_dim, seed)
  finally:
    keras.config.set_dtype_policy(policy)
  model.compile(optimizer=_optimizer(recipe, steps_per_epoch))
  return model


def _model(
    recipe: Recipe,
    method: str,
    image_shape: Sequence[int],
    num_categories: int,
    latent_dim: int,
    seed: int,
) -> "HybridAutoencoder":
  import keras

  from imae_tf import methods
  from imae_tf import networks
  from imae_tf.models import HybridAutoencoder

  sizes: dict[str, Any] = {"num_categories": num_categories, "latent_dim": latent_dim}
  dense: dict[str, Any] = {
      "encoder_units": recipe.encoder_units,
      "decoder_units": recipe.decoder_units,
      "weight_scale": recipe.weight_scale,
  }
  if recipe.network == "conv":
    encoder, decoder = networks.conv(image_shape, **sizes)
  elif recipe.network == "towers":
    view = view_of(recipe.view)
    encoder, decoder = networks.two_towers(
        image_shape, view, y_units=recipe.y_units, **dense, **sizes
    )
  else:
    encoder, decoder = networks.mlp(image_shape, **dense, **sizes)
  names = {*inspect.signature(HybridAutoencoder.__init__).parameters, *WEIGHTS[method]}
  return methods.METHODS[method](
      encoder,
      decoder,
      **{name: getattr(recipe, name) for name in SETTINGS if name in names},
      logits_initializer=(
          "glorot_uniform"
          if recipe.logits_stddev is None
          else keras.initializers.RandomNormal(stddev=recipe.logits_stddev)
      ),
      seed=seed,
      **sizes,
  )


def view_of(name: str) -> "networks.View":
  """A new, unadapted layer: `networks.Pixels` or `networks.EdgeEnergies`, of the setting `view`."""
  from imae_tf import networks

  if name == "pixels":
    return networks.Pixels(name="view")
  return networks.EdgeEnergies(signed=name == "signed_edges", name="view")


def _optimizer(recipe: Recipe, steps_per_epoch: int) -> "keras.optimizers.Optimizer":
  import keras

  from imae_tf import optimizers

  rate: Any = recipe.learning_rate
  if recipe.learning_rate_decay != 1:  # callbacks such as ReduceLROnPlateau want a number
    rate = keras.optimizers.schedules.ExponentialDecay(
        rate, steps_per_epoch, recipe.learning_rate_decay, staircase=True
    )
  if recipe.optimizer == "adam":
    return optimizers.Adam(rate)
  if recipe.optimizer == "sgd":
    return keras.optimizers.SGD(rate, momentum=recipe.momentum)
  raise InputError(
      f"expected the optimizer 'adam' or 'sgd', got {recipe.optimizer!r}; correct it."
  )

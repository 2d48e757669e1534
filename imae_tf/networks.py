"""Builds encoders and decoders: `mlp` (the paper's Table 1) and `conv` (64x64 images).

`recipes.build` and users call these functions. An encoder maps images [B, H, W, C] to features
[B, F]; the model's `HybridPosterior` maps features to (mean, log-scale, logits). A decoder maps the
concatenation (y, z), [B, K2 + K1], to image logits [B, H, W, C]. You can use any other Keras models
with these shapes.
"""

import math
from collections.abc import Callable
from collections.abc import Sequence

import keras

from imae_tf.errors import InputError

# 0.9 is PyTorch's value: with Keras's 0.99 the statistics of a small data set lag epochs behind
# the weights. `synchronized` makes replicas use the statistics of the global batch.
_BATCH_NORM = {"momentum": 0.9, "synchronized": True}
# The order of the axes is said because keras.json may name another default.
_STRIDED = {"strides": 2, "padding": "same", "data_format": "channels_last"}


def mlp(
    image_shape: Sequence[int],
    num_categories: int = 10,
    latent_dim: int = 10,
    encoder_units: Sequence[int] = (500, 1000),
    decoder_units: Sequence[int] = (500, 500),
    weight_scale: float | None = None,
) -> tuple[keras.Model, keras.Model]:
  """Fully connected networks, Table 1: encoder FC 500 BN ReLU, FC 2x500 BN ReLU.

  Args:
    image_shape: (H, W, C).
    num_categories: K2.
    latent_dim: K1.
    encoder_units: widths of the encoder's layers, each with batch normalisation and ReLU.
    decoder_units: widths of the decoder's hidden layers, each with ReLU.
    weight_scale: None for Glorot weights in the encoder; a number s for normal weights of
      standard deviation s / sqrt(fan-in), as IMSAT has them (Hu et al. 2017).

  Returns:
    (encoder, decoder), two built `keras.Model`s.
  """
  _check_image_shape(image_shape)
  initializer = _initializer(weight_scale)
  inputs = keras.Input(image_shape, name="image")
  x = keras.layers.Flatten()(inputs)
  for units in encoder_units:
    x = keras.layers.Dense(units, use_bias=False, kernel_initializer=initializer())(x)
    x = keras.layers.BatchNormalization(**_BATCH_NORM)(x)
    x = keras.layers.ReLU()(x)
  encoder = keras.Model(inputs, x, name="encoder")

  code = keras.Input((num_categories + latent_dim,), name="code")
  x = code
  for units in decoder_units:
    x = keras.layers.Dense(units, activation="relu")(x)
  x = keras.layers.Dense(math.prod(image_shape))(x)
  logits = keras.layers.Reshape(image_shape)(x)
  return encoder, keras.Model(code, logits, name="decoder")


def conv(
    image_shape: Sequence[int] = (64, 64, 3), num_categories: int = 10, latent_dim: int = 10
) -> tuple[keras.Model, keras.Model]:
  """Convolutional networks for images whose sides are multiples of 16, such as CelebA's.

  The encoder has four 4x4 convolutions of stride 2 and a layer of 256 units, and the decoder
  mirrors it. These are the networks of Burgess et al. 2018, with batch normalisation in the
  encoder as in Table 1.

  Args:
    image_shape: (H, W, C), H and W multiples of 16.
    num_categories: K2.
    latent_dim: K1.

  Returns:
    (encoder, decoder), two built `keras.Model`s.

  Raises:
    InputError: H or W is not a multiple of 16.
  """
  _check_image_shape(image_shape)
  height, width, channels = image_shape
  if height % 16 or width % 16:
    raise InputError(
        f"expected sides that are multiples of 16, got images of {height}x{width}; resize them,"
        f" for example with --image_size={_near(height)}x{_near(width)}, or use networks.mlp"
        " (--network=mlp)."
    )
  inputs = keras.Input(image_shape, name="image")
  x = inputs
  for filters in (32, 32, 64, 64):
    x = keras.layers.Conv2D(filters, 4, use_bias=False, **_STRIDED)(x)
    x = keras.layers.BatchNormalization(**_BATCH_NORM)(x)
    x = keras.layers.ReLU()(x)
  x = keras.layers.Flatten()(x)
  x = keras.layers.Dense(256, use_bias=False)(x)
  x = keras.layers.BatchNormalization(**_BATCH_NORM)(x)
  x = keras.layers.ReLU()(x)
  encoder = keras.Model(inputs, x, name="encoder")

  code = keras.Input((num_categories + latent_dim,), name="code")
  x = keras.layers.Dense(256, activation="relu")(code)
  x = keras.layers.Dense((height // 16) * (width // 16) * 64, activation="relu")(x)
  x = keras.layers.Reshape((height // 16, width // 16, 64))(x)
  for filters in (64, 32, 32):
    x = keras.layers.Conv2DTranspose(filters, 4, activation="relu", **_STRIDED)(x)
  logits = keras.layers.Conv2DTranspose(channels, 4, **_STRIDED)(x)
  return encoder, keras.Model(code, logits, name="decoder")


def _near(side: int) -> int:
  """The multiple of 16 next to a side."""
  return max(16, round(side / 16) * 16)


def _check_image_shape(image_shape: Sequence[int]) -> None:
  if len(image_shape) != 3 or min(image_shape) < 1:
    raise InputError(
        f"expected image_shape as (height, width, channels), got {image_shape!r}; correct it."
    )


def _initializer(weight_scale: float | None) -> Callable[[], keras.initializers.Initializer]:
  if weight_scale is None:
    return keras.initializers.GlorotUniform
  return lambda: keras.initializers.VarianceScaling(
      scale=weight_scale**2, mode="fan_in", distribution="untruncated_normal"
  )

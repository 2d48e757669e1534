"""Convolutional networks for images of 64x64 pixels."""

from collections.abc import Sequence

import keras

from imae_tf.errors import InputError
from imae_tf.networks.shapes import BATCH_NORM
from imae_tf.networks.shapes import check_image_shape

# The order of the axes is said because keras.json may name another default.
_STRIDED = {"strides": 2, "padding": "same", "data_format": "channels_last"}


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
  check_image_shape(image_shape)
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
    x = keras.layers.BatchNormalization(**BATCH_NORM)(x)
    x = keras.layers.ReLU()(x)
  x = keras.layers.Flatten()(x)
  x = keras.layers.Dense(256, use_bias=False)(x)
  x = keras.layers.BatchNormalization(**BATCH_NORM)(x)
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

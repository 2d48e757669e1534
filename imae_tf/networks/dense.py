"""Fully connected networks: the paper's, and two towers that give y layers of its own."""

import math
from collections.abc import Callable
from collections.abc import Sequence

import keras

from imae_tf.networks.shapes import BATCH_NORM
from imae_tf.networks.shapes import check_image_shape
from imae_tf.networks.views import View

_MOST_PIXELS = 4_096  # times channels, of z's layers and of the decoder in `two_towers`


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
  check_image_shape(image_shape)
  inputs = keras.Input(image_shape, name="image")
  x = _tower(keras.layers.Flatten()(inputs), encoder_units, weight_scale)
  encoder = keras.Model(inputs, x, name="encoder")
  return encoder, _decoder(image_shape, num_categories + latent_dim, decoder_units)


def two_towers(
    image_shape: Sequence[int],
    view: View,
    num_categories: int = 10,
    latent_dim: int = 10,
    y_units: Sequence[int] = (512, 1024),
    encoder_units: Sequence[int] = (500, 1000),
    decoder_units: Sequence[int] = (500, 500),
    weight_scale: float | None = None,
) -> tuple[keras.Model, keras.Model]:
  """`mlp` for z, and for y layers of its own, which see a view of the image instead of its pixels.

  The reconstruction cannot spoil layers that it does not train, so the weights of y's terms need
  no relation to the number of pixels. VAT and the consistency term perturb the view.

  The arithmetic of dense layers grows with the pixels, of which large images have more than a few
  factors can tell apart: z's layers see an image halved (means of 2x2 pixels) until it has at most
  4,096 numbers, and the decoder draws as many and enlarges them.

  Args:
    image_shape: (H, W, C).
    view: layer, images [B, H, W, C] -> [B, V], such as `EdgeEnergies`.
    num_categories: K2.
    latent_dim: K1.
    y_units: widths of y's layers, each with batch normalisation and ReLU.
    encoder_units: widths of z's layers, likewise.
    decoder_units: widths of the decoder's hidden layers, each with ReLU.
    weight_scale: see `mlp`.

  Returns:
    (encoder, decoder); the encoder gives {"y": [B, F_y], "z": [B, F_z]}.
  """
  check_image_shape(image_shape)
  inputs = keras.Input(image_shape, name="image")
  seen = view(inputs)
  v = keras.Input(seen.shape[1:], name="seen")
  tower = keras.Model(v, _tower(v, y_units, weight_scale), name="y_tower")
  x = inputs
  while math.prod(x.shape[1:]) > _MOST_PIXELS and max(x.shape[1:3]) > 1:
    x = keras.layers.AveragePooling2D(2, padding="same", data_format="channels_last")(x)
  z = _tower(keras.layers.Flatten()(x), encoder_units, weight_scale)
  encoder = keras.Model(inputs, {"y": tower(seen), "z": z}, name="encoder")
  decoder = _decoder(x.shape[1:], num_categories + latent_dim, decoder_units)
  return encoder, _enlarged(decoder, image_shape)


def _tower(
    x: keras.KerasTensor, widths: Sequence[int], weight_scale: float | None
) -> keras.KerasTensor:
  initializer = _initializer(weight_scale)
  for units in widths:
    x = keras.layers.Dense(units, use_bias=False, kernel_initializer=initializer())(x)
    x = keras.layers.BatchNormalization(**BATCH_NORM)(x)
    x = keras.layers.ReLU()(x)
  return x


def _decoder(image_shape: Sequence[int], code_size: int, widths: Sequence[int]) -> keras.Model:
  code = keras.Input((code_size,), name="code")
  x = code
  for units in widths:
    x = keras.layers.Dense(units, activation="relu")(x)
  x = keras.layers.Dense(math.prod(image_shape))(x)
  return keras.Model(code, keras.layers.Reshape(image_shape)(x), name="decoder")


def _enlarged(decoder: keras.Model, image_shape: Sequence[int]) -> keras.Model:
  """A decoder whose images are doubled until they are as large as `image_shape`, and cut to it."""
  if decoder.output_shape[1:] == tuple(image_shape):
    return decoder
  height, width, _ = image_shape
  x = decoder.output
  while x.shape[1] < height or x.shape[2] < width:
    x = keras.layers.UpSampling2D(
        2, interpolation="bilinear", data_format="channels_last"
    )(x)
  cut = ((0, x.shape[1] - height), (0, x.shape[2] - width))
  x = keras.layers.Cropping2D(cut, data_format="channels_last")(x)
  return keras.Model(decoder.input, x, name="decoder")


def _initializer(weight_scale: float | None) -> Callable[[], keras.initializers.Initializer]:
  if weight_scale is None:
    return keras.initializers.GlorotUniform
  return lambda: keras.initializers.VarianceScaling(
      scale=weight_scale**2, mode="fan_in", distribution="untruncated_normal"
  )

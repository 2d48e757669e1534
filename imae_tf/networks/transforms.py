"""Small random changes of an image that should not change its category."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("imae_tf")
class RandomTransform(keras.layers.Layer):
  """Turns, scales, shears and shifts images, and changes their contrast and brightness.

  All draws are uniform, and a function of the seed alone. With s = size: rotation up to 0.2 s
  radians, logarithm of the scale up to 0.15 s and of the aspect up to 0.08 s, shear up to 0.15 s,
  shift up to 0.06 s of the side, logarithm of the contrast up to 0.3 s, brightness up to 0.1 s.
  Pixels from outside the image repeat its edge.

  Args:
    size: s, > 0; twice the size is twice the change.
    **kwargs: `keras.layers.Layer`'s.
  """

  def __init__(self, size: float = 1.0, **kwargs: Any) -> None:
    super().__init__(**kwargs)
    self.size = size

  def call(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Images [B, H, W, C] in [0, 1] to the same shape and range.

    Args:
      images: [B, H, W, C].
      seed: integer tensor [2], of `tf.random.stateless_uniform`.
    """
    return self.transformed(images, self.draws(tf.shape(images)[0], seed))

  def draws(self, count: int | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The draws [count, 8] that `transformed` takes for as many images."""
    return self.size * tf.random.stateless_uniform([count, 8], seed, -1.0, 1.0)

  def transformed(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Images [B, H, W, C] under `draws` [B, 8]."""
    moved = _moved(images, draws[:, :6])
    contrast, brightness = (draws[:, i, None, None, None] for i in (6, 7))
    mean = tf.reduce_mean(moved, axis=[1, 2], keepdims=True)
    changed = mean + (moved - mean) * tf.exp(0.3 * contrast) + 0.1 * brightness
    return tf.clip_by_value(changed, 0.0, 1.0)

  def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return input_shape

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), "size": self.size}


def _moved(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
  """Images [B, H, W, C] under affine maps of draws [B, 6]."""
  height, width = images.shape[1:3]
  turn, scale, aspect, shear, down, right = tf.unstack(draws, axis=1)
  cosine, sine = tf.cos(0.2 * turn), tf.sin(0.2 * turn)
  scale, aspect, shear = tf.exp(0.15 * scale), tf.exp(0.08 * aspect), 0.15 * shear
  # The place (x, y) of the image from which a pixel of the result comes, about the centre.
  xx, xy = cosine * scale * aspect, (shear * cosine - sine) * scale * aspect
  yx, yy = sine * scale / aspect, (cosine + shear * sine) * scale / aspect
  centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
  x0 = centre_x + 0.06 * width * right - xx * centre_x - xy * centre_y
  y0 = centre_y + 0.06 * height * down - yx * centre_x - yy * centre_y
  zero = tf.zeros_like(xx)
  return tf.raw_ops.ImageProjectiveTransformV3(
      images=images,
      transforms=tf.stack([xx, xy, x0, yx, yy, y0, zero, zero], axis=1),
      output_shape=[height, width],
      interpolation="BILINEAR",
      fill_mode="NEAREST",
      fill_value=0.0,
  )

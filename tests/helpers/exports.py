"""A small model with random weights and images for it, for the tests of what is exported."""

import io
import os

import keras
import numpy as np
import PIL.Image
import tensorflow as tf

from imae_tf import IMAE
from imae_tf import networks

SHAPE = (8, 8, 1)
K1, K2 = 3, 5


def make_model(seed=0, image_shape=SHAPE):
  """An IMAE with random weights and batch-norm statistics, and an optimizer's state."""
  encoder, decoder = networks.mlp(
      image_shape, K2, K1, encoder_units=(16,), decoder_units=(16,)
  )
  model = IMAE(encoder, decoder, num_categories=K2, latent_dim=K1)
  rng = np.random.default_rng(seed)
  model.set_weights([rng.uniform(0.2, 1.0, w.shape) - (w.ndim > 1) * 0.6
                     for w in model.get_weights()])
  model.compile(keras.optimizers.Adam())
  model.optimizer.build(model.trainable_variables)
  return model


def reference(path):
  """A SavedModel through TensorFlow's other loader: (signature, inputs) -> {output: array}."""
  loaded = tf.saved_model.load(str(path))

  def call(signature, **inputs):
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    return {k: v.numpy() for k, v in loaded.signatures[signature](**tensors).items()}

  return call


def images(n, seed=0):
  return np.random.default_rng(seed).random((n, *SHAPE), "float32")


def encoded(pixels, kind="PNG"):
  file = io.BytesIO()
  PIL.Image.fromarray(pixels).save(file, kind)
  return file.getvalue()


def strings(*values):
  return np.array(values, object)


def assert_same_arrays(actual, expected, atol=1e-5):
  """Two {name: array} have the same names, shapes and dtypes, and values within atol."""
  assert set(actual) == set(expected)
  for name, value in expected.items():
    assert actual[name].shape == value.shape and actual[name].dtype == value.dtype
    np.testing.assert_allclose(actual[name], value, rtol=0, atol=atol)


def assert_same_columns(columns, expected):
  """The same of {name: nested lists}, as JSON has them, which say neither shape nor dtype."""
  assert set(columns) == set(expected)
  for name, value in expected.items():
    np.testing.assert_allclose(np.reshape(columns[name], value.shape), value, rtol=0, atol=1e-5)


def names(base):
  """Everything in a base folder, hidden names included, but for the exporters' lock."""
  return sorted(name for name in os.listdir(base) if name != ".lock")

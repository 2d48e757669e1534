"""Shared fixtures: real digits, tiny models, and where the real MNIST lies."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import sklearn.datasets


@pytest.fixture(scope="session", autouse=True)
def op_determinism():
  """As in the programs: threads that sum in another order would blur equal runs."""
  import tensorflow as tf

  tf.config.experimental.enable_op_determinism()


@pytest.fixture(scope="session")
def digits():
  """(x float32 [1797, 8, 8, 1] in [0, 1], labels [1797])."""
  bunch = sklearn.datasets.load_digits()
  return (bunch.images / 16).astype("float32")[..., None], bunch.target


@pytest.fixture
def tiny_model():
  """A function that makes a small model on 8x8 images from its method and arguments."""
  import keras

  import imae_tf

  def make(method="imae", **kwargs):
    keras.utils.set_random_seed(0)
    sizes = {name: kwargs[name] for name in ("num_categories", "latent_dim") if name in kwargs}
    encoder, decoder = imae_tf.networks.mlp(
        (8, 8, 1), encoder_units=(32,), decoder_units=(32,), **sizes
    )
    return imae_tf.methods.METHODS[method](encoder, decoder, **kwargs)

  return make


@pytest.fixture
def rng():
  return np.random.default_rng(0)

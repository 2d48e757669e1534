"""Table 1's networks, weight for weight, and the convolutional ones."""

import numpy as np
import pytest

from imae_tf import networks
from imae_tf.errors import InputError


def test_mlp_is_table_1():
  encoder, decoder = networks.mlp((28, 28, 1))
  shapes = [tuple(w.shape) for w in encoder.trainable_variables if len(w.shape) == 2]
  assert shapes == [(784, 500), (500, 1000)]
  assert [type(layer).__name__ for layer in encoder.layers[2:]] == [
      "Dense", "BatchNormalization", "ReLU", "Dense", "BatchNormalization", "ReLU",
  ]
  shapes = [tuple(w.shape) for w in decoder.trainable_variables if len(w.shape) == 2]
  assert shapes == [(20, 500), (500, 500), (500, 784)]
  assert decoder.output_shape == (None, 28, 28, 1)


def test_weight_scale_sets_the_first_standard_deviation():
  encoder, _ = networks.mlp((28, 28, 1), weight_scale=0.1)
  kernel = encoder.trainable_variables[0].numpy()
  np.testing.assert_allclose(kernel.std(), 0.1 / np.sqrt(784), rtol=0.02)


@pytest.mark.parametrize("shape", [(64, 64, 3), (32, 48, 1)])
def test_conv_gives_back_the_image_shape(shape):
  encoder, decoder = networks.conv(shape, num_categories=4, latent_dim=3)
  features = encoder(np.zeros((2, *shape), "float32"))
  assert features.shape == (2, 256)
  assert decoder(np.zeros((2, 7), "float32")).shape == (2, *shape)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: networks.conv((28, 28, 1)), "multiples of 16, got images of 28x28"),
        (lambda: networks.mlp((28, 28)), r"\(height, width, channels\), got \(28, 28\)"),
    ],
)
def test_bad_image_shapes(make, message):
  with pytest.raises(InputError, match=message):
    make()

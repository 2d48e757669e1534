"""Small random transforms against scipy's affine maps."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from imae_tf import networks


def by_scipy(image, draws):
  """One image [H, W, C] under eight draws, written out."""
  turn, scale, aspect, shear, down, right, contrast, brightness = draws.astype(np.float64)
  c, s = np.cos(0.2 * turn), np.sin(0.2 * turn)
  k, a, sh = np.exp(0.15 * scale), np.exp(0.08 * aspect), 0.15 * shear
  matrix = np.array([[(c + sh * s) * k / a, s * k / a], [(sh * c - s) * k * a, c * k * a]])
  centre = (np.array(image.shape[:2]) - 1) / 2
  shift = 0.06 * np.array([down, right]) * image.shape[:2]
  offset = centre + shift - matrix @ centre
  moved = np.stack([
      scipy.ndimage.affine_transform(channel, matrix, offset, order=1, mode="nearest")
      for channel in np.moveaxis(image.astype(np.float64), -1, 0)
  ], axis=-1)
  mean = moved.mean(axis=(0, 1))
  return np.clip(mean + (moved - mean) * np.exp(0.3 * contrast) + 0.1 * brightness, 0, 1)


@pytest.mark.parametrize("shape, size", [((12, 12, 1), 1.0), ((9, 14, 3), 2.0)])
def test_a_transform_is_the_affine_map_of_its_draws(shape, size):
  images = np.random.default_rng(0).random((5, *shape)).astype("float32")
  layer = networks.RandomTransform(size)
  draws = layer.draws(5, tf.constant([3, 4])).numpy()
  assert np.abs(draws).max() <= size and np.abs(draws).max() > 0.8 * size
  found = layer.transformed(images, draws)
  expected = [by_scipy(image, one) for image, one in zip(images, draws)]
  np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_seed_decides_and_size_zero_in_the_limit_changes_nothing():
  images = np.random.default_rng(1).random((4, 8, 8, 1)).astype("float32")
  layer, seeds = networks.RandomTransform(1.0), tf.constant([[1, 2], [1, 3]])
  np.testing.assert_array_equal(layer(images, seeds[0]), layer(images, seeds[0]))
  assert np.abs(layer(images, seeds[0]) - layer(images, seeds[1])).max() > 0.05
  np.testing.assert_allclose(networks.RandomTransform(1e-6)(images, seeds[0]), images, atol=1e-4)

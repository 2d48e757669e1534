"""Views of an image against loops in float64, and what they forget of it."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from imae_tf import networks


def _blur(x):
  p = np.pad(x, [(1, 1), (1, 1), (0, 0)], mode="edge")
  rows = (p[:-2] + 2 * p[1:-1] + p[2:]) / 4
  return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4


def edge_energies(x, signed, grid=8, directions=8):
  """`EdgeEnergies` of one image [H, W, C], written out."""
  x = x.astype(np.float64)
  while max(x.shape[:2]) > 48:
    x = _blur(x)[::2, ::2]
  p = np.pad(_blur(x), [(1, 1), (1, 1), (0, 0)], mode="edge")
  down, right = (p[2:, 1:-1] - p[:-2, 1:-1]) / 2, (p[1:-1, 2:] - p[1:-1, :-2]) / 2
  height, width = x.shape[:2]
  cells = np.zeros([directions, grid, grid])
  weights = np.zeros([grid, grid])
  for i in range(height):
    for j in range(width):
      near = np.maximum(1 - np.abs((i + 0.5) * grid / height - np.arange(grid) - 0.5), 0)[:, None]
      near = near * np.maximum(1 - np.abs((j + 0.5) * grid / width - np.arange(grid) - 0.5), 0)
      weights += near
      for k in range(directions):
        angle = k * (2 if signed else 1) * np.pi / directions
        along = down[i, j] * np.sin(angle) + right[i, j] * np.cos(angle)
        squared = np.sum(down[i, j] ** 2 + right[i, j] ** 2) + 1e-6
        share = max(along.sum(), 0) ** 2 / squared if signed else np.sum(along**2) / squared
        cells[k] += near * np.sqrt(squared) * share**2
  cells /= weights
  return np.sqrt(cells / (1.05 * cells.sum(axis=0).mean() + 1e-4) + 1e-6).ravel()


@pytest.mark.parametrize(
    "shape, signed", [((8, 8, 1), True), ((12, 17, 1), False), ((16, 16, 3), False),
                      ((60, 40, 1), True)],
)
def test_edge_energies_are_the_loops(shape, signed):
  x = np.random.default_rng(0).random((2, *shape)).astype("float32")
  x[1, : shape[0] // 2] = 0.0  # a part without edges
  found = np.asarray(networks.EdgeEnergies(signed=signed).features(x))
  expected = [edge_energies(image, signed) for image in x]
  np.testing.assert_allclose(found, expected, atol=2e-5)


def test_edges_forget_contrast_brightness_and_of_colour_images_hue_and_polarity():
  x = load_digits().images[:20, ..., None].astype("float32") / 16
  grey, unsigned = networks.EdgeEnergies(signed=True), networks.EdgeEnergies()
  np.testing.assert_allclose(grey.features(0.2 + 0.5 * x), grey.features(x), atol=0.03)
  np.testing.assert_allclose(unsigned.features(1 - x), unsigned.features(x), atol=1e-4)
  red = x * np.float32([1, 0, 0]) + (1 - x) * np.float32([0, 0, 1])
  green = x * np.float32([0, 1, 0]) + (1 - x) * np.float32([1, 0, 0])
  np.testing.assert_allclose(unsigned.features(red), unsigned.features(green), atol=1e-4)
  assert np.abs(grey.features(1 - x) - grey.features(x)).max() > 0.3


def test_an_image_without_edges_is_finite():
  flat = np.full([1, 28, 28, 1], 0.5, "float32")
  assert np.isfinite(networks.EdgeEnergies(signed=True).features(flat)).all()


@pytest.mark.parametrize("view", [networks.Pixels(), networks.EdgeEnergies(signed=True)])
def test_adapted_views_are_standardised_and_get_no_gradient(view):
  x = np.random.default_rng(1).random((700, 9, 9, 1)).astype("float32")
  view.build((None, 9, 9, 1))
  view.adapt(x)
  seen = np.asarray(view(x))
  np.testing.assert_allclose(seen.mean(axis=0), 0.0, atol=1e-4)
  np.testing.assert_allclose(seen.std(), 1.0, rtol=1e-4)
  assert not view.trainable_variables


def test_two_towers_are_saved_with_their_view(tmp_path):
  view = networks.EdgeEnergies(signed=True, grid=4, name="view")
  encoder, decoder = networks.two_towers(
      (8, 8, 1), view, num_categories=3, latent_dim=2, y_units=(6,), encoder_units=(5,)
  )
  x = np.random.default_rng(2).random((30, 8, 8, 1)).astype("float32")
  view.adapt(x)
  encoder.save(tmp_path / "encoder.keras")
  features = encoder(x)
  assert (features["y"].shape, features["z"].shape) == ((30, 6), (30, 5))
  assert decoder(np.zeros((2, 5), "float32")).shape == (2, 8, 8, 1)
  loaded = keras.models.load_model(tmp_path / "encoder.keras")(x)
  for name in ("y", "z"):
    np.testing.assert_array_equal(loaded[name], features[name])

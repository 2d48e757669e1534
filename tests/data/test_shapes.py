"""Images of known factors: each factor does to the pixels what its name says."""

import numpy as np
import pytest

from imae_tf import recipes
from imae_tf.data import loading
from imae_tf.data import shapes
from imae_tf.errors import InputError

SIZES = {"shape": 3, "scale": 3, "orientation": 8, "x": 4, "y": 5}
SMALL = "shapes:scale=2:orientation=3:x=4:y=5"


def _images(**factors):
  """Images, float [N, 64, 64], of factors' values; those not given are 0."""
  values = np.broadcast_arrays(*(factors.get(name, 0) for name in SIZES))
  places = np.ravel_multi_index([np.ravel(v) for v in values], tuple(SIZES.values()))
  return shapes.draw(places, SIZES).numpy()[..., 0] / 255


def _centre(images):
  """(right, down) of the centre of mass, in pixels."""
  rows, columns = np.indices(images.shape[1:])
  mass = images.sum((1, 2))
  return (images * columns).sum((1, 2)) / mass, (images * rows).sum((1, 2)) / mass


def test_every_pixel_is_black_or_white():
  assert set(np.unique(_images(shape=np.arange(3)))) == {0.0, 1.0}


@pytest.mark.parametrize("shape", [0, 1])
def test_x_and_y_move_the_centre_evenly(shape):
  right, down = _centre(_images(shape=shape, scale=1, x=np.arange(4)))
  np.testing.assert_allclose(right, np.linspace(15, 48, 4), atol=0.3)
  np.testing.assert_allclose(down, 15, atol=0.3)
  right, down = _centre(_images(shape=shape, scale=1, y=np.arange(5)))
  np.testing.assert_allclose(down, np.linspace(15, 48, 5), atol=0.3)
  np.testing.assert_allclose(right, 15, atol=0.3)


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_the_area_grows_with_the_square_of_the_scale(shape):
  areas = _images(shape=shape, scale=np.arange(3), x=1, y=2).sum((1, 2))
  np.testing.assert_allclose(areas / areas[2], np.array([0.5, 0.75, 1.0]) ** 2, atol=0.04)


@pytest.mark.parametrize("shape, area", [(0, 2.0), (1, np.pi / 2)])
def test_areas_are_those_of_geometry(shape, area):
  """In units of the radius squared: a square of half diagonal 1, an ellipse of axes 1, 1/2."""
  drawn = _images(shape=shape, scale=2, orientation=1, x=1, y=1).sum()
  assert drawn == pytest.approx(area * 13**2, rel=0.03)


def test_orientation_turns_counterclockwise():
  """The long axis of the ellipse, from its second moments."""
  images = _images(shape=1, scale=2, orientation=np.arange(4), x=2, y=2)
  rows, columns = np.indices((64, 64))
  for image, wanted in zip(images, np.arange(4) * 45):
    right, up = columns[image > 0], -rows[image > 0]
    across = np.cov(right, up)
    angle = np.degrees(0.5 * np.arctan2(2 * across[0, 1], across[0, 0] - across[1, 1])) % 180
    assert min(abs(angle - wanted), 180 - abs(angle - wanted)) < 2


def test_symmetries():
  turned = _images(shape=np.arange(3)[:, None], scale=2, orientation=[0, 2, 4], x=1, y=1)
  square, ellipse, heart = turned.reshape(3, 3, 64, 64)
  unlike = lambda a, b: np.abs(a - b).sum() / a.sum()
  assert unlike(square[0], square[1]) < 0.05 and unlike(ellipse[0], ellipse[2]) < 0.05
  assert unlike(ellipse[0], ellipse[1]) > 0.3 and unlike(heart[0], heart[2]) > 0.1


def test_no_shape_leaves_the_image():
  # Two scales, for of a single one it is the least.
  sizes = {"shape": 3, "scale": 2, "orientation": 40, "x": 2, "y": 2}
  for places in np.split(np.arange(960), 4):
    images = shapes.draw(places, sizes).numpy()
    assert not images[:, [0, -1]].any() and not images[:, :, [0, -1]].any()


def test_each_combination_is_once_in_the_splits():
  loaded = loading.load(SMALL, holdout=20)
  assert loaded.sizes == {"train": 268, "holdout": 20, "test": 72}
  found = np.concatenate([loaded.factors(split) for split in loaded.splits])
  assert loaded.factor_names == ("shape", "scale", "orientation", "x", "y")
  np.testing.assert_array_equal(found.max(axis=0), [2, 1, 2, 3, 4])
  assert len(np.unique(found, axis=0)) == len(found) == 360
  for column in loaded.factors("test").T:  # the test split is like the rest
    counts = np.bincount(column)
    assert counts.min() > 0.3 * counts.mean()


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_factors_belong_to_their_images(monkeypatch, memory_limit):
  monkeypatch.setattr(loading, "MEMORY_LIMIT", memory_limit)
  loaded = loading.load(SMALL)
  x, labels = loaded.arrays("test", limit=50)
  factors = loaded.factors("test", limit=50)
  np.testing.assert_array_equal(labels, factors[:, 0])
  sizes = shapes.grid(SMALL)
  places = np.ravel_multi_index(factors.T, tuple(sizes.values()))
  np.testing.assert_array_equal(x, shapes.draw(places, sizes).numpy() / 255)
  batch = next(iter(loaded.train_batches(40, seed=1))).numpy()
  train = loaded.arrays("train")[0]
  rows = [np.flatnonzero((train == image).all(axis=(1, 2, 3))) for image in batch]
  assert all(len(row) for row in rows)  # each is one of the training images


def test_what_never_varies_is_no_factor():
  loaded = loading.load("shapes:shape=2:scale=1:orientation=1:x=8:y=8")
  assert loaded.factor_names == ("shape", "x", "y")
  assert loaded.factors("train").shape == (102, 3)
  assert loaded.class_names == ("square", "ellipse")


def test_a_part_gets_the_recipe_of_the_whole():
  assert recipes.get("tuned", SMALL) == recipes.get("tuned", "shapes")
  assert recipes.get("tuned", "dsprites:2.0.0").network == "conv"


@pytest.mark.parametrize(
    "name", ["shapes:colour=2", "shapes:scale=7", "shapes:x=0", "shapes:x=", "shapes:x=2:x=3",
             "shapes:", "shapes:x=2,y=3"],
)
def test_a_part_that_is_not_there(name):
  with pytest.raises(InputError, match=r"shapes:scale=2:x=8, each once, of shape \(1 to 3\)"):
    loading.load(name)


def test_a_folder_of_the_same_name_is_left_alone(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "shapes").mkdir()
  assert loading.canonical("shapes") == "shapes"
  assert loading.canonical("./shapes") == str(tmp_path / "shapes")


def test_too_small_a_part():
  with pytest.raises(InputError, match="at least 2 training images"):
    loading.load("shapes:shape=1:scale=1:orientation=1:x=1:y=1")

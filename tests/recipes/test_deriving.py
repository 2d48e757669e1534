"""The recipe that is derived from images: what it sees in them, and its figures."""

import math

import numpy as np
import pytest
from sklearn.datasets import load_digits

from imae_tf import recipes
from imae_tf.metrics import label_free
from imae_tf.recipes import deriving


@pytest.fixture(scope="module")
def even():
  """1,000 digits, ten even classes that differ by their edges."""
  return load_digits().images[:1000, ..., None].astype("float32") / 16


@pytest.fixture(scope="module")
def uneven():
  """900 noisy squares of three colours, one of them nine times in ten."""
  rng = np.random.default_rng(0)
  colours = np.float32([[0.9, 0.3, 0.3], [0.3, 0.3, 0.9], [0.8, 0.8, 0.2]])
  kind = rng.choice(3, size=900, p=[0.9, 0.06, 0.04])
  noise = rng.normal(0.0, 0.05, (900, 12, 12, 3))
  return np.clip(colours[kind][:, None, None] + noise, 0, 1).astype("float32")


def test_even_classes_of_different_shapes(even):
  recipe = recipes.auto(even, 10)
  assert (recipe.network, recipe.view) == ("towers", "signed_edges")
  assert (recipe.entropy_weight, recipe.restart_score) == (6.0, "neighbors")
  assert recipe.restart_mixtures == 0
  changes = recipe.restart_changes.split("/")
  assert recipe.restarts % len(changes) == 0  # as many starts of each kind
  changed = [recipes.with_change(recipe, "imae", c.split(",")[0]).lam for c in changes]
  assert sorted(set(changed)) == [1.0, 10.0]


def test_uneven_classes_of_different_colours(uneven):
  recipe = recipes.auto(uneven, 3)
  assert (recipe.view, recipe.entropy_weight) == ("pixels", 0.5)
  assert (recipe.restart_score, recipe.restart_mixtures) == ("ratio", recipe.restarts // 2)


@pytest.mark.parametrize("count", [640, 8_000, 60_000])
def test_the_budget_is_in_steps_whatever_the_number_of_images(even, count):
  recipe = recipes.auto(even[:200], 10, count)
  steps = count // recipe.batch_size
  assert 1_000 <= recipe.restart_epochs * steps < 1_000 + steps
  assert recipe.epochs * steps >= 1_000


def test_weights_of_z_follow_what_there_is_to_reconstruct(even):
  x = even.astype(np.float64)
  entropy = lambda p: -np.sum(p * np.log(p) + (1 - p) * np.log(1 - p))
  mean = np.clip(x.mean(axis=0), 1e-6, 1 - 1e-6)
  floor = np.mean([entropy(np.clip(image, 1e-12, 1 - 1e-12)) for image in x])
  recipe = recipes.auto(even, 10)
  assert recipe.beta == pytest.approx(5 * (entropy(mean) - floor) / 160, rel=1e-3)
  assert recipe.gamma == pytest.approx(0.6 * recipe.beta, rel=1e-2)


def test_ratio_is_the_part_of_the_entropy_that_neighbours_share():
  categories = np.array([0, 0, 0, 0, 1, 1])
  neighbors = np.array([[1], [0], [3], [2], [5], [4]])
  assert deriving.ratio(categories, neighbors) == pytest.approx(1.0)
  crossed = np.array([[1], [2], [3], [4], [5], [0]])
  shared = label_free.neighbor_information(categories, crossed)
  entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
  assert deriving.ratio(categories, crossed) == pytest.approx(shared / entropy)
  assert deriving.ratio(np.zeros(6, int), neighbors) == 0.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "shape", [(30, 1, 1, 1), (30, 1, 7, 3), (9, 8, 8, 1)], ids=["a pixel", "a row", "duplicates"]
)
def test_degenerate_images_have_a_recipe(rng, shape):
  x = rng.random(shape).astype("float32")
  x[3:] = x[:3].repeat(10, axis=0)[: len(x) - 3]  # three kinds, for four categories
  recipe = recipes.auto(x, 4)
  assert recipe.view == ("pixels" if shape[1:3] == (1, 1) else recipe.view)
  assert np.isfinite(recipe.beta) and recipe.beta > 0

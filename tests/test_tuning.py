"""What ranks runs without labels, against closed forms; the space; keras-tuner itself."""

import dataclasses
import math
import types

import keras_tuner
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from imae_tf import recipes
from imae_tf import tuning
from imae_tf.errors import InputError


def one_hot(categories, k=4):
  return np.eye(k)[categories]


class Cut:
  """A stand-in for a model: two categories by the sign of a function of the two pixels."""

  vat_xi = 1.0

  def __init__(self, function):
    self._function = function

  def posterior(self, x):
    value = self._function(*tf.unstack(tf.reshape(x, [-1, 2]), axis=1))
    return types.SimpleNamespace(y=types.SimpleNamespace(logits=tf.stack([value, -value], 1)))


@pytest.fixture
def clusters(rng):
  """Images of two pixels in two clusters that the first pixel tells apart."""
  centres = np.array([[0.2, 0.5], [0.8, 0.5]])[rng.integers(2, size=400)]
  return (centres + 0.02 * rng.standard_normal((400, 2))).astype("float32").reshape(-1, 1, 2, 1)


# ---- information that is shared ---------------------------------------------------------


def test_equal_categories_share_their_entropy():
  y = one_hot([0, 1, 2, 3] * 5)
  assert tuning.shared_information(y, y) == pytest.approx(math.log(4))


def test_independent_categories_share_nothing():
  y, other = np.meshgrid(range(4), range(4))
  assert tuning.shared_information(one_hot(y.ravel()), one_hot(other.ravel())) == pytest.approx(0)


def test_hard_categories_share_what_scikit_learn_finds(rng):
  y = rng.integers(4, size=300)
  other = np.where(rng.uniform(size=300) < 0.6, y, rng.integers(4, size=300))
  expected = sklearn.metrics.mutual_info_score(y, other)
  assert tuning.shared_information(one_hot(y), one_hot(other)) == pytest.approx(expected)


def test_uncertain_categories_share_nothing():
  uniform = np.full((10, 4), 0.25)
  assert tuning.shared_information(uniform, one_hot(np.arange(10) % 4)) == pytest.approx(0)


# ---- observables ----------------------------------------------------------------------


def test_categories_that_follow_clusters_are_informative_and_stable(clusters):
  seen = tuning.observables(Cut(lambda first, second: 40.0 * (first - 0.5)), clusters)
  assert seen["mi_y"] == pytest.approx(math.log(2), abs=0.02)
  assert seen["stable_mi_y"] == pytest.approx(seen["mi_y"], abs=0.02)
  assert seen["vat_loss"] < 0.02


def test_categories_that_cut_clusters_are_informative_but_not_stable(clusters):
  # Within each cluster, by the pixel that is noise, and finer than the images lie apart.
  seen = tuning.observables(Cut(lambda first, second: 3e4 * tf.sin(3e3 * second)), clusters)
  assert seen["mi_y"] == pytest.approx(math.log(2), abs=0.03)
  assert seen["stable_mi_y"] < 0.25 * seen["mi_y"]
  assert seen["vat_loss"] > 1.0


def test_observables_against_their_definitions(tiny_model, digits):
  model, x = tiny_model(), digits[0][:700]  # more than one batch
  seen = tuning.observables(model, x)
  y = model.encode(x)["y"].astype("float64")
  marginal = y.mean(0)
  entropy, conditional = -np.sum(marginal * np.log(marginal)), -np.mean(np.sum(y * np.log(y), 1))
  assert seen["entropy_y"] == pytest.approx(entropy, rel=1e-5)
  assert seen["conditional_entropy_y"] == pytest.approx(conditional, rel=1e-5)
  assert seen["mi_y"] == pytest.approx(entropy - conditional, abs=1e-5)
  assert seen["vat_loss"] > conditional  # H(p, q) >= H(p), and r makes q leave p
  assert 0 <= seen["stable_mi_y"] < seen["mi_y"]  # data processing
  assert tuning.observables(model, x) == seen  # a function of its seed


def test_a_larger_ball_leaves_less_that_is_stable(tiny_model, digits):
  model, x = tiny_model(), digits[0][:300]
  small, large = (tuning.observables(model, x, fraction=f) for f in (0.1, 0.6))
  assert small["vat_loss"] < large["vat_loss"]
  assert small["mi_y"] == large["mi_y"]


def test_measure_counts_categories_and_dimensions(tiny_model, digits):
  model = tiny_model(latent_dim=3)
  figures = tuning.measure(model, digits[0][:200])
  assert figures["reconstruction"] == pytest.approx(
      model.reconstruction_loss(digits[0][:200]).mean(), rel=1e-5
  )
  assert 1 <= figures["used_categories"] <= 10
  assert figures["active_units"] <= 3
  assert all(np.isfinite(value) for value in figures.values())


@pytest.mark.parametrize("counts, used", [([50, 50], 2), ([100, 0], 1), ([99, 1], 2), ([199, 1], 2),
                                           ([1990, 1], 1)])
def test_a_category_of_hardly_any_image_is_not_used(counts, used):
  y = one_hot(np.repeat(np.arange(len(counts)), counts), len(counts))
  assert tuning.used_categories(y) == used


# ---- the space -------------------------------------------------------------------------


def test_the_default_space_is_the_three_weights_on_log_scales():
  hp = keras_tuner.HyperParameters()
  tuning.declare(hp, tuning.space(), tuning.start_of(recipes.PAPER, 10, 10))
  assert {p.name: p.sampling for p in hp.space} == dict.fromkeys(("beta", "gamma", "lam"), "log")
  assert hp.values == {"beta": 5.0, "gamma": 2.0, "lam": 5.0}  # begins with the recipe


def test_a_part_of_its_own():
  found = tuning.space(["beta=1:2", "num_categories=5:20", "encoder_units=64|32-32"])
  assert found["beta"] == tuning.Range(1.0, 2.0)
  assert found["num_categories"] == tuning.Range(5, 20, integer=True)
  assert found["encoder_units"].values == ("64", "32-32")
  hp = keras_tuner.HyperParameters()
  tuning.declare(hp, found, tuning.start_of(recipes.PAPER, 10, 10))
  assert hp.values["beta"] == pytest.approx(math.sqrt(2))  # 5, the recipe's, lies outside


@pytest.mark.parametrize("recipe", [recipes.PAPER, *recipes.TUNED.values()])
def test_the_start_of_a_recipe_is_the_recipe(recipe):
  start = tuning.start_of(recipe, 7, 3)
  if recipe.vat_radius == "neighbor":
    assert start["vat_radius"] == "neighbor"
  explicit = dataclasses.replace(
      recipe, beta_y=recipe.beta if recipe.beta_y is None else recipe.beta_y
  )
  assert tuning.chosen(start, recipe, 10, 10) == (explicit, 7, 3)


def test_names_of_keras_tuner_are_no_settings():
  recipe, *_ = tuning.chosen({"lam": 3.0, "tuner/epochs": 4}, recipes.PAPER, 10, 10)
  assert recipe == dataclasses.replace(recipes.PAPER, lam=3.0)


@pytest.mark.parametrize(
    "search, message",
    [
        (["alpha"], "expected names among beta, .* got 'alpha'"),
        (["beta=5"], r"expected beta=0.5:20.0 or the like to search, got '5'"),
        (["beta=5:1"], "got '5:1'"),
        (["beta=0:1"], "got '0:1'"),
        (["beta=1:inf"], "got '1:inf'"),
        (["latent_dim=2.5:3"], "expected latent_dim=2:32"),
        (["encoder_units=a-b"], "expected encoder_units=500-500"),
        ([], "expected something to search"),
    ],
)
def test_a_space_that_cannot_be_read(search, message):
  with pytest.raises(InputError, match=message):
    tuning.space(search)


# ---- keras-tuner -----------------------------------------------------------------------


def test_the_hypermodel_in_a_search_of_ones_own(tmp_path, digits):
  x = digits[0][:256]
  recipe = dataclasses.replace(
      recipes.TUNED["digits"], encoder_units=(32,), decoder_units=(32,)
  )
  hypermodel = tuning.IMAEHyperModel((8, 8, 1), recipe, search=["beta=1:10", "latent_dim=2:8"])
  tuner = keras_tuner.RandomSearch(
      hypermodel, objective=tuning.objective(), max_trials=2, directory=tmp_path, seed=1
  )
  tuner.search(x, epochs=1, batch_size=64, verbose=0)
  best, other = tuner.oracle.get_best_trials(2)
  assert best.score >= other.score
  assert best.score == best.metrics.get_best_value("stable_mi_y")
  model = tuner.get_best_models()[0]
  assert model.beta == best.hyperparameters.get("beta")
  assert model.latent_dim == best.hyperparameters.get("latent_dim")
  # The weights that are kept are those that were measured.
  assert tuning.measure(model, x)["stable_mi_y"] == pytest.approx(best.score, abs=1e-6)


def test_a_data_set_is_measured_on_its_first_images(digits):
  x = digits[0][:100]
  batches = tf.data.Dataset.from_tensor_slices((x, digits[1][:100])).batch(30).repeat()
  seen = tuning._some_images(batches.take(4))
  np.testing.assert_array_equal(seen, x)

"""What ranks runs without labels, against closed forms; the space; keras-tuner itself."""

import dataclasses
import math

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

from imae_tf import recipes
from imae_tf.errors import DivergenceError
from imae_tf.errors import InputError
from imae_tf.metrics import label_free
from imae_tf.search import hypermodel

# ---- what is measured ----------------------------------------------------------------------


def test_measure_against_definitions(tiny_model, digits):
  model, x = tiny_model(latent_dim=3), digits[0][:200]
  figures = hypermodel.measure(model, x)
  y = model.encode(x)["y"].astype("float64")
  marginal = y.mean(0)
  entropy, conditional = -np.sum(marginal * np.log(marginal)), -np.mean(np.sum(y * np.log(y), 1))
  assert figures["entropy_y"] == pytest.approx(entropy, rel=1e-6)
  assert figures["conditional_entropy_y"] == pytest.approx(conditional, rel=1e-6)
  assert figures["mi_y"] == pytest.approx(entropy - conditional, abs=1e-6)
  assert figures["reconstruction"] == pytest.approx(model.reconstruction_loss(x).mean(), rel=1e-5)
  assert figures["neighbor_mi_y"] == label_free.neighbor_information(
      y.argmax(1), label_free.nearest_images(x)
  )
  assert figures["used_categories"] == len(np.unique(y.argmax(1)))
  assert figures["active_units"] <= 3
  assert hypermodel.measure(model, x) == figures  # a function of its seed


# ---- the space -------------------------------------------------------------------------


def test_the_default_space_is_the_three_weights_on_log_scales():
  hp = keras_tuner.HyperParameters()
  hypermodel.declare(hp, hypermodel.space(), hypermodel.start_of(recipes.PAPER, 10, 10))
  assert {p.name: p.sampling for p in hp.space} == dict.fromkeys(("beta", "gamma", "lam"), "log")
  assert hp.values == {"beta": 5.0, "gamma": 2.0, "lam": 5.0}  # begins with the recipe


def test_a_part_of_its_own():
  found = hypermodel.space(["beta=1:2", "num_categories=5:20", "encoder_units=64|32-32"])
  assert found["beta"] == hypermodel.Range(1.0, 2.0)
  assert found["num_categories"] == hypermodel.Range(5, 20, integer=True)
  assert found["encoder_units"].values == ("64", "32-32")
  hp = keras_tuner.HyperParameters()
  hypermodel.declare(hp, found, hypermodel.start_of(recipes.PAPER, 10, 10))
  assert hp.values["beta"] == pytest.approx(math.sqrt(2))  # 5, the recipe's, lies outside


@pytest.mark.parametrize("recipe", [recipes.PAPER, *recipes.TUNED.values()])
def test_the_start_of_a_recipe_is_the_recipe(recipe):
  start = hypermodel.start_of(recipe, 7, 3)
  if recipe.vat_radius == "neighbor":
    assert start["vat_radius"] == "neighbor"
  explicit = dataclasses.replace(
      recipe, beta_y=recipe.beta if recipe.beta_y is None else recipe.beta_y
  )
  assert hypermodel.chosen(start, recipe, 10, 10) == (explicit, 7, 3)


def test_names_of_keras_tuner_are_no_settings():
  recipe, *_ = hypermodel.chosen({"lam": 3.0, "tuner/epochs": 4}, recipes.PAPER, 10, 10)
  assert recipe == dataclasses.replace(recipes.PAPER, lam=3.0)


@pytest.mark.parametrize(
    "search, message",
    [
        (["alpha"], "expected names among .*beta, .* got 'alpha'"),
        (["beta=5"], r"expected beta=0.5:20.0 or the like to search, got '5'"),
        (["beta=5:1"], "got '5:1'"),
        (["beta=0:1"], "got '0:1'"),
        (["beta=1:inf"], "got '1:inf'"),
        (["vat_radius=neighbor:2"], "expected vat_radius=0.2:5.0 or the like"),
        (["latent_dim=2.5:3"], "expected latent_dim=2:32"),
        (["encoder_units=a-b"], "expected encoder_units=500-500"),
        (["encoder_units=500-0"], "expected encoder_units=500-500"),
        (["num_categories=1:5"], "expected num_categories=5:30"),
        ([""], "got ''"),
    ],
)
def test_a_space_that_cannot_be_read(search, message):
  with pytest.raises(InputError, match=message):
    hypermodel.space(search)


@pytest.mark.parametrize(
    "method, names",
    [
        ("vae", ["lam"]), ("betavae", ["beta", "lam"]), ("infovae", ["beta", "lam"]),
        ("jointvae", ["beta", "capacity_z", "lam"]), ("betatcvae", ["beta", "lam"]),
    ],
)
def test_a_method_searches_its_own_weights(method, names):
  assert list(hypermodel.space(method=method)) == names
  for foreign in ("gamma", "entropy_weight"):
    with pytest.raises(InputError, match=f"to search for {method}, got '{foreign}'"):
      hypermodel.space([foreign], method)


# ---- keras-tuner -----------------------------------------------------------------------


# get_best_models loads the weights into a model whose optimizer has no variables yet.
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer:UserWarning")
def test_the_hypermodel_in_a_search_of_ones_own(tmp_path, digits):
  keras.utils.set_random_seed(0)
  x = digits[0][:256]
  recipe = dataclasses.replace(
      recipes.TUNED["digits"], encoder_units=(32,), decoder_units=(32,), lam=0.0
  )
  searched = hypermodel.IMAEHyperModel((8, 8, 1), recipe, search=["beta=1:10", "latent_dim=2:8"])
  tuner = keras_tuner.RandomSearch(
      searched, objective=hypermodel.objective(), max_trials=2, directory=tmp_path, seed=1
  )
  tuner.search(x, epochs=1, batch_size=64, verbose=0)
  best, other = tuner.oracle.get_best_trials(2)
  assert best.score >= other.score
  assert best.score == best.metrics.get_best_value("neighbor_mi_y")
  model = tuner.get_best_models()[0]
  assert model.beta == best.hyperparameters.get("beta")
  assert model.latent_dim == best.hyperparameters.get("latent_dim")
  # The weights that are kept are those that were measured.
  assert hypermodel.measure(model, x)["neighbor_mi_y"] == pytest.approx(best.score, abs=1e-6)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_trial_that_diverges_has_failed_and_says_why(tmp_path, digits, steps):
  """By the terms of a step, or, after the last step, by the weights."""
  recipe = dataclasses.replace(
      recipes.TUNED["digits"], encoder_units=(8,), decoder_units=(8,), learning_rate=1e38,
      optimizer="sgd", momentum=0.0,
  )
  searched = hypermodel.IMAEHyperModel((8, 8, 1), recipe, search=["beta=1:10"])
  tuner = keras_tuner.RandomSearch(
      searched, objective=hypermodel.objective(), max_trials=2, directory=tmp_path, seed=1
  )
  ended = []
  noted = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: ended.append(1))
  tuner.search(digits[0][: 64 * steps], epochs=1, batch_size=64, verbose=0, callbacks=[noted])
  trials = list(tuner.oracle.trials.values())
  assert [trial.status for trial in trials] == ["FAILED"] * 2 and len(ended) == 2
  for trial in trials:
    assert trial.score is None
    assert "expected finite" in trial.message and "may help" in trial.message


def test_the_rate_follows_a_callback_of_ones_own(digits):
  recipe = dataclasses.replace(recipes.TUNED["digits"], encoder_units=(8,), decoder_units=(8,))
  assert recipe.learning_rate_decay == 1.0
  searched = hypermodel.IMAEHyperModel((8, 8, 1), recipe)
  model = searched.build(keras_tuner.HyperParameters())
  plateau = keras.callbacks.ReduceLROnPlateau(
      "loss", factor=0.5, patience=0, min_delta=1e9, min_lr=0.0
  )
  model.fit(digits[0][:64], batch_size=32, epochs=3, verbose=0, callbacks=[plateau])
  # The first epoch is always the best so far.
  assert float(model.optimizer.learning_rate) == pytest.approx(recipe.learning_rate / 4)


def test_a_data_set_is_measured_on_its_first_images(digits):
  x = digits[0][:100]
  batches = tf.data.Dataset.from_tensor_slices((x, digits[1][:100])).batch(30).repeat()
  seen = hypermodel._some_images(batches.take(4))
  np.testing.assert_array_equal(seen, x)


def test_weights_that_are_not_finite_have_no_score(tiny_model, digits):
  model = tiny_model()
  model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
  with pytest.raises(DivergenceError, match="expected finite figures, got .* = nan"):
    hypermodel.measure(model, digits[0][:50])

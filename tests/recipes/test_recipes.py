"""Recipes: the paper's settings, the tuned ones, and the model that each builds."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest

import imae_tf
from imae_tf import recipes
from imae_tf._shared import setting
from imae_tf.errors import InputError
from imae_tf.models import codes
from imae_tf.models import hybrid

_COMMON = (
    "lam", "likelihood", "temperature", "detach_y", "vat_radius", "neighbor_fraction", "vat_xi",
    "vat_detach", "marginals",
)
SIZES = {"num_categories": 4, "latent_dim": 3, "seed": 7, "steps_per_epoch": 5}


def test_paper_is_figure_4():
  paper = recipes.get("paper", "mnist")
  assert (paper.beta, paper.lam, paper.gamma, paper.vat_radius) == (5.0, 5.0, 2.0, 1.0)
  assert (paper.optimizer, paper.learning_rate, paper.learning_rate_decay) == ("sgd", 1e-3, 0.98)
  assert paper == recipes.get("paper", "digits") == recipes.Recipe()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_rate_that_does_not_decay_is_a_number_and_gives_the_same_weights(optimizer, digits):
  recipe = dataclasses.replace(
      recipes.PAPER, encoder_units=(8,), decoder_units=(8,), optimizer=optimizer,
      learning_rate_decay=1.0, lam=0.0,  # without VAT, most of the time that a fit takes to start
  )
  ends = []
  for schedule in (False, True):
    keras.utils.set_random_seed(3)
    model = recipes.build(recipe, (8, 8, 1), **SIZES)
    if schedule:  # as earlier versions made it
      rate = keras.optimizers.schedules.ExponentialDecay(1e-3, 5, 1.0, staircase=True)
      given = {**model.optimizer.get_config(), "learning_rate": rate}
      model.compile(optimizer=type(model.optimizer).from_config(given))
    else:
      assert float(model.optimizer.learning_rate) == np.float32(recipe.learning_rate)
      model.optimizer.learning_rate = recipe.learning_rate  # a schedule would refuse
    model.fit(digits[0][:80], batch_size=8, epochs=2, shuffle=False, verbose=0)
    ends.append(model.get_weights())
  for ours, theirs in zip(*ends, strict=True):
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("method", recipes.WEIGHTS)
def test_paper_weights_are_the_constructor_defaults(method):
  defaults = {
      name: parameter.default
      for cls in (imae_tf.models.HybridAutoencoder, imae_tf.methods.METHODS[method])
      for name, parameter in inspect.signature(cls.__init__).parameters.items()
  }
  # A run of the recipe is shorter than JointVAE's own.
  names = {*_COMMON, *recipes.WEIGHTS[method]} - {"capacity_steps"}
  paper = recipes.settings(recipes.get("paper", "mnist", method), method)
  assert {name: paper[name] for name in names} == {name: defaults[name] for name in names}


@pytest.mark.parametrize("name", recipes.SETTINGS)
def test_a_setting_reads_what_is_written_of_it(name):
  read = recipes.SETTINGS[name].read
  for recipe in (recipes.PAPER, *recipes.TUNED.values()):
    value = getattr(recipe, name)
    assert read(setting.write(value)) == value
    assert type(read(setting.write(value))) is type(value)


def test_choices_are_those_of_the_model():
  known = {"likelihood": codes.RECONSTRUCTION, "marginals": hybrid._MARGINALS}
  for name, choices in known.items():
    assert recipes.SETTINGS[name].choices == tuple(choices)


def test_every_method_has_its_class_and_no_weight_is_forgotten():
  assert recipes.WEIGHTS.keys() == imae_tf.methods.METHODS.keys()
  base = inspect.signature(imae_tf.models.HybridAutoencoder.__init__).parameters
  for method, cls in imae_tf.methods.METHODS.items():
    own = inspect.signature(cls.__init__).parameters.keys() - base.keys()
    assert own == set(recipes.WEIGHTS[method]) - base.keys(), method


@pytest.mark.parametrize("method", [m for m in recipes.WEIGHTS if m != "imae"])
def test_siblings_share_all_but_the_objective(method):
  ours, theirs = (recipes.get("tuned", "mnist", m) for m in ("imae", method))
  shared = recipes.settings(theirs, method).keys() - {*recipes.WEIGHTS[method], "lam", "detach_y"}
  for name in shared:
    assert getattr(ours, name) == getattr(theirs, name), name
  assert not theirs.detach_y
  assert "gamma" not in recipes.settings(theirs, method)


@pytest.mark.parametrize(
    "change, value",
    [
        ("lam=0", 0.0), ("detach_y=false", False), ("vat_radius=neighbor", "neighbor"),
        ("vat_radius=2", 2.0), ("beta_y=3", 3.0), ("batch_size=64", 64),
        ("encoder_units=500-20", (500, 20)), ("marginals=leave_one_out", "leave_one_out"),
        ("beta_y=none", None), ("momentum=0.5", 0.5), ("network=conv", "conv"),
    ],
)
def test_a_change_from_text(change, value):
  name = change.split("=")[0]
  changed = recipes.with_change(recipes.PAPER, "imae", change)
  assert changed == dataclasses.replace(recipes.PAPER, **{name: value})
  assert type(getattr(changed, name)) is type(value)


@pytest.mark.parametrize(
    "method, change, message",
    [
        ("vae", "gamma=1", "expected a setting of vae such as lam=0, got 'gamma=1'"),
        ("imae", "detach_y=no", "expected detach_y as 'true' or 'false', got 'no'"),
        ("imae", "lam", "expected lam as a number, 0 or more, got ''"),
        ("imae", "network=cnn", "expected network as 'mlp', 'conv' or 'towers', got 'cnn'"),
        ("imae", "alpha=0.5", "expected a setting of imae such as lam=0, got 'alpha=0.5'"),
        ("infovae", "alpha=2", "expected alpha as a number from 0 to 1, got '2'"),
        ("imae", "lam=nan", "expected lam as a number, 0 or more, got 'nan'"),
        ("imae", "vat_radius=0", "as a number above 0, or 'neighbor', got '0'"),
        ("imae", "encoder_units=9-0", "as widths such as 500-1000, got '9-0'"),
        ("imae", "batch_size=1.5", "expected batch_size as an integer, 2 or more, got '1.5'"),
    ],
)
def test_a_change_that_cannot_be_read(method, change, message):
  with pytest.raises(InputError, match=message):
    recipes.with_change(recipes.PAPER, method, change)


def test_an_unknown_method():
  with pytest.raises(InputError, match="expected a method among imae, vae, .* got 'gan'"):
    recipes.get("tuned", "mnist", "gan")


def test_a_data_set_without_a_recipe_gets_that_of_mnist():
  assert recipes.get("tuned", "photos.npz") == recipes.get("tuned", "mnist")
  assert recipes.get("tuned", "digits") != recipes.get("tuned", "mnist")


def test_an_unknown_recipe():
  with pytest.raises(InputError, match="expected the recipe 'paper' or 'tuned', got 'best'"):
    recipes.get("best", "digits")


@pytest.mark.parametrize("method", recipes.WEIGHTS)
def test_every_setting_reaches_the_model(method):
  """Each value differs from its default, so that one left out would show."""
  values = {
      "beta": 1.5, "gamma": 2.5, "lam": 3.5, "beta_y": 4.5, "entropy_weight": 5.5,
      "likelihood": "gaussian", "temperature": 0.4, "detach_y": True, "vat_radius": "neighbor",
      "neighbor_fraction": 0.7, "vat_xi": 8.0, "vat_detach": False,
      "marginals": "second_batch", "alpha": 0.5, "capacity_y": 1.25,
      "capacity_z": 2.25, "capacity_steps": 9, "consistency": 6.5, "transform_size": 0.25,
      "ease_smoothing": True,
  }
  changed = {name: values[name] for name in (*_COMMON, *recipes.WEIGHTS[method])}
  recipe = dataclasses.replace(
      recipes.PAPER, **changed, encoder_units=(6, 5), decoder_units=(9,), logits_stddev=1e-4
  )
  model = recipes.build(recipe, (4, 4, 1), **SIZES, method=method)
  assert isinstance(model, imae_tf.methods.METHODS[method])
  assert {name: getattr(model, name) for name in changed} == changed
  assert (model.num_categories, model.latent_dim, model.seed) == (4, 3, 7)
  assert model.image_shape == (4, 4, 1)
  assert model.logits_initializer.stddev == 1e-4
  assert model.encoder.output_shape == (None, 5)
  units = [layer.units for layer in model.decoder.layers if isinstance(layer, keras.layers.Dense)]
  assert units == [9, 16]


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_first_categories_are_uniform(name, digits):
  """logits_stddev: no category is chosen by chance."""
  model = recipes.build(recipes.get("tuned", name), (8, 8, 1), **SIZES)
  np.testing.assert_allclose(model.encode(digits[0][:50])["y"], 0.25, atol=1e-3)


def test_celeb_a_has_convolutions():
  recipe = recipes.get("tuned", "celeb_a")
  model = recipes.build(recipe, (64, 64, 3), **SIZES)
  assert any(isinstance(layer, keras.layers.Conv2D) for layer in model.encoder.layers)
  assert model.decoder.output_shape == (None, 64, 64, 3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_learning_rate_decays_once_in_an_epoch(optimizer):
  recipe = dataclasses.replace(
      recipes.PAPER, optimizer=optimizer, learning_rate=0.5, learning_rate_decay=0.9,
      encoder_units=(4,), decoder_units=(4,), momentum=0.3,
  )
  model = recipes.build(recipe, (4, 4, 1), **SIZES)
  rates = []
  for step in (0, 4, 5, 9, 10):
    model.optimizer.iterations.assign(step)
    rates.append(float(model.optimizer.learning_rate))
  assert rates == pytest.approx([0.5, 0.5, 0.45, 0.45, 0.405])
  assert type(model.optimizer).__name__.lower() == optimizer
  if optimizer == "sgd":
    assert model.optimizer.momentum == 0.3


def test_an_unknown_optimizer():
  recipe = dataclasses.replace(
      recipes.PAPER, optimizer="lion", encoder_units=(4,), decoder_units=(4,)
  )
  with pytest.raises(InputError, match="expected the optimizer 'adam' or 'sgd', got 'lion'"):
    recipes.build(recipe, (4, 4, 1), **SIZES)

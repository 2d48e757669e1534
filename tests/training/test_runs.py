"""Runs in a folder: what an interruption leaves, restarts without labels, no collapse."""

import dataclasses
import os
import signal

import keras
import numpy as np
import pytest
import small_runs
from small_runs import make_run
from small_runs import STEPS

from imae_tf import recipes
from imae_tf.data import loading
from imae_tf.errors import DivergenceError
from imae_tf.errors import Preempted
from imae_tf.training import callbacks
from imae_tf.training import run_folder
from imae_tf.training import runs

pytestmark = pytest.mark.usefixtures("no_pictures")


class Killed(Exception):
  pass


@pytest.fixture(scope="module")
def images(tmp_path_factory, digits):
  return small_runs.store_images(tmp_path_factory.mktemp("images"), digits)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, images):
  """The folder of a run that nothing interrupted."""
  folder = tmp_path_factory.mktemp("unbroken")
  runs.train(make_run(images), folder)
  return folder


def assert_same_weights(one, other):
  states = [
      [*model.get_weights(), *(v.numpy() for v in model.optimizer.variables)]
      for model in (one, other)
  ]
  for ours, theirs in zip(*states, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


# ---- interruptions --------------------------------------------------------------------------


def in_the_middle_of_an_epoch(patch):
  def stop(progress, batch, logs=None):
    if int(progress.model.optimizer.iterations) == STEPS + 2:
      raise Killed

  patch.setattr(callbacks.Progress, "on_train_batch_end", stop)


def between_the_row_and_the_checkpoint(patch):
  save = run_folder.save_checkpoint

  def stop(model, workdir, epochs):
    if epochs == 2:
      raise Killed
    save(model, workdir, epochs)

  patch.setattr(run_folder, "save_checkpoint", stop)


def before_the_final_model(patch):
  save = run_folder.save_keras

  def stop(model, path):
    if path.name == "model.keras":
      raise Killed
    save(model, path)

  patch.setattr(run_folder, "save_keras", stop)


@pytest.mark.parametrize(
    ("interrupt", "row_count", "saved"),
    [
        (in_the_middle_of_an_epoch, 1, [1]),
        (between_the_row_and_the_checkpoint, 2, [1]),
        (before_the_final_model, 3, [2, 3]),
    ],
)
def test_an_interrupted_run_goes_on_exactly(
    tmp_path, monkeypatch, images, unbroken, interrupt, row_count, saved
):
  run = make_run(images)
  with monkeypatch.context() as patch:
    interrupt(patch)
    with pytest.raises(Killed):
      runs.train(run, tmp_path)
  assert len(run_folder.read_history(tmp_path)) == row_count
  assert list(run_folder.checkpoints(tmp_path)) == saved
  assert not (tmp_path / "model.keras").exists()
  model = runs.train(run, tmp_path)
  assert_same_weights(model, run_folder.load_keras(unbroken / "model.keras"))
  for ours, theirs in zip(
      run_folder.read_history(tmp_path), run_folder.read_history(unbroken), strict=True
  ):
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)


def test_epochs_that_grow_equal_epochs_asked_for_at_once(tmp_path, images, unbroken):
  for epochs in (1, 3):
    model = runs.train(make_run(images, epochs=epochs), tmp_path)
  assert_same_weights(model, run_folder.load_keras(unbroken / "model.keras"))
  for ours, theirs in zip(
      run_folder.read_history(tmp_path), run_folder.read_history(unbroken), strict=True
  ):
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    ("step", "restarts"),
    [
        (STEPS, 1), (STEPS + 3, 1),
        # Two more trainings of moments like these, and four with two starts.
        pytest.param(2, 1, marks=pytest.mark.slow),
        pytest.param(STEPS + 2, 2, marks=pytest.mark.slow),
    ],
)
def test_sigterm_saves_and_the_run_goes_on_from_there(
    tmp_path, monkeypatch, images, unbroken, step, restarts
):
  """Within an epoch and after one; the rest of an epoch is logged as the whole of it."""
  run = make_run(images, restarts=restarts, restart_epochs=2)
  reference = unbroken
  if restarts > 1:
    reference = tmp_path / "reference"
    runs.train(run, reference)

  def terminate(progress, batch, logs=None):
    if int(progress.model.optimizer.iterations) == step:
      os.kill(os.getpid(), signal.SIGTERM)

  folder = tmp_path / "run"
  with monkeypatch.context() as patch:
    patch.setattr(callbacks.Progress, "on_train_batch_end", terminate)
    with pytest.raises(Preempted, match="the same command goes on from here"):
      runs.train(run, folder)
  saved = run_folder.newest_checkpoint(folder if restarts == 1 else folder / "restarts/start-0")
  assert (saved.epochs, saved.steps) == divmod(step, STEPS)
  model = runs.train(run, folder)
  assert_same_weights(model, run_folder.load_keras(reference / "model.keras"))
  for ours, theirs in zip(
      run_folder.read_history(folder), run_folder.read_history(reference), strict=True
  ):
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
  assert {path.name for path in (folder / "checkpoints").iterdir()} == {
      "epoch-0002.keras", "epoch-0003.keras",
  }


def test_divergence_keeps_the_last_good_checkpoint(tmp_path, monkeypatch, images, unbroken):
  """The learning rate explodes in the middle of the second epoch."""
  build = recipes.build

  def with_explosion(*args, **kwargs):
    model = build(*args, **kwargs)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([STEPS + 1], [2e-3, 1e30])
    model.compile(optimizer=keras.optimizers.Adam(rate))
    return model

  monkeypatch.setattr(recipes, "build", with_explosion)
  with pytest.raises(DivergenceError, match=rf"finite terms, got .* at step [{STEPS + 2}-8]"):
    runs.train(make_run(images), tmp_path)
  assert list(run_folder.checkpoints(tmp_path)) == [1]
  assert not (tmp_path / "model.keras").exists()
  history = run_folder.read_history(tmp_path)
  assert history == [pytest.approx(run_folder.read_history(unbroken)[0], rel=1e-5, abs=1e-5)]
  kept = run_folder.load_keras(run_folder.checkpoints(tmp_path)[1])
  assert all(np.isfinite(weight).all() for weight in kept.get_weights())


# ---- categories ---------------------------------------------------------------------------------


def category_information(seed, **settings):
  """H(y) and I(x;y) of the test digits in nats, after a short training."""
  data = loading.load("digits")
  recipe = dataclasses.replace(
      recipes.TUNED["digits"], encoder_units=(100,), decoder_units=(50,), **settings
  )
  steps = data.steps_per_epoch(recipe.batch_size)
  keras.utils.set_random_seed(seed)
  model = recipes.build(
      recipe, data.image_shape, num_categories=10, latent_dim=10, seed=seed, steps_per_epoch=steps
  )
  model.fit(
      data.train_batches(recipe.batch_size, seed=seed),
      epochs=12, steps_per_epoch=steps, shuffle=False, verbose=0,
  )
  p = model.encode(data.arrays("test")[0])["y"].astype("float64")
  mean = p.mean(axis=0)
  entropy = -np.sum(mean * np.log(mean))
  return entropy, entropy + np.mean(np.sum(p * np.log(p + 1e-300), axis=1))


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))]
)  # more seeds of the same
def test_categories_do_not_collapse(seed):
  entropy, information = category_information(seed)
  assert entropy > 2.0  # ln 10 = 2.303
  assert information > 1.0  # used evenly because they differ, not because p(y|x) is flat


def test_the_check_above_sees_a_collapse():
  """Without H(y) nothing keeps the categories apart."""
  entropy, information = category_information(0, entropy_weight=0.0)
  assert information < 1.0 or entropy < 2.0

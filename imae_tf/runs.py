"""A run in a folder: trained from a recipe, resumed exactly, restarted without labels."""

import dataclasses
import importlib.metadata
import pathlib

import keras
import tensorflow as tf

from imae_tf import callbacks
from imae_tf import data as data_lib
from imae_tf import recipes
from imae_tf import workdir as workdirs
from imae_tf.errors import DivergenceError
from imae_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Run:
  """What `config.json` says: everything that decides the final weights."""

  dataset: str
  method: str
  recipe_name: str
  recipe: recipes.Recipe
  num_categories: int
  latent_dim: int
  holdout: int
  seed: int
  deterministic: bool


def train(run, workdir):
  """Trains a run in its folder, or goes on with it; ends with `model.keras` there.

  The order of the images, the noise and the first weights are functions of the seed and
  the epoch, so a killed run that goes on has the weights of an unbroken one.

  Args:
    run: `Run`.
    workdir: its folder.

  Returns:
    The trained model.

  Raises:
    InputError: bad data, or a folder that holds something else.
    DivergenceError: a term of the loss is no longer finite.
  """
  if run.deterministic:
    tf.config.experimental.enable_op_determinism()
  if run.recipe.restarts > 1 and run.recipe.restart_epochs < 1:
    raise InputError(
        f"expected restart_epochs of 1 or more for {run.recipe.restarts} restarts, got"
        f" {run.recipe.restart_epochs}; give --restart_epochs, 25 for example."
    )
  data = data_lib.load(run.dataset, holdout=run.holdout)
  config = _config(run, data)
  workdirs.check(workdir, config)
  model, done = _last_saved(workdir) or (_new_model(run, data, run.seed), 0)
  # Only now: a setting that builds no model, or a damaged file, changes nothing on disk.
  with workdirs.locked(workdir):
    workdirs.start(workdir, config)
    return _train(run, data, workdir, model, done)


def _train(run, data, workdir, model, done):
  if run.recipe.restarts > 1 and done < _start_epochs(run):
    model, done = _choose_start(run, data, workdir)
  elif done:
    print(f"Going on after epoch {done} of {run.recipe.epochs} in {workdir}.")
  if done < run.recipe.epochs:
    _fit(model, run, data, run.seed, done, run.recipe.epochs, [
        callbacks.RunKeeper(workdir),
        _tensorboard(pathlib.Path(workdir) / "tensorboard"),
    ])
  model = _in_float32(model, run, data)
  workdirs.save_keras(model, pathlib.Path(workdir) / "model.keras")
  return model


def restart_score(history):
  """The label-free figure of merit of a short start: I(x;y) - the VAT cross-entropy, nats.

  Both of eq (12)'s terms with equal weight, as logged in the last epoch: high when
  categories are used evenly, confident, and stable under small changes of the image.

  Args:
    history: rows of `history.csv`.
  """
  last = history[-1]
  return last["mi_y"] - last.get("vat_loss", 0.0)


def _choose_start(run, data, workdir):
  """Trains short starts, makes the best the run's checkpoint; returns it and its epochs."""
  folder = pathlib.Path(workdir) / "restarts"
  epochs = _start_epochs(run)
  starts = []
  for index in range(run.recipe.restarts):
    start = folder / f"start-{index}"
    if max(workdirs.checkpoints(start), default=0) < epochs:
      print(f"Start {index + 1} of {run.recipe.restarts}, {epochs} epochs:")
      try:
        _train_start(run, data, _start_seed(run.seed, index), start, epochs)
      except DivergenceError as error:
        diverged = error
        print(f"Start {index + 1} diverged: {error}")
        continue
    history = workdirs.read_history(start)
    starts.append((restart_score(history), index, history))
  if not starts:
    raise diverged
  score, index, history = max(starts)
  scores = [None] * run.recipe.restarts  # null: diverged
  for score_of_start, i, _ in starts:
    scores[i] = score_of_start
  workdirs.write_json(folder / "scores.json", {"scores": scores, "chosen": index})
  print(f"Start {index + 1} goes on: I(x;y) - VAT is {score:.3f} nats.")
  workdirs.write_history(workdir, history)
  model, _ = _last_saved(folder / f"start-{index}")
  workdirs.save_checkpoint(model, workdir, epochs)
  return model, epochs


def _train_start(run, data, seed, folder, epochs):
  """A start to `epochs` epochs; one of a run that was shorter until now goes on."""
  model, done = _last_saved(folder) or (_new_model(run, data, seed), 0)
  history = workdirs.read_history(folder)[:done]
  board = folder.parent.parent / "tensorboard" / folder.name
  history += _fit(model, run, data, seed, done, epochs, [_tensorboard(board)])
  workdirs.write_history(folder, history)
  workdirs.save_checkpoint(model, folder, epochs)


def _tensorboard(folder):
  return keras.callbacks.TensorBoard(folder, write_graph=False)


def _start_epochs(run):
  return min(run.recipe.restart_epochs, run.recipe.epochs)


def _last_saved(folder):
  """The newest checkpoint and its number of finished epochs; None when there is none."""
  saved = workdirs.checkpoints(folder)
  return (workdirs.load_keras(saved[max(saved)]), max(saved)) if saved else None


def _start_seed(seed, index):
  """Start 0 has the run's own seed, so that a run of one start is the same run."""
  return seed + 1000 * index


def _new_model(run, data, seed):
  keras.utils.set_random_seed(seed)
  return recipes.build(
      run.recipe,
      data.image_shape,
      num_categories=run.num_categories,
      latent_dim=run.latent_dim,
      seed=seed,
      steps_per_epoch=data.steps_per_epoch(run.recipe.batch_size),
  )


def _in_float32(model, run, data):
  """The model as it is used: less precision serves the speed of training alone."""
  if run.recipe.precision == "float32":
    return model
  recipe = dataclasses.replace(run.recipe, precision="float32")
  full = _new_model(dataclasses.replace(run, recipe=recipe), data, model.seed)
  full.set_weights(model.get_weights())
  full.optimizer.build(full.trainable_variables)
  for variable, trained in zip(full.optimizer.variables, model.optimizer.variables):
    variable.assign(trained)
  return full


def _fit(model, run, data, seed, first_epoch, epochs, keepers):
  """Fits to the end of epoch `epochs`; returns the rows of the history."""
  batch_size = run.recipe.batch_size
  history = model.fit(
      data.train_batches(batch_size, seed=seed, initial_epoch=first_epoch),
      steps_per_epoch=data.steps_per_epoch(batch_size),
      initial_epoch=first_epoch,
      epochs=epochs,
      shuffle=False,  # the data are shuffled already, by (seed, epoch)
      verbose=0,
      callbacks=[callbacks.StopOnNonFinite(), callbacks.Progress(), *keepers],
  )
  columns = history.history
  return [
      {"epoch": epoch + 1, **{name: columns[name][i] for name in columns}}
      for i, epoch in enumerate(history.epoch)
  ]


def versions():
  """The versions that decide the figures: {package: version}."""
  names = ("imae_tf", "tensorflow", "keras", "tensorflow-probability", "numpy")
  return {name: importlib.metadata.version(name) for name in names}


def _config(run, data):
  config = dataclasses.asdict(run)
  config.pop("recipe")
  recipe = dataclasses.asdict(run.recipe)
  return {
      **config,
      "recipe": run.recipe_name,
      "epochs": recipe.pop("epochs"),
      "settings": recipe,
      "image_shape": list(data.image_shape),
      "versions": versions(),
  }

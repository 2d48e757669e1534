"""Starts of a run that train y's layers and nothing else, on views that are made once for all.

What y's layers see of an image (`networks.views`) has no trained weights, so it is computed once,
and so are some random transforms of each image. A step of a start is then a step of two small
layers. `training.starts` calls these functions, and takes the votes of the starts.
"""

import concurrent.futures
import dataclasses
import math
import pathlib
import threading
import time
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from imae_tf import networks
from imae_tf import objective
from imae_tf import recipes
from imae_tf._shared.global_batch import GlobalBatch
from imae_tf.errors import DivergenceError
from imae_tf.errors import Preempted
from imae_tf.models import smoothness
from imae_tf.recipes import deriving
from imae_tf.training import fitting
from imae_tf.training import run_folder
from imae_tf.training import teachers

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder
  from imae_tf.training import runs

_MAX_IMAGES = 60_000  # whose views are in memory
_MAX_BYTES = 2**29  # of these images, and of the views of their transforms
_MAX_TRANSFORMS = 80_000  # of one size: more take longer to make than they are worth
_BATCH = 250
_MIXTURE_STEPS = 200  # of a start that begins at a mixture
_EVERY = 100  # steps between two looks at a start
_LEAST_INFORMATION = 0.05  # of ln K2: a start with less after half of its steps has collapsed
_TIMED = 20  # steps, after as many others, that say how long the starts will take


class Views:
  """What y's layers see of training images, and of random transforms of them.

  Args:
    x: [N, H, W, C] training images in [0, 1], at most 60,000.
    layers: `CategoryLayers`, whose view is adapted.
    seed: of the transforms.

  Attributes:
    seen: [N, V].
  """

  def __init__(self, x: np.ndarray, layers: smoothness.CategoryLayers, seed: int) -> None:
    self._layers, self._seed, self._lock = layers, seed, threading.Lock()
    self._transformed: dict[float, tf.Tensor] = {}
    self._small = np.concatenate(
        [layers.small(x[i : i + _BATCH]) for i in range(0, len(x), _BATCH)]
    )
    self.seen = tf.constant(layers.seen_of_all(self._small))

  def transforms(self, num_sizes: int, draws: int) -> int:
    """M, how often each image is transformed where its views are drawn so often in all."""
    count, features = self.seen.shape
    bytes_of_one = 2 * features * num_sizes
    most = min(_MAX_BYTES // bytes_of_one, _MAX_TRANSFORMS, draws) // count
    return max(most, 1)

  def transformed(self, size: float, count: int) -> tf.Tensor:
    """[count, N, V] float16: the views of transforms of a size, `networks.RandomTransform`'s."""
    with self._lock:  # two starts ask for them at once
      if size not in self._transformed:
        transform, layers = networks.RandomTransform(size), self._layers

        @tf.function(reduce_retracing=True)
        def views(x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
          return tf.cast(layers.seen(transform(x, seed)), tf.float16)

        self._transformed[size] = tf.stack([
            tf.concat([
                views(self._small[i : i + _BATCH], tf.constant([self._seed + i, m]))
                for i in range(0, len(self._small), _BATCH)
            ], axis=0)
            for m in range(count)
        ])
      return self._transformed[size]


def images(session: fitting.Session) -> np.ndarray:
  """The training images that starts see: all, or a random part of many."""
  bytes_of_one = 4 * math.prod(session.data.image_shape)
  count = min(_MAX_IMAGES, _MAX_BYTES // bytes_of_one)
  x = session.data.sample("train", count, session.run.seed)
  # Files are often sorted by class.
  return x[np.random.default_rng(session.run.seed).permutation(len(x))]


def trained(
    session: fitting.Session, of_run: "HybridAutoencoder"
) -> tuple[Views, dict[int, "HybridAutoencoder"]]:
  """Trains the starts that are not trained yet: (views, {index: model}, on every worker).

  Starts that diverged, or whose categories collapsed, are left out.

  Args:
    session: of the run.
    of_run: a model of the run, whose view is adapted.
  """
  run, job = session.run, session.job
  models = {i: _new(session, i) for i in range(run.recipe.restarts)}
  views = Views(images(session), of_run.category_layers, run.seed)
  good = list(models)
  if job.is_chief:
    good = _train(session, models, views, of_run)
  # A start is seconds of work: the chief does it alone, and the others get the weights.
  flags = np.isin(list(models), good).astype(np.int64)
  flags = job.from_chief([flags])[0]
  for model in models.values():
    model.set_weights(job.from_chief(model.get_weights()))
  return views, {i: model for i, model in models.items() if flags[i]}


def _new(session: fitting.Session, index: int) -> "HybridAutoencoder":
  """The model of a start, small where it is not trained."""
  recipe = dataclasses.replace(
      recipe_of(session.run, index), encoder_units=(1,), decoder_units=(1,)
  )
  run = dataclasses.replace(session.run, recipe=recipe)
  model = fitting.new_model(run, session.data, seed_of(session.run, index))
  model.optimizer.build(model.trainable_variables)  # else Keras warns when the start is loaded
  return model


def epochs(run: "runs.Run") -> int:
  """Number of epochs of each start."""
  return min(run.recipe.restart_epochs, run.recipe.epochs)


def recipe_of(run: "runs.Run", index: int) -> recipes.Recipe:
  """The recipe with a start's own settings."""
  recipe = run.recipe
  changes = recipe.restart_changes.split("/")
  for change in filter(None, changes[index % len(changes)].split(",")):
    recipe = recipes.with_change(recipe, run.method, change)
  return recipe


def seed_of(run: "runs.Run", index: int) -> int:
  """The seed of a start; start 0 has the run's own, like a run without several starts."""
  return run.seed + 1000 * index


# ---- training ------------------------------------------------------------------------------------


def _train(
    session: fitting.Session,
    models: dict[int, "HybridAutoencoder"],
    views: Views,
    of_run: "HybridAutoencoder",
) -> list[int]:
  """Trains, side by side on a CPU, and saves: the starts that are of use, the others forgotten."""
  files = {i: session.workdir / "restarts" / f"start-{i}" / "model.keras" for i in models}
  left = [i for i in models if not files[i].exists()]
  for i in set(models) - set(left):
    models[i].set_weights(run_folder.load_keras(files[i]).get_weights())
  steps = _steps(session)
  if left:
    session.job.say(
        f"{len(left)} starts of {steps} steps, {min(session.starts_at_once, len(left))} at once:"
    )
  clock = _Clock(session, of_run, len(left), steps)
  failed: dict[int, DivergenceError] = {}
  with concurrent.futures.ThreadPoolExecutor(session.starts_at_once) as pool:
    jobs = {
        i: pool.submit(_train_start, session, i, models[i], views, files[i], clock) for i in left
    }
    for i, future in jobs.items():
      try:
        future.result()
      except DivergenceError as error:
        failed[i] = error
        session.job.say(f"Start {i + 1} is left out: {error}")
      except BaseException:  # Ctrl-C, or SIGTERM: the other starts end, too
        session.abandoned.set()
        for waiting in jobs.values():
          waiting.cancel()
        raise
  if len(failed) == len(models):
    raise next(iter(failed.values()))
  return [i for i in models if i not in failed]


def _steps(session: fitting.Session) -> int:
  return epochs(session.run) * session.data.steps_per_epoch(session.run.recipe.batch_size)


def _train_start(
    session: fitting.Session,
    index: int,
    model: "HybridAutoencoder",
    views: Views,
    path: pathlib.Path,
    clock: "_Clock",
) -> None:
  recipe = recipe_of(session.run, index)
  seed, steps = seed_of(session.run, index), _steps(session)
  if index >= recipe.restarts - recipe.restart_mixtures:
    rows = views.seen.numpy()[: deriving.SAMPLE]
    targets = teachers.mixture(rows, model.num_categories, seed)
    model.lesson = smoothness.Lesson(targets, _MIXTURE_STEPS)
  batch_size = min(recipe.batch_size, len(views.seen))
  sizes = {recipe_of(session.run, i).transform_size for i in range(recipe.restarts)}
  other = views.transformed(
      recipe.transform_size, views.transforms(len(sizes), steps * batch_size)
  )
  step_of = _step_function(model, recipe, views.seen, other)
  rng = np.random.default_rng(seed)
  rows, sums, looked = np.zeros(0, np.int64), np.zeros(2), math.log(model.num_categories)
  for step in range(steps):
    if len(rows) < batch_size:
      rows = np.concatenate([rows, rng.permutation(len(views.seen))])
    batch, rows = rows[:batch_size], rows[batch_size:]
    draws = rng.integers(len(other), size=batch_size)
    sums += step_of(batch, draws, tf.constant(step)).numpy()
    clock.tick(step)
    if session.stops():
      raise Preempted(
          f"stopped by SIGTERM in start {index + 1}; the same command goes on from the starts that"
          " are done."
      )
    if (step + 1) % _EVERY == 0 or step + 1 == steps:
      loss, information = sums / (step % _EVERY + 1)
      sums[:] = 0.0
      if not np.isfinite(loss):
        raise DivergenceError(
            f"its loss was {loss} by step {step + 1}; lower the learning rate if others end so."
        )
      if step + 1 >= steps / 2 and steps > _EVERY and information < _LEAST_INFORMATION * looked:
        raise DivergenceError(
            f"its categories have collapsed: after {step + 1} steps they carry"
            f" {information:.2f} of {looked:.2f} nats; lower --lam or --consistency if others end"
            " so."
        )
  run_folder.save_keras(model, path)


def _step_function(
    model: "HybridAutoencoder", recipe: recipes.Recipe, seen: tf.Tensor, other: tf.Tensor
) -> tf.types.experimental.PolymorphicFunction:
  """A function (rows [B], draws [B], step) that makes a step: [loss, I(x;y)], batch means."""
  layers = model.category_layers
  variables = layers.trainable_variables
  optimizer = keras.saving.deserialize_keras_object(
      keras.saving.serialize_keras_object(model.optimizer)
  )
  optimizer.build(variables)

  @tf.function(reduce_retracing=True)
  def step_of(rows: tf.Tensor, draws: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    v = tf.gather(seen, rows)
    batch = GlobalBatch(v)
    with tf.GradientTape() as tape:
      log_y = layers.log_y(v, training=True)
      terms = objective.category_terms(log_y, log_y)
      terms |= smoothness.terms(
          model, v, batch, log_y, tf.stack([model.seed, step]), step, training=True,
          transformed=lambda seed: tf.cast(
              tf.gather_nd(other, tf.stack([draws, rows], axis=1)), tf.float32
          ),
      )
      loss = -tf.reduce_mean(objective.category_objective(
          terms, lam=recipe.lam, entropy_weight=recipe.entropy_weight,
          consistency=recipe.consistency,
      ))
    optimizer.apply(tape.gradient(loss, variables), variables)
    model.ease(batch.mean(terms["conditional_entropy_y"]), step)
    return tf.stack([loss, tf.reduce_mean(terms["mi_y"])])

  return step_of


class _Clock:
  """Says once how long the starts, and the model after them, will take on this machine."""

  def __init__(
      self, session: fitting.Session, of_run: "HybridAutoencoder", num_starts: int, steps: int
  ) -> None:
    self._say = session.job.say
    self._rounds = math.ceil(num_starts / session.starts_at_once)
    self._steps = steps
    recipe = session.run.recipe
    self._last_steps = recipe.epochs * session.data.steps_per_epoch(recipe.batch_size)
    # Of y's layers a step has some 11 products of their size, of the others three; measured with
    # their optimizer's and the view's part, these take as long as seven.
    own = 11 * sum(v.shape.num_elements() for v in of_run.category_layers.trainable_variables)
    others = 7 * of_run.count_params()
    self._ratio = (own + others) / own / session.starts_at_once
    self._lock, self._begun = threading.Lock(), 0.0

  def tick(self, step: int) -> None:
    """Notes that a start has made its step of this number."""
    with self._lock:
      if step == _TIMED and not self._begun:
        self._begun = time.monotonic()
      elif step == 2 * _TIMED and self._begun > 0:
        seconds = (time.monotonic() - self._begun) / _TIMED
        starts = seconds * self._rounds * self._steps
        last = seconds * self._ratio * self._last_steps
        self._say(f"about {_minutes(starts)} for the starts, and {_minutes(last)} for the model"
                  " that learns from them.")
        self._begun = -1.0


def _minutes(seconds: float) -> str:
  return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"

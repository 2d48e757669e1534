"""Parts of a search without labels: the space of weights, the figure that ranks runs, a HyperModel.

`search.driver` and `search.trials` use them, and so does your own code with keras-tuner
(`imae_tf.tuning`).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

import keras_tuner
import numpy as np
import tensorflow as tf

from imae_tf import recipes
from imae_tf._shared.setting import Choice
from imae_tf._shared.setting import Range
from imae_tf._shared.setting import write
from imae_tf.errors import DivergenceError
from imae_tf.errors import InputError
from imae_tf.metrics import label_free
from imae_tf.metrics import measuring
from imae_tf.training import callbacks

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

# The figure of `measure` that ranks runs best without labels (docs/searching.md).
OBJECTIVE = "neighbor_mi_y"

_MOST_IMAGES = 10_000
_MOST_CODES = 2_000  # the time of pairwise figures grows as n^2, and fewer codes rank as well
_FIGURES = (
    "mi_y",
    "entropy_y",
    "conditional_entropy_y",
    "reconstruction",
    "mi_z",
    "total_correlation",
    "used_categories",
    "active_units",
)


def objective() -> keras_tuner.Objective:
  """`OBJECTIVE` as keras-tuner wants it: `keras_tuner.RandomSearch(..., objective=objective())`."""
  return keras_tuner.Objective(OBJECTIVE, "max")


# ---- the space ------------------------------------------------------------------------------


Space = dict[str, Range | Choice]
_SETTINGS = recipes.SETTINGS | recipes.SIZES
# The settings that can be searched, each with its range or choices.
SPACE: Space = {name: s.search for name, s in _SETTINGS.items() if s.search}


def space(search: Sequence[str] = (), method: str = "imae") -> Space:
  """The part of `SPACE` that is searched: {name: Range or Choice}.

  Args:
    search: names of `SPACE`, each alone or with a range or choices: "beta=1:10",
      "encoder_units=500-500|1200-1200"; empty for `default_search(method)`.
    method: a key of `recipes.WEIGHTS`.

  Raises:
    InputError: an unknown name, a name that the method does not have, or a range or choices that
      cannot be read.
  """
  names = {*recipes.settings(recipes.PAPER, method), *recipes.SIZES}
  known = [name for name in SPACE if name in names]
  found = {}
  for item in search or default_search(method):
    name, equals, part = item.partition("=")
    if name not in known:
      raise InputError(
          f"expected names among {', '.join(known)} to search for {method}, got {name!r}; correct"
          " it."
      )
    found[name] = _part(name, part) if equals else SPACE[name]
  return found


def default_search(method: str) -> list[str]:
  """The names of the weights of a method that are searched by default."""
  return [name for name in (*recipes.WEIGHTS[method], "lam") if _SETTINGS[name].searched]


def _part(name: str, text: str) -> Range | Choice:
  usual, read = SPACE[name], _SETTINGS[name].read
  try:
    if isinstance(usual, Choice):
      for value in text.split("|"):
        read(value)
      return Choice(tuple(text.split("|")))
    low, high = map(read, text.split(":"))
    if not 0 < low < high:  # a log scale
      raise ValueError
  except (ValueError, TypeError):  # a word in place of a number
    example = "500-500|1200-1200" if isinstance(usual, Choice) else f"{usual.low}:{usual.high}"
    raise InputError(
        f"expected {name}={example} or the like to search, got {text!r}; correct it."
    ) from None
  return Range(low, high, usual.integer)


def declare(hp: keras_tuner.HyperParameters, space: Space, start: dict[str, Any]) -> None:
  """Declares a space to keras-tuner.

  Args:
    hp: `keras_tuner.HyperParameters`.
    space: a space, as `space` returns it.
    start: {name: value}; a value that lies in the space becomes its default.
  """
  for name, part in space.items():
    value = start.get(name)
    if isinstance(part, Choice):
      hp.Choice(name, list(part.values), default=value if value in part.values else None)
      continue
    middle = math.sqrt(part.low * part.high)
    if not (isinstance(value, (int, float)) and part.low <= value <= part.high):
      value = round(middle) if part.integer else middle
    number = hp.Int if part.integer else hp.Float
    number(name, part.low, part.high, sampling="log", default=value)


def start_of(recipe: recipes.Recipe, num_categories: int, latent_dim: int) -> dict[str, Any]:
  """{name of `SPACE`: value} to start a search with: of a recipe, num_categories, latent_dim."""
  values = {
      **dataclasses.asdict(recipe), "num_categories": num_categories, "latent_dim": latent_dim
  }
  values["beta_y"] = recipe.beta if recipe.beta_y is None else recipe.beta_y
  return {name: write(v) if isinstance(v, tuple) else v for name in SPACE for v in [values[name]]}


def chosen(
    values: dict[str, Any], recipe: recipes.Recipe, num_categories: int, latent_dim: int
) -> tuple[recipes.Recipe, int, int]:
  """The settings of a trial: (recipe, num_categories, latent_dim).

  Args:
    values: {name of `SPACE`: value}; other names, keras-tuner's own, are ignored.
    recipe: `recipes.Recipe` with the values that are not searched.
    num_categories: K2, if not searched.
    latent_dim: K1, if not searched.
  """
  values = {
      name: _SETTINGS[name].read(value) if isinstance(value, str) else value
      for name, value in values.items()
      if name in SPACE
  }
  num_categories = values.pop("num_categories", num_categories)
  latent_dim = values.pop("latent_dim", latent_dim)
  return dataclasses.replace(recipe, **values), int(num_categories), int(latent_dim)


# ---- keras-tuner's HyperModel ---------------------------------------------------------------


class IMAEHyperModel(keras_tuner.HyperModel):
  """A HyperModel for keras-tuner: it builds `IMAE` or another method and ranks it without labels.

      hypermodel = IMAEHyperModel(image_shape=(28, 28, 1))
      tuner = keras_tuner.RandomSearch(hypermodel, objective=tuning.objective(), max_trials=20)
      tuner.search(x, epochs=10, batch_size=250)
      model = hypermodel.build(tuner.get_best_hyperparameters()[0])

  Args:
    image_shape: (H, W, C).
    recipe: `recipes.Recipe` for the settings that are not searched; None for the method's tuned
      recipe on MNIST.
    search: as in `space`.
    num_categories: K2, if not searched.
    latent_dim: K1, if not searched.
    seed: seed of the noise; the initial weights follow `keras.utils.set_random_seed`.
    steps_per_epoch: number of steps after which a decaying learning rate is lowered.
    method: a key of `recipes.WEIGHTS`.
    **kwargs: arguments of `keras_tuner.HyperModel`.

  Raises:
    InputError: `search` cannot be read, or the method is unknown.
  """

  def __init__(
      self,
      image_shape: Sequence[int],
      recipe: recipes.Recipe | None = None,
      search: Sequence[str] = (),
      num_categories: int = 10,
      latent_dim: int = 10,
      seed: int = 0,
      steps_per_epoch: int = 1000,
      method: str = "imae",
      **kwargs: Any,
  ) -> None:
    super().__init__(**kwargs)
    self.image_shape = image_shape
    self.recipe = recipe or recipes.get("tuned", "mnist", method)
    self.space = space(search, method)
    self.method = method
    self.num_categories = num_categories
    self.latent_dim = latent_dim
    self.seed = seed
    self.steps_per_epoch = steps_per_epoch

  def build(self, hp: keras_tuner.HyperParameters) -> "HybridAutoencoder":
    """A compiled model with the weights of hp."""
    sizes = (self.num_categories, self.latent_dim)
    declare(hp, self.space, start_of(self.recipe, *sizes))
    recipe, num_categories, latent_dim = chosen(hp.values, self.recipe, *sizes)
    return recipes.build(
        recipe,
        self.image_shape,
        num_categories=num_categories,
        latent_dim=latent_dim,
        seed=self.seed,
        steps_per_epoch=self.steps_per_epoch,
        method=self.method,
    )

  def fit(
      self,
      hp: keras_tuner.HyperParameters,
      model: "HybridAutoencoder",
      x: np.ndarray | tf.data.Dataset,
      *args: Any,
      **kwargs: Any,
  ) -> dict[str, float]:
    """Fits the model, and returns the figures of `measure` on (up to 10,000 of) the images x.

    Arguments as in `keras_tuner.HyperModel.fit`.

    Raises:
      keras_tuner.errors.FailedTrialError: training diverged; keras-tuner books the trial as failed.
    """
    given = kwargs.pop("callbacks", None) or []
    try:
      model.fit(x, *args, callbacks=[*given, callbacks.StopOnNonFinite()], **kwargs)
    except DivergenceError as error:
      raise _diverged(str(error).partition(";")[0]) from None
    broken = [w.path for w in model.trainable_weights if not np.isfinite(w.numpy()).all()]
    if broken:  # by the last step, whose terms were those before it
      raise _diverged(f"expected finite weights, got NaN or infinity in {broken[0]}")
    return measure(model, _some_images(x))


def _diverged(what: str) -> keras_tuner.errors.FailedTrialError:
  return keras_tuner.errors.FailedTrialError(
      f"{what}; a lower learning rate or narrower ranges may help."
  )


def _some_images(x: Any) -> np.ndarray:
  """Up to _MOST_IMAGES images: spread evenly over an array, or the first of a data set."""
  if not isinstance(x, tf.data.Dataset):
    x = np.asarray(x)
    return x[np.linspace(0, len(x) - 1, min(len(x), _MOST_IMAGES)).astype(int)]
  batches, count = [], 0
  for batch in x:
    batches.append(np.asarray(batch[0] if isinstance(batch, tuple) else batch))
    count += len(batches[-1])
    if count >= _MOST_IMAGES:
      break
  return np.concatenate(batches)[:_MOST_IMAGES]


# ---- measuring a run without labels ---------------------------------------------------------


def measure(
    model: "HybridAutoencoder",
    x: np.ndarray,
    neighbors: np.ndarray | None = None,
    *,
    seed: int = 0,
) -> dict[str, float]:
  """The figures that rank and describe a run without labels, in inference, over the images x.

  Every figure is computed in the same way, whatever weights, radius or batch size a run was
  trained with. So runs can be compared by them, which the terms logged in training do not allow.

  Args:
    model: a `HybridAutoencoder`.
    x: [N, H, W, C] images in [0, 1], N >= 2.
    neighbors: [M, k] row numbers of the nearest other images of the first M images. The figures are
      those of these M images. None for `label_free.nearest_images(x)`.
    seed: seed of the posterior samples.

  Returns:
    {name: number}, in nats unless another unit is given:
    neighbor_mi_y: `label_free.neighbor_information`, which ranks runs.
    mi_y, entropy_y, conditional_entropy_y: I(x;y), H(y), H(y|x) over x.
    reconstruction: nats per image.
    mi_z, total_correlation: naive estimates over up to 2,000 of the images; mi_z is summed over
      dimensions (`imae_tf.metrics.dataset_information` says when not to trust them).
    used_categories, active_units: counts.

  Raises:
    DivergenceError: a figure is not finite.
  """
  neighbors = label_free.nearest_images(x) if neighbors is None else neighbors
  codes = model.encode(x)
  shared = label_free.neighbor_information(codes["y"].argmax(axis=1), neighbors)
  x, codes = x[: len(neighbors)], {name: part[: len(neighbors)] for name, part in codes.items()}
  found = measuring.without_labels(model, x, codes, most_compared=_MOST_CODES, seed=seed)
  found |= {name: found[name]["naive"] for name in ("mi_z", "total_correlation")}
  figures = {"neighbor_mi_y": shared, **{name: found[name] for name in _FIGURES}}
  broken = [name for name, value in figures.items() if not math.isfinite(value)]
  if broken:
    raise DivergenceError(
        f"expected finite figures, got {broken[0]} = {figures[broken[0]]} after the last step;"
        " lower the learning rate or the weights."
    )
  return figures

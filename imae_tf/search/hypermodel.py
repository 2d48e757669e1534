"""Search without labels: the weights, the figure that ranks runs, and keras-tuner's HyperModel."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

import keras_tuner
import numpy as np
import tensorflow as tf

from imae_tf import recipes
from imae_tf.errors import InputError
from imae_tf.metrics import label_free
from imae_tf.metrics import measuring

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

# The figure of `measure` that ranks runs best without labels (docs/searching.md).
OBJECTIVE = "neighbor_mi_y"

_MOST_IMAGES = 10_000
_MOST_CODES = 2_000  # the pairwise figures cost n^2, and rank runs as well on fewer
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


@dataclasses.dataclass(frozen=True)
class Range:
  """Numbers from low to high on a log scale; integers if `integer`."""

  low: float
  high: float
  integer: bool = False


@dataclasses.dataclass(frozen=True)
class Choice:
  """Some values; widths of layers are written "500-1000"."""

  values: tuple[str, ...]


_WIDTHS = Choice(("250-250", "500-500", "500-1000", "1200-1200"))
Space = dict[str, Range | Choice]
# What may be searched, and where.
SPACE: Space = {
    "beta": Range(0.5, 20.0),
    "gamma": Range(0.5, 20.0),
    "lam": Range(1.0, 50.0),
    "beta_y": Range(10.0, 300.0),
    "entropy_weight": Range(1.0, 8.0),
    "capacity_z": Range(1.0, 30.0),
    "temperature": Range(0.3, 1.5),
    "vat_radius": Range(0.2, 5.0),
    "neighbor_fraction": Range(0.1, 0.7),
    "learning_rate": Range(2e-4, 1e-2),
    "encoder_units": _WIDTHS,
    "decoder_units": _WIDTHS,
    "num_categories": Range(5, 30, integer=True),
    "latent_dim": Range(2, 32, integer=True),
}


def space(search: Sequence[str] = (), method: str = "imae") -> Space:
  """The part of `SPACE` that is searched: {name: Range or Choice}.

  Args:
    search: names of `SPACE`, each alone or with a part of its own: "beta=1:10",
      "encoder_units=500-500|1200-1200"; empty for `default_search(method)`.
    method: of `recipes.WEIGHTS`.

  Raises:
    InputError: an unknown name, one that the method does not have, or a part that cannot be
      read.
  """
  names = list(recipes.settings(recipes.PAPER, method)) + ["num_categories", "latent_dim"]
  names = [name for name in SPACE if name in names]
  found = {}
  for item in search or default_search(method):
    name, equals, part = item.partition("=")
    if name not in names:
      raise InputError(
          f"expected names among {', '.join(names)} to search for {method}, got {name!r}; correct"
          " it."
      )
    found[name] = _part(name, part) if equals else SPACE[name]
  return found


def default_search(method: str) -> list[str]:
  """The names of the weights of a method that are searched when nothing is said."""
  own = recipes.WEIGHTS[method]
  return [name for name in ("beta", "gamma", "capacity_z") if name in own] + ["lam"]


def _part(name, text):
  usual = SPACE[name]
  try:
    if isinstance(usual, Choice):
      for widths in text.split("|"):
        _units(widths)
      return Choice(tuple(text.split("|")))
    kind = int if usual.integer else float
    low, high = map(kind, text.split(":"))
    if not (1 if name == "num_categories" else 0) < low < high < math.inf:
      raise ValueError
  except ValueError:
    example = "500-500|1200-1200" if isinstance(usual, Choice) else f"{usual.low}:{usual.high}"
    raise InputError(
        f"expected {name}={example} or the like to search, got {text!r}; correct it."
    ) from None
  return Range(low, high, usual.integer)


def declare(hp: keras_tuner.HyperParameters, space: Space, start: dict[str, Any]) -> None:
  """Declares a space to keras-tuner.

  Args:
    hp: `keras_tuner.HyperParameters`.
    space: of `space`.
    start: {name: value}, which are the defaults where they lie in the space.
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
  """{name of `SPACE`: value} of a recipe, num_categories and latent_dim, to begin a search with."""
  settings = dataclasses.asdict(recipe)
  settings["beta_y"] = recipe.beta if recipe.beta_y is None else recipe.beta_y
  for name in ("encoder_units", "decoder_units"):
    settings[name] = "-".join(map(str, settings[name]))
  settings |= {"num_categories": num_categories, "latent_dim": latent_dim}
  return {name: settings[name] for name in SPACE}


def chosen(
    values: dict[str, Any], recipe: recipes.Recipe, num_categories: int, latent_dim: int
) -> tuple[recipes.Recipe, int, int]:
  """What a trial trains: (recipe, num_categories, latent_dim).

  Args:
    values: {name of `SPACE`: value}; other names, keras-tuner's own, are left out.
    recipe: `recipes.Recipe` with the values that are not searched.
    num_categories: K2, if not searched.
    latent_dim: K1, if not searched.
  """
  values = {name: value for name, value in values.items() if name in SPACE}
  num_categories = values.pop("num_categories", num_categories)
  latent_dim = values.pop("latent_dim", latent_dim)
  for name in ("encoder_units", "decoder_units"):
    if name in values:
      values[name] = _units(values[name])
  return dataclasses.replace(recipe, **values), int(num_categories), int(latent_dim)


def _units(text):
  widths = tuple(int(width) for width in text.split("-"))
  if min(widths) < 1:
    raise ValueError(text)
  return widths


# ---- keras-tuner's HyperModel ---------------------------------------------------------------


class IMAEHyperModel(keras_tuner.HyperModel):
  """`IMAE`, or a sibling, whose weights keras-tuner chooses, ranked without labels.

      hypermodel = IMAEHyperModel(image_shape=(28, 28, 1))
      tuner = keras_tuner.RandomSearch(hypermodel, objective=tuning.objective(), max_trials=20)
      tuner.search(x, epochs=10, batch_size=250)
      model = hypermodel.build(tuner.get_best_hyperparameters()[0])

  Args:
    image_shape: (H, W, C).
    recipe: `recipes.Recipe` with what is not searched; None for the method's on MNIST.
    search: as in `space`.
    num_categories: K2, if not searched.
    latent_dim: K1, if not searched.
    seed: of the noise; first weights follow `keras.utils.set_random_seed`.
    steps_per_epoch: steps after which a learning rate that decays is lowered.
    method: of `recipes.WEIGHTS`.
    **kwargs: `keras_tuner.HyperModel`'s.

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
      **kwargs,
  ):
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

  def fit(self, hp, model, x, *args, **kwargs) -> dict[str, float]:
    """Fits the model, and returns what `measure` finds on (up to 10,000 of) the images x.

    Arguments as in `keras_tuner.HyperModel.fit`.
    """
    model.fit(x, *args, **kwargs)
    return measure(model, _some_images(x))


def _some_images(x: Any) -> np.ndarray:
  """Up to _MOST_IMAGES images: of an array evenly spread ones, of a data set the first."""
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


# ---- what is seen of a run without labels ---------------------------------------------------


def measure(
    model: "HybridAutoencoder",
    x: np.ndarray,
    neighbors: np.ndarray | None = None,
    *,
    seed: int = 0,
) -> dict[str, float]:
  """All that ranks and describes a run without labels, in inference, over the images x.

  Every figure is taken in the same way whatever weights, radius or batch size a run was
  trained with, so that runs can be compared; the terms logged in training cannot.

  Args:
    model: a `HybridAutoencoder`.
    x: [N, H, W, C] images in [0, 1], N >= 2.
    neighbors: [M, k] rows of the nearest others of the first M images, which are those that
      are measured; None for `label_free.nearest_images(x)`.
    seed: of the posterior samples.

  Returns:
    {name: number}, in nats where nothing else is said:
    neighbor_mi_y: `label_free.neighbor_information`, which ranks runs.
    mi_y, entropy_y, conditional_entropy_y: I(x;y), H(y), H(y|x) over x.
    reconstruction: nats per image.
    mi_z, total_correlation: naive, over up to 2,000 of the images, the first summed over
      dimensions (`imae_tf.metrics.dataset_information` says when not to trust them).
    used_categories, active_units: counts.
  """
  neighbors = label_free.nearest_images(x) if neighbors is None else neighbors
  codes = model.encode(x)
  shared = label_free.neighbor_information(codes["y"].argmax(axis=1), neighbors)
  x, codes = x[: len(neighbors)], {name: part[: len(neighbors)] for name, part in codes.items()}
  found = measuring.without_labels(model, x, codes, most_compared=_MOST_CODES, seed=seed)
  found |= {name: found[name]["naive"] for name in ("mi_z", "total_correlation")}
  return {"neighbor_mi_y": shared, **{name: found[name] for name in _FIGURES}}

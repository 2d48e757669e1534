"""One training step, described without any library: sizes, weights, first parameters.

The baselines in `plain_tf.py` and `pytorch.py` are made from a `Problem`; so is the list of
matrix products in `matmuls.py`.
"""

import dataclasses
import itertools
from typing import Any
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder
  from imae_tf.recipes import Recipe

BATCH_NORM_EPSILON = 1e-3  # Keras's
BATCH_NORM_DECAY = 0.9
MAX_LOG_SCALE = 3.0
ADAM = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7}  # Keras's


@dataclasses.dataclass(frozen=True)
class Problem:
  """What decides a step of the tuned objective; see `recipes.Recipe` for the weights.

  Attributes:
    pixels: D, values of an image.
    bfloat16: whether the networks compute in bfloat16, with parameters, statistics,
      posterior and objective in float32.
  """

  pixels: int
  encoder_units: tuple[int, ...]
  decoder_units: tuple[int, ...]
  num_categories: int
  latent_dim: int
  batch_size: int
  beta: float
  gamma: float
  lam: float
  beta_y: float
  entropy_weight: float
  temperature: float
  neighbor_fraction: float
  vat_xi: float
  learning_rate: float
  weight_scale: float
  bfloat16: bool = False

  @property
  def layers(self) -> dict[str, Any]:
    """(fan-in, fan-out) of every dense layer: {"encoder": [...], "z", "y", "decoder": [...]}."""
    encoder = (self.pixels, *self.encoder_units)
    decoder = (self.num_categories + self.latent_dim, *self.decoder_units, self.pixels)
    return {
        "encoder": list(itertools.pairwise(encoder)),
        "z": (encoder[-1], 2 * self.latent_dim),
        "y": (encoder[-1], self.num_categories),
        "decoder": list(itertools.pairwise(decoder)),
    }


def from_recipe(
    recipe: "Recipe",
    pixels: int,
    *,
    num_categories: int = 10,
    latent_dim: int = 10,
    bfloat16: bool = False,
) -> Problem:
  """The `Problem` of a tuned recipe.

  Raises:
    ValueError: a recipe that the baselines do not implement.
  """
  implemented = {
      "network": "mlp",
      "likelihood": "bernoulli",
      "detach_y": True,
      "vat_radius": "neighbor",
      "optimizer": "adam",
      "learning_rate_decay": 1.0,
  }
  for name, value in implemented.items():
    if getattr(recipe, name) != value:
      raise ValueError(f"The baselines have {name}={value!r}, not {getattr(recipe, name)!r}.")
  names = {field.name for field in dataclasses.fields(Problem)}
  shared = {k: v for k, v in dataclasses.asdict(recipe).items() if k in names}
  return Problem(
      pixels=pixels,
      num_categories=num_categories,
      latent_dim=latent_dim,
      bfloat16=bfloat16,
      **shared,
  )


def first_parameters(problem: Problem, seed: int = 0) -> list[np.ndarray]:
  """Float32 arrays in the order of `parameters_of`, drawn as the recipe draws them."""
  rng = np.random.default_rng(seed)

  def kernel(fan_in: int, fan_out: int, scale: float) -> np.ndarray:
    return (scale / np.sqrt(fan_in) * rng.standard_normal((fan_in, fan_out))).astype("float32")

  layers, arrays = problem.layers, []
  for fan_in, fan_out in layers["encoder"]:
    arrays += [kernel(fan_in, fan_out, problem.weight_scale)]
    arrays += [np.ones(fan_out, "float32"), np.zeros(fan_out, "float32")]
  for fan_in, fan_out in [layers["z"], layers["y"], *layers["decoder"]]:
    arrays += [kernel(fan_in, fan_out, 1.0), np.zeros(fan_out, "float32")]
  return arrays


def parameters_of(model: "HybridAutoencoder") -> list[np.ndarray]:
  """The trainable arrays of an `imae_tf` model: encoder, z, y, decoder.

  A layer of the encoder has (kernel, gamma, beta), any other (kernel, bias); kernels are
  [fan-in, fan-out].
  """
  head = model.head
  parts = (model.encoder, head.z_dense, head.y_dense, model.decoder)
  return [v.numpy() for part in parts for v in part.trainable_variables]


def images(problem: Problem, batches: int, seed: int = 0) -> np.ndarray:
  """Random sparse images like strokes, float32 [batches, B, pixels] in [0, 1]."""
  rng = np.random.default_rng(seed)
  shape = (batches, problem.batch_size, problem.pixels)
  return np.maximum(rng.uniform(-4.0, 1.0, shape), 0.0).astype("float32")

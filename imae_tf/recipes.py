"""The settings of a run: the paper's, and the ones that work, each with its reason.

`Recipe()` is the paper's (Table 1, figure 4; where the paper is silent, or its damaged text has
two readings, the comment says "open"), but for VAT's target, whose gradient is stopped. A tuned
recipe is the paper's with departures, one per line.
"""

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

from imae_tf.errors import InputError

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

# The ids of the methods, and the weights that each has beside `lam`, VAT's.
WEIGHTS: dict[str, tuple[str, ...]] = {
    "imae": ("beta", "gamma", "beta_y", "entropy_weight"),
    "vae": (),
    "betavae": ("beta",),
    "infovae": ("beta", "alpha"),
    "jointvae": ("beta", "capacity_y", "capacity_z", "capacity_steps"),
    "betatcvae": ("beta",),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
  """All that decides a run besides the data, K1, K2 and the seed."""

  # Networks (`networks.py`)
  network: str = "mlp"
  encoder_units: tuple[int, ...] = (500, 1000)  # "2 x 500", read as 1000 units (open)
  decoder_units: tuple[int, ...] = (500, 500)
  weight_scale: float | None = None  # None: Glorot weights (open)
  logits_stddev: float | None = None  # of the first weights of p(y|x); None: Glorot
  # Objective: eq (11) and (12), and the weights of the methods compared (`methods.py`)
  likelihood: str = "bernoulli"
  beta: float = 5.0
  gamma: float = 2.0
  lam: float = 5.0  # open: VAT's weight may stand outside beta (experiment 62)
  beta_y: float | None = None  # None: beta
  entropy_weight: float = 1.0
  alpha: float = 1.0
  capacity_y: float = 5.0  # JointVAE's for MNIST, as the one below
  capacity_z: float = 5.0
  # A quarter of these epochs of MNIST, as JointVAE's 25,000 of its 94,000.
  capacity_steps: int = 1_250
  detach_y: bool = False
  temperature: float = 0.67  # open; JointVAE's
  vat_radius: float | str = 1.0
  neighbor_fraction: float = 0.2  # for vat_radius "neighbor" alone
  vat_xi: float = 5.0  # open
  vat_detach: bool = True  # eq (12) to the letter, False, collapses
  marginals: str = "batch"  # open: the paper's text says different batches
  # Optimisation
  optimizer: str = "sgd"
  momentum: float = 0.9  # open
  learning_rate: float = 1e-3
  learning_rate_decay: float = 0.98  # factor per epoch
  batch_size: int = 128  # open
  epochs: int = 10  # open; a run of IMAE of 50 keeps its categories (experiments 9 and 54)
  precision: str = "float32"  # Keras's dtype policy while training
  # Starts with different seeds, of which the best without labels goes on
  restarts: int = 1
  restart_epochs: int = 0
  restart_score: str = "neighbors"  # or "agreement", with the other starts (`metrics`)


PAPER = Recipe()

# Weights as in IMSAT (Hu et al. 2017), whose discrete objective eq (12) is: there the VAT
# term weighs 1, H(y|x) 0.1 and H(y) 0.4. Labels helped to choose: accuracy on training images
# (docs/experiments.md).
_MNIST = dataclasses.replace(
    PAPER,
    weight_scale=0.1,  # small first weights: batch normalisation makes the first steps large
    logits_stddev=3e-6,  # p(y|x) starts uniform, so no category is chosen by chance
    gamma=3.0,  # sum I(x;z_k) of 8 nats, not 6, at the cost of dependence (experiments 56, 60)
    beta_y=100.0,  # the y terms must outweigh the reconstruction in the shared trunk
    lam=10.0,  # smooth categories form before confident ones
    entropy_weight=4.0,  # counted once, categories merge
    # Against categories by style, and for dense regions that need a smaller ball: kept from
    # early runs; one run each shows no difference without (experiments 44, 63).
    detach_y=True,
    vat_radius="neighbor",
    vat_xi=10.0,  # IMSAT's
    optimizer="adam",  # IMSAT's
    learning_rate=2e-3,
    learning_rate_decay=1.0,  # the plateau near 0.90 is left late, and sooner at full rate
    batch_size=250,  # the marginals are averages over it
    epochs=30,
)

_CONV = dataclasses.replace(_MNIST, network="conv", weight_scale=None)

TUNED = {
    "mnist": _MNIST,
    "fashion_mnist": dataclasses.replace(
        _MNIST,
        # Of a search without labels (results/search_fashion_mnist.json). Between the y terms of
        # its trials 01, taken, and 14, labels of held-out training images decided: the search's
        # figure says 14, by 0.007 nats, whose accuracy is lower by 0.06 (experiment 48).
        lam=1.5,
        beta_y=60.0,
        entropy_weight=2.5,
        neighbor_fraction=0.3,
        beta=3.0,  # looser than on MNIST: more of these images is texture that z must carry
        restarts=6,  # the first epochs decide which classes part, and two starts in five do well
        restart_epochs=6,  # what a start is like then it stays (experiment 51)
        restart_score="agreement",  # neighbours do not tell these starts apart (experiment 52)
    ),
    "digits": dataclasses.replace(
        _MNIST,
        encoder_units=(500, 500),  # 64 pixels need no more, and an epoch takes 0.2 s
        # No label helped with these six: of the five best of 30 trials of a search, which are
        # alike, those of the least total correlation (results/search_digits.json, experiments
        # 33, 34).
        beta=0.57,
        gamma=0.76,
        lam=8.0,
        beta_y=16.0,
        entropy_weight=2.8,
        neighbor_fraction=0.47,
        batch_size=128,  # 11 steps per epoch
        epochs=60,
        vat_xi=5.0,  # 10 is longer than most of these images
        restarts=6,  # six starts in ten confuse two digits (experiment 12)
        restart_epochs=60,  # at 25 they cannot be told yet (experiment 32)
    ),
    # Not searched; convolutions for images of 64x64 pixels. Shapes of two values have dense
    # layers, which train faster on a CPU (experiment 59) and find no shapes (66).
    **dict.fromkeys(("celeb_a", "dsprites", "shapes3d"), _CONV),
    "shapes": _MNIST,
}


# What the siblings take of a data set's recipe: all but the weights, and but `detach_y`, which
# is a departure from IMAE's objective. Their weights are those that a search without labels has
# found (results/search_DATASET_METHOD.json), where there was none the paper's.
_UNSEARCHED = {"beta": PAPER.beta, "lam": PAPER.lam, "detach_y": PAPER.detach_y}
_TWELVE_EPOCHS = 720  # steps: a quarter of twelve epochs of 60,000 images
SIBLINGS: dict[tuple[str, str], dict[str, Any]] = {
    ("mnist", "vae"): {"lam": 17.2},
    ("mnist", "betavae"): {"beta": 0.758, "lam": 7.78},
    ("mnist", "infovae"): {"beta": 2.1, "lam": 1.0},
    ("mnist", "jointvae"): {
        "beta": 1.06, "capacity_z": 20.6, "capacity_steps": _TWELVE_EPOCHS, "lam": 2.9,
    },
    ("mnist", "betatcvae"): {"beta": 4.35, "lam": 17.2},
    ("fashion_mnist", "vae"): {"lam": 27.5},
    ("fashion_mnist", "betavae"): {"beta": 4.35, "lam": 17.2},
    ("fashion_mnist", "infovae"): {"beta": 1.36, "lam": 1.72},
    ("fashion_mnist", "jointvae"): {
        "beta": 0.835, "capacity_z": 5.83, "capacity_steps": _TWELVE_EPOCHS, "lam": 1.46,
    },
    ("fashion_mnist", "betatcvae"): {"beta": 1.06, "lam": 32.5},
    ("digits", "jointvae"): {"capacity_steps": 165},  # a quarter of its epochs
}


def get(name: str, dataset: str, method: str = "imae") -> Recipe:
  """The recipe `paper` or `tuned` for a data set and a method.

  Args:
    name: "paper" or "tuned".
    dataset: data set name; one without a tuned recipe of its own gets MNIST's.
    method: of `WEIGHTS`.

  Returns:
    `Recipe`; weights that the method does not have are the paper's.

  Raises:
    InputError: an unknown name or method.
  """
  if method not in WEIGHTS:
    raise InputError(f"expected a method among {', '.join(WEIGHTS)}, got {method!r}; correct it.")
  if name == "paper":
    return PAPER
  if name != "tuned":
    raise InputError(f"expected the recipe 'paper' or 'tuned', got {name!r}; correct it.")
  dataset = dataset.partition(":")[0]  # of mnist:3.0.1, mnist's
  known = dataset if dataset in TUNED else "mnist"
  recipe = TUNED[known]
  if method == "imae":
    return recipe
  others = {w: getattr(PAPER, w) for w in WEIGHTS["imae"] if w != "beta"}
  own = SIBLINGS.get((known, method), {})
  return dataclasses.replace(recipe, **{**others, **_UNSEARCHED, **own})


def settings(recipe: Recipe, method: str) -> dict[str, Any]:
  """The fields of a recipe that count for a method, {name: value}."""
  foreign = {weight for weights in WEIGHTS.values() for weight in weights}
  foreign -= set(WEIGHTS[method])
  return {k: v for k, v in dataclasses.asdict(recipe).items() if k not in foreign}


def with_change(recipe: Recipe, method: str, change: str) -> Recipe:
  """A recipe with one setting changed, from text.

  Args:
    recipe: what is changed.
    method: of `WEIGHTS`.
    change: "lam=0", "vat_radius=neighbor".

  Raises:
    InputError: no setting of the method, or a value that cannot be read.
  """
  name, _, text = change.partition("=")
  if name not in settings(recipe, method):
    raise InputError(
        f"expected a setting of {method} such as lam=0, got {change!r}; correct it: the"
        f" settings are {', '.join(settings(recipe, method))}."
    )
  try:
    value = _READERS[_FIELDS[name]](text)
  except (ValueError, KeyError):
    raise InputError(
        f"expected {name} as {_FIELDS[name]}, got {text!r}; correct it."
    ) from None
  return dataclasses.replace(recipe, **{name: value})


_FIELDS = {
    field.name: field.type.__name__ if isinstance(field.type, type) else str(field.type)
    for field in dataclasses.fields(Recipe)
}
_READERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "str": str,
    "bool": {"true": True, "false": False}.__getitem__,
    "float": float,
    "float | None": float,
    "float | str": lambda text: text if text == "neighbor" else float(text),
    "tuple[int, ...]": lambda text: tuple(int(width) for width in text.split("-")),
}


def build(
    recipe: Recipe,
    image_shape: Sequence[int],
    *,
    num_categories: int,
    latent_dim: int,
    seed: int,
    steps_per_epoch: int,
    method: str = "imae",
) -> "HybridAutoencoder":
  """A compiled model from a recipe.

  Args:
    recipe: `Recipe`.
    image_shape: (H, W, C).
    num_categories: K2.
    latent_dim: K1.
    seed: of the noise; first weights follow `keras.utils.set_random_seed`.
    steps_per_epoch: the learning rate decays once in so many steps.
    method: of `WEIGHTS`.

  Returns:
    A compiled model, whose layers compute in `recipe.precision`.
  """
  import keras

  policy = keras.config.dtype_policy()
  keras.config.set_dtype_policy(recipe.precision)
  try:
    model = _model(recipe, method, image_shape, num_categories, latent_dim, seed)
  finally:
    keras.config.set_dtype_policy(policy)
  model.compile(optimizer=_optimizer(recipe, steps_per_epoch))
  return model


def _model(recipe, method, image_shape, num_categories, latent_dim, seed):
  import keras

  from imae_tf import methods
  from imae_tf import networks

  sizes = {"num_categories": num_categories, "latent_dim": latent_dim}
  if recipe.network == "conv":
    encoder, decoder = networks.conv(image_shape, **sizes)
  else:
    encoder, decoder = networks.mlp(
        image_shape,
        encoder_units=recipe.encoder_units,
        decoder_units=recipe.decoder_units,
        weight_scale=recipe.weight_scale,
        **sizes,
    )
  return methods.METHODS[method](
      encoder,
      decoder,
      **{weight: getattr(recipe, weight) for weight in WEIGHTS[method]},
      lam=recipe.lam,
      likelihood=recipe.likelihood,
      temperature=recipe.temperature,
      detach_y=recipe.detach_y,
      vat_radius=recipe.vat_radius,
      neighbor_fraction=recipe.neighbor_fraction,
      vat_xi=recipe.vat_xi,
      vat_detach=recipe.vat_detach,
      marginals=recipe.marginals,
      logits_initializer=(
          "glorot_uniform"
          if recipe.logits_stddev is None
          else keras.initializers.RandomNormal(stddev=recipe.logits_stddev)
      ),
      seed=seed,
      **sizes,
  )


def _optimizer(recipe, steps_per_epoch):
  import keras

  from imae_tf import optimizers

  rate = keras.optimizers.schedules.ExponentialDecay(
      recipe.learning_rate, steps_per_epoch, recipe.learning_rate_decay, staircase=True
  )
  if recipe.optimizer == "adam":
    return optimizers.Adam(rate)
  if recipe.optimizer == "sgd":
    return keras.optimizers.SGD(rate, momentum=recipe.momentum)
  raise InputError(
      f"expected the optimizer 'adam' or 'sgd', got {recipe.optimizer!r}; correct it."
  )

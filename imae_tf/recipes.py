"""The settings of a run: the paper's, and tuned ones that work, each with its reason.

`Recipe()` has the paper's settings (Table 1, figure 4), except that VAT's target gets no gradient.
Where the paper is silent, or its damaged text has two readings, a comment says "open". A tuned
recipe changes some of these settings, one per line. `get` finds a recipe, and `build` makes a
compiled model of it; the programs and `training` call both.
"""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

from imae_tf._shared.method_table import METHODS
from imae_tf._shared.setting import Choice
from imae_tf._shared.setting import Range
from imae_tf._shared.setting import Setting
from imae_tf._shared.setting import setting
from imae_tf._shared.setting import settings_of
from imae_tf.errors import InputError

if TYPE_CHECKING:
  import keras

  from imae_tf.models import HybridAutoencoder

# The ids of the methods, each with the weights that it has beside `lam`, the weight of VAT.
WEIGHTS: dict[str, tuple[str, ...]] = {
    method: known.weights for method, known in METHODS.items()
}

_WIDTHS = Choice(("250-250", "500-500", "500-1000", "1200-1200"))


@dataclasses.dataclass(frozen=True)
class Recipe:
  """All settings of a run except the data, K1, K2 and the seed.

  To add a setting, write a field here and use it: flags, the space of a search and the site are
  made from the fields. If the model has an argument with the name of a field, it gets the value.
  """

  # Networks (`networks.py`)
  network: str = setting(
      "mlp", "Networks: mlp, fully connected as in the paper's Table 1, or conv, convolutions for"
      " images whose sides are multiples of 16.", choices=("mlp", "conv"),
  )
  encoder_units: tuple[int, ...] = setting(  # "2 x 500", read as 1000 units (open)
      (500, 1000), "Widths of the layers of the mlp encoder, in units.", search=_WIDTHS
  )
  decoder_units: tuple[int, ...] = setting(
      (500, 500), "Widths of the hidden layers of the mlp decoder, in units.", search=_WIDTHS
  )
  weight_scale: float | None = setting(  # None: Glorot weights (open)
      None, "Initial weights of the mlp encoder: normal, with a standard deviation of this number"
      " over the square root of a layer's inputs; none for Glorot weights.", above=0,
  )
  logits_stddev: float | None = setting(  # None: Glorot
      None, "Standard deviation of the initial weights of the layer that gives p(y|x). With a small"
      " one no category is chosen by chance; none for Glorot weights.", low=0,
  )
  # Objective: eq (11) and (12), and the weights of the methods compared (`methods.py`)
  likelihood: str = setting(
      "bernoulli", "How an image is scored given its reconstruction: bernoulli, for pixels in"
      " [0, 1], or gaussian, of unit variance.", choices=("bernoulli", "gaussian"),
  )
  beta: float = setting(
      5.0, "Weight of the divergence of the code from its prior. For imae: weight of L(z), which"
      " pulls z to its prior, and of L_D(y) unless --beta_y is given.",
      low=0, search=Range(0.5, 20.0), searched=True,
  )
  gamma: float = setting(
      2.0, "Weight of the total correlation TC(y,z), the dependence of category and factors.",
      low=0, search=Range(0.5, 20.0), searched=True,
  )
  lam: float = setting(  # open: VAT's weight may stand outside beta (experiment 62)
      5.0, "Weight of virtual adversarial training (VAT), which keeps the category when the image"
      " is perturbed. It is multiplied by the weight of L_D(y) for imae, and by beta for betavae,"
      " infovae and jointvae. 0 leaves VAT out.",
      low=0, search=Range(1.0, 50.0), searched=True,
  )
  beta_y: float | None = setting(  # None: beta
      None, "Weight of L_D(y), which forms the categories; none for the value of beta.", low=0,
      search=Range(10.0, 300.0),
  )
  entropy_weight: float = setting(
      1.0, "Weight in L_D(y) of H(y), which rewards an even use of the categories; 1 is the paper's"
      " eq (7).", low=0, search=Range(1.0, 8.0),
  )
  alpha: float = setting(
      1.0, "The information I(x;y) + I(x;z) is penalised with the weight 1 - alpha; 1 for no"
      " penalty.",
      low=0, high=1,
  )
  capacity_y: float = setting(  # JointVAE's value for MNIST, like capacity_z
      5.0, "Capacity of the category at the end of its rise, in nats: the divergence from the prior"
      " that training aims at.", low=0
  )
  capacity_z: float = setting(
      5.0, "Capacity of the continuous factors at the end of its rise, in nats: the divergence from"
      " the prior that training aims at.", low=0, search=Range(1.0, 30.0), searched=True,
  )
  # A quarter of the steps of ten epochs of MNIST; JointVAE takes 25,000 of its 94,000 steps.
  capacity_steps: int = setting(
      1_250, "Optimizer steps over which both capacities rise from 0.", low=1
  )
  detach_y: bool = setting(
      False, "Stop the gradient of the reconstruction at the category, so that L_D(y) alone"
      " forms the categories.",
  )
  temperature: float = setting(  # open; JointVAE's value
      0.67, "Temperature at which a category is drawn in training: at a low temperature a draw is"
      " close to a single category.", above=0, search=Range(0.3, 1.5),
  )
  vat_radius: float | str = setting(
      1.0, "Euclidean length of VAT's perturbation of an image, in pixel values from 0 to 1;"
      " neighbor for a part of the distance to the nearest image, see --neighbor_fraction.",
      above=0, choices=("neighbor",), search=Range(0.2, 5.0),
  )
  neighbor_fraction: float = setting(
      0.2, "Length of VAT's perturbation as a part of the distance to the nearest image of the"
      " batch; for --vat_radius=neighbor alone.", above=0, search=Range(0.1, 0.7),
  )
  vat_xi: float = setting(  # open
      5.0, "Length of the step, in pixel values, that finds the direction of VAT's perturbation.",
      above=0,
  )
  vat_detach: bool = setting(  # eq (12) to the letter, False, collapses
      True, "Stop VAT's gradient at its target p(y|x). If it is off, VAT is eq (12) to the letter:"
      " an experiment, in which all images end in one category.",
  )
  marginals: str = setting(  # open: the paper's text says different batches
      "batch", "Images over which the marginals p(y) and p(z) of an image are averaged: batch takes"
      " all images of its batch. The others are experiments, which collapse in training:"
      " leave_one_out leaves out the image itself, second_batch takes the other half of the batch.",
      choices=("batch", "leave_one_out", "second_batch"),
  )
  # Optimisation
  optimizer: str = setting("sgd", "Optimizer: sgd, with momentum, or adam.",
                           choices=("sgd", "adam"))
  momentum: float = setting(  # open
      0.9, "Momentum of the optimizer sgd: the part of the last step that is added to the next"
      " one.", low=0, high=1,
  )
  learning_rate: float = setting(
      1e-3, "Learning rate of the first epoch.", low=0, search=Range(2e-4, 1e-2)
  )
  learning_rate_decay: float = setting(
      0.98, "Factor by which the learning rate changes after each epoch; 1 keeps it.", low=0
  )
  batch_size: int = setting(  # open
      128, "Number of images in a training step, over all replicas; the marginals are averages over"
      " these images.",
      low=2,
  )
  epochs: int = setting(  # open; IMAE keeps its categories for 50 epochs (experiments 9 and 54)
      10, "Number of passes over the training images, in all; you may raise it for an existing"
      " run.", low=1,
  )
  precision: str = setting(  # Keras's dtype policy; in float16 VAT's first gradients underflow
      "float32", "Number format of the layers in training; newer GPUs are faster with bfloat16."
      " The trained model computes in float32.", choices=("float32", "mixed_bfloat16"),
  )
  # Starts with different seeds; the best one, chosen without labels, goes on
  restarts: int = setting(
      1, "Number of short starts with different seeds. The best one, chosen without labels, goes"
      " on.", low=1,
  )
  restart_epochs: int = setting(
      0, "Number of epochs of each short start, if there are several.", low=0
  )
  restart_score: str = setting(  # `metrics`
      "neighbors", "How the best start is chosen: neighbors, by the information that near images"
      " share about y; agreement, by how well its categories agree with those of the other starts.",
      choices=("neighbors", "agreement"),
  )


SETTINGS: dict[str, Setting] = settings_of(Recipe)
# The sizes of the code, K2 and K1, which belong to a run and not to its recipe.
SIZES: dict[str, Setting] = {
    "num_categories": Setting(
        int, 10, "Number of categories K2, the values that y can take.", low=2,
        search=Range(5, 30, integer=True),
    ),
    "latent_dim": Setting(
        int, 10, "Number of continuous factors K1, the dimensions of z.", low=1,
        search=Range(2, 32, integer=True),
    ),
}

PAPER = Recipe()

# The weights follow IMSAT (Hu et al. 2017), because eq (12) is its discrete objective: there the
# VAT term weighs 1, H(y|x) 0.1 and H(y) 0.4. Labels helped to choose them, through the accuracy on
# training images (docs/experiments.md).
_MNIST = dataclasses.replace(
    PAPER,
    weight_scale=0.1,  # small first weights: batch normalisation makes the first steps large
    logits_stddev=3e-6,  # p(y|x) starts uniform, so no category is chosen by chance
    gamma=3.0,  # sum I(x;z_k) of 8 nats, not 6, at the cost of dependence (experiments 56, 60)
    beta_y=100.0,  # the y terms must outweigh the reconstruction in the shared trunk
    lam=10.0,  # smooth categories form before confident ones
    entropy_weight=4.0,  # counted once, categories merge
    # `detach_y` is against categories by style; "neighbor" gives dense regions a smaller radius.
    # Both are kept from early runs; one run without each shows no difference (experiments 44, 63).
    detach_y=True,
    vat_radius="neighbor",
    vat_xi=10.0,  # IMSAT's value
    optimizer="adam",  # IMSAT's choice
    learning_rate=2e-3,
    learning_rate_decay=1.0,  # runs leave the plateau near 0.90 late, and sooner at the full rate
    batch_size=250,  # the marginals are averages over it
    epochs=30,
)

_CONV = dataclasses.replace(_MNIST, network="conv", weight_scale=None)

TUNED = {
    "mnist": _MNIST,
    "fashion_mnist": dataclasses.replace(
        _MNIST,
        # From a search without labels (results/search_fashion_mnist.json). Labels of held-out
        # training images decided for the y terms of trial 01 and against those of trial 14: the
        # search's figure prefers 14 by 0.007 nats, but the accuracy of 14 is lower by 0.06
        # (experiment 48).
        lam=1.5,
        beta_y=60.0,
        entropy_weight=2.5,
        neighbor_fraction=0.3,
        beta=3.0,  # looser than on MNIST: more of these images is texture that z must carry
        restarts=6,  # the first epochs decide which classes part, and two starts in five do well
        restart_epochs=6,  # good and bad starts differ by then, and stay so (experiment 51)
        restart_score="agreement",  # "neighbors" does not tell these starts apart (experiment 52)
    ),
    "digits": dataclasses.replace(
        _MNIST,
        encoder_units=(500, 500),  # 64 pixels need no more, and an epoch takes 0.2 s
        # No label helped to choose these six. The five best of 30 trials of a search are alike;
        # these are the settings of the one with the least total correlation
        # (results/search_digits.json, experiments 33, 34).
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
        restart_epochs=60,  # after 25 epochs the good starts cannot be told yet (experiment 32)
    ),
    # These were not searched. Images of 64x64 pixels get convolutions. `shapes`, whose pixels have
    # two values, gets dense layers, which train faster on a CPU (experiment 59) and find no shapes
    # (66).
    **dict.fromkeys(("celeb_a", "dsprites", "shapes3d"), _CONV),
    "shapes": _MNIST,
}


# The other methods take over a data set's recipe without the weights and without `detach_y`,
# because that is a departure from IMAE's objective. Their weights come from a search without labels
# (results/search_DATASET_METHOD.json), or from the paper if there was no search.
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
    method: a key of `WEIGHTS`.

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
    recipe: the recipe before the change.
    method: a key of `WEIGHTS`.
    change: text such as "lam=0" or "vat_radius=neighbor".

  Raises:
    InputError: the method has no such setting, or the value cannot be read.
  """
  name, _, text = change.partition("=")
  if name not in settings(recipe, method):
    raise InputError(
        f"expected a setting of {method} such as lam=0, got {change!r}; correct it: the"
        f" settings are {', '.join(settings(recipe, method))}."
    )
  try:
    value = SETTINGS[name].read(text)
  except ValueError as error:
    what = str(error).removeprefix("expected ")
    raise InputError(f"expected {name} as {what}; correct it.") from None
  return dataclasses.replace(recipe, **{name: value})


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
    seed: seed of the noise; the initial weights follow `keras.utils.set_random_seed`.
    steps_per_epoch: the learning rate decays once in so many steps.
    method: a key of `WEIGHTS`.

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


def _model(
    recipe: Recipe,
    method: str,
    image_shape: Sequence[int],
    num_categories: int,
    latent_dim: int,
    seed: int,
) -> "HybridAutoencoder":
  import keras

  from imae_tf import methods
  from imae_tf import networks
  from imae_tf.models import HybridAutoencoder

  sizes: dict[str, Any] = {"num_categories": num_categories, "latent_dim": latent_dim}
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
  names = {*inspect.signature(HybridAutoencoder.__init__).parameters, *WEIGHTS[method]}
  return methods.METHODS[method](
      encoder,
      decoder,
      **{name: getattr(recipe, name) for name in SETTINGS if name in names},
      logits_initializer=(
          "glorot_uniform"
          if recipe.logits_stddev is None
          else keras.initializers.RandomNormal(stddev=recipe.logits_stddev)
      ),
      seed=seed,
      **sizes,
  )


def _optimizer(recipe: Recipe, steps_per_epoch: int) -> "keras.optimizers.Optimizer":
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

"""The settings of a run: their defaults are the paper's, each with its help and bounds.

`Recipe()` has the paper's settings (Table 1, figure 4), except that VAT's target gets no gradient.
Where the paper is silent, or its damaged text has two readings, a comment says "open".
"""

import dataclasses
from typing import Any

from imae_tf._shared.method_table import METHODS
from imae_tf._shared.setting import Choice
from imae_tf._shared.setting import Range
from imae_tf._shared.setting import Setting
from imae_tf._shared.setting import setting
from imae_tf._shared.setting import settings_of
from imae_tf.errors import InputError

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

  # Networks (`networks`)
  network: str = setting(
      "mlp", "Networks: mlp, fully connected as in the paper's Table 1; conv, convolutions for"
      " images whose sides are multiples of 16; or towers, mlp with layers of their own for the"
      " categories, which see a view of the image.", choices=("mlp", "conv", "towers"),
  )
  view: str = setting(
      "edges", "What the categories' layers see of an image, for --network=towers: pixels; edges,"
      " the energy of edges in eight directions and 8x8 cells; or signed_edges, which tells dark"
      " on light from light on dark, for grey images.",
      choices=("pixels", "edges", "signed_edges"),
  )
  y_units: tuple[int, ...] = setting(
      (512, 1024), "Widths of the categories' layers, in units, for --network=towers.",
      search=_WIDTHS,
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
  vat_xi: float | str = setting(  # open
      5.0, "Length of the step, in pixel values, that finds the direction of VAT's perturbation;"
      " neighbor for the distance to the nearest image of the batch.",
      above=0, choices=("neighbor",),
  )
  vat_detach: bool = setting(  # eq (12) to the letter, False, collapses
      True, "Stop VAT's gradient at its target p(y|x). If it is off, VAT is eq (12) to the letter:"
      " an experiment, in which all images end in one category.",
  )
  # Departures from eq (12), for images that nobody tuned for
  consistency: float = setting(
      0.0, "Weight of the cross-entropy between the category of an image and that of the image"
      " turned, scaled, sheared and shifted a little; 0 leaves it out.",
      low=0, search=Range(1.0, 20.0),
  )
  transform_size: float = setting(
      1.0, "Size of the changes of --consistency: at 1, up to 0.2 radians, 15% of scale and shear,"
      " 6% of shift and some contrast.", above=0, search=Range(0.3, 3.0),
  )
  ease_smoothing: bool = setting(
      False, "Weaken VAT and --consistency for as long as the categories stay undecided, so that"
      " images without stable categories do not lose all information.",
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
  # Starts with different seeds, chosen among without labels (`training.starts`)
  restarts: int = setting(
      1, "Number of short starts with different seeds. The best one, chosen without labels, goes"
      " on.", low=1,
  )
  restart_epochs: int = setting(
      0, "Number of epochs of each short start, if there are several.", low=0
  )
  restart_score: str = setting(  # `metrics`
      "neighbors", "How starts are ranked: neighbors, by the information that near images"
      " share about y; agreement, by how well its categories agree with those of the other starts;"
      " ratio, by neighbors' information over the entropy of the categories, for classes of"
      " unequal size.",
      choices=("neighbors", "agreement", "ratio"),
  )
  restart_changes: str = setting(
      "", "Settings that the starts change in turn, for example lam=1,transform_size=0.5/lam=10:"
      " the first start has those before the first slash, and so on, over and over.",
  )
  restart_categories: bool = setting(
      False, "Train in the starts nothing but the categories' layers, which is much faster; for"
      " --network=towers.",
  )
  restart_mixtures: int = setting(
      0, "Number of starts, the last ones, that begin at a Gaussian mixture of what the categories'"
      " layers see.", low=0,
  )
  restart_vote: bool = setting(
      False, "Let the starts vote on each image (of those ranked by ratio, the better half); a new"
      " model learns the votes that agree, instead of the best start going on.",
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

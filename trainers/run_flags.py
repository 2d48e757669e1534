"""The flags that say what is trained, shared by the programs that train."""

import dataclasses
from typing import Any

from absl import flags

from imae_tf import recipes
from imae_tf.errors import InputError

_DATASET = flags.DEFINE_string(
    "dataset", "digits", "digits, shapes, a TFDS name (mnist, celeb_a), a .npz or a folder."
)
_METHOD = flags.DEFINE_enum("method", "imae", list(recipes.WEIGHTS), "What is trained.")
_RECIPE = flags.DEFINE_enum(
    "recipe", "tuned", ["tuned", "paper"], "Settings: ours, or the paper's."
)
flags.DEFINE_integer("epochs", None, "Epochs in all; an existing run may be given more.", 1)
flags.DEFINE_integer("batch_size", None, "Images per step; the marginals are taken over it.", 2)
_SEED = flags.DEFINE_integer("seed", 0, "Of weights, order and noise.", 0)
flags.DEFINE_float("beta", None, "Of IMAE: of L(z), and of L_D(y) unless --beta_y.", 0)
flags.DEFINE_float("beta_y", None, "Weight of L_D(y), of IMAE.", 0)
flags.DEFINE_float("gamma", None, "Weight of the total correlation, of IMAE.", 0)
flags.DEFINE_float("lam", None, "Weight of VAT inside beta (of IMAE: inside L_D(y)).", 0)
flags.DEFINE_float("entropy_weight", None, "How often H(y) counts in L_D(y), of IMAE.", 0)
flags.DEFINE_float("alpha", None, "1 - alpha weighs I(x;y) + I(x;z), of InfoVAE.", 0, 1)
flags.DEFINE_float("capacity_y", None, "Last capacity of y in nats, of JointVAE.", 0)
flags.DEFINE_float("capacity_z", None, "Last capacity of z in nats, of JointVAE.", 0)
flags.DEFINE_integer("capacity_steps", None, "Steps until both are reached, of JointVAE.", 1)
flags.DEFINE_bool("detach_y", None, "Stop the reconstruction's gradient at y.")
flags.DEFINE_float("temperature", None, "Of the relaxed y.", 0)
flags.DEFINE_string("vat_radius", None, "Pixels, or 'neighbor'.")
flags.DEFINE_float("neighbor_fraction", None, "Of the nearest image's distance, the radius.", 0)
flags.DEFINE_enum("likelihood", None, ["bernoulli", "gaussian"], "Of the decoder.")
_NUM_CATEGORIES = flags.DEFINE_integer("num_categories", 10, "K2.", 2)
_LATENT_DIM = flags.DEFINE_integer("latent_dim", 10, "K1.", 1)
flags.DEFINE_enum("network", None, ["mlp", "conv"], "mlp is Table 1; conv suits 64x64 images.")
flags.DEFINE_list("encoder_units", None, "Widths of the mlp encoder's layers: 500,1000.")
flags.DEFINE_list("decoder_units", None, "Widths of the mlp decoder's hidden layers.")
flags.DEFINE_enum("optimizer", None, ["sgd", "adam"], "Optimizer.")
flags.DEFINE_float("learning_rate", None, "First learning rate.", 0)
flags.DEFINE_enum(
    "precision",
    None,
    ["float32", "mixed_bfloat16"],  # in float16 VAT's first gradients underflow
    "Of training; the trained model computes in float32.",
)
_HOLDOUT = flags.DEFINE_integer(
    "holdout", 0, "Training images kept for --split=holdout, unseen.", 0
)
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic", True, "Repeat to the bit; off is a little faster."
)


def run():
  """The `runs.Run` of the flags."""
  from imae_tf.data import loading
  from imae_tf.training import runs

  return runs.Run(
      dataset=loading.canonical(_DATASET.value),
      method=_METHOD.value,
      recipe_name=_RECIPE.value,
      recipe=_recipe(),
      num_categories=_NUM_CATEGORIES.value,
      latent_dim=_LATENT_DIM.value,
      holdout=_HOLDOUT.value,
      seed=_SEED.value,
      deterministic=_DETERMINISTIC.value,
  )


def _recipe():
  """The recipe with the flags that were given in its place."""
  recipe = recipes.get(_RECIPE.value, _DATASET.value, _METHOD.value)
  names = [field.name for field in dataclasses.fields(recipe) if field.name in flags.FLAGS]
  given: dict[str, Any] = {
      name: value for name in names if (value := flags.FLAGS[name].value) is not None
  }
  foreign = given.keys() - recipes.settings(recipe, _METHOD.value).keys()
  if foreign:
    own = ", ".join(f"--{name}" for name in (*recipes.WEIGHTS[_METHOD.value], "lam"))
    raise InputError(
        f"expected weights of {_METHOD.value}, which are {own}, got --{min(foreign)}; leave it"
        " out, or give the --method that has it."
    )
  radius = given.get("vat_radius")
  if radius is not None and radius != "neighbor":
    try:
      given["vat_radius"] = float(radius)
    except ValueError:
      raise InputError(
          f"expected --vat_radius as a number or 'neighbor', got {radius!r}; correct it."
      ) from None
  for name in ("encoder_units", "decoder_units"):
    if name in given:
      given[name] = _widths(name, given[name])
  return dataclasses.replace(recipe, **given)


def _widths(name, texts):
  if not texts or not all(text.isdecimal() and int(text) for text in texts):
    raise InputError(
        f"expected --{name} as widths such as 500,1000, got {','.join(texts)!r}; correct them."
    )
  return tuple(int(text) for text in texts)

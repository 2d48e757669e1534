"""The flags that say what is trained; imae-train and imae-tune share them."""

import dataclasses
from typing import Any
from typing import TYPE_CHECKING

from absl import flags

from imae_tf import recipes
from imae_tf._shared.method_table import METHODS
from imae_tf.errors import InputError
from imae_tf.trainers import data_flags
from imae_tf.trainers import setting_flags

if TYPE_CHECKING:
  from imae_tf.training.runs import Run

# Only imae-train has flags for these settings, because a trial of a search is one start.
OF_STARTS = [name for name in recipes.SETTINGS if name.startswith("restart")]

_DATASET = flags.DEFINE_string(
    "dataset", "digits", "Images to train on: digits, shapes, a TensorFlow Datasets name (mnist,"
    " celeb_a), a .npz file with an array x, or a folder of images."
)
_METHOD = flags.DEFINE_enum(
    "method", "imae", list(METHODS), "Method, whose objective is minimised: "
    + ", ".join(f"{key} is {method.name}" for key, method in METHODS.items()) + "."
)
_RECIPE = flags.DEFINE_enum(
    "recipe", None, ["auto", "tuned", "paper"], "Settings that hold unless other flags change them:"
    " auto, derived from the images, for imae-train with imae; tuned, ours for the data set and the"
    " method; or paper, the paper's. Default: tuned for the data sets that have such settings and"
    " wherever auto cannot be; auto for all other images."
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the initial weights, the order of the images and the noise.", 0
)
_NUM_CATEGORIES = setting_flags.define_size("num_categories", __name__)
_LATENT_DIM = setting_flags.define_size("latent_dim", __name__)
_HOLDOUT = flags.DEFINE_integer(
    "holdout", 0, "Number of training images, the last ones, that are kept from training for"
    " imae-evaluate --split=holdout.", 0
)
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic", True, "Make runs that repeat to the bit; without it a run is a little faster."
)
flags.adopt_module_key_flags(data_flags)
setting_flags.define((name for name in recipes.SETTINGS if name not in OF_STARTS), __name__)


def run(workdir: str | None = None, derived: bool = False) -> "Run":
  """The `runs.Run` that the flags describe.

  Args:
    workdir: of the program, for the cache of images; None for no cache.
    derived: whether the program can derive the settings from the images.
  """
  from imae_tf.data import loading
  from imae_tf.training import runs

  dataset = loading.canonical(_DATASET.value)
  name = _recipe_name(dataset, derived)
  given = _given()
  base = recipes.PAPER if name == "auto" else recipes.get(name, _DATASET.value, _METHOD.value)
  return runs.Run(
      dataset=dataset,
      method=_METHOD.value,
      recipe_name=name,
      recipe=dataclasses.replace(base, **given),
      changes=tuple(sorted(given.items())),
      num_categories=_NUM_CATEGORIES.value,
      latent_dim=_LATENT_DIM.value,
      holdout=_HOLDOUT.value,
      seed=_SEED.value,
      deterministic=_DETERMINISTIC.value,
      reading=data_flags.reading(workdir),
  )


def _recipe_name(dataset: str, derived: bool) -> str:
  can_be = derived and _METHOD.value == "imae"
  if _RECIPE.value == "auto" and not can_be:
    raise InputError(
        "expected --recipe=tuned or paper, for only imae-train with --method=imae derives settings"
        " from the images, got auto; give one of them."
    )
  return _RECIPE.value or ("auto" if can_be and not recipes.is_tuned(dataset) else "tuned")


def _given() -> dict[str, Any]:
  """The values of the flags that were given, {setting: value}."""
  defined = [flags.FLAGS[name] for name in recipes.SETTINGS if name in flags.FLAGS]
  # None may be a value that was given.
  given: dict[str, Any] = {flag.name: flag.value for flag in defined if flag.present}
  foreign = given.keys() - recipes.settings(recipes.PAPER, _METHOD.value).keys()
  if foreign:
    own = ", ".join(f"--{name}" for name in (*METHODS[_METHOD.value].weights, "lam"))
    raise InputError(
        f"expected weights of {_METHOD.value}, which are {own}, got --{min(foreign)}; leave it"
        " out, or give the --method that has it."
    )
  return given

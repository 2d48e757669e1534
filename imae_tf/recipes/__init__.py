"""The settings of a run: the paper's, tuned ones that work, and some derived from the images.

`get` finds a recipe, `auto` derives one from images, and `build` makes a compiled model of it; the
programs and `training` call them.
"""

from typing import Any
from typing import TYPE_CHECKING

from imae_tf.recipes.building import build
from imae_tf.recipes.settings import PAPER
from imae_tf.recipes.settings import Recipe
from imae_tf.recipes.settings import SETTINGS
from imae_tf.recipes.settings import settings
from imae_tf.recipes.settings import SIZES
from imae_tf.recipes.settings import WEIGHTS
from imae_tf.recipes.settings import with_change
from imae_tf.recipes.tuned import get
from imae_tf.recipes.tuned import is_tuned
from imae_tf.recipes.tuned import SIBLINGS
from imae_tf.recipes.tuned import TUNED

if TYPE_CHECKING:
  from imae_tf.recipes.deriving import auto

__all__ = [
    "PAPER", "Recipe", "SETTINGS", "SIBLINGS", "SIZES", "TUNED", "WEIGHTS", "auto", "build", "get",
    "is_tuned", "settings", "with_change",
]


def __getattr__(name: str) -> Any:
  if name == "auto":  # needs scikit-learn and TensorFlow, which flags should not wait for
    from imae_tf.recipes import deriving

    return deriving.auto
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

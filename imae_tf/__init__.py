"""The Information Maximization Autoencoder: it describes unlabelled images by y and z.

y is a category, z are a few continuous factors. The package's public names load on first use
(PEP 562), so that `import imae_tf` stays light: TensorFlow, Keras and TensorFlow Probability are
imported when a name that needs them is asked for.
"""

import importlib
from typing import Any
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what editors and type checkers know of the names below
  from imae_tf import callbacks
  from imae_tf import data
  from imae_tf import errors
  from imae_tf import estimators
  from imae_tf import methods
  from imae_tf import metrics
  from imae_tf import models
  from imae_tf import networks
  from imae_tf import objective
  from imae_tf import plots
  from imae_tf import posterior
  from imae_tf import recipes
  from imae_tf import report
  from imae_tf import tuning
  from imae_tf import vat
  from imae_tf.clusterer import ImageClusterer
  from imae_tf.errors import InputError
  from imae_tf.example import load_example
  from imae_tf.methods import BetaTCVAE
  from imae_tf.methods import BetaVAE
  from imae_tf.methods import IMAE
  from imae_tf.methods import InfoVAE
  from imae_tf.methods import JointVAE
  from imae_tf.methods import VAE
  from imae_tf.models import HybridAutoencoder

__version__ = "0.1.0"

__all__ = [
    "BetaTCVAE", "BetaVAE", "HybridAutoencoder", "IMAE", "ImageClusterer", "InfoVAE",
    "InputError", "JointVAE", "VAE", "__version__", "callbacks", "data", "errors", "estimators",
    "load_example", "methods", "metrics", "models", "networks", "objective", "plots", "posterior",
    "recipes", "report", "tuning", "vat",
]
_MEMBERS = {
    "HybridAutoencoder": "models",
    "IMAE": "methods",
    "VAE": "methods",
    "BetaVAE": "methods",
    "InfoVAE": "methods",
    "JointVAE": "methods",
    "BetaTCVAE": "methods",
    "ImageClusterer": "clusterer",
    "InputError": "errors",
    "load_example": "example",
}


# Names whose modules import Keras.
_OF_KERAS = {
    *(member for member, module in _MEMBERS.items() if module != "errors"),
    "callbacks", "methods", "models", "networks", "posterior", "tuning",
}


def __getattr__(name: str) -> Any:
  if name in _OF_KERAS:
    from imae_tf._shared import backend

    backend.check()
  if name in _MEMBERS:
    module = importlib.import_module(f"{__name__}.{_MEMBERS[name]}")
    return getattr(module, name)
  if name in __all__:
    return importlib.import_module(f"{__name__}.{name}")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return __all__

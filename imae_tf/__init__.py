"""Unlabelled images to a category y and a few continuous factors z.

Names load on first use (PEP 562), so that `import imae_tf` stays light: TensorFlow,
Keras and TensorFlow Probability are imported when a name that needs them is asked for.
"""

import importlib

__version__ = "0.1.0"

_MODULES = (
    "callbacks", "data", "errors", "estimators", "methods", "metrics", "models", "networks",
    "objective", "plots", "posterior", "recipes", "report", "tuning", "vat",
)
_CLASSES = {
    "HybridAutoencoder": "models",
    "IMAE": "methods",
    "VAE": "methods",
    "BetaVAE": "methods",
    "InfoVAE": "methods",
    "JointVAE": "methods",
    "BetaTCVAE": "methods",
    "InputError": "errors",
}

__all__ = sorted([*_MODULES, *_CLASSES, "__version__"])


def __getattr__(name):
  if name in _MODULES:
    return importlib.import_module(f"{__name__}.{name}")
  if name in _CLASSES:
    module = importlib.import_module(f"{__name__}.{_CLASSES[name]}")
    return getattr(module, name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
  return __all__

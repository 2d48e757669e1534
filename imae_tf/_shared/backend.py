"""Keras computes with TensorFlow here, whatever the user's surroundings say of other projects."""

import os

from imae_tf.errors import BackendError
from imae_tf.errors import first_line


def choose() -> None:
  """Sets what a program of the package needs, before Keras and matplotlib are imported.

  `KERAS_BACKEND` and `keras.json` may name another backend, and a notebook leaves an `MPLBACKEND`
  that only the notebook has.
  """
  os.environ["KERAS_BACKEND"] = "tensorflow"
  os.environ["MPLBACKEND"] = "agg"


def check() -> None:
  """Imports Keras.

  Raises:
    BackendError: Keras computes with another backend than TensorFlow, or cannot be imported with
      the backend that is asked for.
  """
  try:
    import keras
  except ImportError as error:
    if (error.name or "").partition(".")[0] in ("keras", "tensorflow"):
      raise
    named = os.environ.get("KERAS_BACKEND") or "another, of keras.json"
    raise _error(f"{named} ({first_line(error)})") from error
  if keras.config.backend() != "tensorflow":
    raise _error(keras.config.backend())


def _error(found: str) -> BackendError:
  return BackendError(
      f"expected Keras with the backend tensorflow, got {found}; set the environment variable"
      " KERAS_BACKEND=tensorflow before Keras is imported."
  )

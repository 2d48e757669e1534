"""Libraries of the extras, which `pip install imae_tf` leaves out, and how one is missed.

The core trains on arrays and folders and encodes. What else there is asks here for its
libraries where it first needs them, so that one that is missing is one sentence with the
command that brings it.
"""

import contextlib
import importlib.util
from collections.abc import Iterator

from imae_tf.errors import MissingExtraError

# What each extra of setup.py brings, by the names that are imported.
LIBRARIES = {
    "data": ("tensorflow_datasets", "importlib_resources"),
    "report": ("matplotlib", "jinja2"),
    "search": ("keras_tuner", "matplotlib", "jinja2"),  # a search ends with its page
    "serving": ("google.protobuf", "grpc", "httpx", "starlette", "tensorflow_serving", "uvicorn"),
}


@contextlib.contextmanager
def needed(extra: str, purpose: str) -> Iterator[None]:
  """Imports of an extra's libraries stand inside; one that fails names the extra.

  Args:
    extra: key of `LIBRARIES`.
    purpose: what the libraries are for, after "to": "draw figures".

  Raises:
    MissingExtraError: an import failed, and a library of the extra is not installed. Where
      all of them are, a failed import stays what it is.
  """
  try:
    yield
  except ModuleNotFoundError as error:
    name = missing(extra)
    if name is None:
      raise
    raise _error(name, extra, purpose) from error


def check(extra: str, purpose: str) -> None:
  """Raises what `needed` would, without importing: before work that takes long.

  Args:
    extra: key of `LIBRARIES`.
    purpose: what the libraries are for, after "to".

  Raises:
    MissingExtraError: one of the extra's libraries is not installed.
  """
  name = missing(extra)
  if name:
    raise _error(name, extra, purpose)


def missing(extra: str) -> str | None:
  """The first library of an extra that is not installed; None where all are."""
  for name in LIBRARIES[extra]:
    if importlib.util.find_spec(name) is None:
      return name
  return None


def _error(name, extra, purpose):
  return MissingExtraError(
      f"expected {name} to {purpose}, got none; run pip install 'imae_tf[{extra}]'."
  )

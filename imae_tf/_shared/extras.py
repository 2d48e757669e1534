"""Checks for the libraries of the extras, which `pip install imae_tf` leaves out.

The core, which trains on arrays and folders and encodes, needs none of them. All other code
imports such a library inside `needed`, or calls `check` first. If a library is missing, the user
then reads one sentence with the command that installs it.
"""

import contextlib
import importlib.util
from collections.abc import Iterator

from imae_tf.errors import MissingExtraError

# The libraries of each extra in setup.py, under the names by which code imports them.
LIBRARIES = {
    "data": ("tensorflow_datasets", "importlib_resources"),
    "report": ("matplotlib", "jinja2"),
    "search": ("keras_tuner", "matplotlib", "jinja2"),  # a search ends with its page
    "serving": ("google.protobuf", "grpc", "httpx", "starlette", "tensorflow_serving", "uvicorn"),
}


@contextlib.contextmanager
def needed(extra: str, purpose: str) -> Iterator[None]:
  """A context for imports of an extra's libraries: if one fails, the error names the extra.

  Args:
    extra: key of `LIBRARIES`.
    purpose: what the libraries are for, after "to": "draw figures".

  Raises:
    MissingExtraError: an import failed, and a library of the extra is not installed. If all of
      them are installed, the error of the import stays as it is.
  """
  try:
    yield
  except ModuleNotFoundError as error:
    name = missing(extra)
    if name is None:
      raise
    raise _error(name, extra, purpose) from error


def check(extra: str, purpose: str) -> None:
  """Raises the error of `needed` without an import; call it before work that takes long.

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
  """The first library of an extra that is not installed; None if all are installed."""
  for name in LIBRARIES[extra]:
    if importlib.util.find_spec(name) is None:
      return name
  return None


def _error(name: str, extra: str, purpose: str) -> MissingExtraError:
  return MissingExtraError(
      f"expected {name} to {purpose}, got none; run pip install 'imae_tf[{extra}]'."
  )

"""imae.json, in which a SavedModel says what it is; loaders ignore its folder."""

import json
import os
import pathlib
from typing import Any

from imae_tf._shared import formats
from imae_tf.errors import InputError

PATH = "assets.extra/imae.json"
FORMAT_VERSION = 1


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
  """The imae.json of the SavedModel in `path`, a dict: `savedmodel.describe`.

  Raises:
    InputError: it is of another format.
    OSError, ValueError: it is not there, or not JSON.
  """
  file = pathlib.Path(path) / PATH
  content = json.loads(file.read_text())
  formats.check(file, content, FORMAT_VERSION)
  return content


def check(path: str | os.PathLike[str]) -> None:
  """Checks the format of a SavedModel, if it has an imae.json that can be read.

  Raises:
    InputError: it is of another format.
  """
  try:
    read(path)
  except InputError:
    raise
  except (OSError, ValueError):
    pass  # its signatures say whether it is one of ours

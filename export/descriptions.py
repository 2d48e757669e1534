"""Reads and checks imae.json, the description of a SavedModel inside its own folder.

`savedmodel` writes the file; encoders and the server's page read it here.
"""

import json
import os
import pathlib
from typing import Any

from imae_tf._shared import formats
from imae_tf.errors import InputError

PATH = "assets.extra/imae.json"
FORMAT_VERSION = 1


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
  """The imae.json of the SavedModel in `path`, as a dict; see `savedmodel.describe`.

  Raises:
    InputError: the file has another format.
    OSError, ValueError: the file is not there, or is not JSON.
  """
  file = pathlib.Path(path) / PATH
  content = json.loads(file.read_text())
  formats.check(file, content, FORMAT_VERSION)
  return content


def check(path: str | os.PathLike[str]) -> None:
  """Checks the format of a SavedModel, if it has an imae.json that can be read.

  Raises:
    InputError: the file has another format.
  """
  try:
    read(path)
  except InputError:
    raise
  except (OSError, ValueError):
    pass  # the signatures show later whether the SavedModel is one of ours

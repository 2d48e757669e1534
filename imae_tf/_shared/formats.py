"""The formats of the JSON files that outlive a program: config.json, search.json, imae.json."""

import pathlib
from typing import Any

from imae_tf.errors import InputError


def check(path: str | pathlib.Path, content: Any, version: int) -> None:
  """Checks the "format" of a file's content, an integer that grows when its meaning changes.

  Args:
    path: of the file, for the message.
    content: what was read from it.
    version: the format that this code reads.

  Raises:
    InputError: the content is of another format, or of none.
  """
  written = content.get("format") if isinstance(content, dict) else None
  if not isinstance(written, int) or isinstance(written, bool):
    raise InputError(f"expected format {version} in {path}, got {written!r}; restore the file.")
  if written > version:
    raise InputError(
        f"expected format {version} in {path}, got the newer {written}{_writer(content)}; install"
        " that version of imae_tf, or a newer one."
    )
  if written < version:
    raise InputError(
        f"expected format {version} in {path}, got the older {written}{_writer(content)}; install"
        " that version of imae_tf, or make the file again with this one."
    )


def _writer(content):
  """Which version of the package wrote a file, where the file says so."""
  versions = content.get("versions")
  number = versions.get("imae_tf") if isinstance(versions, dict) else None
  return f" of imae_tf {number}" if isinstance(number, str) else ""

"""Checks the formats of JSON files that later versions read: config.json, search.json, imae.json.

`check` compares a file's "format" with the one that the code reads; `differences` compares the
contents of two such files.
"""

import json
import pathlib
from collections.abc import Container
from typing import Any

from imae_tf.errors import InputError


def check(path: str | pathlib.Path, content: Any, version: int) -> None:
  """Checks the "format" of a file's content: an integer that grows when the meaning changes.

  Args:
    path: path of the file, for the message.
    content: the content of the file.
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


def differences(
    old: dict[str, Any], new: dict[str, Any], ignored: Container[str] = ()
) -> list[str]:
  """The differences between two contents of a file: ["beta 5.0 -> 7.0"], sorted by name.

  Args:
    old: the content that was read.
    new: another one, read or still to be written; a tuple equals the list that JSON makes of it.
    ignored: names that may differ.
  """
  new = json.loads(json.dumps(new))
  return [
      f"{name} {old.get(name)!r} -> {new.get(name)!r}"
      for name in sorted(old.keys() | new.keys())
      if name not in ignored and old.get(name) != new.get(name)
  ]


def _writer(content: dict[str, Any]) -> str:
  """The version of the package that wrote a file, as words for a message; "" if unknown."""
  versions = content.get("versions")
  number = versions.get("imae_tf") if isinstance(versions, dict) else None
  return f" of imae_tf {number}" if isinstance(number, str) else ""

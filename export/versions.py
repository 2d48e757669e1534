"""Finds the versions in a base folder, which are folders named by integers, like TF Serving does.

Exporters, encoders and the server call these functions. The newest version is the largest integer.
"""

import os
import pathlib

from imae_tf._shared import paths
from imae_tf.errors import InputError

Path = str | os.PathLike[str]


def base_folder(path: Path) -> pathlib.Path:
  """The path of a base folder, `~` expanded.

  Raises:
    InputError: the path is empty or an address, or has brackets, which TensorFlow takes for a
      pattern.
  """
  folder = paths.folder(path, "a folder of versions")
  if "://" in str(path):
    raise InputError(
        f"expected a folder of this machine as the base, got {path}; give a folder, and copy whole"
        " versions between it and that place."
    )
  if set("[]") & set(str(path)):
    raise InputError(
        f"expected a base folder without [ and ] in its path, got {path}; rename it: TensorFlow"
        " takes them for a pattern."
    )
  return folder


def mend_of_version(path: pathlib.Path) -> str:
  """The mend if a base is itself a SavedModel, such as a version; "" if it is none."""
  if not (path / "saved_model.pb").exists():
    return ""
  path = path.absolute()
  if _is_integer(path.name):
    return f"give the folder above it, {path.parent}"
  return f"move it to {path}/1, a folder named by an integer"


def check_no_version(path: pathlib.Path) -> None:
  """Raises an InputError if the base in which a version is to be published is one itself."""
  mend = mend_of_version(path)
  if mend:
    raise InputError(
        f"expected a folder of versions as the base, got {path}, which is a SavedModel; {mend}."
    )


def numbered(base: Path) -> dict[int, pathlib.Path]:
  """Everything in `base` whose name is an integer, also files: {integer: path}, ascending."""
  found = [path for path in pathlib.Path(base).iterdir() if _is_integer(path.name)]
  return {int(path.name): path for path in sorted(found, key=lambda path: int(path.name))}


def versions(base: Path) -> dict[int, pathlib.Path]:
  """The version folders in `base`: {integer: path}, ascending."""
  # For a folder that cannot be read os.path.isdir is False, where pathlib raises.
  return {number: path for number, path in numbered(base).items() if os.path.isdir(path)}


def get(base: Path, number: int) -> pathlib.Path:
  """The folder of version `number` in `base`.

  Raises:
    InputError: there is no such version.
  """
  base = base_folder(base)
  found = versions(base) if base.is_dir() else {}
  if number not in found:
    check_no_version(base)
    there = ", ".join(map(str, found)) or "none"
    raise InputError(f"expected version {number} in {base}, got {there}; name one that is there.")
  return found[number]


def find(path: Path) -> pathlib.Path:
  """The SavedModel for `path`: the folder itself, or the newest version in it.

  Raises:
    InputError: there is no such folder, or it has neither a SavedModel nor a version.
  """
  path = base_folder(path)
  if not path.is_dir():
    raise InputError(
        f"expected a SavedModel, or a base folder of versions, at {path}, got no folder; correct"
        " the path, or publish a version there with imae-export."
    )
  if (path / "saved_model.pb").exists():
    return path
  found = versions(path)
  if not found:
    raise InputError(
        f"expected integer version folders in {path}, got none; give the --base of an"
        " imae-export, or copy a version there, whole."
    )
  return found[max(found)]


def _is_integer(name: str) -> bool:
  return name.isascii() and name.isdigit() and int(name) < 2**63  # the server's are 64 bits

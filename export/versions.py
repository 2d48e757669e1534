"""Finds the versions in a base folder, which are folders named by integers, like TF Serving does.

Exporters, encoders and the server call these functions. The newest version is the largest integer.
"""

import os
import pathlib

from imae_tf.errors import InputError

Path = str | os.PathLike[str]


def base_folder(path: Path) -> pathlib.Path:
  """The path of a base folder, `~` expanded.

  Raises:
    InputError: the path is an address, or has brackets, which TensorFlow takes for a pattern.
  """
  if "://" in str(path):
    raise InputError(
        f"expected a folder of this machine as the base, got {path}; export to a folder, then"
        " copy its version there, whole."
    )
  if set("[]") & set(str(path)):
    raise InputError(
        f"expected a base folder without [ and ] in its path, got {path}; rename it: TensorFlow"
        " takes them for a pattern."
    )
  return pathlib.Path(path).expanduser()


def numbered(base: Path) -> dict[int, pathlib.Path]:
  """Everything in `base` whose name is an integer, also files: {integer: path}, ascending."""
  paths = [path for path in pathlib.Path(base).iterdir() if _is_integer(path.name)]
  return {int(path.name): path for path in sorted(paths, key=lambda path: int(path.name))}


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
        f"expected a SavedModel, or a base folder of versions, at {path}, got no folder;"
        " correct --saved_model, or run imae-export first."
    )
  if (path / "saved_model.pb").exists():
    return path
  found = versions(path)
  if not found:
    raise InputError(
        f"expected integer version folders in {path}, got none; run imae-export"
        f" --base={path} first."
    )
  return found[max(found)]


def _is_integer(name: str) -> bool:
  return name.isascii() and name.isdigit() and int(name) < 2**63  # the server's are 64 bits

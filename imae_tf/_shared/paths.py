"""One rule for paths: what a text means, and which files of a folder are images.

`~` is the home folder. An empty text is no path: it comes from a variable that is not set. In a
folder, hidden files and folders (`.ipynb_checkpoints`, `._x.png`) and `__MACOSX` are passed over,
and links are followed, to each folder once.
"""

import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from imae_tf.errors import InputError
from imae_tf.errors import shown

IMAGE_SUFFIXES = frozenset({
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
})


def text(path: str | os.PathLike[str], what: str = "a path") -> str:
  """A path, or a name in its place, as text with `~` replaced.

  Raises:
    InputError: It is empty, no text, or has a zero byte.
  """
  given = os.fspath(path) if isinstance(path, os.PathLike) else path
  if not isinstance(given, str):
    raise InputError(
        f"expected {what}, got a {type(path).__name__}; give it as a str or a pathlib.Path."
    )
  if not given.strip():
    raise InputError(
        f"expected {what}, got an empty text; give one (an unset variable of the shell is empty)."
    )
  if "\0" in given:
    raise InputError(f"expected {what}, got a zero byte in {given!r}; correct it.")
  return os.path.expanduser(given)


def folder(path: str | os.PathLike[str], what: str = "a folder") -> pathlib.Path:
  """A folder that a run, a search or versions are in; it need not exist.

  Raises:
    InputError: As `text`.
  """
  return pathlib.Path(text(path, what))


def absolute(path: str | os.PathLike[str]) -> str:
  """A path that means the same in any folder.

  Links are resolved, unless that would lose the suffix: stores of large files link `x.npz` to a
  file whose name is a checksum.
  """
  found = pathlib.Path(text(path))
  resolved = pathlib.Path(os.path.realpath(found))  # Path.resolve raises for a link to itself
  if found.suffix and resolved.suffix.lower() != found.suffix.lower():
    return str(pathlib.Path(os.path.realpath(found.parent)) / found.name)
  return str(resolved)


class Found(NamedTuple):
  """The files of a folder.

  Attributes:
    images: Paths of the image files, sorted.
    others: Paths that were passed over, sorted; a folder, such as a hidden one, counts as one.
  """

  images: list[pathlib.Path]
  others: list[pathlib.Path]

  def line(self, folder: str | os.PathLike[str]) -> str:
    """One line: how many images, how many files were passed over, which first."""
    line = f"{len(self.images)} image{'s' * (len(self.images) != 1)} in {folder}"
    if self.others:
      first = os.path.relpath(self.others[0], text(folder))
      line += f"; {len(self.others)} passed over, the first {first}"
    return shown(line) + "."


def image_files(folder: str | os.PathLike[str]) -> Found:
  """The files of a folder, at any depth, that have a suffix of images.

  Raises:
    InputError: A folder inside cannot be read.
  """
  found = Found([], [])
  for path in _walk(pathlib.Path(text(folder)), found.others):
    is_image = path.suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(path)
    (found.images if is_image else found.others).append(path)
  found.images.sort()
  found.others.sort()
  return found


def _walk(root: pathlib.Path, others: list[pathlib.Path]) -> Iterator[pathlib.Path]:
  """All that is no folder; real folders come first, so that a link adds only what is new."""
  top = os.path.realpath(root)
  seen: set[str] = set()
  waiting = [root]
  links: list[pathlib.Path] = []
  while waiting or links:
    folder = waiting.pop() if waiting else links.pop(0)
    real = os.path.realpath(folder)
    if real in seen or top.startswith(os.path.join(real, "")):  # seen, or a loop
      others.append(folder)
      continue
    seen.add(real)
    for entry in _entries(folder):
      path = pathlib.Path(entry.path)
      if entry.name.startswith(".") or entry.name == "__MACOSX":
        others.append(path)
      elif not os.path.isdir(path):
        yield path
      else:
        (links if entry.is_symlink() else waiting).append(path)


def _entries(folder: pathlib.Path) -> list[os.DirEntry[str]]:
  try:
    with os.scandir(folder) as entries:
      return sorted(entries, key=lambda entry: entry.name)
  except OSError as error:
    raise InputError(
        f"expected a folder that can be read, got {error.strerror} for {folder}; mend its"
        " permissions, or move it elsewhere."
    ) from error

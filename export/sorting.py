"""Sorts the files of a folder into a folder for each category: `imae-encode --sort_into`.

All files are put into a temporary folder beside the target, which is then renamed: so the target
has all of them or none.
"""

import collections
import os
import pathlib
import shutil
import tempfile
from collections.abc import Sequence

from imae_tf._shared import paths
from imae_tf.errors import InputError
from imae_tf.export import codes
from imae_tf.export import tables


def check_target(target: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
  """Raises an InputError unless files can be sorted into `target`.

  Args:
    target: The folder that is to be: it is new, or empty, and not inside the images' folder.
    folder: Of the images.
  """
  path = pathlib.Path(os.path.realpath(paths.text(target, "a folder as --sort_into")))
  root = pathlib.Path(os.path.realpath(paths.text(folder)))
  what = ""
  if path == root or root in path.parents:
    what = f"{target}, which is inside that of the images"
  elif path.is_dir():
    held = sorted(os.listdir(path))
    what = f"{target} with {held[0]!r}" if held else ""
  elif path.exists():
    what = f"the file {target}"
  if what:
    raise InputError(
        f"expected a new or empty folder to sort into, got {what}; give another --sort_into."
    )


def sort(
    answers: Sequence[tables.Answer],
    folder: str | os.PathLike[str],
    target: str | os.PathLike[str],
    link: bool = False,
    by_confidence: bool = False,
) -> None:
  """Puts each file into the folder of its category, all or none.

  Args:
    answers: Of the files; numbers of categories are written with leading zeros, so that folders
      are in their order.
    folder: Of the files.
    target: As of `check_target`.
    link: Whether symbolic links are made in place of copies.
    by_confidence: Whether the names begin with the file's rank in its category, the most certain
      one being 1.

  Raises:
    InputError: As `check_target`, or a file is gone.
    ImaeError: The files cannot be written.
  """
  check_target(target, folder)
  root = pathlib.Path(os.path.abspath(paths.text(folder)))
  path = pathlib.Path(os.path.realpath(paths.text(target)))
  with codes.writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(dir=path.parent, prefix=".tmp-"))
    try:
      for category, found in _by_category(answers).items():
        (temporary / category).mkdir()
        names = _ranked(found) if by_confidence else _apart([answer.file for answer in found])
        for file, name in names.items():
          _put(root / file, temporary / category / name, link)
      os.chmod(temporary, 0o755)
      os.rename(temporary, path)
    finally:
      shutil.rmtree(temporary, ignore_errors=True)


def _put(source: pathlib.Path, to: pathlib.Path, link: bool) -> None:
  if not source.exists():
    raise InputError(
        f"expected {source}, which was encoded before, got no such file; put it back and give the"
        " same command again."
    )
  if link:
    to.symlink_to(source)
  else:
    shutil.copy2(source, to)


def _by_category(answers: Sequence[tables.Answer]) -> dict[str, list[tables.Answer]]:
  digits = max((len(a.category) for a in answers if a.category.isdecimal()), default=0)
  found = collections.defaultdict(list)
  for answer in answers:
    is_number = answer.category.isdecimal()
    found[answer.category.zfill(digits) if is_number else answer.category].append(answer)
  return found


def _ranked(answers: Sequence[tables.Answer]) -> dict[str, str]:
  """{file: its name behind its rank}."""
  width = len(str(len(answers)))
  ranked = sorted(answers, key=lambda answer: -answer.confidence)
  return {
      answer.file: f"{rank:0{width}}-{os.path.basename(answer.file)}"
      for rank, answer in enumerate(ranked, 1)
  }


def _apart(files: Sequence[str]) -> dict[str, str]:
  """{file: a name that no other has}: its own, or with its folders before it.

  Capitals do not count, because some file systems do not tell them apart.
  """
  own = collections.Counter(os.path.basename(file).casefold() for file in files)
  taken: set[str] = set()
  names = {}
  for file in files:
    base = os.path.basename(file)
    name = base if own[base.casefold()] == 1 else file.replace(os.sep, "-")
    stem, suffix = os.path.splitext(name)
    number = 1
    while name.casefold() in taken:
      number += 1
      name = f"{stem}-{number}{suffix}"
    taken.add(name.casefold())
    names[file] = name
  return names

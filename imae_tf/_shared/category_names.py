"""Names that people give to categories: names.json or names.csv in the folder of a run.

    {"0": "cat", "3": "dog"}        or        category,name
                                              0,cat
                                              3,dog

A category without a name keeps its number. Tables, sorted folders and pages show the names; they
stand for files and folders, too, so they are checked when they are read.
"""

import csv
import json
import os
import pathlib
from typing import Any

from imae_tf._shared import paths
from imae_tf.errors import InputError

FILES = ("names.json", "names.csv")
_COLUMNS = ["category", "name"]
_LONGEST = 100


def of_run(workdir: str | os.PathLike[str], num_categories: int) -> list[str] | None:
  """The names that stand in the folder of a run; None where there are none.

  Args:
    workdir: The folder.
    num_categories: K2.

  Raises:
    InputError: As `read`; or there are both files.
  """
  found = [path for name in FILES if (path := paths.folder(workdir) / name).exists()]
  if len(found) > 1:
    raise InputError(f"expected names.json or names.csv in {workdir}, got both; remove one.")
  return read(found[0], num_categories) if found else None


def read(path: str | os.PathLike[str], num_categories: int) -> list[str]:
  """The name of each category, or its number where it has none.

  Args:
    path: Of a .json or .csv file.
    num_categories: K2.

  Raises:
    InputError: The file is missing or damaged, names an unknown category, or names two alike.
  """
  file = paths.folder(path, "a file of names")
  try:
    given = _json(file) if file.suffix == ".json" else _csv(file)
  except (OSError, ValueError, TypeError) as error:
    raise InputError(
        'expected names of categories as JSON, {"0": "cat"}, or as a CSV with the columns'
        f" category,name in {path}, got what cannot be read ({error}); correct the file."
    ) from error
  names = [str(k) for k in range(num_categories)]
  known = dict(zip(names, range(num_categories)))
  for number, name in given:
    if number not in known:
      raise InputError(
          f"expected categories 0 to {num_categories - 1} in {path}, got {number!r}; correct or"
          " remove it."
      )
    names[known[number]] = name
  _check(path, names, [number for number, _ in given])
  return names


def _json(file: pathlib.Path) -> list[tuple[str, str]]:
  pairs: Any = json.loads(file.read_text("utf-8-sig"), object_pairs_hook=list)
  if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
    raise ValueError("no pairs of a number and a name")
  if not all(isinstance(name, str) for _, name in pairs):
    raise ValueError("a name that is no text")
  return [(number.strip(), name.strip()) for number, name in pairs]


def _csv(file: pathlib.Path) -> list[tuple[str, str]]:
  # utf-8-sig: spreadsheets write a byte order mark.
  with open(file, newline="", encoding="utf-8-sig") as text:
    rows = [row for row in csv.reader(text) if row]
  if not rows or rows[0] != _COLUMNS or any(len(row) != 2 for row in rows):
    raise ValueError("other columns")
  return [(number.strip(), name.strip()) for number, name in rows[1:]]


def _check(path: str | os.PathLike[str], names: list[str], given: list[str]) -> None:
  """Raises an InputError unless each name tells one category, and can be that of a folder."""
  twice = [number for i, number in enumerate(given) if number in given[:i]]
  folded = [name.casefold() for name in names]
  twice += [name for i, name in enumerate(names) if folded[i] in folded[:i]]
  if twice:
    raise InputError(
        f"expected another name for each category in {path}, got {twice[0]!r} twice; change one."
    )
  for name in names:
    if not name or name.startswith(".") or len(name) > _LONGEST or not _is_plain(name):
      raise InputError(
          f"expected names of 1 to {_LONGEST} characters that folders can have in {path}, got"
          f" {name!r}; change it, without a slash, a line end or a dot at the beginning."
      )


def _is_plain(name: str) -> bool:
  return name.isprintable() and "/" not in name and "\\" not in name

"""Labels of the files of a folder, for evaluation alone: their subfolders, or a CSV."""

import csv
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from imae_tf._shared import paths
from imae_tf.errors import first_line
from imae_tf.errors import InputError
from imae_tf.errors import shown

FOLDERS = "folders"
_COLUMNS = ("file", "label")


def canonical(given: str) -> str | None:
  """What the flag --labels says, as `data.load` takes it; a path is made absolute.

  Args:
    given: "none", "folders" or the path of a CSV.
  """
  if given == "none":
    return None
  return given if given == FOLDERS else paths.absolute(given)


def of_files(
    names: Sequence[str], source: str, skipped: Sequence[str] = ()
) -> tuple[np.ndarray, tuple[str, ...]]:
  """(labels int64 [N], names of the classes) of files.

  Args:
    names: Paths of the files below their folder.
    source: "folders": the class is the first folder of a file's path; or the path of a CSV with
      the columns file, such as names has, and label.
    skipped: Names that the CSV may have although they are no images here: unreadable files.

  Raises:
    InputError: An image without a label, or labels of files that are not there.

  >>> of_files(["cats/1.png", "dogs/a/2.png"], "folders")
  (array([0, 1]), ('cats', 'dogs'))
  """
  texts = _folders(names) if source == FOLDERS else _listed(names, source, skipped)
  classes, labels = np.unique(texts, return_inverse=True)
  return labels.astype(np.int64), tuple(shown(str(name)) for name in classes)


def _folders(names: Sequence[str]) -> list[str]:
  parts = [pathlib.PurePath(name).parts for name in names]
  bare = [name for name, part in zip(names, parts) if len(part) < 2]
  if bare:
    raise InputError(
        f"expected each image in a subfolder, which is its label, got {len(bare)} outside one, the"
        f" first {bare[0]}; move them, or give --labels as a CSV of file,label."
    )
  return [part[0] for part in parts]


def _listed(names: Sequence[str], path: str, skipped: Sequence[str]) -> list[str]:
  label_of = _read(path)
  others = label_of.keys() - set(names) - set(skipped)
  if others:
    raise InputError(
        f"expected labels of the images' files in {path}, got {len(others)} of other files, the"
        f" first {min(others)!r}; write paths below the folder of the images, such as {names[0]!r}."
    )
  missing = [name for name in names if name not in label_of]
  if missing:
    raise InputError(
        f"expected a label of every image in {path}, got none of {len(missing)} of {len(names)},"
        f" the first {missing[0]!r}; add them, or leave --labels out."
    )
  return [label_of[name] for name in names]


def _read(path: str) -> dict[str, str]:
  try:
    # utf-8-sig: spreadsheets write a byte order mark, which would be a part of the first name.
    with open(paths.text(path), newline="", encoding="utf-8-sig") as file:
      rows = csv.DictReader(file)
      if not set(_COLUMNS) <= set(rows.fieldnames or ()):
        raise InputError(
            f"expected a first line with the columns file,label in {path}, got"
            f" {','.join(rows.fieldnames or ['nothing'])}; write it."
        )
      return {os.path.normpath(row["file"]): (row["label"] or "").strip() for row in rows}
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise InputError(
        f"expected --labels as folders or a CSV of file,label, got {path}, which cannot be read"
        f" ({first_line(error)}); correct the path or the file."
    ) from error

"""Codes as a CSV, which grows while images are encoded and goes on after a kill.

The columns are file, or index where images have no names; category, the most probable one;
confidence, its probability; y_0, y_1, ..., all probabilities; z_0, z_1, ..., the means; z_scale_0,
z_scale_1, ..., the standard deviations. `imae-encode` writes such files.
"""

import csv
import io
import os
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_ARRAYS = ("y", "z", "z_scale")


class Answer(NamedTuple):
  """What a row says of an image.

  Attributes:
    file: Its path below the folder, or its index.
    category: The number of the most probable category, or its name.
    confidence: The probability of that category.
  """

  file: str
  category: str
  confidence: float


def answers(
    files: Sequence[str], y: np.ndarray, category_names: Sequence[str] | None = None
) -> list[Answer]:
  """The `Answer` of each image.

  Args:
    files: Names [N].
    y: Probabilities [N, K2].
    category_names: A name for each category; None for their numbers.

  >>> answers(["a.png"], np.array([[0.25, 0.75]]))
  [Answer(file='a.png', category='1', confidence=0.75)]
  """
  found = y.argmax(axis=1)
  names = category_names or [str(k) for k in range(y.shape[1])]
  return [Answer(file, names[k], float(p[k])) for file, k, p in zip(files, found, y)]


def header(codes: Mapping[str, np.ndarray], first: str = "file") -> str:
  """The first line of a table.

  Args:
    codes: Arrays y [N, K2], z and z_scale [N, K1].
    first: Name of the first column.
  """
  columns = [f"{name}_{k}" for name in _ARRAYS for k in range(codes[name].shape[1])]
  return ",".join([first, "category", "confidence", *columns]) + "\n"


def lines(
    files: Sequence[str],
    codes: Mapping[str, np.ndarray],
    category_names: Sequence[str] | None = None,
) -> str:
  """The lines of some images.

  Args:
    files: Their names, or indices as texts [N].
    codes: As of `header`.
    category_names: As of `answers`.
  """
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  values = np.concatenate([codes[name] for name in _ARRAYS], axis=1)
  for answer, row in zip(answers(files, codes["y"], category_names), values):
    numbers = [f"{value:.9g}" for value in row]  # 9 digits give float32 back exactly
    writer.writerow([answer.file, answer.category, f"{answer.confidence:.9g}", *numbers])
  return text.getvalue()


class Part:
  """The lines that are written so far, in a file beside the table: NAME.csv.KEY.part.

  Attributes:
    path: Of the table.
    rows: Number of images in it; those after the last whole batch are forgotten, so that the
      table is the same to the bit as an unbroken one.
    answers: Their `Answer`s.

  Args:
    path: Of the table.
    key: What tells these images and this model from others, whose parts are left alone.
    batch_size: Images per batch.
    category_names: As of `answers`.
  """

  def __init__(
      self,
      path: str | os.PathLike[str],
      key: str,
      batch_size: int,
      category_names: Sequence[str] | None = None,
  ) -> None:
    self.path = pathlib.Path(path)
    self._part = self.path.with_name(f"{self.path.name}.{key}.part")
    self._category_names = category_names
    self.answers: list[Answer] = []
    if self._part.exists():
      self.answers = _cut(self._part, batch_size)

  @property
  def rows(self) -> int:
    """Number of images in it."""
    return len(self.answers)

  def add(self, files: Sequence[str] | None, codes: Mapping[str, np.ndarray]) -> None:
    """Writes the lines of a batch.

    Args:
      files: Names [B]; None for the places of the images among all.
      codes: As of `header`.
    """
    n = len(codes["y"])
    first = "index" if files is None else "file"
    files = files if files is not None else [str(self.rows + i) for i in range(n)]
    text = lines(files, codes, self._category_names)
    with open(self._part, "a", newline="", encoding="utf-8", errors="surrogateescape") as part:
      part.write(text if self.rows else header(codes, first) + text)
    self.answers += answers(files, codes["y"], self._category_names)

  def finish(self) -> None:
    """Renames the part to the table; parts of other images or models are removed."""
    os.replace(self._part, self.path)
    for left in self.path.parent.glob(f"{_escaped(self.path.name)}.*.part"):
      left.unlink(missing_ok=True)


def _escaped(name: str) -> str:
  return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _cut(part: pathlib.Path, batch_size: int) -> list[Answer]:
  """Cuts what a kill left to whole batches, and reads it."""
  with open(part, "r+b") as file:
    end, kept, read = 0, 0, []
    records = _records(file)
    columns = next(records, (0, []))[1]
    for position, row in records:
      if len(row) != len(columns):
        break
      read.append(Answer(row[0], row[1], float(row[2])))
      if len(read) % batch_size == 0:
        end, kept = position, len(read)
    file.truncate(end)
  return read[:kept]


def _records(file: io.BufferedRandom) -> Iterator[tuple[int, list[str]]]:
  """(the place after it, its cells) of each complete record; a quoted name may hold line ends."""
  position, record = 0, ""
  for line in file:
    position += len(line)
    if not line.endswith(b"\n"):
      return
    record += line.decode("utf-8", "surrogateescape")
    if record.count('"') % 2 == 0:
      yield position, next(csv.reader(io.StringIO(record, newline="")))
      record = ""

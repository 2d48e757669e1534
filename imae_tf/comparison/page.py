"""Writes the tables and the page of a comparison: comparison.json, .md and .html.

`imae-compare` calls `write_tables` after each run, and `write` at its end.
"""

import itertools
import pathlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from imae_tf._shared import files
from imae_tf.comparison import pictures as drawn
from imae_tf.comparison import plan
from imae_tf.metrics import definitions
from imae_tf.reporting import html
from imae_tf.reporting import plots

Row = dict[str, Any]  # a row of comparison.json
Rows = Sequence[Row]
Pictures = dict[str, dict[str, html.Picture]]
Lines = list[list[str]]  # a table, its head first
Column = tuple[str, tuple[str, ...], int]  # title, metric or metrics, digits

_COLUMNS: tuple[Column, ...] = (
    ("accuracy", ("accuracy",), 3),
    ("reconstruction", ("reconstruction",), 1),
    (definitions.label("mi_y"), ("mi_y",), 3),
    (definitions.label("mi_z_joint"), ("mi_z_joint.naive", "mi_z_joint.leave_one_out"), 2),
    (definitions.label("mi_z"), ("mi_z.naive", "mi_z.leave_one_out"), 2),
    (
        definitions.label("total_correlation"),
        ("total_correlation.naive", "total_correlation.leave_one_out"), 2,
    ),
    (
        "its floor",
        ("total_correlation_floor.naive", "total_correlation_floor.leave_one_out"), 2,
    ),
    ("overlap", ("category_overlap",), 3),
    (definitions.label("mig"), ("mig",), 3),
    ("DCI", ("dci_disentanglement", "dci_completeness", "dci_informativeness"), 2),
    ("FactorVAE", ("factor_vae_score",), 3),
    ("minutes", ("train_seconds",), 1),
)
_PUBLISHED_IN = {
    "reconstruction": "reconstruction",
    definitions.label("mi_y"): "mi_y",
    definitions.label("mi_z_joint"): "mi_z",
    definitions.label("total_correlation"): "total_correlation",
}
_MISSING = "–"
_NOTHING = "No run has finished yet."


def write_tables(workdir: str | pathlib.Path) -> list[Row]:
  """Writes comparison.json and comparison.md of all finished runs; returns the rows."""
  workdir = pathlib.Path(workdir)
  rows = plan.rows(workdir)
  files.write_json(workdir / "comparison.json", rows)
  with files.replacing(workdir / "comparison.md") as temporary:
    temporary.write_text(markdown(rows, plan.failed(workdir)), encoding="utf-8")
  return rows


def write(workdir: str | pathlib.Path) -> None:
  """Writes all files of a comparison: the tables, `comparison.html` and `figures/*.png`."""
  workdir = pathlib.Path(workdir)
  rows = write_tables(workdir)
  groups = plan.groups(workdir)
  pictures = {
      dataset: drawn.of_dataset(of_dataset)
      for dataset, of_dataset in groups.items()
  }
  for dataset, of_dataset in pictures.items():
    for name, picture in of_dataset.items():
      with files.replacing(workdir / "figures" / f"{dataset}_{name}.png") as temporary:
        temporary.write_bytes(picture.png)
  with files.replacing(workdir / "comparison.html") as temporary:
    temporary.write_text(page(rows, pictures, plan.failed(workdir)), encoding="utf-8")


def markdown(rows: Rows, failed: dict[Any, str] | None = None) -> str:
  """The tables as Markdown.

  Args:
    rows: as `plan.rows` returns them.
    failed: {folder: reason} of runs that diverged.
  """
  parts = []
  for dataset in _datasets(rows):
    of_dataset = [row for row in rows if row["dataset"] == dataset]
    parts += [f"## {dataset}", *map(_table, (_means(of_dataset), _every_run(of_dataset)))]
    parts.insert(-1, _notes(of_dataset))
  if failed:
    lines = [f"- `{folder}`: {reason}" for folder, reason in failed.items()]
    parts += ["## Failed runs", "\n".join(lines)]
  return "\n\n".join(["# Comparison", *(parts or [_NOTHING])]) + "\n"


def means_table(rows: Rows) -> str:
  """The table of means of the rows of one data set, as Markdown."""
  return _table(_means(rows))


def page(rows: Rows, pictures: Pictures, failed: dict[Any, str] | None = None) -> str:
  """The tables and figures as one self-contained HTML page.

  Args:
    rows: as `plan.rows` returns them.
    pictures: {data set: {name: html.Picture}} of `pictures.of_dataset`.
    failed: {folder: reason} of runs that diverged.
  """
  datasets = []
  for name in _datasets(rows):
    of_dataset = [row for row in rows if row["dataset"] == name]
    datasets.append({
        "name": name, "means": _cells(_means(of_dataset)), "notes": _notes(of_dataset),
        "pictures": list(_groups(pictures.get(name, {}))), "runs": _cells(_every_run(of_dataset)),
    })
  return html.render(
      "comparison.html", title="Comparison", datasets=datasets, nothing=_NOTHING,
      runs=sum(len(row["seeds"]) for row in rows), failed=list((failed or {}).items()),
  )


def _groups(pictures: dict[str, html.Picture]) -> Iterator[list[html.Picture]]:
  """Yields the pictures in groups; those of a group stand side by side."""
  for prefix in ("rate_distortion", "confidence"):
    yield from ([picture] for name, picture in pictures.items() if name.startswith(prefix))
  for recipe in ("paper", "tuned"):
    alone = (f"{recipe}_tracked", f"{recipe}_maps", f"{recipe}_information")
    yield from ([pictures[name]] for name in alone if name in pictures)
    for kind in ("traversal", "drawn"):
      found = [p for name, p in pictures.items() if name.startswith(f"{recipe}_{kind}_")]
      yield from (found[i : i + 3] for i in range(0, len(found), 3))


def _cells(lines: Lines) -> list[list[Markup]]:
  """Cells in which a line may break only between the two numbers."""
  return [
      [html.subscripts(text.replace(" ±", "\u00a0±").replace(" /", "\u00a0/")) for text in line]
      for line in lines
  ]


def _datasets(rows: Rows) -> list[str]:
  return list(dict.fromkeys(row["dataset"] for row in rows))


def _columns(rows: Rows) -> list[Column]:
  """The columns for which at least one row has a figure."""
  return [c for c in _COLUMNS if any(name in row["metrics"] for row in rows for name in c[1])]


def _means(rows: Rows) -> Lines:
  """Mean ± standard deviation over seeds; below each method, the paper's figures for it."""
  columns = _columns(rows)
  lines = [["method", "weights", "seeds", *(title for title, _, _ in columns)]]
  for method, group in itertools.groupby(rows, key=lambda row: row["method"]):
    of_method = list(group)
    for row in of_method:
      cells = [_mean(row, names, digits) for _, names, digits in columns]
      lines.append([_title(row), _weights(row, rows), str(len(row["seeds"])), *cells])
    published = of_method[0]["published"]
    if published:
      cells = [str(published.get(_PUBLISHED_IN.get(title), "")) for title, _, _ in columns]
      lines.append([plots.NAMES[method], "as the paper reports", "", *cells])
  return lines


def _every_run(rows: Rows) -> Lines:
  columns = _columns(rows)
  lines = [["method", "weights", "seed", *(title for title, _, _ in columns)]]
  for row in rows:
    for i, seed in enumerate(row["seeds"]):
      cells = [_one(row, names, digits, i) for _, names, digits in columns]
      lines.append([_title(row), _weights(row, rows), str(seed), *cells])
  return lines


def _notes(rows: Rows) -> str:
  images = sorted({row["n"] for row in rows})
  floors = {f"{row['metrics']['reconstruction_floor']['mean']:.1f}" for row in rows}
  epochs = sorted({(row["recipe"], row["epochs"]) for row in rows})
  return (
      f"Test images: {', '.join(map(str, images))}. Reconstruction is in nats per image; its floor"
      f" is {', '.join(sorted(floors))}. I(x;z) is of all dimensions together. I(x;z), the sum over"
      " dimensions and TC are estimated over as many codes, naive / leave-one-out. The naive"
      " estimate of an information errs downwards and is at most ln n, leave-one-out errs upwards."
      " The floor of TC is the same estimate for the same factors made independent. The"
      " paper does not say whether its I(x;z) is joint or a sum, nor which estimator it uses."
      " Minutes are wall-clock of training, on a machine that may have had other work. Epochs:"
      f" {', '.join(f'{epochs} ({recipe})' for recipe, epochs in epochs)}."
  )


def _weights(row: Row, rows: Rows) -> str:
  """The recipe and the changed setting, and the epochs if runs of this kind differ in them."""
  found = {r["epochs"] for r in rows if all(r[k] == row[k] for k in ("recipe", "variant"))}
  epochs = f"{row['epochs']} epochs" if len(found) > 1 else ""
  return ", ".join(filter(None, (row["recipe"], row["variant"], epochs)))


def _title(row: Row) -> str:
  return plots.NAMES[row["method"]]


def _mean(row: Row, names: Sequence[str], digits: int) -> str:
  cells = []
  for name in names:
    found = row["metrics"].get(name)
    if found is None:
      return _MISSING
    scale = 1 / 60 if name == "train_seconds" else 1
    text = _number(found["mean"] * scale, digits)
    if len(names) == 1 and found["std"] is not None:
      text += f" ± {found['std'] * scale:.{digits}f}"
    cells.append(text)
  return " / ".join(cells)


def _one(row: Row, names: Sequence[str], digits: int, index: int) -> str:
  found = [row["metrics"].get(name) for name in names]
  if any(part is None or len(part["values"]) != len(row["seeds"]) for part in found):
    return _MISSING
  scale = 1 / 60 if names == ("train_seconds",) else 1
  return " / ".join(_number(part["values"][index] * scale, digits) for part in found)


def _number(value: float, digits: int) -> str:
  """A number as text; the estimates of a run that diverged may be of any size."""
  return f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.1e}"


def _table(lines: Lines) -> str:
  rows = ["| " + " | ".join(cells) + " |" for cells in lines]
  return "\n".join([rows[0], "|" + "---|" * len(lines[0]), *rows[1:]])

"""Writes MODEL_CARD.md, which says what a version is, what it is for, and how good it is.

`savedmodel.write` calls `write`. The figures come from the run's own files; if the run did not
measure something, the card says that it is missing.
"""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from imae_tf._shared import method_table
from imae_tf.metrics import definitions
from imae_tf.training import run_folder

CARD = "assets.extra/MODEL_CARD.md"

# Figures of metrics.json: (key, decimals, text after the label).
_FIGURES = (
    ("accuracy", 3, ": each category counts as the label that suits it best"),
    ("nmi", 3, " of category and label"),
    ("ari", 3, " of category and label"),
    ("mi_y", 3, ""),
    ("entropy_y", 3, ""),
    ("mi_z", 2, ""),
    ("total_correlation", 2, ""),
    ("reconstruction", 1, ", from p(y\\|x) and the mean of z"),
    ("reconstruction_floor", 1, ": what perfect reconstructions would cost"),
    ("used_categories", 0, ": with 1% of an even share of the images, or more"),
    ("active_units", 0, ": dimensions of z that move with the image"),
)
_MARKUP, _ESCAPED = re.compile(r"([\\`*_<>|\[\]&#])"), r"\\\1"
_LABELLED = ("accuracy", "nmi", "ari")


def write(
    path: str | os.PathLike[str],
    description: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    typical_of: int | None = None,
) -> None:
  """Writes the card of a SavedModel.

  Args:
    path: folder of the SavedModel.
    description: the content of its imae.json.
    config: the run's config.json; None if the model was not trained by imae-train.
    typical_of: number of images that typical_images.npz was chosen from; None without the file.
  """
  path = pathlib.Path(path) / CARD
  path.parent.mkdir(exist_ok=True)
  path.write_text(text(description, config, typical_of))


def text(
    description: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    typical_of: int | None = None,
) -> str:
  """The card as Markdown; the arguments are those of `write`."""
  sections = (
      _head(description),
      _meaning(description, typical_of),
      _use(),
      _data(description, config),
      _figures(description["evaluation"]),
      _dimensions(description["evaluation"]),
      _alignment(description.get("alignment")),
      _limits(description),
      _training(config),
      _versions(description),
  )
  return "\n\n".join(section for section in sections if section) + "\n"


def _head(description: Mapping[str, Any]) -> str:
  title = method_table.name_of(description["method"])
  return (
      f"# {title} on {description['dataset'] or 'data that was not recorded'}\n\n"
      f"Images {_shape(description)} to a category of {description['num_categories']} and"
      f" {description['latent_dim']} continuous factors, trained without labels."
      " Written by imae-export from the run's own files."
  )


def _meaning(description: Mapping[str, Any], typical_of: int | None) -> str:
  k1, k2 = description["latent_dim"], description["num_categories"]
  lines = [
      "## What y and z are",
      "",
      f"- `y` [N, {k2}]: probabilities p(y|x) of the categories 0 to {k2 - 1}. The numbers have no"
      " meaning of their own; training found the groups without names.",
      f"- `z` [N, {k1}]: means of the continuous factors p(z|x); `z_scale`: their standard"
      " deviations. The prior is N(0, 1) for each.",
      f"- Input: `x` [N, {', '.join(map(str, description['image_shape']))}], float32 in"
      f" [{_range(description)}]; bytes are divided by 255.",
  ]
  if "category_names" in description:
    given = enumerate(description["category_names"])
    named = [f"{k} {_MARKUP.sub(_ESCAPED, name)}" for k, name in given if name != str(k)]
    lines.append(f"- Names that people gave to categories: {', '.join(named)}.")
  if "images" in description:
    done = description["images"]
    size = "x".join(map(str, done["size"]))
    lines.append(
        f"- `encode_image_bytes` takes PNG and JPEG files of any size and makes of them what the"
        f" model was trained on: {size} pixels, {done['color']}, fit by {done['fit']}."
    )
  if typical_of is not None:
    lines.append(
        "- `typical_images.npz` beside this card holds the most probable images of each category"
        f" among {typical_of:,} training images: they are copies of training data."
    )
  return "\n".join(lines)


def _use() -> str:
  return (
      "## Intended use\n\n"
      "Grouping, ordering, searching and generating images like those it was trained on. For"
      " images of another kind it still answers with a category and gives no warning. A category"
      " is no label, and nothing in this card shows it fit for decisions about people."
  )


def _data(description: Mapping[str, Any], config: Mapping[str, Any] | None) -> str:
  if description["dataset"] is None:
    return "## Data\n\nNot recorded."
  holdout = (config or {}).get("holdout")
  kept = f" {holdout:,} training images were held out of it." if holdout else ""
  return f"## Data\n\nThe training split of `{description['dataset']}`, without its labels.{kept}"


def _figures(evaluation: Mapping[str, Any] | None) -> str:
  if not evaluation:
    return "## Figures\n\nNot measured: run `imae-evaluate`, then export again."
  rows = [
      f"| {definitions.axis(key)}{more} | {_value(evaluation[key], decimals)} |"
      for key, decimals, more in _FIGURES
      if evaluation.get(key) is not None
  ]
  unlabelled = [key for key in _LABELLED if evaluation.get(key) is None]
  note = "\n\nWithout labels there is no accuracy." if unlabelled == list(_LABELLED) else ""
  return (
      f"## Figures\n\n{_measured_on(evaluation)}\n\n| figure | value |\n|---|---|\n"
      + "\n".join([*rows, *_baselines(evaluation)])
      + note
  )


def _measured_on(evaluation: Mapping[str, Any]) -> str:
  n, codes = evaluation.get("n"), evaluation.get("codes")
  if n is None:
    return "The number of images was not recorded."
  split = f" {evaluation['split']}" if evaluation.get("split") else ""
  fewer = f" (estimates of z and TC: {codes:,} codes)" if codes and codes != n else ""
  return f"n = {n:,}{split} images{fewer}."


def _baselines(evaluation: Mapping[str, Any]) -> list[str]:
  return [
      f"| accuracy of {name.replace('_', ' ')} on the same images | {value:.3f} |"
      for name, value in sorted((evaluation.get("baselines") or {}).items())
  ]


def _dimensions(evaluation: Mapping[str, Any] | None) -> str | None:
  mi = dict(sorted(((evaluation or {}).get("mi_z_per_dimension") or {}).items(), reverse=True))
  if not mi:
    return None
  head = [definitions.label(f"mi_z_per_dimension.{name}") for name in mi]
  rows = zip(*mi.values(), strict=True)
  lines = [f"| z{k} | {' | '.join(f'{value:.2f}' for value in row)} |"
           for k, row in enumerate(rows)]
  return "\n".join([
      "## Information of each dimension, nats",
      "",
      f"| dimension | {' | '.join(head)} |",
      "|---" * (len(head) + 1) + "|",
      *lines,
  ])


def _alignment(record: Mapping[str, Any] | None) -> str | None:
  if record is None:
    return None
  rows = [
      f"| {split} | {found['n']:,} | {found['aligned']:.3f} | {found['best']:.3f} |"
      f" {found['before']:.3f} |"
      for split, found in record["agreement"].items()
  ]
  correlations = ", ".join(f"{value:.2f}" for value in record["correlation_per_dimension"])
  return (
      f"## Alignment\n\nCategories, dimensions and signs are in the order of version"
      f" {record['version']}, matched on the {record['decided_on']} images. Share of images with"
      " the same category in both:\n\n"
      "| split | n | aligned | best permutation | before |\n|---|---|---|---|---|\n"
      + "\n".join(rows)
      + f"\n\nCorrelations of the matched dimensions, z0 first: {correlations}."
      " A weak correlation means that the old dimension has no counterpart."
  )


def _limits(description: Mapping[str, Any]) -> str:
  evaluation = description["evaluation"] or {}
  lines = [
      "## Limits",
      "",
      "- Naive estimates of information are at most ln n and err downwards; leave-one-out errs"
      " upwards.",
      "- High I(x;y) does not prove that the categories are the ones you have in mind: look at"
      " typical images.",
      "- Retrained without `--align_to`, categories and dimensions come out in another order.",
  ]
  used = evaluation.get("used_categories")
  if used is not None and used < description["num_categories"]:
    lines.append(
        f"- {description['num_categories'] - used} of {description['num_categories']} categories"
        " have no images, or hardly any."
    )
  return "\n".join(lines)


def _training(config: Mapping[str, Any] | None) -> str:
  if not config:
    return "## Training\n\nNot recorded: the model does not come from a run of imae-train."
  settings = config.get("settings", {})
  listed = ", ".join(f"{name} {value}" for name, value in sorted(settings.items()))
  rest = f"\n\nAll settings of the run: {listed}." if listed else ""
  return f"## Training\n\n```sh\n{run_folder.command(config)}\n```{rest}"


def _versions(description: Mapping[str, Any]) -> str:
  rows = [f"{name} {number}" for name, number in sorted(description["versions"].items())]
  return (
      f"## Versions\n\nExported with {', '.join(rows)}; imae.json format {description['format']}."
  )


def _shape(description: Mapping[str, Any]) -> str:
  height, width, channels = description["image_shape"]
  return f"of {height}x{width} pixels and {channels} channel{'s' if channels > 1 else ''}"


def _range(description: Mapping[str, Any]) -> str:
  return ", ".join(f"{bound:g}" for bound in description["image_range"])


def _value(value: float | Mapping[str, float], decimals: int) -> str:
  if isinstance(value, Mapping):
    estimates = sorted(value.items(), reverse=True)  # naive first
    return ", ".join(f"{v:.{decimals}f} {_estimator(name)}" for name, v in estimates)
  return f"{value:.{decimals}f}"


def _estimator(name: str) -> str:
  return name.replace("_", "-")

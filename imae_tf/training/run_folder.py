"""Reads and writes the folder of a run: its configuration, checkpoints, model and figures.

    config.json  split.json  unreadable.txt  cache/
    checkpoints/epoch-0007.keras  model.keras  history.csv  tensorboard/
    metrics.json  report.html  figures/*.png  restarts/  names.json (of categories, by hand)

Training writes these files; evaluation, export, comparison and search read them. Each file is
written under another name and then renamed, so that nobody ever sees half of a file, not even
after a kill.
"""

import csv
import pathlib
import re
import shlex
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING

from imae_tf import recipes
from imae_tf._shared import extras
from imae_tf._shared import files
from imae_tf._shared import formats
from imae_tf._shared import paths
from imae_tf._shared import setting
from imae_tf.errors import first_line
from imae_tf.errors import InputError
from imae_tf.metrics import definitions
from imae_tf.training.keras_file import load as load_keras

if TYPE_CHECKING:
  from imae_tf.models import HybridAutoencoder

FORMAT_VERSION = 1
# The entries of config.json that the programs need.
_NEEDED = {"dataset", "method", "recipe", "epochs", "seed", "holdout", "num_categories"}
_CHECKPOINT = re.compile(r"epoch-(\d+)\.keras")
_PARTIAL_CHECKPOINT = re.compile(r"epoch-(\d+)-step-(\d+)\.(keras|json)")
_KEPT_CHECKPOINTS = 2


def check_free(workdir: str | pathlib.Path) -> None:
  """Checks that a folder holds nothing but a run, or what a run makes before its config.json.

  Raises:
    InputError: the folder holds something else.
  """
  before = ("cache", "split.json", "unreadable.txt")
  files.check_free(workdir, "a run's folder", marker="config.json", ours=before)


def check(workdir: str | pathlib.Path, config: dict[str, Any]) -> None:
  """Checks that a folder is free for a run, or holds the same run; changes nothing.

  Args:
    workdir: the folder.
    config: JSON-ready dict. If the folder has a run, only "epochs" may differ, and it may only
      grow; and "dataset", if "data" says that the images are the same.

  Raises:
    InputError: the folder holds something else, a run of another configuration or of other
      images, or a damaged file.
  """
  folder = pathlib.Path(workdir)
  check_free(folder)
  if not (folder / "config.json").exists():
    return
  old = read_config(workdir)
  ignored = ["format", "epochs", "cache", "data"]
  if have_moved(old, config):
    ignored.append("dataset")
  differing = formats.differences(_flat(old), _flat(config), ignored)
  if not differing and config["epochs"] < old["epochs"]:
    differing = [f"epochs {old['epochs']} -> {config['epochs']}"]
  if differing:
    raise InputError(
        f"expected the configuration of the run in {workdir}, got {', '.join(differing)};"
        " only --epochs may grow: repeat the first command, or give another --workdir."
    )
  check_images(old, config, f"the run in {workdir}")
  rows, saved = len(read_history(workdir)), max(checkpoints(workdir), default=0)
  if rows < saved:
    path = folder / "history.csv"
    raise InputError(_damaged_history(path, f"{rows} rows after {saved} epochs"))


def check_images(old: Mapping[str, Any], new: Mapping[str, Any], whose: str) -> None:
  """Compares what tells the images ("data", as of `ImageData.fingerprint`) in two configurations.

  Args:
    old: the one on disk; earlier versions did not keep "data", and then nothing is compared.
    new: the present one.
    whose: the images are, for the message.

  Raises:
    InputError: the images are others.
  """
  kept, found = old.get("data"), new.get("data")
  if kept and found and kept != found:
    raise InputError(
        f"expected the {kept['n']} images of {whose}, got others in {new['dataset']}"
        f" ({found['n']}, of another checksum); put them back, name with --dataset where they are"
        " now, or give another --workdir."
    )


def have_moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
  """Whether the images of two configurations, as of `check_images`, are the same elsewhere."""
  kept = old.get("data")
  return kept is not None and kept == new.get("data") and old["dataset"] != new["dataset"]


def _flat(config: dict[str, Any]) -> dict[str, Any]:
  """Settings and other entries in one dict; no versions, as a newer one may go on with a run.

  A setting that is younger than the run has its default.
  """
  rest = {name: v for name, v in config.items() if name not in ("settings", "versions")}
  flat = {**recipes.settings(recipes.PAPER, config["method"]), **rest, **config["settings"]}
  return {name: list(v) if isinstance(v, tuple) else v for name, v in flat.items()}  # as in JSON


def start(workdir: str | pathlib.Path, config: dict[str, Any]) -> None:
  """Claims a folder that passes `check` for a run, or gives the run in it more epochs.

  If its images have moved, config.json tells their new place from then on.

  Args:
    workdir: the folder.
    config: as in `check`.

  Raises:
    InputError: as `check`.
  """
  check(workdir, config)
  folder = pathlib.Path(workdir)
  if not (folder / "config.json").exists():
    files.write_json(folder / "config.json", {"format": FORMAT_VERSION, **config})
    return
  old = read_config(workdir)
  if config["epochs"] > old["epochs"]:
    # These files describe the shorter run; its weights are in the newest checkpoint.
    for name in ("model.keras", "metrics.json", "report.html"):
      (folder / name).unlink(missing_ok=True)
  if config["epochs"] > old["epochs"] or have_moved(old, config):
    changed = {name: config[name] for name in ("dataset", "epochs")}
    files.write_json(folder / "config.json", {**old, **changed})
  for path in folder.glob("**/.tmp-*.keras"):  # unfinished files of a run that was killed
    path.unlink()


def read_config(workdir: str | pathlib.Path) -> dict[str, Any]:
  """The run's config.json as a dict.

  Raises:
    InputError: there is no run in the folder, or the file is damaged or has another format.
  """
  path = paths.folder(workdir, "a workdir") / "config.json"
  if path.with_name("search.json").exists():
    raise InputError(
        f"expected a run, got the search {workdir}; give {workdir}/best, which is there when a"
        " trial is completed."
    )
  compared = sorted(path.parent.glob("runs/*/*/seed-*"))
  if compared and not path.exists():
    raise InputError(
        f"expected a run, got the comparison {workdir}; give one of its runs, as {compared[0]}."
    )
  if not path.exists():
    raise InputError(
        f"expected a run in {workdir}, got no {path}; correct the path, or run imae-train first."
    )
  config = files.read_json(path, "restore it, or give another --workdir")
  formats.check(path, config, FORMAT_VERSION)
  missing = sorted(_NEEDED - config.keys())
  if missing:
    raise InputError(f"expected {missing[0]!r} in {path}, got none; restore the file, or train"
                     " again in another --workdir.")
  return config


def load_model(workdir: str | pathlib.Path) -> tuple["HybridAutoencoder", dict[str, Any]]:
  """The trained model of a run and its configuration: (model, config).

  Raises:
    InputError: there is no run, the run has not finished, or a file is damaged.
  """
  config = read_config(workdir)
  path = paths.folder(workdir, "a workdir") / "model.keras"
  if not path.exists():
    raise InputError(f"expected a finished run in {workdir}, got no model.keras; run the same"
                     " imae-train command again to finish it.")
  return load_keras(path), config


def save_keras(model: "HybridAutoencoder", path: str | pathlib.Path) -> None:
  """`model.save`, atomically."""
  with files.replacing(path) as temporary:
    model.save(temporary)


class Checkpoint(NamedTuple):
  """A saved model with its optimizer.

  Attributes:
    epochs: Number of finished epochs.
    steps: Number of finished steps of the next epoch.
    path: Path of the Keras file.
  """

  epochs: int
  steps: int
  path: pathlib.Path

  def log_sums(self) -> dict[str, list[float]]:
    """{name: (sum, weight)} of the logs of an unfinished epoch; empty after a whole epoch."""
    mend = f"restore it, or move {self.path.name} out of the folder"
    return files.read_json(self.path.with_suffix(".json"), mend) if self.steps else {}


def checkpoints(workdir: str | pathlib.Path) -> dict[int, pathlib.Path]:
  """The checkpoints after whole epochs: {number of finished epochs: path}, ascending."""
  found = {int(m.group(1)): path for m, path in _matching(workdir, _CHECKPOINT)}
  return dict(sorted(found.items()))


def newest_checkpoint(workdir: str | pathlib.Path) -> Checkpoint | None:
  """The newest `Checkpoint`, from which a run goes on, within or after an epoch; or None."""
  whole = [(int(m.group(1)), 0, path) for m, path in _matching(workdir, _CHECKPOINT)]
  within = [
      (int(m.group(1)), int(m.group(2)), path)
      for m, path in _matching(workdir, _PARTIAL_CHECKPOINT)
      if path.suffix == ".keras"
  ]
  return Checkpoint(*max(whole + within)) if whole or within else None


def _matching(
    workdir: str | pathlib.Path, pattern: re.Pattern[str]
) -> list[tuple[re.Match[str], pathlib.Path]]:
  found = list((pathlib.Path(workdir) / "checkpoints").glob("*"))
  return [(m, path) for path in found if (m := pattern.fullmatch(path.name))]


def save_checkpoint(
    model: "HybridAutoencoder", workdir: str | pathlib.Path, epochs: int
) -> None:
  """Saves a model and its optimizer after `epochs` epochs; keeps the last two checkpoints."""
  save_keras(model, pathlib.Path(workdir) / "checkpoints" / f"epoch-{epochs:04d}.keras")
  for path in list(checkpoints(workdir).values())[:-_KEPT_CHECKPOINTS]:
    path.unlink()
  _forget_partial_checkpoints(workdir, (epochs, 0))


def save_partial_checkpoint(
    model: "HybridAutoencoder",
    workdir: str | pathlib.Path,
    epochs: int,
    steps: int,
    log_sums: dict[str, list[float]],
) -> None:
  """Saves a model within an epoch, with `Checkpoint.log_sums`; only the last one is kept."""
  path = pathlib.Path(workdir) / "checkpoints" / f"epoch-{epochs:04d}-step-{steps:06d}.keras"
  files.write_json(path.with_suffix(".json"), log_sums)  # first, so a Keras file always has it
  save_keras(model, path)
  _forget_partial_checkpoints(workdir, (epochs, steps))


def _forget_partial_checkpoints(workdir: str | pathlib.Path, before: tuple[int, int]) -> None:
  """Removes those before (epochs, steps), also a .json without a model, left by a kill."""
  for match, path in _matching(workdir, _PARTIAL_CHECKPOINT):
    if (int(match.group(1)), int(match.group(2))) < before:
      path.unlink()


def read_history(workdir: str | pathlib.Path) -> list[dict[str, float]]:
  """history.csv as a list of dicts, one per finished epoch; empty when there is none.

  A row has no value that its epoch did not measure: imae-compare measures more than imae-train, and
  either may go on with the other's run.

  Raises:
    InputError: the file is damaged.
  """
  path = pathlib.Path(workdir) / "history.csv"
  if not path.exists():
    return []
  try:
    with path.open(newline="") as file:
      rows = [
          {k: int(v) if k == "epoch" else float(v) for k, v in row.items() if v != ""}
          for row in csv.DictReader(file)
      ]
    epochs = [row["epoch"] for row in rows]
  except (ValueError, TypeError, KeyError, csv.Error) as error:
    raise InputError(_damaged_history(path, first_line(error))) from error
  if epochs != list(range(1, len(rows) + 1)):
    raise InputError(_damaged_history(path, f"epochs {epochs}"))
  return rows


def write_history(workdir: str | pathlib.Path, rows: list[dict[str, float]]) -> None:
  """Writes history.csv anew, atomically: the columns of all rows, empty where a row has none."""
  columns = list(dict.fromkeys(name for row in rows for name in row)) or ["epoch"]
  replacing = files.replacing(pathlib.Path(workdir) / "history.csv")
  with replacing as temporary, temporary.open("w", newline="") as file:
    writer = csv.DictWriter(file, fieldnames=columns)
    writer.writeheader()
    writer.writerows(rows)


def summary(metrics: dict[str, Any], workdir: str | pathlib.Path) -> str:
  """The main figures of metrics.json, as a few lines for people."""
  lines = []
  if metrics["accuracy"] is not None:
    baselines = ", ".join(
        f"{name.replace('_', ' ')} {value:.3f}"
        for name, value in sorted(metrics["baselines"].items())
    )
    beside = f" ({baselines})" if baselines else ""  # too few images for them
    lines.append(f"accuracy        {metrics['accuracy']:.3f} without labels{beside}")
  lines += [
      f"{definitions.label('mi_y'):<16}{metrics['mi_y']:.3f} nats",
      f"reconstruction  {metrics['reconstruction']:.1f} nats per image"
      f" (floor {metrics['reconstruction_floor']:.1f})",
  ]
  lines += metrics.get("remarks", [])  # older files have none
  if not extras.missing("report"):
    lines.append(f"report          {pathlib.Path(workdir) / 'report.html'}")
  return "\n".join(lines)


def command(config: Mapping[str, Any]) -> str:
  """The imae-train command for a config.json; settings that differ from the recipe are flags."""
  names = ("dataset", "method", "num_categories", "latent_dim", "epochs", "seed")
  given = {name: config[name] for name in (*names, "recipe") if name in config}
  if config.get("holdout"):
    given["holdout"] = config["holdout"]
  if config.get("deterministic") is False:
    given["deterministic"] = False
  if "images" in config:
    made = config["images"]
    given |= {"image_size": "x".join(map(str, made["size"])), "fit": made["fit"]}
    given["color"] = made["color"]
  if config.get("labels"):
    given["labels"] = config["labels"]
  given |= config.get("given", {}) if given["recipe"] == "auto" else _unusual(config)
  flags = [f"--{name}={setting.write(value)}" for name, value in sorted(given.items())]
  return shlex.join(["imae-train", *flags, "--workdir=WORKDIR"])


def _unusual(config: Mapping[str, Any]) -> dict[str, Any]:
  """The settings of a run that are not those of its recipe."""
  recipe = recipes.get(config["recipe"], config["dataset"], config["method"])
  usual = recipes.settings(recipe, config["method"])
  return {
      name: value
      for name, value in config.get("settings", {}).items()
      if name in usual and setting.write(value) != setting.write(usual[name])
  }


def _damaged_history(path: pathlib.Path, what: str) -> str:
  return (
      f"expected one row of numbers for each epoch in {path}, got a damaged file ({what});"
      " restore it, or train again in another --workdir."
  )

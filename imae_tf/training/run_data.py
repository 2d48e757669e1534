"""The images of a run: those that it was trained on, for every program that comes after.

    split.json      names of the test and the held-out files of a folder
    unreadable.txt  a line for each file that was skipped, with what is wrong with it

Both stand in the run's folder. The split is stored, and not drawn again, so that a file that comes
or goes moves no other one from training to test.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from imae_tf._shared import files
from imae_tf.data import loading
from imae_tf.data import mapped
from imae_tf.data import pipelines
from imae_tf.data import splits
from imae_tf.data.reading import Reading
from imae_tf.errors import InputError
from imae_tf.training import run_folder

_SPLIT, _UNREADABLE = "split.json", "unreadable.txt"


def as_trained(workdir: str | pathlib.Path, asked: Reading) -> Reading:
  """What is asked for, with the split of the run that a folder holds, if it holds one.

  Args:
    workdir: Folder of a run, or of one that is to be.
    asked: By the user, for training.
  """
  if not (pathlib.Path(workdir) / "config.json").exists():
    return asked
  config = run_folder.read_config(workdir)
  return dataclasses.replace(asked, split=_rule(workdir, config))


def load(
    workdir: str | pathlib.Path,
    config: Mapping[str, Any],
    labels: str | None = None,
    say: Callable[[str], Any] = print,
) -> pipelines.ImageData:
  """The images that a run was trained on, split as they were.

  Args:
    workdir: Folder of the run.
    config: Its config.json.
    labels: As of `data.load`; None for those of the run.
    say: As of `data.load`.

  Raises:
    InputError: They are gone, or are no longer what they were.
  """
  reading = Reading.of_preparation(config["images"]) if "images" in config else Reading()
  reading = dataclasses.replace(
      reading,
      labels=labels or config.get("labels"),
      cache=config.get("cache"),
      split=_rule(workdir, config),
      on_bad_file="skip" if "split" in config else "fail",  # files are counted by their places
  )
  return loading.opened(config["dataset"], reading, holdout=config["holdout"], say=say)


def about(reading: Reading, data: pipelines.ImageData) -> dict[str, Any]:
  """The entries of config.json that `load` needs beside the name of the data set."""
  entries: dict[str, Any] = {}
  if data.preparation is not None and reading.split != "in_order":
    entries["images"] = data.preparation.record()
  if data.source is not None and reading.split != "in_order":
    entries["split"] = "random"
    if isinstance(data, mapped.MappedData) and reading.cache is not None:
      entries["cache"] = os.path.abspath(reading.cache)
  if reading.labels is not None:
    entries["labels"] = reading.labels
  return entries


def write(workdir: str | pathlib.Path, data: pipelines.ImageData) -> None:
  """Writes `split.json` and `unreadable.txt` for the files of a folder; nothing for other data."""
  source, folder = data.source, pathlib.Path(workdir)
  if source is None:
    return
  if not (folder / _SPLIT).exists():
    names = {split: source.names[split] for split in source.names if split != "train"}
    files.write_json(folder / _SPLIT, names)
  lines = [f"{name}: {error}\n" for name, error in sorted(source.unreadable.items())]
  if not lines:
    (folder / _UNREADABLE).unlink(missing_ok=True)
    return
  with files.replacing(folder / _UNREADABLE) as temporary:
    # Names of any bytes: those that are no UTF-8 are written as they are.
    temporary.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")


def check_differ(data: pipelines.ImageData) -> None:
  """Raises an InputError if all training images are equal: nothing tells them apart."""
  first = None
  for batch in data.batches("train", 64):
    images = batch.numpy()
    first = images[0] if first is None else first
    if (images != first).any():
      return
  raise InputError(
      f"expected images that differ, got {data.size('train')} equal training images in"
      f" {data.name!r}; give others, or look at what --image_size and --fit leave of them."
  )


def _rule(workdir: str | pathlib.Path, config: Mapping[str, Any]) -> splits.Rule:
  if "split" not in config:
    # Of arrays there is one rule; earlier versions split folders by their paths.
    return "in_order" if os.path.isdir(config["dataset"]) else "random"
  path = pathlib.Path(workdir) / _SPLIT
  if not path.exists():
    return "random"
  names = files.read_json(path)
  return splits.Stored(tuple(names["test"]), tuple(names.get("holdout", ())))

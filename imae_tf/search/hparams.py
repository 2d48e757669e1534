"""Writes the trials of a search for TensorBoard's HPARAMS table: their weights and results.

`search.driver` calls `write` after each trial.
"""

import pathlib
import time
from collections.abc import Iterable
from typing import Any

from tensorboard.plugins.hparams import api
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import summary as summaries

from imae_tf._shared import event_file
from imae_tf._shared import files
from imae_tf.metrics import definitions

# The figures of a trial that the table shows beside the objective.
_FIGURES = ("mi_y", "mi_z", "total_correlation", "reconstruction")
_STATUS = {"COMPLETED": api_pb2.STATUS_SUCCESS, "FAILED": api_pb2.STATUS_FAILURE}


def tag(figure: str) -> str:
  """The name of a figure of `hypermodel.measure` in the table."""
  return definitions.axis(figure)


def write(workdir: str | pathlib.Path, found: dict[str, Any]) -> None:
  """Writes an event file into the folder of each trial that has ended and has none yet.

  Each trial is a session of the table, under its number. Its runs stand below it in TensorBoard's
  list: `trials/7` and `trials/7/run-0/tensorboard`.

  Args:
    workdir: folder of the search.
    found: the content of its trials.json.
  """
  for trial in found["trials"]:
    path = pathlib.Path(workdir) / trial["folder"] / event_file.LONE_NAME
    if trial["status"] in _STATUS and not path.exists():
      with files.replacing(path) as temporary:
        _write_trial(event_file.EventFile(temporary), trial, found)


def _write_trial(
    file: event_file.EventFile, trial: dict[str, Any], found: dict[str, Any]
) -> None:
  ended = time.time()
  names = dict.fromkeys((found["objective"], *_FIGURES))
  file.summary(_experiment(found, names), step=0)
  start = api.hparams_pb(
      trial["weights"], trial_id=trial["id"], start_time_secs=ended - (trial["seconds"] or 0)
  )
  file.summary(start, step=0)
  if trial["figures"]:
    file.scalars({tag(name): trial["figures"][name] for name in names}, step=0)
  file.summary(summaries.session_end_pb(_STATUS[trial["status"]], ended), step=0)
  file.close()


def _experiment(found: dict[str, Any], names: Iterable[str]) -> Any:
  """The columns of the table; TensorBoard uses those of the first trial that it reads."""
  return api.hparams_config_pb(
      hparams=[api.HParam(name, _domain(part)) for name, part in found["space"].items()],
      metrics=[api.Metric(tag(name)) for name in names],
  )


def _domain(part: dict[str, Any]) -> api.Discrete | api.RealInterval:
  if "values" in part:
    return api.Discrete(part["values"])
  return api.RealInterval(float(part["low"]), float(part["high"]))

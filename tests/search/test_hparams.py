"""The HPARAMS table of a search: what TensorBoard reads of each trial is what trials.json says."""

import boards
import pytest
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import metadata

from imae_tf.search import hparams

FIGURES = {
    "neighbor_mi_y": 1.9, "mi_y": 2.1, "mi_z": 3.0, "total_correlation": 0.4,
    "reconstruction": 18.5, "active_units": 7,
}


def trial(number, status, figures=None):
  weights = {"beta": 0.5 * number, "latent_dim": 10 + number, "encoder_units": "500-500"}
  return {
      "id": str(number), "status": status, "weights": weights, "folder": f"trials/{number}",
      "seconds": None if figures is None else 60.0, "figures": figures,
  }


FOUND = {
    "objective": "neighbor_mi_y",
    "space": {
        "beta": {"low": 0.5, "high": 20.0, "sampling": "log"},
        "latent_dim": {"low": 2, "high": 32, "sampling": "log"},
        "encoder_units": {"values": ["500-500", "500-1000"]},
    },
    "trials": [trial(1, "COMPLETED", FIGURES), trial(2, "FAILED"), trial(3, "RUNNING")],
}


content = boards.hparams_content


def test_a_trial_has_its_weights_its_figures_and_its_end(tmp_path):
  hparams.write(tmp_path, FOUND)
  folder = tmp_path / "trials/1"
  assert boards.weights(folder) == FOUND["trials"][0]["weights"]
  start = content(folder, metadata.SESSION_START_INFO_TAG).session_start_info
  end = content(folder, metadata.SESSION_END_INFO_TAG).session_end_info
  assert start.group_name == "1" and end.status == api_pb2.STATUS_SUCCESS
  assert end.end_time_secs - start.start_time_secs == pytest.approx(60.0)
  found = boards.read(folder)
  told = {tag: float(points[0][1]) for tag, points in found.items() if "hparams" not in tag}
  assert told == {
      "I(c;c′) [nats]": pytest.approx(1.9),
      "I(x;y) [nats]": pytest.approx(2.1),
      "Σ I(x;zₖ) [nats]": pytest.approx(3.0),
      "TC(y,z) [nats]": pytest.approx(0.4),
      "Reconstruction loss [nats per image]": pytest.approx(18.5),
  }


def test_the_columns_are_the_space_and_the_objective_first(tmp_path):
  hparams.write(tmp_path, FOUND)
  experiment = content(tmp_path / "trials/1", metadata.EXPERIMENT_TAG).experiment
  names = [info.name for info in experiment.hparam_infos]
  assert names == ["beta", "latent_dim", "encoder_units"]
  beta, _, widths = experiment.hparam_infos
  assert (beta.domain_interval.min_value, beta.domain_interval.max_value) == (0.5, 20.0)
  told = {value.string_value for value in widths.domain_discrete.values}
  assert told == {"500-500", "500-1000"}
  assert experiment.metric_infos[0].name.tag == hparams.tag("neighbor_mi_y")


def test_failed_trials_are_shown_and_unfinished_ones_are_not(tmp_path):
  hparams.write(tmp_path, FOUND)
  end = content(tmp_path / "trials/2", metadata.SESSION_END_INFO_TAG).session_end_info
  assert end.status == api_pb2.STATUS_FAILURE
  assert boards.weights(tmp_path / "trials/2")["beta"] == 1.0
  assert not (tmp_path / "trials/3").exists()


def test_a_trial_is_written_once(tmp_path):
  """A search writes its files after each trial, and again when it goes on."""
  hparams.write(tmp_path, FOUND)
  before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfevents*")}
  later = [*FOUND["trials"][:2], trial(3, "COMPLETED", FIGURES)]
  hparams.write(tmp_path, {**FOUND, "trials": later})
  after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfevents*")}
  assert before.items() < after.items() and len(after) == 3

"""The registry of measures: labels, that the logs are in it, and that labels stand nowhere else."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

import imae_tf
from imae_tf.metrics import definitions
from imae_tf.models import hybrid
from imae_tf.training import tensorboard

ROOT = pathlib.Path(imae_tf.__file__).parent.parent
ROOMS = [ROOT / room for room in ("imae_tf", "trainers", "export")]


@pytest.mark.parametrize(
    ("key", "label", "axis"),
    [
        ("mi_z", "Σ I(x;zₖ)", "Σ I(x;zₖ) [nats]"),
        ("mi_z.leave_one_out", "Σ I(x;zₖ), leave-one-out", "Σ I(x;zₖ), leave-one-out [nats]"),
        ("val_mi_y", "I(x;y), held out", "I(x;y), held out [nats]"),
        ("accuracy", "Accuracy", "Accuracy"),
        ("baselines.ward", "Baseline accuracy, ward", "Baseline accuracy, ward"),
        ("my_own", "my_own", "my_own"),
    ],
)
def test_labels(key, label, axis):
  assert (definitions.label(key), definitions.axis(key)) == (label, axis)


def test_what_training_logs_is_in_the_registry():
  logged = {name for names in tensorboard._SECTIONS.values() for name in names}
  assert logged >= set(hybrid._LOGGED)
  assert logged <= definitions.DEFINITIONS.keys()


def test_the_registry_needs_no_tensorflow():
  code = "import sys; from imae_tf.metrics import definitions; print('tensorflow' in sys.modules)"
  command = [sys.executable, "-P", "-c", code]
  assert subprocess.run(command, capture_output=True, text=True).stdout == "False\n"


def test_every_name_of_the_room_loads():
  from imae_tf import metrics

  for name in dir(metrics):
    assert getattr(metrics, name) is not None


def test_labels_stand_in_the_registry_alone():
  """As texts of their own or parts of short ones; docstrings and sentences speak of them freely."""
  labels = {d.name for d in definitions.DEFINITIONS.values() if not d.name.isalpha()}
  labels |= {label.replace("ₖ", part) for label in labels for part in ("_k", "$_k$")}
  found = {
      (str(path.relative_to(ROOT)), label)
      for room in ROOMS
      for path in room.rglob("*.py")
      if path != pathlib.Path(definitions.__file__)
      for label in labels & parts(path)
  }
  assert not found


def parts(path):
  """The texts in a module that are at most 60 characters, cut where a unit or a list begins."""
  tree = ast.parse(path.read_text())
  sentences = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
  return {
      part.strip()
      for node in ast.walk(tree)
      if isinstance(node, ast.Constant) and isinstance(node.value, str)
      if id(node) not in sentences and len(node.value) <= 60
      for part in re.split(r", | \(| \[|/|=|\bsum ", node.value)
  }

"""What `pip install imae_tf` does without an extra, and what it says of the rest."""

import json
import subprocess
import sys

import numpy as np
import pytest
import sklearn.datasets

from imae_tf._shared import extras

_ALONE = """
import importlib, sys
for library in {libraries}:
  sys.modules[library] = None
program = importlib.import_module("imae_tf." + {module!r})
sys.argv[0] = {name!r}
program.cli()
"""
_PROGRAMS = {
    "imae-train": "trainers.train", "imae-evaluate": "trainers.evaluate",
    "imae-compare": "trainers.compare", "imae-tune": "trainers.tune",
    "imae-export": "export.export", "imae-encode": "export.encode",
}


def alone(name, cwd, *arguments):
  """A program in a process that finds no library of any extra."""
  own = {"grpc", "google.protobuf"}  # TensorFlow and TensorBoard bring these
  brought = {library for libraries in extras.LIBRARIES.values() for library in libraries}
  libraries = sorted(brought - own)
  code = _ALONE.format(libraries=libraries, module=_PROGRAMS[name], name=name)
  return subprocess.run(
      [sys.executable, "-P", "-c", code, *arguments],
      capture_output=True, text=True, check=False, cwd=cwd,
  )


def test_the_core_trains_measures_exports_and_encodes(tmp_path):
  digits = sklearn.datasets.load_digits()
  images = (digits.images[:200] / 16).astype("float32")
  np.savez(tmp_path / "images.npz", x=images, y=digits.target[:200])
  steps = [
      ("imae-train", "--dataset=images.npz", "--workdir=run", "--epochs=1", "--batch_size=64",
       "--restarts=2", "--restart_epochs=1", "--encoder_units=16", "--decoder_units=16"),
      ("imae-evaluate", "--workdir=run"),
      ("imae-export", "--workdir=run", "--base=models"),
      ("imae-encode", "--saved_model=models", "--input=images.npz", "--output=codes.npz"),
  ]
  said = {}
  for name, *arguments in steps:
    done = alone(name, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    said[name] = done.stdout + done.stderr
  assert said["imae-train"].count("TensorBoard gets no pictures, which need matplotlib") == 1
  assert "There will be no report.html, which needs matplotlib" in said["imae-evaluate"]
  assert "pip install 'imae_tf[report]'" in said["imae-evaluate"]
  assert 0 <= json.loads((tmp_path / "run/metrics.json").read_text())["accuracy"] <= 1
  assert not (tmp_path / "run/report.html").exists()
  assert np.load(tmp_path / "codes.npz")["y"].shape == (40, 10)


@pytest.mark.parametrize(
    ("name", "arguments", "library", "extra"),
    [
        ("imae-train", ["--dataset=mnist"], "tensorflow_datasets", "data"),
        ("imae-tune", ["--dataset=digits"], "keras_tuner", "search"),
        ("imae-compare", ["--datasets=digits"], "matplotlib", "report"),
    ],
)
def test_what_the_core_cannot_do_is_one_sentence(tmp_path, name, arguments, library, extra):
  done = alone(name, tmp_path, *arguments, "--workdir=W")
  assert done.returncode == 1
  assert done.stderr.startswith(f"{name}: error: expected {library} to ")
  assert done.stderr.endswith(f"got none; run pip install 'imae_tf[{extra}]'.\n")
  assert not (tmp_path / "W").exists()

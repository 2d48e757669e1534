"""What `pip install imae_tf` does without an extra, and what it says of the rest."""

import json

import numpy as np
import programs
import pytest
import sklearn.datasets

from imae_tf._shared import extras


def alone(name, cwd, **flags):
  """A program in a process that finds no library of any extra."""
  own = {"grpc", "google.protobuf"}  # TensorFlow and TensorBoard bring these
  brought = {library for libraries in extras.LIBRARIES.values() for library in libraries}
  return programs.run(name, cwd, cwd=cwd, without=brought - own, **flags)


def test_the_core_trains_measures_exports_and_encodes(tmp_path):
  digits = sklearn.datasets.load_digits()
  images = (digits.images[:200] / 16).astype("float32")
  np.savez(tmp_path / "images.npz", x=images, y=digits.target[:200])
  steps = [
      ("train", {"dataset": "images.npz", "workdir": "run", "epochs": 1, "batch_size": 64,
                 "restarts": 1, "encoder_units": 16, "decoder_units": 16}),
      ("evaluate", {"workdir": "run"}),
      ("export", {"workdir": "run", "base": "models"}),
      ("encode", {"saved_model": "models", "input": "images.npz", "output": "codes.npz"}),
  ]
  said = {}
  for name, flags in steps:
    done = alone(name, tmp_path, **flags)
    assert done.status == 0, done.stderr
    said[name] = done.stdout + done.stderr
  assert said["train"].count("TensorBoard gets no pictures, which need matplotlib") == 1
  assert "There will be no report.html, which needs matplotlib" in said["evaluate"]
  assert "pip install 'imae_tf[report]'" in said["evaluate"]
  assert 0 <= json.loads((tmp_path / "run/metrics.json").read_text())["accuracy"] <= 1
  assert not (tmp_path / "run/report.html").exists()
  assert np.load(tmp_path / "codes.npz")["y"].shape == (40, 10)


@pytest.mark.parametrize(
    ("name", "flags", "library", "extra"),
    [
        ("train", {"dataset": "mnist"}, "tensorflow_datasets", "data"),
        ("tune", {"dataset": "digits"}, "keras_tuner", "search"),
        ("compare", {"datasets": "digits"}, "matplotlib", "report"),
    ],
)
def test_what_the_core_cannot_do_is_one_sentence(tmp_path, name, flags, library, extra):
  done = alone(name, tmp_path, workdir="W", **flags)
  assert done.status == 1
  assert done.stderr.startswith(f"imae-{name}: error: expected {library} to ")
  assert done.stderr.endswith(f"got none; run pip install 'imae_tf[{extra}]'.\n")
  assert not (tmp_path / "W").exists()

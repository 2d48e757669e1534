"""Surroundings that are meant for other projects: another backend, a notebook's MPLBACKEND."""

import json
import os
import subprocess
import sys

import pytest

_USE = """
import imae_tf
print(imae_tf.__version__)
try:
  imae_tf.IMAE
except ImportError as error:
  print(type(error).__name__, error)
"""


def run(code, tmp_path, **env):
  command = [sys.executable, "-P", "-c", code]
  env = {**os.environ, "HOME": str(tmp_path), "KERAS_HOME": str(tmp_path), **env}
  return subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path)


@pytest.mark.parametrize("backend", ["jax", "numpy"])  # not installed, and installed
def test_another_backend_is_one_sentence(tmp_path, backend):
  done = run(_USE, tmp_path, KERAS_BACKEND=backend)
  told = done.stdout.splitlines()[1]
  assert told.startswith(f"BackendError expected Keras with the backend tensorflow, got {backend}")
  assert "KERAS_BACKEND=tensorflow" in told and not done.returncode


def test_the_mend_works_where_keras_json_names_another(tmp_path):
  """And convolutions have the channels last there, whatever that file says."""
  (tmp_path / "keras.json").write_text(
      json.dumps({"backend": "numpy", "image_data_format": "channels_first"})
  )
  without = "import os; os.environ.pop('KERAS_BACKEND', None)" + _USE
  assert "BackendError" in run(without, tmp_path).stdout
  code = _USE + """
encoder, decoder = imae_tf.networks.conv((32, 32, 3))
print(decoder.output_shape)
"""
  done = run(code, tmp_path, KERAS_BACKEND="tensorflow")
  assert "BackendError" not in done.stdout
  assert done.stdout.splitlines()[-1] == "(None, 32, 32, 3)", done.stderr


def test_programs_choose_for_themselves(tmp_path):
  code = """
import sys
sys.argv = ["imae-train", "--dataset=digits", "--workdir=w", "--epochs=1", "--restarts=1",
            "--encoder_units=8", "--decoder_units=8", "--lam=0"]
from imae_tf.trainers import train
train.cli()
"""
  (tmp_path / "keras.json").write_text(
      json.dumps({"backend": "numpy", "image_data_format": "channels_first"})
  )
  surroundings = {"KERAS_BACKEND": "jax", "MPLBACKEND": "module://matplotlib_inline.none"}
  done = run(code, tmp_path, **surroundings)
  assert done.returncode == 0, done.stderr
  assert (tmp_path / "w" / "model.keras").exists()

"""The tree as mypy and ruff see it, and the package as a user's mypy does."""

import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent.parent
USE = """
import imae_tf
from imae_tf.trainers import train

encoder, decoder = imae_tf.networks.mlp(image_shape=(28, 28, 1))
model = imae_tf.IMAE(encoder, decoder, num_categories="10")
reveal_type(model.encode)
train.no_such_name
"""


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
  """The package as the wheel lays it out, for mypy knows packages by their folders alone."""
  folder = tmp_path_factory.mktemp("layout")
  (folder / "imae_tf").mkdir()
  for path in (HERE / "imae_tf").iterdir():
    (folder / "imae_tf" / path.name).symlink_to(path)
  for room in ("trainers", "export"):
    (folder / "imae_tf" / room).symlink_to(HERE / room)
  return folder


def run(tool, *arguments):
  pytest.importorskip(tool)
  command = [sys.executable, "-m", tool, *map(str, arguments)]
  return subprocess.run(command, cwd=HERE, capture_output=True, text=True)


def mypy(layout, path):
  return run("mypy", "--cache-dir", layout / "cache", layout / path)


def test_types(layout):
  done = mypy(layout, "imae_tf")
  assert done.returncode == 0, done.stdout + done.stderr


def test_users_mistakes_are_found(layout):
  (layout / "use.py").write_text(USE)
  found = mypy(layout, "use.py").stdout
  assert 'use.py:6: error: Argument "num_categories" to "IMAE" has incompatible type "str"' in found
  assert "use.py:7: note: Revealed type is" in found and "-> dict[str, numpy.ndarray" in found
  assert 'use.py:8: error: Module has no attribute "no_such_name"' in found


def test_style():
  done = run("ruff", "check", "--no-cache", "--output-format=concise")
  assert done.returncode == 0, done.stdout + done.stderr

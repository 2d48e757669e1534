"""The small world in which the mends of errors are followed."""

import shutil

import keras
import mend_rows as rows
import numpy as np
import PIL.Image
import pytest
import small_runs

from imae_tf.data import loading
from imae_tf.reporting import run_page
from imae_tf.training import fitting
from imae_tf.training import run_folder
from imae_tf.training import runs

CONFIG = {
    "dataset": "digits", "method": "imae", "recipe": "tuned", "epochs": 5, "seed": 0, "holdout": 0,
    "num_categories": 10, "settings": {"beta": 5.0},
}


def train(data, folder):
  """Trains a run of two epochs, or goes on with it, on images in the folder `data`."""
  if not (data / "images.npz").exists():
    np.savez(data / "images.npz", x=np.tile(rows.BYTES, (4, 1, 1, 1)))
  run = small_runs.make_run(data / "images.npz", epochs=2, encoder_units=(8,), decoder_units=(8,))
  with pytest.MonkeyPatch.context() as patch:  # its pictures take longer than the training
    patch.setattr(fitting, "_board", lambda *unused: keras.callbacks.Callback())
    runs.train(run, folder, progress=False)


class World:
  """What rows need: a model, small files, a published version; each row has its own folder."""

  def __init__(self, model, base, finished, folder, patch):
    self.model, self.base, self._finished = model, base, finished
    self.folder, self.patch = folder, patch

  def npz(self, name="images.npz", **arrays):
    path = self.folder / name
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **(arrays or {"x": rows.BYTES}))
    return str(path)

  def data(self):
    return loading.load(self.npz())

  def codes(self):
    return self.model.encode(rows.FLOATS)

  def metrics(self):
    return dict.fromkeys(run_page._REQUIRED)

  def run(self, **changes):
    """A folder that a run has begun in."""
    run_folder.start(self.folder / "run", {**CONFIG, **changes})
    return self.folder / "run"

  def images(self, *images):
    folder = self.folder / "images"
    folder.mkdir(exist_ok=True)
    for index, image in enumerate(images or rows.BYTES[:5, ..., 0]):
      PIL.Image.fromarray(image).save(folder / f"{index}.png")
    return folder

  def copy(self):
    """A base folder of one version."""
    shutil.copytree(self.base, self.folder / "base")
    return self.folder / "base"

  def trained(self):
    """A copy of the folder of a finished run."""
    return shutil.copytree(self._finished / "run", self.folder / "trained")

  def train(self):
    """Goes on with the run in that copy."""
    train(self._finished, self.folder / "trained")

  @staticmethod
  def no_write(path):
    path.mkdir()

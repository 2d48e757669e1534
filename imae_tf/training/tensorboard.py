"""Writes what TensorBoard shows of a run while it trains: its terms by name, and pictures.

`training.fitting` gives a `Board` to `fit`.
"""

import math
import pathlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from imae_tf._shared import event_file
from imae_tf._shared import program
from imae_tf.errors import first_line
from imae_tf.metrics import clustering
from imae_tf.metrics import definitions

if TYPE_CHECKING:
  from matplotlib.figure import Figure

Logs = dict[str, float] | None

# TensorBoard makes a section from the part of a tag before the slash.
_SECTIONS = {
    "loss": ("loss", "reconstruction_loss", "total_correlation", "vat_loss", "consistency_loss"),
    "information": ("mi_y", "entropy_y", "conditional_entropy_y", "mi_z", "kl_z"),
    "labels": ("accuracy", "nmi", "mi_y_label"),
    "training": ("learning_rate", "seconds"),
}
_PICTURES = 10  # how often pictures are made in a run, at most
_SHARE = 0.05  # the share of a run's time that pictures before the last ones may take
IMAGES = 250  # all of them show which dimensions are informative; pictures show some of them
_RECONSTRUCTED = 10
_TRAVERSED = 5
_POSITIONS = np.linspace(-2.0, 2.0, 9)


def tag(name: str) -> str:
  """The tag in TensorBoard of a logged name: a section, and the label with the unit."""
  own = name.removeprefix("val_")
  section = next((s for s, names in _SECTIONS.items() if own in names), "other")
  return f"{section}/{definitions.axis(name)}"


class Board(keras.callbacks.Callback):
  """Writes event files: all logs of each epoch, and pictures at most ten times in a run.

  Steps are epochs as history.csv counts them, from 1. A run that goes on adds a file. If it trains
  an epoch again, the new file replaces what the old one says of this epoch.

  The pictures show the model in inference: images beside their reconstructions; what the most
  informative dimensions of z do to an image; and, if there are labels, classes against categories.
  Except after the last epoch, pictures are left out if they would take more than a twentieth of the
  time. Nothing is trained on these images or chosen by them.

  Args:
    folder: folder of the event files.
    x: [N, H, W, C] images in [0, 1]; the pictures show some of them. None for no pictures: with
      several workers, a single one cannot encode images.
    watched: (x, labels) as in `callbacks.Watch`, for the classes; or None.
    class_names: texts, one per label value 0, 1, ..., or None.
    epochs: epochs of the whole run, if this `fit` is a part of it; None for the epochs of `fit`.
  """

  def __init__(
      self,
      folder: str | pathlib.Path,
      x: np.ndarray | None = None,
      *,
      watched: tuple[np.ndarray, np.ndarray | None] | None = None,
      class_names: Sequence[str] | None = None,
      epochs: int | None = None,
  ) -> None:
    super().__init__()
    self._folder = folder
    self._x = x if x is None else x[:IMAGES]
    self._watched = watched
    self._class_names = class_names
    self._of_run = epochs

  def on_train_begin(self, logs: Logs = None) -> None:
    self._epochs = self._of_run or self.params["epochs"]
    self._opened = False  # the file is opened with the number of the first epoch
    self._started, self._drawing_s = time.monotonic(), 0.0

  def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
    if not self._opened:
      self._opened = True
      self._file = event_file.EventFile(event_file.new_path(self._folder), first_step=epoch + 1)

  def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
    rate = self.model.optimizer.learning_rate
    rate = rate.numpy() if hasattr(rate, "numpy") else rate  # of several replicas it is no number
    values = {**(logs or {}), "learning_rate": float(rate)}
    self._file.scalars({tag(name): float(v) for name, v in values.items()}, epoch + 1)
    if self._x is not None and self._is_due(epoch + 1):
      started = time.monotonic()
      self._add_pictures(self._x, epoch + 1)
      self._drawing_s += time.monotonic() - started

  def on_train_end(self, logs: Logs = None) -> None:
    if self._opened:
      self._file.close()

  def _is_due(self, step: int) -> bool:
    if step == self._epochs:
      return True
    in_turn = step % math.ceil(self._epochs / _PICTURES) == 0
    return in_turn and self._drawing_s <= _SHARE * (time.monotonic() - self._started)

  def _add_pictures(self, x: np.ndarray, step: int) -> None:
    try:
      pictures = self._pictures(x)
    except Exception as error:  # a by-product, whatever its fault, does not end a training
      program.say(f"TensorBoard gets no pictures of this run: {first_line(error)}")
      self._x = None
      return
    for name, png in pictures.items():
      self._file.picture(f"pictures/{name}", png, step)

  def _pictures(self, x: np.ndarray) -> dict[str, bytes]:
    """{name: the bytes of a PNG} of images x."""
    # Imported here: matplotlib would delay the first step.
    from imae_tf.reporting import html

    return {name: html.png(figure) for name, figure in self._figures(x).items()}

  def _figures(self, x: np.ndarray) -> dict[str, "Figure"]:
    from imae_tf.reporting import plots

    codes = self.model.encode(x)
    shown = slice(_RECONSTRUCTED)
    reconstructed = self.model.decode(codes["y"][shown], codes["z"][shown])
    figures = {
        "reconstructions": plots.reconstructions(x[shown], reconstructed),
        "traversals": self._traversals(x[0], codes),
    }
    watched, labels = self._watched or (None, None)
    if watched is not None and labels is not None:
      figures["classes against categories"] = self._confusion(watched, labels)
    return figures

  def _traversals(self, image: np.ndarray, codes: dict[str, np.ndarray]) -> "Figure":
    from imae_tf.reporting import plots

    bounds = _information_bounds(codes["z"], codes["z_scale"])
    dimensions = np.argsort(-bounds, kind="stable")[:_TRAVERSED]
    y = np.repeat(codes["y"][:1], len(_POSITIONS), axis=0)
    moved = []
    for dimension in dimensions:
      z = np.repeat(codes["z"][:1], len(_POSITIONS), axis=0)
      z[:, dimension] = _POSITIONS
      moved.append(self.model.decode(y, z))
    return plots.traversals(image, moved, _POSITIONS, dimensions, bounds[dimensions])

  def _confusion(self, x: np.ndarray, labels: np.ndarray) -> "Figure":
    from imae_tf.reporting import plots

    k2, names = self.model.num_categories, self._class_names
    categories = self.model.encode(x)["y"].argmax(axis=1)
    return plots.confusion(
        clustering.confusion_matrix(labels, categories, k2),
        [str(label if names is None else names[label]) for label in np.unique(labels)],
        clustering.column_order(labels, categories, k2),
    )


def _information_bounds(mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
  """Upper bounds of I(x;z_k): the mean over images of KL(p(z_k|x) || N(0,1)), [K1].

  This mean is I(x;z_k) + KL(p(z_k) || N(0,1)).
  """
  return 0.5 * np.mean(mean**2 + scale**2 - 1.0 - 2.0 * np.log(scale), axis=0)

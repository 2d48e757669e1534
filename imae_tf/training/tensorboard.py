"""What TensorBoard shows of a run while it trains: its terms by name, and pictures."""

import math
import pathlib
import time
from collections.abc import Sequence

import keras
import numpy as np

from imae_tf.metrics import clustering
from imae_tf.reporting import event_file

# TensorBoard makes a section of what is before the slash.
NAMES = {
    "loss": "loss/objective, nats per image",
    "reconstruction_loss": "loss/reconstruction, nats per image",
    "mi_y": "information, nats/I(x;y)",
    "entropy_y": "information, nats/H(y)",
    "conditional_entropy_y": "information, nats/H(y|x)",
    "mi_z": "information, nats/sum I(x;z_k)",
    "kl_z": "information, nats/sum KL(p(z_k) to N(0,1))",
    "total_correlation": "loss/total correlation TC(y,z), nats",
    "vat_loss": "loss/VAT cross-entropy, nats",
    "accuracy": "labels/accuracy",
    "nmi": "labels/NMI",
    "mi_y_label": "labels/I(y;label), nats",
    "learning_rate": "training/learning rate",
    "seconds": "training/seconds per epoch",
}
_PICTURES = 10  # times in a run
_SHARE = 0.05  # of the time that a run takes, for pictures before the last
IMAGES = 250  # of which pictures show some; all tell which dimensions are informative
_RECONSTRUCTED = 10
_TRAVERSED = 5
_POSITIONS = np.linspace(-2.0, 2.0, 9)


def tag(name: str) -> str:
  """How TensorBoard calls what is logged as `name`; of `val_...`, with "held out" behind it."""
  own = name.removeprefix("val_")
  return NAMES.get(own, f"other/{own}") + (", held out" if own != name else "")


class Board(keras.callbacks.Callback):
  """Writes event files: all logs of each epoch, and pictures ten times in a run at most.

  Steps are epochs as history.csv counts them, from 1. A run that goes on adds a file, which
  replaces what an epoch had written that is trained again. The pictures are of inference:
  images beside their reconstructions; what the most informative dimensions of z do to an
  image; and, where there are labels, classes against categories. Those before the last
  epoch's are left out while they would take more than a twentieth of the time. Nothing is
  trained on the images or chosen by them.

  Args:
    folder: of the event files.
    x: [N, H, W, C] images in [0, 1] to show, of which some are taken; None for no pictures.
      Of several workers none can look at images alone.
    watched: (x, labels) as in `callbacks.Watch`, for the classes; or None.
    class_names: texts, one per label value 0, 1, ..., or None.
    epochs: of the whole run, of which this `fit` may be a part; None for those of `fit`.
  """

  def __init__(
      self,
      folder: str | pathlib.Path,
      x: np.ndarray | None = None,
      *,
      watched: tuple[np.ndarray, np.ndarray | None] | None = None,
      class_names: Sequence[str] | None = None,
      epochs: int | None = None,
  ):
    super().__init__()
    self._folder = folder
    self._x = x if x is None else x[:IMAGES]
    self._watched = watched
    self._class_names = class_names
    self._of_run = epochs

  def on_train_begin(self, logs=None):
    self._epochs = self._of_run or self.params["epochs"]
    self._opened = False  # when the first epoch begins, whose number goes into the file
    self._started, self._drawing_s = time.monotonic(), 0.0

  def on_epoch_begin(self, epoch, logs=None):
    if not self._opened:
      self._opened = True
      self._file = event_file.EventFile(event_file.new_path(self._folder), first_step=epoch + 1)

  def on_epoch_end(self, epoch, logs=None):
    rate = float(self.model.optimizer.learning_rate)
    values = {**(logs or {}), "learning_rate": rate}
    self._file.scalars({tag(name): float(v) for name, v in values.items()}, epoch + 1)
    if self._x is not None and self._is_due(epoch + 1):
      started = time.monotonic()
      for name, png in self._pictures(self._x).items():
        self._file.picture(f"pictures/{name}", png, epoch + 1)
      self._drawing_s += time.monotonic() - started

  def on_train_end(self, logs=None):
    if self._opened:
      self._file.close()

  def _is_due(self, step):
    if step == self._epochs:
      return True
    in_turn = step % math.ceil(self._epochs / _PICTURES) == 0
    return in_turn and self._drawing_s <= _SHARE * (time.monotonic() - self._started)

  def _pictures(self, x):
    """{name: the bytes of a PNG} of images x."""
    # Imported here: matplotlib would delay the first step.
    from imae_tf.reporting import html

    return {name: html.png(figure) for name, figure in self._figures(x).items()}

  def _figures(self, x):
    from imae_tf.reporting import plots

    codes = self.model.encode(x)
    shown = slice(_RECONSTRUCTED)
    reconstructed = self.model.decode(codes["y"][shown], codes["z"][shown])
    figures = {
        "reconstructions": plots.reconstructions(x[shown], reconstructed),
        "traversals": self._traversals(x[0], codes),
    }
    if self._watched and self._watched[1] is not None:
      figures["classes against categories"] = self._confusion(*self._watched)
    return figures

  def _traversals(self, image, codes):
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

  def _confusion(self, x, labels):
    from imae_tf.reporting import plots

    k2, names = self.model.num_categories, self._class_names
    categories = self.model.encode(x)["y"].argmax(axis=1)
    return plots.confusion(
        clustering.confusion_matrix(labels, categories, k2),
        [str(label if names is None else names[label]) for label in np.unique(labels)],
        clustering.column_order(labels, categories, k2),
    )


def _information_bounds(mean, scale):
  """The mean over images of KL(p(z_k|x) || N(0,1)), I(x;z_k) + KL(p(z_k) || N(0,1)): [K1]."""
  return 0.5 * np.mean(mean**2 + scale**2 - 1.0 - 2.0 * np.log(scale), axis=0)

"""What a run keeps while it trains, and the guard against a loss that is not finite."""

import math
import sys

import keras
import tqdm

from imae_tf import workdir as workdirs
from imae_tf.errors import DivergenceError


class StopOnNonFinite(keras.callbacks.Callback):
  """Ends training with the term and the step when a term is no longer finite.

  Nothing is written after it: the newest checkpoint is the last good one.

  Raises:
    DivergenceError: from `fit`.
  """

  def on_train_batch_end(self, batch, logs=None):
    broken = [name for name, value in (logs or {}).items() if not math.isfinite(value)]
    if broken:
      terms = [name for name in broken if name != "loss"] or broken
      step = int(self.model.optimizer.iterations)
      raise DivergenceError(
          f"expected finite terms, got {', '.join(terms)} = {logs[terms[0]]} at step {step};"
          " the last good checkpoint is kept. Lower the learning rate or the weights."
      )


class Progress(keras.callbacks.Callback):
  """One bar for the whole of `fit`; where stderr is no terminal, ten lines at most."""

  _SHOWN = {"reconstruction_loss": "reconstruction", "mi_y": "I(x;y)", "vat_loss": "VAT"}

  def on_train_begin(self, logs=None):
    self._first = None
    self._bar = tqdm.tqdm(disable=not sys.stderr.isatty(), unit="epoch", file=sys.stderr)

  def on_epoch_begin(self, epoch, logs=None):
    if self._first is None:
      self._first = epoch
      self._bar.reset(total=self.params["epochs"] - epoch)

  def on_epoch_end(self, epoch, logs=None):
    shown = {label: f"{logs[name]:.3g}" for name, label in self._SHOWN.items() if name in logs}
    self._bar.set_postfix(shown, refresh=False)
    self._bar.update()
    epochs = self.params["epochs"]
    every = max(1, math.ceil((epochs - self._first) / 10))
    if self._bar.disable and ((epoch + 1 - self._first) % every == 0 or epoch + 1 == epochs):
      text = ", ".join(f"{label} {value}" for label, value in shown.items())
      print(f"epoch {epoch + 1} of {epochs}: {text}", file=sys.stderr, flush=True)

  def on_train_end(self, logs=None):
    self._bar.close()


class RunKeeper(keras.callbacks.Callback):
  """Writes history.csv and a checkpoint after every epoch, for an exact resume.

  One row per finished epoch, none repeated: rows of epochs without a checkpoint are
  replaced when the epoch is replayed.

  Args:
    workdir: the run's folder.
  """

  def __init__(self, workdir):
    super().__init__()
    self.workdir = workdir

  def on_train_begin(self, logs=None):
    self._rows = workdirs.read_history(self.workdir)

  def on_epoch_end(self, epoch, logs=None):
    self._rows = [row for row in self._rows if row["epoch"] <= epoch]
    self._rows.append({"epoch": epoch + 1, **{k: float(v) for k, v in logs.items()}})
    # The row first: killed in between, the epoch is replayed and its row replaced.
    workdirs.write_history(self.workdir, self._rows)
    workdirs.save_checkpoint(self.model, self.workdir, epoch + 1)

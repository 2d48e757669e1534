"""What a run keeps while it trains, and the guard against a loss that is not finite."""

import math
import sys
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import tqdm

from imae_tf.errors import DivergenceError
from imae_tf.errors import Preempted
from imae_tf.metrics import clustering
from imae_tf.training import run_folder

if TYPE_CHECKING:
  import pathlib

  from imae_tf.training.distribution import Job

_GO_ON = "all is saved, and the same command goes on from here."


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
  """One bar for the whole of `fit`; where stderr is no terminal, ten lines at most.

  Args:
    epochs: of the whole run, of which this `fit` may be a part; None for those of `fit`.
  """

  _SHOWN = {"reconstruction_loss": "reconstruction", "mi_y": "I(x;y)", "vat_loss": "VAT"}

  def __init__(self, epochs: int | None = None):
    super().__init__()
    self._of_run = epochs

  def on_train_begin(self, logs=None):
    self._epochs = self._of_run or self.params["epochs"]
    self._first = -1  # known when it begins
    self._bar = tqdm.tqdm(disable=not sys.stderr.isatty(), unit="epoch", file=sys.stderr)

  def on_epoch_begin(self, epoch, logs=None):
    if self._first < 0:
      self._first = epoch
      self._bar.reset(total=self._epochs - epoch)

  def on_epoch_end(self, epoch, logs=None):
    shown = {label: f"{logs[name]:.3g}" for name, label in self._SHOWN.items() if name in logs}
    self._bar.set_postfix(shown, refresh=False)
    self._bar.update()
    epochs = self._epochs
    every = max(1, math.ceil((epochs - self._first) / 10))
    if self._bar.disable and ((epoch + 1 - self._first) % every == 0 or epoch + 1 == epochs):
      text = ", ".join(f"{label} {value}" for label, value in shown.items())
      print(f"epoch {epoch + 1} of {epochs}: {text}", file=sys.stderr, flush=True)

  def on_train_end(self, logs=None):
    self._bar.close()


class Watch(keras.callbacks.Callback):
  """Adds to the logs of each epoch how well the categories fit labels, and its seconds.

  `accuracy`, `nmi` and `mi_y_label` (nats) of argmax p(y|x) on the images given; nothing is
  trained on them. `seconds` is the wall-clock of the epoch with the look at the labels left
  out. It must stand before the callbacks that read the logs.

  Args:
    x: [N, H, W, C] images in [0, 1].
    labels: [N] integers, or None for `seconds` alone.
  """

  def __init__(self, x: np.ndarray, labels: np.ndarray | None):
    super().__init__()
    self._x, self._labels = x, labels

  def on_epoch_begin(self, epoch, logs=None):
    self._started = time.monotonic()

  def on_epoch_end(self, epoch, logs=None):
    logs["seconds"] = time.monotonic() - self._started
    if self._labels is not None:
      categories = self.model.encode(self._x)["y"].argmax(axis=1)
      logs["accuracy"] = clustering.clustering_accuracy(self._labels, categories)
      logs["nmi"] = clustering.nmi(self._labels, categories)
      logs["mi_y_label"] = clustering.mi_y_label(self._labels, categories)


class RunKeeper(keras.callbacks.Callback):
  """Writes history.csv and checkpoints for an exact resume, and stops when asked to.

  One row per finished epoch, none repeated: rows of epochs without a checkpoint are
  replaced when the epoch is replayed.

  Args:
    folder: the run's folder.
    job: `distribution.Job`, whose chief writes.
    first_step: steps of the first epoch that were done before.
    log_sums: what these steps add to the logs, {name: [sum, weight]}.
    last_epoch_alone: write after the last epoch alone, and when asked to stop.
    stop_asked: function without arguments; asked after each step.

  Raises:
    Preempted: from `fit`, once all is saved, on every worker of the job at the same step.
  """

  def __init__(
      self,
      folder: "pathlib.Path",
      job: "Job",
      *,
      first_step: int = 0,
      log_sums: dict[str, Sequence[float]] | None = None,
      last_epoch_alone: bool = False,
      stop_asked: Callable[[], bool] = lambda: False,
  ):
    super().__init__()
    self._folder = folder
    self._job = job
    self._first_step = first_step
    self._log_sums = log_sums
    self._last_epoch_alone = last_epoch_alone
    self._stop_asked = stop_asked

  def on_train_begin(self, logs=None):
    self._rows = run_folder.read_history(self._folder) if self._job.is_chief else []
    self._stopping = False

  def on_epoch_begin(self, epoch, logs=None):
    self._epoch = epoch
    self._rows = [row for row in self._rows if row["epoch"] <= epoch]
    if self._log_sums:
      self.model.restore_log_sums(self._log_sums)

  def on_train_batch_end(self, batch, logs=None):
    self._stopping = self._stopping or self._job.any(self._stop_asked())
    epoch, steps = self._epoch, self._first_step + batch + 1
    if self._stopping and batch + 1 < self.params["steps"]:
      log_sums = self.model.log_sums()  # together: they may lie on all workers
      if self._job.is_chief:
        run_folder.write_history(self._folder, self._rows)
        run_folder.save_partial_checkpoint(
            self.model, self._folder, epoch, steps, log_sums
        )
      self._wait_for_chief()
      raise Preempted(f"stopped by SIGTERM in epoch {epoch + 1}, after step {steps}; {_GO_ON}")

  def on_epoch_end(self, epoch, logs=None):
    self._rows.append({"epoch": epoch + 1, **{k: float(v) for k, v in logs.items()}})
    self._first_step, self._log_sums = 0, None
    is_last = epoch + 1 == self.params["epochs"]
    if self._job.is_chief and (is_last or self._stopping or not self._last_epoch_alone):
      # The row first: killed in between, the epoch is replayed and its row replaced.
      run_folder.write_history(self._folder, self._rows)
      run_folder.save_checkpoint(self.model, self._folder, epoch + 1)
    if self._stopping and not is_last:
      self._wait_for_chief()
      raise Preempted(f"stopped by SIGTERM after epoch {epoch + 1}; {_GO_ON}")

  def _wait_for_chief(self):
    """Launchers kill a job at the first worker's exit, which must not be before all is saved."""
    self._job.any(False)

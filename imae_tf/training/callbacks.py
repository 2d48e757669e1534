"""Callbacks for `fit`: progress, history and checkpoints, and a guard against a non-finite loss.

`training.fitting` gives them to `fit`; users import them as `imae_tf.callbacks`.
"""

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
from imae_tf.metrics import definitions
from imae_tf.training import run_folder

if TYPE_CHECKING:
  import pathlib

  from imae_tf.training.distribution import Job

Logs = dict[str, float] | None

_LARGE_MODEL = 2_000_000  # weights: its checkpoint takes tenths of a second or more
_LEAST_STEPS = 50  # between two checkpoints of it
_GO_ON = "all is saved, and the same command goes on from here."


class StopOnNonFinite(keras.callbacks.Callback):
  """Ends training when a term is no longer finite; the error names the term and the step.

  Nothing is written afterwards, so the newest checkpoint is the last good one.

  Raises:
    DivergenceError: from `fit`.
  """

  def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
    logs = logs or {}
    broken = [name for name, value in logs.items() if not math.isfinite(value)]
    if broken:
      terms = [name for name in broken if name != "loss"] or broken
      step = int(self.model.optimizer.iterations)
      raise DivergenceError(
          f"expected finite terms, got {', '.join(terms)} = {logs[terms[0]]} at step {step};"
          " the last good checkpoint is kept. Lower the learning rate or the weights, in another"
          " --workdir."
      )


class Progress(keras.callbacks.Callback):
  """Shows one bar for the whole of `fit`; if stderr is not a terminal, at most ten lines.

  Args:
    epochs: epochs of the whole run, if this `fit` is a part of it; None for the epochs of `fit`.
  """

  _SHOWN = ("reconstruction_loss", "mi_y", "vat_loss")

  def __init__(self, epochs: int | None = None) -> None:
    super().__init__()
    self._of_run = epochs

  def on_train_begin(self, logs: Logs = None) -> None:
    self._epochs = self._of_run or self.params["epochs"]
    self._first = -1  # the first epoch, known when it begins
    self._bar = tqdm.tqdm(disable=not sys.stderr.isatty(), unit="epoch", file=sys.stderr)

  def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
    if self._first < 0:
      self._first = epoch
      self._bar.reset(total=self._epochs - epoch)

  def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
    logs = logs or {}
    shown = {definitions.label(k): f"{logs[k]:.3g}" for k in self._SHOWN if k in logs}
    self._bar.set_postfix(shown, refresh=False)
    self._bar.update()
    epochs = self._epochs
    every = max(1, math.ceil((epochs - self._first) / 10))
    if self._bar.disable and ((epoch + 1 - self._first) % every == 0 or epoch + 1 == epochs):
      text = ", ".join(f"{label} {value}" for label, value in shown.items())
      print(f"epoch {epoch + 1} of {epochs}: {text}", file=sys.stderr, flush=True)

  def on_train_end(self, logs: Logs = None) -> None:
    self._bar.close()


class Watch(keras.callbacks.Callback):
  """Adds to the logs of each epoch how well the categories fit labels, and the seconds it took.

  It adds `accuracy`, `nmi` and `mi_y_label` (nats) of argmax p(y|x) on the images given; nothing is
  trained on the labels. `seconds` is the wall-clock of the epoch, without the time for these
  figures. Put it before the callbacks that read the logs.

  Args:
    x: [N, H, W, C] images in [0, 1].
    labels: [N] integers, or None for `seconds` alone.
  """

  def __init__(self, x: np.ndarray, labels: np.ndarray | None) -> None:
    super().__init__()
    self._x, self._labels = x, labels

  def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
    self._started = time.monotonic()

  def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
    logs["seconds"] = time.monotonic() - self._started
    if self._labels is not None:
      categories = self.model.encode(self._x)["y"].argmax(axis=1)
      logs["accuracy"] = clustering.clustering_accuracy(self._labels, categories)
      logs["nmi"] = clustering.nmi(self._labels, categories)
      logs["mi_y_label"] = clustering.mi_y_label(self._labels, categories)


class RunKeeper(keras.callbacks.Callback):
  """Writes history.csv and checkpoints for an exact resume, and stops training when asked to.

  history.csv has exactly one row for each finished epoch. If an epoch is trained again because it
  has no checkpoint, its row is replaced.

  Args:
    folder: the run's folder.
    job: `distribution.Job`; its chief writes.
    first_step: number of steps of the first epoch that were done before.
    log_sums: the part of the logs that comes from these steps, {name: [sum, weight]}.
    last_epoch_alone: whether to write only after the last epoch, and when asked to stop. Of a
      large model a checkpoint takes as long as some steps: where epochs are short, several pass
      between two.
    stop_asked: function without arguments that says whether to stop; called after each step.

  Raises:
    Preempted: from `fit`, after all is saved, on every worker of the job at the same step.
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
  ) -> None:
    super().__init__()
    self._folder = folder
    self._job = job
    self._first_step = first_step
    self._log_sums = log_sums
    self._last_epoch_alone = last_epoch_alone
    self._stop_asked = stop_asked

  def on_train_begin(self, logs: Logs = None) -> None:
    self._rows = run_folder.read_history(self._folder) if self._job.is_chief else []
    self._stopping = False
    self._steps_unsaved = 0

  def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
    self._epoch = epoch
    self._rows = [row for row in self._rows if row["epoch"] <= epoch]
    if self._log_sums:
      self.model.restore_log_sums(self._log_sums)

  def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
    self._stopping = self._stopping or self._job.any(self._stop_asked())
    epoch, steps = self._epoch, self._first_step + batch + 1
    if self._stopping and batch + 1 < self.params["steps"]:
      log_sums = self.model.log_sums()  # on every worker, because each may hold a part
      if self._job.is_chief:
        run_folder.write_history(self._folder, self._rows)
        run_folder.save_partial_checkpoint(
            self.model, self._folder, epoch, steps, log_sums
        )
      self._wait_for_chief()
      raise Preempted(f"stopped by SIGTERM in epoch {epoch + 1}, after step {steps}; {_GO_ON}")

  def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
    self._rows.append({"epoch": epoch + 1, **{k: float(v) for k, v in logs.items()}})
    self._first_step, self._log_sums = 0, None
    is_last = epoch + 1 == self.params["epochs"]
    self._steps_unsaved += self.params["steps"]
    large = self.model.count_params() > _LARGE_MODEL
    in_turn = self._steps_unsaved >= _LEAST_STEPS or not large
    if self._stopping or is_last or (in_turn and not self._last_epoch_alone):
      self._steps_unsaved = 0
      self._save(epoch)
    if self._stopping and not is_last:
      self._wait_for_chief()
      raise Preempted(f"stopped by SIGTERM after epoch {epoch + 1}; {_GO_ON}")

  def _save(self, epoch: int) -> None:
    if self._job.is_chief:
      # The row is written first: after a kill in between, the epoch and its row are made again.
      run_folder.write_history(self._folder, self._rows)
      run_folder.save_checkpoint(self.model, self._folder, epoch + 1)

  def _wait_for_chief(self) -> None:
    """Waits until the chief has saved: launchers kill a job when its first worker exits."""
    self._job.any(False)

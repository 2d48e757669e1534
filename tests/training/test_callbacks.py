"""Callbacks: the guard against NaN, the progress lines, and the rows of a run."""

import types

import numpy as np
import pytest

from imae_tf.errors import DivergenceError
from imae_tf.errors import Preempted
from imae_tf.training import callbacks
from imae_tf.training import distribution
from imae_tf.training import run_folder


def with_model(callback, step=0, weights=1, **params):
  optimizer = types.SimpleNamespace(iterations=step)
  callback.set_model(types.SimpleNamespace(optimizer=optimizer, count_params=lambda: weights))
  callback.set_params({"steps": 1, **params})
  return callback


# ---- StopOnNonFinite -------------------------------------------------------------------------


def test_finite_terms_pass():
  guard = with_model(callbacks.StopOnNonFinite())
  guard.on_train_batch_end(0, {"loss": 1e30, "mi_y": 0.0})
  guard.on_train_batch_end(0, None)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_term_and_the_step_are_named(value):
  guard = with_model(callbacks.StopOnNonFinite(), step=17)
  with pytest.raises(DivergenceError) as error:
    guard.on_train_batch_end(3, {"loss": np.nan, "mi_y": 0.5, "kl_z": value})
  assert f"got kl_z = {value} at step 17" in str(error.value)
  assert "loss" not in str(error.value) and "mi_y" not in str(error.value)


def test_a_loss_that_alone_is_not_finite_is_named():
  """Finite terms may overflow in their weighted sum."""
  guard = with_model(callbacks.StopOnNonFinite(), step=1)
  with pytest.raises(DivergenceError, match="got loss = inf at step 1"):
    guard.on_train_batch_end(0, {"loss": np.inf, "mi_y": 0.5})


# ---- Progress -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "epochs", "shown"),
    [(0, 3, [1, 2, 3]), (0, 25, [3, 6, 9, 12, 15, 18, 21, 24, 25]), (20, 25, [21, 22, 23, 24, 25])],
)
def test_a_log_file_gets_ten_lines_at_most(capsys, first, epochs, shown):
  progress = with_model(callbacks.Progress(), epochs=epochs)
  progress.on_train_begin()
  for epoch in range(first, epochs):
    progress.on_epoch_begin(epoch)
    progress.on_epoch_end(epoch, {"reconstruction_loss": 27.44, "mi_y": 1.5, "loss": 9.0})
  progress.on_train_end()
  lines = capsys.readouterr().err.splitlines()
  assert lines == [
      f"epoch {epoch} of {epochs}: Reconstruction loss 27.4, I(x;y) 1.5" for epoch in shown
  ]


# ---- RunKeeper --------------------------------------------------------------------------------


@pytest.fixture
def saved(monkeypatch):
  """The epochs whose checkpoints were asked for, in place of files."""
  epochs = []
  monkeypatch.setattr(run_folder, "save_checkpoint", lambda model, workdir, n: epochs.append(n))
  return epochs


def keep(workdir, first, losses, **rest):
  keeper = with_model(callbacks.RunKeeper(workdir, distribution.Job()), epochs=9, **rest)
  keeper.on_train_begin()
  for epoch, loss in enumerate(losses, start=first):
    keeper.on_epoch_begin(epoch)
    keeper.on_epoch_end(epoch, {"loss": np.array([loss])[0], "mi_y": np.float32(0.25)})


def test_a_row_and_a_checkpoint_after_each_epoch(tmp_path, saved):
  keep(tmp_path, 0, [3.0, 2.0])
  assert run_folder.read_history(tmp_path) == [
      {"epoch": 1, "loss": 3.0, "mi_y": 0.25}, {"epoch": 2, "loss": 2.0, "mi_y": 0.25}
  ]
  assert saved == [1, 2]


@pytest.mark.parametrize("within_epoch", [True, False])
@pytest.mark.parametrize("is_chief", [True, False])
def test_all_workers_wait_until_the_chief_has_saved(tmp_path, monkeypatch, within_epoch, is_chief):
  done = []
  for name in ("save_checkpoint", "save_partial_checkpoint"):
    monkeypatch.setattr(run_folder, name, lambda *args: done.append("saved"))
  job = distribution.Job()
  job.is_chief = is_chief
  job.any = lambda flag: done.append("asked" if flag else "waited") or flag
  keeper = callbacks.RunKeeper(tmp_path, job, stop_asked=lambda: True)
  keeper.set_model(types.SimpleNamespace(log_sums=dict, count_params=lambda: 1))
  keeper.set_params({"epochs": 9, "steps": 2 if within_epoch else 1})
  keeper.on_train_begin()
  keeper.on_epoch_begin(0)
  with pytest.raises(Preempted):
    keeper.on_train_batch_end(0)
    keeper.on_epoch_end(0, {"loss": 1.0})
  assert done == ["asked", *["saved"] * is_chief, "waited"]


@pytest.mark.parametrize(
    ("weights", "steps", "expected"),
    [
        (3_000_000, 20, [3, 6, 9]),
        (3_000_000, 60, [*range(1, 10)]),
        (1_000_000, 20, [*range(1, 10)]),
    ],
)
def test_of_a_large_model_some_steps_pass_between_checkpoints(
    tmp_path, saved, weights, steps, expected
):
  keep(tmp_path, 0, [0.5] * 9, weights=weights, steps=steps)
  assert saved == expected
  assert len(run_folder.read_history(tmp_path)) == 9


def test_a_replayed_epoch_replaces_its_row(tmp_path, saved):
  """Killed after the row of epoch 3, whose checkpoint was never written."""
  keep(tmp_path, 0, [3.0, 2.0, 1.0])
  keep(tmp_path, 2, [1.5, 0.5])
  history = run_folder.read_history(tmp_path)
  assert [(row["epoch"], row["loss"]) for row in history] == [(1, 3), (2, 2), (3, 1.5), (4, 0.5)]

"""What TensorBoard shows of a run: its history by name, pictures of inference, no step twice."""

import io
import types

import boards
import keras
import numpy as np
import PIL.Image
import pytest
import small_runs
import tensorflow as tf
from sklearn import metrics as sk_metrics
from small_runs import make_run
from small_runs import SMALL

from imae_tf.data import loading
from imae_tf.reporting import html
from imae_tf.reporting import plots
from imae_tf.training import distribution
from imae_tf.training import fitting
from imae_tf.training import run_folder
from imae_tf.training import runs
from imae_tf.training import tensorboard


@pytest.fixture(scope="module")
def images(tmp_path_factory, digits):
  return small_runs.store_images(tmp_path_factory.mktemp("images"), digits)


@pytest.fixture(scope="module")
def watched(tmp_path_factory, images):
  """The folder of a run whose labels were watched."""
  folder = tmp_path_factory.mktemp("watched")
  runs.train(make_run(images, lam=1.0), folder, watched=loading.load(str(images)).arrays("train"))
  return folder


def curves(folder):
  """{tag: [(step, value)]} of the curves alone."""
  found = boards.read(folder)
  return {
      tag: [(step, float(value)) for step, value in points]
      for tag, points in found.items()
      if not tag.startswith("pictures/")
  }


def assert_curves_are_the_history(workdir):
  found, history = curves(workdir / "tensorboard"), run_folder.read_history(workdir)
  found.pop("training/Learning rate")
  assert found.keys() == {tensorboard.tag(name) for name in history[0] if name != "epoch"}
  for name in history[0].keys() - {"epoch"}:
    points = found[tensorboard.tag(name)]
    assert [step for step, _ in points] == [row["epoch"] for row in history]
    np.testing.assert_allclose(
        [value for _, value in points], [row[name] for row in history], rtol=1e-6
    )


# ---- curves ---------------------------------------------------------------------------------


def test_a_plain_rate_is_shown_under_a_strategy(tmp_path, tiny_model, digits):
  """There the rate is a MirroredVariable, which is no number."""
  with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
    model = tiny_model(lam=0.0)
    model.compile(keras.optimizers.Adam(0.25))
  x = digits[0][:20]
  model.fit(x, batch_size=10, verbose=0, callbacks=[tensorboard.Board(tmp_path)])
  (point,) = curves(tmp_path)["training/Learning rate"]
  assert point == (1, 0.25)


def test_curves_are_the_history_under_names_that_people_read(watched):
  assert_curves_are_the_history(watched)
  found = curves(watched / "tensorboard")
  assert set(found) == {
      "loss/Objective [nats per image]",
      "loss/Reconstruction loss [nats per image]",
      "information/I(x;y) [nats]",
      "information/H(y) [nats]",
      "information/H(y|x) [nats]",
      "information/Σ I(x;zₖ) [nats]",
      "information/Σ KL(p(zₖ) ‖ N(0,1)) [nats]",
      "loss/TC(y,z) [nats]",
      "loss/VAT cross-entropy [nats]",
      "labels/Accuracy",
      "labels/NMI",
      "labels/I(y; label) [nats]",
      "training/Learning rate",
      "training/Duration [seconds per epoch]",
  }
  rates = [value for _, value in found["training/Learning rate"]]
  assert rates == pytest.approx([SMALL.learning_rate] * 3)
  assert all(np.isfinite(value) for points in found.values() for _, value in points)


def test_unknown_and_held_out_logs_have_names_too():
  assert tensorboard.tag("val_mi_y") == "information/I(x;y), held out [nats]"
  assert tensorboard.tag("mine") == "other/mine"


# ---- going on ---------------------------------------------------------------------------------


class Killed(Exception):
  pass


def test_a_killed_run_that_goes_on_shows_each_epoch_once(tmp_path, images, monkeypatch):
  """Killed with epoch 2 on the board and no checkpoint of it: the epoch is trained again."""
  save = run_folder.save_checkpoint

  def killed(model, workdir, epochs):
    if epochs == 2:
      raise Killed
    save(model, workdir, epochs)

  monkeypatch.setattr(run_folder, "save_checkpoint", killed)
  with pytest.raises(Killed):
    runs.train(make_run(images), tmp_path / "run")
  losses = curves(tmp_path / "run/tensorboard")["loss/Objective [nats per image]"]
  assert [step for step, _ in losses] == [1, 2]
  monkeypatch.setattr(run_folder, "save_checkpoint", save)
  runs.train(make_run(images), tmp_path / "run")
  assert_curves_are_the_history(tmp_path / "run")


def test_the_board_of_a_run_is_that_of_the_start_that_went_on(
    tmp_path, images, monkeypatch
):
  """Also when more epochs make another start the best, or the same one again."""
  monkeypatch.setattr(tensorboard.Board, "_pictures", lambda board, x: {})
  for epochs in (1, 3):
    run = make_run(images, epochs=epochs, restarts=2, restart_epochs=2)
    runs.train(run, tmp_path / "run")
    assert_curves_are_the_history(tmp_path / "run")
  assert {path.name for path in (tmp_path / "run/tensorboard").glob("start-*")} == {
      "start-0", "start-1"
  }


def test_the_board_changes_no_weight(tmp_path, images, watched, monkeypatch):
  monkeypatch.setattr(fitting, "_board", lambda *args: keras.callbacks.Callback())
  plain = runs.train(make_run(images, lam=1.0), tmp_path / "run")
  shown, _ = run_folder.load_model(watched)
  for ours, theirs in zip(plain.get_weights(), shown.get_weights(), strict=True):
    np.testing.assert_array_equal(ours, theirs)


def test_one_of_several_workers_looks_at_no_images(images):
  job = distribution.Job()
  job.num_workers = 2
  session = fitting.Session(
      make_run(images), loading.load(str(images)), None, job, lambda: False, False, None
  )
  assert session.shown is None


# ---- pictures ---------------------------------------------------------------------------------


def test_pictures_of_the_last_epoch(watched):
  found = boards.read(watched / "tensorboard")
  names = ("reconstructions", "traversals", "classes against categories")
  assert {tag for tag in found if tag.startswith("pictures/")} == {
      f"pictures/{name}" for name in names
  }
  for name in names:
    steps = [step for step, _ in found[f"pictures/{name}"]]
    assert steps[-1] == 3 and steps == sorted(set(steps))
    for _, (width, height, png) in found[f"pictures/{name}"]:
      image = PIL.Image.open(io.BytesIO(png))
      assert image.size == (int(width), int(height)) and min(image.size) > 200
      assert np.asarray(image.convert("L")).std() > 10  # neither blank nor black


def test_pictures_show_what_the_model_makes_of_the_images(watched, images):
  model, _ = run_folder.load_model(watched)
  x, labels = loading.load(str(images)).arrays("train")
  names = [f"digit {i}" for i in range(10)]
  board = tensorboard.Board("unused", x, watched=(x, labels), class_names=names)
  board.set_model(model)
  figures = board._figures(x)

  tiles = tiles_of(figures["reconstructions"])
  np.testing.assert_array_equal(tiles[:10], x[:10, ..., 0])
  np.testing.assert_allclose(tiles[10:], model.reconstruct(x[:10])[..., 0], atol=1e-6)

  codes = model.encode(x)
  mean, variance = codes["z"].astype("float64"), codes["z_scale"].astype("float64") ** 2
  kl = np.mean(0.5 * (mean**2 + variance - 1 - np.log(variance)), axis=0)
  rows = np.reshape(tiles_of(figures["traversals"]), (3, 10, 8, 8))
  for dimension, row in zip(np.argsort(-kl), rows, strict=True):
    np.testing.assert_array_equal(row[0], x[0, ..., 0])
    z = np.repeat(codes["z"][:1], 9, axis=0)
    z[:, dimension] = np.linspace(-2, 2, 9)
    moved = model.decode(np.repeat(codes["y"][:1], 9, axis=0), z)
    np.testing.assert_allclose(row[1:], moved[..., 0], atol=1e-6)

  axes = figures["classes against categories"].axes[0]
  columns = [int(text.get_text()) for text in axes.get_xticklabels()]
  counts = sk_metrics.confusion_matrix(labels, codes["y"].argmax(axis=1))[:, columns]
  told = np.reshape([int(text.get_text() or 0) for text in axes.texts], (10, 10))
  np.testing.assert_array_equal(told, counts)
  assert axes.get_yticklabels()[3].get_text() == "digit 3"


def tiles_of(figure):
  return np.array([np.asarray(image.get_array()) for image in figure.axes[0].images])


@pytest.mark.parametrize(
    ("epochs", "seconds", "shown"),
    [
        (3, 0.0, [1, 2, 3]),
        (25, 0.0, [3, 6, 9, 12, 15, 18, 21, 24, 25]),
        (100, 0.0, list(range(10, 101, 10))),
        # An epoch takes 1 s, a drawing 5 s: after it 100 s must pass, itself included.
        (100, 5.0, [10, 100]),
        (300, 5.0, [30, 120, 210, 300]),
    ],
)
def test_ten_drawings_at_most_and_a_twentieth_of_the_time(
    tmp_path, monkeypatch, epochs, seconds, shown
):
  clock = types.SimpleNamespace(now=0.0)
  monkeypatch.setattr(tensorboard.time, "monotonic", lambda: clock.now)
  board = tensorboard.Board(tmp_path, np.zeros((1, 8, 8, 1), "float32"))

  def draw(x):
    clock.now += seconds
    return {"a": png}

  png = html.png(plots.blank((1, 1)))
  board._pictures = draw
  board.set_model(types.SimpleNamespace(optimizer=types.SimpleNamespace(learning_rate=0.1)))
  board.set_params({"epochs": epochs})
  board.on_train_begin()
  for epoch in range(epochs):
    board.on_epoch_begin(epoch)
    clock.now += 1.0
    board.on_epoch_end(epoch, {"loss": 1.0})
  board.on_train_end()
  assert [step for step, _ in boards.read(tmp_path)["pictures/a"]] == shown


def test_a_picture_that_fails_does_not_end_the_run(tmp_path, images, monkeypatch, capsys):
  def fail(*arguments):
    raise RuntimeError("no such font")

  monkeypatch.setattr(plots, "reconstructions", fail)
  runs.train(make_run(images), tmp_path / "run")
  assert (tmp_path / "run" / "model.keras").exists()
  assert capsys.readouterr().err.count("gets no pictures of this run: no such font") == 1
  assert_curves_are_the_history(tmp_path / "run")


@pytest.mark.parametrize("channels", [2, 5])
def test_images_whose_channels_are_no_colours_have_pictures(tmp_path, channels):
  rng = np.random.default_rng(0)
  np.savez(tmp_path / "x.npz", x=rng.integers(0, 256, (64, 8, 8, channels), np.uint8))
  runs.train(make_run(tmp_path / "x.npz", epochs=1), tmp_path / "run")
  assert any(tag.startswith("pictures/") for tag in boards.read(tmp_path / "run" / "tensorboard"))

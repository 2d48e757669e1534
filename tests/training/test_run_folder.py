"""The folder of a run: whose it is, and what a damaged file says."""

import keras
import numpy as np
import pytest

from imae_tf.errors import InputError
from imae_tf.training import run_folder

CONFIG = {
    "dataset": "digits", "method": "imae", "recipe": "tuned", "epochs": 5, "seed": 0, "holdout": 0,
    "num_categories": 10, "settings": {"units": (8, 4), "beta": 5.0}, "versions": {"keras": "1"},
}
ROWS = [{"epoch": 1, "loss": 2.5, "mi_y": 1e-7}, {"epoch": 2, "loss": -0.1, "mi_y": 1 / 3}]


def names(folder):
  return sorted(path.name for path in folder.iterdir())


# ---- claiming a folder ----------------------------------------------------------------------


def test_a_new_folder_is_claimed_by_start_alone(tmp_path):
  run_folder.check(tmp_path / "run", CONFIG)
  assert not (tmp_path / "run").exists()
  run_folder.start(tmp_path / "run", CONFIG)
  config = run_folder.read_config(tmp_path / "run")
  assert config["format"] == run_folder.FORMAT_VERSION
  assert config["settings"]["units"] == [8, 4]
  run_folder.start(tmp_path / "run", CONFIG)  # tuples are lists in the file, and equal
  assert run_folder.read_config(tmp_path / "run") == config


def test_an_empty_folder_with_hidden_files_is_free(tmp_path):
  (tmp_path / ".DS_Store").write_text("")
  run_folder.start(tmp_path, CONFIG)
  assert names(tmp_path) == [".DS_Store", "config.json"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "seed 0 -> 1;"),
        ({"epochs": 4}, "epochs 5 -> 4;"),
        ({"epochs": 9, "dataset": "mnist"}, "dataset 'digits' -> 'mnist';"),
        ({"new_flag": 1}, "new_flag None -> 1;"),
    ],
)
def test_another_run_is_refused_and_nothing_changes(tmp_path, changed, message):
  run_folder.start(tmp_path, CONFIG)
  before = (tmp_path / "config.json").read_bytes()
  for use in (run_folder.check, run_folder.start):
    with pytest.raises(InputError, match=message) as error:
      use(tmp_path, {**CONFIG, **changed})
    assert "only --epochs may grow" in str(error.value)
  assert (tmp_path / "config.json").read_bytes() == before


def test_a_run_may_move_to_other_versions(tmp_path):
  run_folder.start(tmp_path, CONFIG)
  run_folder.start(tmp_path, {**CONFIG, "versions": {"keras": "2"}})
  assert run_folder.read_config(tmp_path)["versions"] == {"keras": "1"}


def test_a_run_knows_its_images_and_not_their_place(tmp_path):
  def use(dataset, checksum, **more):
    data = {"data": {"n": 9, "checksum": checksum}} if checksum else {}
    run_folder.start(tmp_path, {**CONFIG, "dataset": dataset, **data, **more})

  use("/a/x.npz", "ab")
  before = run_folder.read_config(tmp_path)
  with pytest.raises(InputError, match="9 images of the run in .* others in /a/x.npz .9, of ano"):
    use("/a/x.npz", "cd")
  for name in ("/b/x.npz", "digits"):
    with pytest.raises(InputError, match="dataset '/a/x.npz' -> "):
      use(name, "cd")
    with pytest.raises(InputError, match="dataset '/a/x.npz' -> "):
      use(name, None)
  with pytest.raises(InputError, match="seed 0 -> 1; only"):
    use("/b/x.npz", "ab", seed=1)
  assert run_folder.read_config(tmp_path) == before
  use("/b/x.npz", "ab")
  assert run_folder.read_config(tmp_path) == {**before, "dataset": "/b/x.npz"}
  use("/c/x.npz", "ab", epochs=6)
  assert run_folder.read_config(tmp_path) == {**before, "dataset": "/c/x.npz", "epochs": 6}


def test_an_earlier_run_does_not_know_its_images(tmp_path):
  run_folder.start(tmp_path, CONFIG)
  before = run_folder.read_config(tmp_path)
  run_folder.start(tmp_path, {**CONFIG, "data": {"n": 9, "checksum": "ab"}})
  assert run_folder.read_config(tmp_path) == before


def test_more_epochs_make_a_run_unfinished(tmp_path):
  """Else imae-evaluate would give the old weights the new number of epochs."""
  run_folder.start(tmp_path, CONFIG)
  (tmp_path / "model.keras").write_text("five epochs")
  run_folder.start(tmp_path, CONFIG)
  assert (tmp_path / "model.keras").exists()
  run_folder.check(tmp_path, {**CONFIG, "epochs": 6})
  assert (tmp_path / "model.keras").exists()
  run_folder.start(tmp_path, {**CONFIG, "epochs": 6})
  assert not (tmp_path / "model.keras").exists()
  assert run_folder.read_config(tmp_path)["epochs"] == 6
  with pytest.raises(InputError, match="expected a finished run"):
    run_folder.load_model(tmp_path)


def test_start_clears_what_killed_writes_left(tmp_path):
  run_folder.start(tmp_path, CONFIG)
  for folder in ("checkpoints", "restarts/start-1/checkpoints"):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / ".tmp-x1y2.keras").write_text("half")
    (tmp_path / folder / ".tmp-mine.txt").write_text("not ours")
  run_folder.start(tmp_path, CONFIG)
  assert not list(tmp_path.rglob(".tmp-*.keras"))
  assert len(list(tmp_path.rglob(".tmp-mine.txt"))) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON"),
        ("[1]", "expected format 1 in .*, got None; restore"),
        ('{"format": 2}', "expected format 1 in .*, got the newer 2; install"),
        ('{"format": 1, "dataset": "digits"}', "expected 'epochs' in"),
    ],
)
def test_a_damaged_config(tmp_path, content, message):
  (tmp_path / "config.json").write_text(content)
  with pytest.raises(InputError, match=message):
    run_folder.read_config(tmp_path)
  with pytest.raises(InputError, match=message):
    run_folder.start(tmp_path, CONFIG)
  assert (tmp_path / "config.json").read_text() == content


# ---- history ----------------------------------------------------------------------------------


def test_history_round_trip_is_exact(tmp_path):
  assert run_folder.read_history(tmp_path) == []
  run_folder.write_history(tmp_path, ROWS)
  assert run_folder.read_history(tmp_path) == ROWS
  assert (tmp_path / "history.csv").read_text().splitlines()[0] == "epoch,loss,mi_y"


@pytest.mark.parametrize("order", [1, -1])
def test_a_history_that_two_programs_wrote(tmp_path, order):
  """imae-compare notes seconds and more, imae-train does not, and each goes on with the other's."""
  rows = [{"loss": 2.5, "seconds": 3.0, "accuracy": 0.5}, {"loss": 1 / 3}, {"loss": 0.25}][::order]
  rows = [{"epoch": i + 1, **row} for i, row in enumerate(rows)]
  run_folder.write_history(tmp_path, rows[:1])
  for epochs in (1, 2, 3):
    assert run_folder.read_history(tmp_path) == rows[:epochs]
    run_folder.write_history(tmp_path, [*run_folder.read_history(tmp_path), *rows[epochs:][:1]])


@pytest.mark.parametrize(
    "content",
    [
        "epoch,loss,mi_y\n1,2.5,0.1\n2,-0.1",  # cut within a row
        "epoch,loss,mi_y\n1,2.5,0.1,7\n",
        "epoch,loss,mi_y\n1,many,0.1\n",
        "epoch,loss,mi_y\n1,2.5,0.1\n1,2.5,0.1\n",
        "epoch,loss,mi_y\n2,2.5,0.1\n",
        "loss,mi_y\n2.5,0.1\n",
        "epoch,loss,mi_y\n1.5,2.5,0.1\n",
    ],
    ids=["cut", "long", "no number", "twice", "first missing", "no epochs", "no integer"],
)
def test_a_damaged_history(tmp_path, content):
  (tmp_path / "history.csv").write_text(content)
  with pytest.raises(InputError, match="history.csv, got a damaged file .*restore it"):
    run_folder.read_history(tmp_path)


def test_a_history_shorter_than_the_checkpoints(tmp_path):
  run_folder.start(tmp_path, CONFIG)
  run_folder.write_history(tmp_path, ROWS)
  (tmp_path / "checkpoints").mkdir()
  (tmp_path / "checkpoints/epoch-0002.keras").write_text("")
  run_folder.check(tmp_path, CONFIG)
  (tmp_path / "checkpoints/epoch-0003.keras").write_text("")
  with pytest.raises(InputError, match="2 rows after 3 epochs"):
    run_folder.check(tmp_path, CONFIG)


# ---- models -----------------------------------------------------------------------------------


def test_the_last_two_checkpoints_are_kept_in_the_order_of_epochs(tmp_path, monkeypatch):
  def save(model, path):
    path.parent.mkdir(exist_ok=True)
    path.write_text(model)

  monkeypatch.setattr(run_folder, "save_keras", save)
  for epochs in (9998, 9999, 10000, 10001):  # five digits sort before four as text
    run_folder.save_checkpoint(str(epochs), tmp_path, epochs)
    (tmp_path / "checkpoints/.tmp-half.keras").write_text("")
  saved = run_folder.checkpoints(tmp_path)
  assert list(saved) == [10000, 10001]
  assert saved[10001].read_text() == "10001"
  assert names(tmp_path / "checkpoints") == [
      ".tmp-half.keras", "epoch-10000.keras", "epoch-10001.keras"
  ]


def test_one_checkpoint_within_an_epoch_is_kept_and_none_after_it(tmp_path, monkeypatch):
  def save(model, path):
    path.parent.mkdir(exist_ok=True)
    path.write_text(model)

  def killed(model, path):
    raise KeyboardInterrupt

  def newest():
    checkpoint = run_folder.newest_checkpoint(tmp_path)
    return checkpoint.epochs, checkpoint.steps, checkpoint.log_sums()

  monkeypatch.setattr(run_folder, "save_keras", save)
  for steps in (2, 10, 12):
    run_folder.save_partial_checkpoint("model", tmp_path, 3, steps, {"loss": [steps, 1.0]})
    assert newest() == (3, steps, {"loss": [steps, 1.0]})
    assert len(names(tmp_path / "checkpoints")) == 2
  monkeypatch.setattr(run_folder, "save_keras", killed)
  with pytest.raises(KeyboardInterrupt):
    run_folder.save_partial_checkpoint("model", tmp_path, 3, 15, {})
  assert newest() == (3, 12, {"loss": [12, 1.0]})  # 15 has its .json alone
  monkeypatch.setattr(run_folder, "save_keras", save)
  run_folder.save_checkpoint("model", tmp_path, 4)
  assert names(tmp_path / "checkpoints") == ["epoch-0004.keras"]
  assert newest() == (4, 0, {})


def test_a_saved_model_has_its_weights_and_its_optimizers_state(tmp_path, tiny_model, digits):
  model = tiny_model()
  model.compile(optimizer=keras.optimizers.Adam(1e-3))
  model.fit(digits[0][:64], batch_size=32, verbose=0)
  run_folder.save_keras(model, tmp_path / "model.keras")
  assert names(tmp_path) == ["model.keras"]
  loaded = run_folder.load_keras(tmp_path / "model.keras")
  for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
    np.testing.assert_array_equal(ours, theirs)
  assert int(loaded.optimizer.iterations) == 2
  for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a zip"])
def test_a_damaged_model(tmp_path, content):
  path = tmp_path / "model.keras"
  path.write_bytes(content)
  with pytest.raises(InputError, match="damaged .*model.keras") as error:
    run_folder.load_keras(path)  # more cases are in test_keras_file
  assert "\n" not in str(error.value) and "delete it" in str(error.value)


def test_a_folder_without_a_run(tmp_path):
  with pytest.raises(InputError, match="run imae-train first"):
    run_folder.load_model(tmp_path)


# ---- summary --------------------------------------------------------------------------------


def test_summary_with_and_without_labels():
  metrics = {
      "accuracy": 0.9, "baselines": {"k_means": 0.75, "ward": 0.8}, "mi_y": 2.1234,
      "reconstruction": 17.06, "reconstruction_floor": 13.3,
  }
  lines = run_folder.summary(metrics, "runs/a").splitlines()
  assert lines == [
      "accuracy        0.900 without labels (k means 0.750, ward 0.800)",
      "I(x;y)          2.123 nats",
      "reconstruction  17.1 nats per image (floor 13.3)",
      "report          runs/a/report.html",
  ]
  unlabelled = run_folder.summary({**metrics, "accuracy": None, "baselines": None}, "runs/a")
  assert unlabelled.splitlines() == lines[1:]


@pytest.mark.parametrize("reader", ["keras_file.open", "keras.models.load_model"])
def test_an_unreadable_file_is_not_called_damaged(tmp_path, monkeypatch, tiny_model, reader):
  def refuse(path, *unused):
    raise PermissionError(13, "Permission denied", str(path))

  tiny_model().save(tmp_path / "model.keras")
  if reader == "keras_file.open":
    monkeypatch.setattr("imae_tf.training.keras_file.open", refuse, raising=False)
  else:
    monkeypatch.setattr(keras.models, "load_model", refuse)
  with pytest.raises(PermissionError):
    run_folder.load_keras(tmp_path / "model.keras")

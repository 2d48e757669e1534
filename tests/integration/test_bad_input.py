"""Bad input: one clear line, an exit status that is not 0, and nothing on disk changed."""

import json
import os
import re
import shutil

import numpy as np
import programs
import pytest

from imae_tf import recipes

RECIPE = recipes.get("tuned", "digits")
GREY = np.linspace(0, 1, 20 * 16, dtype="float32").reshape(20, 4, 4, 1)


def assert_one_line(result, name, *fragments):
  """One line on stderr, by the program, in which each fragment stands."""
  assert result.status == 1, result
  assert re.fullmatch(rf"imae-{name}: error: [^\n]+\n", result.stderr), result.stderr
  assert "expect" in result.stderr.lower() and "got" in result.stderr
  for fragment in fragments:
    assert fragment in result.stderr, result.stderr


def assert_flag_error(result, *fragments):
  """absl's own words for a flag that is not there or out of its range."""
  assert result.status == 1, result
  assert "Traceback" not in result.stderr
  for fragment in ("FATAL Flags parsing error", *fragments):
    assert fragment in result.stderr, result.stderr


@pytest.fixture
def copy(tmp_path, finished):
  """A copy of a finished run, free to be damaged."""
  return shutil.copytree(finished.workdir, tmp_path / "copy")


def truncate(path):
  os.truncate(path, path.stat().st_size // 2)


# ---- flags ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "fragments"),
    [
        ({"method": "imea"}, ["--method=imea", "<imae"]),
        ({"recipe": "best"}, ["--recipe=best", "tuned|paper"]),
        ({"learning_speed": "1"}, ["Unknown command line flag 'learning_speed'"]),
        ({"batch_size": "1"}, ["--batch_size=1", "2 or more"]),
        ({"num_categories": "1"}, ["--num_categories=1", "2 or more"]),
        ({"epochs": "few"}, ["--epochs=few", "expected an integer, 1 or more, got 'few'"]),
        ({"vat_radius": "neighbour"}, ["expected a number above 0, or 'neighbor'", "'neighbour'"]),
        ({"vat_radius": -1}, ["--vat_radius=-1"]),
        ({"temperature": 0}, ["--temperature=0", "a number above 0"]),
        ({"beta": "nan"}, ["--beta=nan"]),
        ({"encoder_units": "500,0"}, ["widths such as 500-1000, got '500,0'"]),
        ({"likelihood": "normal"}, ["'bernoulli' or 'gaussian', got 'normal'"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_flags_that_absl_refuses(tmp_path, flags, fragments):
  result = programs.run("train", tmp_path, workdir=tmp_path / "run", **flags)
  assert_flag_error(result, *fragments)
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "fragments"),
    [
        ({"dataset": "digit"}, ["'digit'", "did you mean 'digits'"]),
        ({"dataset": "fashion_mnst"}, ["did you mean 'fashion_mnist'"]),
        ({"dataset": "./nowhere"}, ["./nowhere", "correct the path"]),
        ({"dataset": ""}, ["an empty text", "unset variable"]),
        ({"workdir": ""}, ["a --workdir, got an empty text", "unset variable"]),
        ({"dataset": "nowhere.npz"}, ["nowhere.npz", "correct the path"]),
        ({"batch_size": 5000}, ["from 2 to the 1437 training images", "5000"]),
        ({"holdout": 1436}, ["at least 2 training images", "lower the holdout"]),
    ],
    ids=lambda value: "-".join(map(str, *value.items())) if isinstance(value, dict) else "",
)
def test_settings_that_make_no_run(tmp_path, flags, fragments):
  """No folder is claimed, so that the mended command may use it."""
  flags = {"workdir": tmp_path / "run", **flags}
  result = programs.run("train", tmp_path, cwd=tmp_path, **flags)
  assert_one_line(result, "train", *fragments)
  assert not (tmp_path / "run").exists() and not (tmp_path / "config.json").exists()


# ---- images -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "fragments"),
    [
        (np.array([{"an": "object"}] * 20), ["pickled objects", "np.savez"]),
        (GREY * 255, ["[0, 1]", "from 0 to 255", "x / 255"]),
        (GREY - 0.5, ["[0, 1]", "from -0.5 to 0.5"]),
        (np.where(GREY > 0.9, np.nan, GREY), ["NaN", "remove"]),
        ((GREY * 255).astype("int32"), ["int32", "astype('uint8')"]),
        ((GREY > 0.5).astype("uint8"), ["black", "astype(bool)"]),
        (np.zeros([20, 3, 8, 8]), ["[20, 3, 8, 8]", "np.moveaxis(x, 1, -1)"]),
        (GREY.reshape(20, 16), ["[20, 16]", "reshape"]),
        (GREY[:0], ["empty", "add images"]),
        (GREY[:2], ["at least 2 training images", "add images"]),
    ],
    ids=[
        "pickled", "bytes as floats", "negative", "nan", "int32", "mask", "channels", "flat",
        "empty", "two",
    ],
)
def test_images_that_cannot_be_trained_on(tmp_path, npz, x, fragments):
  flags = {"dataset": npz(x=x), "workdir": tmp_path / "run"}
  assert_one_line(programs.run("train", tmp_path, **flags), "train", "images.npz", *fragments)
  assert not (tmp_path / "run").exists()


def test_an_archive_without_images(tmp_path, npz):
  flags = {"dataset": npz(images=GREY), "workdir": tmp_path / "run"}
  assert_one_line(programs.run("train", tmp_path, **flags), "train", "'x'", "'images'")


# ---- workdirs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "fragments"),
    [
        ({"seed": 1}, ["seed 0 -> 1", "another --workdir"]),
        ({"gamma": 0}, [f"gamma {RECIPE.gamma} -> 0.0", "another --workdir"]),
        ({"epochs": 1}, ["epochs 2 -> 1", "only --epochs may grow"]),
    ],
    ids=["seed", "setting", "fewer epochs"],
)
def test_a_workdir_of_another_configuration(tmp_path, finished, changed, fragments):
  with programs.unchanged(finished.workdir):
    result = programs.run("train", tmp_path, **{**finished.flags, **changed})
  assert_one_line(result, "train", str(finished.workdir), *fragments)


def test_a_folder_of_other_files(tmp_path):
  folder = tmp_path / "thesis"
  folder.mkdir()
  (folder / "chapter.txt").write_text("Once upon a time")
  with programs.unchanged(folder):
    result = programs.run("train", tmp_path, workdir=folder)
  assert_one_line(result, "train", "'chapter.txt'", "another --workdir")


@pytest.mark.parametrize("inside", ["", "run"], ids=["a file", "below a file"])
def test_a_workdir_that_cannot_be_a_folder(tmp_path, inside):
  (tmp_path / "file").write_text("not a folder")
  result = programs.run("train", tmp_path, workdir=tmp_path / "file" / inside)
  assert_one_line(result, "train", "file")
  assert (tmp_path / "file").read_text() == "not a folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
  folder = tmp_path / "locked"
  folder.mkdir(mode=0o500)
  result = programs.run("train", tmp_path, workdir=folder / "run")
  assert_one_line(result, "train", "Permission denied", str(folder))


@pytest.mark.parametrize(("name", "flags"), [("evaluate", {}), ("export", {"base": "base"})])
def test_a_workdir_without_a_finished_run(tmp_path, copy, name, flags):
  (copy / "model.keras").unlink()
  for folder, fragment in ((tmp_path / "none", "imae-train first"), (copy, "finished run")):
    with programs.unchanged(copy):
      result = programs.run(name, tmp_path, cwd=tmp_path, workdir=folder, **flags)
    assert_one_line(result, name, str(folder), fragment, "imae-train")
  assert not (tmp_path / "none").exists() and not (tmp_path / "base").exists()


def test_an_unknown_split(tmp_path, finished):
  with programs.unchanged(finished.workdir):
    result = programs.run("evaluate", tmp_path, workdir=finished.workdir, split="validation")
  assert_one_line(result, "evaluate", "train, test", "'validation'")


# ---- damaged files ------------------------------------------------------------------------------


def test_a_truncated_checkpoint_and_its_mend(tmp_path, copy, finished):
  newest = copy / "checkpoints/epoch-0002.keras"
  truncate(newest)
  (copy / "model.keras").unlink()
  flags = {**finished.flags, "workdir": copy}
  for epochs in (2, 3):
    with programs.unchanged(copy):
      result = programs.run("train", tmp_path, **{**flags, "epochs": epochs})
    assert_one_line(result, "train", str(newest), "damaged", "delete it")
  newest.unlink()
  result = programs.run("train", tmp_path, **flags)
  assert result.status == 0, result.stderr
  assert "Going on after epoch 1 of 2" in result.stdout
  programs.assert_same_weights(copy, finished.workdir)


@pytest.mark.parametrize(("name", "flags"), [("evaluate", {}), ("export", {"base": "base"})])
def test_a_truncated_model(tmp_path, copy, name, flags):
  truncate(copy / "model.keras")
  with programs.unchanged(copy):
    result = programs.run(name, tmp_path, cwd=tmp_path, workdir=copy, **flags)
  assert_one_line(result, name, "damaged", str(copy / "model.keras"), "delete it")
  assert not (tmp_path / "base").exists()


def test_a_truncated_model_is_mended_by_training_again(tmp_path, copy, finished):
  (copy / "model.keras").unlink()
  assert programs.run("train", tmp_path, **{**finished.flags, "workdir": copy}).status == 0
  programs.assert_same_weights(copy, finished.workdir)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("config.json", lambda text: text[: len(text) // 2]),
        ("config.json", lambda text: "[]"),
        ("config.json", lambda text: json.dumps({"format": 1})),
        ("config.json", lambda text: json.dumps({**json.loads(text), "format": 99})),
        ("history.csv", lambda text: text[: -len(text) // 4]),
        ("history.csv", lambda text: text.replace(".", "x")),
    ],
    ids=["half", "a list", "keys missing", "newer format", "half a history", "no numbers"],
)
def test_damaged_text_files(tmp_path, copy, finished, name, damage):
  path = copy / name
  path.write_text(damage(path.read_text()))
  with programs.unchanged(copy):
    train = programs.run("train", tmp_path, **{**finished.flags, "workdir": copy})
    evaluate = programs.run("evaluate", tmp_path, workdir=copy)
  mend = "install that version" if '"format": 99' in path.read_text() else "restore"
  assert_one_line(train, "train", str(path), mend)
  assert_one_line(evaluate, "evaluate", str(path), mend)


# ---- while training -----------------------------------------------------------------------------


def test_a_full_disk_and_its_mend(tmp_path, copy, finished):
  """A limit on the size of files stands in for the disk: checkpoints do not fit."""
  run = copy
  flags = {**finished.flags, "workdir": run}
  (run / "checkpoints/epoch-0002.keras").unlink()
  (run / "model.keras").unlink()
  with programs.unchanged(run / "checkpoints"):
    result = programs.run("train", tmp_path, file_size=2**20, **flags)
  result.stderr.index("epoch 2 of 2")  # the bar's lines come before
  error = result.stderr.splitlines()[-1] + "\n"
  assert_one_line(programs.Result(result.status, "", error), "train", "File too large", "free")
  assert result.stderr.count("\n") == 2, result.stderr
  assert programs.run("train", tmp_path, **flags).status == 0
  programs.assert_same_weights(run, finished.workdir)


def test_a_loss_that_is_not_finite(tmp_path):
  flags = {"recipe": "paper", "learning_rate": 1e30, "epochs": 2, "workdir": tmp_path / "run"}
  result = programs.run("train", tmp_path, **flags)
  assert_one_line(result, "train", "finite terms", "at step", "Lower the learning rate")
  assert re.search(r"(reconstruction_loss|mi_z|kl_z|mi_y)", result.stderr)
  assert not list((tmp_path / "run").rglob("*.keras")), "a model that is not finite was kept"

"""One rule for paths: which files of a folder count, links, hidden names, empty texts."""

import os
import pathlib

import pytest
from mendable import assert_mendable

from imae_tf import recipes
from imae_tf._shared import paths
from imae_tf.errors import InputError


def touch(root, *names):
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"")


def relative(found, root):
  return [[os.path.relpath(path, root) for path in part] for part in found]


def test_hidden_names_and_other_suffixes_are_passed_over(tmp_path):
  touch(
      tmp_path, "b.png", "a/x.JPG", "a/notes.txt", ".hidden.png", "._b.png",
      ".ipynb_checkpoints/b-checkpoint.png", "__MACOSX/b.png", "a/.git/x.png",
  )
  found = paths.image_files(tmp_path)
  assert relative(found, tmp_path) == [
      ["a/x.JPG", "b.png"],
      ["._b.png", ".hidden.png", ".ipynb_checkpoints", "__MACOSX", "a/.git", "a/notes.txt"],
  ]
  line = found.line(tmp_path)
  assert line == f"2 images in {tmp_path}; 6 passed over, the first ._b.png."


def test_a_hidden_root_is_read(tmp_path):
  touch(tmp_path, ".cache/x/a.png")
  assert len(paths.image_files(tmp_path / ".cache" / "x").images) == 1


def test_linked_folders_are_followed_once(tmp_path):
  touch(tmp_path, "images/real/a.png", "elsewhere/b.png", "elsewhere/deep/c.png")
  images = tmp_path / "images"
  (images / "a_link").symlink_to(tmp_path / "elsewhere")
  (images / "again").symlink_to(tmp_path / "elsewhere")
  (images / "loop").symlink_to(images)
  (images / "up").symlink_to(tmp_path)
  (tmp_path / "elsewhere" / "back").symlink_to(images)
  (images / "to_real").symlink_to(images / "real")
  (images / "gone.png").symlink_to(tmp_path / "nowhere")
  found, others = relative(paths.image_files(images), images)
  assert found == ["a_link/b.png", "a_link/deep/c.png", "real/a.png"]
  assert {"again", "loop", "up", "to_real", "gone.png"} <= set(others)


def test_a_pipe_is_no_image(tmp_path):
  os.mkfifo(tmp_path / "a.png")
  assert paths.image_files(tmp_path).images == []


def _ways_of_a_folder():
  """Every function that takes the folder of a run, of a search, of a comparison or of versions."""
  from imae_tf.comparison import plan
  from imae_tf.export import codes
  from imae_tf.export import publish
  from imae_tf.export import versions
  from imae_tf.search import driver
  from imae_tf.training import evaluation
  from imae_tf.training import run_folder
  from imae_tf.training import runs

  run = runs.Run("digits", "imae", "tuned", recipes.TUNED["digits"], 3, 3, 0, 0, True)
  return {
      "train": lambda path: runs.train(run, path),
      "evaluate": evaluation.evaluate,
      "load_model": run_folder.load_model,
      "compare": lambda path: plan.train_all([], path),
      "tune": lambda path: driver.search(driver.Search(run, {}, "random", 1), path, 1, ""),
      "encode": versions.find,
      "publish": lambda path: publish._publish(lambda staged: staged.mkdir(), path, None),
      "rollback": lambda path: publish.rollback(path, 1),
      "output": codes.check_output,
  }


@pytest.mark.parametrize("path", ["", " "])
def test_an_unset_variable_is_no_folder(tmp_path, monkeypatch, path):
  monkeypatch.chdir(tmp_path)
  for use in _ways_of_a_folder().values():
    with pytest.raises(InputError, match="got an empty text; give one") as error:
      use(path)
    assert_mendable(error)
    assert os.listdir(tmp_path) == []


def test_a_quoted_home_is_the_home(tmp_path, monkeypatch):
  """The shell leaves the ~ of `--workdir="~/runs"` as it is."""
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  monkeypatch.chdir(tmp_path)
  ways = _ways_of_a_folder()
  ways["publish"]("~/base")
  assert (tmp_path / "home/base/1").is_dir()
  for way in ("load_model", "evaluate"):
    with pytest.raises(InputError, match=f"got no {tmp_path}/home/run/config.json"):
      ways[way]("~/run")
  assert os.listdir(tmp_path) == ["home"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everywhere")
def test_a_folder_that_cannot_be_read(tmp_path):
  touch(tmp_path, "locked/a.png")
  (tmp_path / "locked").chmod(0)
  with pytest.raises(InputError) as error:
    paths.image_files(tmp_path)
  (tmp_path / "locked").chmod(0o700)
  assert_mendable(error, "Permission denied", tmp_path / "locked")


@pytest.mark.parametrize("path", ["", "  ", "a\0b", None, 3, b"x"])
def test_what_is_no_path(path):
  with pytest.raises(InputError) as error:
    paths.text(path)
  assert_mendable(error)


def test_home(monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path))
  assert paths.text("~/x.npz") == paths.text(pathlib.Path("~/x.npz")) == str(tmp_path / "x.npz")


def test_absolute_keeps_a_suffix_that_a_link_would_lose(tmp_path, monkeypatch):
  touch(tmp_path, "blobs/0123abcd", "real.npz")
  (tmp_path / "x.npz").symlink_to(tmp_path / "blobs" / "0123abcd")
  (tmp_path / "y.npz").symlink_to(tmp_path / "real.npz")
  (tmp_path / "folder").symlink_to(tmp_path / "blobs")
  monkeypatch.chdir(tmp_path)
  assert paths.absolute("x.npz") == str(tmp_path.resolve() / "x.npz")
  assert paths.absolute("y.npz") == str(tmp_path.resolve() / "real.npz")
  assert paths.absolute("folder") == str(tmp_path.resolve() / "blobs")

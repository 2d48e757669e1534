"""One rule for paths: which files of a folder count, links, hidden names, empty texts."""

import os
import pathlib

import pytest
from mendable import assert_mendable

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

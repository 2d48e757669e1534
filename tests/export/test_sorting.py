"""Files in a folder for each category: whose content, under which names, all or none."""

import os

import pytest

from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.export import sorting
from imae_tf.export.tables import Answer

ANSWERS = [
    Answer("a/1.png", "3", 0.5),
    Answer("b/1.png", "3", 0.9),
    Answer("B-1.png", "3", 0.7),
    Answer("b/2.png", "12", 0.6),
    Answer("c.png", "cat", 0.8),
]


@pytest.fixture
def folder(tmp_path):
  for answer in ANSWERS:
    path = tmp_path / "images" / answer.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(answer.file)
  return tmp_path / "images"


def found(target):
  """{path below the target: the file that it is, by its content}."""
  return {
      str(path.relative_to(target)): path.read_text()
      for path in target.rglob("*") if path.is_file()
  }


def test_names_that_are_the_same_stay_apart(folder, tmp_path):
  sorting.sort(ANSWERS, folder, tmp_path / "new" / "sorted")
  names = found(tmp_path / "new" / "sorted")
  assert names == {
      "03/a-1.png": "a/1.png", "03/b-1.png": "b/1.png", "03/B-1-2.png": "B-1.png",
      "12/2.png": "b/2.png", "cat/c.png": "c.png",
  }
  assert len({name.casefold() for name in names}) == len(ANSWERS)
  assert not any(path.is_symlink() for path in (tmp_path / "new").rglob("*"))
  assert len(os.listdir(tmp_path / "new")) == 1


def test_the_most_certain_come_first(folder, tmp_path):
  (tmp_path / "sorted").mkdir()  # an empty one is as good as none
  sorting.sort(ANSWERS, folder, tmp_path / "sorted", by_confidence=True)
  assert sorted(found(tmp_path / "sorted").items())[:3] == [
      ("03/1-1.png", "b/1.png"), ("03/2-B-1.png", "B-1.png"), ("03/3-1.png", "a/1.png")
  ]


def test_links_hold_wherever_the_folder_was_named_from(folder, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  sorting.sort(ANSWERS, "images", "sorted", link=True)
  link = tmp_path / "sorted" / "cat" / "c.png"
  assert link.is_symlink() and link.resolve() == folder / "c.png"


@pytest.mark.parametrize("hidden", ["notes.txt", ".hidden"])
def test_a_folder_of_other_files_is_left_alone(folder, tmp_path, hidden):
  (tmp_path / "sorted").mkdir()
  (tmp_path / "sorted" / hidden).write_text("mine")
  with pytest.raises(InputError, match=f"expected a new or empty folder .*{hidden}"):
    sorting.sort(ANSWERS, folder, tmp_path / "sorted")
  assert sorted(os.listdir(tmp_path)) == ["images", "sorted"]
  assert found(tmp_path / "sorted") == {hidden: "mine"}


def test_a_folder_among_the_images_would_be_their_next_one(folder):
  for target in (folder, folder / "sorted"):
    with pytest.raises(InputError, match="inside that of the images"):
      sorting.sort(ANSWERS, folder, target)


def test_a_file_that_is_gone_is_named_and_nothing_is_written(folder, tmp_path):
  (folder / "c.png").unlink()
  with pytest.raises(InputError, match=r"expected .*c\.png, which was encoded before"):
    sorting.sort(ANSWERS, folder, tmp_path / "sorted")
  assert os.listdir(tmp_path) == ["images"]


def test_a_full_disk_leaves_nothing(folder, tmp_path, monkeypatch):
  def full(source, to):
    to.write_text("half")
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(sorting.shutil, "copy2", full)
  with pytest.raises(ImaeError, match="expected to write .*No space left on device; free"):
    sorting.sort(ANSWERS, folder, tmp_path / "sorted")
  assert os.listdir(tmp_path) == ["images"]

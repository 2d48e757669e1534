"""Files are whole or not there, and a folder is ours or left alone."""

import stat

import pytest

from imae_tf._shared import files
from imae_tf.errors import InputError


def names(folder):
  return sorted(path.name for path in folder.iterdir())


# ---- atomic writing ---------------------------------------------------------------------------


def test_replacing_writes_whole_files_that_others_may_read(tmp_path):
  path = tmp_path / "new" / "file.txt"
  with files.replacing(path) as temporary:
    temporary.write_text("whole")
    assert temporary.parent == path.parent and temporary.suffix == ".txt"
    assert not path.exists()
  assert path.read_text() == "whole"
  assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_replacing_keeps_the_old_file_when_writing_fails(tmp_path):
  path = tmp_path / "file.txt"
  path.write_text("old")
  with pytest.raises(OSError, match="full"), files.replacing(path) as temporary:
    temporary.write_text("ne")
    raise OSError("disk full")
  assert path.read_text() == "old"
  assert names(tmp_path) == ["file.txt"]


def test_json_round_trip(tmp_path):
  files.write_json(tmp_path / "a.json", {"b": [1, None], "a": 0.1})
  assert files.read_json(tmp_path / "a.json") == {"a": 0.1, "b": [1, None]}
  with pytest.raises(InputError, match="got no such file"):
    files.read_json(tmp_path / "b.json")
  (tmp_path / "a.json").write_bytes(b"\xff\xfe{")
  with pytest.raises(InputError, match="expected JSON in .*a.json"):
    files.read_json(tmp_path / "a.json")


# ---- whose folder it is -----------------------------------------------------------------------


def test_a_folder_is_free_when_it_is_missing_empty_or_has_hidden_files_alone(tmp_path):
  for folder in (tmp_path / "missing", tmp_path):
    files.check_free(folder, "a run's folder", marker="config.json")
  (tmp_path / ".DS_Store").touch()
  files.check_free(tmp_path, "a run's folder", marker="config.json")
  assert names(tmp_path) == [".DS_Store"]


def test_a_folder_of_ours_is_known_by_its_marker_or_by_its_names(tmp_path):
  for name in ("config.json", "other.txt"):
    (tmp_path / name).touch()
  files.check_free(tmp_path, "a run's folder", marker="config.json")
  files.check_free(tmp_path, "a run's", ours=["config.*", "other.txt"])
  with pytest.raises(InputError, match=r"empty folder or a run's, got .* with 'other.txt'; give"):
    files.check_free(tmp_path, "a run's", ours=["config.*"])


def test_a_folder_of_something_else_and_a_file_are_refused(tmp_path):
  (tmp_path / "thesis.tex").touch()
  message = "expected an empty folder or a run's folder, got .* 'thesis.tex' and no config.json;"
  with pytest.raises(InputError, match=message):
    files.check_free(tmp_path, "a run's folder", marker="config.json")
  with pytest.raises(InputError, match="expected a folder, got the file .*thesis.tex"):
    files.check_free(tmp_path / "thesis.tex", "a run's folder", marker="config.json")

"""Names of categories: what is read, and what is refused."""

import pytest

from imae_tf._shared import category_names
from imae_tf.errors import InputError

ROWS = ("category,name", '0,"cat, small"', "", "2, Ü ")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("names.json", '{"0": "cat, small", " 2": "Ü"}'),
        ("names.json", '\ufeff{"0": "cat, small", "2": "Ü"}'),
        ("names.csv", "\n".join(ROWS)),
        ("names.csv", "\ufeff" + "\r\n".join(ROWS) + "\r\n"),
    ],
)
def test_both_formats(tmp_path, file, content):
  assert category_names.of_run(tmp_path, 3) is None
  (tmp_path / file).write_bytes(content.encode())
  assert category_names.of_run(tmp_path, 3) == ["cat, small", "1", "Ü"]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("names.json", '{"3": "cat"}', "expected categories 0 to 2 in .*, got '3'"),
        ("names.json", '{"-1": "cat"}', "got '-1'"),
        ("names.json", '{"cat": "0"}', "got 'cat'"),
        ("names.json", '{"0": "cat", "1": "Cat"}', "got 'Cat' twice"),
        ("names.json", '{"0": "cat", "0": "dog"}', "got '0' twice"),
        ("names.json", '{"0": "2"}', "got '2' twice"),
        ("names.json", '{"0": ""}', "expected names of 1 to 100 characters"),
        ("names.json", '{"0": "a/b"}', "got 'a/b'; change it"),
        ("names.json", '{"0": ".."}', "got '..'; change it"),
        ("names.json", '{"0": "a\\nb"}', "change it, without a slash, a line end"),
        ("names.json", '{"0": 1}', "cannot be read"),
        ("names.json", '["cat"]', "cannot be read"),
        ("names.json", '{"0": "c', "cannot be read"),
        ("names.json", "\xff", "cannot be read"),
        ("names.csv", "0,cat\n", "cannot be read"),
        ("names.csv", "category,name\n0,cat,dog\n", "cannot be read"),
        ("names.csv", "category,name\n7,cat\n", "got '7'"),
    ],
)
def test_what_is_refused(tmp_path, file, content, words):
  (tmp_path / file).write_bytes(content.encode("latin-1"))
  with pytest.raises(InputError, match=words) as error:
    category_names.of_run(tmp_path, 3)
  assert file in str(error.value) and "\n" not in str(error.value)


def test_one_file_of_names(tmp_path):
  (tmp_path / "names.json").write_text("{}")
  (tmp_path / "names.csv").write_text("category,name\n")
  with pytest.raises(InputError, match="got both; remove one"):
    category_names.of_run(tmp_path, 3)
